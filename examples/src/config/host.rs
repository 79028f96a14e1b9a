//! What KubeEdge's defaults take from the host: its name and its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use hub_core::node::NodeId;

/// What the host decides.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its name.
    pub(crate) name: String,
}

impl Host {
    /// This one: the address that other machines reach it by, which is the one its name stands for, or that of the way out
    /// (KubeEdge: `GetLocalIP`, `ChooseHostInterface`); loopback where there is no network.
    pub(crate) fn this() -> Self {
        let name = name();
        let address = name.as_deref().and_then(of_name).or_else(of_way_out);
        Self {
            address: address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            name: name.unwrap_or_else(|| NO_NAME.into()),
        }
    }
}

/// The host's name in lower case, as the kubelet takes it; nothing where no node can be called so.
fn name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_lowercase();
    NodeId::new(&name).is_ok().then_some(name)
}

/// As `/etc/hosts` says. No name server is asked: a node starts without a network too.
fn of_name(name: &str) -> Option<IpAddr> {
    let hosts = std::fs::read_to_string("/etc/hosts").ok()?;
    let addresses: Vec<IpAddr> = addresses_of(&hosts, name).collect();
    let v4 = addresses.iter().find(|ip| ip.is_ipv4());
    v4.or_else(|| addresses.first()).copied()
}

fn addresses_of<'a>(hosts: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    hosts.lines().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok().filter(|ip| is_reachable(*ip))?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    })
}

/// Connecting a UDP socket sends nothing; it only asks the routing table.
fn of_way_out() -> Option<IpAddr> {
    let ask = |from: IpAddr, to: IpAddr| -> Option<IpAddr> {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    ask(Ipv4Addr::UNSPECIFIED.into(), FAR_V4.into())
        .or_else(|| ask(Ipv6Addr::UNSPECIFIED.into(), FAR_V6.into()))
        .filter(|ip| is_reachable(*ip))
}

fn is_reachable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || link_local)
}

/// KubeEdge's name for a host without one that a node can have (`DefaultHostnameOverride`).
const NO_NAME: &str = "default-edge-node";

/// Some address outside, of the ranges kept for documents (RFC 5737, RFC 3849).
const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_an_address_and_a_name() {
        let host = Host::this();
        assert!(
            !host.address.is_unspecified() && !host.name.is_empty(),
            "{host:?}"
        );
    }

    #[test]
    fn a_name_may_stand_for_an_address() {
        let hosts = "127.0.0.1 localhost edge-1\n# 192.0.2.1 edge-1\n192.0.2.2 other Edge-1 # ours\n";
        let found: Vec<_> = addresses_of(hosts, "edge-1").collect();
        assert_eq!(found, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn only_addresses_that_others_can_dial_are_taken() {
        for (text, reachable) in [
            ("192.0.2.1", true),
            ("10.1.2.3", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_reachable(text.parse().unwrap()), reachable, "{text}");
        }
    }
}
