//! The limits and choices of a [`KubeCluster`](super::KubeCluster). Everything that can grow is named here.

use std::time::Duration;

use hub_core::backoff::Backoff;

/// How a [`KubeCluster`](super::KubeCluster) treats its API server.
#[derive(Debug, Clone)]
pub struct KubeClusterConfig {
    /// Requests a second, watches and lists left out (KubeEdge `kubeAPIConfig.qps`). 1,000 nodes renew 100 leases a second.
    pub queries_per_second: u32,
    /// Requests that may go out at once after a quiet time (KubeEdge `kubeAPIConfig.burst`).
    pub burst: u32,
    /// Requests under way at once. Each takes a connection.
    pub concurrency: usize,
    /// Requests that may wait for their turn. One more is told that there are too many.
    pub waiting_max: usize,
    /// How long a connection may take to be made.
    pub connect_deadline: Duration,
    /// How long a request may take, its waiting included.
    pub request_deadline: Duration,
    /// Bytes of one answer.
    pub answer_bytes_max: usize,
    /// How often a request is put again that the server was too busy for (429).
    pub busy_retries_max: u32,
    /// How long after its return a server's 403 is no denial. One that starts answers before it has read its roles, and forbids
    /// everything to everybody; who believed it would forget what nodes report.
    pub settling: Duration,
    /// The pause after a failure of a watch, and before a request is put again where the server names no time.
    pub backoff: Backoff,
    /// Watches held at the API server at once, over all resources.
    pub watches_max: usize,
    /// Watches of parts of one resource at once. Where more parts are wanted, all of the resource is watched in their place.
    pub narrow_watches_max: usize,
    /// How long a watch is kept that nobody reads.
    pub watch_linger: Duration,
    /// How long the server is asked to keep a watch open. A connection that died unseen is noticed a little later than this.
    pub watch_duration: Duration,
    /// How long a streaming list may be silent before its end. A server whose store tells of no progress, as that of some K3s, may never
    /// end one; then pages are asked for.
    pub stream_patience: Duration,
    /// Objects asked for in one page of a list.
    pub page_objects: u32,
    /// Bytes of one page of a list. Where they do not suffice, smaller pages are asked for.
    pub page_bytes_max: usize,
    /// Bytes of one object, as a watch sends it.
    pub object_bytes_max: usize,
    /// Changes kept for readers that are slower than the server. Who falls behind more begins again.
    pub history_max: usize,
    /// Bytes of former states of objects that these changes may keep, for each watch.
    pub history_bytes_max: usize,
    /// How often the files that the credentials come from are looked at where nothing tells that they changed.
    pub credentials_interval: Duration,
    /// How long after that they are not looked at again, whoever is refused.
    pub credentials_pause: Duration,
    /// How often the kinds of the cluster are looked up where nothing tells that they changed.
    pub discovery_interval: Duration,
}

impl Default for KubeClusterConfig {
    fn default() -> Self {
        Self {
            queries_per_second: 1000,
            burst: 2000,
            concurrency: 128,
            waiting_max: 8192,
            connect_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(30),
            answer_bytes_max: 64 << 20,
            busy_retries_max: 3,
            settling: Duration::from_secs(10),
            backoff: Backoff {
                first: Duration::from_millis(250),
                max: Duration::from_secs(30),
            },
            watches_max: 1024,
            narrow_watches_max: 16,
            watch_linger: Duration::from_secs(60),
            watch_duration: Duration::from_secs(240),
            stream_patience: Duration::from_secs(5),
            page_objects: 500,
            page_bytes_max: 64 << 20,
            object_bytes_max: 8 << 20,
            history_max: 1024,
            history_bytes_max: 16 << 20,
            credentials_interval: Duration::from_secs(60),
            credentials_pause: Duration::from_secs(2),
            discovery_interval: Duration::from_secs(300),
        }
    }
}
