//! What the two ends tell each other before the first message.

use std::fmt;
use std::sync::Arc;

/// What we add to KubeEdge's protocol, each used only when both ends have it.
///
/// They travel in one header of the upgrade request and answer, [`Capabilities::HEADER`], that stock peers ignore:
/// the client offers, the server answers with those it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Frames are bincode in place of JSON text.
    pub bincode: bool,
    /// Contents may be compressed with zstd, alone or against a version that both ends hold.
    pub zstd: bool,
    /// On attach the edge tells what it holds and gets the difference.
    pub resume: bool,
    /// What goes up is acknowledged too.
    pub ack: bool,
    /// Reports of several devices go up in one message.
    pub twins: bool,
    /// The cloud says when the cluster behind it is silent ([`crate::source`]).
    pub source: bool,
}

impl Capabilities {
    /// The header, request and answer alike.
    pub const HEADER: &'static str = "Edge-Tunnel";

    /// A stock KubeEdge peer.
    pub const NONE: Self = Self {
        bincode: false,
        zstd: false,
        resume: false,
        ack: false,
        twins: false,
        source: false,
    };

    /// Everything this build can do.
    pub const ALL: Self = Self {
        bincode: true,
        zstd: true,
        resume: true,
        ack: true,
        twins: true,
        source: true,
    };

    const NAMES: [(&'static str, Field); 6] = [
        ("bincode", |c| &mut c.bincode),
        ("zstd", |c| &mut c.zstd),
        ("resume", |c| &mut c.resume),
        ("ack", |c| &mut c.ack),
        ("twins", |c| &mut c.twins),
        ("source", |c| &mut c.source),
    ];

    /// Those that both have.
    #[must_use]
    pub fn common(mut self, mut other: Self) -> Self {
        for (_, field) in Self::NAMES {
            let both = *field(&mut self) && *field(&mut other);
            *field(&mut self) = both;
        }
        self
    }

    /// Reads the value of the header. Unknown words are ignored: they are capabilities of a newer peer.
    pub fn parse(value: &str) -> Self {
        let mut found = Self::NONE;
        for word in value.split(',') {
            if let Some((_, field)) = Self::NAMES.iter().find(|(name, _)| *name == word.trim()) {
                *field(&mut found) = true;
            }
        }
        found
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = *self;
        let names: Vec<_> = Self::NAMES
            .iter()
            .filter(|(_, field)| *field(&mut copy))
            .map(|(name, _)| *name)
            .collect();
        f.write_str(&names.join(", "))
    }
}

/// Finds one of the capabilities.
type Field = fn(&mut Capabilities) -> &mut bool;

/// What a client says when it connects: KubeEdge's path and headers, and our capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The URL path. Servers accept any; KubeEdge's edges send `/<project>/<node>/events`.
    pub path: Arc<str>,
    /// Header `Node_id`, unchecked; empty when missing.
    pub node_id: Arc<str>,
    /// Header `Project_id`.
    pub project_id: Arc<str>,
    /// Header `Connectionuse`; `msg` for the tunnel.
    pub connection_use: Arc<str>,
    /// What the client offers; nothing, for a stock one.
    pub capabilities: Capabilities,
    /// The version of the client's software, for people. A stock client does not say it.
    pub version: Option<Arc<str>>,
}

impl ConnectRequest {
    /// KubeEdge's default project.
    pub const DEFAULT_PROJECT: &'static str = "e632aba927ea4ac2b575ec1603d56f10";

    /// The request of an edge that joins the tunnel.
    pub fn tunnel(node: &crate::node::NodeId, project_id: &str, capabilities: Capabilities) -> Self {
        Self {
            path: format!("/{project_id}/{node}/events").into(),
            node_id: node.as_str().into(),
            project_id: project_id.into(),
            connection_use: "msg".into(),
            capabilities,
            version: None,
        }
    }

    /// The same with the version of the client's software. It is told to those only to whom something is offered.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = shown(version);
        self
    }

    /// The value of [`Capabilities::HEADER`]: what is offered, and who offers it. Older servers of ours take the version for a
    /// capability that they do not know. None where nothing is offered, as by a stock client.
    pub(super) fn offer(&self) -> Option<String> {
        if self.capabilities == Capabilities::NONE {
            return None;
        }
        let version = self.version.as_ref();
        let version = version.map_or_else(String::new, |version| format!(", {VERSION}{version}"));
        Some(format!("{}{version}", self.capabilities))
    }

    /// The version in such a value.
    pub(super) fn version_in(offer: &str) -> Option<Arc<str>> {
        let mut words = offer.split(',').map(str::trim);
        words.find_map(|word| shown(word.strip_prefix(VERSION)?))
    }
}

/// A version as it may stand in a header and on a terminal.
fn shown(version: &str) -> Option<Arc<str>> {
    let version: String = version
        .chars()
        .filter(|c| c.is_ascii_graphic() && *c != ',')
        .take(VERSION_MAX)
        .collect();
    (!version.is_empty()).then(|| version.into())
}

/// How the word begins that says it.
const VERSION: &str = "version=";
/// Characters of a version.
const VERSION_MAX: usize = 60;

/// Where to dial: a host (name or address) and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host, also the name that the server's certificate must carry.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port` or `[v6]:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        Some(Self {
            host: host.into(),
            port: port.parse().ok()?,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a connection is refused, before it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status code: 403 for a wrong identity, 503 when full, 400 for a bad request.
    pub code: u16,
    /// One sentence for the other side's log.
    pub reason: String,
    /// After how many seconds to try again, if at all (`Retry-After`).
    pub retry_after_seconds: Option<u32>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_its_version_beside_what_it_offers_and_a_stock_one_nothing() {
        let node = crate::node::NodeId::new("edge-1").unwrap();
        let request =
            ConnectRequest::tunnel(&node, "p", Capabilities::ALL).with_version("edgehub-v0.1.0\r\nX: y,z");
        let offer = request.offer().unwrap();
        assert_eq!(
            offer,
            "bincode, zstd, resume, ack, twins, source, version=edgehub-v0.1.0X:yz"
        );
        assert_eq!(Capabilities::parse(&offer), Capabilities::ALL);
        assert_eq!(ConnectRequest::version_in(&offer), request.version);
        let long = format!("version={}", "x".repeat(1000));
        assert_eq!(ConnectRequest::version_in(&long).unwrap().len(), VERSION_MAX);
        for nothing in ["", "bincode", "version=", "version=\u{1b}"] {
            assert_eq!(ConnectRequest::version_in(nothing), None);
        }
        let stock = ConnectRequest::tunnel(&node, "p", Capabilities::NONE).with_version("v1");
        assert_eq!(stock.offer(), None);
    }

    #[test]
    fn capabilities_are_offered_and_answered_in_one_header() {
        assert_eq!(
            Capabilities::parse(&Capabilities::ALL.to_string()),
            Capabilities::ALL
        );
        assert_eq!(
            Capabilities::parse("zstd , from-the-future,ack").to_string(),
            "zstd, ack"
        );
        assert_eq!(Capabilities::parse(""), Capabilities::NONE);
        let some = Capabilities {
            zstd: true,
            ..Capabilities::NONE
        };
        assert_eq!(Capabilities::ALL.common(some), some);
    }

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        for text in ["127.0.0.1:10000", "cloud.example:1", "[::1]:10001"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "host", "host:", "host:99999", ":1"] {
            assert!(Endpoint::parse(bad).is_none(), "{bad}");
        }
    }
}
