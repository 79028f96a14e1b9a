//! Deletions that this node takes by itself: the object is hidden at once, or once its finalizers are emptied, and the cloud is told
//! when it is back.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{ApiRequest, ApiResponse, Status, Target, Verb};
use hub_core::object::ObjectKey;
use hub_core::registry::ResourceKind;
use hub_core::store::{LocalCopy, Stored};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Noted;
use super::apply::{shown, text};
use super::ask::{Asked, request, request_get};
use super::merge;
use super::note::Pending;
use super::policy::Winner;
use super::replay::Told;
use super::unanswered::OF_AN_OBJECT_MAX;
use crate::accept::Form;
use crate::api::Api;
use crate::fault;
use crate::reply::{self, Reply, Source};

impl Api {
    /// Hides an object, and notes down that the cloud is to delete it. One of which the cloud never heard is simply forgotten.
    pub(super) async fn keep_deletion(
        self: &Arc<Self>,
        key: &ObjectKey,
        told: Noted<'_>,
        stored: Option<&Stored>,
        refusal: &Status,
    ) -> Result<(), Status> {
        let never_told = Pending::get(&*self.store, key)
            .is_some_and(|pending| pending.note.base.is_null() && self.own(&pending).is_empty());
        if never_told {
            return self.apply_here(vec![LocalCopy::forget(key)]).await;
        }
        let hidden = Bytes::from_static(b"null");
        self.note_down(key, told, stored, hidden, refusal).await
    }

    /// Tells the cloud of a deletion. What changed there meanwhile is deleted only where this node's word stands.
    pub(super) async fn tell_deletion(&self, pending: &Pending) -> Told {
        let mut held = Cow::Borrowed(&pending.note.base);
        if held.is_null() {
            // The cloud was asked to make it, and did not say whether it has.
            held = match self.ask(pending, request_get(&pending.copy.key)).await {
                Asked::Object(object) if merge::is_own(&held, &object, &self.own(pending)) => {
                    Cow::Owned(object)
                }
                Asked::Object(object) => return Told::Restored(object, None),
                Asked::Status(404, _) => return Told::Deleted,
                Asked::Status(..) | Asked::Later => return Told::Later,
            };
        }
        match self.delete_in_cloud(pending, &held).await {
            Deleted::Gone => Told::Deleted,
            Deleted::Not(told) => told,
            Deleted::Marked(object) => self.tell_finalizers(pending, object).await,
        }
    }

    /// Deletes an object as the cloud had it, or as this node itself has changed it or made it anew since.
    pub(super) async fn delete_in_cloud(&self, pending: &Pending, held: &Value) -> Deleted {
        let own = self.own(pending);
        let mut held = Cow::Borrowed(held);
        for _ in 0..LOOKS_MAX {
            let why = match self.delete_version(pending, &held).await {
                Ok(deleted) => return deleted,
                Err(why) => why,
            };
            match self.ask(pending, request_get(&pending.copy.key)).await {
                Asked::Object(object) => {
                    // Another may have its name by now.
                    let is_same = text(&object, "uid") == text(&held, "uid");
                    let base = if is_same { &*held } else { &Value::Null };
                    let is_newer = text(&object, "resourceVersion") != text(&held, "resourceVersion");
                    if is_newer && merge::is_own(base, &object, &own) {
                        held = Cow::Owned(object);
                        continue;
                    }
                    return Deleted::Not(Told::Restored(object, Some(why).filter(|_| is_same)));
                }
                Asked::Status(404, _) => return Deleted::Gone,
                Asked::Status(..) | Asked::Later => return Deleted::Not(Told::Later),
            }
        }
        Deleted::Not(Told::Later)
    }

    /// Deletes an object if it is still this one. The error says why it is not deleted.
    async fn delete_version(&self, pending: &Pending, held: &Value) -> Result<Deleted, String> {
        let key = &pending.copy.key;
        let mut preconditions = json!({"uid": text(held, "uid")});
        if pending.note.wins == Winner::Cloud {
            preconditions["resourceVersion"] = text(held, "resourceVersion").into();
        }
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
        let target = Target::Resource {
            resource: key.resource.clone(),
            namespace: key.namespace.clone(),
            name: Some(key.name.clone()),
            subresource: None,
        };
        let request = ApiRequest {
            user: pending.note.user.clone(),
            ..ApiRequest::new(Verb::Delete, target)
        };
        let request = request.with_body("application/json", options.to_string());
        let Ok(ApiResponse { code, body, .. }) = self.cloud.call(request).await else {
            return Ok(Deleted::Not(Told::Later));
        };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        match code {
            200..300 if !text(&answer, "deletionTimestamp").is_empty() => Ok(Deleted::Marked(answer)),
            200..300 | 404 => Ok(Deleted::Gone),
            401 | 408 | 429 | 500.. => Ok(Deleted::Not(Told::Later)),
            _ => Err(format!(
                "{code}: {}",
                answer["message"].as_str().unwrap_or("the cloud refused")
            )),
        }
    }

    /// It was hidden here because its finalizers had been emptied here: so they are there. What others have to do first stays.
    async fn tell_finalizers(&self, pending: &Pending, object: Value) -> Told {
        let emptied = finalizers(&pending.note.base);
        let mut left = finalizers(&object);
        left.retain(|name| !emptied.contains(name));
        if left.len() == finalizers(&object).len() {
            return Told::Restored(object, None);
        }
        let patch = json!({"metadata": {"finalizers": left, "uid": text(&object, "uid"),
            "resourceVersion": text(&object, "resourceVersion")}});
        let request = request(&pending.copy.key, Verb::Patch, None, &patch);
        match self.ask(pending, request).await {
            Asked::Object(_) if left.is_empty() => Told::Deleted,
            Asked::Object(object) => Told::Restored(object, None),
            Asked::Status(404, _) => Told::Deleted,
            // Somebody else was there: the next look tells.
            Asked::Status(409, _) | Asked::Later => Told::Later,
            Asked::Status(_, why) => Told::Restored(object, Some(why)),
        }
    }
}

/// What a cloud made of a deletion.
pub(super) enum Deleted {
    /// There is no such object.
    Gone,
    /// It goes once its finalizers are empty, or its time is up.
    Marked(Value),
    /// It was not deleted.
    Not(Told),
}

fn finalizers(object: &Value) -> Vec<&str> {
    let all = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}

/// The object as it waits for its finalizers to be emptied. None where it has none, and goes at once.
pub(super) fn marked(current: &Value, now: &str) -> Option<Value> {
    if finalizers(current).is_empty() {
        return None;
    }
    let mut new = current.clone();
    if text(current, "deletionTimestamp").is_empty() {
        new["metadata"]["deletionTimestamp"] = now.into();
        new["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        if let Some(generation) = current["metadata"]["generation"].as_i64() {
            new["metadata"]["generation"] = (generation + 1).into();
        }
    }
    Some(new)
}

/// Whether a write took the last finalizer of an object that waited for nothing else (Kubernetes
/// `apiserver/pkg/registry/generic/registry`, ShouldDeleteDuringUpdate). A pod may still wait for its containers.
pub(super) fn is_finished(current: &Value, new: &Value) -> bool {
    let metadata = &current["metadata"];
    metadata["deletionTimestamp"].is_string()
        && metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            == 0
        && !finalizers(current).is_empty()
        && finalizers(new).is_empty()
}

/// The finalizers that a write adds to an object that is being deleted, which nobody may.
pub(super) fn added_too_late<'v>(current: &Value, new: &'v Value) -> Vec<&'v str> {
    if text(current, "deletionTimestamp").is_empty() {
        return Vec::new();
    }
    let (before, mut now) = (finalizers(current), finalizers(new));
    now.retain(|name| !before.contains(name));
    now
}

/// Whether the object is the one that the client means, and may go without anybody's leave.
pub(super) fn check(
    kind: &ResourceKind,
    current: &Value,
    body: &[u8],
    refused: &dyn Fn(&str) -> Status,
) -> Result<(), Status> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Options {
        dry_run: Option<Vec<String>>,
        preconditions: Option<Preconditions>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Preconditions {
        uid: Option<String>,
        resource_version: Option<String>,
    }
    let options: Options = match body {
        [] => Options::default(),
        body => serde_json::from_slice(body).map_err(|error| fault::bad(error.to_string()))?,
    };
    if options.dry_run.is_some_and(|all| !all.is_empty()) {
        return Err(refused("a dry run asks the cloud what it would say"));
    }
    let wanted = options.preconditions.unwrap_or_default();
    for (field, word, wanted) in [
        ("uid", "UID", wanted.uid),
        ("resourceVersion", "ResourceVersion", wanted.resource_version),
    ] {
        let held = text(current, field);
        if let Some(wanted) = wanted.filter(|wanted| wanted != held) {
            let name = text(current, "name");
            let message = format!(
                "Operation cannot be fulfilled on {} {name:?}: the {word} in the precondition ({wanted}) does not match the {word} in record ({held}). The object might have been deleted and then recreated",
                shown(kind)
            );
            let status = Status::failure(hub_core::api::Reason::Conflict, message);
            return Err(status.about(&kind.resource.group, &kind.resource.resource, name));
        }
    }
    Ok(())
}

/// As a kube-apiserver answers when an object is gone.
pub(super) fn answer(key: &ObjectKey, current: &Value, form: Form) -> Reply {
    let mut status = Status::success().about(&key.resource.group, &key.resource.resource, &key.name);
    status.uid = text(current, "uid").to_owned();
    reply::from(reply::passed(status.into(), form), Source::Journal)
}

/// The writes of this node that went unanswered, each of which may be found there, and one more.
const LOOKS_MAX: usize = OF_AN_OBJECT_MAX + 1;
