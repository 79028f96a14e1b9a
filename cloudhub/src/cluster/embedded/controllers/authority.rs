//! The certificate by which pods know the API, in a ConfigMap of every namespace (Kubernetes
//! `pkg/controller/certificates/rootcacertpublisher`).

use std::sync::Arc;

use hub_core::api::Status;
use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::json;

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::state::{Mark, State};
use crate::cluster::embedded::values::clock;

/// Puts the certificate into every namespace, now and from now on.
pub(in crate::cluster::embedded) fn publish(state: &mut State, pem: &Arc<str>) -> Result<(), Status> {
    state.authority = Some(pem.clone());
    let namespaces: Vec<Arc<str>> = state
        .list(&namespaces(), None)
        .map(|namespace| namespace.key.name.clone())
        .collect();
    for namespace in namespaces {
        put(state, &namespace, pem)?;
    }
    Ok(())
}

/// Whether pods of a namespace would find the certificate.
pub(in crate::cluster::embedded) fn is_published(state: &State, namespace: &str) -> bool {
    state.get(&key(namespace)).is_some()
}

/// Puts the certificate into the namespaces that came since the mark, and back where somebody took it out.
pub(in crate::cluster::embedded) fn follow(state: &mut State, mark: Mark) -> Result<(), Status> {
    let Some(pem) = state.authority.clone() else {
        return Ok(());
    };
    let concerned = |(key, previous, now): (&ObjectKey, Option<_>, Option<_>)| {
        let came = key.resource == namespaces() && previous.is_none() && now.is_some();
        let changed = &*key.name == NAME && key.resource == configmaps();
        let namespace = if came {
            Some(&key.name)
        } else {
            key.namespace.as_ref()
        };
        namespace.filter(|_| came || changed).cloned()
    };
    let namespaces: Vec<Arc<str>> = state.steps_since(mark).filter_map(concerned).collect();
    for namespace in namespaces {
        put(state, &namespace, &pem)?;
    }
    Ok(())
}

fn put(state: &mut State, namespace: &str, pem: &str) -> Result<(), Status> {
    let parent = state.value(&ObjectKey::new(namespaces(), None, namespace))?;
    if parent.is_none_or(|parent| !meta(&parent, "deletionTimestamp").is_empty()) {
        return Ok(());
    }
    let data = json!({KEY: pem});
    let mut object = match state.value(&key(namespace))? {
        Some(held) if held["data"] == data => return Ok(()),
        Some(held) => held,
        None => json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": NAME, "namespace": namespace, "annotations": {"kubernetes.io/description": DESCRIPTION},
                "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": clock::now(),
            },
        }),
    };
    object["data"] = data;
    state.put(&configmaps(), &mut object).map(drop)
}

fn key(namespace: &str) -> ObjectKey {
    ObjectKey::new(configmaps(), Some(namespace), NAME)
}

fn configmaps() -> GroupVersionResource {
    GroupVersionResource::core("configmaps")
}

fn namespaces() -> GroupVersionResource {
    GroupVersionResource::core("namespaces")
}

pub(in crate::cluster::embedded) const NAME: &str = "kube-root-ca.crt";
pub(in crate::cluster::embedded) const KEY: &str = "ca.crt";
const DESCRIPTION: &str =
    "The certificate of the authority by which clients within the cluster know its API.";
