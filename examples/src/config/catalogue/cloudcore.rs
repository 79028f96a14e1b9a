//! The keys of `cloudcore.yaml` (KubeEdge `componentconfig/cloudcore/v1alpha1/types.go`, releases 1.3 to 1.23).

use super::Fate::{Absent, Always, Earlier, Ignored};
use super::{Catalogue, Run};
use crate::config::kind::Kind;

pub(super) static CATALOGUE: Catalogue = Catalogue {
    program: "cloudcore",
    kind: "CloudCore",
    default: include_str!("../recorded/cloudcore.default.yaml"),
    min: include_str!("../recorded/cloudcore.min.yaml"),
    ours: OURS,
    runs: &[HUB, CLUSTER, OWN, CONTROLLERS, PARTS, EARLIER],
};

/// The defaults of our own keys, and of KubeEdge's that it does not print.
const OURS: &str = "\
edgeTunnel:
  admin:
    socket: /run/edge-tunnel/cloudcore.sock
  authorization:
    readAllConfigs: false
    readAllPods: true
    unrestrictedRequests: false
  certificates:
    shared: false
  standalone:
    authorize: false
    cbor: false
    dataDir: /var/lib/kubeedge/cluster
    enable: false
    server: 127.0.0.1:10080
    tokens: \"\"
  syncRecords:
    file: \"\"
    mode: file
featureGates:
  requireAuthorization: false
";

const HUB: &[Run] = &[
    Run::honoured(
        "modules.cloudHub",
        "whether nodes are served; how many at once; seconds without any frame of a node, and seconds that it may take nothing, \
         after which its connection is cut (0 s to write: 30)",
        &[
            ("enable", Kind::Switch),
            ("nodeLimit", Kind::Whole(1, i32::MAX, "a number of nodes")),
            (
                "keepaliveInterval",
                Kind::Whole(1, i32::MAX, "a number of seconds"),
            ),
            ("writeTimeout", Kind::Whole(0, i32::MAX, "a number of seconds")),
        ],
    ),
    Run::honoured(
        "modules.cloudHub",
        "the addresses and names that nodes dial; they go into the server's certificate, and at least one is needed",
        &[("advertiseAddress", Kind::Texts), ("dnsNames", Kind::Texts)],
    ),
    Run::honoured(
        "modules.cloudHub",
        "the CA and the server's certificate, made at the first start",
        &[
            ("tlsCAFile", Kind::File),
            ("tlsCAKeyFile", Kind::File),
            ("tlsCertFile", Kind::File),
            ("tlsPrivateKeyFile", Kind::File),
        ],
    ),
    Run::honoured(
        "modules.cloudHub",
        "days that a node's certificate is good, and half the hours that a join token is good",
        &[
            (
                "edgeCertSigningDuration",
                Kind::Whole(1, 100_000, "a number of days"),
            ),
            (
                "tokenRefreshDuration",
                Kind::Whole(1, 1_000_000, "a number of hours"),
            ),
        ],
    ),
    Run::honoured("modules.cloudHub.websocket", "the tunnel over WebSocket", LISTEN),
    Run::honoured("modules.cloudHub.https", "certificates for nodes", LISTEN),
    Run::honoured(
        "modules.cloudHub.quic",
        "the tunnel over QUIC, for our own nodes only: KubeEdge's QUIC is a draft of 2018",
        LISTEN,
    ),
    Run::named(
        "modules.cloudHub.quic",
        Ignored("a node needs one stream here, and the number is fixed"),
        "maxIncomingStreams",
    ),
    Run::named(
        "modules.cloudHub.unixsocket",
        Absent(
            "there is no socket for a CSI driver; volumes of CSI need a KubeEdge cloudcore beside this one",
        ),
        "enable address",
    ),
    Run::named(
        "modules.cloudHub.authorization",
        Ignored(
            "every node is always held to what is its own; the keys of edgeTunnel.authorization open more",
        ),
        "enable debug modes",
    ),
];

/// What each listener takes. An empty address is every address, port 0 any free port.
const LISTEN: &[(&str, Kind)] = &[
    ("enable", Kind::Switch),
    ("address", Kind::IpOrNone),
    ("port", Kind::Whole(0, 65_535, "a port")),
];

const CLUSTER: &[Run] = &[
    Run::honoured(
        "",
        "which program the file is for; any version is read",
        &[("apiVersion", Kind::Text), ("kind", Kind::Program("CloudCore"))],
    ),
    Run::honoured(
        "kubeAPIConfig",
        "the Kubernetes API server, where the embedded cluster is not used; both empty: the one of the pod's service account",
        &[("master", Kind::Text), ("kubeConfig", Kind::FileThatIs)],
    ),
    Run::honoured(
        "kubeAPIConfig",
        "requests a second to that API server, over all nodes, and how many may go at once after a quiet time; 0 requests a second: as \
         many as 128 at once allow. Watches and lists are not counted",
        &[
            ("qps", Kind::Whole(0, i32::MAX, "a number of requests")),
            ("burst", Kind::Whole(0, i32::MAX, "a number of requests")),
        ],
    ),
    Run::named(
        "kubeAPIConfig",
        Ignored("objects are taken as JSON"),
        "contentType",
    ),
    Run::honoured(
        "commonConfig.monitorServer",
        "where metrics are served; empty for nowhere",
        &[("bindAddress", Kind::HostPortOrNone)],
    ),
    Run::named(
        "commonConfig.monitorServer",
        Ignored("there is no profile of Go's to serve; use perf"),
        "enableProfiling",
    ),
];

const OWN: &[Run] = &[
    Run::honoured(
        "edgeTunnel.standalone",
        "ours: the embedded cluster in place of Kubernetes (also --standalone), where its objects are kept, and where its API is \
         served, plain HTTP unless callers are asked who they are",
        &[
            ("enable", Kind::Switch),
            ("dataDir", Kind::File),
            ("server", Kind::HostPort),
        ],
    ),
    Run::honoured(
        "edgeTunnel.admin",
        "ours: the unix socket, for this user only, that `cloudcore nodes` asks; `cloudcore.sock` in `--data-dir` where that is given; \
         empty for none",
        &[("socket", Kind::Text)],
    ),
    Run::honoured(
        "edgeTunnel.certificates",
        "ours: whether CA, server certificate and token are in the Secrets of namespace `kubeedge` that instances share, Go ones too, \
         and not only in the files",
        &[("shared", Kind::Switch)],
    ),
    Run::honoured(
        "edgeTunnel.standalone",
        "ours: whether the embedded cluster's API speaks CBOR too, as a kube-apiserver with the gate `CBORServingAndStorage` does",
        &[("cbor", Kind::Switch)],
    ),
    Run::honoured(
        "edgeTunnel.standalone",
        "ours: whether callers of the embedded cluster's API must show who they are and are held to its roles: then it is HTTPS, \
         takes certificates of `modules.cloudHub.tlsCaFile` and tokens of its service accounts, and those of a file with a line \
         `token,user,uid,\"groups\"` each; empty for none",
        &[("authorize", Kind::Switch), ("tokens", Kind::FileThatIs)],
    ),
    Run::honoured(
        "edgeTunnel.authorization",
        "ours: whether a node reads all ConfigMaps and Secrets, not only those that its pods use; whether it reads the pods \
         of other nodes, as agents with network policies do; whether what a metaServer asks is \
         done unasked, as by a KubeEdge without `authorization`, and not only what the rules for nodes or a role bound to \
         `system:nodes` allow",
        &[
            ("readAllConfigs", Kind::Switch),
            ("readAllPods", Kind::Switch),
            ("unrestrictedRequests", Kind::Switch),
        ],
    ),
    Run::honoured(
        "edgeTunnel.syncRecords",
        "ours: where it is remembered what stock edges hold: `file` (empty: `sync-records.db` in `edgeTunnel.standalone.dataDir`), \
         `objectSync` in the cluster, beside a Go cloudcore, or `memory` until the process ends",
        &[("mode", Kind::Text), ("file", Kind::Text)],
    ),
];

const CONTROLLERS: &[Run] = &[
    Run::named(
        "modules.edgeController",
        Always("pods, nodes and their configuration are always served"),
        "enable",
    ),
    Run::named(
        "modules.edgeController",
        Ignored("the status of a node is written when it comes"),
        "nodeUpdateFrequency",
    ),
    Run::named(
        "modules.edgeController.buffer",
        Ignored(QUEUES),
        "processEvent updatePodStatus updateNodeStatus queryConfigMap querySecret podEvent configMapEvent secretEvent rulesEvent \
         ruleEndpointsEvent queryPersistentVolume queryPersistentVolumeClaim queryVolumeAttachment createNode patchNode queryNode \
         updateNode patchPod deletePod createLease queryLease serviceAccountToken createPod certificateSigningRequest",
    ),
    Run::named(
        "modules.edgeController.load",
        Ignored(QUEUES),
        "processEventWorkers updatePodStatusWorkers updateNodeStatusWorkers queryConfigMapWorkers querySecretWorkers \
         queryPersistentVolumeWorkers queryPersistentVolumeClaimWorkers queryVolumeAttachmentWorkers createNodeWorkers \
         patchNodeWorkers queryNodeWorkers updateNodeWorkers patchPodWorkers deletePodWorkers createLeaseWorkers queryLeaseWorkers \
         UpdateRuleStatusWorkers ServiceAccountTokenWorkers CreatePodWorks certificateSigningRequestWorkers",
    ),
    Run::named(
        "modules.deviceController",
        Always("devices and their models are served where the cluster has them"),
        "enable",
    ),
    Run::named(
        "modules.deviceController.buffer",
        Ignored(QUEUES),
        "updateDeviceTwins updateDeviceStatus deviceEvent deviceModelEvent deviceStatusEvent",
    ),
    Run::named(
        "modules.deviceController.load",
        Ignored(QUEUES),
        "updateDeviceStatusWorkers",
    ),
    Run::named(
        "modules.syncController",
        Always("what a node missed is always made good"),
        "enable",
    ),
    Run::named(
        "modules.dynamicController",
        Always("the metaServers of nodes are always served"),
        "enable",
    ),
];

const QUEUES: &str = "queues and tasks follow what is under way, each with a limit of its own";

const PARTS: &[Run] = &[
    Run::honoured(
        "featureGates",
        "whether ServiceAccountAccess objects (`examples/kubernetes/crds`) are kept, and told to the nodes",
        &[("requireAuthorization", Kind::Switch)],
    ),
    Run::named(
        "featureGates",
        Ignored("modules are not restarted one by one, and nodes are not upgraded here"),
        "moduleRestart disableNodeTaskV1alpha2",
    ),
    Run::named(
        "commonConfig",
        Ignored("kubectl logs, exec and attach are not carried to nodes"),
        "tunnelPort",
    ),
    Run::named(
        "modules.cloudStream",
        Absent(
            "kubectl logs, exec and attach are not carried to nodes; reach them by their own network, or log in to the node",
        ),
        "enable tlsTunnelCAFile tlsTunnelCertFile tlsTunnelPrivateKeyFile tunnelPort tlsStreamCAFile tlsStreamCertFile \
         tlsStreamPrivateKeyFile streamPort",
    ),
    Run::named(
        "modules.iptablesManager",
        Absent("without CloudStream there is nothing to redirect"),
        "enable mode",
    ),
    Run::named(
        "modules.router",
        Absent(
            "rules between the cloud's REST, the nodes' MQTT and their services are not run; use the nodes' Kubernetes API",
        ),
        "enable address port restTimeout",
    ),
    Run::named(
        "modules.taskManager",
        Absent(
            "nodes are not upgraded, and images not pulled ahead, from here; use the tools that install the nodes",
        ),
        "enable buffer.taskStatus buffer.taskEvent load.taskWorkers",
    ),
];

const EARLIER: &[Run] = &[
    Run::named(
        "",
        Earlier("KubeEdge 1.3 to 1.6 had it; all instances are active"),
        "leaderelection",
    ),
    Run::named("modules.edgeController.context", Earlier(CONTEXT), MODULES),
    Run::named("modules.deviceController.context", Earlier(CONTEXT), MODULES),
    Run::named(
        "modules.edgeController.buffer",
        Earlier(
            "KubeEdge 1.3 to 1.12 had them; services and endpoints reach nodes through their Kubernetes API",
        ),
        "endpointsEvent queryEndpoints queryService serviceEvent",
    ),
    Run::named(
        "modules.edgeController.load",
        Earlier(
            "KubeEdge 1.3 to 1.12 had them; services and endpoints reach nodes through their Kubernetes API",
        ),
        "queryEndpointsWorkers queryServiceWorkers",
    ),
    Run::named(
        "modules",
        Earlier(
            "KubeEdge 1.12 to 1.15 had them; nodes are not upgraded, and images not pulled ahead, from here",
        ),
        "nodeUpgradeJobController imagePrePullController",
    ),
];

const CONTEXT: &str = "KubeEdge 1.3 to 1.10 had them; messages find their way by themselves";
const MODULES: &str = "receiveModule responseModule sendModule sendRouterModule";
