//! The API of a running process: health, metrics, who may ask, and what is answered.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill::api::routes::{ROUTES, Verb};
use tidemill::broker::ProducerRecord;
use tidemill::broker::embedded::EmbeddedLog;
use tidemill::model::Topic;
use tidemill::telemetry::Instruments;
use tidemill::telemetry::catalogue::LABELLED;

use crate::harness::{
    Tidemill, bootstrap, create_topic, free_port, kafka, produce, unique, wait_for,
};

/// A secret that must not be seen anywhere.
const CANARY: &str = "canary-7f3a9c51e2";
/// Records of the pipeline that waits.
const RECORDS: usize = 100;
/// So little room that the partition is paused.
const LITTLE_ROOM: &str =
    "[limits]\nbuffer_records = 10\nbatch_records = 5\nin_flight_records = 5\n";

/// The API of a process.
pub struct Api {
    address: String,
}

impl Api {
    pub fn of(process: &Tidemill) -> Self {
        let address = wait_for("the API", || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("api answers"))?;
            line.rsplit("address=").next().map(|address| address.trim().to_owned())
        });
        Self { address }
    }

    /// Sends a request; returns the status and the body.
    pub fn talk(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("the API listens");
        let (address, length) = (&self.address, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        )
        .expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, body.to_owned())
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.talk("GET", path, "", "");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let json = "Content-Type: application/json\r\n";
        let (status, body) = self.talk("POST", path, json, &body.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.talk("GET", "/metrics", "", "");
        assert_eq!(status, 200, "{text}");
        Metrics(text)
    }
}

/// Metrics as text.
pub struct Metrics(String);

impl Metrics {
    /// Values of a metric, by its labels.
    fn values(&self, name: &str) -> BTreeMap<&str, f64> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let pairs = lines.map(|line| {
            let (labels, value) = line.rsplit_once("} ").expect("labels and a value");
            (labels, value.parse().expect("a number"))
        });
        pairs.collect()
    }

    pub fn sum(&self, name: &str) -> f64 {
        self.values(name).values().sum()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(since.as_millis()).expect("a time before the end of the world")
}

/// A folder with a topology that fetches what its records name, from a port where nobody listens
/// yet, and with records that wait for it.
struct Fetching {
    folder: TempDir,
    port: u16,
}

impl Fetching {
    fn new() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let topology = format!(
            "version = 1\nname = \"fetching\"\n\n[sources.orders]\ntype = \"kafka\"\n\
             topic = \"orders\"\ndecode = \"json\"\n\n[processors.payload]\ntype = \"fetch\"\n\
             inputs = [\"orders\"]\nurl = \".url\"\n\
             allow = [{{ origin = \"http://127.0.0.1:{port}\", private = true }}]\n\n\
             [sinks.out]\ntype = \"kafka\"\ninputs = [\"payload\"]\ntopic = \"orders.fetched\"\n"
        );
        std::fs::write(folder.path().join("topology.toml"), topology).expect("the topology");
        std::fs::write(folder.path().join("tidemill.toml"), LITTLE_ROOM).expect("the settings");
        let fetching = Self { folder, port };
        fetching.fill();
        fetching
    }

    fn fill(&self) {
        let data = self.folder.path().join("data/log");
        std::fs::create_dir_all(&data).expect("the folder");
        let log = EmbeddedLog::open(&data, Arc::new(now)).expect("the log");
        let records = (0..RECORDS).map(|number| {
            let url = format!("http://127.0.0.1:{}/{number}?signature={CANARY}", self.port);
            let mut record =
                ProducerRecord::new(Topic::from("orders"), format!(r#"{{"url":"{url}"}}"#));
            record.key = Some(Bytes::from_static(b"one partition"));
            record
        });
        produce(&*log, records);
        log.close();
    }

    fn start(&self) -> (Tidemill, Api) {
        let arguments = ["--config", "tidemill.toml", "run", "topology.toml"];
        let process = Tidemill::start(&arguments, self.folder.path());
        let api = Api::of(&process);
        (process, api)
    }

    /// Serves what is fetched, until the test ends.
    fn serve(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("the port");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut head = [0; 4096];
                // Whoever hangs up too early tries again.
                let _ = stream.read(&mut head);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            }
        });
    }
}

#[test]
fn an_outage_is_named_its_lag_grows_and_both_end_with_it() {
    let fetching = Fetching::new();
    let (process, api) = fetching.start();

    // away
    let away = wait_for("a node that is away", || {
        let (status, ready) = api.get("/readyz");
        (status == 503 && ready["unavailable"][0]["node"] == "payload").then_some(ready)
    });
    assert_eq!((&away["ready"], &away["started"]), (&json!(false), &json!(true)));
    assert!(away["unavailable"][0]["since"].is_string(), "{away}");
    assert!(away["unavailable"][0]["why"].as_str().is_some_and(|why| !why.is_empty()), "{away}");
    assert_eq!(api.get("/livez").0, 200, "it waits, and lives");

    // paused, and behind by all records
    let waiting = wait_for("the whole lag", || {
        let metrics = api.metrics();
        let behind = metrics.sum("tidemill_partition_lag_records") as usize;
        (behind == RECORDS && metrics.sum("tidemill_partition_pauses_total") > 0.0)
            .then_some(metrics)
    });
    let seconds = waiting.sum("kafka_consumer_lag_seconds");
    assert!(seconds > 0.0);
    assert!(waiting.sum("tidemill_node_unavailable_seconds") > 0.0);
    assert_eq!(waiting.sum("tidemill_nodes_unavailable"), 1.0);
    assert_eq!(waiting.sum("kafka_consumer_messages_processed_total"), 0.0);
    wait_for("the lag to grow", || {
        (api.metrics().sum("kafka_consumer_lag_seconds") > seconds + 1.0).then_some(())
    });
    has_every_name(&waiting);

    // back, busy, idle
    fetching.serve();
    wait_for("the pipeline to be ready", || (api.get("/readyz").0 == 200).then_some(()));
    let done = wait_for("all records", || {
        let metrics = api.metrics();
        let processed = metrics.sum("kafka_consumer_messages_processed_total") as usize;
        (processed == RECORDS && metrics.sum("kafka_consumer_lag_seconds") == 0.0)
            .then_some(metrics)
    });
    assert_eq!(done.sum("tidemill_partition_lag_records"), 0.0);
    assert_eq!(done.sum("kafka_consumer_messages_failed_total"), 0.0);
    assert!(done.values("tidemill_node_unavailable_seconds").is_empty(), "it is gone");
    assert!(!done.values("kafka_consumer_lag_seconds").is_empty(), "idle partitions are shown");

    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
    for seen in [&away.to_string(), &waiting.0, &done.0, &log] {
        assert!(!seen.contains(CANARY), "{seen}");
    }
}

/// Names that users' dashboards and alerts know, and all that the catalogue declares.
fn has_every_name(metrics: &Metrics) {
    let known = [
        "kafka_consumer_messages_processed_total",
        "kafka_consumer_messages_failed_total",
        "kafka_consumer_lag_seconds",
        "manifest_completion_check_total",
        "manifest_completion_success_total",
    ];
    let plain = Instruments::PLAIN.iter().map(|plain| plain.declared.name);
    let labelled = LABELLED.iter().map(|declared| declared.name);
    for name in plain.chain(labelled).chain(known) {
        let text = &metrics.0;
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing in\n{text}");
        assert!(!metrics.values(name).is_empty(), "{name} has no value in\n{text}");
    }
}

#[test]
fn a_source_without_its_topic_is_not_ready_until_it_is_there() {
    let (broker, name) = (kafka(), unique("late"));
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/passthrough.toml");
    let text = std::fs::read_to_string(shipped).expect("the shipped topology");
    let text = text
        .replace("name = \"passthrough\"", &format!("name = \"{name}\""))
        .replace("\"orders\"\ndecode", &format!("\"{name}.orders\"\ndecode"))
        .replace("\"orders.paid\"", &format!("\"{name}.paid\""));
    std::fs::write(folder.path().join("topology.toml"), text).expect("the topology");
    let bootstrap = bootstrap();
    let arguments = ["run", "topology.toml", "--bootstrap", &bootstrap];
    let process = Tidemill::start(&arguments, folder.path());
    let api = Api::of(&process);

    let topic = format!("{name}.orders");
    let ready = wait_for("the source to be missed", || {
        let (status, ready) = api.get("/readyz");
        (status == 503 && ready["unavailable"][0]["node"] == "orders").then_some(ready)
    });
    assert!(ready["unavailable"][0]["why"].to_string().contains(&topic), "{ready}");
    assert_eq!(ready["unassigned"], json!(["orders"]));
    create_topic(&*broker, &topic, 1);
    wait_for("the pipeline to be ready", || (api.get("/readyz").0 == 200).then_some(()));
    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
}

#[test]
fn whoever_may_not_ask_is_told_so_and_a_token_is_never_seen() {
    let fetching = Fetching::new();
    let token = format!("{CANARY}-token");
    let environment = [("TIDEMILL_API_TOKEN".to_owned(), token.clone())];
    let arguments = ["--config", "tidemill.toml", "run", "topology.toml"];
    let process = Tidemill::start_with(&arguments, fetching.folder.path(), &environment);
    let api = Api::of(&process);
    wait_for("the engine", || {
        let (_, ready) = api.get("/readyz");
        (ready["started"] == true).then_some(())
    });

    let right = format!("Authorization: Bearer {token}\r\n");
    let wrong = "Authorization: Bearer somebody-elses-token\r\n";
    let mut seen = String::new();
    for route in ROUTES {
        let path = route.path.replace("{key}", "m").replace("{command}", "force");
        let path = path.replace("{name}", "t").replace("{id}", "0-0");
        let method = if route.verb == Verb::Ask { "GET" } else { "POST" };
        let statuses: Vec<u16> = ["", wrong, right.as_str()]
            .iter()
            .map(|headers| {
                let (status, answer) = api.talk(method, &path, headers, "");
                seen.push_str(&answer);
                status
            })
            .collect();
        if route.path == "/livez" || route.path == "/readyz" || route.path == "/metrics" {
            assert!(!statuses.contains(&401) && !statuses.contains(&403), "{path}: {statuses:?}");
        } else {
            assert_eq!(statuses[..2], [401, 403], "{path}");
            assert!(statuses[2] != 401 && statuses[2] != 403, "{path}: {statuses:?}");
        }
    }
    let (status, described) = api.talk("GET", "/api/v1/openapi.json", &right, "");
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Value>(&described).is_ok());

    process.signal("TERM");
    let (_, log) = process.wait();
    assert!(!seen.contains(CANARY) && !log.contains(CANARY), "{seen}\n{log}");
}

#[test]
fn a_taken_port_keeps_the_engine_from_starting() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/passthrough.toml");
    let run = ["run", topology.to_str().expect("a path of text")];
    let environment = [("TIDEMILL_API_LISTEN".to_owned(), address.clone())];
    let (status, log) = Tidemill::start_with(&run, folder.path(), &environment).wait();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains(&format!("the API cannot listen on {address}")), "{log}");
    assert!(!folder.path().join("data").exists(), "nothing was started");
}

#[test]
fn questions_about_manifests_and_tables_are_answered_over_http() {
    let folder = tempfile::tempdir().expect("a folder");
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let samples = project.join("samples/cost/single");
    let samples = samples.to_str().expect("a path of text");
    let demo = ["demo", "--samples", samples, "--data", "data"];
    let (status, log) = Tidemill::start(&demo, folder.path()).wait();
    assert!(status.success(), "{log}");

    let settings = "[ingress]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(folder.path().join("tidemill.toml"), settings).expect("the settings");
    let topology = project.join("topologies/cost-management.toml");
    let topology = topology.to_str().expect("a path of text");
    let arguments = ["--config", "tidemill.toml", "run", topology];
    let lake = format!("file://{}", folder.path().join("data/lake").display());
    let environment = [("LAKE_URL".to_owned(), lake)];
    let process = Tidemill::start_with(&arguments, folder.path(), &environment);
    let api = Api::of(&process);
    wait_for("the pipeline to be ready", || (api.get("/readyz").0 == 200).then_some(()));

    let key = "4af09606-3362-4c43-adf2-8f9558491c2e";
    let (status, listed) = api.get("/api/v1/manifests?phase=complete&prefix=4af0&limit=5");
    assert_eq!((status, &listed["manifests"][0]["manifest"]), (200, &json!(key)), "{listed}");
    let (status, shown) = api.get(&format!("/api/v1/manifests/{key}"));
    assert_eq!((status, &shown["expected"]), (200, &json!(6)), "{shown}");
    // Percent-encoded, as any key may be.
    let encoded = key.replace('-', "%2D");
    let (status, missing) = api.get(&format!("/api/v1/manifests/{encoded}/missing"));
    assert_eq!((status, &missing["missing"]), (200, &json!([])), "{missing}");
    let explain = format!("/api/v1/manifests/{key}/explain");
    assert_eq!(api.get(&explain).1["standing"], "complete");
    let (status, text) = api.talk("GET", &explain, "Accept: text/plain\r\n", "");
    assert!(status == 200 && text.contains("6 of 6 members done"), "{text}");
    let (status, unknown) = api.get("/api/v1/manifests/4af09606");
    assert!(status == 404 && unknown["error"].to_string().contains(key), "{unknown}");

    let (status, tables) = api.get("/api/v1/tables");
    assert!(status == 200 && tables.to_string().contains("ocp_usage_summary"), "{tables}");
    let (status, rows) = api.get("/api/v1/tables/ocp_usage_summary?limit=1");
    assert_eq!((status, rows["rows"].as_array().map(Vec::len)), (200, Some(1)), "{rows}");

    let asked = json!({"who": "ann", "why": "a test", "wait_ms": 1_000});
    let (status, answer) = api.post("/api/v1/manifests/nobody-knows-this/force", &asked);
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = api.post(&format!("/api/v1/manifests/{key}/force"), &json!({}));
    assert_eq!(status, 400, "{answer}");
    assert_eq!(api.get("/api/v1/dead-letters").1["letters"], json!([]));

    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains("an operator sends a command"), "{log}");
}
