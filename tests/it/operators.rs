//! What operators do, as they do it: dead letters are listed, shown, discarded and replayed,
//! manifests are forced; on the embedded log through the engine's API, on Kafka beside the engine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;
use tidemill::broker::ProducerRecord;
use tidemill::broker::embedded::EmbeddedLog;
use tidemill::model::{LogRecord, Topic};

use crate::harness::{Reader, Tidemill, bootstrap, create_topic, kafka, produce, unique, wait_for};

/// A folder in which a topology runs, and the commands beside it.
struct Job {
    folder: TempDir,
    /// Where its engine serves its API.
    api: String,
    /// Brokers, or the embedded log.
    bootstrap: Option<String>,
}

impl Job {
    fn new(bootstrap: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Taken by nobody a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let api = free.local_addr().expect("its address");
        let settings =
            format!("[ingress]\nlisten = \"127.0.0.1:0\"\n\n[api]\nlisten = \"{api}\"\n");
        std::fs::write(folder.path().join("tidemill.toml"), settings).expect("the settings");
        Self { folder, api: api.to_string(), bootstrap }
    }

    fn write(&self, name: &str, topology: &str) {
        std::fs::write(self.folder.path().join(name), topology).expect("the topology");
    }

    fn start(&self, topology: &str) -> Tidemill {
        let mut arguments = vec!["--config", "tidemill.toml", "run", topology];
        if let Some(bootstrap) = &self.bootstrap {
            arguments.extend(["--bootstrap", bootstrap]);
        }
        let api = [("TIDEMILL_API_LISTEN".to_owned(), self.api.clone())];
        Tidemill::start_with(&arguments, self.folder.path(), &api)
    }

    /// Runs a command; with Kafka brokers it is told where they are.
    fn tidemill(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["--config", "tidemill.toml"]).args(arguments);
        if let Some(bootstrap) = &self.bootstrap {
            command.args(["--topology", "broken.toml", "--bootstrap", bootstrap]);
        }
        let command = command.current_dir(self.folder.path()).env("USER", "tester");
        command.stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// What a command that has to end well prints as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.tidemill(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        serde_json::from_slice(&output.stdout).expect("json")
    }

    /// The dead letters that a listing with these arguments has, once there are so many.
    fn letters(&self, arguments: &[&str], count: usize) -> Vec<Value> {
        let words = [&["dead-letters", "list", "--output", "json"][..], arguments].concat();
        wait_for(&format!("{count} letters of {words:?}"), || {
            // The engine may not serve its API yet.
            let listed: Value = serde_json::from_slice(&self.tidemill(&words).stdout).ok()?;
            let listed = listed.as_array()?.clone();
            (listed.len() == count).then_some(listed)
        })
    }

    fn database(&self, path: &str) -> Option<Connection> {
        let path = self.folder.path().join(path);
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()
    }

    fn count(&self, query: &str) -> Option<i64> {
        self.database("data/state.db")?.query_row(query, [], |row| row.get(0)).ok()
    }

    /// Values in a topic of the embedded log, also while an engine has it open.
    fn embedded_values(&self, topic: &Topic) -> Option<Vec<String>> {
        let database = self.database("data/log/log.db")?;
        let mut query = database
            .prepare(
                "SELECT record_value FROM records JOIN topics ON topics.id = records.topic_id \
                 WHERE topics.name = ?1",
            )
            .ok()?;
        let values = query.query_map([topic.as_str()], |row| row.get::<_, Vec<u8>>(0)).ok()?;
        values.map(|value| String::from_utf8(value.ok()?).ok()).collect()
    }

    /// Waits until a topic holds a value.
    fn wait_for_value(&self, topic: &Topic, value: &str) {
        if self.bootstrap.is_some() {
            let holds = |record: &LogRecord| record.value.as_deref() == Some(value.as_bytes());
            let mut reader = Reader::new(&*kafka(), topic);
            return reader.read_until(value, |read| read.iter().any(|(_, record)| holds(record)));
        }
        wait_for(value, || {
            let values = self.embedded_values(topic)?;
            values.iter().any(|found| found == value).then_some(())
        });
    }
}

fn told(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

fn stop(process: Tidemill) {
    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
}

fn text<'v>(letter: &'v Value, field: &str) -> &'v str {
    letter[field].as_str().unwrap_or_default()
}

/// Orders between topics of this name; `total` is worked out by `program`.
fn orders(name: &str, total: &str) -> String {
    format!(
        "version = 1\nname = \"{name}\"\n\n\
         [sources.orders]\ntype = \"kafka\"\ntopic = \"{name}.in\"\ndecode = \"json\"\n\n\
         [processors.slim]\ntype = \"remap\"\ninputs = [\"orders\"]\n\
         program = '. = {{\"id\": .id, \"total\": {total}, \"at\": %offset, \"from\": %topic}}'\n\n\
         [sinks.out]\ntype = \"kafka\"\ninputs = [\"slim\"]\ntopic = \"{name}.out\"\n"
    )
}

/// A record that is no JSON, and an order that only a mended program takes.
fn poison_is_discarded_and_a_repaired_record_delivered(job: &Job, name: &str) {
    job.write("broken.toml", &orders(name, "to_int!(.qty) * 3"));
    job.write("mended.toml", &orders(name, "(to_int(.qty) ?? 0) * 3"));
    let out = Topic::from(format!("{name}.out"));

    let broken = job.start("broken.toml");
    let letters = job.letters(&[], 2);
    job.wait_for_value(&out, &format!(r#"{{"at":0,"from":"{name}.in","id":"o1","total":6}}"#));
    let letter =
        |class: &str| letters.iter().find(|letter| text(letter, "class") == class).expect(class);
    let (poison, order) = (letter("undecodable"), letter("program"));
    assert_eq!((text(poison, "source"), text(order, "node")), ("orders", "slim"));

    let shown = job.json(&["dead-letters", "show", text(poison, "id")]);
    assert_eq!(shown["letter"]["offset"], 1);
    assert_eq!(shown["value"]["encoding"], "base64");
    let raw = job.tidemill(&["dead-letters", "show", text(poison, "id"), "--raw"]);
    assert_eq!(raw.stdout, POISON);

    let poison = ["--id", text(poison, "id"), "--why", "noise"];
    let dry = [&["dead-letters", "discard", "--dry-run"][..], &poison].concat();
    assert!(job.tidemill(&dry).status.success());
    assert_eq!(job.letters(&["--state", "waiting"], 2).len(), 2, "a dry run changes nothing");
    job.json(&[&["dead-letters", "discard"][..], &poison].concat());
    let waiting = job.letters(&["--state", "waiting"], 1);
    assert_eq!(waiting[0]["id"], order["id"]);
    stop(broken);

    let mended = job.start("mended.toml");
    // The API of the new engine answers.
    job.letters(&["--state", "waiting"], 1);
    let replayed = job.json(&["dead-letters", "replay", "--class", "program", "--why", "mended"]);
    assert_eq!(replayed.as_array().map(Vec::len), Some(1));
    assert_eq!(replayed[0]["state"], "replayed");
    job.wait_for_value(&out, &format!(r#"{{"at":2,"from":"{name}.in","id":"o2","total":0}}"#));
    let replayed = job.letters(&["--state", "replayed"], 1);
    assert_eq!(text(&replayed[0]["mark"], "who"), "tester");
    assert!(job.letters(&["--state", "waiting"], 0).is_empty());
    stop(mended);
}

const POISON: &[u8] = b"{\"id\": \xff not json";

fn poison_and_orders(name: &str) -> Vec<ProducerRecord> {
    let values: [&[u8]; 3] = [br#"{"id":"o1","qty":"2"}"#, POISON, br#"{"id":"o2","qty":"many"}"#];
    let record = |value: &[u8]| {
        let value = Bytes::copy_from_slice(value);
        let mut record = ProducerRecord::new(Topic::from(format!("{name}.in")), value);
        record.partition = Some(0);
        record
    };
    values.map(record).to_vec()
}

#[test]
fn on_the_embedded_log_poison_is_discarded_and_a_repaired_record_delivered() {
    let job = Job::new(None);
    let log = open_log(&job);
    produce(&*log, poison_and_orders("sales"));
    log.close();
    drop(log);
    poison_is_discarded_and_a_repaired_record_delivered(&job, "sales");
}

#[test]
fn on_kafka_poison_is_discarded_and_a_repaired_record_delivered() {
    let (broker, name) = (kafka(), unique("operators"));
    create_topic(&*broker, &format!("{name}.in"), 1);
    create_topic(&*broker, &format!("{name}.out"), 1);
    produce(&*broker, poison_and_orders(&name));
    let job = Job::new(Some(bootstrap()));
    poison_is_discarded_and_a_repaired_record_delivered(&job, &name);
}

fn open_log(job: &Job) -> Arc<EmbeddedLog> {
    let folder = job.folder.path().join("data/log");
    std::fs::create_dir_all(&folder).expect("the folder");
    EmbeddedLog::open(&folder, Arc::new(|| 0)).expect("the log")
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The archive of `samples/cost/single`.
fn payload() -> PathBuf {
    let mut folders = vec![project().join("samples/cost/single")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder that can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gz") {
                return path;
            }
        }
    }
    panic!("no archive in samples/cost/single");
}

/// Uploads an archive as a cluster does, to the ingress that this log names.
fn upload(process: &Tidemill, archive: &Path) {
    let address = wait_for("the ingress", || {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("ingress takes uploads"))?;
        line.rsplit("address=").next().map(str::to_owned)
    });
    // {"identity":{"account_number":"10001","org_id":"1234567"}}
    let identity =
        "eyJpZGVudGl0eSI6eyJhY2NvdW50X251bWJlciI6IjEwMDAxIiwib3JnX2lkIjoiMTIzNDU2NyJ9fQ==";
    let mut body = b"--frontier\r\nContent-Disposition: form-data; name=\"file\"; \
        filename=\"p.tar.gz\"\r\nContent-Type: application/vnd.redhat.hccm.tar+tgz\r\n\r\n"
        .to_vec();
    body.extend(std::fs::read(archive).expect("the archive"));
    body.extend_from_slice(b"\r\n--frontier--\r\n");
    let mut stream = TcpStream::connect(&address).expect("the ingress answers");
    let head = format!(
        "POST /api/ingress/v1/upload HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         x-rh-identity: {identity}\r\nContent-Type: multipart/form-data; boundary=frontier\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

#[test]
fn a_report_that_was_forced_completes_again_once_its_bad_file_is_mended_and_replayed() {
    let shipped = project().join("topologies/cost-management.toml");
    let shipped = std::fs::read_to_string(shipped).expect("the shipped topology");
    // No schema fits the file of node labels any more, and that is no longer accepted.
    let broken = shipped.replace("accept = [\"unmatched\"]\n", "").replace(
        "text = [\"node\", \"node_labels\"]",
        "text = [\"node\", \"node_labels\", \"gone\"]",
    );
    assert!(!broken.contains("accept =") && broken.contains("\"gone\""));
    let job = Job::new(None);
    job.write("broken.toml", &broken);
    job.write("mended.toml", &shipped);

    let process = job.start("broken.toml");
    upload(&process, &payload());
    let members = |state: &str| {
        job.count(&format!("SELECT count(*) FROM tidemill_member WHERE state = '{state}'"))
    };
    wait_for("one failed member, and no other open", || {
        (members("dead_lettered") == Some(1) && members("pending") == Some(0)).then_some(())
    });
    let listed = job.json(&["manifests", "list"]);
    let key = text(&listed[0], "manifest");
    let explained = told(&job.tidemill(&["manifests", "explain", key]));
    assert!(explained.contains("5 of 6 members done (1 of them empty), 1 failed"), "{explained}");
    let letters = job.letters(&["--manifest", key], 1);
    let member = text(&letters[0], "member");
    assert!(!member.is_empty() && explained.contains(member), "{letters:?}\n{explained}");

    let forced = job.json(&["manifests", "force", key, "--why", "it will do without"]);
    assert_eq!((forced["applied"].as_bool(), text(&forced, "phase")), (Some(true), "complete"));
    let refused = job.tidemill(&["manifests", "cancel", key, "--why", "too late"]);
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    stop(process);

    let process = job.start("mended.toml");
    job.letters(&["--state", "waiting"], 1);
    let why = ["--manifest", key, "--why", "the schema is mended"];
    job.json(&[&["dead-letters", "replay"][..], &why].concat());
    wait_for("the next revision", || {
        let complete = "SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete' \
                        AND revision = 2";
        (job.count(complete) == Some(1)).then_some(())
    });
    let ends = ["done", "empty", "dead_lettered"].map(members);
    assert_eq!(ends, [Some(5), Some(1), Some(0)]);
    // The announcement came again; the members that were done did not.
    assert_eq!(job.count("SELECT duplicates FROM tidemill_manifest"), Some(1));
    let exported = job.tidemill(&["manifests", "export", key]);
    let exported: Value = serde_json::from_slice(&exported.stdout).expect("a line of json");
    assert_eq!(exported["members"].as_array().map(Vec::len), Some(6));
    stop(process);
}

#[test]
fn without_an_engine_a_command_says_what_to_do() {
    let job = Job::new(None);
    let listed = job.tidemill(&["dead-letters", "list"]);
    assert_eq!(listed.status.code(), Some(3), "{}", told(&listed));
    for part in ["no engine answers", "tidemill run", "--api URL"] {
        assert!(told(&listed).contains(part), "{}", told(&listed));
    }
}
