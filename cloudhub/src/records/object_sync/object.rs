//! ObjectSync and ClusterObjectSync as KubeEdge writes and reads them (tunnel specification §4.6).

use std::sync::Arc;

use hub_core::node::NodeId;
use hub_core::object::{GroupVersionResource, Object, ObjectKey, ResourceVersion};
use hub_core::registry::Registry;
use serde::Deserialize;
use serde_json::json;

use crate::records::{Recorded, SyncRecord};

/// One of them, with its names as they are written: its kind may become known later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    namespace: Option<Arc<str>>,
    api_version: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
    version: Option<ResourceVersion>,
}

impl Written {
    /// Reads one. None when it names no node or no object.
    pub(super) fn read(object: &Object) -> Option<(NodeId, Arc<str>, Self)> {
        let (node, uid) = split(&object.key.name)?;
        let Document { spec, status } = serde_json::from_slice(&object.body).ok()?;
        let version = Some(status.object_resource_version).filter(|version| !is_unacknowledged(version));
        let written = Self {
            namespace: object.key.namespace.clone(),
            api_version: spec.object_api_version,
            kind: spec.object_kind,
            name: spec.object_name,
            version: version.map(Into::into),
        };
        (!written.name.is_empty()).then(|| (node, uid.into(), written))
    }

    /// As it is once `version` is written.
    pub(super) fn new(object: &Recorded, version: Option<ResourceVersion>) -> Self {
        Self {
            namespace: object.key.namespace.clone(),
            api_version: object.key.resource.api_version().into(),
            kind: object.kind.clone(),
            name: object.key.name.clone(),
            version,
        }
    }

    /// Whether it is a ClusterObjectSync.
    pub(super) fn is_of_cluster(&self) -> bool {
        self.namespace.is_none()
    }

    /// The record. None while the cluster has no such kind.
    pub(super) fn record(&self, uid: &Arc<str>, registry: &Registry) -> Option<SyncRecord> {
        let kind = registry.by_kind(&self.api_version, &self.kind).or_else(|| {
            let mut kinds = registry.by_lower_kind(&self.kind.to_lowercase()).into_iter();
            kinds.find(|kind| kind.resource.api_version() == *self.api_version)
        })?;
        Some(SyncRecord {
            object: Recorded {
                key: ObjectKey::new(kind.resource.clone(), self.namespace.as_deref(), &self.name),
                uid: uid.clone(),
                kind: kind.kind.clone(),
            },
            version: self.version.clone(),
        })
    }
}

/// Where the record of an object on a node is kept.
pub(super) fn place(node: &NodeId, object: &Recorded) -> ObjectKey {
    let collection = match object.key.namespace {
        Some(_) => OBJECT_SYNCS,
        None => CLUSTER_OBJECT_SYNCS,
    };
    // Node names may hold dots, uids do not: it is taken apart at the last one.
    let name = format!("{node}.{}", object.uid);
    ObjectKey::new(resource(collection), object.key.namespace.as_deref(), &name)
}

/// What is created.
pub(super) fn document(place: &ObjectKey, object: &Recorded) -> String {
    let kind = if place.namespace.is_some() {
        "ObjectSync"
    } else {
        "ClusterObjectSync"
    };
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": { "name": &*place.name, "namespace": place.namespace.as_deref() },
        "spec": {
            "objectAPIVersion": object.key.resource.api_version(),
            "objectKind": &*object.kind,
            "objectName": &*object.key.name,
        },
    })
    .to_string()
}

/// A merge patch of the status.
pub(super) fn status(version: Option<&ResourceVersion>) -> String {
    let version = version.map_or("0", ResourceVersion::as_str);
    json!({ "status": { "objectResourceVersion": version } }).to_string()
}

/// One of the two collections.
pub(super) fn resource(collection: &str) -> GroupVersionResource {
    GroupVersionResource::new(GROUP, VERSION, collection)
}

fn split(name: &str) -> Option<(NodeId, &str)> {
    let (node, uid) = name.rsplit_once('.')?;
    let node = NodeId::new(node).ok()?;
    (!uid.is_empty()).then_some((node, uid))
}

/// "0" is KubeEdge's word for created and never acknowledged; nothing at all, for not even that.
fn is_unacknowledged(version: &str) -> bool {
    version.is_empty() || version == "0"
}

#[derive(Deserialize)]
struct Document {
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "objectAPIVersion")]
    object_api_version: Arc<str>,
    object_kind: Arc<str>,
    object_name: Arc<str>,
}

impl Default for Spec {
    fn default() -> Self {
        let none: Arc<str> = "".into();
        Self {
            object_api_version: none.clone(),
            object_kind: none.clone(),
            object_name: none,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    object_resource_version: String,
}

/// The namespaced collection.
pub(super) const OBJECT_SYNCS: &str = "objectsyncs";
/// The collection of the cluster.
pub(super) const CLUSTER_OBJECT_SYNCS: &str = "clusterobjectsyncs";
const GROUP: &str = "reliablesyncs.kubeedge.io";
const VERSION: &str = "v1alpha1";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, body: &str) -> Option<(NodeId, Arc<str>, Written)> {
        Written::read(&Object {
            key: ObjectKey::new(resource(OBJECT_SYNCS), Some("default"), name),
            uid: "u".into(),
            version: "1".into(),
            body: body.to_owned().into(),
        })
    }

    #[test]
    fn what_go_wrote_is_understood() {
        let body = r#"{"apiVersion":"reliablesyncs.kubeedge.io/v1alpha1","kind":"ObjectSync","metadata":{"name":"x"},
            "spec":{"objectAPIVersion":"v1","objectKind":"ConfigMap","objectName":"web-r1"},"status":{"objectResourceVersion":"1287"}}"#;
        let (node, uid, written) = read("edge-1.example.da1fa568-f74a", body).unwrap();
        assert_eq!((node.as_str(), &*uid), ("edge-1.example", "da1fa568-f74a"));
        let record = written.record(&uid, &Registry::builtin()).unwrap();
        assert_eq!(record.object.key.to_string(), "v1/configmaps default/web-r1");
        assert_eq!(
            (&*record.object.kind, record.version),
            ("ConfigMap", Some("1287".into()))
        );
        assert_eq!(
            &*place(&node, &record.object).name,
            "edge-1.example.da1fa568-f74a"
        );
    }

    #[test]
    fn created_and_never_acknowledged_is_no_version() {
        for status in [
            "",
            r#","status":{}"#,
            r#","status":{"objectResourceVersion":"0"}"#,
        ] {
            let body = format!(
                r#"{{"spec":{{"objectAPIVersion":"v1","objectKind":"pod","objectName":"p"}}{status}}}"#
            );
            let (_, uid, written) = read("e.u", &body).unwrap();
            let record = written.record(&uid, &Registry::builtin()).unwrap();
            assert_eq!((record.version, &*record.object.kind), (None, "Pod"));
        }
    }

    #[test]
    fn odd_ones_are_stepped_over() {
        let good = r#"{"spec":{"objectAPIVersion":"v1","objectKind":"Pod","objectName":"p"}}"#;
        for name in ["nodot", ".uid", "node.", "NO NODE.uid"] {
            assert!(read(name, good).is_none(), "{name}");
        }
        for body in ["{}", "[]", r#"{"spec":{}}"#, r#"{"spec":{"objectName":7}}"#, "x"] {
            assert!(read("e.u", body).is_none(), "{body}");
        }
        let (_, uid, unknown) = read(
            "e.u",
            r#"{"spec":{"objectAPIVersion":"x.y/v9","objectKind":"","objectName":"p"}}"#,
        )
        .unwrap();
        assert!(unknown.record(&uid, &Registry::builtin()).is_none());
        // A version that is no number is a version.
        let (.., odd) = read(
            "e.u",
            r#"{"spec":{"objectAPIVersion":"v1","objectKind":"Pod","objectName":"p"},"status":{"objectResourceVersion":"abc"}}"#,
        )
        .unwrap();
        assert_eq!(odd.version, Some("abc".into()));
    }
}
