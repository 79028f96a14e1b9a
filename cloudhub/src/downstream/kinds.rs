//! What an object is to its node, and which of KubeEdge's controllers speaks of it.

use hub_core::object::{GroupVersionResource, ObjectKey};

/// The collections that have a meaning of their own here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Node,
    /// A ConfigMap or Secret.
    Config,
    Pod,
    /// A DeviceModel: what a Device needs.
    Model,
    Device,
    /// A ServiceAccountAccess: what the service account of a pod may do.
    Access,
    Other,
}

/// What an object is to its node.
pub(crate) fn kind(key: &ObjectKey) -> Kind {
    let GroupVersionResource {
        group,
        version,
        resource,
    } = &key.resource;
    match (&**group, &**version, &**resource) {
        ("", "v1", "nodes") => Kind::Node,
        ("", "v1", "pods") => Kind::Pod,
        ("", "v1", "configmaps" | "secrets") => Kind::Config,
        (DEVICES, "v1beta1", "devices") => Kind::Device,
        (DEVICES, "v1beta1", "devicemodels") => Kind::Model,
        (POLICY, "v1alpha1", "serviceaccountaccesses") => Kind::Access,
        _ => Kind::Other,
    }
}

impl Kind {
    /// Whether a node has objects of this kind without asking for them.
    pub(crate) fn is_owned(self) -> bool {
        self != Self::Other
    }

    /// The source of messages about a node's own objects (tunnel specification §6.4).
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::Device | Self::Model => DEVICE_CONTROLLER,
            Self::Access => POLICY_CONTROLLER,
            _ => EDGE_CONTROLLER,
        }
    }
}

/// The collection of devices.
pub(crate) fn devices() -> GroupVersionResource {
    GroupVersionResource::new(DEVICES, "v1beta1", "devices")
}

/// The collection of device models.
pub(crate) fn models() -> GroupVersionResource {
    GroupVersionResource::new(DEVICES, "v1beta1", "devicemodels")
}

/// The collection of what service accounts may do.
pub(crate) fn accesses() -> GroupVersionResource {
    GroupVersionResource::new(POLICY, "v1alpha1", "serviceaccountaccesses")
}

/// The source of a node's pods and of what they need.
pub(crate) const EDGE_CONTROLLER: &str = "edgecontroller";
/// The source of devices, their models, and memberships.
pub(crate) const DEVICE_CONTROLLER: &str = "devicecontroller";
/// The source of what service accounts may do.
const POLICY_CONTROLLER: &str = "policycontroller";

const DEVICES: &str = "devices.kubeedge.io";
const POLICY: &str = "policy.kubeedge.io";
