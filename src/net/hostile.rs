//! Responsible for: proving that no URL, no name and no redirect leads to an address inside: as
//! tables, and by counting connections to a server that nobody may reach.
//! Not responsible for: which origins pass the allow-list (`policy`), or addresses as such
//! (`address`).

mod names;
mod redirects;

use std::time::Duration;

use reqwest::Url;

use crate::net::stub::{Answer, Stub};
use crate::net::{Allow, GuardedClient, NetError, Policy, Settings};

/// A server inside, whose answers nobody may see.
async fn trap() -> Stub {
    Stub::serve(|_| Answer::body(b"what only the machine itself may know")).await
}

/// A client that may fetch from these origins.
fn client(allow: Vec<Allow>) -> GuardedClient {
    let timeout = Duration::from_secs(20);
    GuardedClient::new(Settings { allow, max_bytes: 1_000, timeout }).unwrap()
}

/// The origin of `url`, listed as one on the internet.
fn listed(url: &Url) -> Option<Allow> {
    let (scheme, host) = (url.scheme().to_owned(), url.host_str()?.to_owned());
    Some(Allow { scheme, host, port: url.port(), private: false })
}

/// Why a URL is refused by a topology that lists its very origin, or "ok": the allow-list decides
/// nothing here.
fn verdict(url: &str) -> String {
    let origin = Url::parse(url).ok().and_then(|url| listed(&url));
    match Policy::new(origin).check(url) {
        Ok(_) => "ok".to_owned(),
        Err(NetError::Forbidden { why, .. }) => why,
        Err(other) => panic!("{url}: {other}"),
    }
}

const LOOPBACK: &str = "a loopback address";
const LINK_LOCAL: &str = "a link-local address";
const PRIVATE: &str = "a private address";
const UNSPECIFIED: &str = "an unspecified address";
const MULTICAST: &str = "a multicast address";
const DOCUMENTATION: &str = "a documentation address";
const RESERVED: &str = "a reserved";
const USER: &str = "user name or password";
const SCHEME: &str = "neither https nor http";
const BAD: &str = "malformed";

/// Hosts that are addresses, however they are spelt.
const ADDRESSES: &[(&str, &str)] = &[
    // Loopback in decimals, octals, hexadecimals, short forms and wide characters.
    ("http://127.0.0.1/", LOOPBACK),
    ("http://127.0.0.1:80/", LOOPBACK),
    ("http://127.0.0.1:8080/a?b#c", LOOPBACK),
    ("http://127.0.0.1./", LOOPBACK),
    ("http://127.255.255.254/", LOOPBACK),
    ("http://2130706433/", LOOPBACK),
    ("http://017700000001/", LOOPBACK),
    ("http://0x7f000001/", LOOPBACK),
    ("http://0X7F000001/", LOOPBACK),
    ("http://0x7f.1/", LOOPBACK),
    ("http://0177.0.0.01/", LOOPBACK),
    ("http://0x7f.0.0.0x1/", LOOPBACK),
    ("http://127.1/", LOOPBACK),
    ("http://127.65535/", LOOPBACK),
    ("http://127.0.258/", LOOPBACK),
    ("http://%31%32%37.0.0.1/", LOOPBACK),
    ("http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", LOOPBACK),
    ("http://\u{2460}\u{2461}\u{2466}.0.0.1/", LOOPBACK),
    ("http://127\u{3002}0\u{3002}0\u{3002}1/", LOOPBACK),
    ("http://@127.0.0.1/", LOOPBACK),
    ("http://[::1]/", LOOPBACK),
    ("http://[0:0:0:0:0:0:0:1]:8080/", LOOPBACK),
    ("http://[0000::0001]/", LOOPBACK),
    // Metadata services of clouds, by address.
    ("http://169.254.169.254/latest/meta-data/", LINK_LOCAL),
    ("http://169.254.169.254./", LINK_LOCAL),
    ("http://2852039166/", LINK_LOCAL),
    ("http://0xa9fea9fe/", LINK_LOCAL),
    ("http://0251.0376.0251.0376/", LINK_LOCAL),
    ("http://169.254.43518/", LINK_LOCAL),
    ("http://169.254.170.2/v2/credentials", LINK_LOCAL),
    ("http://[fe80::a9fe:a9fe]/", LINK_LOCAL),
    ("http://[fd00:ec2::254]/latest/", "a unique local address"),
    ("http://100.100.100.200/", "a carrier-grade NAT address"),
    ("http://192.0.0.192/opc/v2/", "a protocol address"),
    ("http://168.63.129.16/machine/", "a cloud's metadata address"),
    // Inside somebody's network.
    ("http://10.0.0.1/", PRIVATE),
    ("http://012.0.0.1/", PRIVATE),
    ("http://172.16.0.1/", PRIVATE),
    ("http://172.31.255.255/", PRIVATE),
    ("http://192.168.1.1/", PRIVATE),
    ("http://3232235777/", PRIVATE),
    ("http://198.18.0.1/", "a benchmarking address"),
    ("http://[fc00::1]/", "a unique local address"),
    ("http://[fec0::1]/", "a site-local address"),
    // No host at all. Linux connects to itself for the first of them.
    ("http://0.0.0.0/", UNSPECIFIED),
    ("http://0/", UNSPECIFIED),
    ("http://0x0/", UNSPECIFIED),
    ("http://0.1/", UNSPECIFIED),
    ("http://[::]/", UNSPECIFIED),
    ("http://224.0.0.1/", MULTICAST),
    ("http://239.255.255.255/", MULTICAST),
    ("http://[ff02::1]/", MULTICAST),
    ("http://255.255.255.255/", "broadcast"),
    ("http://4294967295/", "broadcast"),
    ("http://240.0.0.1/", "reserved or broadcast"),
    ("http://192.0.2.1/", DOCUMENTATION),
    ("http://198.51.100.1/", DOCUMENTATION),
    ("http://203.0.113.1/", DOCUMENTATION),
    ("http://[2001:db8::1]/", DOCUMENTATION),
    ("http://[3fff::1]/", DOCUMENTATION),
    ("http://192.88.99.1/", "a 6to4 relay address"),
    ("http://[100::1]/", RESERVED),
    ("http://[5f00::1]/", RESERVED),
    ("http://[4000::1]/", RESERVED),
    // IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo.
    ("http://[::ffff:127.0.0.1]/", LOOPBACK),
    ("http://[::ffff:7f00:1]/", LOOPBACK),
    ("http://[::ffff:169.254.169.254]/", LINK_LOCAL),
    ("http://[::ffff:0.0.0.0]/", UNSPECIFIED),
    ("http://[::ffff:93.184.216.34]/", "an IPv4-mapped address"),
    ("http://[::127.0.0.1]/", "an IPv4-compatible address"),
    ("http://[::ffff:0:127.0.0.1]/", RESERVED),
    ("http://[64:ff9b::127.0.0.1]/", LOOPBACK),
    ("http://[64:ff9b::a9fe:a9fe]/", LINK_LOCAL),
    ("http://[64:ff9b:1::a9fe:a9fe]/", "a local NAT64 address"),
    ("http://[2002:7f00:1::]/", LOOPBACK),
    ("http://[2002:a9fe:a9fe::1]/", LINK_LOCAL),
    ("http://[2002:5db8:d822::]/", "a 6to4 address"),
    ("http://[2001:0:5ef5:79fd:0:59d:a05f:f5fe]/", "a Teredo or protocol address"),
];

/// URLs that are not fetched whatever their host is.
const FORMS: &[(&str, &str)] = &[
    ("http://root@127.0.0.1/", USER),
    ("http://files.example.com:443@127.0.0.1/", USER),
    ("http://:password@files.example.com/", USER),
    ("http://files.example.com%40127.0.0.1@files.example.com/", USER),
    ("ftp://127.0.0.1/", SCHEME),
    ("file:///etc/passwd", SCHEME),
    ("file://127.0.0.1/etc/passwd", SCHEME),
    ("gopher://127.0.0.1:6379/_FLUSHALL", SCHEME),
    ("dict://127.0.0.1:11211/stat", SCHEME),
    ("ldap://127.0.0.1/", SCHEME),
    ("ws://127.0.0.1/", SCHEME),
    ("jar:http://127.0.0.1/a!/b", SCHEME),
    ("data:text/plain,x", SCHEME),
    ("http:\\\\127.0.0.1\\", BAD),
    ("http://files.example.com\\@127.0.0.1/", BAD),
    ("http://files.example.com/\\..\\", BAD),
    ("http://127.0.0.1\t/", BAD),
    ("http://127.0.\n0.1/", BAD),
    ("http://files.example.com/ HTTP/1.1\r\nHost: 127.0.0.1", BAD),
    (" http://127.0.0.1/\r\n", BAD),
    ("http://127.0.0.1\0.example.com/", BAD),
    ("http://127.0.0.1%00.example.com/", BAD),
    ("http://127.0.0.1%0d%0a/", BAD),
    ("http://127.0.0.1%20.example.com/", BAD),
    ("http://127.0.0.1%2f.example.com/", BAD),
    ("http://exa mple.com/", BAD),
    ("http://a@b@/", BAD),
    ("http://[::1/", BAD),
    ("http://::1/", BAD),
    ("http://[::1%25lo]/", BAD),
    ("http://[127.0.0.1]/", BAD),
    ("http://[::ffff:127.0.0.256]/", BAD),
    ("http://256.0.0.1/", BAD),
    ("http://1.2.3.4.5/", BAD),
    ("http://0x1ffffffff/", BAD),
    ("http://127.0.0.08/", BAD),
    ("http://127.0.0.1:65536/", BAD),
    ("http://127.0.0.1:-1/", BAD),
    ("http://127.0.0.1:8o/", BAD),
    ("http:///", BAD),
    ("http://?a", BAD),
    ("127.0.0.1/", BAD),
    ("//127.0.0.1/", BAD),
];

#[test]
fn addresses_inside_are_refused_in_every_spelling_even_where_the_origin_is_listed() {
    assert!(ADDRESSES.len() >= 60);
    for (url, expected) in ADDRESSES {
        let verdict = verdict(url);
        assert!(verdict.contains(expected), "{url:?}: {verdict}, expected {expected}");
    }
    for url in ["http://93.184.216.34/", "http://1572395042/", "http://[2606:2800:220:1::1]/"] {
        assert_eq!(verdict(url), "ok", "{url}");
    }
}

#[test]
fn urls_that_two_readers_could_read_in_two_ways_are_refused() {
    for (url, expected) in FORMS {
        let verdict = verdict(url);
        assert!(verdict.contains(expected), "{url:?}: {verdict}, expected {expected}");
    }
}

/// The spellings of 127.0.0.1 and of what Linux takes for it.
const HERE: [&str; 12] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "%31%32%37.0.0.1",
    "\u{ff11}27.0.0.1",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
];

#[tokio::test]
async fn no_spelling_of_this_machine_is_ever_connected_to() {
    let trap = trap().await;
    for host in HERE {
        let url = format!("http://{host}:{}/secret", trap.port);
        let client = client(listed(&Url::parse(&url).unwrap()).into_iter().collect());
        let error = client.check(&url).unwrap_err();
        assert!(matches!(error, NetError::Forbidden { .. }), "{url}: {error:?}");
    }
    assert_eq!(trap.connections(), 0);
}
