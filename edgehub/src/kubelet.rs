//! What a kubelet tells the cloud and asks it, for embedders that run pods.
//!
//! Every message has the shape that KubeEdge's `edged` gives it (`edge/pkg/metamanager/client`), so a stock cloud understands it:
//!
//! | Call | Message | Answer |
//! |---|---|---|
//! | [`patch_pod_status`](EdgeHandle::patch_pod_status) | `patch <ns>/podpatch/<pod>`, the patch as text | the Pod, kept here too |
//! | [`delete_pod`](EdgeHandle::delete_pod) | `delete <ns>/pod/<pod>`, `DeleteOptions` | done; then the cloud pushes the deletion |
//! | [`create_pod`](EdgeHandle::create_pod) | `insert <ns>/pod/<pod>`, a mirror pod | the Pod, kept here too |
//! | [`fetch`](EdgeHandle::fetch) | `query <ns>/<kind>/<name>` | the object, kept here too |
//! | [`request_token`](EdgeHandle::request_token) | `query <ns>/serviceaccounttoken/<account>`, a TokenRequest | the TokenRequest, [kept](crate::TokenConfig) |
//! | [`cluster_ca`](EdgeHandle::cluster_ca) | `query k8s/ca.crt` | PEM |
//! | [`record_event`](EdgeHandle::record_event) | `insert <ns>/event/<name>`, or `patch` | none, so it goes through the journal |
//!
//! **Offline** all but events fail at once, and nothing is queued: a status of the past helps nobody, the next report brings the
//! present one. `fetch` then gives what the store holds, `request_token` a token that is kept and still good. What must outlive an outage goes through [`EdgeHandle::report`].
//!
//! A pod ends in three steps: the cloud pushes it with a `deletionTimestamp`; the embedder stops it, reports its last status and calls
//! `delete_pod`; the cloud pushes the deletion. The store shows the first and the last to whoever watches pods.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::handle::CallError;
use hub_core::message::{Content, Message, Operation, Resource, Route};
use hub_core::object::{GroupVersionResource, InvalidObject, Object, ObjectKey};
use hub_core::session::Lane;
use hub_core::store::{Change, JournalId};
use serde_json::{Value, json};

use crate::error::ReportError;
use crate::handle::{EdgeHandle, Report, Shared};
use crate::object_response::{self, Denied};

/// The cloud did not do what was asked, or did not say so.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no link, or too many calls wait for answers; nothing was asked. The link's move.
    #[error("the cloud is away; nothing was asked")]
    Away,
    /// There was no answer in time. What was asked may have happened.
    #[error("the cloud did not answer in time")]
    TimedOut,
    /// The cloud said no. The asker's move.
    #[error("the cloud refuses: {0}")]
    Denied(#[from] Denied),
    /// The answer is not what was asked for. The cloud's move.
    #[error("the cloud's answer makes no sense: {0}")]
    Answer(String),
    /// KubeEdge has no such question. The asker's move.
    #[error("KubeEdge has no question for {0}")]
    Kind(GroupVersionResource),
}

impl EdgeHandle {
    /// Reports how a pod is: a strategic merge patch of its status. Give `metadata.uid` in it, so that a later pod of the same name
    /// is never meant. Gives the pod as the cloud has it now.
    pub async fn patch_pod_status(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Arc<Object>, AskError> {
        let resource = Resource::object(Some(namespace), "podpatch", name);
        let content = Content::string(&patch.to_string());
        let key = pod(namespace, name);
        let held = self.held(&key);
        let answer = self.shared.ask(Operation::Patch, resource, content).await?;
        self.keep_answered(answer, &key, held).await
    }

    /// Tells the cloud that a pod has ended here and may go for good. A pod that is gone already is no error.
    pub async fn delete_pod(&self, namespace: &str, name: &str, uid: &str) -> Result<(), AskError> {
        let resource = Resource::object(Some(namespace), "pod", name);
        let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } });
        let answer = self
            .shared
            .ask(Operation::Delete, resource, Content::encode(&options))
            .await?;
        match object_response::parse(&answer) {
            Ok(_) => Ok(()),
            Err(denied) if denied.code == 404 => Ok(()),
            Err(denied) => Err(denied.into()),
        }
    }

    /// Creates the mirror of a pod that lives on this node only. Gives the pod as the cloud made it.
    pub async fn create_pod(&self, body: Bytes) -> Result<Arc<Object>, AskError> {
        let object = Object::from_body(GroupVersionResource::core("pods"), body)
            .map_err(|error| AskError::Answer(error.to_string()))?;
        let resource = Resource::object(object.key.namespace.as_deref(), "pod", &object.key.name);
        let content = Content::from_json(object.body.clone());
        let held = self.held(&object.key);
        let answer = self.shared.ask(Operation::Insert, resource, content).await?;
        self.keep_answered(answer, &object.key, held).await
    }

    /// A ConfigMap, Secret, PersistentVolume, PersistentVolumeClaim, VolumeAttachment or Node, as the cloud has it now. It is kept
    /// here; while the cloud is away, or does not answer, what is here is given.
    ///
    /// A missing object is [`AskError::Denied`] with code 404, from a cloud that says codes.
    pub async fn fetch(&self, key: &ObjectKey) -> Result<Arc<Object>, AskError> {
        let store = &self.shared.store;
        let kind = store.registry().by_resource(&key.resource);
        let kind = kind
            .filter(|kind| QUERIED.contains(&&*kind.resource.resource) && !kind.custom)
            .ok_or_else(|| AskError::Kind(key.resource.clone()))?;
        let word = kind.kind.to_lowercase();
        let resource = Resource::object(key.namespace.as_deref(), &word, &key.name);
        let held = self.held(key);
        match self.shared.ask(Operation::Query, resource, Content::null()).await {
            Ok(answer) => self.keep(&object_response::document(&answer)?, key, held).await,
            Err(error @ (AskError::Away | AskError::TimedOut)) => match store.get(key) {
                Some(stored) => Ok(Arc::new(stored.object.clone())),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The certificate of the cluster's own authority, in PEM.
    pub async fn cluster_ca(&self) -> Result<String, AskError> {
        let route = Route::new("metamanager", "meta", Operation::Query, "k8s/ca.crt");
        let answer = self.shared.put(Message::new(route, Content::null())).await?;
        if answer.route.operation == Operation::Error {
            return Err(object_response::document(&answer)
                .err()
                .map_or(AskError::TimedOut, Into::into));
        }
        let pem = answer.content.as_string();
        pem.filter(|pem| pem.contains("-----BEGIN CERTIFICATE-----"))
            .ok_or_else(|| AskError::Answer("no certificate".into()))
    }

    /// Records an Event. With `patch`, a merge patch of an event that was recorded before, such as one more `count`. It is on the
    /// disk once this resolves. KubeEdge answers events with nothing, so towards a stock cloud one that is under way when the link
    /// breaks may be lost.
    pub async fn record_event(&self, event: &Value, patch: Option<&str>) -> Result<JournalId, ReportError> {
        let text = |field: &str| event["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        if namespace.is_empty() || name.is_empty() {
            return Err(ReportError::NoEvent);
        }
        let resource = Resource::object(Some(namespace), "event", name);
        // A patch of an event that has not left yet must not take its place.
        let key = format!("{resource}{}", patch.map_or("", |_| "/patch"));
        let (operation, content) = match patch {
            None => (Operation::Insert, Content::encode(event)),
            Some(patch) => (
                Operation::Patch,
                Content::encode(&json!({ "event": event, "patchData": patch })),
            ),
        };
        let route = Route {
            resource,
            ..Route::new(SOURCE, GROUP, operation, "")
        };
        let report = Report {
            key: key.into(),
            lane: Lane::Bulk,
            message: Message::new(route, content),
        };
        self.report(report).await
    }

    fn held(&self, key: &ObjectKey) -> bool {
        self.shared.store.get(key).is_some()
    }

    /// The object in an `ObjectResp`, kept.
    async fn keep_answered(
        &self,
        answer: Message,
        key: &ObjectKey,
        held: bool,
    ) -> Result<Arc<Object>, AskError> {
        let object = object_response::parse(&answer)?;
        let object = object.ok_or_else(|| AskError::Answer("there is no object in it".into()))?;
        self.keep(object.get().as_bytes(), key, held).await
    }

    /// An object that was asked for goes to the store. Objects in answers may lack their kind, and tell who manages which field,
    /// which is told to no node otherwise. What was `held` when it was asked for and is not any more was deleted meanwhile.
    async fn keep(&self, body: &[u8], key: &ObjectKey, held: bool) -> Result<Arc<Object>, AskError> {
        let store = &self.shared.store;
        let invalid = |error: InvalidObject| AskError::Answer(error.to_string());
        let text = std::str::from_utf8(body).map_err(|error| AskError::Answer(error.to_string()))?;
        let kind = store.registry().by_resource(&key.resource);
        let kind = kind.as_ref().map_or("", |kind| &*kind.kind);
        let body = hub_core::body::kept(text, &key.resource.api_version(), kind)
            .map_err(|error| AskError::Answer(error.to_string()))?;
        let object = Object::from_body(key.resource.clone(), body).map_err(invalid)?;
        if object.key != *key {
            return Err(AskError::Answer(format!("it is about {}", object.key.name)));
        }
        let change = if held { Change::Refresh } else { Change::Put };
        if let Err(error) = store.apply(vec![change(object.clone())]).await {
            tracing::warn!(name = &*key.name, %error, "what the cloud answered could not be kept");
        }
        Ok(Arc::new(object))
    }
}

impl Shared {
    /// Asks as `edged` does, about a resource.
    pub(crate) async fn ask(
        &self,
        operation: Operation,
        resource: Resource,
        content: Content,
    ) -> Result<Message, AskError> {
        let route = Route {
            resource,
            ..Route::new(SOURCE, GROUP, operation, "")
        };
        self.put(Message::new(route, content)).await
    }

    async fn put(&self, message: Message) -> Result<Message, AskError> {
        let answer = self.call(message, Lane::Urgent, self.config.write_timeout).await;
        answer.map_err(|error| match error {
            CallError::TimedOut => AskError::TimedOut,
            CallError::NotSent | CallError::Over => AskError::Away,
        })
    }
}

fn pod(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(GroupVersionResource::core("pods"), Some(namespace), name)
}

/// Who a kubelet is on the wire (tunnel specification §6.3).
const SOURCE: &str = "edged";
const GROUP: &str = "meta";

/// What KubeEdge's clouds answer questions about.
const QUERIED: [&str; 6] = [
    "configmaps",
    "secrets",
    "persistentvolumes",
    "persistentvolumeclaims",
    "volumeattachments",
    "nodes",
];
