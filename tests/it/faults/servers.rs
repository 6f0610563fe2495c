//! A Kafka broker and a Postgres server of a run's own, because they are going to be killed.
//!
//! Responsible for: starting them on free ports, killing and stopping them, and starting them
//! again on what they left.
//! Not responsible for: installing them: `scripts/test` does, and says where they are needed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{free_port, wait_for};

/// Fixed, because a random one may begin with a dash and be taken for an option.
const CLUSTER: &str = "tidemillFaultCluster0A";

/// A broker.
pub struct KafkaServer {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    starts: usize,
}

impl KafkaServer {
    /// Formats a folder and starts a broker on it.
    ///
    /// # Panics
    /// Without the jars that `scripts/test` fetches.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, controller) = (free_port(), free_port());
        let properties = folder.path().join("kafka.properties");
        fs::write(&properties, settings(folder.path(), port, controller)).expect("its settings");
        let properties = properties.to_str().expect("a path of text");
        let formatted = java("kafka.tools.StorageTool")
            .args(["format", "-t", CLUSTER, "-c", properties])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(formatted.expect("java runs").success(), "the broker's folder is formatted");
        let mut server = Self { folder, port, process: None, starts: 0 };
        server.start_again();
        server
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut would, but for the disk cache.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the broker is killed");
            process.wait().expect("the broker ends");
        }
    }

    /// Starts it on what the last one left, and waits until it serves.
    pub fn start_again(&mut self) {
        self.starts += 1;
        let log = self.folder.path().join(format!("log-{}", self.starts));
        let file = || Stdio::from(File::options().create(true).append(true).open(&log).unwrap());
        let process = java("kafka.Kafka")
            .arg(self.folder.path().join("kafka.properties"))
            .stdout(file())
            .stderr(file())
            .spawn();
        self.process = Some(process.expect("java runs"));
        wait_for("the broker", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            text.contains("Kafka Server started").then_some(())
        });
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn java(class: &str) -> Command {
    let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/services/kafka-libs");
    assert!(jars.join(".complete").exists(), "no Kafka in {}: run scripts/test", jars.display());
    let mut command = Command::new("java");
    command
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-cp"])
        .arg(jars.join("*"))
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info")
        .arg(class)
        .stdin(Stdio::null());
    command
}

fn settings(folder: &Path, port: u16, controller: u16) -> String {
    let data = folder.join("data");
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\nnum.partitions=3\n\
         group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=6\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=6\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\nlog.retention.ms=-1\nlog.retention.bytes=-1\n",
        data.display()
    )
}

/// A Postgres server.
pub struct PostgresServer {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl PostgresServer {
    /// Makes a cluster and starts a server on it.
    ///
    /// # Panics
    /// Without the programs that `scripts/test` installs.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The user that the server runs as has to get through to its own folder.
        let passable = Permissions::from_mode(0o711);
        fs::set_permissions(folder.path(), passable).expect("a passable folder");
        fs::create_dir(folder.path().join("postgres")).expect("a folder");
        let server = Self { folder, programs: programs(), port: free_port() };
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(server.home()).status();
            assert!(owned.expect("chown runs").success(), "the user postgres owns its folder");
        }
        let data = server.data();
        let made = ["-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"];
        server.run("initdb", &made);
        server.start_again();
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of its database `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it without a word to its clients: what was committed is in the log on disk.
    pub fn stop(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "-t", "30", "stop"]);
    }

    /// Starts it on what the last one left, and waits until it serves.
    pub fn start_again(&self) {
        let home = self.home();
        let log = home.join("log");
        let log = log.to_str().expect("a path of text");
        let how = format!(
            "-p {} -h 127.0.0.1 -k {} -c max_connections=200",
            self.port,
            home.to_str().expect("a path of text")
        );
        let data = self.data();
        self.run("pg_ctl", &["-D", &data, "-l", log, "-w", "-t", "60", "-o", &how, "start"]);
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("postgres")
    }

    fn data(&self) -> String {
        self.home().join("data").to_str().expect("a path of text").to_owned()
    }

    /// Runs one of the server's programs as a user that it accepts: it refuses to run as root.
    fn run(&self, program: &str, arguments: &[&str]) {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        let status = command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("it runs").success(), "{program} {arguments:?} failed");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
            return;
        }
        // A second panic would hide the first one: asked without minding the answer.
        let pid = fs::read_to_string(Path::new(&self.data()).join("postmaster.pid"));
        if let Some(pid) = pid.ok().as_deref().and_then(|text| text.lines().next()) {
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Debian keeps the server's programs out of the path, one folder per version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_default()
}
