//! What a person who looks for the node that hangs wants to know of each.

use std::net::SocketAddr;
use std::time::SystemTime;

use hub_core::node::NodeId;
use hub_core::object::Object;
use hub_core::session::Condition;
use hub_core::transport::Capabilities;
use serde::Deserialize;

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
    /// The version of its software: what it said when it connected, as our edges do, or else what its Node says in
    /// `status.nodeInfo.kubeletVersion`. KubeEdge's edges write there
    /// `v1.32.10-kubeedge-v1.23.0`, ours `edgehub-v0.1.0`. None where that is not known, or nobody registered it.
    pub version: Option<String>,
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

/// What a Node says of its version; only what can be shown on a terminal.
pub(super) fn version(node: &Object) -> Option<String> {
    #[derive(Deserialize)]
    struct Node {
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        node_info: Info,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        kubelet_version: String,
    }
    let Node { status } = serde_json::from_slice(&node.body).ok()?;
    let shown = status.node_info.kubelet_version;
    let shown: String = shown
        .chars()
        .filter(|c| !c.is_control())
        .take(VERSION_MAX)
        .collect();
    (!shown.is_empty()).then_some(shown)
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

/// Characters of a version.
const VERSION_MAX: usize = 60;
/// Characters that are kept of what went wrong.
const TROUBLE_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_the_node_says_of_itself() {
        let node = |body: &str| {
            let nodes = hub_core::object::GroupVersionResource::core("nodes");
            Object::from_body(nodes, body.to_owned().into()).unwrap()
        };
        let said = r#"{"metadata":{"name":"a"},"status":{"nodeInfo":{"kubeletVersion":"v1.32.10-kubeedge-v1.23.0\u001b","architecture":"x"}}}"#;
        assert_eq!(version(&node(said)).as_deref(), Some("v1.32.10-kubeedge-v1.23.0"));
        for nothing in [
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"name":"a"},"status":{"nodeInfo":{"kubeletVersion":""}}}"#,
        ] {
            assert_eq!(version(&node(nothing)), None);
        }
    }

    #[test]
    fn what_a_peer_says_is_kept_short_and_moves_no_cursor() {
        let trouble = Trouble::now(&format!("no\u{1b}[2J\n{}", "x".repeat(1000)));
        assert!(trouble.what.starts_with("no [2J x"));
        assert_eq!(trouble.what.len(), TROUBLE_MAX);
    }
}
