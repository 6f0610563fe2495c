//! Secrets in every place that can hold one, and none of them in anything that a process writes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill::api::routes::{ROUTES, Verb};
use tidemill::broker::ProducerRecord;
use tidemill::model::Topic;

use crate::api::Api;
use crate::database::{self, Database};
use crate::harness::{Reader, Tidemill, create_topic, kafka, produce, unique, wait_for};

/// In everything that is secret and can be chosen.
const CANARY: &str = "canary-19d2c6b4f0";
/// The password of the user alice at the test broker.
const PASSWORD: &str = "alice-secret";
/// Records that fail for good.
const FAILING: usize = 6;

/// A server to fetch from. What is behind it is away until somebody says otherwise.
struct Server {
    port: u16,
    is_back: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let is_back = Arc::new(AtomicBool::new(false));
        let told = is_back.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.expect("a connection"), port, told.load(Ordering::Acquire));
            }
        });
        Self { port, is_back }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}?signature={CANARY}", self.port)
    }
}

fn answer(mut stream: TcpStream, port: u16, is_back: bool) {
    let mut head = [0; 4096];
    let count = stream.read(&mut head).unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..count]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, location) = match path.split('?').next().unwrap_or_default() {
        "/gone" => (404, String::new()),
        "/away" if !is_back => (503, String::new()),
        "/moved" => (302, format!("http://127.0.0.1:{port}/fine?signature={CANARY}")),
        "/lost" => (302, format!("http://evil.example/?signature={CANARY}")),
        "/done" => (500, String::new()),
        _ => (200, String::new()),
    };
    // Whoever hangs up too early tries again.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Status\r\nLocation: {location}\r\nSet-Cookie: session={CANARY}\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\nok"
    );
}

/// A pipeline over everything that takes a secret.
struct Nest {
    folder: TempDir,
    name: String,
    server: Server,
    database: Database,
    environment: Vec<(String, String)>,
}

impl Nest {
    fn new() -> Self {
        let (name, server) = (unique("canaries"), Server::start());
        let sasl = std::env::var("TIDEMILL_TEST_KAFKA_SASL").expect(
            "TIDEMILL_TEST_KAFKA_SASL is not set: run the tests through scripts/test, which starts \
             Kafka",
        );
        let folder = tempfile::tempdir().expect("a folder");
        let topology = topology(&name, &sasl, server.port);
        std::fs::write(folder.path().join("topology.toml"), topology).expect("the topology");
        let database = Database::create(&database::server(), &name);
        // The server trusts everybody, whatever their password.
        let url = database.url().replace("://postgres@", &format!("://postgres:{CANARY}-url@"));
        assert!(url.contains(CANARY));
        let environment = [
            ("TIDEMILL_STATE_URL", url),
            ("TIDEMILL_API_TOKEN", format!("{CANARY}-token")),
            ("TIDEMILL_TELEMETRY_LOG_LEVEL", "trace".to_owned()),
            ("TIDEMILL_INGRESS_LISTEN", "127.0.0.1:0".to_owned()),
            ("CANARY_PASSWORD", PASSWORD.to_owned()),
            ("CANARY_UNUSED", format!("{CANARY}-unused")),
            ("CANARY_RECEIVER", server.url("/done")),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { folder, name, server, database, environment }
    }

    fn topic(&self, of: &str) -> String {
        format!("{}.{of}", self.name)
    }

    fn start(&self) -> Tidemill {
        Tidemill::start_with(&["run", "topology.toml"], self.folder.path(), &self.environment)
    }

    /// What a command prints, with these changes of its environment.
    fn printed(&self, arguments: &[&str], changed: &[(&str, &str)]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TIDEMILL_API_LISTEN", "127.0.0.1:0")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(changed.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let printed = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// Another topology, and what `check` prints of it.
    fn checked(&self, lines: &str) -> String {
        let text = format!("version = 1\nname = \"wrong\"\n{lines}\n");
        std::fs::write(self.folder.path().join("wrong.toml"), text).expect("a topology");
        self.printed(&["check", "wrong.toml"], &[])
    }
}

fn topology(name: &str, sasl: &str, port: u16) -> String {
    format!(
        r#"version = 1
name = "{name}"

[vars]
password = {{ env = "CANARY_PASSWORD", type = "secret" }}
unused = {{ env = "CANARY_UNUSED", type = "secret" }}
receiver = {{ env = "CANARY_RECEIVER", type = "url" }}

[broker]
bootstrap = "{sasl}"
security = "sasl_plaintext"
mechanism = "PLAIN"
username = "alice"
password = "${{password}}"

[broker.properties]
"broker.address.family" = "v4"

[ingress.uploads]
path = "/upload"
parts = ["file"]
topic = "{name}.announced"
announce = '. = {{"id": %id, "size": %size}}'

[sources.orders]
type = "kafka"
topic = "{name}.orders"
decode = "json"

[processors.lists]
type = "filter"
inputs = ["orders"]
condition = '.kind == "list"'

[processors.parts]
type = "filter"
inputs = ["orders"]
condition = '.kind == "part"'

[processors.payload]
type = "fetch"
inputs = ["parts"]
url = ".url"
attempts = 1
allow = [{{ origin = "http://127.0.0.1:{port}", private = true }}]

[processors.slim]
type = "remap"
inputs = ["payload"]
program = '. = {{"id": .id}}'

[sinks.out]
type = "kafka"
inputs = ["slim"]
topic = "{name}.copies"

[manifests.batch]
announced_by = "lists"
members = "parts"
key = ".batch"
member = ".id"
expected = ".ids"
policy = "all_settled"
tolerate = 1000

[[manifests.batch.on_complete]]
type = "http"
name = "call"
url = "${{receiver}}"
payload = '{{"batch": .manifest}}'
"#
    )
}

/// Everything that was seen, by where it was seen.
#[derive(Default)]
struct Seen(BTreeMap<String, String>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl AsRef<str>) {
        self.0.entry(place.into()).or_default().push_str(text.as_ref());
    }

    /// # Panics
    /// If there is a secret anywhere.
    fn holds_no_secret(&self) {
        for (place, text) in &self.0 {
            let line = text.lines().find(|line| line.contains(CANARY) || line.contains(PASSWORD));
            assert!(line.is_none(), "a secret in {place}: {}", line.unwrap_or_default());
        }
    }
}

/// Asks for everything that the API serves, with and without the token.
fn ask_for_everything(api: &Api, letter: &str, seen: &mut Seen) {
    let token = format!("Authorization: Bearer {CANARY}-token\r\n");
    let wrong = format!("Authorization: Bearer {CANARY}-wrong\r\nCookie: session={CANARY}\r\n");
    let asked = json!({ "who": "ann", "why": "a test", "dry_run": true });
    let (json, asked) = ("Content-Type: application/json\r\n", asked.to_string());
    for route in ROUTES {
        let path = route.path.replace("{key}", "b-1").replace("{command}", "retry");
        let path = path.replace("{name}", "t").replace("{id}", letter);
        let method = if route.verb == Verb::Ask { "GET" } else { "POST" };
        for headers in ["", wrong.as_str(), token.as_str()] {
            // Whoever is not let in is not listened to either.
            let is_heard = method == "POST" && headers == token;
            let body = if is_heard { asked.as_str() } else { "" };
            let (_, answer) = api.talk(method, &path, &format!("{headers}{json}"), body);
            seen.add(format!("{method} {path}"), without_record(&answer));
        }
    }
    let (_, answer) = api.talk("GET", &format!("/metrics?token={CANARY}"), &token, "");
    seen.add("/metrics", answer);
}

/// An answer without the source record of a dead letter: that is what was produced, bytes and all.
fn without_record(answer: &str) -> String {
    match serde_json::from_str::<Value>(answer) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("value");
            fields.remove("value_base64");
            Value::Object(fields).to_string()
        }
        _ => answer.to_owned(),
    }
}

/// Uploads something, with credentials everywhere.
fn upload(address: &str) -> String {
    let body = "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
                Content-Type: text/plain\r\n\r\nhello\r\n--frontier--\r\n";
    let mut stream = TcpStream::connect(address).expect("the ingress listens");
    write!(
        stream,
        "POST /upload?key={CANARY} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Authorization: Basic {CANARY}\r\nCookie: session={CANARY}\r\nX-Api-Key: {CANARY}\r\n\
         Content-Type: multipart/form-data; boundary=frontier\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the upload is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    answer
}

/// A list and its parts: two that arrive, one that waits, and those that fail for good.
fn records(nest: &Nest) -> Vec<ProducerRecord> {
    let port = nest.server.port;
    let urls = [
        nest.server.url("/fine"),
        nest.server.url("/moved"),
        nest.server.url("/away"),
        nest.server.url("/gone"),
        nest.server.url("/lost"),
        format!("http://user:{CANARY}@127.0.0.1:{port}/fine"),
        format!("http://evil.example/?signature={CANARY}#{CANARY}"),
        format!("http://[{CANARY}/"),
    ];
    let ids: Vec<String> = (0..urls.len()).map(|number| format!("p-{number}")).collect();
    let list = json!({ "kind": "list", "batch": "b-1", "ids": ids });
    let parts = ids.iter().zip(urls).map(|(id, url)| {
        json!({ "kind": "part", "batch": "b-1", "id": id, "url": url }).to_string()
    });
    let broken = format!("{{\"kind\": \"part\", \"url\": \"{CANARY}\"");
    let topic = Topic::from(nest.topic("orders"));
    let values = [list.to_string()].into_iter().chain(parts).chain([broken]);
    let record = |value: String| {
        let mut record = ProducerRecord::new(topic.clone(), value);
        record.key = Some(Bytes::from_static(b"one partition"));
        record
    };
    values.map(record).collect()
}

#[test]
fn no_planted_secret_is_seen_in_logs_metrics_answers_errors_or_dead_letters() {
    let (nest, broker, mut seen) = (Nest::new(), kafka(), Seen::default());
    for topic in ["orders", "copies", "announced"] {
        create_topic(&*broker, &nest.topic(topic), 1);
    }
    seen.add("check", nest.printed(&["check", "topology.toml"], &[]));
    seen.add("describe", nest.printed(&["describe", "topology.toml"], &[]));
    let mermaid = ["describe", "topology.toml", "--format", "mermaid"];
    seen.add("describe", nest.printed(&mermaid, &[]));

    let process = nest.start();
    let api = Api::of(&process);
    let address = wait_for("the ingress", || {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("ingress takes uploads"))?;
        line.rsplit("address=").next().map(|address| address.trim().to_owned())
    });
    seen.add("the answer to an upload", upload(&address));
    produce(&*broker, records(&nest));

    let token = format!("Authorization: Bearer {CANARY}-token\r\n");
    let away = wait_for("a fetch that waits", || {
        let (status, ready) = api.talk("GET", "/readyz", &token, "");
        (status == 503 && ready.contains("payload")).then_some(ready)
    });
    seen.add("/readyz", away);
    let mut letters = Reader::new(&*broker, &Topic::from(nest.topic("dead-letters")));
    letters.read_until("all dead letters", |read| read.len() >= FAILING);
    let (partition, letter) = &letters.records[0];
    let id = format!("{}-{}", partition.partition, letter.offset);
    ask_for_everything(&api, &id, &mut seen);
    nest.server.is_back.store(true, Ordering::Release);
    wait_for("a delivery that fails", || {
        let query = "SELECT COUNT(*) FROM tidemill_outbox WHERE attempts > 0";
        (nest.database.number(query)? > 0).then_some(())
    });
    ask_for_everything(&api, &id, &mut seen);
    seen.add("manifests explain", nest.printed(&["manifests", "explain", "b-1"], &[]));

    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains(" TRACE ") && log.contains("record failed for good"), "{log}");
    seen.add("the log", log);
    for (_, letter) in &letters.records {
        for (name, value) in &letter.headers {
            seen.add("headers of dead letters", format!("{name}: {value:?}\n"));
        }
    }
    for table in ["tidemill_member", "tidemill_manifest"] {
        seen.add(table, nest.database.csv(&format!("SELECT * FROM {table}")));
    }
    seen.holds_no_secret();
}

#[test]
fn no_error_of_a_command_repeats_a_secret() {
    let (nest, mut seen) = (Nest::new(), Seen::default());
    let run = ["run", "topology.toml"];
    let nowhere = format!("postgres://postgres:{CANARY}@127.0.0.1:1/none");
    let broken = format!("postgres://postgres:{CANARY}@[::1/none?sslmode=perhaps");
    let other = format!("mysql://root:{CANARY}@127.0.0.1/none");
    let short = &CANARY[..15];
    let changes = [
        ("an unreachable database", "TIDEMILL_STATE_URL", nowhere.as_str()),
        ("an unreadable url", "TIDEMILL_STATE_URL", broken.as_str()),
        ("another database", "TIDEMILL_STATE_URL", other.as_str()),
        ("a wrong password", "CANARY_PASSWORD", CANARY),
        ("a token with a space", "TIDEMILL_API_TOKEN", "canary-19d2c6b4f0 x"),
        ("a short token", "TIDEMILL_API_TOKEN", short),
    ];
    for (what, variable, value) in changes {
        let printed = nest.printed(&run, &[(variable, value)]);
        assert!(printed.contains("error"), "{what}: {printed}");
        assert!(!printed.contains(short), "{what}: {printed}");
        seen.add(what, printed);
    }
    let wrong = [
        format!("[broker.properties]\n\"sasl.password\" = \"{CANARY}\""),
        format!("[broker.properties]\nssl.key.password = \"{CANARY}\""),
        format!("[vars]\nsecret = {{ type = \"secret\", default = \"{CANARY}\" }}"),
        format!(
            "[broker]\nbootstrap = \"a:1\"\nsecurity = \"sasl_plaintext\"\nmechanism = \"PLAIN\"\n\
             username = \"alice\"\npassword = \"{CANARY}\""
        ),
        "[vars]\nsecret = { env = \"CANARY_UNUSED\", type = \"secret\" }\n[sources.orders]\n\
         type = \"kafka\"\ntopic = \"${secret}\""
            .to_owned(),
    ];
    for lines in &wrong {
        let printed = nest.checked(lines);
        assert!(printed.contains("error"), "{lines}: {printed}");
        seen.add(lines.replace(CANARY, "..."), printed);
    }
    seen.holds_no_secret();
}

/// The search itself finds what it looks for.
#[test]
#[should_panic(expected = "a secret in the log")]
fn a_secret_that_is_there_is_found() {
    let mut seen = Seen::default();
    seen.add("/metrics", "# TYPE x gauge\n");
    seen.add("the log", format!("INFO fine\nINFO login password={CANARY}\n"));
    seen.holds_no_secret();
}

#[test]
fn the_topology_of_this_test_is_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = topology("t", "localhost:1", 1);
    std::fs::write(folder.path().join("topology.toml"), text).expect("a topology");
    let checked = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["check", "topology.toml"])
        .envs([("CANARY_PASSWORD", "p"), ("CANARY_UNUSED", "u"), ("CANARY_RECEIVER", "http://h/")])
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
