//! Who makes messages, and for which class of receivers: the words of KubeEdge's modules.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name<'a> {
            $($(#[$variant_doc])* $variant,)+
            /// A word outside the catalogue, as it came.
            Other(&'a str),
        }

        impl<'a> $name<'a> {
            /// The word on the wire.
            pub fn as_str(self) -> &'a str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl<'a> From<&'a str> for $name<'a> {
            fn from(text: &'a str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other),
                }
            }
        }
    };
}

pub(super) use words;

words! {
    /// The module that made a message (tunnel specification §3.5). An acknowledgement carries the source of what it acknowledges.
    Source {
        /// None, as in some of KubeEdge's replies.
        None = "",
        /// The cloud's end of the tunnel itself.
        CloudHub = "cloudhub",
        /// Pods, ConfigMaps, Secrets, nodes, leases.
        EdgeController = "edgecontroller",
        /// Devices and their models.
        DeviceController = "devicecontroller",
        /// Applications, and the events of watches.
        DynamicController = "dynamiccontroller",
        /// Repairs; never on the wire, its messages say `edgecontroller`.
        SyncController = "synccontroller",
        /// Rights of service accounts.
        PolicyController = "policycontroller",
        /// Node jobs, at both ends.
        TaskManager = "taskmanager",
        /// Node upgrades, as they were before node jobs.
        NodeUpgradeJobController = "nodeupgradejobcontroller",
        /// The rule engine.
        Router = "router",
        /// The rule engine, towards MQTT.
        RouterEventBus = "router_eventbus",
        /// The rule engine, towards services.
        RouterServiceBus = "router_servicebus",
        /// Logs and shells.
        CloudStream = "cloudStream",
        /// The notice that a queue of KubeEdge's cloud gave up; its source says so.
        QueueError = "resource",
        /// The edge's end of the tunnel itself, on whichever transport.
        EdgeHub = "websocket",
        /// Connected and disconnected, inside the edge.
        EdgeHubEvents = "edgehub",
        /// The kubelet.
        Edged = "edged",
        /// The edge's store.
        MetaManager = "metamanager",
        /// The edge's store, in acknowledgements of devices.
        Meta = "meta",
        /// Device twins.
        Twin = "twin",
        /// MQTT.
        Bus = "bus",
        /// MQTT, by the name of its module.
        EventBus = "eventbus",
        /// Services on the node.
        ServiceBus = "servicebus",
        /// The API on the node.
        MetaServer = "metaserver",
        /// Our own ends' catch-up.
        CatchUp = "sync",
    }
}

words! {
    /// The class of receivers at the edge (tunnel specification §3.5, §7.4).
    Group {
        /// None, as in some of KubeEdge's replies.
        None = "",
        /// Answers to who waits for them, everything else to the store.
        Resource = "resource",
        /// As `resource`.
        Func = "func",
        /// From modules of the edge that speak through the store. A message *down* with it is dropped.
        Meta = "meta",
        /// Device twins.
        Twin = "twin",
        /// MQTT and services.
        User = "user",
        /// Local events of MQTT and services.
        Bus = "bus",
        /// The tunnel itself.
        Hub = "hub",
        /// Node jobs.
        TaskManager = "taskmanager",
        /// Applications.
        DynamicController = "dynamiccontroller",
        /// The notice that a queue of KubeEdge's cloud gave up. No edge has a handler for it.
        CloudHub = "cloudhub",
        /// Inside the cloud.
        EdgeController = "edgecontroller",
        /// Inside the cloud.
        DeviceController = "devicecontroller",
        /// Our own ends' catch-up.
        CatchUp = "sync",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_and_print_as_they_came() {
        assert_eq!(Source::from("edged"), Source::Edged);
        assert_eq!(Source::from("edged").as_str(), "edged");
        assert_eq!(Source::from("mine"), Source::Other("mine"));
        assert_eq!(Group::from("resource"), Group::Resource);
        assert_eq!(Group::from("mine").as_str(), "mine");
    }
}
