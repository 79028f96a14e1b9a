//! The limits and choices of a cloud hub. Everything that can grow is named here.

use std::sync::Arc;
use std::time::Duration;

use hub_core::driver::DriverConfig;
use hub_core::service::ServiceConfig;
use hub_core::session::SessionConfig;
use hub_core::transport::Capabilities;

/// How a [`CloudHub`](crate::CloudHub) behaves. The defaults are KubeEdge's where it has the setting.
#[derive(Debug, Clone)]
pub struct CloudHubConfig {
    /// Nodes with a session at once (KubeEdge `modules.cloudHub.nodeLimit`). One more is told to come back later.
    pub node_limit: usize,
    /// How long a peer may take for TLS and its request.
    pub handshake_deadline: Duration,
    /// Handshakes at once. More connections wait in the listener, so that live nodes keep their share of the processor.
    pub handshakes_max: usize,
    /// After how many seconds a refused node is asked to try again.
    pub retry_after_seconds: u32,
    /// How long a session is kept after its connection is gone. A node that returns in time is sent only what it lacks.
    pub linger: Duration,
    /// How long a hub that stops still takes nodes, while it is no longer ready: until load balancers know.
    pub drain_notice: Duration,
    /// How many nodes a second a hub that stops sends away, so that they do not fall on the others all at once.
    pub drain_pace: u32,
    /// The longest time over which nodes are sent away, whatever the pace.
    pub drain_spread: Duration,
    /// How long nodes may take to hear that the hub stops, after the last was told.
    pub drain: Duration,
    /// The limits of each session and its driver.
    pub driver: DriverConfig,
    /// The limits of the handlers of inbound messages.
    pub service: ServiceConfig,
    /// What is offered to peers of our own kind.
    pub capabilities: Capabilities,
    /// When our own edges are told that the cluster is silent.
    pub source: SourceConfig,
    /// What goes down to the nodes.
    pub downstream: DownstreamConfig,
    /// What nodes may do.
    pub authorization: AuthorizationConfig,
    /// The address of this instance, written into the annotation `cloudcore` of a node that registers or connects, as KubeEdge does
    /// for its router. None writes nothing.
    pub instance_address: Option<Arc<str>>,
    /// What tells this hub from others that serve the same cluster; no two at once may have the same. It is written into the annotation
    /// [`CONNECTION`](crate::CONNECTION) of each node that connects, so that the newest connection wins over all of them. None where this
    /// hub is the only one.
    pub instance: Option<Arc<str>>,
    /// The certificate of the cluster's own authority, PEM, for nodes that ask for it. None looks for the ConfigMap
    /// `kube-root-ca.crt` in the cluster.
    pub cluster_ca: Option<Arc<str>>,
}

/// When the cluster counts as silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceConfig {
    /// How often it is looked at.
    pub look_every: Duration,
    /// So long it must have answered nothing, or only that something is wrong with it.
    pub silent_after: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(1),
            silent_after: Duration::from_secs(5),
        }
    }
}

impl Default for CloudHubConfig {
    fn default() -> Self {
        Self {
            node_limit: 1000,
            handshake_deadline: Duration::from_secs(10),
            handshakes_max: 256,
            retry_after_seconds: 30,
            linger: Duration::from_secs(60),
            drain_notice: Duration::ZERO,
            drain_pace: 500,
            drain_spread: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            driver: DriverConfig::new(SessionConfig::cloud()),
            service: ServiceConfig::default(),
            capabilities: Capabilities::ALL,
            source: SourceConfig::default(),
            downstream: DownstreamConfig::default(),
            authorization: AuthorizationConfig::default(),
            instance_address: None,
            instance: None,
            cluster_ca: None,
        }
    }
}

/// The limits of what is watched and sent down.
#[derive(Debug, Clone)]
pub struct DownstreamConfig {
    /// Questions and orders that may wait for the task that knows what each node needs.
    pub commands_max: usize,
    /// Messages handed to a session at once.
    pub batch: usize,
    /// Scopes that one node may subscribe to.
    pub scopes_per_node_max: usize,
    /// Scopes watched in the cluster at once, over all nodes. As many watches are remembered for stock edges that are away.
    pub scopes_max: usize,
    /// How long a scope that nobody wants is still watched, so that a node that returns finds it warm.
    pub scope_linger: Duration,
    /// How long a catch-up waits for scopes that the cluster has not listed yet.
    pub sync_wait: Duration,
    /// How long a new pod waits for ConfigMaps and Secrets that it references and that are not known yet.
    pub dependency_wait: Duration,
    /// How long the sync records of a stock edge may take to be read. After this it is sent everything, and they are read again.
    pub recall_wait: Duration,
    /// Where several hubs serve the cluster: how long after a stock edge came its records are read once more, as what the hub that had it
    /// before wrote last may not have been known here.
    pub recall_again: Duration,
    /// How long a stock edge waits for an object that it never had, until it is on record that it is sent.
    pub intent_wait: Duration,
    /// How long a returning stock edge keeps pods, ConfigMaps and Secrets that it needs no more, as a watch may still ask for them.
    /// Over at once when it says which watches it has.
    pub surplus_wait: Duration,
    /// How long the answer to a stock edge's watch waits until the edge has what was there when it began. A Go metaServer gives up after
    /// 10 s.
    pub grant_wait: Duration,
    /// How long the lists are remembered that clients of a stock edge were shown, so that they hear of what is deleted before their
    /// watch begins.
    pub listed_for: Duration,
    /// How many bytes of such lists are remembered for a node; older ones go first. Of a list longer than this, only the names.
    pub listed_bytes_max: usize,
    /// How long after a stock edge's watch was granted its client surely listens to it.
    pub listed_pause: Duration,
    /// The pause after a node's outbox was full.
    pub full_pause: Duration,
    /// After a catch-up: of how many objects the node's content is remembered (as a hash), so that their next version can travel as
    /// a difference. Protects the memory of idle nodes.
    pub assume_held_max: usize,
    /// Whether nodes are told what the service accounts of their pods may do: ServiceAccountAccess objects, as with KubeEdge's feature
    /// gate `requireAuthorization`.
    pub policy: bool,
}

impl Default for DownstreamConfig {
    fn default() -> Self {
        Self {
            commands_max: 1024,
            batch: 64,
            scopes_per_node_max: 256,
            scopes_max: 4096,
            scope_linger: Duration::from_secs(60),
            sync_wait: Duration::from_secs(10),
            dependency_wait: Duration::from_millis(500),
            recall_wait: Duration::from_secs(10),
            recall_again: Duration::from_secs(5),
            intent_wait: Duration::from_secs(2),
            surplus_wait: Duration::from_secs(30),
            grant_wait: Duration::from_secs(3),
            listed_for: Duration::from_secs(300),
            listed_bytes_max: 1024 * 1024,
            listed_pause: Duration::from_secs(1),
            full_pause: Duration::from_millis(500),
            assume_held_max: 256,
            policy: false,
        }
    }
}

/// What nodes may do beyond what every node may.
#[derive(Debug, Clone)]
pub struct AuthorizationConfig {
    /// API groups whose objects the agents on a node may write, such as a network plugin's.
    pub write_groups: Vec<Arc<str>>,
    /// Whether nodes may read all ConfigMaps and Secrets, not only those that their pods reference.
    pub read_all_configs: bool,
    /// Whether nodes may read the pods of other nodes, as agents do that make network policies. Without it a node reads the pods that are
    /// bound to it, as since Kubernetes 1.32.
    pub read_all_pods: bool,
    /// Whether the requests of metaServers are executed without asking what a node may do, as KubeEdge's cloudcore does unless its
    /// `authorization` is enabled. Whoever holds a node's certificate then may do all that cloudcore may.
    pub unrestricted_requests: bool,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        let groups = ["cilium.io", "crd.projectcalico.org", "projectcalico.org"];
        Self {
            write_groups: groups.map(Into::into).to_vec(),
            read_all_configs: false,
            read_all_pods: true,
            unrestricted_requests: false,
        }
    }
}
