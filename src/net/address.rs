//! Which addresses a client on a server may connect to on behalf of a stranger.
//!
//! Responsible for: sorting every IPv4 and IPv6 address into public, private and never.
//! Not responsible for: names (`resolver`) and URLs (`policy`).
//!
//! Source: the IANA special-purpose address registries for IPv4 and IPv6, and RFC 6052 (NAT64),
//! RFC 3056 (6to4), RFC 4380 (Teredo), RFC 4193 (unique local).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may be done with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the internet: may be connected to.
    Public,
    /// Inside somebody's network: only where the topology says so. Holds the kind of address.
    Private(&'static str),
    /// No single host that anybody could mean. Holds the kind of address.
    Never(&'static str),
}

impl Reach {
    /// Why it must not be connected to, or `None` if it may; `private` says that the topology
    /// allows private addresses here.
    pub fn refusal(self, private: bool) -> Option<&'static str> {
        match self {
            Self::Public => None,
            Self::Private(_) if private => None,
            Self::Private(kind) | Self::Never(kind) => Some(kind),
        }
    }
}

/// Sorts an address.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// Network, prefix length (1 to 32), kind; the first that fits decides.
const V4: &[(Ipv4Addr, u32, Reach)] = &[
    // Linux connects to itself when asked for 0.0.0.0.
    (Ipv4Addr::new(0, 0, 0, 0), 8, Reach::Never("an unspecified address")),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Reach::Private("a private address")),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Reach::Private("a carrier-grade NAT address")),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Reach::Private("a loopback address")),
    // Looks public, but Azure answers for every machine of its own with what that machine may know.
    (Ipv4Addr::new(168, 63, 129, 16), 32, Reach::Private("a cloud's metadata address")),
    // Metadata services of clouds live here.
    (Ipv4Addr::new(169, 254, 0, 0), 16, Reach::Private("a link-local address")),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Reach::Private("a private address")),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Reach::Never("a protocol address")),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Reach::Never("a documentation address")),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Reach::Never("a 6to4 relay address")),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Reach::Private("a private address")),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Reach::Private("a benchmarking address")),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Reach::Never("a documentation address")),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Reach::Never("a documentation address")),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Reach::Never("a multicast address")),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Reach::Never("a reserved or broadcast address")),
];

/// Network, prefix length (1 to 128), kind; the first that fits decides.
const V6: &[(Ipv6Addr, u32, Reach)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, Reach::Never("an unspecified address")),
    (Ipv6Addr::LOCALHOST, 128, Reach::Private("a loopback address")),
    (Ipv6Addr::UNSPECIFIED, 96, Reach::Never("an IPv4-compatible address")),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Reach::Private("a local NAT64 address")),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Reach::Never("a Teredo or protocol address")),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Reach::Never("a documentation address")),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Reach::Private("a 6to4 address")),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Reach::Never("a documentation address")),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Reach::Public),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Reach::Private("a unique local address")),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Reach::Private("a link-local address")),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Reach::Private("a site-local address")),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Reach::Never("a multicast address")),
];

const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
const SIX_TO_FOUR: Ipv6Addr = Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0);

fn reach_v4(address: Ipv4Addr) -> Reach {
    let inside = |network: Ipv4Addr, prefix: u32| {
        let host_bits = 32 - prefix;
        address.to_bits() >> host_bits == network.to_bits() >> host_bits
    };
    V4.iter()
        .find(|(network, prefix, _)| inside(*network, *prefix))
        .map_or(Reach::Public, |(_, _, reach)| *reach)
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let bits = address.to_bits();
    let inside = |network: Ipv6Addr, prefix: u32| {
        let host_bits = 128 - prefix;
        bits >> host_bits == network.to_bits() >> host_bits
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return never_public(reach_v4(mapped), "an IPv4-mapped address");
    }
    if inside(NAT64, 96) {
        // The translator connects to the embedded address, which on a network without IPv4 is
        // how every host of the old internet looks.
        return reach_v4(Ipv4Addr::from_bits(bits as u32));
    }
    if inside(SIX_TO_FOUR, 16) {
        let embedded = Ipv4Addr::from_bits((bits >> 80) as u32);
        return never_public(reach_v4(embedded), "a 6to4 address");
    }
    V6.iter()
        .find(|(network, prefix, _)| inside(*network, *prefix))
        .map_or(Reach::Never("a reserved address"), |(_, _, reach)| *reach)
}

/// Nobody publishes such addresses, so they are refused whatever lies inside.
fn never_public(embedded: Reach, kind: &'static str) -> Reach {
    match embedded {
        Reach::Public => Reach::Private(kind),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> &'static str {
        match reach(text.parse().unwrap()) {
            Reach::Public => "public",
            Reach::Private(_) => "private",
            Reach::Never(_) => "never",
        }
    }

    #[test]
    fn every_special_range_is_refused_at_both_of_its_ends() {
        let table = [
            ("0.0.0.0", "never"),
            ("0.255.255.255", "never"),
            ("1.0.0.0", "public"),
            ("9.255.255.255", "public"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("11.0.0.0", "public"),
            ("100.63.255.255", "public"),
            ("100.64.0.0", "private"),
            ("100.127.255.255", "private"),
            ("100.128.0.0", "public"),
            ("127.0.0.1", "private"),
            ("127.255.255.255", "private"),
            ("168.63.129.15", "public"),
            ("168.63.129.16", "private"),
            ("168.63.129.17", "public"),
            ("169.254.169.254", "private"),
            ("172.15.255.255", "public"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("172.32.0.0", "public"),
            ("192.0.0.8", "never"),
            ("192.0.2.1", "never"),
            ("192.88.99.1", "never"),
            ("192.168.0.0", "private"),
            ("192.168.255.255", "private"),
            ("198.18.0.0", "private"),
            ("198.19.255.255", "private"),
            ("198.51.100.7", "never"),
            ("203.0.113.7", "never"),
            ("223.255.255.255", "public"),
            ("224.0.0.1", "never"),
            ("239.255.255.255", "never"),
            ("240.0.0.1", "never"),
            ("255.255.255.255", "never"),
            ("8.8.8.8", "public"),
            ("::", "never"),
            ("::1", "private"),
            ("::2", "never"),
            ("::7f00:1", "never"),
            ("::ffff:127.0.0.1", "private"),
            ("::ffff:8.8.8.8", "private"),
            ("::ffff:0.0.0.0", "never"),
            ("64:ff9b::127.0.0.1", "private"),
            ("64:ff9b::10.1.2.3", "private"),
            ("64:ff9b::224.0.0.1", "never"),
            ("64:ff9b::8.8.8.8", "public"),
            ("64:ff9b:1::1", "private"),
            ("100::1", "never"),
            ("2001::1", "never"),
            ("2001:db8::1", "never"),
            ("2001:4860:4860::8888", "public"),
            ("2002:7f00:1::", "private"),
            ("2002:808:808::", "private"),
            ("3fff::1", "never"),
            ("2600::1", "public"),
            ("fc00::1", "private"),
            ("fdff::1", "private"),
            ("fe80::1", "private"),
            ("fec0::1", "private"),
            ("ff02::1", "never"),
            ("4000::1", "never"),
        ];
        for (address, expected) in table {
            assert_eq!(sorted(address), expected, "{address}");
        }
    }

    #[test]
    fn private_addresses_need_permission_and_some_get_none() {
        assert_eq!(Reach::Public.refusal(false), None);
        assert_eq!(Reach::Private("a loopback address").refusal(true), None);
        assert_eq!(Reach::Private("a loopback address").refusal(false), Some("a loopback address"));
        assert_eq!(Reach::Never("a multicast address").refusal(true), Some("a multicast address"));
    }
}
