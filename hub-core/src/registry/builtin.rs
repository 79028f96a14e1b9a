//! The kinds that are part of Kubernetes 1.36, as its kube-apiserver describes them.
//!
//! `builtin.json` is what a kube-apiserver answers to aggregated discovery of `/api` and `/apis`, without the kinds of
//! CustomResourceDefinitions.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::{ResourceKind, Subresource};
use crate::object::GroupVersionResource;

/// In the order of discovery.
pub(super) static KINDS: LazyLock<Vec<Arc<ResourceKind>>> = LazyLock::new(|| {
    let document: Document = serde_json::from_str(include_str!("builtin.json"))
        .expect("a file of this crate, which its tests read too");
    document.items.into_iter().flat_map(kinds_of_group).collect()
});

fn kinds_of_group(group: Group) -> impl Iterator<Item = Arc<ResourceKind>> {
    let name: Arc<str> = group.metadata.name.into();
    group.versions.into_iter().flat_map(move |version| {
        let (group, name): (Arc<str>, Arc<str>) = (name.clone(), version.version.into());
        version
            .resources
            .into_iter()
            .map(move |resource| Arc::new(kind_of(&group, &name, resource)))
    })
}

fn kind_of(group: &Arc<str>, version: &Arc<str>, resource: Resource) -> ResourceKind {
    let subresource = |s: SubresourceEntry| Subresource {
        name: s.subresource.into(),
        kind: s.response_kind.kind.into(),
        // Empty means: as the resource.
        group_version: (!s.response_kind.version.is_empty())
            .then(|| (s.response_kind.group.into(), s.response_kind.version.into())),
        verbs: shared(s.verbs),
    };
    let kind = resource.response_kind.kind;
    ResourceKind {
        selectable_fields: selectable_fields(group, &resource.resource)
            .iter()
            .map(|&field| field.into())
            .collect(),
        resource: GroupVersionResource::new(group.clone(), version.clone(), resource.resource),
        list_kind: format!("{kind}List").into(),
        kind: kind.into(),
        singular: resource.singular_resource.into(),
        namespaced: resource.scope == Scope::Namespaced,
        short_names: shared(resource.short_names),
        categories: shared(resource.categories),
        verbs: shared(resource.verbs),
        subresources: resource.subresources.into_iter().map(subresource).collect(),
        custom: false,
        columns: None,
        schema: None,
        storage_version: None,
        deprecation: None,
    }
}

/// Kubernetes, `pkg/apis/*/v1/conversion.go`: the field labels of each kind beside `metadata.name` and `metadata.namespace`.
fn selectable_fields(group: &str, resource: &str) -> &'static [&'static str] {
    match (group, resource) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("resource.k8s.io", "resourceslices") => &["spec.nodeName", "spec.driver"],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        _ => &[],
    }
}

fn shared(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Into::into).collect()
}

/// `apidiscovery.k8s.io/v2` APIGroupDiscoveryList.
#[derive(Deserialize)]
struct Document {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: GroupMetadata,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct GroupMetadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    response_kind: Kind,
    scope: Scope,
    singular_resource: String,
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    subresources: Vec<SubresourceEntry>,
}

#[derive(Deserialize, PartialEq)]
enum Scope {
    Namespaced,
    Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubresourceEntry {
    subresource: String,
    response_kind: Kind,
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    group: String,
    version: String,
    kind: String,
}
