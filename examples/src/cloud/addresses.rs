//! Where a cloud half listens, and the line that tells it.

use std::fmt;
use std::net::SocketAddr;

/// The addresses of a cloud half.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// The tunnel over WebSocket.
    pub websocket: Option<SocketAddr>,
    /// The tunnel over QUIC.
    pub quic: Option<SocketAddr>,
    /// Certificates for nodes.
    pub https: Option<SocketAddr>,
    /// The embedded cluster's API.
    pub api: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
}

impl Addresses {
    fn fields(&mut self) -> [(&'static str, &mut Option<SocketAddr>); 5] {
        [
            ("websocket", &mut self.websocket),
            ("quic", &mut self.quic),
            ("https", &mut self.https),
            ("api", &mut self.api),
            ("metrics", &mut self.metrics),
        ]
    }

    /// Reads what [`Display`](fmt::Display) wrote, wherever it stands in a line of a log.
    pub fn parse(line: &str) -> Self {
        let mut found = Self::default();
        for (name, field) in found.fields() {
            let value = line.split_once(&format!("{name}=")).map(|(_, rest)| rest);
            *field = value.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        }
        found
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = self.clone();
        let known = copy
            .fields()
            .into_iter()
            .filter_map(|(name, address)| Some(format!("{name}={}", (*address)?)));
        f.write_str(&known.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_line_that_told_them() {
        let addresses = Addresses {
            websocket: Some("127.0.0.1:10000".parse().unwrap()),
            api: Some("[::1]:10080".parse().unwrap()),
            ..Addresses::default()
        };
        let read = Addresses::parse(&format!("INFO ready {addresses} in 3 ms"));
        assert_eq!(
            (read.websocket, read.api, read.quic),
            (addresses.websocket, addresses.api, None)
        );
    }
}
