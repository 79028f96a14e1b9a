//! Who is at the other end of a connection, as far as the connection itself says.

use std::net::SocketAddr;
use std::sync::Arc;

use super::certificate::PeerCertificates;

/// The other end.
#[derive(Debug, Clone, Default)]
pub(crate) enum Peer {
    /// Nothing is known: no socket, or a plain one from elsewhere.
    #[default]
    Unknown,
    /// A program on this machine: its user id, where it could be found.
    Local(Option<u32>),
    /// Somebody who speaks TLS, with the certificates that they showed.
    Tls(Option<Arc<PeerCertificates>>),
}

impl Peer {
    /// Who connected over TCP. Reads the kernel's table of sockets when both ends are on this machine.
    pub(crate) fn of_tcp(local: SocketAddr, remote: SocketAddr) -> Self {
        if !local.ip().to_canonical().is_loopback() || !remote.ip().to_canonical().is_loopback() {
            return Self::Unknown;
        }
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let read = |path: &&str| std::fs::read_to_string(path).ok();
        Self::Local(
            tables
                .iter()
                .filter_map(read)
                .find_map(|table| owner(&table, remote, local)),
        )
    }
}

/// The user id of the socket that is bound to `from` and connected to `to` (Linux, `Documentation/networking/proc_net_tcp.rst`).
///
/// Only of one that is established and has an inode: of a socket that nobody holds any more, or that waits for its end, the kernel
/// says user 0, which would make root of everybody who hangs up quickly.
fn owner(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, state, _, _, _, uid, _, inode, ..] = fields[..] else {
            return None;
        };
        let same = |text: &str, address: SocketAddr| {
            parse(text).is_some_and(|found| {
                (found.ip().to_canonical(), found.port()) == (address.ip().to_canonical(), address.port())
            })
        };
        (state == ESTABLISHED && inode != "0" && same(local, from) && same(remote, to))
            .then(|| uid.parse().ok())
            .flatten()
    })
}

/// An address as the kernel writes it: words of 32 bits in the machine's own order, then the port.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !address.is_ascii() || !address.len().is_multiple_of(8) {
        return None;
    }
    let word = |start: usize| {
        u32::from_str_radix(&address[start..start + 8], 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let words: Option<Vec<[u8; 4]>> = (0..address.len()).step_by(8).map(word).collect();
    let bytes = words?.concat();
    if let Ok(four) = <[u8; 4]>::try_from(&*bytes) {
        return Some((four, port).into());
    }
    <[u8; 16]>::try_from(&*bytes)
        .ok()
        .map(|sixteen| (sixteen, port).into())
}

const ESTABLISHED: &str = "01";

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2936 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:9C40 0100007F:2936 STATE 00000000:00000000 00:00000000 00000000  1000        0 INODE 1 0 20 4 30 10 -1
";

    fn of(state: &str, inode: &str) -> Option<u32> {
        let table = TABLE.replace("STATE", state).replace("INODE", inode);
        owner(
            &table,
            "127.0.0.1:40000".parse().unwrap(),
            "127.0.0.1:10550".parse().unwrap(),
        )
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_socket_has_an_owner_only_while_somebody_holds_it() {
        assert_eq!(of("01", "222"), Some(1000));
        for (state, inode) in [("06", "0"), ("05", "0"), ("01", "0"), ("08", "222")] {
            assert_eq!(of(state, inode), None, "{state} {inode}");
        }
        assert_eq!(
            owner("", "1.2.3.4:5".parse().unwrap(), "1.2.3.4:6".parse().unwrap()),
            None
        );
        for text in ["", "zz", "0100007F:", "0100007:0001", "äääääää:0001"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_caller_on_this_machine_is_known_by_the_kernel() {
        use std::os::unix::fs::MetadataExt as _;
        let me = std::fs::metadata("/proc/self").unwrap().uid();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_accepted, remote) = listener.accept().unwrap();
            let peer = Peer::of_tcp(listener.local_addr().unwrap(), remote);
            assert!(matches!(peer, Peer::Local(Some(uid)) if uid == me), "{peer:?}");
            drop(caller);
            let peer = Peer::of_tcp(listener.local_addr().unwrap(), remote);
            assert!(
                matches!(peer, Peer::Local(None)),
                "who hung up is nobody: {peer:?}"
            );
        }
    }
}
