//! `componentstatuses`: what stands behind an API server. Looked up for each answer, never stored.
//!
//! A kube-apiserver asks its etcd, scheduler and controller manager. Behind this one is only its store, which it tells of by the name
//! that clients know a store by. A cluster that answers has read its file, and a write that fails says so itself.

use std::sync::Arc;

use bytes::Bytes;
use hub_core::object::{GroupVersionResource, Object, ObjectKey, Revision};
use hub_core::store::{Listing, Stored};
use serde_json::json;

pub(in crate::cluster::embedded) fn get(key: &ObjectKey) -> Option<Arc<Stored>> {
    (key.resource == resource() && &*key.name == STORE).then(store)
}

pub(in crate::cluster::embedded) fn list(of: &GroupVersionResource) -> Option<Listing> {
    (*of == resource()).then(|| Listing {
        objects: vec![store()],
        revision: Revision(0),
    })
}

fn store() -> Arc<Stored> {
    let body = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": STORE},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    });
    let body = Bytes::from(body.to_string());
    Arc::new(Stored {
        object: Object {
            key: ObjectKey::new(resource(), None, STORE),
            uid: "".into(),
            version: "".into(),
            body: body.clone(),
        },
        revision: Revision(0),
        served: body,
    })
}

fn resource() -> GroupVersionResource {
    GroupVersionResource::core("componentstatuses")
}

const STORE: &str = "etcd-0";
