//! The limits and times of a [`MetaServer`](crate::MetaServer).

use std::borrow::Cow;
use std::time::Duration;

use crate::auth::AuthConfig;
use crate::write::local::LocalWrites;

/// Whose numbers the resource versions of stored objects are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Revisions {
    /// The store counts for itself, and keeps the cloud's version beside: a node. Versions are translated in writes.
    #[default]
    Local,
    /// The store *is* the cluster: what it serves are the versions, and a write that succeeded is already in it.
    Authoritative,
}

/// Limits and times. The defaults fit a node; each field says what it protects.
#[derive(Debug, Clone)]
pub struct MetaConfig {
    /// Whose numbers the resource versions are.
    pub revisions: Revisions,
    /// The version that `/version` tells, such as `v1.36.2`. Clients enable features by it.
    pub kubernetes_version: String,
    /// Whether CBOR is spoken, as by a kube-apiserver with the gate `CBORServingAndStorage`, which is off there too.
    pub cbor: bool,
    /// Bytes of protobuf that are kept for the next client who wants the same. Protects memory; 0 keeps none.
    pub encoded_bytes_max: usize,
    /// Connections at a time; more wait in the listener's queue. Protects memory and descriptors.
    pub connections_max: usize,
    /// Watches at a time; more are told to come back (429). Protects memory.
    pub watches_max: usize,
    /// Bytes of the head of a request. More ends the connection.
    pub head_bytes_max: usize,
    /// Bytes of a request's body; more is a 413. The default is kube-apiserver's.
    pub body_bytes_max: usize,
    /// How long a client may take for the head of a request.
    pub head_timeout: Duration,
    /// How long a client may leave an answer lying unread before it is cut off. Protects buffers.
    pub stall_timeout: Duration,
    /// How long any request but a watch may take, body included.
    pub request_timeout: Duration,
    /// How long the cloud may take for an answer. Keeps every answer under three seconds.
    pub cloud_timeout: Duration,
    /// After the cloud was found away: how long nobody tries again, and answers come at once.
    pub cloud_pause: Duration,
    /// For how long after the loss of the cloud kubectl is told when to try again, which it then does ten times. After that people
    /// hear at once that something cannot be had.
    pub people_wait: Duration,
    /// How long a watch waits for what it watches to arrive from the cloud; then the client is told to come back.
    pub scope_timeout: Duration,
    /// How long a read of a version that has not come yet waits for it.
    pub version_timeout: Duration,
    /// The life of a watch whose client names no timeout: at least this, at most twice this.
    pub watch_lifetime: Duration,
    /// The pause between the bookmarks of a watch: at least this, at most twice this.
    pub bookmark_interval: Duration,
    /// What this node takes by itself while the cloud is away. Nothing, unless it names the node.
    pub local_writes: LocalWrites,
    /// Group and plural of kinds of which a node has what is its own: devices that the cloud sends it, events that are made here. While
    /// the cloud is away, lists and watches that nobody asked for before are answered with that, and a warning that says so. People are
    /// shown what is held of any kind so.
    pub own_parts: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// Who is let in.
    pub auth: AuthConfig,
    /// How long open requests may take to end once the server has been told to stop.
    pub drain_timeout: Duration,
}

impl Default for MetaConfig {
    fn default() -> Self {
        Self {
            revisions: Revisions::Local,
            kubernetes_version: hub_core::discovery::version::KUBERNETES.into(),
            cbor: false,
            encoded_bytes_max: 16 << 20,
            connections_max: 1024,
            watches_max: 4096,
            head_bytes_max: 64 << 10,
            body_bytes_max: 3 << 20,
            head_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            cloud_timeout: Duration::from_millis(2500),
            cloud_pause: Duration::from_secs(5),
            people_wait: Duration::from_secs(5),
            scope_timeout: Duration::from_secs(20),
            version_timeout: Duration::from_secs(3),
            watch_lifetime: Duration::from_secs(30 * 60),
            bookmark_interval: Duration::from_secs(30),
            local_writes: LocalWrites::default(),
            own_parts: [
                ("devices.kubeedge.io", "devices"),
                ("devices.kubeedge.io", "devicemodels"),
                ("devices.kubeedge.io", "devicestatuses"),
                ("", "events"),
                ("events.k8s.io", "events"),
            ]
            .map(|(group, resource)| (group.into(), resource.into()))
            .to_vec(),
            auth: AuthConfig::default(),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
