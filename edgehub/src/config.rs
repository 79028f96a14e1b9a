//! What an EdgeHub needs to know, with KubeEdge's defaults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_core::backoff::Backoff;
use hub_core::node::NodeId;
use hub_core::object::GroupVersionResource;
use hub_core::scope::Scope;
use hub_core::service::ServiceConfig;
use hub_core::session::{KeepaliveConfig, SessionConfig};
use hub_core::transport::{Capabilities, ConnectRequest, Endpoint};

use crate::doubt::MassDeletion;
use crate::enroll::{EnrollConfig, RenewalConfig};
use crate::token::TokenConfig;

/// An EdgeHub's settings and limits. The names in the comments are those of KubeEdge's `edgecore.yaml`, `modules.edgeHub`.
#[derive(Debug, Clone)]
pub struct EdgeHubConfig {
    /// Who this is (`modules.edged.hostnameOverride`).
    pub node: NodeId,
    /// `projectID`.
    pub project_id: Arc<str>,
    /// `websocket.server`: tried in turn.
    pub websocket: Vec<Endpoint>,
    /// `quic.server`: tried in turn. Only our own clouds speak it.
    pub quic: Vec<Endpoint>,
    /// Which transport is tried first; the other is the fallback.
    pub prefer: TransportConfig,
    /// How the node gets its certificate: `httpServer`, `token`, `tlsCaFile`, `tlsCertFile`, `tlsPrivateKeyFile`.
    pub enroll: EnrollConfig,
    /// `rotateCertificates`: renew the certificate before it ends.
    pub rotate: bool,
    /// When to renew.
    pub renewal: RenewalConfig,
    /// How often a certificate is looked for in its files while there is none that is good, and only a person can help.
    pub identity_retry: Duration,
    /// The version of the software on this node, told to clouds of ours when it connects: for people.
    pub version: String,
    /// What is offered to the cloud; a stock cloud takes none of it.
    pub capabilities: Capabilities,
    /// The limits of the session. `heartbeat` is in its `keepalive`.
    pub session: SessionConfig,
    /// `writeDeadline`: how long the cloud may take nothing while there is something to send.
    pub write_deadline: Duration,
    /// `handshakeTimeout`: for connecting, TLS and the greeting included.
    pub handshake_timeout: Duration,
    /// The pauses between dials.
    pub backoff: Backoff,
    /// The pause after the cloud refused this node (403): only a person can change that.
    pub refused_pause: Duration,
    /// The limits of the handlers of what comes down.
    pub service: ServiceConfig,
    /// Scopes that are held from the start, beside this node and its pods. CustomResourceDefinitions are always among them.
    pub prefetch: Vec<Scope>,
    /// How long a write of the node's clients may take in the cloud (KubeEdge: 10 s).
    pub write_timeout: Duration,
    /// How long a read may take. A metaServer answers within 3 s whatever happens.
    pub read_timeout: Duration,
    /// Requests of the node's clients under way at once; one more is refused as overloaded.
    pub requests_max: usize,
    /// Journal entries under way at once.
    pub replay_window: usize,
    /// Towards a stock cloud: how often scopes are listed, to find what its watches lost. Each pause is between half of this and all.
    pub relist: Duration,
    /// Towards a stock cloud: how long a list may take.
    pub list_timeout: Duration,
    /// When what a catch-up or a list deletes is too much to be believed at once.
    pub mass_deletion: MassDeletion,
    /// How long a step of the catch-up may take.
    pub catch_up_timeout: Duration,
    /// Towards a stock cloud: how long it may say nothing at all on a new connection while it is asked, before the connection counts
    /// as rejected. A stock cloud leaves the connections of nodes that it rejects open.
    pub deaf_after: Duration,
    /// How the tokens of the service accounts of the node's pods are kept.
    pub tokens: TokenConfig,
    /// Speaks for this node where no kubelet does: registers it, renews its lease, reports it ready. None where one does.
    pub agent: Option<NodeAgentConfig>,
}

/// Which transport to prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportConfig {
    /// WebSocket over TLS; every cloud has it.
    #[default]
    WebSocket,
    /// QUIC; our own clouds have it.
    Quic,
}

/// How the node agent speaks for the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAgentConfig {
    /// Labels beside those that every edge node has.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints that it registers with (`modules.edged.taints`). A node that exists keeps those that it has.
    pub taints: Vec<Taint>,
    /// The addresses of its pods, such as `10.244.7.0/24` (`modules.edged.podCIDR`). None where the cloud assigns them.
    pub pod_cidr: Option<String>,
    /// Whether the node takes pods from the beginning (`modules.edged.registerSchedulable`).
    pub schedulable: bool,
    /// The node's address inside its site, if it should have one.
    pub internal_ip: Option<String>,
    /// How many pods it would take.
    pub pods: u32,
    /// How often the lease is renewed (Kubernetes: 10 s).
    pub lease_interval: Duration,
    /// How long the lease is good (Kubernetes: 40 s).
    pub lease_duration: Duration,
    /// How often the status is reported though nothing changed (Kubernetes: 5 min).
    pub status_interval: Duration,
    /// What the node says it runs.
    pub version: String,
    /// When a node that was deleted in the cluster, and still runs, registers again; None for never. KubeEdge's does so only after
    /// its program was started again. A stock cloud takes some seconds to forget a node, and would forget the new one with it.
    pub register_again: Option<Duration>,
}

/// What keeps pods away that do not tolerate it (`v1.Taint`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// `key`.
    pub key: String,
    /// `value`; may be empty.
    pub value: String,
    /// `effect`: `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl EdgeHubConfig {
    /// A node with KubeEdge's defaults and without endpoints.
    pub fn new(node: NodeId) -> Self {
        Self {
            project_id: ConnectRequest::DEFAULT_PROJECT.into(),
            websocket: Vec::new(),
            quic: Vec::new(),
            prefer: TransportConfig::default(),
            enroll: EnrollConfig::new(node.clone(), Vec::new()),
            rotate: true,
            renewal: RenewalConfig::default(),
            identity_retry: Duration::from_secs(30),
            version: VERSION.into(),
            capabilities: Capabilities::ALL,
            session: SessionConfig::edge(),
            write_deadline: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(30),
            backoff: Backoff {
                first: Duration::from_millis(500),
                max: Duration::from_secs(30),
            },
            refused_pause: Duration::from_secs(60),
            service: ServiceConfig::default(),
            prefetch: Vec::new(),
            write_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_millis(2500),
            requests_max: 256,
            replay_window: 256,
            relist: Duration::from_secs(300),
            list_timeout: Duration::from_secs(30),
            mass_deletion: MassDeletion::default(),
            catch_up_timeout: Duration::from_secs(30),
            deaf_after: Duration::from_secs(60),
            tokens: TokenConfig::default(),
            agent: None,
            node,
        }
    }

    /// The same with another `heartbeat` (KubeEdge: 15 s). Silence of 2⅔ heartbeats is death.
    #[must_use]
    pub fn with_heartbeat(mut self, interval: Duration) -> Self {
        self.session.keepalive = KeepaliveConfig::Send {
            interval,
            silence_max: interval * 8 / 3,
        };
        self
    }

    /// What every node holds: itself, and the pods that are its own. The cloud sends them unasked.
    pub(crate) fn own_scopes(&self) -> [Scope; 2] {
        let pods = Scope {
            fields: format!("spec.nodeName={}", self.node).into(),
            ..Scope::all(GroupVersionResource::core("pods"))
        };
        let node = Scope {
            name: Some(self.node.as_str().into()),
            ..Scope::all(GroupVersionResource::core("nodes"))
        };
        [node, pods]
    }

    /// What is asked for from the start. Definitions come first: the kinds of other objects are known by them.
    pub(crate) fn prefetched(&self) -> Vec<Scope> {
        let definitions =
            GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let mut scopes = vec![Scope::all(definitions)];
        scopes.extend(self.prefetch.iter().cloned());
        scopes
    }
}

impl Default for NodeAgentConfig {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            pod_cidr: None,
            schedulable: true,
            internal_ip: None,
            pods: 110,
            lease_interval: Duration::from_secs(10),
            lease_duration: Duration::from_secs(40),
            status_interval: Duration::from_secs(300),
            version: VERSION.into(),
            register_again: Some(Duration::from_secs(30)),
        }
    }
}

/// What this library calls itself.
const VERSION: &str = concat!("edgehub-v", env!("CARGO_PKG_VERSION"));
