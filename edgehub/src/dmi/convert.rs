//! Devices and models of the cluster, in the form that mappers read.
//!
//! A model may bring settings for its devices: those of the protocol, and how a property is found. A device's own win, key by key
//! (`edge/pkg/devicetwin/dmicache`). Mappers built with KubeEdge's framework read `desired` and `visitors` without looking whether
//! they are there, so both always are.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::Any;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::v1beta1 as wire;

/// A DeviceModel.
#[derive(Debug)]
pub(crate) struct Model {
    /// As mappers read it.
    pub(crate) wire: wire::DeviceModel,
    config: Map<String, Value>,
    visitors: BTreeMap<String, Access>,
}

/// A Device.
#[derive(Debug)]
pub(crate) struct Device {
    /// The node that speaks to it.
    pub(crate) node: String,
    metadata: Named,
    spec: DeviceSpec,
    status: StateReport,
}

impl Model {
    /// Reads the object.
    pub(crate) fn read(object: &[u8]) -> Result<Self, serde_json::Error> {
        let Object { metadata, spec, .. }: Object<ModelSpec> = serde_json::from_slice(object)?;
        let (mut properties, mut visitors) = (Vec::new(), BTreeMap::new());
        for ModelProperty {
            wire,
            visitors: access,
        } in spec.properties
        {
            if let Some(access) = access {
                visitors.insert(wire.name.clone(), access);
            }
            properties.push(wire);
        }
        let commands = Vec::new();
        Ok(Self {
            wire: wire::DeviceModel {
                name: metadata.name,
                namespace: metadata.namespace,
                spec: Some(wire::DeviceModelSpec { properties, commands }),
            },
            config: spec.protocol_config_data,
            visitors,
        })
    }
}

impl Device {
    /// Reads the object.
    pub(crate) fn read(object: &[u8]) -> Result<Self, serde_json::Error> {
        let Object {
            metadata,
            mut spec,
            status,
        }: Object<DeviceSpec> = serde_json::from_slice(object)?;
        Ok(Self {
            node: std::mem::take(&mut spec.node_name),
            // Before KubeEdge 1.23 the status said how often the state is reported.
            status: spec.state_report.take().or(status).unwrap_or_default(),
            metadata,
            spec,
        })
    }

    /// Devices with this protocol are those of its mapper.
    pub(crate) fn protocol(&self) -> &str {
        &self.spec.protocol.protocol_name
    }

    /// The name of its model, in its own namespace.
    pub(crate) fn model(&self) -> Option<&str> {
        self.spec.device_model_ref.as_ref().map(|model| &*model.name)
    }

    /// Whether it has a property.
    pub(crate) fn has(&self, property: &str) -> bool {
        self.spec.properties.iter().any(|known| known.name == property)
    }

    /// As mappers read it.
    pub(crate) fn with(self, model: &Model) -> wire::Device {
        let Self {
            metadata,
            spec,
            status,
            ..
        } = self;
        let property = |property: Property| {
            let default = model.visitors.get(&property.name);
            let own = property.visitors.unwrap_or_default();
            let protocol_name = match default {
                Some(default) if own.protocol_name.is_empty() => default.protocol_name.clone(),
                _ => own.protocol_name,
            };
            let config = overlaid(default.map(|default| &default.config_data), own.config_data);
            wire::DeviceProperty {
                name: property.name,
                desired: Some(property.desired.unwrap_or_default()),
                visitors: Some(wire::VisitorConfig {
                    protocol_name,
                    config_data: Some(wire::CustomizedValue { data: any(&config) }),
                }),
                report_cycle: property.report_cycle,
                collect_cycle: property.collect_cycle,
                report_to_cloud: property.report_to_cloud,
                push_method: property.push_method.map(
                    |PushMethod {
                         mut wire,
                         anomaly_detection,
                     }| {
                        wire.anomaly_detection =
                            anomaly_detection.map(|data| wire::AnomalyDetection { data: any(&data) });
                        wire
                    },
                ),
            }
        };
        let config = overlaid(Some(&model.config), spec.protocol.config_data);
        wire::Device {
            name: metadata.name,
            namespace: metadata.namespace,
            spec: Some(wire::DeviceSpec {
                device_model_reference: spec.device_model_ref.map(|model| model.name).unwrap_or_default(),
                protocol: Some(wire::ProtocolConfig {
                    protocol_name: spec.protocol.protocol_name,
                    config_data: Some(wire::CustomizedValue { data: any(&config) }),
                }),
                properties: spec.properties.into_iter().map(property).collect(),
                methods: spec.methods,
            }),
            status: Some(wire::DeviceStatus {
                twins: Vec::new(),
                report_to_cloud: status.report_to_cloud,
                report_cycle: status.report_cycle,
            }),
        }
    }
}

/// The settings of a model, with a device's own over them.
fn overlaid(model: Option<&Map<String, Value>>, own: Map<String, Value>) -> Map<String, Value> {
    let mut all = model.cloned().unwrap_or_default();
    all.extend(own);
    all
}

fn any(settings: &Map<String, Value>) -> BTreeMap<String, Any> {
    let wrapped = settings
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), wrapped(value)?)));
    wrapped.collect()
}

/// In those of protobuf's wrappers that KubeEdge's framework unpacks: it knows no DoubleValue. Integers are not floats here, as they are
/// in KubeEdge, so none loses digits. What is no single value, which KubeEdge refuses, goes as its JSON.
fn wrapped(value: &Value) -> Option<Any> {
    fn wrap(name: &str, value: &impl Message) -> Any {
        Any {
            type_url: format!("type.googleapis.com/google.protobuf.{name}"),
            value: value.encode_to_vec(),
        }
    }
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => wrap("BoolValue", value),
        Value::String(value) => wrap("StringValue", value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => wrap("Int64Value", &integer),
            None => wrap("FloatValue", &(number.as_f64()? as f32)),
        },
        nested => wrap("StringValue", &nested.to_string()),
    })
}

#[derive(Deserialize)]
struct Object<S> {
    metadata: Named,
    spec: S,
    #[serde(default)]
    status: Option<StateReport>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ModelSpec {
    properties: Vec<ModelProperty>,
    protocol_config_data: Map<String, Value>,
}

#[derive(Deserialize)]
struct ModelProperty {
    #[serde(flatten)]
    wire: wire::ModelProperty,
    visitors: Option<Access>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceSpec {
    device_model_ref: Option<Named>,
    node_name: String,
    protocol: Access,
    properties: Vec<Property>,
    methods: Vec<wire::DeviceMethod>,
    state_report: Option<StateReport>,
}

/// A protocol, and what it needs to know.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Access {
    protocol_name: String,
    config_data: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Property {
    name: String,
    desired: Option<wire::TwinProperty>,
    visitors: Option<Access>,
    #[serde(default)]
    report_cycle: i64,
    #[serde(default)]
    collect_cycle: i64,
    #[serde(default)]
    report_to_cloud: bool,
    push_method: Option<PushMethod>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PushMethod {
    #[serde(flatten)]
    wire: wire::PushMethod,
    anomaly_detection: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StateReport {
    report_to_cloud: bool,
    report_cycle: i64,
}
