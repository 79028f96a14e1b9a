//! What an operator asks of the devices beside a node: `edgecore twins`.

use bytes::Bytes;
use edgehub::twin::{BrokerState, Device, Property, Side, Twins};
use http_body_util::Full;
use hub_core::clock::{Clock, SystemClock};
use hyper::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::table::{aligned, span};
use super::{json, refuse};

/// `/twins`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TwinsReport {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// By namespace and name.
    pub devices: Vec<DeviceReport>,
    /// When the oldest value came that the cloud has not heard, in milliseconds since 1970; none where it has heard all.
    pub waiting_since_ms: Option<i64>,
    /// The MQTT broker; none where none is wanted.
    pub broker: Option<BrokerReport>,
}

/// The MQTT broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerReport {
    /// `host:port`.
    pub server: String,
    /// Whether there is a connection.
    pub up: bool,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// One device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    /// `<namespace>/<name>`.
    pub device: String,
    /// Whether it is there, as its mapper says; none where nobody said.
    pub state: Option<String>,
    /// When it was there last, RFC 3339.
    pub last_online: Option<String>,
    /// By name.
    pub properties: Vec<PropertyReport>,
}

/// One property.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PropertyReport {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it should be.
    pub desired: ValueReport,
    /// What it is.
    pub reported: ValueReport,
}

/// One of the two values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueReport {
    /// The value; none where there is none.
    pub value: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// How often the cloud changed it.
    pub cloud_version: i64,
    /// How often this end changed it.
    pub edge_version: i64,
    /// Whether the cloud has not heard of it yet.
    pub waiting: bool,
}

/// Answers `GET /twins`.
pub fn answer_twins(twins: Option<&Twins>, method: &Method) -> Response<Full<Bytes>> {
    match twins {
        _ if *method != Method::GET => refuse(StatusCode::METHOD_NOT_ALLOWED, "there is GET /twins"),
        None => refuse(
            StatusCode::NOT_FOUND,
            "this node keeps no twins: modules.deviceTwin.enable is false",
        ),
        Some(twins) => json(&TwinsReport {
            at_ms: SystemClock.unix_ms(),
            devices: twins.list().iter().map(Into::into).collect(),
            waiting_since_ms: twins.owing_since_ms(),
            broker: twins.broker().map(Into::into),
        }),
    }
}

/// A table of all properties, and a line that sums it up.
pub fn table(report: &TwinsReport) -> String {
    let headings = [
        "DEVICE",
        "STATE",
        "PROPERTY",
        "DESIRED",
        "REPORTED",
        "VERSIONS",
        "REPORTED SINCE",
        "TO THE CLOUD",
    ];
    let or = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let mut rows = Vec::new();
    let mut waiting = 0;
    for device in &report.devices {
        let first = [device.device.clone(), or(device.state.as_deref())];
        if device.properties.is_empty() {
            rows.push([&first[..], &["-"; 6].map(String::from)].concat());
        }
        for property in &device.properties {
            let (desired, reported) = (&property.desired, &property.reported);
            let is_waiting = desired.waiting || reported.waiting;
            waiting += usize::from(is_waiting);
            let since = reported
                .at_ms
                .map(|at| span(report.at_ms.saturating_sub(at).try_into().unwrap_or(0)));
            let version = |side: &ValueReport| format!("{}.{}", side.cloud_version, side.edge_version);
            let rest = [
                property.name.clone(),
                or(desired.value.as_deref()),
                or(reported.value.as_deref()),
                format!("{} / {}", version(desired), version(reported)),
                or(since.as_deref()),
                if is_waiting { "waiting" } else { "told" }.to_owned(),
            ];
            rows.push([&first[..], &rest].concat());
        }
    }
    let mut text = aligned(&headings, rows.into_iter());
    let age = |since: i64| span(report.at_ms.saturating_sub(since).try_into().unwrap_or(0));
    let oldest = report.waiting_since_ms.filter(|_| waiting > 0);
    let oldest = oldest.map_or_else(String::new, |since| format!(", the oldest for {}", age(since)));
    text += &format!(
        "{} devices; {waiting} properties wait for the cloud{oldest}\n",
        report.devices.len()
    );
    match &report.broker {
        Some(BrokerReport { server, up: true, .. }) => {
            text += &format!("the MQTT broker {server} is there\n")
        }
        Some(BrokerReport { server, trouble, .. }) => {
            text += &format!("the MQTT broker {server} is away: {trouble}\n");
        }
        None => {}
    }
    text
}

impl From<BrokerState> for BrokerReport {
    fn from(broker: BrokerState) -> Self {
        let BrokerState { server, up, trouble } = broker;
        Self { server, up, trouble }
    }
}

impl From<&Device> for DeviceReport {
    fn from(device: &Device) -> Self {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let there = device.properties.iter().filter(|(_, property)| !property.deleted);
        Self {
            device: device.id.to_string(),
            state: some(&device.state),
            last_online: some(&device.last_online),
            properties: there.map(|(name, property)| report(name, property)).collect(),
        }
    }
}

fn report(name: &str, property: &Property) -> PropertyReport {
    PropertyReport {
        name: name.into(),
        kind: property.kind.to_string(),
        desired: (&property.expected).into(),
        reported: (&property.actual).into(),
    }
}

impl From<&Side> for ValueReport {
    fn from(side: &Side) -> Self {
        Self {
            value: side.text().map(Into::into),
            at_ms: side.value.as_ref().map(|value| value.timestamp_ms),
            cloud_version: side.version.cloud,
            edge_version: side.version.edge,
            waiting: side.is_waiting(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_each_device_should_be_and_is() {
        let value = |value: &str, at_ms, waiting| ValueReport {
            value: Some(value.into()),
            at_ms: Some(at_ms),
            cloud_version: 1,
            edge_version: 4,
            waiting,
        };
        let property = |name: &str, desired, reported| PropertyReport {
            name: name.into(),
            kind: "float".into(),
            desired,
            reported,
        };
        let report = TwinsReport {
            at_ms: 100_000,
            waiting_since_ms: Some(98_500),
            broker: Some(BrokerReport {
                server: "127.0.0.1:1883".into(),
                up: false,
                trouble: "connection refused".into(),
            }),
            devices: vec![
                DeviceReport {
                    device: "default/parlour".into(),
                    state: Some("online".into()),
                    last_online: None,
                    properties: vec![
                        property(
                            "setpoint",
                            value("21", 90_000, false),
                            value("20.5", 98_500, true),
                        ),
                        property(
                            "temperature",
                            ValueReport::default(),
                            value("19.0", 98_500, false),
                        ),
                    ],
                },
                DeviceReport {
                    device: "shop/new".into(),
                    state: None,
                    last_online: None,
                    properties: vec![],
                },
            ],
        };
        let wanted = "\
DEVICE           STATE   PROPERTY     DESIRED  REPORTED  VERSIONS   REPORTED SINCE  TO THE CLOUD
default/parlour  online  setpoint     21       20.5      1.4 / 1.4  1.5s            waiting
default/parlour  online  temperature  -        19.0      0.0 / 1.4  1.5s            told
shop/new         -       -            -        -         -          -               -
2 devices; 1 properties wait for the cloud, the oldest for 1.5s
the MQTT broker 127.0.0.1:1883 is away: connection refused
";
        assert_eq!(table(&report), wanted, "\n{}", table(&report));
    }
}
