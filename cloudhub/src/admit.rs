//! A connection becomes a node: a certificate, a name, a place. Or it hears why not, before it is a connection.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use hub_core::node::NodeId;
use hub_core::service::Handler;
use hub_core::transport::{ConnectRequest, Incoming, Listener, Peer, Rejection, TransportError};

use crate::complaints::Complaints;
use crate::config::CloudHubConfig;
use crate::metrics::HubMetrics;
use crate::sessions::Sessions;

/// Admits the connections of all listeners.
pub(crate) struct Admit {
    pub(crate) config: Arc<CloudHubConfig>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) handler: Arc<Handler>,
    pub(crate) metrics: Arc<HubMetrics>,
    pub(crate) complaints: Arc<Complaints>,
    /// Places for handshakes. While there is none, nothing is accepted: the kernel's backlog holds the rest.
    pub(crate) handshakes: Arc<Semaphore>,
}

impl Admit {
    /// Accepts until the listener fails.
    pub(crate) async fn accept(self: Arc<Self>, mut listener: Box<dyn Listener>) -> TransportError {
        loop {
            let Ok(place) = self.handshakes.clone().acquire_owned().await else {
                return std::future::pending().await;
            };
            match listener.accept().await {
                Err(error) => return error,
                Ok(incoming) => {
                    let admit = self.clone();
                    tokio::spawn(async move {
                        let deadline = admit.config.handshake_deadline;
                        if tokio::time::timeout(deadline, admit.admit(incoming))
                            .await
                            .is_err()
                        {
                            admit.metrics.rejected("timeout");
                            tracing::debug!("a peer took too long for its handshake");
                        }
                        drop(place);
                    });
                }
            }
        }
    }

    async fn admit(&self, incoming: Box<dyn Incoming>) {
        let started = Instant::now();
        let upgrade = match incoming.handshake().await {
            Ok(upgrade) => upgrade,
            Err(error) => {
                self.metrics.rejected("handshake");
                tracing::debug!(%error, "a handshake failed");
                return;
            }
        };
        let node = match identify(upgrade.request(), upgrade.peer()) {
            Ok(node) => node,
            Err((reason, rejection)) => {
                self.metrics.rejected(reason);
                let peer = upgrade.peer();
                let claimed: String = upgrade.request().node_id.chars().take(64).collect();
                if self.complaints.is_new(&claimed, reason) {
                    tracing::warn!(node = claimed, address = ?peer.address, common_name = ?peer.common_name, rejection.reason, "connection refused");
                }
                return upgrade.reject(rejection).await;
            }
        };
        let Ok(place) = self.sessions.admit(&node) else {
            self.metrics.rejected("node_limit");
            if self.complaints.is_new(node.as_str(), "node_limit") {
                tracing::warn!(%node, limit = self.config.node_limit, "connection refused: the node limit is reached; raise nodeLimit or add an instance");
            }
            let rejection = Rejection {
                code: 503,
                reason: format!(
                    "this hub serves {} nodes at most; come back later",
                    self.config.node_limit
                ),
                retry_after_seconds: Some(self.config.retry_after_seconds),
            };
            return upgrade.reject(rejection).await;
        };
        let capabilities = self.config.capabilities.common(upgrade.request().capabilities);
        match upgrade.accept(capabilities).await {
            Ok(transport) => {
                self.metrics
                    .handshake_seconds
                    .observe(started.elapsed().as_secs_f64());
                self.sessions.join(place, transport, &self.handler).await;
            }
            Err(error) => {
                self.metrics.rejected("handshake");
                tracing::debug!(%node, %error, "a connection failed before it was one");
            }
        }
    }
}

/// Which node this is: what its certificate says, and its header says the same.
fn identify(request: &ConnectRequest, peer: &Peer) -> Result<NodeId, (&'static str, Rejection)> {
    let refuse = |code, metric, reason: String| {
        (
            metric,
            Rejection {
                code,
                reason,
                retry_after_seconds: None,
            },
        )
    };
    if &*request.connection_use != "msg" {
        let reason = "header ConnectionUse must be msg: nothing else is served here".to_owned();
        return Err(refuse(400, "connection_use", reason));
    }
    let Some(common_name) = peer.common_name.as_deref() else {
        let reason = "no client certificate: join this node again with a token".to_owned();
        return Err(refuse(403, "identity", reason));
    };
    let Some(node) = NodeId::from_common_name(common_name) else {
        let reason = format!(
            "the certificate is for {common_name:?}, not for a node (system:node:<name>): join this node again with a token"
        );
        return Err(refuse(403, "identity", reason));
    };
    if request.node_id.is_empty() {
        let reason = "header Node_id is missing: a proxy on the way may drop headers with an underscore; let TLS pass through it".to_owned();
        return Err(refuse(403, "identity", reason));
    }
    if &*request.node_id != node.as_str() {
        let reason = format!(
            "the certificate is for node {node}, the header Node_id says {:?}: set the node name to {node}, or join again under the other name",
            &*request.node_id
        );
        return Err(refuse(403, "identity", reason));
    }
    Ok(node)
}
