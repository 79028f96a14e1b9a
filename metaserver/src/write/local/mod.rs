//! Writes that this node takes by itself while the cloud is away (goal G.7).
//!
//! ```text
//!  write ──► policy: this node's to decide? ──► apply to what clients see ──► local copy, on the disk ──► answer
//!                                                                                  │ link is back
//!  the cloud's object ◄── settled ◄── merge patch with its version ◄── three-way merge: base, cloud, local
//!                            └── what could not be: a conflict, kept and shown
//! ```
//!
//! One local copy an object is all the journal there is: it holds what the cloud had when the first write was made, and what
//! clients see now. So writes coalesce, and telling the cloud twice does nothing the second time.

mod apply;
mod ask;
mod born;
mod intent;
mod merge;
mod note;
mod operations;
mod policy;
mod remove;
mod replay;
mod unanswered;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, WARNING};
use hub_core::api::{Reason, Status, User, Verb};
use hub_core::clock::{Clock as _, SystemClock};
use hub_core::object::ObjectKey;
use hub_core::scope::Scope;
use hub_core::store::{Change, LocalCopy, Stored};
use serde_json::Value;
use tokio::sync::{Mutex, Notify};

use crate::accept::Offer;
use crate::api::{Api, Asked};
use crate::fault;
use crate::reply::{self, Reply, Source};
use apply::Write;
use born::{birth, created_key, now_text};
use note::{Intent, Note, Pending};
pub use note::{LocalJournal, PendingWrite, WriteConflict};
pub use policy::{LocalClass, LocalRule, LocalWrites, Whose, Winner};
use unanswered::Unanswered;

/// What local writes share.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// Held while a local state is worked out and put to the disk.
    turn: Mutex<()>,
    /// Each held while the cloud is told of an object that falls to it.
    telling: [Mutex<()>; 16],
    /// There is something to tell.
    written: Notify,
    /// What the cloud may have by this node's doing, without having said so.
    unanswered: Unanswered,
    /// Whether somebody tells the cloud already.
    running: AtomicBool,
    /// Whether somebody corrects endpoints already.
    correcting: AtomicBool,
}

impl Local {
    /// Whether somebody corrects endpoints already; from now on somebody does.
    pub(crate) fn corrects(&self) -> bool {
        self.correcting.swap(true, Ordering::Relaxed)
    }
}

impl Api {
    /// Whether the cloud still has to be told of local writes to an object.
    pub(crate) fn is_pending(&self, key: &ObjectKey) -> bool {
        !self.authoritative() && Pending::get(&*self.store, key).is_some()
    }

    /// What the cloud has not been told of yet, and what it did not take.
    pub(crate) fn local_journal(&self) -> LocalJournal {
        LocalJournal::of(&*self.store)
    }

    /// The row of the policy by which a write to an object would be taken here, as the object is now.
    pub(crate) fn local_rule(&self, key: &ObjectKey, verb: Verb) -> Option<&LocalRule> {
        let state = self
            .store
            .get(key)
            .and_then(|stored| serde_json::from_slice(&stored.served).ok());
        self.config
            .local_writes
            .rule(&*self.store, key, verb, &state.unwrap_or_default())
    }

    /// Takes a write without the cloud, if it is this node's to take. `refusal` is what the client is told else.
    pub(crate) async fn write_here(
        self: &Arc<Self>,
        asked: &Asked,
        verb: Verb,
        body: &Bytes,
        refusal: Status,
    ) -> Result<Reply, Status> {
        let form = asked.form(Offer::Object)?;
        let view = self.view(asked, form)?;
        let refused = |why: &str| explained(&refusal, why);
        let status = match asked.subresource.as_deref() {
            None => false,
            Some("status") => true,
            Some(_) => return Err(refused("subresources but status are the cloud's")),
        };
        let media = super::media(&asked.content_type);
        if super::dry_run(&asked.query) {
            return Err(refused("a dry run asks the cloud what it would say"));
        }
        if verb == Verb::DeleteCollection || (verb == Verb::Delete && status) {
            return Err(refused("collections are deleted by the cloud"));
        }
        let config = &self.config.local_writes;
        if !config.knows(&asked.kind.resource, verb) {
            return Err(refused("only the cloud may change this"));
        }
        let key = match asked.key() {
            Some(key) => key,
            None => created_key(asked, body)?,
        };
        let _turn = self.local.turn.lock().await;
        let stored = self.store.get(&key);
        let current: Option<Value> = match &stored {
            Some(stored) => Some(serde_json::from_slice(&stored.served).map_err(|error| {
                Status::failure(
                    Reason::InternalError,
                    format!("the object here cannot be read: {error}"),
                )
            })?),
            None => None,
        };
        let current = match current {
            // What the cloud was asked to make, and did not say whether it has, can be changed and deleted.
            None if verb != Verb::Create && media != APPLY && !self.is_pending(&key) => {
                self.local.unanswered.of(&key).pop()
            }
            current => current,
        };
        let state = match &current {
            Some(current) => current.clone(),
            None if verb == Verb::Create => apply::object(body)?,
            None if self.holds(&Scope::object(&key)) || self.is_pending(&key) => match media {
                APPLY => apply::object(body)?,
                _ => Value::Null,
            },
            None => return Err(refused("this node does not hold the object")),
        };
        let makes = verb == Verb::Create || (media == APPLY && !status);
        if current.is_none() && !makes {
            return Err(fault::not_found(&key.resource, &key.name));
        }
        let Some(rule) = config.rule(&*self.store, &key, verb, &state) else {
            return Err(refused("only the cloud may change this"));
        };
        let user = asked.client.caller.user();
        if verb == Verb::Delete {
            remove::check(&asked.kind, &state, body, &refused)?;
            let Some(marked) = remove::marked(&state, &now_text(SystemClock.unix_ms())) else {
                let told = Noted::new(rule, user);
                self.keep_deletion(&key, told, stored.as_deref(), &refusal)
                    .await?;
                return Ok(remove::answer(&key, &state, form));
            };
            if marked != state {
                let told = Noted::new(rule, user);
                let body = marked.to_string().into();
                self.note_down(&key, told, stored.as_deref(), body, &refusal)
                    .await?;
            }
            let served = self.store.get(&key).map(|stored| stored.served.clone());
            let served = served.ok_or_else(|| refused("it is gone again"))?;
            let answer = reply::encoded(200, view.object(&served, None), form);
            return Ok(reply::from(answer, Source::Journal));
        }
        let intent = match media {
            APPLY => Some(Intent::of(&asked.query, status, body)?),
            _ => None,
        };
        let schema = intent.as_ref().and_then(|_| self.schema(&asked.kind));
        let write = Write {
            kind: &asked.kind,
            namespace: key.namespace.as_deref(),
            name: &key.name,
            verb,
            status,
            media,
            body,
            intent: intent.as_ref(),
            schema: schema.as_ref(),
        };
        let now = SystemClock.unix_ms();
        let new = write.apply(current.as_ref(), birth(now))?;
        let changed = merge::differences(current.as_ref().unwrap_or(&Value::Null), &new);
        let managed = |object: &Value| object["metadata"]["managedFields"].clone();
        let owned_anew = intent.is_some() && current.as_ref().map(managed) != Some(managed(&new));
        if let Some(field) = changed.iter().find(|field| !rule.takes(field)) {
            return Err(refused(&format!("only the cloud may change {field} of this")));
        }
        // A rule may name the node by a field: a write must not take over what another node has.
        if config.rule(&*self.store, &key, verb, &new).is_none() {
            return Err(refused("only the cloud may make this another node's"));
        }
        if current
            .as_ref()
            .is_some_and(|current| remove::is_finished(current, &new))
        {
            // Whoever had to do something before it goes has done it.
            let told = Noted::new(rule, user);
            self.keep_deletion(&key, told, stored.as_deref(), &refusal)
                .await?;
            let answer = reply::encoded(200, view.object(&new.to_string().into(), None), form);
            return Ok(reply::from(answer, Source::Journal));
        }
        if !changed.is_empty() || owned_anew {
            let body = new.to_string().into();
            let told = Noted {
                intent,
                ..Noted::new(rule, user)
            };
            self.note_down(&key, told, stored.as_deref(), body, &refusal)
                .await?;
        }
        let served = self.store.get(&key).map(|stored| stored.served.clone());
        let served = served.ok_or_else(|| refused("it is gone again"))?;
        let code = if current.is_none() { 201 } else { 200 };
        let answer = reply::encoded(code, view.object(&served, None), form);
        let warning = "299 - \"kept on this node, the cloud will be told when it is back\"";
        let answer = if asked.client.person {
            reply::header(answer, WARNING, warning)
        } else {
            answer
        };
        Ok(reply::from(answer, Source::Journal))
    }

    /// Puts a local state of an object to the disk, and sees to it that the cloud is told.
    async fn note_down(
        self: &Arc<Self>,
        key: &ObjectKey,
        told: Noted<'_>,
        stored: Option<&Stored>,
        body: Bytes,
        refusal: &Status,
    ) -> Result<(), Status> {
        let Noted { rule, user, intent } = told;
        let mut changes = Vec::new();
        let pending = match Pending::get(&*self.store, key) {
            Some(mut pending) => {
                let was_deleted = pending.copy.is_deletion();
                pending.note.goes_on(user, intent, self.local.unanswered.of(key));
                pending.copy.body = body;
                // A deletion of what was made anew is one of both.
                pending.note.remade |= was_deleted && !pending.copy.is_deletion();
                pending
            }
            None => {
                changes = self.room(rule.class, refusal)?;
                let has_base = stored.filter(|stored| !stored.object.version.as_str().is_empty());
                let base = has_base.map(|stored| serde_json::from_slice(&stored.object.body));
                let base = base.transpose().ok().flatten().unwrap_or_default();
                Pending {
                    copy: LocalCopy {
                        key: key.clone(),
                        body,
                        note: Bytes::new(),
                    },
                    note: Note {
                        base,
                        class: rule.class,
                        wins: rule.wins,
                        order: self.store.revision().0,
                        since_ms: SystemClock.unix_ms(),
                        writes: 1,
                        user,
                        intent,
                        remade: false,
                        own: self.local.unanswered.of(key),
                    },
                }
            }
        };
        changes.push(pending.put().map_err(|error| unwritten(&error))?);
        self.apply_here(changes).await
    }

    async fn apply_here(self: &Arc<Self>, changes: Vec<Change>) -> Result<(), Status> {
        self.store
            .apply(changes)
            .await
            .map_err(|error| fault::no_room(&error, "the cloud is away, and nothing was changed here"))?;
        self.metrics.local_writes.inc();
        self.start_telling();
        self.local.written.notify_one();
        Ok(())
    }

    /// Says with an object out of the store that the cloud does not know it so, or did not take a change of it.
    pub(crate) fn marked(&self, key: &ObjectKey, asked: &Asked, mut answer: Reply) -> Reply {
        if self.authoritative() {
            return answer;
        }
        let path = note::path(key);
        let conflict = note::conflicts(&*self.store)
            .iter()
            .any(|stored| stored.object.key.name.ends_with(&path));
        let marks = [
            (self.is_pending(key), "pending", PENDING),
            (conflict, "conflict", CONFLICT),
            (self.is_corrected(key), "corrected", CORRECTED),
        ];
        for (_, mark, warning) in marks.into_iter().filter(|(held, ..)| *held) {
            let headers = answer.headers_mut();
            headers.append(X_EDGE_WRITE, HeaderValue::from_static(mark));
            if asked.client.person {
                headers.append(WARNING, HeaderValue::from_static(warning));
            }
        }
        answer
    }

    /// Room for one more object: the oldest event goes for a new one, all else is refused.
    fn room(&self, class: LocalClass, refusal: &Status) -> Result<Vec<Change>, Status> {
        let config = &self.config.local_writes;
        let all = self.store.list(LocalCopy::resource(), None).objects.len();
        if class != LocalClass::Event {
            return if all < config.pending_max {
                Ok(Vec::new())
            } else {
                Err(explained(refusal, "too many writes wait for it"))
            };
        }
        if all < config.events_max.min(config.pending_max) {
            return Ok(Vec::new());
        }
        let pending = Pending::all(&*self.store);
        let events: Vec<_> = pending
            .iter()
            .filter(|pending| pending.note.class == LocalClass::Event)
            .collect();
        if events.len() < config.events_max && all < config.pending_max {
            return Ok(Vec::new());
        }
        let Some(oldest) = events.first() else {
            return Err(explained(refusal, "too many writes wait for it"));
        };
        self.metrics.local_events_dropped.inc();
        tracing::warn!(event = %oldest.copy.key, "too many events wait for the cloud, the oldest is given up");
        Ok(vec![LocalCopy::forget(&oldest.copy.key)])
    }
}

/// What is noted of a write beside its outcome.
struct Noted<'a> {
    rule: &'a LocalRule,
    user: Option<User>,
    intent: Option<Intent>,
}

impl<'a> Noted<'a> {
    fn new(rule: &'a LocalRule, user: Option<User>) -> Self {
        Self {
            rule,
            user,
            intent: None,
        }
    }
}

const APPLY: &str = "application/apply-patch+yaml";

fn explained(refusal: &Status, why: &str) -> Status {
    Status {
        message: format!("{}: {why}", refusal.message),
        ..refusal.clone()
    }
}

const X_EDGE_WRITE: HeaderName = HeaderName::from_static("x-edge-write");
const PENDING: &str = "299 - \"the cloud has not been told yet of the last change made on this node\"";
const CORRECTED: &str =
    "299 - \"endpoints of this node's pods are as this node knows them, until the cloud is back\"";
const CONFLICT: &str =
    "299 - \"a change made on this node was not taken by the cloud, see its kept conflicts\"";

fn unwritten(error: &serde_json::Error) -> Status {
    fault::bad(format!("the object cannot be written down: {error}"))
}
