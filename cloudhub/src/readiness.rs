//! Whether nodes should come to this instance, for whoever shares them out.

use std::fmt;

/// What a load balancer wants to know of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// What every node needs of the cluster is not known yet. Nodes are taken all the same, and wait.
    #[default]
    Starting,
    /// Nodes are served. It stays so while the cluster is away: they are served from what is held.
    Ready,
    /// The instance stops and sends its nodes elsewhere.
    Draining,
}

impl Readiness {
    /// Whether new nodes should come here.
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting: the cluster is not known yet",
            Self::Ready => "ok",
            Self::Draining => "draining",
        })
    }
}
