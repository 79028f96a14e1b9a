//! What a node says of a device, put into the cluster.
//!
//! KubeEdge keeps it in a DeviceStatus of the device's name (`cloud/pkg/devicecontroller/controller/upstream.go`); before version 1.23 it
//! kept it in the status of the Device itself. The cluster's kinds say which of the two is meant.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use hub_core::api::{ApiRequest, ApiResponse, Verb};
use hub_core::node::NodeId;
use hub_core::registry::ResourceKind;

use super::Upstream;
use super::answer::reason;
use super::device::{device, get, kind, text};

/// A report was not taken.
pub(super) enum NotTaken {
    /// It never will be.
    Ever(String),
    /// It may be another time.
    Now(String),
}

/// Puts into the status of a device what its node says of it.
pub(super) async fn report(
    upstream: &Upstream,
    node: &NodeId,
    namespace: Option<&str>,
    name: &str,
    reported: &Twins,
    state: Option<&State>,
) -> Result<(), NotTaken> {
    patch(upstream, node, namespace, name, |device, held| {
        let mut status = Map::new();
        if !reported.is_empty() || state.is_none() {
            status.insert("twins".into(), twins(device, held, reported));
        }
        for (field, value) in state.into_iter().flat_map(State::fields) {
            if !value.is_empty() {
                status.insert(field.into(), value.as_str().into());
            }
        }
        status.into()
    })
    .await
}

/// Patches the status of a device with what `change` makes of the device and of its status. Reports of one device at the same time
/// meet in the version that the patch names: the later one is made anew.
async fn patch(
    upstream: &Upstream,
    node: &NodeId,
    namespace: Option<&str>,
    name: &str,
    change: impl Fn(&Value, &Value) -> Value,
) -> Result<(), NotTaken> {
    let Some(devices) = kind(upstream, "devices") else {
        return Err(NotTaken::Ever("this cluster has no devices".into()));
    };
    let device = match device(upstream, &devices, node, namespace, name).await {
        Ok(Some(device)) => device,
        Ok(None) => return Err(NotTaken::Ever(format!("the node has no device {name}"))),
        Err(response) => return Err(NotTaken::Now(reason(&response))),
    };
    let place = kind(upstream, "devicestatuses");
    let (kind, apart) = place
        .as_ref()
        .map_or((&devices, false), |statuses| (statuses, true));
    let (namespace, name) = (text(&device, "namespace"), text(&device, "name"));
    for _ in 0..ATTEMPTS {
        let found = get(upstream, kind, namespace, name).await;
        let held = match found {
            Ok(held) => held,
            Err(response) if apart && response.code == 404 => {
                let create = ApiRequest::resource(Verb::Create, kind.resource.clone(), Some(namespace), None)
                    .with_body(
                        "application/json",
                        new_status(kind, &devices, &device).to_string(),
                    );
                match upstream.execute_as_hub(create).await {
                    created if created.is_success() => serde_json::from_slice(&created.body)
                        .map_err(|error| NotTaken::Now(error.to_string()))?,
                    created if created.code == 409 => continue,
                    created => return Err(failure(&created)),
                }
            }
            Err(response) => return Err(failure(&response)),
        };
        let body = json!({
            "metadata": { "resourceVersion": text(&held, "resourceVersion") },
            "status": change(&device, &held["status"]),
        });
        let mut patch = ApiRequest::resource(Verb::Patch, kind.resource.clone(), Some(namespace), Some(name))
            .with_body("application/merge-patch+json", body.to_string());
        if kind
            .subresources
            .iter()
            .any(|subresource| &*subresource.name == "status")
        {
            patch = patch.with_subresource("status");
        }
        let response = upstream.execute_as_hub(patch).await;
        if response.is_success() {
            return Ok(());
        }
        if response.code != 409 {
            return Err(failure(&response));
        }
    }
    Err(NotTaken::Now(format!(
        "the status of device {name} changes too fast"
    )))
}

/// The twins of a status with the reported values in them. Only properties that the device has count.
fn twins(device: &Value, held: &Value, reported: &Twins) -> Value {
    let mut twins = held["twins"].as_array().cloned().unwrap_or_default();
    let properties = device["spec"]["properties"].as_array();
    let has = |name: &str| {
        properties
            .into_iter()
            .flatten()
            .any(|property| property["name"] == name)
    };
    for (name, twin) in reported {
        let Some(twin) = twin.as_ref().filter(|_| has(name)) else {
            continue;
        };
        let place = match twins
            .iter()
            .position(|held| held["propertyName"] == name.as_str())
        {
            Some(place) => place,
            None => {
                let none = json!({ "value": "" });
                twins.push(json!({ "propertyName": name, "reported": none, "observedDesired": none }));
                twins.len() - 1
            }
        };
        for (field, value) in [("reported", &twin.actual), ("observedDesired", &twin.expected)] {
            let Some((value, text)) = value
                .as_ref()
                .and_then(|value| Some((value, value.value.as_ref()?)))
            else {
                continue;
            };
            let mut metadata = Map::new();
            if let Some(known) = &value.metadata {
                metadata.insert("timestamp".into(), known.timestamp.to_string().into());
            }
            if let Some(known) = &twin.metadata {
                metadata.insert("type".into(), known.kind.as_str().into());
            }
            let mut property = json!({ "value": text });
            if !metadata.is_empty() {
                property["metadata"] = metadata.into();
            }
            twins[place][field] = property;
        }
    }
    twins.into()
}

/// The status object of a device that has none yet.
fn new_status(statuses: &ResourceKind, devices: &ResourceKind, device: &Value) -> Value {
    json!({
        "kind": &*statuses.kind,
        "apiVersion": statuses.resource.api_version(),
        "metadata": {
            "name": text(device, "name"),
            "namespace": text(device, "namespace"),
            "ownerReferences": [{
                "apiVersion": devices.resource.api_version(),
                "kind": &*devices.kind,
                "name": text(device, "name"),
                "uid": text(device, "uid"),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {},
        "status": {},
    })
}

fn failure(response: &ApiResponse) -> NotTaken {
    let reason = reason(response);
    if response.code < 500 {
        NotTaken::Ever(reason)
    } else {
        NotTaken::Now(reason)
    }
}

/// Properties by name; null for one that is deleted.
pub(super) type Twins = BTreeMap<String, Option<Twin>>;

/// Whether a device is there, as an edge reports it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct State {
    state: String,
    last_online_time: String,
}

impl State {
    fn fields(&self) -> [(&'static str, &String); 2] {
        [("state", &self.state), ("lastOnlineTime", &self.last_online_time)]
    }
}

/// A property as an edge reports it.
#[derive(Deserialize)]
pub(super) struct Twin {
    expected: Option<TwinValue>,
    actual: Option<TwinValue>,
    metadata: Option<TypeMetadata>,
}

#[derive(Deserialize)]
struct TwinValue {
    value: Option<String>,
    metadata: Option<ValueMetadata>,
}

#[derive(Deserialize)]
struct ValueMetadata {
    #[serde(default)]
    timestamp: i64,
}

#[derive(Deserialize)]
struct TypeMetadata {
    #[serde(rename = "type", default)]
    kind: String,
}

/// Reports of one device that may meet before one of them is put off.
const ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_changes_what_it_names_and_leaves_the_rest() {
        let device = json!({ "spec": { "properties": [{ "name": "temp" }, { "name": "power" }] } });
        let held = json!({ "twins": [
            { "propertyName": "power", "reported": { "value": "on" }, "observedDesired": { "value": "off" } },
        ] });
        let reported = serde_json::from_value(json!({
            "temp": { "actual": { "value": "21", "metadata": { "timestamp": 7 } }, "metadata": { "type": "int" } },
            "power": { "expected": { "value": "on" } },
            "gone": null,
            "unknown": { "actual": { "value": "x" } },
        }))
        .unwrap();
        assert_eq!(
            twins(&device, &held, &reported),
            json!([
                { "propertyName": "power", "reported": { "value": "on" }, "observedDesired": { "value": "on" } },
                { "propertyName": "temp", "reported": { "value": "21", "metadata": { "timestamp": "7", "type": "int" } },
                  "observedDesired": { "value": "" } },
            ])
        );
    }
}
