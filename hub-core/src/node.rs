//! The name of an edge node, and how Kubernetes spells its identity.

use std::fmt;
use std::sync::Arc;

/// The name of a node: an RFC 1123 subdomain of at most 253 characters, as Kubernetes has it.
///
/// A `NodeId` is only ever made of a checked name, so it is safe in paths, headers and log lines.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// The text is not a node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node name: lower-case letters, digits, '-' and '.', at most 253 characters, beginning and ending with a letter or digit"
)]
pub struct InvalidNodeId(String);

/// The organization that every node certificate carries (Kubernetes, "Using Node Authorization").
pub const NODES_GROUP: &str = "system:nodes";

const USER_PREFIX: &str = "system:node:";

impl NodeId {
    /// Checks `name` and makes it a node id.
    pub fn new(name: &str) -> Result<Self, InvalidNodeId> {
        let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ok = !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                let b = label.as_bytes();
                !b.is_empty()
                    && b.len() <= 63
                    && edge(b[0])
                    && edge(b[b.len() - 1])
                    && b.iter().all(|&c| edge(c) || c == b'-')
            });
        if ok {
            Ok(Self(name.into()))
        } else {
            Err(InvalidNodeId(name.chars().take(64).collect()))
        }
    }

    /// The node a certificate's common name speaks for: the rest behind `system:node:`.
    pub fn from_common_name(common_name: &str) -> Option<Self> {
        Self::new(common_name.strip_prefix(USER_PREFIX)?).ok()
    }

    /// The user name of the node towards Kubernetes, also the common name of its certificate.
    pub fn user_name(&self) -> String {
        format!("{USER_PREFIX}{}", self.0)
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_a_dns_subdomain() {
        for good in ["edge-1", "a", "shop.berlin.example", "0"] {
            assert!(NodeId::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(254);
        for bad in ["", "Edge", "-a", "a-", "a..b", "a/b", "a b", "ä", long.as_str()] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_common_name_and_the_node_are_inverses() {
        let node = NodeId::new("edge-1").unwrap();
        assert_eq!(NodeId::from_common_name(&node.user_name()), Some(node));
        assert_eq!(NodeId::from_common_name("admin"), None);
        assert_eq!(NodeId::from_common_name("system:node:"), None);
    }
}
