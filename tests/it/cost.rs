//! The first real system: cost reports from upload to summary, checked by an independent oracle.
//!
//! Payloads are those of `samples/cost`, made by the clients' own generator; `tests/oracle` knows
//! what they must become and nothing of the engine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tidemill::broker::embedded::EmbeddedLog;
use tidemill::broker::{Broker, ConsumerConfig};
use tidemill::model::{Offset, Topic, TopicPartition};

use crate::harness::{Deaf, Reader, Tidemill, bootstrap, kafka, wait_for};

const GROUP: &str = "cost-mgmt-listener-group";
const ANNOUNCEMENTS: &str = "platform.upload.announce";

/// The folder of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of a sample set.
pub fn sample(set: &str) -> PathBuf {
    project().join("samples/cost").join(set)
}

/// All payloads below `folder`, sorted.
pub fn payloads(folder: &Path) -> Vec<PathBuf> {
    files(folder, "gz")
}

/// All files below `folder` with that extension, sorted.
pub fn files(folder: &Path, wanted: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if path.extension().is_some_and(|extension| extension == wanted) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Another order, the same for one seed.
pub fn shuffled(mut items: Vec<PathBuf>, mut seed: u64) -> Vec<PathBuf> {
    for end in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(end, (seed >> 33) as usize % (end + 1));
    }
    items
}

/// A folder in which the cost-management topology runs.
pub struct Job {
    pub folder: TempDir,
    /// Brokers, or the embedded log.
    bootstrap: Option<String>,
}

impl Job {
    pub fn new(bootstrap: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = "[ingress]\nlisten = \"127.0.0.1:0\"\n";
        std::fs::write(folder.path().join("tidemill.toml"), settings).expect("the settings");
        Self { folder, bootstrap }
    }

    pub fn start(&self) -> Running {
        let topology = project().join("topologies/cost-management.toml");
        self.start_on(topology.to_str().expect("a path of text"), &[])
    }

    /// Starts a topology of that kind, with further variables in its environment.
    pub fn start_on(&self, topology: &str, environment: &[(String, String)]) -> Running {
        let mut arguments = vec!["--config", "tidemill.toml", "run", topology];
        if let Some(bootstrap) = &self.bootstrap {
            arguments.extend(["--bootstrap", bootstrap]);
        }
        let process = Tidemill::start_with(&arguments, self.folder.path(), environment);
        let address = wait_for("the ingress", || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("ingress takes uploads"))?;
            line.rsplit("address=").next().map(str::to_owned)
        });
        Running { process, address }
    }

    fn database(&self) -> Option<Connection> {
        let path = self.folder.path().join("data/state.db");
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()
    }

    pub fn count(&self, query: &str) -> Option<i64> {
        self.database()?.query_row(query, [], |row| row.get(0)).ok()
    }

    fn complete(&self) -> i64 {
        let query = "SELECT count(*) FROM tidemill_manifest WHERE phase = 'complete'";
        self.count(query).unwrap_or(0)
    }

    pub fn wait_until_complete(&self, manifests: i64) {
        wait_for(&format!("{manifests} complete manifests"), || {
            (self.complete() >= manifests).then_some(())
        });
    }

    /// Puts the summary into a file as the oracle reads it, and returns its text.
    fn summary(&self) -> (PathBuf, String) {
        let database = self.database().expect("the state store");
        let order = "SELECT * FROM ocp_usage_summary ORDER BY 1, 2, 3";
        let mut query = database.prepare(order).expect("the summary");
        let names = query.column_names().collect::<Vec<_>>().join(",");
        let width = query.column_count();
        let mut text = format!("{names}\n");
        let mut rows = query.query([]).expect("its rows");
        while let Some(row) = rows.next().expect("a row") {
            let cells: Vec<String> = (0..width)
                .map(|column| match row.get_ref(column).expect("a cell") {
                    rusqlite::types::ValueRef::Text(text) => {
                        String::from_utf8_lossy(text).into_owned()
                    }
                    rusqlite::types::ValueRef::Real(number) => number.to_string(),
                    other => format!("{other:?}"),
                })
                .collect();
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        let path = self.folder.path().join("summary.csv");
        std::fs::write(&path, &text).expect("the summary's file");
        (path, text)
    }

    /// Asks the oracle whether lake and summary are what these payloads must become, and the
    /// catalogue whether it knows every object of the lake.
    pub fn check(&self, inputs: &Path) {
        let lake = self.folder.path().join("data/lake");
        let known = self.count("SELECT count(DISTINCT url) FROM tidemill_object");
        assert_eq!(known, Some(files(&lake, "parquet").len() as i64), "objects in the catalogue");
        let lake = lake.to_str().expect("a path of text");
        oracle("check", inputs, &["--parquet", lake, "--deep"]);
        let (summary, _) = self.summary();
        oracle("summary", inputs, &["--csv", summary.to_str().expect("a path of text")]);
    }
}

/// A folder that holds several sample sets side by side.
pub fn copied(sets: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for set in sets {
        for payload in payloads(&sample(set)) {
            let inside = payload.strip_prefix(sample("")).expect("a sample");
            let target = folder.path().join(inside);
            std::fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
            std::fs::copy(&payload, target).expect("a copy");
        }
    }
    folder
}

/// Asks the oracle.
pub fn oracle(what: &str, inputs: &Path, arguments: &[&str]) {
    let python = std::env::var("TIDEMILL_TEST_PYTHON").expect(
        "TIDEMILL_TEST_PYTHON is not set: run the tests through scripts/test, which prepares it",
    );
    let told = Command::new(python)
        .arg(project().join("tests/oracle/oracle"))
        .arg(what)
        .arg(inputs)
        .args(arguments)
        .output()
        .expect("the oracle runs");
    let text = String::from_utf8_lossy(&told.stdout);
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "oracle {what}:\n{text}\n{errors}");
}

/// Posts a payload as the operator does; the answer, with its head.
pub fn post(address: &str, file: &[u8]) -> std::io::Result<String> {
    // {"identity":{"account_number":"10001","org_id":"1234567"}}
    let identity =
        "eyJpZGVudGl0eSI6eyJhY2NvdW50X251bWJlciI6IjEwMDAxIiwib3JnX2lkIjoiMTIzNDU2NyJ9fQ==";
    let mut body = Vec::new();
    write!(
        body,
        "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"p.tar.gz\"\r\n\
         Content-Type: application/vnd.redhat.hccm.tar+tgz\r\n\r\n"
    )?;
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--frontier--\r\n");
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /api/ingress/v1/upload HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         x-rh-identity: {identity}\r\nContent-Type: multipart/form-data; boundary=frontier\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub struct Running {
    pub process: Tidemill,
    address: String,
}

impl Running {
    /// Uploads one payload as the operator does, and expects a 202.
    pub fn upload(&self, payload: &Path) {
        let body = std::fs::read(payload).expect("the payload");
        let status = post(&self.address, &body).expect("an answer");
        assert!(status.starts_with("HTTP/1.1 202"), "{status}");
    }

    pub fn stop(self) {
        self.process.signal("TERM");
        let (status, log) = self.process.wait();
        assert!(status.success(), "{log}");
        assert!(log.contains("complete=true"), "everything in flight was done:\n{log}");
    }
}

/// Records of a topic of the embedded log, once nobody else has it open.
pub fn messages(job: &Job, topic: &str) -> Vec<String> {
    let log = open_log(job);
    let mut reader = Reader::new(&*log, &Topic::from(topic));
    reader.read_until_quiet(Duration::from_millis(500));
    let values = reader.values();
    drop(reader);
    log.close();
    values
}

fn open_log(job: &Job) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(&job.folder.path().join("data/log"), Arc::new(|| 0)).expect("the log")
}

/// Sets the group back to the first announcement.
pub fn rewind(job: &Job) {
    let log = open_log(job);
    let topic = Topic::from(ANNOUNCEMENTS);
    let described =
        log.admin().expect("admin").describe(Some(std::slice::from_ref(&topic))).expect("topics");
    let config = ConsumerConfig::new(GROUP, vec![topic.clone()]);
    let consumer = log.consumer(&config, Box::new(Deaf)).expect("a consumer");
    let first: Vec<_> = (0..described[0].partitions)
        .map(|partition| (TopicPartition::new(topic.clone(), partition), Offset(0)))
        .collect();
    consumer.positions().commit(&first).expect("the offsets are set back");
    drop(consumer);
    log.close();
}

#[test]
fn shuffled_and_repeated_uploads_become_one_lake_and_one_summary_through_kills() {
    let sets = ["single", "split", "twelve-clusters"];
    let job = Job::new(None);
    let inputs = copied(&sets);
    let uploads = shuffled(payloads(inputs.path()), 11);
    let again: Vec<_> = uploads.iter().step_by(5).cloned().collect();
    let uploads: Vec<_> = uploads.into_iter().chain(again).collect();
    let mut running = job.start();
    for (number, payload) in uploads.iter().enumerate() {
        running.upload(payload);
        if number % 40 == 25 {
            running.process.signal("KILL");
            assert!(!running.process.wait().0.success());
            running = job.start();
        }
    }
    job.wait_until_complete(14);
    wait_for("every settled member", || {
        let pending = "SELECT count(*) FROM tidemill_member WHERE state = 'pending'";
        (job.count(pending) == Some(0)).then_some(())
    });
    wait_for("every delivery", || {
        let owed = "SELECT count(*) FROM tidemill_outbox WHERE delivered_at IS NULL";
        (job.count(owed) == Some(0)).then_some(())
    });
    running.stop();
    job.check(inputs.path());
    let completed = messages(&job, "cost.summaries");
    let distinct: std::collections::BTreeSet<_> = completed.iter().cloned().collect();
    assert_eq!(distinct.len(), 14, "one summary message per manifest, repeats are alike");
}

#[test]
fn a_replay_of_all_announcements_changes_nothing() {
    let job = Job::new(None);
    let running = job.start();
    for payload in payloads(&sample("twelve-clusters")) {
        running.upload(&payload);
    }
    job.wait_until_complete(12);
    running.stop();
    let (_, before) = job.summary();
    let told = messages(&job, "cost.summaries");
    assert_eq!(told.len(), 12);

    rewind(&job);
    let running = job.start();
    // The last upload of a second round is behind everything that is replayed.
    for payload in payloads(&sample("single")) {
        running.upload(&payload);
    }
    job.wait_until_complete(13);
    running.stop();
    let replayed = "SELECT sum(duplicates) FROM tidemill_manifest";
    assert!(job.count(replayed).unwrap_or(0) > 0, "the replay did reach the manifests");
    let revisions = "SELECT max(revision) FROM tidemill_manifest";
    assert_eq!(job.count(revisions), Some(1), "nothing completed again");
    let (_, after) = job.summary();
    let kept: Vec<_> = after.lines().filter(|line| !line.starts_with("dev-single")).collect();
    assert_eq!(kept.join("\n"), before.trim_end());
    assert_eq!(messages(&job, "cost.summaries").len(), 13);
    job.check(copied(&["single", "twelve-clusters"]).path());
}

#[test]
fn damaged_payloads_end_as_dead_letters_and_harm_nobody() {
    let job = Job::new(None);
    let running = job.start();
    let good = payloads(&sample("single"));
    for payload in shuffled(payloads(&sample("bad")), 5).iter().chain(&good) {
        running.upload(payload);
    }
    // single, zero-byte, header-only, ragged, unknown columns, non-numeric, over the cap.
    job.wait_until_complete(7);
    let answered = || {
        let sent = running.process.log().matches("record failed for good").count();
        (sent >= 10).then_some(())
    };
    wait_for("nine refused payloads and one refused file", answered);
    running.stop();
    assert_eq!(job.complete(), 7);
    assert!(!Path::new("/tmp/tidemill-traversal.csv").exists());
    job.check(copied(&["single", "bad"]).path());

    let receipts = messages(&job, "platform.upload.validation");
    let count = |what: &str| receipts.iter().filter(|receipt| receipt.contains(what)).count();
    assert_eq!((count("\"success\""), count("\"failure\"")), (8, 9), "{receipts:?}");
    assert_eq!(messages(&job, "cost-management.dead-letters").len(), 10);
}

#[test]
fn the_same_topology_runs_on_a_real_broker() {
    let job = Job::new(Some(bootstrap()));
    let running = job.start();
    for payload in shuffled(payloads(&sample("split")), 3) {
        running.upload(&payload);
    }
    job.wait_until_complete(1);
    running.stop();
    job.check(copied(&["split"]).path());
    let broker = kafka();
    let mut told = Reader::new(&*broker, &Topic::from("cost.summaries"));
    told.read_until("the summary message", |read| !read.is_empty());
}
