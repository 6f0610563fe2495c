//! Responsible for: proving that what counts is the address that is connected to, whatever names
//! answer and however often they change their mind.
//! Not responsible for: URLs that spell an address out (`hostile`).

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::dns::{Name, Resolve};

use super::trap;
use crate::net::resolver::{AddressRefused, GuardedResolver, LookUp};
use crate::net::stub::{Answer, Stub};
use crate::net::{Allow, GuardedClient, NetError, Settings};
use crate::runtime::node::BoxFuture;

/// A name server that answers the next thing each time it is asked, and the last one for ever.
#[derive(Debug)]
struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |text: &&str| text.parse::<IpAddr>().unwrap();
        let answers: VecDeque<Vec<IpAddr>> =
            answers.iter().map(|answer| answer.iter().map(parse).collect()).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl LookUp for Script {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(std::future::ready(Ok(next.unwrap_or_default())))
    }
}

fn origin(host: &str, port: u16, private: bool) -> Allow {
    Allow { scheme: "http".to_owned(), host: host.to_owned(), port: Some(port), private }
}

fn client(allow: Vec<Allow>, script: &Arc<Script>) -> GuardedClient {
    let settings = Settings { allow, max_bytes: 1_000, timeout: Duration::from_secs(20) };
    GuardedClient::looking_up(settings, script.clone()).unwrap()
}

async fn fetch(client: &GuardedClient, url: &str) -> Result<Vec<u8>, NetError> {
    let mut download = client.open(client.check(url)?).await?;
    let mut body = Vec::new();
    while let Some(chunk) = download.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Names that lead inside in somebody's network.
const NAMES: [&str; 10] = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain",
    "anything.localhost",
    "loc\u{ad}alhost",
    "metadata.google.internal",
    "instance-data.ec2.internal",
    "127.0.0.1.nip.io",
    "a.127.0.0.1.example.com",
];

#[tokio::test]
async fn a_name_is_refused_for_what_it_resolves_to_and_nobody_is_connected_to() {
    let trap = trap().await;
    let answers = [
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("64:ff9b::7f00:1", "a loopback address"),
        ("2002:7f00:1::", "a loopback address"),
        ("0.0.0.0", "an unspecified address"),
        ("::", "an unspecified address"),
        ("169.254.169.254", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("10.0.0.1", "a private address"),
        ("192.168.0.1", "a private address"),
        ("100.64.0.1", "a carrier-grade NAT address"),
        ("fd00::1", "a unique local address"),
        ("168.63.129.16", "a cloud's metadata address"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "broadcast"),
        ("192.0.2.1", "a documentation address"),
    ];
    for name in NAMES {
        for (address, kind) in answers {
            let script = Script::new(&[&[address]]);
            let client = client(vec![origin(name, trap.port, false)], &script);
            let url = format!("http://{name}:{}/secret?sig=canary", trap.port);
            let error = fetch(&client, &url).await.unwrap_err();
            assert!(matches!(error, NetError::Forbidden { .. }), "{name} {address}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(kind) && !text.contains("canary"), "{name} {address}: {text}");
            assert_eq!(script.asked().len(), 1, "{name} {address}: it is poison at once");
        }
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn every_address_of_an_answer_is_judged_and_only_those_outside_are_kept() {
    let mixed: &[&str] = &["10.0.0.1", "93.184.216.34", "::1", "2606:2800:220:1::1", "0.0.0.0"];
    let resolver = GuardedResolver { private: false, look_up: Script::new(&[mixed]) };
    let name: Name = "mixed.example".parse().unwrap();
    let kept: Vec<String> =
        resolver.resolve(name).await.unwrap().map(|address| address.ip().to_string()).collect();
    assert_eq!(kept, ["93.184.216.34", "2606:2800:220:1::1"]);
}

/// A name that answers one thing to whoever checks and another to whoever connects.
#[tokio::test]
async fn a_name_that_changes_its_mind_is_judged_by_the_answer_that_is_used() {
    let script = Script::new(&[&["93.184.216.34"], &["127.0.0.1"], &["93.184.216.34"]]);
    let resolver = GuardedResolver { private: false, look_up: script };
    let mut verdicts = Vec::new();
    for _ in 0..3 {
        let name: Name = "rebinding.example".parse().unwrap();
        verdicts.push(match resolver.resolve(name).await {
            Ok(kept) => kept.map(|address| address.ip().to_string()).collect(),
            Err(error) => error.downcast_ref::<AddressRefused>().unwrap().to_string(),
        });
    }
    let inside = "the host resolves to a loopback address";
    assert_eq!(verdicts, ["93.184.216.34", inside, "93.184.216.34"]);
}

#[tokio::test]
async fn a_connection_costs_one_look_up_and_goes_where_that_one_said() {
    let stub = Stub::serve(|_| Answer::body(b"fine")).await;
    // A second look-up would find nobody: 127.0.0.2 is not listened on.
    let script = Script::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = client(vec![origin("spool.internal", stub.port, true)], &script);
    let url = format!("http://spool.internal:{}/p", stub.port);
    assert_eq!(fetch(&client, &url).await.unwrap(), b"fine");
    assert_eq!(script.asked(), ["spool.internal"]);
    assert_eq!(stub.connections(), 1);
}

#[tokio::test]
async fn a_name_that_may_lie_inside_opens_no_door_for_one_that_may_not() {
    let stub = Stub::serve(|head| {
        if head.starts_with("GET /jump") {
            let port = head.split("host: ").nth(1).unwrap_or_default();
            let port = port.lines().next().and_then(|host| host.split(':').nth(1)).unwrap_or("");
            let target = format!("location: http://outside.example:{port}/secret\r\n");
            return Answer::status(307, &format!("{target}content-length: 0\r\n"), b"");
        }
        Answer::body(b"fine")
    })
    .await;
    let script = Script::new(&[&["127.0.0.1"]]);
    let allow = vec![
        origin("spool.internal", stub.port, true),
        origin("outside.example", stub.port, false),
    ];
    let client = client(allow, &script);
    let inside = |path: &str| format!("http://spool.internal:{}{path}", stub.port);
    assert_eq!(fetch(&client, &inside("/p")).await.unwrap(), b"fine");
    let outside = format!("http://outside.example:{}/secret", stub.port);
    for url in [outside, inside("/jump")] {
        let error = fetch(&client, &url).await.unwrap_err();
        assert!(matches!(error, NetError::Forbidden { .. }), "{url}: {error:?}");
    }
    assert_eq!(stub.requests(), 2, "the page and the redirect");
}
