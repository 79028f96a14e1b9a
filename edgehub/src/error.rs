//! What can end a hub, and what can keep a report from being kept.

use hub_core::store::JournalError;

use crate::enroll::EnrollError;

/// The hub cannot run. The operator's move: each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nobody to dial.
    #[error("no cloud to connect to; set modules.edgeHub.websocket.server (host:port)")]
    NoEndpoint,
    /// The node cannot get a certificate, and holds nothing that could be served without one.
    #[error("this node cannot join the cloud: {0}")]
    Enroll(#[from] EnrollError),
    /// The certificate does not fit the provider of TLS.
    #[error("the node's certificate cannot be used: {0}; remove its files and enroll again with a token")]
    Tls(String),
    /// The store belongs to another node, or is gone.
    #[error("the store cannot be used: {0}")]
    Store(String),
    /// The session's task ended by itself.
    #[error("the session ended unexpectedly; this is a fault of the program, start it again")]
    Driver,
}

/// The report is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The message cannot be written down.
    #[error("the report cannot be kept: {0}")]
    Encode(#[from] hub_core::codec::EncodeError),
    /// An event needs `metadata.name` and `metadata.namespace`. The caller's move.
    #[error("the event has no name or no namespace")]
    NoEvent,
    /// The journal did not take it.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
