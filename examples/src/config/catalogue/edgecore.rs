//! The keys of `edgecore.yaml` (KubeEdge `componentconfig/edgecore/{v1alpha1,v1alpha2}/types.go`, releases 1.3 to 1.23).

use super::Fate::{Absent, Always, Earlier, Ignored, Moved};
use super::{Catalogue, Run, kubelet};
use crate::config::kind::Kind;

pub(super) static CATALOGUE: Catalogue = Catalogue {
    program: "edgecore",
    kind: "EdgeCore",
    default: include_str!("../recorded/edgecore.default.yaml"),
    min: include_str!("../recorded/edgecore.min.yaml"),
    ours: OURS,
    runs: &[HUB, NODE, kubelet::RUNS, META, PARTS, EARLIER],
};

/// The defaults of our own keys, and of KubeEdge's that its program leaves out while they are empty.
const OURS: &str = "\
edgeTunnel:
  admin:
    socket: /run/edge-tunnel/edgecore.sock
  metaServer:
    anonymous: true
    callers:
      \"0\": node
    cbor: false
    expiryGrace: 0s
    offlineWrites: {}
    plain: \"\"
    socket: \"\"
  metrics: \"\"
  prefetch:
  - services
  - endpointslices.v1.discovery.k8s.io
  - namespaces
  - nodes
featureGates:
  requireAuthorization: false
modules:
  edged:
    annotations: {}
    nodeIP: \"\"
    nodeLabels: {}
    tailoredKubeletConfig:
      podCIDR: \"\"
      registerWithTaints: []
  metaManager:
    metaServer:
      apiAudiences: []
      serviceAccountKeyFiles: []
";

const HUB: &[Run] = &[
    Run::honoured(
        "modules.edgeHub",
        "whether the cloud is dialled at all; seconds between signs of life; part of the tunnel's path",
        &[
            ("enable", Kind::Switch),
            ("heartbeat", Kind::Whole(1, i32::MAX, "a number of seconds")),
            ("projectID", Kind::Text),
        ],
    ),
    Run::honoured(
        "modules.edgeHub",
        "where certificates come from, several separated by commas; the join token, needed until there is a certificate; whether \
         the certificate is renewed in time",
        &[
            ("httpServer", Kind::Https),
            ("token", Kind::Text),
            ("rotateCertificates", Kind::Switch),
        ],
    ),
    Run::honoured(
        "modules.edgeHub",
        "the CA, and the node's certificate and key, which are written there when the node joins",
        &[
            ("tlsCaFile", Kind::File),
            ("tlsCertFile", Kind::File),
            ("tlsPrivateKeyFile", Kind::File),
        ],
    ),
    Run::honoured(
        "modules.edgeHub.websocket",
        "the tunnel over WebSocket; several servers, separated by commas, are tried in turn; seconds for a handshake, and seconds \
         that the cloud may take nothing (0: 30 and 15)",
        DIAL,
    ),
    Run::honoured(
        "modules.edgeHub.quic",
        "the tunnel over QUIC, to our own clouds only; with both enabled, the other one is the way back",
        DIAL,
    ),
    Run::named("modules.edgeHub.websocket", Ignored(SILENCE), "readDeadline"),
    Run::named("modules.edgeHub.quic", Ignored(SILENCE), "readDeadline"),
    Run::named(
        "modules.edgeHub",
        Ignored("reports go as fast as the cloud takes them, the urgent ones first"),
        "messageQPS messageBurst",
    ),
];

/// What each way to the cloud takes.
const DIAL: &[(&str, Kind)] = &[
    ("enable", Kind::Switch),
    ("server", Kind::Servers),
    (
        "handshakeTimeout",
        Kind::Whole(0, i32::MAX, "a number of seconds"),
    ),
    ("writeDeadline", Kind::Whole(0, i32::MAX, "a number of seconds")),
];

const SILENCE: &str = "silence of 2⅔ heartbeats ends a link";

const NODE: &[Run] = &[
    Run::honoured(
        "",
        "which program the file is for; any version is read",
        &[("apiVersion", Kind::Text), ("kind", Kind::Program("EdgeCore"))],
    ),
    Run::honoured(
        "database",
        "beside this file, as `edgecore.tunnel.db`, lies what the node holds; KubeEdge's own is not touched",
        &[("dataSource", Kind::File)],
    ),
    Run::named("database", Ignored("the store is SQLite"), "driverName aliasName"),
    Run::honoured(
        "modules.edged",
        "whether this program registers the node and speaks for it (switch it off where a kubelet does); the node's name (the \
         host's by default), address (found by default), labels and annotations (these as KubeEdge had them until 1.11); false for a node that takes no pods yet",
        &[
            ("enable", Kind::Switch),
            ("hostnameOverride", Kind::NodeName),
            ("nodeIP", Kind::IpOrNone),
            ("nodeLabels", Kind::TextMap),
            ("annotations", Kind::TextMap),
            ("registerSchedulable", Kind::Switch),
        ],
    ),
    Run::named(
        "modules.edged",
        Ignored("name the address itself in modules.edged.nodeIP"),
        "customInterfaceName",
    ),
    Run::named(
        "modules.edged",
        Ignored(kubelet::ADVICE),
        "reportEvent runtimeCgroups podSandboxImage rootDirectory windowsService windowsPriorityClass experimentalMounterPath \
         experimentalNodeAllocatableIgnoreEvictionThreshold minimumGCAge maxPerPodContainerCount maxContainerCount seccompDefault \
         registerNodeNamespace",
    ),
];

const META: &[Run] = &[
    Run::honoured(
        "modules.metaManager",
        "false serves no API on the node",
        &[("enable", Kind::Switch)],
    ),
    Run::honoured(
        "modules.metaManager.metaServer",
        "the node's Kubernetes API, and where: plain HTTP, to be kept on loopback, or with `requireAuthorization` HTTPS, at the \
         second address too if the machine has it",
        &[
            ("enable", Kind::Switch),
            ("server", Kind::HostPort),
            ("dummyServer", Kind::HostPortOrNone),
        ],
    ),
    Run::honoured(
        "modules.metaManager.metaServer",
        "with `requireAuthorization`: the authorities of client certificates; a server certificate of your own with its key \
         (files that are those of the tunnel, KubeEdge's default, are not shown: the node makes its own)",
        &[
            ("tlsCaFile", Kind::File),
            ("tlsCertFile", Kind::File),
            ("tlsPrivateKeyFile", Kind::File),
        ],
    ),
    Run::honoured(
        "modules.metaManager.metaServer",
        "with `requireAuthorization`: who makes tokens, beside whom the cluster names; for whom they must be made (empty: for \
         one of the issuers); PEM files with public keys, beside those that the cluster publishes",
        &[
            ("serviceAccountIssuers", Kind::Texts),
            ("apiAudiences", Kind::Texts),
            ("serviceAccountKeyFiles", Kind::Texts),
        ],
    ),
    Run::honoured(
        "edgeTunnel.metaServer",
        "ours, with `requireAuthorization`: a loopback address for plain HTTP and a Unix socket, empty for none, where callers are \
         told apart by the user that they run as: `node`, `anonymous` or the name of a user of the cluster for each user id, and \
         under `others` for all others (anonymous); whether who shows nothing is `system:anonymous`, refused otherwise; how long \
         after its end a token is taken while the cloud is away",
        &[
            ("plain", Kind::HostPortOrNone),
            ("socket", Kind::Text),
            ("callers", Kind::TextMap),
            ("anonymous", Kind::Switch),
            ("expiryGrace", Kind::Duration),
        ],
    ),
    Run::honoured(
        "edgeTunnel.metaServer",
        "ours: whether the node's API speaks CBOR too, as a kube-apiserver with the gate `CBORServingAndStorage` does",
        &[("cbor", Kind::Switch)],
    ),
    Run::honoured(
        "edgeTunnel.metaServer",
        "ours: what the node takes for the cloud while it is away, beside what is its own: `configmaps`, `shop/configmaps` in one \
         namespace, `recipes.v1.apps.example.com`, each with `cloudWins` or `nodeWins` for what both ends changed. Credentials, roles, \
         leases, nodes, namespaces and what defines the API are never taken",
        &[("offlineWrites", Kind::TextMap)],
    ),
    Run::honoured(
        "featureGates",
        "whether callers of the node's API must show who they are, and are held to the cluster's roles on the node",
        &[("requireAuthorization", Kind::Switch)],
    ),
    Run::named(
        "modules.metaManager",
        Ignored("every answer comes within three seconds, from the cloud or from the node's store"),
        "contextSendGroup contextSendModule remoteQueryTimeout",
    ),
    Run::honoured(
        "edgeTunnel",
        "ours: collections to hold from the first connection on, `resource` or `resource.version.group`; where metrics are served, \
         empty for nowhere",
        &[("prefetch", Kind::Texts), ("metrics", Kind::HostPortOrNone)],
    ),
    Run::honoured(
        "edgeTunnel.admin",
        "ours: the unix socket, for this user only, that `edgecore meta` asks; `edgecore.sock` in `--data-dir` where that is given; \
         empty for none",
        &[("socket", Kind::Text)],
    ),
];

const PARTS: &[Run] = &[
    Run::named(
        "featureGates",
        Ignored(
            "a part that fails is always started again, upgrades are not done here, and volumes are the kubelet's",
        ),
        "moduleRestart disableNodeTaskV1alpha2 disableCSIVolumePlugin",
    ),
    Run::named("", Always("it is KubeEdge's note to itself"), "edgecoreVersion"),
    Run::honoured(
        "modules.eventBus",
        "the MQTT broker of the node's applications: `tcp://host:port`, its user, and the name that it knows this node by (empty: one \
         made of the node's name); without a broker nothing is lost but its messages, and it is tried again",
        &[
            ("enable", Kind::Switch),
            ("mqttServerExternal", Kind::Text),
            ("mqttSubClientID", Kind::Text),
            ("mqttUsername", Kind::Text),
            ("mqttPassword", Kind::Text),
        ],
    ),
    Run::honoured(
        "modules.eventBus",
        "2, or 1: there is no broker inside this program, so 0 is refused; quality of what is published, at least 1 as KubeEdge's \
         client has it; whether the broker keeps documents and deltas for those who come later; messages that wait for the broker; \
         whether the broker is spoken to over TLS (`ssl://host:port`), its CA, and what this node shows it",
        &[
            ("mqttMode", Kind::Whole(0, 2, "a mode")),
            ("mqttQOS", Kind::Whole(0, 2, "a quality of service")),
            ("mqttRetain", Kind::Switch),
            (
                "mqttSessionQueueSize",
                Kind::Whole(1, 65535, "a number of messages"),
            ),
            ("eventBusTLS.enable", Kind::Switch),
            ("eventBusTLS.tlsMqttCAFile", Kind::File),
            ("eventBusTLS.tlsMqttCertFile", Kind::File),
            ("eventBusTLS.tlsMqttPrivateKeyFile", Kind::File),
        ],
    ),
    Run::named(
        "modules.eventBus",
        Ignored("one connection to the broker outside does everything, by the name in mqttSubClientID"),
        "mqttPubClientID mqttServerInternal",
    ),
    Run::honoured(
        "modules.deviceTwin",
        "whether this node keeps twins of the devices that are bound to it; the socket of mappers, or its folder, `dmi.sock` in \
         `--data-dir` where that is given",
        &[("enable", Kind::Switch), ("dmiSockPath", Kind::Text)],
    ),
    Run::named(
        "modules.serviceBus",
        Absent("the cloud's router is not run; programs on the node use its Kubernetes API"),
        "enable server port timeout tlsCertFile tlsPrivateKeyFile",
    ),
    Run::named(
        "modules.edgeStream",
        Absent(
            "kubectl logs, exec and attach are not carried to nodes; reach them by their own network, or log in to the node",
        ),
        "enable tlsTunnelCAFile tlsTunnelCertFile tlsTunnelPrivateKeyFile handshakeTimeout readDeadline server writeDeadline",
    ),
    Run::named(
        "modules.taskManager",
        Absent(
            "a node is not upgraded, and images not pulled ahead, by the cloud; use the tools that install the node",
        ),
        "enable",
    ),
    Run::named("modules.dbTest", Absent("it is a test of KubeEdge's"), "enable"),
];

const EARLIER: &[Run] = &[
    Run::named("modules.edged", Moved("modules.edged.nodeLabels"), "labels"),
    Run::named(
        "modules.edged",
        Moved("modules.edged.tailoredKubeletConfig.registerWithTaints"),
        "taints registerWithTaints",
    ),
    Run::named(
        "modules.edged",
        Moved("modules.edged.tailoredKubeletConfig.registerNode"),
        "registerNode",
    ),
    Run::named(
        "modules.edged",
        Earlier("earlier releases of KubeEdge had them, for its kubelet; let a kubelet run the node's pods"),
        "certDirectory cgroupDriver cgroupRoot cgroupsPerQOS clusterDNS clusterDomain cniBinDir cniCacheDir cniCacheDirs \
         cniConfDir concurrentConsumers containerRuntime devicePluginEnabled dockerAddress dockerEndpoint dockershimRootDirectory \
         edgeCoreCgroups edgedMemoryCapacity enableMetrics exitOnLockContention experimentalCheckNodeCapabilitiesBeforeMount \
         gpuPluginEnabled imageCredentialProviderBinDir imageCredentialProviderConfigFile imageGCHighThreshold imageGCLowThreshold \
         imagePullProgressDeadline interfaceName keepTerminatedPodVolumes kubeConfig kubeletConfigFile lockFilePath \
         masterServiceNamespace maximumDeadContainersPerPod networkPluginMTU networkPluginName nodeStatusUpdateFrequency \
         nonMasqueradeCidr remoteImageEndpoint remoteRuntimeEndpoint runtimeRequestTimeout runtimeType seccompProfileRoot \
         systemCgroups volumeStatsAggPeriod",
    ),
    Run::named(
        "modules.metaManager",
        Earlier("KubeEdge 1.3 to 1.10 had it; the status of a pod is reported when it changes"),
        "podStatusSyncInterval",
    ),
    Run::named(
        "modules.metaManager.metaServer",
        Earlier("KubeEdge 1.6 to 1.8 had it; RUST_LOG=debug tells every request"),
        "debug",
    ),
    Run::named(
        "modules",
        Earlier("KubeEdge 1.3 to 1.7 had it; install EdgeMesh by itself, it uses the node's Kubernetes API"),
        "edgeMesh",
    ),
];
