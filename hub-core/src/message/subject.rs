//! What a message is about: the forms of resource texts that KubeEdge has (tunnel specification §3.6).

use super::Resource;
use super::module::words;

words! {
    /// The second segment of `<namespace>/<kind>[/<name>]`: a kind in lower case, or a word of KubeEdge's.
    Kind {
        /// A pod.
        Pod = "pod",
        /// All pods of a node; no longer sent.
        PodList = "podlist",
        /// Statuses of pods, as edges before 1.10 report them.
        PodStatus = "podstatus",
        /// A patch of a pod's status.
        PodPatch = "podpatch",
        /// A node.
        Node = "node",
        /// The status of a node, as edges before 1.10 report it.
        NodeStatus = "nodestatus",
        /// A patch of a node's status.
        NodePatch = "nodepatch",
        /// A ConfigMap.
        ConfigMap = "configmap",
        /// A Secret.
        Secret = "secret",
        /// A token of a service account.
        ServiceAccountToken = "serviceaccounttoken",
        /// The rights of a service account.
        ServiceAccountAccess = "serviceaccountaccess",
        /// A certificate signing request.
        CertificateSigningRequest = "certificatesigningrequest",
        /// A lease.
        Lease = "lease",
        /// An event.
        Event = "event",
        /// A volume of the cluster.
        PersistentVolume = "persistentvolume",
        /// A claim of a volume.
        PersistentVolumeClaim = "persistentvolumeclaim",
        /// A volume at a node.
        VolumeAttachment = "volumeattachment",
        /// A service.
        Service = "service",
        /// The endpoints of a service.
        Endpoints = "endpoints",
        /// A rule of the rule engine.
        Rule = "rule",
        /// An end of a rule.
        RuleEndpoint = "ruleendpoint",
        /// What a rule did.
        RuleStatus = "rulestatus",
        /// A device.
        Device = "device",
        /// The model of devices.
        DeviceModel = "devicemodel",
    }
}

/// What a resource text names. The parts are not checked: a name may be anything without a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject<'a> {
    /// `node`: the edge is alive.
    Alive,
    /// `<namespace or null>/<kind>[/<name>]`. The events of watches bring any kind a cluster has.
    Object {
        /// None where the wire says `null`.
        namespace: Option<&'a str>,
        /// What it is.
        kind: Kind<'a>,
        /// None for a whole collection.
        name: Option<&'a str>,
    },
    /// `k8s/ca.crt`: the authority of the cluster.
    ClusterAuthority,
    /// `null`, and `ignore/Application/ignore` in answers: a request to the API.
    Application,
    /// `watchapp/sync`: all watches that an edge wants.
    WatchSync,
    /// `membership`: devices come and go.
    Membership,
    /// `membership/detail`: all devices of the node.
    MembershipDetail,
    /// `twin`: a report of a device was taken.
    Twin,
    /// `device/[<namespace>/]<name>/twin/edge_updated` (and `cloud_updated`): values of a device. Devices of edges before 1.15 have
    /// no namespace.
    DeviceTwin {
        /// Where it lives.
        namespace: Option<&'a str>,
        /// Which.
        name: &'a str,
    },
    /// `device/[<namespace>/]<name>/state/update`: whether a device is there.
    DeviceState {
        /// Where it lives.
        namespace: Option<&'a str>,
        /// Which.
        name: &'a str,
    },
    /// `<namespace>/volume/<id>`: a request of a storage driver in the cloud.
    Volume,
    /// `operations.kubeedge.io/v1alpha2/<type>/<job>/node/<node>` or `task/<id>/node/<node>`: work on the node itself.
    NodeJob,
    /// `sync/…`: our own ends' catch-up.
    CatchUp,
    /// A topic, a URL, or something that nobody knows.
    Other(&'a str),
}

impl Resource {
    /// What the text names.
    pub fn subject(&self) -> Subject<'_> {
        let text = self.as_str();
        let segments: [&str; 6] = {
            let mut segments = [""; 6];
            let mut parts = text.split('/');
            for (segment, part) in segments.iter_mut().zip(parts.by_ref()) {
                *segment = part;
            }
            if parts.next().is_some() {
                return Subject::Other(text);
            }
            segments
        };
        match segments {
            ["node", "", ..] => Subject::Alive,
            ["k8s", "ca.crt", "", ..] => Subject::ClusterAuthority,
            ["null", "", ..] | ["ignore", "Application", "ignore", "", ..] => Subject::Application,
            ["watchapp", "sync", "", ..] => Subject::WatchSync,
            ["membership", "", ..] => Subject::Membership,
            ["membership", "detail", "", ..] => Subject::MembershipDetail,
            ["twin", "", ..] => Subject::Twin,
            ["sync", _, "", ..] => Subject::CatchUp,
            [
                "device",
                namespace,
                name,
                "twin",
                "edge_updated" | "cloud_updated",
                "",
            ] => Subject::DeviceTwin {
                namespace: Some(namespace),
                name,
            },
            ["device", name, "twin", "edge_updated" | "cloud_updated", "", ""] => Subject::DeviceTwin {
                namespace: None,
                name,
            },
            ["device", namespace, name, "state", "update", ""] => Subject::DeviceState {
                namespace: Some(namespace),
                name,
            },
            ["device", name, "state", "update", "", ""] => Subject::DeviceState {
                namespace: None,
                name,
            },
            ["operations.kubeedge.io", _, _, _, "node", _] | [_, _, "node", _, "", ""] => Subject::NodeJob,
            [_, "volume", _, "", ..] => Subject::Volume,
            _ => match self.parts() {
                Some(parts) => Subject::Object {
                    namespace: parts.namespace,
                    kind: parts.kind.into(),
                    name: parts.name,
                },
                None => Subject::Other(text),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_catalogue_is_known() {
        let object = |namespace, kind, name| Subject::Object {
            namespace,
            kind,
            name,
        };
        for (text, expected) in [
            ("node", Subject::Alive),
            (
                "default/pod/web-0",
                object(Some("default"), Kind::Pod, Some("web-0")),
            ),
            (
                "null/nodepatch/edge-1",
                object(None, Kind::NodePatch, Some("edge-1")),
            ),
            (
                "default/podstatus",
                object(Some("default"), Kind::PodStatus, None),
            ),
            ("null/widget/w", object(None, Kind::Other("widget"), Some("w"))),
            ("k8s/ca.crt", Subject::ClusterAuthority),
            ("null", Subject::Application),
            ("ignore/Application/ignore", Subject::Application),
            ("watchapp/sync", Subject::WatchSync),
            ("membership", Subject::Membership),
            ("membership/detail", Subject::MembershipDetail),
            ("twin", Subject::Twin),
            (
                "device/d/sensor/twin/edge_updated",
                Subject::DeviceTwin {
                    namespace: Some("d"),
                    name: "sensor",
                },
            ),
            (
                "device/sensor/twin/edge_updated",
                Subject::DeviceTwin {
                    namespace: None,
                    name: "sensor",
                },
            ),
            (
                "device/d/sensor/state/update",
                Subject::DeviceState {
                    namespace: Some("d"),
                    name: "sensor",
                },
            ),
            ("default/volume/1f", Subject::Volume),
            (
                "operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/e",
                Subject::NodeJob,
            ),
            ("task/7/node/e", Subject::NodeJob),
            ("sync/have", Subject::CatchUp),
            ("a/b/c/d/e/f/g", Subject::Other("a/b/c/d/e/f/g")),
            ("SYS/dis//x", Subject::Other("SYS/dis//x")),
        ] {
            assert_eq!(Resource::from(text).subject(), expected, "{text}");
        }
    }
}
