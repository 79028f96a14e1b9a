//! What the server says of a claim of a volume where its writer did not: its class, and what it is filled from; and of what class an
//! ingress is.

use hub_core::object::GroupVersionResource;
use serde_json::{Value, json};

use crate::cluster::embedded::call::meta;
use crate::cluster::embedded::state::State;

/// Completes a new claim.
pub(in crate::cluster::embedded) fn complete(state: &State, claim: &mut Value) {
    let spec = &mut claim["spec"];
    // One with the empty class wants no other.
    if spec["storageClassName"].is_null()
        && let Some(class) = default_class(state, ("storage.k8s.io", "storageclasses"), &MARKS)
    {
        spec["storageClassName"] = class.into();
    }
    same_source(spec);
}

/// Gives a new ingress the class that is the default, unless it or its annotation names one (Kubernetes
/// `plugin/pkg/admission/network/defaultingressclass`).
pub(in crate::cluster::embedded) fn ingress(state: &State, ingress: &mut Value) {
    let annotated = !ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_null();
    if annotated || !ingress["spec"]["ingressClassName"].is_null() {
        return;
    }
    let of = ("networking.k8s.io", "ingressclasses");
    if let Some(class) = default_class(state, of, &["ingressclass.kubernetes.io/is-default-class"]) {
        ingress["spec"]["ingressClassName"] = class.into();
    }
}

/// The newest of the classes that call themselves the default (Kubernetes `pkg/volume/util/storageclass.go`).
fn default_class(state: &State, (group, resource): (&str, &str), marks: &[&str]) -> Option<String> {
    let resource = GroupVersionResource::new(group, "v1", resource);
    let classes = state
        .list(&resource, None)
        .filter_map(|class| serde_json::from_slice::<Value>(&class.body).ok());
    let marked = classes.filter(|class| {
        let annotations = &class["metadata"]["annotations"];
        marks.iter().any(|mark| annotations[*mark] == "true")
    });
    let mut marked: Vec<(String, String)> = marked
        .map(|class| {
            (
                meta(&class, "creationTimestamp").to_owned(),
                meta(&class, "name").to_owned(),
            )
        })
        .collect();
    marked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    marked.into_iter().next().map(|(_, name)| name)
}

/// A source has two fields, of which clients know one or the other (`pkg/api/persistentvolumeclaim/util.go`).
fn same_source(spec: &mut Value) {
    let copy = |source: &Value| json!({"apiGroup": source["apiGroup"], "kind": source["kind"], "name": source["name"]});
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    let is_elsewhere = new["namespace"]
        .as_str()
        .is_some_and(|namespace| !namespace.is_empty());
    if old.is_object() && new.is_null() {
        spec["dataSourceRef"] = copy(old);
    } else if old.is_null() && new.is_object() && !is_elsewhere {
        spec["dataSource"] = copy(new);
    }
}

const MARKS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
