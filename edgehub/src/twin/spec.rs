//! What the twin needs of a Device of the cloud's (`devices.kubeedge.io/v1beta1`). The rest of it is the mappers'.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The fields of a Device that matter here.
#[derive(Debug, Default)]
pub(super) struct Spec {
    /// The node that speaks to it.
    pub(super) node: String,
    /// What people call it: the label that KubeEdge's cloud takes for that.
    pub(super) description: String,
    /// Property, desired value, type.
    pub(super) desired: Vec<(String, String, String)>,
}

impl Spec {
    /// Reads a body. What does not read as a Device is one that is bound to no node.
    pub(super) fn of(body: &[u8]) -> Self {
        let Ok(Document { mut metadata, spec }) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let desired = spec.properties.into_iter().filter_map(|property| {
            let wish = property.desired?;
            let kind = wish.metadata.and_then(|mut metadata| metadata.remove("type"));
            Some((property.name, wish.value, kind.unwrap_or_default()))
        });
        Self {
            node: spec.node_name,
            description: metadata.labels.remove("description").unwrap_or_default(),
            desired: desired.collect(),
        }
    }

    /// The same, borrowed.
    pub(super) fn desired(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.desired
            .iter()
            .map(|(name, value, kind)| (&**name, &**value, &**kind))
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: DeviceSpec,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct DeviceSpec {
    #[serde(rename = "nodeName", default)]
    node_name: String,
    #[serde(default)]
    properties: Vec<DeviceProperty>,
}

#[derive(Deserialize)]
struct DeviceProperty {
    #[serde(default)]
    name: String,
    #[serde(default)]
    desired: Option<Desired>,
}

#[derive(Deserialize)]
struct Desired {
    #[serde(default)]
    value: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}
