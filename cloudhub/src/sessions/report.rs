//! What a person who looks for the node that hangs wants to know of each.

use std::net::SocketAddr;
use std::time::SystemTime;

use hub_core::node::NodeId;
use hub_core::session::Condition;
use hub_core::transport::Capabilities;

/// A node that has a session: one that is connected, or that was a moment ago.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeId,
    /// Whether it has a connection.
    pub is_connected: bool,
    /// Since when it has one, or has none.
    pub since: SystemTime,
    /// Where it connected from.
    pub address: Option<SocketAddr>,
    /// `websocket`, `quic` or `memory`; None without a connection.
    pub transport: Option<&'static str>,
    /// What both ends can do; nothing, for a stock KubeEdge edge. None without a connection.
    pub capabilities: Option<Capabilities>,
    /// The last thing that went wrong in this session.
    pub trouble: Option<Trouble>,
    /// How its session is doing. None where the session gave no answer within the time of
    /// [`CloudHub::report`](crate::CloudHub::report): it is over, or it hangs.
    pub condition: Option<Condition>,
}

/// Something went wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// When.
    pub at: SystemTime,
    /// What, in one short line. Of what the peer said, only what can be shown on a terminal.
    pub what: String,
}

impl Trouble {
    pub(super) fn now(what: &str) -> Self {
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        Self {
            at: SystemTime::now(),
            what: what.chars().take(TROUBLE_MAX).map(shown).collect(),
        }
    }
}

/// Characters that are kept of what went wrong.
const TROUBLE_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_kept_short_and_moves_no_cursor() {
        let trouble = Trouble::now(&format!("no\u{1b}[2J\n{}", "x".repeat(1000)));
        assert!(trouble.what.starts_with("no [2J x"));
        assert_eq!(trouble.what.len(), TROUBLE_MAX);
    }
}
