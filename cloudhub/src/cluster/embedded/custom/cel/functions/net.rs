//! Addresses and blocks of them.

use std::net::IpAddr;

use super::super::evaluate::{Fault, Outcome, Run, no_overload};
use super::super::value::Val;
use super::{CIDR, IP, Overload, T, global, member};

pub(super) const FUNCTIONS: &[Overload] = &[
    global("ip", &[T::Text], IP, ip),
    global("isIP", &[T::Text], T::Bool, |_, of| {
        test(of, |text| address(text).is_ok())
    }),
    global("ip.isCanonical", &[T::Text], T::Bool, is_canonical),
    member("family", &[IP], T::Int, |_, of| {
        on_ip(of, |ip| Val::Int(if ip.is_ipv4() { 4 } else { 6 }))
    }),
    member("isUnspecified", &[IP], T::Bool, |_, of| {
        on_ip(of, |ip| Val::Bool(ip.is_unspecified()))
    }),
    member("isLoopback", &[IP], T::Bool, |_, of| {
        on_ip(of, |ip| Val::Bool(ip.is_loopback()))
    }),
    member("isLinkLocalMulticast", &[IP], T::Bool, |_, of| {
        on_ip(of, |ip| Val::Bool(link_local_multicast(ip)))
    }),
    member("isLinkLocalUnicast", &[IP], T::Bool, |_, of| {
        on_ip(of, |ip| Val::Bool(link_local(ip)))
    }),
    member("isGlobalUnicast", &[IP], T::Bool, |_, of| {
        on_ip(of, |ip| Val::Bool(global_unicast(ip)))
    }),
    global("cidr", &[T::Text], CIDR, cidr),
    global("isCIDR", &[T::Text], T::Bool, |_, of| {
        test(of, |text| block(text).is_ok())
    }),
    member("containsIP", &[CIDR, T::Text], T::Bool, contains_ip),
    member("containsIP", &[CIDR, IP], T::Bool, contains_ip),
    member("containsCIDR", &[CIDR, T::Text], T::Bool, contains_cidr),
    member("containsCIDR", &[CIDR, CIDR], T::Bool, contains_cidr),
    member("ip", &[CIDR], IP, cidr_ip),
    member("masked", &[CIDR], CIDR, masked),
    member("prefixLength", &[CIDR], T::Int, prefix_length),
];

fn ip<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    address(text).map(Val::Ip)
}

fn is_canonical<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(address(text)?.to_string() == text.as_ref()))
}

fn cidr<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    block(text).map(|(ip, bits)| Val::Cidr(ip, bits))
}

fn contains_ip<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let (of, ip) = match values {
        [Val::Cidr(of, bits), Val::Ip(ip)] => ((*of, *bits), *ip),
        [Val::Cidr(of, bits), Val::Text(text)] => ((*of, *bits), address(text)?),
        _ => return Err(no_overload()),
    };
    Ok(Val::Bool(
        of.0.is_ipv4() == ip.is_ipv4() && mask(of.0, of.1) == mask(ip, of.1),
    ))
}

fn contains_cidr<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let (of, inner) = match values {
        [Val::Cidr(of, bits), Val::Cidr(ip, inner)] => ((*of, *bits), (*ip, *inner)),
        [Val::Cidr(of, bits), Val::Text(text)] => ((*of, *bits), block(text)?),
        _ => return Err(no_overload()),
    };
    let same_family = of.0.is_ipv4() == inner.0.is_ipv4();
    Ok(Val::Bool(
        same_family && inner.1 >= of.1 && mask(of.0, of.1) == mask(inner.0, of.1),
    ))
}

fn cidr_ip<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Cidr(ip, _)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Ip(*ip))
}

fn masked<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Cidr(ip, bits)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Cidr(mask(*ip, *bits), *bits))
}

fn prefix_length<'a>(_: &mut Run<'a>, values: &[Val<'a>]) -> Outcome<'a> {
    let [Val::Cidr(_, bits)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Int((*bits).into()))
}

fn test<'a>(values: &[Val<'a>], holds: fn(&str) -> bool) -> Outcome<'a> {
    let [Val::Text(text)] = values else {
        return Err(no_overload());
    };
    Ok(Val::Bool(holds(text)))
}

fn on_ip<'a>(values: &[Val<'a>], of: fn(&IpAddr) -> Val<'static>) -> Outcome<'a> {
    let [Val::Ip(ip)] = values else {
        return Err(no_overload());
    };
    Ok(of(ip))
}

/// An address; neither with a zone nor an IPv4 address in the form of the other family.
fn address(text: &str) -> Result<IpAddr, Fault> {
    let wrong = || {
        Fault::failed(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))
    };
    let ip: IpAddr = text.parse().map_err(|_| wrong())?;
    match ip {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Err(Fault::failed("IPv4-mapped IPv6 address is not allowed"))
        }
        ip => Ok(ip),
    }
}

fn block(text: &str) -> Result<(IpAddr, u8), Fault> {
    let wrong = || {
        Fault::failed(format!(
            "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix({text:?}): no '/'"
        ))
    };
    let (ip, bits) = text.split_once('/').ok_or_else(wrong)?;
    let (ip, bits): (IpAddr, u8) = (address(ip)?, bits.parse().map_err(|_| wrong())?);
    if bits > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(wrong());
    }
    Ok((ip, bits))
}

fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(bits.into()))
                .unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits.into()))
                .unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn global_unicast(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local(ip))
}
