//! Uploads in a spool that replicas share, with a broker and a Postgres: a replica is killed as
//! soon as it has answered, while nobody can be told; another one finds what it took.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::cost::{copied, files, oracle, payloads, post, project};
use crate::database::{self, Database};
use crate::faults::servers::KafkaServer;
use crate::harness::{Tidemill, create_topic, free_port, kafka_at, unique, wait_for, wait_within};

/// How long the reports may take: several processes share few cores here.
const REPORTS: Duration = Duration::from_secs(240);
/// The signal that nobody can refuse.
const KILL: i32 = 9;
const UPLOAD: &str = "/api/ingress/v1/upload";

/// The cost-management topology on two replicas that share a folder, as they would a bucket.
struct Cluster {
    folder: TempDir,
    kafka: KafkaServer,
    database: Database,
    environment: Vec<(String, String)>,
}

/// A running replica, and where it takes uploads.
struct Replica {
    process: Tidemill,
    address: String,
}

impl Cluster {
    fn new() -> Self {
        let (name, folder) = (unique("shared"), tempfile::tempdir().expect("a folder"));
        let shipped = project().join("topologies/cost-management.toml");
        let mut text = std::fs::read_to_string(shipped).expect("the shipped topology");
        let (path, spool) = (format!("path = \"{UPLOAD}\"\n"), folder.path().join("spool"));
        let shared = format!("{path}spool = {{ url = \"file://{}\" }}\n", spool.display());
        let changes = [
            ("name = \"cost-management\"", format!("name = \"{name}\"")),
            (path.as_str(), shared),
            ("\"platform.upload.validation\"", format!("\"{name}.validation\"")),
            ("\"cost.summaries\"", format!("\"{name}.summaries\"")),
        ];
        for (from, to) in changes {
            assert!(text.contains(from), "{from} is not in the shipped topology");
            text = text.replace(from, &to);
        }
        std::fs::write(folder.path().join("topology.toml"), text).expect("the topology");
        let kafka = KafkaServer::start();
        let topic = create_topic(&*kafka_at(kafka.address()), &format!("{name}.announce"), 4);
        let database = Database::create(&database::server(), &name);
        let lake = folder.path().join("lake");
        let environment = [
            ("KAFKA_TOPIC", topic.to_string()),
            ("KAFKA_CONSUMER_GROUP_ID", format!("{name}.group")),
            ("LAKE_URL", format!("file://{}", lake.display())),
            ("TIDEMILL_STATE_URL", database.url().to_owned()),
            ("TIDEMILL_CONSUMER_SESSION_TIMEOUT", "3s".to_owned()),
            ("TIDEMILL_INGRESS_ADOPT_AFTER", "1s".to_owned()),
            ("TIDEMILL_API_ENABLED", "false".to_owned()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { folder, kafka, database, environment }
    }

    /// Starts a replica, and waits until it takes part in the work.
    fn start(&self, name: &str) -> Replica {
        let (data, address) = (self.folder.path().join(name), format!("127.0.0.1:{}", free_port()));
        let mut environment = self.environment.clone();
        let own = [
            ("TIDEMILL_DATA_DIR", data.display().to_string()),
            ("TIDEMILL_INGRESS_LISTEN", address.clone()),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let bootstrap = self.kafka.address();
        let arguments = ["run", "topology.toml", "--bootstrap", &bootstrap];
        let process = Tidemill::start_with(&arguments, self.folder.path(), &environment);
        process.wait_for_log("partition begins");
        Replica { process, address }
    }

    /// Names of the objects in a folder of the spool.
    fn objects(&self, folder: &str) -> Vec<String> {
        let path = self.folder.path().join("spool/uploads").join(folder);
        let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn wait_until_complete(&self) {
        let complete = "SELECT COUNT(*) FROM tidemill_manifest WHERE phase = 'complete'";
        wait_within(REPORTS, "a complete report", || {
            (self.database.number(complete)? >= 1).then_some(())
        });
        let owed = "SELECT COUNT(*) FROM tidemill_outbox WHERE delivered_at IS NULL";
        wait_for("every delivery", || (self.database.number(owed)? == 0).then_some(()));
    }

    /// Lake and summary are what the oracle expects of these payloads.
    fn check(&self, inputs: &Path) {
        let lake = self.folder.path().join("lake");
        assert!(!files(&lake, "parquet").is_empty());
        oracle("check", inputs, &["--parquet", text(&lake), "--deep"]);
        let summary = self.folder.path().join("summary.csv");
        let rows = self.database.csv("SELECT * FROM ocp_usage_summary ORDER BY 1, 2, 3");
        std::fs::write(&summary, rows).expect("the summary's file");
        oracle("summary", inputs, &["--csv", text(&summary)]);
    }
}

impl Replica {
    /// Uploads a payload; it is answered whether or not there is a broker.
    fn upload(&self, payload: &Path) {
        let body = std::fs::read(payload).expect("the payload");
        let answer = post(&self.address, &body).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }

    /// A payload as it hands it out.
    fn payload(&self, id: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).expect("the ingress answers");
        let head = format!(
            "GET {UPLOAD}/payloads/{id} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        answer.split_off(body + 4)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn contents(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    let mut contents: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).expect("a payload")).collect();
    contents.sort();
    contents
}

#[test]
fn uploads_outlive_the_replica_that_took_them_whether_or_not_the_broker_was_there() {
    let mut cluster = Cluster::new();
    let inputs = copied(&["twelve-clusters/dev-twelve-01"]);
    let uploads = payloads(inputs.path());
    let (first, second) = (cluster.start("first"), cluster.start("second"));
    cluster.kafka.kill();
    uploads.iter().for_each(|payload| first.upload(payload));
    first.process.signal("KILL");
    let (status, log) = first.process.wait();
    assert_eq!(status.signal(), Some(KILL), "{log}");
    let waiting = cluster.objects("waiting");
    assert_eq!((waiting.len(), cluster.objects("sent").len()), (uploads.len(), 0));
    let mut handed: Vec<Vec<u8>> = waiting.iter().map(|id| second.payload(id)).collect();
    handed.sort();
    assert!(handed == contents(&uploads), "any replica hands out what another one took");

    cluster.kafka.start_again();
    cluster.wait_until_complete();
    wait_for("the marks of what was announced", || {
        let marks = (cluster.objects("waiting").len(), cluster.objects("sent").len());
        (marks == (0, uploads.len())).then_some(())
    });
    second.process.signal("TERM");
    let (status, log) = second.process.wait();
    assert!(status.success(), "{log}");
    cluster.check(inputs.path());
}
