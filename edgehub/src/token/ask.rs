//! What a token is asked with, and known by.

use std::fmt;

use hub_core::object::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kept::tokens;

/// A question for a token: an account, and a TokenRequest.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) namespace: String,
    pub(super) account: String,
    /// As it goes to the cloud. A request has no token in it.
    pub(super) request: Value,
}

/// What a TokenRequest wants, as far as one token differs from another by it.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    metadata: Uid,
    pub(super) spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Uid {
    uid: String,
}

/// `authentication.k8s.io/v1` TokenRequestSpec.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) audiences: Option<Vec<String>>,
    pub(super) expiration_seconds: Option<i64>,
    pub(super) bound_object_ref: Option<Bound>,
}

/// What a token lives and dies with.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Bound {
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl Ask {
    pub(super) fn new(namespace: &str, account: &str, request: &Value) -> Self {
        Self {
            namespace: namespace.into(),
            account: account.into(),
            request: request.clone(),
        }
    }

    /// Where its token is kept. The name has all that makes one token another, and nothing secret.
    pub(super) fn key(&self) -> ObjectKey {
        let Wanted { metadata, spec } = Wanted::deserialize(&self.request).unwrap_or_default();
        let bound = spec.bound_object_ref.unwrap_or_default();
        let name = json!([
            self.account,
            spec.audiences.unwrap_or_default(),
            spec.expiration_seconds.unwrap_or_default(),
            [bound.api_version, bound.kind, bound.name, bound.uid],
            metadata.uid,
        ]);
        ObjectKey::new(tokens().clone(), Some(&self.namespace), &name.to_string())
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_all_that_it_was_asked_with() {
        let request = json!({ "metadata": { "uid": "a" }, "spec": { "audiences": ["vault"], "expirationSeconds": 3607,
            "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "1" } } });
        let key = Ask::new("shop", "web", &request).key();
        assert_eq!(key, Ask::new("shop", "web", &request).key());
        assert_ne!(key, Ask::new("shop", "other", &request).key());
        assert_ne!(key, Ask::new("other", "web", &request).key());
        for (path, other) in [
            ("/metadata/uid", json!("b")),
            ("/spec/audiences", json!(["vault", "x"])),
            ("/spec/audiences", Value::Null),
            ("/spec/expirationSeconds", json!(3600)),
            ("/spec/boundObjectRef/uid", json!("2")),
            ("/spec/boundObjectRef/name", json!("web-2")),
            ("/spec/boundObjectRef/kind", json!("Secret")),
        ] {
            let mut differs = request.clone();
            *differs.pointer_mut(path).unwrap() = other;
            assert_ne!(key, Ask::new("shop", "web", &differs).key(), "{path}");
        }
        let nothing = [
            json!({}),
            json!({ "spec": { "audiences": null } }),
            json!({ "spec": { "audiences": [] } }),
        ];
        let keys = nothing.map(|request| Ask::new("shop", "web", &request).key());
        assert!(keys.windows(2).all(|two| two[0] == two[1]));
    }
}
