//! Responsible for: the ingress over real sockets: answers, durable files, announcements that
//! outlive the process and the broker's absence.
//! Not responsible for: the spool on its own (`spool`), programs (`announcement`).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::broker::{BrokerError, Delivery, ProducerRecord, QueueFull};
use crate::expr::{Program, Purpose};
use crate::model::{Offset, Topic, TopicPartition};
use crate::runtime::clock::SystemClock;

mod shared;

/// What the broker does with the next records.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Acks,
    /// Takes them and says nothing, as a broker that is away.
    IsAway,
    Refuses,
    HasNoRoom,
}

struct Log {
    mood: Mood,
    records: Vec<ProducerRecord>,
    refused: usize,
    /// Never answered.
    held: VecDeque<Delivery>,
}

struct Broker(Mutex<Log>);

impl Broker {
    fn new(mood: Mood) -> Arc<Self> {
        let log = Log { mood, records: Vec::new(), refused: 0, held: VecDeque::new() };
        Arc::new(Self(Mutex::new(log)))
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn becomes(&self, mood: Mood) {
        self.log().mood = mood;
    }
}

impl Producer for Broker {
    fn send(&self, record: ProducerRecord, delivery: Delivery) -> Result<(), QueueFull> {
        let mut log = self.log();
        match log.mood {
            Mood::HasNoRoom => return Err(QueueFull(record, delivery)),
            Mood::IsAway => log.held.push_back(delivery),
            Mood::Refuses => {
                log.refused += 1;
                drop(log);
                delivery(Err(BrokerError::UnknownTopic(record.topic)));
            }
            Mood::Acks => {
                let at =
                    TopicPartition { topic: record.topic.clone(), partition: Default::default() };
                log.records.push(record);
                drop(log);
                delivery(Ok((at, Offset::ZERO)));
            }
        }
        Ok(())
    }

    fn flush(&self, _timeout: Duration) -> bool {
        true
    }
}

fn ingress() -> Ingress {
    let program = |source: &str, purpose| Program::compile(source, purpose).unwrap();
    Ingress {
        path: "/api/upload".to_owned(),
        parts: vec!["file".to_owned(), "upload".to_owned()],
        max_bytes: 1000,
        content_type: Some(r"app/(?P<service>[a-z]+)\+tgz".to_owned()),
        topic: Topic::from("announcements"),
        headers: vec![("service".to_owned(), program("%match.service", Purpose::Key))],
        announce: program(
            r#". = {"id": %id, "url": %url, "size": %size, "org": string!(%headers."x-org")}"#,
            Purpose::Map,
        ),
        reply: Some(program(r#"{"request_id": .id, "org": .org}"#, Purpose::Map)),
        spool: None,
    }
}

fn settings(dir: &Path, listen: SocketAddr) -> IngressSettings {
    IngressSettings {
        listen,
        public_url: None,
        dir: dir.to_owned(),
        retain: IngressSettings::RETAIN,
        adopt_after: IngressSettings::ADOPT_AFTER,
        shared: BTreeMap::new(),
    }
}

fn start(dir: &Path, broker: &Arc<Broker>) -> IngressServer {
    start_with(settings(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), broker)
}

fn start_with(settings: IngressSettings, broker: &Arc<Broker>) -> IngressServer {
    let configs = vec![("uploads".into(), ingress())];
    IngressServer::start(configs, settings, broker.clone(), SystemClock::shared(), Arc::default())
        .unwrap()
}

/// Runs a test in an actix system, and fails it if it hangs.
fn run(test: impl Future<Output = ()>) {
    let in_time = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    actix::System::new().block_on(in_time).unwrap();
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// Sends a request on a connection of its own; status and body of the answer.
async fn request(server: &IngressServer, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let length = body.len();
    let head = format!("{head}host: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may have answered and gone before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// POSTs parts, each with name, content type and bytes.
async fn post(server: &IngressServer, org: &str, parts: &[(&str, &str, &[u8])]) -> (u16, String) {
    let mut body = Vec::new();
    for (name, content_type, bytes) in parts {
        let head = format!(
            "--limit\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\
             content-type: {content_type}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    let head = format!(
        "POST /api/upload HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=limit\r\n{org}"
    );
    request(server, &head, &body).await
}

const ORG: &str = "X-Org: o1\r\n";
const GOOD: &str = "app/hccm+tgz";

/// Names in the spool by their ending: payloads, `json`, `sent`.
fn count(dir: &Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(dir.join("uploads")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.split_once('.').map_or("", |(_, ending)| ending) == ending).count()
}

#[test]
fn an_upload_is_kept_announced_and_served() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = Broker::new(Mood::Acks);
        let server = start(dir.path(), &broker);
        let parts: [(&str, &str, &[u8]); 3] =
            [("note", "text/plain", b"hello"), ("upload", GOOD, b"payload"), ("file", "x/y", b"")];
        let (status, answer) = post(&server, ORG, &parts).await;
        assert_eq!(status, 202, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["org"], "o1");

        until(|| count(dir.path(), "sent") == 1).await;
        let record = broker.log().records.pop().unwrap();
        assert_eq!(record.headers, [("service".to_owned(), "hccm".into())]);
        let announced: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        assert_eq!(announced["size"], 7);
        assert_eq!(announced["id"], answer["request_id"]);

        let url = announced["url"].as_str().unwrap();
        assert!(matches!(server.payloads()[0].find(url).await, Some(Ok(Payload::File(_)))));
        let path = url.strip_prefix(&format!("http://{}", server.local_addr())).unwrap();
        let got = request(&server, &format!("GET {path} HTTP/1.1\r\n"), b"").await;
        assert_eq!(got, (200, "payload".to_owned()));
        server.stop().await;
    });
}

#[test]
fn what_cannot_be_taken_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = Broker::new(Mood::Acks);
        let server = start(dir.path(), &broker);
        let (most, more, padding) = ([7_u8; 1000], [7_u8; 1001], vec![b'x'; (1 << 20) + 1]);
        let wrong_part: (&str, &str, &[u8]) = ("other", GOOD, b"p");
        type Part<'a> = (&'a str, &'a str, &'a [u8]);
        let table: [(&str, &[Part<'_>], u16, &str); 6] = [
            (ORG, &[wrong_part], 400, "no part `file` or `upload`"),
            (ORG, &[("file", "app/hccm", b"p")], 415, "app/hccm"),
            (ORG, &[("file", GOOD, &more)], 413, "1000 bytes"),
            (ORG, &[("note", "x/y", &padding), ("file", GOOD, b"p")], 413, "bytes"),
            ("", &[("file", GOOD, b"p")], 400, "string"),
            (ORG, &[("file", GOOD, &most)], 202, "o1"),
        ];
        for (headers, parts, expected, text) in table {
            let (status, answer) = post(&server, headers, parts).await;
            assert_eq!(status, expected, "{answer}");
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            let shown = if status == 202 { &answer["org"] } else { &answer["error"] };
            assert!(shown.as_str().unwrap().contains(text), "{answer}");
        }
        until(|| count(dir.path(), "sent") == 1).await;
        assert_eq!((count(dir.path(), ""), count(dir.path(), "part")), (1, 0));
        server.stop().await;
    });
}

#[test]
fn bodies_that_are_no_form_and_paths_that_are_none_get_json_errors() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let server = start(dir.path(), &Broker::new(Mood::Acks));
        let table = [
            ("POST /api/upload HTTP/1.1\r\ncontent-type: text/plain\r\n", 400),
            ("POST /api/upload HTTP/1.1\r\n", 400),
            ("POST /api/upload HTTP/1.1\r\ncontent-type: multipart/form-data\r\n", 400),
            ("POST /api/upload HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=x\r\n", 400),
            ("GET /api/upload HTTP/1.1\r\n", 405),
            ("GET /nothing HTTP/1.1\r\n", 404),
            ("GET /api/upload/payloads/..%2Fx HTTP/1.1\r\n", 404),
            ("GET /api/upload/payloads/00000000-0000-7000-8000-000000000000 HTTP/1.1\r\n", 404),
        ];
        for (head, expected) in table {
            let (status, answer) = request(&server, head, b"--\n\n").await;
            assert_eq!(status, expected, "{head}: {answer}");
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert!(answer["error"].is_string(), "{head}: {answer}");
        }
        server.stop().await;
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let server = start(dir.path(), &Broker::new(Mood::Acks));
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let head = "POST /api/upload HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\nx-org: o1\r\n\
                    content-type: multipart/form-data; boundary=limit\r\n\r\n--limit\r\n\
                    content-disposition: form-data; name=\"file\"\r\n\
                    content-type: app/hccm+tgz\r\n\r\nhalf of it";
        stream.write_all(head.as_bytes()).await.unwrap();
        until(|| count(dir.path(), "part") == 1).await;
        drop(stream);
        until(|| count(dir.path(), "part") == 0).await;
        assert_eq!((count(dir.path(), ""), count(dir.path(), "json")), (0, 0));
        server.stop().await;
    });
}

#[test]
fn what_was_not_announced_is_announced_by_the_next_process() {
    for mood in [Mood::IsAway, Mood::HasNoRoom, Mood::Refuses] {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let away = Broker::new(mood);
            let server = start(dir.path(), &away);
            for _ in 0..3 {
                let (status, answer) = post(&server, ORG, &[("file", GOOD, b"payload")]).await;
                assert_eq!(status, 202, "the broker is not needed: {answer}");
            }
            assert_eq!((count(dir.path(), ""), count(dir.path(), "json")), (3, 3));
            server.stop().await;

            let back = Broker::new(Mood::Acks);
            let server = start(dir.path(), &back);
            until(|| count(dir.path(), "sent") == 3).await;
            assert_eq!(back.log().records.len(), 3);
            assert_eq!(count(dir.path(), "json"), 0);
            server.stop().await;
        });
    }
}

#[test]
fn a_refused_announcement_is_tried_again_in_the_same_process() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = Broker::new(Mood::Refuses);
        let server = start(dir.path(), &broker);
        let (status, _) = post(&server, ORG, &[("file", GOOD, b"payload")]).await;
        assert_eq!(status, 202);
        until(|| broker.log().refused >= 1).await;
        assert_eq!(count(dir.path(), "json"), 1, "it is not lost");
        broker.becomes(Mood::Acks);
        until(|| count(dir.path(), "sent") == 1).await;
        server.stop().await;
    });
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listen = taken.local_addr().unwrap();
        let settings = settings(dir.path(), listen);
        let broker: Arc<Broker> = Broker::new(Mood::Acks);
        let clock = SystemClock::shared();
        let failed = IngressServer::start(vec![], settings, broker, clock, Arc::default());
        let Err(error) = failed else { panic!("it started") };
        assert!(error.to_string().contains(&listen.to_string()), "{error}");
    });
}
