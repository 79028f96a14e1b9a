//! What ends a hub.

use hub_core::transport::TransportError;

/// The configuration cannot work. The operator's move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit that must be at least one is zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
}

/// The hub stopped serving though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener failed: its socket is gone. Errors of single connections never end a hub.
    #[error("the {transport} listener failed: {source}")]
    Listener {
        /// `websocket`, `quic` or `memory`.
        transport: &'static str,
        /// Why.
        source: TransportError,
    },
    /// The hub is served already, or was.
    #[error("a hub can be served only once")]
    Twice,
}
