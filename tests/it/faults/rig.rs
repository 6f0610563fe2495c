//! The pipeline under test: its topics, its database, its receiver, and replicas that come and go.
//!
//! Responsible for: starting, ending, killing and freezing replicas, and knowing when everything
//! that was produced has had its effect.
//! Not responsible for: what is produced (`plan`), and what is expected (`audit`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidemill::broker::kafka::KafkaBroker;
use tidemill::broker::{Broker, Consumer, ConsumerConfig, Positions, Producer};
use tidemill::model::{Topic, TopicPartition};

use super::plan::{Event, PARTITIONS};
use super::receiver::Receiver;
use crate::database::{Database, Held};
use crate::harness::{
    Deaf, Tidemill, await_within, create_topic, kafka_at, produce, unique, wait_for, wait_within,
};

/// How long a silent replica stays in its groups.
pub const SESSION: Duration = Duration::from_secs(2);
/// How long the last effects may take once nothing disturbs them any more.
pub const SETTLING: Duration = Duration::from_secs(120);
/// How long a replica that was told to stop may take.
const STOPPING: Duration = Duration::from_secs(60);
/// After that, deliveries are not under way any more but claimed by a replica that is dead.
const CLAIMED: Duration = Duration::from_secs(3);

/// What logs must not hold.
const ALARMS: [&str; 2] = ["invariant violated", "panicked at"];
/// What a log says where a zombie was refused.
pub const REFUSED: &str = "another owner has taken the shard over";

/// The pipeline under test.
pub struct Rig {
    folder: TempDir,
    broker: Arc<KafkaBroker>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    replicas: BTreeMap<usize, Tidemill>,
    /// Never polled, so it never joins the group whose offsets it looks up.
    _group: Box<dyn Consumer>,
    positions: Arc<dyn Positions>,
    /// Topic of the source.
    pub source: Topic,
    /// Topic of the sink.
    pub output: Topic,
    /// Topic of the completions.
    pub completions: Topic,
    /// Topic of the dead letters.
    pub letters: Topic,
    /// The database of the state store, reached without the door.
    pub database: Database,
    /// Is told of completions.
    pub receiver: Receiver,
    /// What went wrong in logs and ends of replicas that are gone.
    pub alarms: Vec<String>,
    /// How often a zombie was refused.
    pub refused: usize,
}

impl Rig {
    /// A pipeline on the broker at `bootstrap` and the Postgres server at `server`, which replicas
    /// reach through the port `door`, if one is given.
    pub fn new(bootstrap: &str, server: &str, door: Option<u16>) -> Self {
        let name = unique("faults");
        let folder = tempfile::tempdir().expect("a folder");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/topology.toml");
        let text = std::fs::read_to_string(shipped).expect("the topology");
        let text = text.replace("name = \"faults\"", &format!("name = \"{name}\""));
        std::fs::write(folder.path().join("topology.toml"), text).expect("the topology");
        let broker = kafka_at(bootstrap.to_owned());
        let topic = |of: &str| create_topic(&*broker, &format!("{name}.{of}"), PARTITIONS);
        let (source, output, completions) = (topic("events"), topic("output"), topic("done"));
        let group = format!("{name}.group");
        let watched = ConsumerConfig::new(group.clone(), vec![source.clone()]);
        let watching = broker.consumer(&watched, Box::new(Deaf)).expect("a consumer");
        let database = Database::create(server, &name);
        let store = match door {
            Some(port) => format!("postgres://postgres@127.0.0.1:{port}/{name}"),
            None => database.url().to_owned(),
        };
        let receiver = Receiver::start();
        let environment = [
            ("FAULTS_TOPIC", source.to_string()),
            ("FAULTS_GROUP", group),
            ("FAULTS_OUTPUT", output.to_string()),
            ("FAULTS_COMPLETIONS", completions.to_string()),
            ("FAULTS_RECEIVER", receiver.url()),
            ("TIDEMILL_STATE_URL", store),
            // A frozen replica must not hold its locks for longer than its membership.
            ("TIDEMILL_STATE_IDLE_TRANSACTION_TIMEOUT", "2s".to_owned()),
            ("TIDEMILL_STATE_LOCK_TIMEOUT", "5s".to_owned()),
            ("TIDEMILL_CONSUMER_SESSION_TIMEOUT", format!("{}s", SESSION.as_secs())),
            ("TIDEMILL_CONSUMER_REVOKE_DRAIN_DEADLINE", "5s".to_owned()),
            // Faults come faster here than any operator would put up with.
            ("TIDEMILL_RESTART_MAX", "1000".to_owned()),
            ("TIDEMILL_WORKERS_PER_STAGE", "2".to_owned()),
            ("TIDEMILL_API_ENABLED", "false".to_owned()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let arguments = ["run", "topology.toml", "--bootstrap", bootstrap];
        Self {
            folder,
            broker,
            arguments: arguments.map(str::to_owned).to_vec(),
            environment,
            replicas: BTreeMap::new(),
            positions: watching.positions(),
            _group: watching,
            source,
            output,
            completions,
            letters: Topic::from(format!("{name}.dead-letters")),
            database,
            receiver,
            alarms: Vec::new(),
            refused: 0,
        }
    }

    /// The broker.
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// A producer for the source's topic.
    pub fn producer(&self) -> Arc<dyn Producer> {
        self.broker.producer().expect("a producer")
    }

    /// Produces and waits for the acks.
    pub fn produce(&self, events: &[Event]) {
        produce(self.broker(), events.iter().map(|event| event.record(&self.source)));
    }

    /// Adds a variable for all replicas that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts a replica; `order` is a crash point and what happens there.
    pub fn start(&mut self, replica: usize, order: Option<&str>) {
        let mut environment = self.environment.clone();
        let data = self.folder.path().join(format!("replica-{replica}"));
        environment.push(("TIDEMILL_DATA_DIR".to_owned(), data.display().to_string()));
        environment.extend(order.map(|order| ("TIDEMILL_CRASH_POINT".to_owned(), order.into())));
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let process = Tidemill::start_with(&arguments, self.folder.path(), &environment);
        assert!(self.replicas.insert(replica, process).is_none(), "replica {replica} runs already");
    }

    /// Numbers of the replicas that run.
    pub fn running(&self) -> Vec<usize> {
        self.replicas.keys().copied().collect()
    }

    /// A replica that runs.
    pub fn replica(&self, replica: usize) -> &Tidemill {
        &self.replicas[&replica]
    }

    /// Ends a replica with SIGKILL.
    pub fn kill(&mut self, replica: usize) {
        let process = self.replicas.remove(&replica).expect("a replica that runs");
        process.signal("KILL");
        let (_, log) = process.wait();
        self.read(&log);
    }

    /// Ends a replica with SIGTERM, which has to be a clean end.
    pub fn terminate(&mut self, replica: usize) {
        self.replica(replica).signal("TERM");
        let status = self.ended(replica, STOPPING);
        let status = status.unwrap_or_else(|| panic!("replica {replica} does not stop"));
        if !status.success() {
            self.alarms.push(format!("replica {replica} was told to stop and ended with {status}"));
        }
    }

    /// Waits for a replica to end by itself; `None` if it does not.
    pub fn ended(&mut self, replica: usize, patience: Duration) -> Option<ExitStatus> {
        let process = self.replicas.get_mut(&replica).expect("a replica that runs");
        let status = await_within(patience, || process.ended())?;
        let (_, log) = self.replicas.remove(&replica).expect("the same replica").wait();
        self.read(&log);
        Some(status)
    }

    /// Starts replicas again that have ended by themselves. Only one that misses a dependency may
    /// (exit code 3): whoever runs it would start it again, too.
    pub fn revive(&mut self) {
        for replica in self.running() {
            let Some(status) = self.ended(replica, Duration::ZERO) else { continue };
            if status.code() != Some(3) {
                self.alarms.push(format!("replica {replica} ended by itself with {status}"));
            }
            self.start(replica, None);
        }
    }

    /// Stops all threads of a replica, until it is [thawed](Self::thaw).
    pub fn freeze(&self, replica: usize) {
        self.replica(replica).signal("STOP");
        self.wait_until_frozen(replica);
    }

    /// Waits until a replica has stopped itself.
    pub fn wait_until_frozen(&self, replica: usize) {
        let process = self.replica(replica);
        wait_for("the replica to freeze", || process.is_frozen().then_some(()));
    }

    /// Lets a frozen replica go on.
    pub fn thaw(&self, replica: usize) {
        self.replica(replica).signal("CONT");
    }

    /// Records of the source's topic whose offset is not committed; `None` if nobody can tell.
    pub fn behind(&self) -> Option<i64> {
        let partitions: Vec<TopicPartition> = (0..PARTITIONS)
            .map(|number| TopicPartition::new(self.source.clone(), number))
            .collect();
        let committed = self.positions.committed(&partitions).ok()?;
        let mut behind = 0;
        for (partition, committed) in partitions.iter().zip(committed) {
            let (_, end) = self.positions.watermarks(partition).ok()?;
            behind += end.0 - committed.map_or(0, |offset| offset.0);
        }
        Some(behind)
    }

    /// Whether a list's completion was carried out.
    pub fn is_done(&self, list: &str) -> bool {
        let query = format!("SELECT COUNT(*) FROM batch_done WHERE manifest = '{list}'");
        self.database.number(&query).is_some_and(|rows| rows > 0)
    }

    /// Lists whose completion was carried out.
    pub fn done(&self) -> usize {
        let rows = self.database.number("SELECT COUNT(*) FROM batch_done");
        usize::try_from(rows.unwrap_or(0)).unwrap_or(0)
    }

    /// Waits until every record has its outcome.
    pub fn wait_until_read(&self) {
        wait_within(SETTLING, "every record to be committed", || {
            (self.behind() == Some(0)).then_some(())
        });
    }

    /// Waits until `lists` completions and then all deliveries were carried out, and ends all
    /// replicas. What is not there after `patience` is for the audit to find.
    pub fn finish(&mut self, lists: usize, patience: Duration) {
        let all = || (self.done() >= lists).then_some(());
        let _ = await_within(patience, all);
        let owed = "SELECT COUNT(*) FROM tidemill_outbox WHERE delivered_at IS NULL";
        let none = || (self.database.number(owed) == Some(0)).then_some(());
        if await_within(CLAIMED, none).is_none() {
            // What a dead replica had claimed is due again after a minute; here it is now.
            let due = "UPDATE tidemill_outbox SET not_before = 0 WHERE delivered_at IS NULL";
            self.database.execute(due).expect("claims run out");
            let _ = await_within(patience, none);
        }
        for replica in self.running() {
            self.terminate(replica);
        }
    }

    /// Keeps everybody from writing rows of members until what is returned is dropped.
    pub fn lock_rows(&self) -> Held {
        let tables =
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'part_row%'";
        let tables = self.database.rows(tables).expect("the table of rows");
        self.database.hold(&format!("LOCK TABLE \"{}\" IN EXCLUSIVE MODE", tables[0][0]))
    }

    fn read(&mut self, log: &str) {
        let alarms = log.lines().filter(|line| ALARMS.iter().any(|alarm| line.contains(alarm)));
        self.alarms.extend(alarms.map(str::to_owned));
        self.refused += log.matches(REFUSED).count();
    }
}
