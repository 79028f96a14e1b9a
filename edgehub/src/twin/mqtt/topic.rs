//! KubeEdge's topics (`edge/pkg/eventbus/mqtt/client.go`, `edge/pkg/devicetwin/dtcommon/common.go`).

use std::sync::Arc;

use hub_core::node::NodeId;

use crate::twin::{DeviceId, InvalidName, Which};

/// What an application publishes for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// `…/device/<device>/twin/update`.
    Update(Address),
    /// `…/device/<device>/twin/get`.
    Get(Address),
    /// `…/device/<device>/state/update`.
    State(Address),
    /// `…/node/<node>/membership/get`.
    Membership,
}

/// A device as a topic names it. The answer goes to topics of the same form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) which: Which,
}

/// What to subscribe to. The one-segment forms are those of applications from before KubeEdge 1.15, which know no namespaces.
pub(super) const SUBSCRIPTIONS: [&str; 5] = [
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/device/+/state/update",
    "$hw/events/device/+/twin/+",
    "$hw/events/node/+/membership/get",
];

/// What a topic asks for; None where that is nothing of ours, an error where a device is named that cannot be.
pub(super) fn parse(topic: &str, node: &NodeId) -> Result<Option<Asked>, InvalidName> {
    if let Some(rest) = topic.strip_prefix(NODE) {
        let ours = rest.strip_suffix("/membership/get") == Some(node.as_str());
        return Ok(ours.then_some(Asked::Membership));
    }
    let Some(rest) = topic.strip_prefix(DEVICE) else {
        return Ok(None);
    };
    let ends = |suffix: &str| rest.strip_suffix(suffix).map(Address::parse).transpose();
    if let Some(address) = ends("/twin/update")? {
        return Ok(Some(Asked::Update(address)));
    }
    if let Some(address) = ends("/twin/get")? {
        return Ok(Some(Asked::Get(address)));
    }
    Ok(ends("/state/update")?.map(Asked::State))
}

impl Address {
    fn parse(text: &str) -> Result<Self, InvalidName> {
        let which = match text.split_once('/') {
            Some((namespace, name)) => Which::Id(DeviceId::new(namespace, name)?),
            // The namespace only fills the place: the name is what is checked.
            None => Which::Name(DeviceId::new("default", text)?.name().into()),
        };
        Ok(Self { which })
    }

    /// The topic for an answer.
    pub(super) fn topic(&self, suffix: &str) -> String {
        match &self.which {
            Which::Id(id) => of_device(id, suffix),
            Which::Name(name) => format!("{DEVICE}{name}{suffix}"),
        }
    }

    /// The name, where there is no namespace.
    pub(super) fn short(&self) -> Option<&Arc<str>> {
        match &self.which {
            Which::Id(_) => None,
            Which::Name(name) => Some(name),
        }
    }
}

/// A topic of a device.
pub(super) fn of_device(id: &DeviceId, suffix: &str) -> String {
    format!("{DEVICE}{id}{suffix}")
}

/// The same in the one-segment form.
pub(super) fn of_name(name: &str, suffix: &str) -> String {
    format!("{DEVICE}{name}{suffix}")
}

/// A topic of the node.
pub(super) fn of_node(node: &NodeId, suffix: &str) -> String {
    format!("{NODE}{node}{suffix}")
}

/// What is said when this node's hub comes to the broker.
pub(super) fn connected(node: &NodeId) -> String {
    format!("$hw/events/connected/{node}")
}

/// What the broker says for us when we are gone.
pub(super) fn disconnected(node: &NodeId) -> String {
    format!("$hw/events/disconnected/{node}")
}

pub(super) const UPDATE_RESULT: &str = "/twin/update/result";
pub(super) const UPDATE_DOCUMENT: &str = "/twin/update/document";
pub(super) const UPDATE_DELTA: &str = "/twin/update/delta";
pub(super) const GET_RESULT: &str = "/twin/get/result";
pub(super) const STATE_RESULT: &str = "/state/update/result";
pub(super) const ATTRIBUTES: &str = "/updated";
pub(super) const MEMBERSHIP_RESULT: &str = "/membership/get/result";
pub(super) const MEMBERSHIP_UPDATED: &str = "/membership/updated";

const DEVICE: &str = "$hw/events/device/";
const NODE: &str = "$hw/events/node/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_a_device_with_its_namespace_or_without() {
        let node = NodeId::new("edge-1").unwrap();
        let full = |name: &str| Address {
            which: Which::Id(DeviceId::parse(name).unwrap()),
        };
        let short = Address {
            which: Which::Name("lamp".into()),
        };
        for (topic, expected) in [
            (
                "$hw/events/device/home/lamp/twin/update",
                Some(Asked::Update(full("home/lamp"))),
            ),
            (
                "$hw/events/device/lamp/twin/update",
                Some(Asked::Update(short.clone())),
            ),
            (
                "$hw/events/device/home/lamp/twin/get",
                Some(Asked::Get(full("home/lamp"))),
            ),
            (
                "$hw/events/device/lamp/state/update",
                Some(Asked::State(short.clone())),
            ),
            (
                "$hw/events/device/home/lamp/state/update",
                Some(Asked::State(full("home/lamp"))),
            ),
            ("$hw/events/node/edge-1/membership/get", Some(Asked::Membership)),
            ("$hw/events/node/edge-2/membership/get", None),
            // Only the cloud may say this, and not here.
            ("$hw/events/device/home/lamp/twin/cloud_updated", None),
            ("$hw/events/device/home/lamp/twin/update/result", None),
            ("+/user/x", None),
        ] {
            assert_eq!(parse(topic, &node).unwrap(), expected, "{topic}");
        }
        assert_eq!(
            full("home/lamp").topic(GET_RESULT),
            "$hw/events/device/home/lamp/twin/get/result"
        );
        assert_eq!(
            short.topic(UPDATE_RESULT),
            "$hw/events/device/lamp/twin/update/result"
        );
    }

    #[test]
    fn a_name_that_kubernetes_does_not_allow_is_an_error() {
        let node = NodeId::new("edge-1").unwrap();
        for topic in [
            "$hw/events/device/Home/lamp/twin/update",
            "$hw/events/device/a/b/c/twin/update",
            "$hw/events/device//twin/get",
        ] {
            assert!(parse(topic, &node).is_err(), "{topic}");
        }
    }
}
