//! Settings of the engine: `config/tidemill.toml`.
//!
//! Responsible for: every setting with its default, reading them from a file and from
//! `TIDEMILL_<SECTION>_<KEY>` in the environment (which wins), checks between them; and, for
//! topologies too, errors with a place, units, variables and the reader of documents.
//! Not responsible for: what a pipeline does (`topology`).
//!
//! Start reading at [`Config`]; `config/read.rs` fills it.

pub mod diagnostic;
pub mod document;
pub mod env;
mod read;
pub mod secret;
pub mod units;
pub mod variables;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker::Assignor;
use crate::config::diagnostic::Diagnostics;
use crate::config::secret::Secret;
use crate::source::ingress::IngressSettings;
use crate::state::postgres::PostgresConfig;

/// All settings. `Config::default()` works as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where data lies.
    pub data: Data,
    /// Worker threads.
    pub workers: Workers,
    /// Bounds of memory, disk and time.
    pub limits: Limits,
    /// Consumers of Kafka.
    pub consumer: Consumer,
    /// When there are too many dead letters.
    pub dead_letters: DeadLetters,
    /// Stopping.
    pub shutdown: Shutdown,
    /// Restarts of parts of a pipeline.
    pub restart: Restart,
    /// HTTP endpoints that take uploads.
    pub ingress: Ingress,
    /// Logs.
    pub telemetry: Telemetry,
    /// The state store.
    pub state: State,
    /// The HTTP API.
    pub api: Api,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Folder of the embedded log, the embedded state store and spools.
    pub dir: PathBuf,
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: PathBuf::from("data") }
    }
}

/// `[workers]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Threads of each stage; 0 takes one per core.
    pub per_stage: usize,
}

impl Workers {
    /// Threads of each stage.
    pub fn lanes(self) -> NonZeroUsize {
        NonZeroUsize::new(self.per_stage)
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes buffered per partition before it is paused; it resumes at half of them.
    pub buffer_bytes: u64,
    /// Records buffered per partition before it is paused; it resumes at half of them.
    pub buffer_records: usize,
    /// Bytes buffered over all partitions of a source. Half of them are divided evenly, the other
    /// half goes to whichever partitions need more than their part.
    pub buffer_total: u64,
    /// Most records of one batch.
    pub batch_records: usize,
    /// Most bytes of one batch; a single larger record makes a batch of its own.
    pub batch_bytes: u64,
    /// Most records per partition without an outcome.
    pub in_flight_records: usize,
    /// Batches that wait for each lane of a stage.
    pub lane_batches: usize,
    /// Batches that wait for each sink, and for each node that does I/O.
    pub sink_batches: usize,
    /// Bytes on disk for spooled bodies and unpacked archives.
    pub spool_bytes: u64,
    /// How long a node may work on one record before it is taken for hung.
    pub record_time_limit: Duration,
    /// Hung threads at which the process ends.
    pub max_hung_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffer_bytes: 8 << 20,
            buffer_records: 10_000,
            buffer_total: 128 << 20,
            batch_records: 256,
            batch_bytes: 1 << 20,
            in_flight_records: 10_000,
            lane_batches: 8,
            sink_batches: 8,
            spool_bytes: 4 << 30,
            record_time_limit: Duration::from_secs(60),
            max_hung_threads: 4,
        }
    }
}

/// `[consumer]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// How long a silent member stays in its group.
    pub session_timeout: Duration,
    /// How long the polling thread may stay away before it loses its partitions.
    pub max_poll_interval: Duration,
    /// How long a revoke waits for records in flight; at most half of `max_poll_interval`.
    pub revoke_drain_deadline: Duration,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long a partition may stand still without a reason before it is begun anew.
    pub stall_limit: Duration,
    /// Bytes that the client prefetches, over all partitions.
    pub prefetch_bytes: u64,
    /// How partitions are spread over a group, where the source does not say.
    pub assignor: Assignor,
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(120),
            revoke_drain_deadline: Duration::from_secs(30),
            commit_interval: Duration::from_millis(500),
            stall_limit: Duration::from_secs(60),
            prefetch_bytes: 16 << 20,
            assignor: Assignor::Range,
        }
    }
}

/// `[dead_letters]`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetters {
    /// Dead letters in a row at which the pipeline stops; 0 sets no such limit.
    pub max_consecutive: u64,
    /// Share of the latest records at which the pipeline stops; 1 sets no such limit.
    pub max_ratio: f64,
    /// Number of latest records the share is taken over.
    pub min_sample: u32,
    /// What the name of the topic adds to that of the pipeline.
    pub topic_suffix: String,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            max_consecutive: 100,
            max_ratio: 1.0,
            min_sample: 1_000,
            topic_suffix: ".dead-letters".to_owned(),
        }
    }
}

/// `[shutdown]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long a stop waits for what is in flight.
    pub drain_deadline: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_deadline: Duration::from_secs(30) }
    }
}

/// `[restart]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Restarts that are fine within the period; one more ends the pipeline.
    pub max: u32,
    /// The period.
    pub within: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self { max: 5, within: Duration::from_secs(60) }
    }
}

/// `[ingress]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Address of the endpoints that take uploads. There is no authentication: beyond loopback
    /// something in front of it has to see to that.
    pub listen: SocketAddr,
    /// Where other replicas find what this one took: `http://uploads-0:8080`. Without it payloads
    /// are announced under the address that is listened on.
    pub public_url: Option<String>,
    /// How long payloads are kept after they were announced.
    pub retain: Duration,
    /// How old an announcement in a spool that replicas share has to be before any of them sends
    /// it: whoever took the upload is taken for dead.
    pub adopt_after: Duration,
}

impl Default for Ingress {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            retain: IngressSettings::RETAIN,
            adopt_after: IngressSettings::ADOPT_AFTER,
        }
    }
}

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Level of logs, or directives such as `info,tidemill::source=debug`.
    pub log_level: String,
    /// Form of logs.
    pub log_format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_level: "info".to_owned(), log_format: LogFormat::Text }
    }
}

/// Form of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line per event, for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[state]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// File of the embedded state store; relative to the data folder.
    pub path: PathBuf,
    /// Database in the place of the embedded store: `postgres://user:password@host/database`.
    pub url: Option<Secret>,
    /// Certificates that the database's own is checked against.
    pub ca_file: Option<PathBuf>,
    /// Connections to the database that a process keeps at most.
    pub connections: usize,
    /// How long the database may work on one statement.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a transaction may lie idle before the database ends it: what a frozen owner of a
    /// shard can hold up a takeover.
    pub idle_transaction_timeout: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            path: PathBuf::from("state.db"),
            url: None,
            ca_file: None,
            connections: 8,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_transaction_timeout: Duration::from_secs(30),
        }
    }
}

/// `[api]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Whether `tidemill run` serves it.
    pub enabled: bool,
    /// Its address.
    pub listen: SocketAddr,
    /// What clients have to send as a bearer token; without one only this machine is served.
    pub token: Option<Secret>,
}

impl Default for Api {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7410)), token: None }
    }
}

impl Config {
    /// Settings from the file at `path`, if one is given, and from the environment.
    ///
    /// # Errors
    /// All errors of the file and of the environment at once.
    pub fn load(
        path: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Diagnostics> {
        let Some(path) = path else { return Self::parse("the environment", "", env) };
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text, env),
            Err(error) => {
                Err(Diagnostics::whole_file(&name, format!("cannot read {name}: {error}")))
            }
        }
    }

    /// Settings from `text`, which messages call `file`, and from the environment.
    ///
    /// # Errors
    /// All errors of the text and of the environment at once.
    pub fn parse(
        file: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Diagnostics> {
        read::config(file, text, env)
    }

    /// Every key there is, as `section.key`.
    pub fn keys() -> Vec<String> {
        read::keys()
    }

    /// The database that the state is kept in, if one is set in the place of the embedded store.
    pub fn database(&self) -> Option<PostgresConfig> {
        let State { url, ca_file, connections, .. } = &self.state;
        Some(PostgresConfig {
            ca_file: ca_file.clone(),
            pool_size: *connections,
            statement_timeout: self.state.statement_timeout,
            lock_timeout: self.state.lock_timeout,
            idle_in_transaction_timeout: self.state.idle_transaction_timeout,
            ..PostgresConfig::new(url.as_ref()?.reveal().clone())
        })
    }

    /// File of the embedded state store.
    pub fn state_path(&self) -> PathBuf {
        self.data.dir.join(&self.state.path)
    }
}

#[cfg(test)]
mod tests;
