//! A request about a known kind: what it is about, the form of its answer, and the same request for the cloud.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hub_core::api::{ApiRequest, Status, Target, Verb};
use hub_core::object::ObjectKey;
use hub_core::registry::ResourceKind;

use crate::accept::{Form, Offer};
use crate::client::Client;
use crate::request::{encode, query};
use crate::websocket::Upgrade;

/// A request about a known kind.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) kind: Arc<ResourceKind>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    pub(crate) query: String,
    pub(crate) client: Client,
    pub(crate) content_type: String,
    /// Set where a watch is to go over a WebSocket.
    pub(crate) upgrade: Option<Upgrade>,
}

impl Asked {
    /// The object, when one is named.
    pub(crate) fn key(&self) -> Option<ObjectKey> {
        let namespace = self.namespace.as_deref().filter(|_| self.kind.namespaced);
        Some(ObjectKey::new(
            self.kind.resource.clone(),
            namespace,
            self.name.as_deref()?,
        ))
    }

    /// The form that the answer will have.
    pub(crate) fn form(&self, offer: Offer) -> Result<Form, Status> {
        let is_unprinted = matches!(
            &*self.kind.kind,
            "CustomResourceDefinition" | "APIService" | "ResourceClaim"
        );
        let offer = match self.subresource.as_deref() {
            _ if self.kind.custom => Offer::Custom,
            Some("status") if is_unprinted => Offer::Unprinted,
            _ => offer,
        };
        Form::negotiate(&self.client.accept, offer, self.client.cbor, self.client.pretty)
    }

    /// The same request for the cloud.
    pub(crate) fn request(&self, verb: Verb, body: Bytes) -> ApiRequest {
        let target = Target::Resource {
            resource: self.kind.resource.clone(),
            namespace: self
                .namespace
                .as_deref()
                .filter(|_| self.kind.namespaced)
                .map(Into::into),
            name: self.name.as_deref().map(Into::into),
            subresource: self.subresource.as_deref().map(Into::into),
        };
        ApiRequest {
            query: self.query_of(verb),
            content_type: self.content_type.clone(),
            body,
            user: self.client.caller.user(),
            ..ApiRequest::new(verb, target)
        }
    }

    /// The query, with who owns what is written: a client that does not say is known by its User-Agent, which goes no further. Who
    /// applies must say.
    fn query_of(&self, verb: Verb) -> String {
        let writes = matches!(verb, Verb::Create | Verb::Update | Verb::Patch)
            && matches!(
                self.subresource.as_deref(),
                None | Some(
                    "status" | "scale" | "approval" | "ephemeralcontainers" | "resize" | "finalize" | "token"
                )
            );
        let applies = self.content_type.starts_with("application/apply-patch+");
        let named = |(key, value): (Cow<'_, str>, Cow<'_, str>)| key == "fieldManager" && !value.is_empty();
        if !writes || applies || query(&self.query).any(named) {
            return self.query.clone();
        }
        let manager = encode(&self.client.manager);
        let and = if self.query.is_empty() { "" } else { "&" };
        format!("{}{and}fieldManager={manager}", self.query)
    }
}
