//! Writes: put to the cloud with the cloud's versions, and seen here before they are answered.

mod collection;
pub(crate) mod local;
mod precondition;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{ApiResponse, Reason, Status, UpstreamError, Verb};
use hub_core::object::{Metadata, Object, ObjectKey, ResourceVersion};
use hub_core::selector::{FieldSelector, LabelSelector};
use hub_core::store::{Change, Stored, with_resource_version};
use serde::Deserialize;

use crate::accept::Offer;
use crate::api::{Api, Asked};
use crate::fault::{self, away};
use crate::read::typed;
use crate::reply::{self, Reply, Source};
use precondition::Place;

impl Api {
    /// Creates, updates, patches or deletes.
    pub(crate) async fn write(
        self: &Arc<Self>,
        asked: &Asked,
        verb: Verb,
        body: Bytes,
    ) -> Result<Reply, Status> {
        let form = asked.form(Offer::Object)?;
        let view = self.view(asked, form)?;
        if verb == Verb::DeleteCollection {
            collection::check(asked)?;
        }
        check_media(asked, verb, &body)?;
        let key = asked.key();
        if let Some(key) = key.as_ref().filter(|key| self.is_pending(key)) {
            // What was written before comes first.
            self.settle(key).await;
            if self.is_pending(key) {
                let why = "an earlier write of this node is still to be told to the cloud";
                return self
                    .write_here(asked, verb, &body, fault::cannot_write(why))
                    .await;
            }
        }
        let current = key.as_ref().and_then(|key| self.store.get(key));
        let untranslated = body.clone();
        let body = match (&current, place(asked, verb)) {
            (Some(current), Some(place)) if !self.authoritative() => {
                precondition::to_cloud(&body, place, current).map_err(|_| conflict(asked))?
            }
            _ => body,
        };
        let answer = self.cloud.call(asked.request(verb, body)).await;
        self.note_answer(asked, verb, &untranslated, &answer);
        let refused = |error: &UpstreamError| away(error, verb, &asked.kind, asked.name.as_deref());
        let response = match answer {
            // It was not sent, so it may be taken here.
            Err(error @ UpstreamError::Unreachable) if !self.authoritative() => {
                return self.write_here(asked, verb, &untranslated, refused(&error)).await;
            }
            answer => answer.map_err(|error| refused(&error))?,
        };
        if verb == Verb::DeleteCollection {
            return collection::answer(asked, response, form, &view);
        }
        let kept = if dry_run(&asked.query) {
            self.tried(asked, &response, current.as_deref())
        } else {
            let uid = current.map(|current| current.object.uid.clone());
            self.read_your_write(asked, verb, &response, key, uid).await
        };
        Ok(match kept {
            Some(served) => {
                let answer = reply::encoded(response.code, view.object(&served, None), form);
                reply::from(reply::warned(answer, &response.warnings), Source::Cloud)
            }
            None => reply::passed(response, form),
        })
    }

    /// Shows the outcome of a write to readers before the writer hears of it. The object as local clients see it, when the
    /// answer is one.
    async fn read_your_write(
        &self,
        asked: &Asked,
        verb: Verb,
        response: &ApiResponse,
        key: Option<ObjectKey>,
        uid: Option<Arc<str>>,
    ) -> Option<Bytes> {
        if !response.is_success() {
            return None;
        }
        let body = typed(&asked.kind, &response.body);
        let Some(body) = body else {
            // A Status: the object is gone.
            if let (Verb::Delete, None, Some(key)) = (verb, &asked.subresource, key) {
                let held = self.store.get(&key);
                self.show(Change::Delete {
                    uid: deleted_uid(&response.body).or(uid),
                    key,
                    version: held.and_then(|held| after(&held.object.version)),
                })
                .await;
            }
            return None;
        };
        if self.authoritative() {
            return Some(body);
        }
        let Ok(object) = Object::from_body(asked.kind.resource.clone(), body.clone()) else {
            return Some(body);
        };
        if !self.wanted(&object) {
            // Nobody would tell us of its next change, so it is not kept. Its version is the cloud's; writes take that too.
            return Some(body);
        }
        let (key, meant) = (object.key.clone(), object.uid.clone());
        let gone = verb == Verb::Delete
            && asked.subresource.is_none()
            && Metadata::parse(&body).is_ok_and(|metadata| metadata.deletion_timestamp.is_none());
        let change = if gone {
            Change::Delete {
                key: key.clone(),
                version: after(&object.version),
                uid: Some(object.uid),
            }
        } else if uid.is_some() {
            // It was here when it was asked for. If it is not any more, its deletion overtook this answer.
            Change::Refresh(object)
        } else {
            Change::Put(object)
        };
        self.show(change).await;
        let shown = self.store.get(&key).filter(|stored| stored.object.uid == meant);
        Some(shown.map_or(body, |stored| stored.served.clone()))
    }

    /// What a dry run would have made of an object. Its version stays, so it is the one that clients have seen here (`kubectl diff`).
    fn tried(&self, asked: &Asked, response: &ApiResponse, current: Option<&Stored>) -> Option<Bytes> {
        if !response.is_success() || self.authoritative() {
            return None;
        }
        let (current, body) = (current?, typed(&asked.kind, &response.body)?);
        let metadata = Metadata::parse(&body).ok()?;
        let same = metadata.resource_version == current.object.version.as_str()
            && metadata.uid == *current.object.uid;
        same.then(|| with_resource_version(&body, current.revision.0))
    }

    async fn show(&self, change: Change) {
        if self.authoritative() {
            return;
        }
        // The write has happened. That this node could not note it down changes nothing about that; the subscription will.
        if let Err(error) = self.store.apply(vec![change]).await {
            tracing::warn!(%error, "the outcome of a write could not be kept");
        }
    }

    /// Whether the cloud tells this node of the object's changes.
    fn wanted(&self, object: &Object) -> bool {
        self.store.get(&object.key).is_some()
            || self.store.scopes().iter().any(|(scope, _)| {
                scope.contains_key(&object.key)
                    && Metadata::parse(&object.body).is_ok_and(|metadata| {
                        LabelSelector::parse(&scope.labels)
                            .is_ok_and(|labels| labels.matches(&metadata.labels))
                    })
                    && FieldSelector::parse(&scope.fields).is_ok_and(|fields| fields.matches(&object.body))
            })
    }
}

/// The version at which an object is surely gone whose last state had this one: the word of that state may come later than the answer to
/// its deletion. None where versions are no numbers.
fn after(last: &ResourceVersion) -> Option<ResourceVersion> {
    Some(last.number()?.saturating_add(1).to_string().into())
}

/// Where a body of this kind names the version that it expects.
fn place(asked: &Asked, verb: Verb) -> Option<Place> {
    match (verb, media(&asked.content_type)) {
        (Verb::Delete, _) => Some(Place::Preconditions),
        (Verb::Update, "" | "application/json")
        | (Verb::Patch, "application/merge-patch+json" | "application/strategic-merge-patch+json")
        | (Verb::Patch, "application/apply-patch+yaml") => Some(Place::Metadata),
        (Verb::Patch, "application/json-patch+json") => Some(Place::JsonPatch),
        _ => None,
    }
}

fn media(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn check_media(asked: &Asked, verb: Verb, body: &Bytes) -> Result<(), Status> {
    let known = match (verb, media(&asked.content_type)) {
        (Verb::Patch, media) => matches!(
            media,
            "application/json-patch+json"
                | "application/merge-patch+json"
                | "application/strategic-merge-patch+json"
                | "application/apply-patch+yaml"
                | "application/apply-patch+cbor"
        ),
        (Verb::Delete | Verb::DeleteCollection, _) if body.is_empty() => true,
        // Protobuf that could be read is JSON by now.
        (_, "" | "application/json" | "application/yaml") => true,
        _ => false,
    };
    if known {
        return Ok(());
    }
    let message = match (verb, asked.kind.custom) {
        (Verb::Patch, _) => "415: Unsupported Media Type",
        (_, true) => {
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml"
        }
        (_, false) => {
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf"
        }
    };
    Err(Status::failure(Reason::UnsupportedMediaType, message))
}

fn conflict(asked: &Asked) -> Status {
    let resource = &asked.kind.resource;
    let name = asked.name.as_deref().unwrap_or_default();
    let shown = if resource.group.is_empty() {
        resource.resource.to_string()
    } else {
        format!("{}.{}", resource.resource, resource.group)
    };
    Status::failure(
        Reason::Conflict,
        format!(
            "Operation cannot be fulfilled on {shown} {name:?}: the object has been modified; please apply your changes \
             to the latest version and try again"
        ),
    )
    .about(&resource.group, &resource.resource, name)
}

fn dry_run(query: &str) -> bool {
    crate::request::query(query).any(|(key, value)| key == "dryRun" && !value.is_empty())
}

fn deleted_uid(status: &[u8]) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Deleted<'a> {
        #[serde(borrow)]
        details: Details<'a>,
    }
    #[derive(Deserialize)]
    struct Details<'a> {
        #[serde(borrow)]
        uid: Cow<'a, str>,
    }
    let deleted: Deleted<'_> = serde_json::from_slice(status).ok()?;
    Some((&*deleted.details.uid).into())
}
