//! Volumes and claims that are in use do not go: their deletion waits for whoever uses them (Kubernetes
//! `pkg/controller/volume/pvcprotection`, `pkg/controller/volume/pvprotection`).

use hub_core::object::{GroupVersionResource, ObjectKey};
use serde_json::Value;

use super::propagation::has_finalizer;
use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::state::State;

/// Whether a finalizer is one that only waits until its object is not in use.
pub(in crate::cluster::embedded) fn is_protection(finalizer: &Value) -> bool {
    finalizer == OF_VOLUMES || finalizer == OF_CLAIMS
}

/// Whether an object has such a finalizer.
pub(in crate::cluster::embedded) fn is_protected(value: &Value) -> bool {
    has_finalizer(value, OF_VOLUMES) || has_finalizer(value, OF_CLAIMS)
}

/// Whether an object that is protected is in use: a volume by its claim, a claim by a pod on a node.
pub(in crate::cluster::embedded) fn is_used(state: &State, key: &ObjectKey, value: &Value) -> bool {
    if has_finalizer(value, OF_VOLUMES) {
        return value["status"]["phase"] == "Bound";
    }
    has_finalizer(value, OF_CLAIMS) && is_mounted(state, key)
}

/// The claims that may have waited for a pod.
pub(in crate::cluster::embedded) fn waiting_for(state: &State, gone: &ObjectKey) -> Vec<ObjectKey> {
    if gone.resource != GroupVersionResource::core("pods") {
        return Vec::new();
    }
    let claims = GroupVersionResource::core("persistentvolumeclaims");
    let going = |body: &[u8]| memchr::memmem::find(body, b"\"deletionTimestamp\"").is_some();
    state
        .list(&claims, gone.namespace.as_deref())
        .filter(|claim| going(&claim.body))
        .map(|claim| claim.key.clone())
        .collect()
}

fn is_mounted(state: &State, claim: &ObjectKey) -> bool {
    let pods = GroupVersionResource::core("pods");
    state.list(&pods, claim.namespace.as_deref()).any(|pod| {
        // Most pods do not so much as name it.
        if memchr::memmem::find(&pod.body, b"\"volumes\"").is_none() {
            return false;
        }
        let pod: Value = serde_json::from_slice(&pod.body).unwrap_or_default();
        let bound = pod["spec"]["nodeName"]
            .as_str()
            .is_some_and(|node| !node.is_empty());
        let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        bound
            && volumes.any(|volume| {
                let own = || {
                    format!(
                        "{}-{}",
                        meta(&pod, "name"),
                        volume["name"].as_str().unwrap_or_default()
                    )
                };
                volume["persistentVolumeClaim"]["claimName"] == *claim.name
                    || (!over && volume["ephemeral"].is_object() && own() == *claim.name)
            })
    })
}

const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
