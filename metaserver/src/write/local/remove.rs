//! Deletions that this node takes by itself: the object is hidden at once, and the cloud is told when it is back.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{ApiRequest, ApiResponse, Status, Target, Verb};
use hub_core::object::ObjectKey;
use hub_core::registry::ResourceKind;
use hub_core::store::{LocalCopy, Stored};
use serde::Deserialize;
use serde_json::{Value, json};

use super::apply::{shown, text};
use super::note::Pending;
use super::policy::{LocalRule, Winner};
use super::replay::{Asked, Told, request_get};
use crate::accept::Form;
use crate::api::Api;
use crate::fault;
use crate::reply::{self, Reply, Source};

impl Api {
    /// Hides an object, and notes down that the cloud is to delete it. One that the cloud never knew is simply forgotten.
    pub(super) async fn keep_deletion(
        self: &Arc<Self>,
        key: &ObjectKey,
        rule: &LocalRule,
        stored: Option<&Stored>,
        refusal: &Status,
    ) -> Result<(), Status> {
        let never_told = Pending::get(&*self.store, key).is_some_and(|pending| pending.note.base.is_null());
        if never_told {
            return self.apply_here(vec![LocalCopy::forget(key)]).await;
        }
        let hidden = Bytes::from_static(b"null");
        self.note_down(key, rule, stored, hidden, refusal).await
    }

    /// Tells the cloud of a deletion. What changed there meanwhile is deleted only where this node's word stands.
    pub(super) async fn tell_deletion(&self, pending: &Pending) -> Told {
        let (key, base) = (&pending.copy.key, &pending.note.base);
        let mut preconditions = json!({"uid": text(base, "uid")});
        if pending.note.wins == Winner::Cloud {
            preconditions["resourceVersion"] = text(base, "resourceVersion").into();
        }
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
        let target = Target::Resource {
            resource: key.resource.clone(),
            namespace: key.namespace.clone(),
            name: Some(key.name.clone()),
            subresource: None,
        };
        let request =
            ApiRequest::new(Verb::Delete, target).with_body("application/json", options.to_string());
        let Ok(ApiResponse { code, body, .. }) = self.cloud.call(request).await else {
            return Told::Later;
        };
        let why = match code {
            200..300 | 404 => return Told::Deleted,
            401 | 408 | 429 | 500.. => return Told::Later,
            _ => {
                let status: Value = serde_json::from_slice(&body).unwrap_or_default();
                format!(
                    "{code}: {}",
                    status["message"].as_str().unwrap_or("the cloud refused")
                )
            }
        };
        match self.ask(request_get(key)).await {
            // Ours is gone, and another has its name.
            Asked::Object(object) if text(&object, "uid") != text(base, "uid") => {
                Told::Restored(object, None)
            }
            Asked::Object(object) => Told::Restored(object, Some(why)),
            Asked::Status(404, _) => Told::Deleted,
            Asked::Status(..) | Asked::Later => Told::Later,
        }
    }
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
    if current["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
    {
        return Err(refused(
            "the object has finalizers, and whoever empties them works in the cloud",
        ));
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
