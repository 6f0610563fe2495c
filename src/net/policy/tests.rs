//! Responsible for: proving which URLs pass, as one table, and that refusals leak nothing.
//! Not responsible for: addresses as such (`net::address`).

use proptest::prelude::*;

use super::*;

fn allow(scheme: &str, host: &str, port: Option<u16>, private: bool) -> Allow {
    Allow { scheme: scheme.to_owned(), host: host.to_owned(), port, private }
}

fn policy() -> Policy {
    Policy::new([
        allow("https", "files.example.com", None, false),
        allow("https", "files.example.com", Some(8443), false),
        allow("https", "*.bucket.example.net", None, false),
        allow("https", "B\u{fc}cher.example", None, false),
        allow("http", "ingress.internal", Some(8080), true),
        allow("http", "10.1.2.3", None, true),
        allow("http", "FD00::5", Some(9000), true),
        allow("https", "127.0.0.1", None, false),
        allow("https", "[::1]", None, false),
        allow("https", "93.184.216.34", None, false),
        allow("https", "*.0.0.1", None, true),
    ])
}

/// The part of the reason that matters, or "ok".
fn verdict(url: &str) -> String {
    match policy().check(url) {
        Ok(_) => "ok".to_owned(),
        Err(NetError::Forbidden { why, .. }) => why,
        Err(other) => panic!("{url}: {other}"),
    }
}

#[test]
fn only_origins_on_the_list_pass_however_they_are_spelt() {
    const OFF: &str = "not on the allow-list";
    const USER: &str = "user name or password";
    const SCHEME: &str = "neither https nor http";
    const BAD: &str = "malformed";
    let table = [
        // What is meant to work.
        ("https://files.example.com/a.tar.gz", "ok"),
        ("https://files.example.com/a.tar.gz?X-Signature=abc%2F#part", "ok"),
        ("https://files.example.com", "ok"),
        ("HTTPS://FILES.Example.COM/a", "ok"),
        ("https://files.example.com:443/a", "ok"),
        ("https://files.example.com:8443/a", "ok"),
        ("https:files.example.com/a", "ok"),
        ("https:///files.example.com/a", "ok"),
        ("https://b\u{fc}cher.example/", "ok"),
        ("https://xn--bcher-kva.example/", "ok"),
        ("https://a.bucket.example.net/", "ok"),
        ("https://a.b.bucket.example.net/", "ok"),
        ("http://ingress.internal:8080/payload/1", "ok"),
        ("http://10.1.2.3/x", "ok"),
        ("http://0x0a010203/x", "ok"),
        ("http://[fd00::5]:9000/x", "ok"),
        ("http://[FD00:0:0:0:0:0:0:5]:9000/x", "ok"),
        ("https://93.184.216.34/", "ok"),
        // Hosts that only look like it.
        ("https://files.example.com.evil.org/", OFF),
        ("https://evil.org/files.example.com", OFF),
        ("https://evil.org/?files.example.com", OFF),
        ("https://evil.org#files.example.com", OFF),
        ("https://xfiles.example.com/", OFF),
        ("https://files.example.com./", OFF),
        ("https://example.com/", OFF),
        ("https://sub.files.example.com/", OFF),
        ("https://files%2eexample.com.evil.org/", OFF),
        ("https://bucket.example.net/", OFF),
        ("https://evilbucket.example.net/", OFF),
        ("https://.bucket.example.net/", OFF),
        ("https://a..bucket.example.net/", OFF),
        ("https://a.bucket.example.net.evil.org/", OFF),
        ("https://\u{444}iles.example.com/", OFF),
        // Ports and schemes.
        ("https://files.example.com:80/", OFF),
        ("https://files.example.com:22/", OFF),
        ("http://files.example.com/", OFF),
        ("http://files.example.com:443/", OFF),
        ("http://ingress.internal/", OFF),
        ("https://ingress.internal:8080/", OFF),
        ("https://files.example.com:99999/", BAD),
        ("https://files.example.com:port/", BAD),
        ("ftp://files.example.com/a", SCHEME),
        ("file:///etc/passwd", SCHEME),
        ("gopher://files.example.com/", SCHEME),
        ("data:text/plain,hello", SCHEME),
        ("javascript:alert(1)", SCHEME),
        ("unix:/run/docker.sock", SCHEME),
        ("view-source:https://files.example.com/", SCHEME),
        // User information, and what hides behind it.
        ("https://user@files.example.com/", USER),
        ("https://user:secret@files.example.com/", USER),
        ("https://:secret@files.example.com/", USER),
        ("https://files.example.com@evil.org/", USER),
        ("https://files.example.com:443@evil.org/", USER),
        ("https://files.example.com%2F@evil.org/", USER),
        ("https://evil.org@files.example.com/", USER),
        ("https://a@b@files.example.com/", USER),
        // Addresses in every spelling.
        ("https://127.0.0.1/", "a loopback address"),
        ("https://2130706433/", "a loopback address"),
        ("https://0x7f.0.0.1/", "a loopback address"),
        ("https://0x7f000001/", "a loopback address"),
        ("https://0177.0.0.1/", "a loopback address"),
        ("https://017700000001/", "a loopback address"),
        ("https://127.1/", "a loopback address"),
        ("https://127.0.1/", "a loopback address"),
        ("https://127.0.0.1./", "a loopback address"),
        ("https://\u{ff11}27.0.0.1/", "a loopback address"),
        ("https://%31%32%37.0.0.1/", "a loopback address"),
        ("https://[::1]/", "a loopback address"),
        ("https://[0:0:0:0:0:0:0:1]/", "a loopback address"),
        ("https://[::ffff:127.0.0.1]/", OFF),
        ("https://[::ffff:7f00:1]/", OFF),
        ("https://[fe80::1%25eth0]/", BAD),
        ("https://169.254.169.254/latest/meta-data/", OFF),
        ("https://0/", OFF),
        ("https://0.0.0.0/", OFF),
        ("https://10.1.2.3/", OFF),
        ("http://10.1.2.4/", OFF),
        ("https://1.0.0.1/", OFF),
        ("https://256.256.256.256/", BAD),
        ("https://0x100000000/", BAD),
        // What parsers remove, turn around or choke on.
        ("https://files.example.com\\@evil.org/", BAD),
        ("https:\\\\files.example.com\\", BAD),
        ("https://files.exa\nmple.com/", BAD),
        ("https://files.example.com/\r\nHost: evil.org", BAD),
        ("\thttps://files.example.com/", BAD),
        ("https://files.example.com/\0", BAD),
        ("https://files.exam ple.com/", BAD),
        ("https://[files.example.com]/", BAD),
        ("https://", BAD),
        ("//files.example.com/", BAD),
        ("files.example.com/a", BAD),
        ("/etc/passwd", BAD),
        ("", BAD),
    ];
    assert!(table.len() >= 60);
    for (url, expected) in table {
        let verdict = verdict(url);
        assert!(verdict.contains(expected), "{url:?}: {verdict}, expected {expected}");
    }
}

#[test]
fn private_literals_need_the_origin_to_say_so_and_never_addresses_stay_out() {
    let refused = |host: &str, private| {
        let policy = Policy::new([allow("http", host, None, private)]);
        policy.check(&format!("http://{host}/")).is_err()
    };
    for host in ["10.0.0.1", "169.254.169.254", "100.64.0.1", "[::ffff:10.0.0.1]", "[fc00::1]"] {
        assert!(refused(host, false), "{host}");
        assert!(!refused(host, true), "{host}");
    }
    for host in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "[::]", "[ff02::1]"] {
        assert!(refused(host, true), "{host}");
    }
}

#[test]
fn redirects_are_judged_like_first_requests() {
    let from = policy().check("https://files.example.com/a/b?sig=1").unwrap();
    let follow = |location: &str| match policy().follow(&from, location) {
        Ok(permitted) => permitted.shown(),
        Err(NetError::Forbidden { why, .. }) => why,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(follow("/c"), "https://files.example.com/c");
    assert_eq!(follow("c?x=1"), "https://files.example.com/a/c");
    assert_eq!(follow("//a.bucket.example.net/d"), "https://a.bucket.example.net/d");
    assert_eq!(follow("https://files.example.com:8443/e"), "https://files.example.com:8443/e");
    let refused = [
        ("https://evil.org/", "allow-list"),
        ("//evil.org/", "allow-list"),
        ("https://169.254.169.254/latest/", "allow-list"),
        ("https://127.0.0.1/", "loopback"),
        ("http://ingress.internal:8080/", "leaves https"),
        ("file:///etc/passwd", "leaves https"),
        ("https://u:p@files.example.com/", "user name"),
        ("\\\\evil.org/", "malformed"),
    ];
    for (location, expected) in refused {
        assert!(follow(location).contains(expected), "{location}: {}", follow(location));
    }
}

#[test]
fn names_chosen_by_the_record_are_told_from_names_chosen_by_the_topology() {
    let wildcard = |url: &str| policy().check(url).unwrap().wildcard;
    assert!(wildcard("https://a.bucket.example.net/"));
    assert!(!wildcard("https://files.example.com/"));
    let both = Policy::new([
        allow("https", "*.example.com", None, false),
        allow("https", "files.example.com", None, false),
    ]);
    assert!(!both.check("https://files.example.com/").unwrap().wildcard);
}

#[test]
fn nothing_secret_is_shown() {
    let policy = policy();
    let permitted = policy.check("https://files.example.com/p?X-Amz-Signature=canary#canary");
    let shown = format!("{permitted:?}");
    assert!(shown.contains("https://files.example.com/p"), "{shown}");
    let texts = [
        shown,
        policy.check("https://evil.org/p?sig=canary#canary").unwrap_err().to_string(),
        policy.check("https://canary:canary@evil.org/p").unwrap_err().to_string(),
        policy.check("https://canary.example:x/?canary").unwrap_err().to_string(),
        policy.check("data:text/plain,canary").unwrap_err().to_string(),
        policy.check("canary").unwrap_err().to_string(),
    ];
    for text in texts {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn very_long_urls_are_refused_and_long_paths_are_cut_in_texts() {
    let long = format!("https://files.example.com/{}", "a".repeat(MAX_URL));
    assert!(verdict(&long).contains("longer than"));
    let path = format!("https://evil.org/{}", "a".repeat(2000));
    let text = policy().check(&path).unwrap_err().to_string();
    assert!(text.len() < 400 && text.contains("..."), "{text}");
}

proptest! {
    #[test]
    fn whatever_passes_names_a_host_of_the_list(
        front in "[a-z0-9:@/.#?%\\\\ ]{0,12}",
        back in "[a-z0-9:@/.#?%\\\\ ]{0,12}",
    ) {
        let url = format!("https://{front}files.example.com{back}");
        if let Ok(permitted) = policy().check(&url) {
            let host = permitted.url.host_str().unwrap_or_default().to_owned();
            prop_assert!(
                host == "files.example.com" || host == "93.184.216.34",
                "{url} leads to {host}"
            );
        }
    }
}
