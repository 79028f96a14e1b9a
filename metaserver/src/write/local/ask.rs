//! What the cloud is asked while it is told of local writes, and in whose name.

use hub_core::api::{ApiRequest, ApiResponse, Target, Verb};
use hub_core::object::ObjectKey;
use serde_json::Value;

use super::apply::text;
use super::note::Pending;
use super::replay::parsed;
use super::unanswered::is_open;
use crate::api::Api;

pub(super) enum Asked {
    Object(Value),
    Status(u16, String),
    Later,
}

impl Api {
    /// In the name of who wrote. Who may write need not be one who may read; what the node reads then is its own.
    pub(super) async fn ask(&self, pending: &Pending, request: ApiRequest) -> Asked {
        let user = pending.note.user.clone();
        if user.is_some() && request.verb.is_read() {
            let own = request.clone();
            return match self.put_to_cloud(pending, ApiRequest { user, ..request }).await {
                Asked::Status(403, _) => self.put_to_cloud(pending, own).await,
                answer => answer,
            };
        }
        self.put_to_cloud(pending, ApiRequest { user, ..request }).await
    }

    async fn put_to_cloud(&self, pending: &Pending, request: ApiRequest) -> Asked {
        let is_read = request.verb.is_read();
        let answer = self.cloud.call(request).await;
        if !is_read && is_open(&answer) {
            self.remember(&pending.copy.key, parsed(&pending.copy.body));
        }
        let Ok(ApiResponse { code, body, .. }) = answer else {
            return Asked::Later;
        };
        match code {
            200..300 => serde_json::from_slice(&body)
                .ok()
                .filter(|object| !text(object, "resourceVersion").is_empty())
                .map_or(Asked::Later, Asked::Object),
            401 | 408 | 429 | 500.. => Asked::Later,
            _ => {
                let status: Value = serde_json::from_slice(&body).unwrap_or_default();
                let message = status["message"].as_str().unwrap_or("the cloud refused");
                Asked::Status(code, format!("{code}: {message}"))
            }
        }
    }
}

pub(super) fn request_get(key: &ObjectKey) -> ApiRequest {
    request(key, Verb::Get, None, &Value::Null)
}

pub(super) fn request(key: &ObjectKey, verb: Verb, subresource: Option<&str>, body: &Value) -> ApiRequest {
    let target = Target::Resource {
        resource: key.resource.clone(),
        namespace: key.namespace.clone(),
        name: (verb != Verb::Create).then(|| key.name.clone()),
        subresource: subresource.map(Into::into),
    };
    let request = ApiRequest::new(verb, target);
    match verb {
        Verb::Create => request.with_body("application/json", body.to_string()),
        Verb::Patch => request.with_body("application/merge-patch+json", body.to_string()),
        _ => request,
    }
}
