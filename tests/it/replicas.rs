//! The cost reports on several replicas, with a real broker and a real Postgres: work that is
//! shared, a replica that is killed and one that joins, and crashes at points that only uploads,
//! objects, receipts and retirements come by.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use tidemill::broker::kafka::KafkaBroker;
use tidemill::model::Topic;
use tidemill::runtime::fault::{self, Point};

use crate::cost::{copied, files, oracle, payloads, post, project, shuffled};
use crate::database::{self, Database};
use crate::harness::{
    Reader, Tidemill, await_within, bootstrap, create_topic, free_port, kafka, unique, wait_for,
    wait_within,
};

/// Crash points that every upload comes by, and the fault suite's own topology does not.
pub const UPLOADING: [Point; 7] = [
    Point::IngressSynced,
    Point::IngressKept,
    Point::IngressAnnounce,
    Point::IngressAnnounced,
    Point::ObjectPut,
    Point::ObjectRenamed,
    Point::ReceiptSend,
];
/// Crash points that a report comes by which replaces an older one.
pub const RETIRING: [Point; 2] = [Point::RetireDelete, Point::RetireDeleted];

/// How long all reports may take: several processes share few cores here.
const REPORTS: Duration = Duration::from_secs(240);
/// After that, deliveries are not under way any more but claimed by a replica that is dead.
const CLAIMED: Duration = Duration::from_secs(5);
/// The signal that ends a process which aborts.
const ABORT: i32 = 6;
/// The one replica that takes uploads, and keeps them.
const UPLOADS: &str = "uploads";

/// The cost-management topology of one test, on any number of replicas.
struct Cluster {
    folder: TempDir,
    broker: Arc<KafkaBroker>,
    database: Database,
    /// Where uploads go. The other replicas fetch from there, too.
    address: String,
    summaries: Topic,
    environment: Vec<(String, String)>,
}

impl Cluster {
    fn new() -> Self {
        let (name, port) = (unique("cost"), free_port());
        let shipped = project().join("topologies/cost-management.toml");
        let mut text = std::fs::read_to_string(shipped).expect("the shipped topology");
        let own = "allow = [\"ingress:uploads\"]";
        let others = format!("{{ origin = \"http://127.0.0.1:{port}\", private = true }}");
        let changes = [
            ("name = \"cost-management\"", format!("name = \"{name}\"")),
            (own, format!("{}, {others}]", own.trim_end_matches(']'))),
            ("\"platform.upload.validation\"", format!("\"{name}.validation\"")),
            ("\"cost.summaries\"", format!("\"{name}.summaries\"")),
        ];
        for (from, to) in changes {
            assert!(text.contains(from), "{from} is not in the shipped topology");
            text = text.replace(from, &to);
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("topology.toml"), text).expect("the topology");
        let broker = kafka();
        let topic = create_topic(&*broker, &format!("{name}.announce"), 6);
        let database = Database::create(&database::server(), &name);
        let lake = folder.path().join("lake");
        let environment = [
            ("KAFKA_TOPIC", topic.to_string()),
            ("KAFKA_CONSUMER_GROUP_ID", format!("{name}.group")),
            ("LAKE_URL", format!("file://{}", lake.display())),
            ("TIDEMILL_STATE_URL", database.url().to_owned()),
            ("TIDEMILL_CONSUMER_SESSION_TIMEOUT", "3s".to_owned()),
            ("TIDEMILL_API_ENABLED", "false".to_owned()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self {
            folder,
            broker,
            database,
            address: format!("127.0.0.1:{port}"),
            summaries: Topic::from(format!("{name}.summaries")),
            environment,
        }
    }

    /// Starts a replica, and waits until it takes part in the work.
    fn start(&self, replica: &str) -> Tidemill {
        let process = self.start_with(replica, None);
        process.wait_for_log("partition begins");
        process
    }

    fn start_with(&self, replica: &str, order: Option<Point>) -> Tidemill {
        let data = self.folder.path().join(replica);
        let listen = if replica == UPLOADS { &self.address } else { "127.0.0.1:0" };
        let mut environment = self.environment.clone();
        let own = [
            ("TIDEMILL_DATA_DIR", data.display().to_string()),
            ("TIDEMILL_INGRESS_LISTEN", listen.to_owned()),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let order = order.map(|point| point.name().to_owned());
        environment.extend(order.map(|order| ("TIDEMILL_CRASH_POINT".to_owned(), order)));
        let bootstrap = bootstrap();
        let arguments = ["run", "topology.toml", "--bootstrap", &bootstrap];
        Tidemill::start_with(&arguments, self.folder.path(), &environment)
    }

    /// Whether the payload was taken.
    fn takes(&self, payload: &Path) -> bool {
        let body = std::fs::read(payload).expect("the payload");
        post(&self.address, &body).is_ok_and(|answer| answer.starts_with("HTTP/1.1 202"))
    }

    fn upload(&self, payload: &Path) {
        wait_for("the upload to be taken", || self.takes(payload).then_some(()));
    }

    fn wait_until_complete(&self, manifests: i64) {
        let complete = "SELECT COUNT(*) FROM tidemill_manifest WHERE phase = 'complete'";
        wait_within(REPORTS, &format!("{manifests} complete manifests"), || {
            (self.database.number(complete)? >= manifests).then_some(())
        });
        let pending = "SELECT COUNT(*) FROM tidemill_member WHERE state = 'pending'";
        wait_for("every member", || (self.database.number(pending)? == 0).then_some(()));
        let owed = "SELECT COUNT(*) FROM tidemill_outbox WHERE delivered_at IS NULL";
        let delivered = || (self.database.number(owed)? == 0).then_some(());
        if await_within(CLAIMED, delivered).is_none() {
            // What a dead replica had claimed is due again after a minute; here it is now.
            let due = "UPDATE tidemill_outbox SET not_before = 0 WHERE delivered_at IS NULL";
            self.database.execute(due).expect("claims run out");
            wait_for("every delivery", delivered);
        }
    }

    /// Lake and summary are what the oracle expects of these payloads.
    fn check_lake(&self, inputs: &Path) {
        let lake = self.folder.path().join("lake");
        let known = self.database.number("SELECT COUNT(DISTINCT url) FROM tidemill_object");
        assert_eq!(known, Some(files(&lake, "parquet").len() as i64), "objects in the catalogue");
        let lake = lake.to_str().expect("a path of text");
        oracle("check", inputs, &["--parquet", lake, "--deep"]);
        let summary = self.folder.path().join("summary.csv");
        let rows = self.database.csv("SELECT * FROM ocp_usage_summary ORDER BY 1, 2, 3");
        std::fs::write(&summary, rows).expect("the summary's file");
        oracle("summary", inputs, &["--csv", summary.to_str().expect("a path of text")]);
    }

    /// Beside that, each manifest has completed once, and has told so under one key.
    fn check(&self, inputs: &Path, manifests: i64) {
        self.check_lake(inputs);
        let count = |query: &str| self.database.number(query).expect(query);
        let once =
            "SELECT COUNT(*) FROM tidemill_manifest WHERE phase = 'complete' AND revision = 1";
        assert_eq!(count(once), manifests, "each manifest completed once");
        assert_eq!(count("SELECT COUNT(*) FROM tidemill_manifest"), manifests);
        assert_eq!(count("SELECT COUNT(*) FROM tidemill_outbox"), manifests);
        let doubled = "SELECT COUNT(*) FROM (SELECT 1 FROM ocp_part \
                       GROUP BY _manifest, _member, usage_date, namespace HAVING COUNT(*) > 1) d";
        assert_eq!(count(doubled), 0, "rows that were written twice");
        let keys = self.keys();
        assert_eq!(keys.len() as i64, manifests, "every manifest was announced");
        assert!(keys.values().all(|keys| keys.len() == 1), "repeats have the same key: {keys:?}");
    }

    /// Idempotency keys of the messages about each manifest.
    fn keys(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut told = Reader::new(&*self.broker, &self.summaries);
        told.read_all(&*self.broker);
        let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (_, record) in &told.records {
            let header = |name: &str| {
                let found = record.headers.iter().find(|(header, _)| header == name);
                String::from_utf8(found.expect(name).1.to_vec()).expect("text")
            };
            keys.entry(header("tidemill-manifest")).or_default().insert(header("Idempotency-Key"));
        }
        keys
    }
}

fn stop(process: Tidemill) {
    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{log}");
}

/// All payloads below `folder` in another order, and every fifth of them once more.
fn with_repeats(folder: &Path) -> Vec<PathBuf> {
    let once = payloads(folder);
    let again: Vec<PathBuf> = once.iter().step_by(5).cloned().collect();
    shuffled(once.into_iter().chain(again).collect(), 23)
}

#[test]
fn reports_complete_once_while_a_replica_is_killed_and_another_joins() {
    let cluster = Cluster::new();
    let inputs = copied(&["single", "split", "twelve-clusters"]);
    let uploads = with_repeats(inputs.path());
    let (first, second) = (cluster.start(UPLOADS), cluster.start("second"));
    let third = cluster.start("third");
    let (killed, joins) = (uploads.len() / 3, uploads.len() / 2);
    for payload in &uploads[..killed] {
        cluster.upload(payload);
    }
    second.signal("KILL");
    assert!(!second.wait().0.success());
    for payload in &uploads[killed..joins] {
        cluster.upload(payload);
    }
    let fourth = cluster.start("fourth");
    for payload in &uploads[joins..] {
        cluster.upload(payload);
    }
    cluster.wait_until_complete(14);
    [fourth, third, first].into_iter().for_each(stop);
    cluster.check(inputs.path(), 14);
}

#[test]
fn two_replicas_that_write_the_same_members_at_once_write_them_once() {
    let cluster = Cluster::new();
    let inputs = copied(&["twelve-clusters"]);
    let (first, second) = (cluster.start(UPLOADS), cluster.start("second"));
    for payload in payloads(inputs.path()) {
        // One after the other, onto partitions that two replicas read.
        cluster.upload(&payload);
        cluster.upload(&payload);
    }
    cluster.wait_until_complete(12);
    let repeated = "SELECT SUM(duplicates) FROM tidemill_manifest";
    wait_within(REPORTS, "the repeats", || {
        (cluster.database.number(repeated)? >= 72).then_some(())
    });
    [second, first].into_iter().for_each(stop);
    cluster.check(inputs.path(), 12);
}

/// # Panics
/// In a build that cannot be told to fail: the test would prove nothing.
fn require_faults() {
    assert!(
        fault::is_compiled_in(),
        "built without the feature fault-injection: run the tests through scripts/test"
    );
}

#[test]
fn a_crash_around_uploads_objects_and_receipts_loses_and_doubles_nothing() {
    require_faults();
    let cluster = Cluster::new();
    let inputs = copied(&["twelve-clusters/dev-twelve-01", "twelve-clusters/dev-twelve-02"]);
    let mut waiting = shuffled(payloads(inputs.path()), 3);
    for point in UPLOADING {
        let mut process = cluster.start_with(UPLOADS, Some(point));
        let what = format!("the process to come by {}", point.name());
        let mut is_taken = false;
        let status = wait_within(REPORTS, &what, || {
            let ended = process.ended();
            if ended.is_none() && !is_taken {
                // A client that has had no answer tries again.
                is_taken = waiting.last().is_none_or(|payload| cluster.takes(payload));
            }
            ended
        });
        assert_eq!(status.signal(), Some(ABORT), "{}: it ended with {status}", point.name());
        if is_taken {
            waiting.pop();
        }
    }
    let process = cluster.start(UPLOADS);
    waiting.iter().for_each(|payload| cluster.upload(payload));
    cluster.wait_until_complete(2);
    stop(process);
    cluster.check(inputs.path(), 2);
}

/// The payloads below `folder` as a report of the same data that was made later.
fn made_later(folder: &Path) -> TempDir {
    let (later, uuid) = (tempfile::tempdir().expect("a folder"), uuid::Uuid::new_v4().to_string());
    for (number, payload) in payloads(folder).iter().enumerate() {
        let packed = File::open(payload).expect("the payload");
        let target = File::create(later.path().join(format!("{number:02}.tar.gz")));
        let packer = GzEncoder::new(target.expect("a payload"), Compression::fast());
        let mut made = tar::Builder::new(packer);
        let mut archive = tar::Archive::new(GzDecoder::new(packed));
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let mut header = entry.header().clone();
            let is_index = *entry.path_bytes() == b"manifest.json"[..];
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a file");
            if is_index {
                let mut index: serde_json::Value = serde_json::from_slice(&content).expect("JSON");
                index["uuid"] = uuid.as_str().into();
                index["date"] = "2025-03-11T12:00:00.000000+00:00".into();
                content = index.to_string().into_bytes();
                header.set_size(content.len() as u64);
                header.set_cksum();
            }
            made.append(&header, content.as_slice()).expect("an entry");
        }
        made.into_inner().expect("an archive").finish().expect("a payload");
    }
    later
}

#[test]
fn a_crash_around_a_retirement_leaves_the_newer_report_alone() {
    require_faults();
    let cluster = Cluster::new();
    let older = copied(&["twelve-clusters/dev-twelve-01"]);
    let newer = made_later(older.path());
    let process = cluster.start(UPLOADS);
    payloads(older.path()).iter().for_each(|payload| cluster.upload(payload));
    cluster.wait_until_complete(1);
    let [before, after] = RETIRING;
    stop(process);
    let process = cluster.start_with(UPLOADS, Some(before));
    payloads(newer.path()).iter().for_each(|payload| cluster.upload(payload));
    crashed(process, before);
    // What the dead process had claimed is due again after a minute; here it is now.
    let due = "UPDATE tidemill_retired SET not_before = 0 WHERE deleted_at IS NULL";
    cluster.database.execute(due).expect("claims run out");
    crashed(cluster.start_with(UPLOADS, Some(after)), after);
    cluster.database.execute(due).expect("claims run out");
    let process = cluster.start(UPLOADS);
    cluster.wait_until_complete(2);
    let left = "SELECT COUNT(*) FROM tidemill_retired WHERE deleted_at IS NULL";
    wait_for("all deletions", || (cluster.database.number(left)? == 0).then_some(()));
    stop(process);
    let retired = cluster.database.number("SELECT COUNT(*) FROM tidemill_retired");
    assert!(retired > Some(0), "the older report was replaced");
    cluster.check_lake(newer.path());
}

/// Waits until the process has ended at its point.
fn crashed(mut process: Tidemill, point: Point) {
    let what = format!("the process to come by {}", point.name());
    let status = wait_within(REPORTS, &what, || process.ended());
    assert_eq!(status.signal(), Some(ABORT), "{}: it ended with {status}", point.name());
}
