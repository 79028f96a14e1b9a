//! The cloud is told what was written here while it was away.
//!
//! Each step carries the version of the cloud's object that it was worked out for, so a step whose answer was lost is not
//! done again: the next look finds it done.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hub_core::api::Verb;
use hub_core::clock::{Clock as _, SystemClock};
use hub_core::object::{Object, ObjectKey};
use hub_core::registry::ResourceKind;
use hub_core::store::{Change, LocalCopy};
use serde_json::{Value, json};

use super::apply::{has_status, metadata, text};
use super::ask::{Asked, request, request_get};
use super::merge::{self, Clash};
use super::note::{Pending, WriteConflict, conflicts};
use super::policy::LocalClass;
use super::remove::Deleted;
use crate::api::Api;
use crate::read::typed;

/// What came of telling the cloud about one object.
pub(super) enum Told {
    /// The cloud has this now.
    Done(Value, Vec<Clash>),
    /// The cloud has no such object any more.
    Gone,
    /// The cloud has no such object any more, as it was meant.
    Deleted,
    /// The cloud has this, and does not delete it, for this reason if it is still the same.
    Restored(Value, Option<String>),
    /// The cloud does not take it.
    Refused(String),
    /// Not now.
    Later,
}

impl Api {
    /// Sees to it that somebody tells the cloud, until the server stops. Wants a runtime.
    pub(crate) fn start_telling(self: &Arc<Self>) {
        if self.authoritative() || self.local.running.swap(true, Ordering::Relaxed) {
            return;
        }
        // The program before this one may have been telling them when it ended.
        for pending in Pending::all(&*self.store) {
            if pending.note.class != LocalClass::Event {
                self.remember(&pending.copy.key, parsed(&pending.copy.body));
            }
        }
        let (api, stop) = (self.clone(), self.stop.clone());
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(api.tell_for_ever()).await;
        });
    }

    async fn tell_for_ever(&self) {
        loop {
            let pending = Pending::all(&*self.store);
            self.show_depth(pending.len());
            if pending.is_empty() {
                self.local.written.notified().await;
                continue;
            }
            // One after another: a lease never waits behind events, and the link has room for others.
            for pending in &pending {
                self.settle(&pending.copy.key).await;
                if self.cloud.away().is_some() {
                    break;
                }
            }
            if !Pending::all(&*self.store).is_empty() {
                tokio::time::sleep(self.config.local_writes.retry_pause).await;
            }
        }
    }

    fn show_depth(&self, pending: usize) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.local_pending.set(gauge(pending));
        self.metrics
            .local_conflicts
            .set(gauge(conflicts(&*self.store).len()));
    }

    /// Tells the cloud of an object, if it is still to be told. What it does not take now stays.
    pub(crate) async fn settle(&self, key: &ObjectKey) {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(key);
        let place = usize::try_from(hash % self.local.telling.len() as u64).unwrap_or_default();
        let _telling = self.local.telling[place].lock().await;
        let Some(pending) = Pending::get(&*self.store, key) else {
            return;
        };
        let Some(kind) = self.store.registry().by_resource(&key.resource) else {
            // Its definition may come back.
            return;
        };
        let told = self.tell(&kind, &pending).await;
        let _turn = self.local.turn.lock().await;
        if let Err(error) = self.keep(&kind, &pending, told).await {
            tracing::warn!(%key, %error, "what became of a local write could not be kept; the cloud is asked again");
        }
    }

    async fn tell(&self, kind: &ResourceKind, pending: &Pending) -> Told {
        if pending.copy.is_deletion() {
            return self.tell_deletion(pending).await;
        }
        if !pending.note.remade || pending.note.base.is_null() {
            return self.tell_state(kind, pending).await;
        }
        // What had the name before goes first. Where others keep it, there is one object, and it is changed.
        match self.tell_deletion(pending).await {
            Told::Deleted => {
                let mut new = pending.clone();
                new.note.base = Value::Null;
                self.tell_state(kind, &new).await
            }
            Told::Restored(..) => self.tell_state(kind, pending).await,
            told => told,
        }
    }

    async fn tell_state(&self, kind: &ResourceKind, pending: &Pending) -> Told {
        if let Some(intent) = &pending.note.intent {
            return self.tell_intent(pending, intent).await;
        }
        let Ok(local) = serde_json::from_slice::<Value>(&pending.copy.body) else {
            return Told::Refused("the local state cannot be read".into());
        };
        let key = &pending.copy.key;
        let stored = self
            .store
            .get(key)
            .filter(|stored| !stored.object.version.as_str().is_empty() && !pending.note.remade);
        let mut cloud: Option<Value> =
            stored.and_then(|stored| serde_json::from_slice(&stored.object.body).ok());
        let own = self.own(pending);
        // What the cloud did not take of a step that it said it took, it would not take the next time either.
        let (mut main_told, mut status_told) = (false, !has_status(kind));
        for _ in 0..STEPS_MAX {
            let Some(held) = &cloud else {
                let request = if pending.note.base.is_null() {
                    request(key, Verb::Create, None, &newborn(&local, kind))
                } else {
                    request(key, Verb::Get, None, &Value::Null)
                };
                match self.ask(pending, request).await {
                    Asked::Object(object) => cloud = Some(object),
                    Asked::Status(409, _) => match self.ask(pending, request_get(key)).await {
                        Asked::Object(object) => cloud = Some(object),
                        Asked::Status(..) | Asked::Later => return Told::Later,
                    },
                    Asked::Status(404, _) if !pending.note.base.is_null() => return Told::Gone,
                    Asked::Status(_, message) => return Told::Refused(message),
                    Asked::Later => return Told::Later,
                }
                continue;
            };
            if !text(&local, "deletionTimestamp").is_empty() && text(held, "deletionTimestamp").is_empty() {
                let meant = if pending.note.base.is_null() {
                    held
                } else {
                    &pending.note.base
                };
                match self.delete_in_cloud(pending, meant).await {
                    Deleted::Gone => return Told::Deleted,
                    Deleted::Not(told) => return told,
                    Deleted::Marked(object) => cloud = Some(object),
                }
                continue;
            }
            let nothing = json!({});
            let base = if pending.note.base.is_null() {
                &nothing
            } else {
                &pending.note.base
            };
            let (outcome, clashes) = merge::merged(base, held, &local, pending.note.wins, &own);
            let (main, status) = steps(held, &outcome, kind);
            let (main, status) = (main.filter(|_| !main_told), status.filter(|_| !status_told));
            let (step, subresource) = match (main, status) {
                (Some(main), _) => (main, None),
                (None, Some(status)) => (status, Some("status")),
                (None, None) => return Told::Done(held.clone(), clashes),
            };
            match self
                .ask(pending, request(key, Verb::Patch, subresource, &step))
                .await
            {
                Asked::Object(object) => {
                    cloud = Some(object);
                    *(if subresource.is_some() {
                        &mut status_told
                    } else {
                        &mut main_told
                    }) = true;
                }
                // Somebody else was there first: look again. Or it is not the object that it was.
                Asked::Status(409, _) => match self.ask(pending, request_get(key)).await {
                    Asked::Object(object) => {
                        if text(&object, "uid") != text(held, "uid") {
                            return Told::Gone;
                        }
                        cloud = Some(object);
                    }
                    Asked::Status(404, _) => return Told::Gone,
                    Asked::Status(..) | Asked::Later => return Told::Later,
                },
                Asked::Status(404, _) => return Told::Gone,
                Asked::Status(_, message) => return Told::Refused(message),
                Asked::Later => return Told::Later,
            }
        }
        Told::Later
    }

    /// Notes down what became of `pending`. Writes that came meanwhile stay to be told.
    async fn keep(
        &self,
        kind: &ResourceKind,
        pending: &Pending,
        told: Told,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let key = &pending.copy.key;
        let now = Pending::get(&*self.store, key);
        let newer = now.filter(|now| now.copy.body != pending.copy.body);
        let mut changes = Vec::new();
        let conflict = match told {
            Told::Later => return Ok(()),
            Told::Done(cloud, clashes) => {
                let body = typed(kind, cloud.to_string().as_bytes())
                    .ok_or("the cloud answered with another kind")?;
                changes.push(Change::Put(Object::from_body(key.resource.clone(), body)?));
                match newer {
                    Some(mut newer) => {
                        let (told, now) = (parsed(&pending.copy.body), parsed(&newer.copy.body));
                        let (body, _) = merge::merged(&told, &cloud, &now, super::Winner::Local, &[]);
                        newer.note.base = cloud;
                        newer.note.remade = false;
                        newer.note.own.clear();
                        newer.copy.body = body.to_string().into();
                        changes.push(newer.put()?);
                    }
                    None => changes.push(LocalCopy::forget(key)),
                }
                let lost = clashes.iter().any(|clash| clash.won == super::Winner::Cloud);
                let message = "the cloud had changed the same fields, and its values stand";
                lost.then(|| ("Merged", message.to_owned(), clashes))
            }
            Told::Deleted => {
                let base = &pending.note.base;
                if !base.is_null() {
                    // Copies of it that are still on their way come too late.
                    changes.push(Change::Delete {
                        key: key.clone(),
                        uid: Some(text(base, "uid").into()),
                        version: Some(text(base, "resourceVersion").into()),
                    });
                }
                match newer {
                    // It was made anew meanwhile.
                    Some(mut newer) => {
                        newer.note.base = Value::Null;
                        newer.note.remade = false;
                        changes.push(newer.put()?);
                    }
                    None => changes.push(LocalCopy::forget(key)),
                }
                None
            }
            Told::Restored(cloud, why) => {
                let body = typed(kind, cloud.to_string().as_bytes())
                    .ok_or("the cloud answered with another kind")?;
                changes.push(LocalCopy::forget(key));
                changes.push(Change::Put(Object::from_body(key.resource.clone(), body)?));
                why.map(|why| ("Refused", why, Vec::new()))
            }
            Told::Gone => {
                changes.push(Change::Delete {
                    key: key.clone(),
                    uid: None,
                    version: None,
                });
                changes.push(LocalCopy::forget(key));
                Some((
                    "Gone",
                    "the cloud has no such object any more".to_owned(),
                    Vec::new(),
                ))
            }
            Told::Refused(message) => {
                changes.push(LocalCopy::forget(key));
                Some(("Refused", message, Vec::new()))
            }
        };
        self.metrics.local_told.inc();
        self.local.unanswered.forget(key);
        if let Some((reason, message, clashes)) = conflict {
            tracing::warn!(%key, reason, message, "a local write came to nothing, or not all of it; it is kept as a conflict");
            // A newer write falls with the one before it.
            let fallen = Pending::get(&*self.store, key).filter(|_| reason != "Merged");
            let shown = fallen.as_ref().unwrap_or(pending);
            let record = WriteConflict::new(shown, reason, message, &clashes, SystemClock.unix_ms());
            changes.extend(record.put(&*self.store, self.config.local_writes.conflicts_max)?);
        }
        self.store.apply(changes).await?;
        self.show_depth(Pending::all(&*self.store).len());
        Ok(())
    }
}

/// The patches that make `to` of the cloud's object: of the object itself, and of its status where that is written apart.
fn steps(cloud: &Value, to: &Value, kind: &ResourceKind) -> (Option<Value>, Option<Value>) {
    let Some(Value::Object(mut main)) = merge::patch(cloud, to) else {
        return (None, None);
    };
    let status = if has_status(kind) {
        main.remove("status")
    } else {
        None
    };
    let guarded = |mut patch: Value| {
        let metadata = metadata(&mut patch);
        for field in ["resourceVersion", "uid"] {
            metadata.insert(field.into(), text(cloud, field).into());
        }
        patch
    };
    (
        (!main.is_empty()).then(|| guarded(Value::Object(main))),
        status.map(|status| guarded(json!({ "status": status }))),
    )
}

/// An object as it is to be created in the cloud, which gives it a uid and all else that is a server's to give.
fn newborn(local: &Value, kind: &ResourceKind) -> Value {
    let mut new = local.clone();
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "managedFields",
    ] {
        metadata(&mut new).remove(field);
    }
    if has_status(kind)
        && let Some(new) = new.as_object_mut()
    {
        new.remove("status");
    }
    new
}

pub(super) fn parsed(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Create, look, two patches, and some tries against others who write the same object.
const STEPS_MAX: usize = 10;
