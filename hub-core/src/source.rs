//! How the cloud is doing itself: what it tells the nodes of its API server, so that what they show as fresh is so.
//!
//! One message, [`PATH`], from a cloud to nodes that take it ([`Capabilities::source`](crate::transport::Capabilities)). The newest counts,
//! for the connection that it came on.

use serde::{Deserialize, Serialize};

/// The state of the cluster behind the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceState {
    /// For how many milliseconds it has answered nothing, or only that something is wrong with it. None while all is well.
    pub silent_ms: Option<u64>,
}

/// The resource of the message; its source is that of a [catch-up](crate::catch_up::SOURCE).
pub const PATH: &str = "sync/source";
