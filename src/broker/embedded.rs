//! A durable log for one process, in SQLite: the default when no Kafka brokers are configured.
//!
//! Responsible for: topics, partitions, offsets, keys, headers, consumer groups within the
//! process, group commits and retention, so that the first command needs nothing and `kill -9`
//! loses nothing that was acknowledged. In memory, with [`Faults`], it is the test double of
//! everything that reads or writes a log.
//! Not responsible for: more than one process. The folder is locked; a second process gets an
//! error that names the first.
//!
//! ```text
//! Producer::send ─▶ queue (65,536 records, 64 MiB) ─▶ writer thread ─▶ log.db (WAL, one fsync
//! Consumer::commit ─▶ newest offset per partition ──┘   one batch       │       per batch)
//! Consumer::poll ◀── prefetch (`prefetch_bytes`) ◀── a connection of its own ◀──┘
//! ```
//!
//! Every handle (consumer, producer, admin, positions) keeps the log open; it closes with the last
//! of them, or with [`EmbeddedLog::close`].

mod admin;
mod consumer;
mod database;
mod faults;
mod folder;
mod group;
mod headers;
mod positions;
mod producer;
mod queue;
mod reader;
mod retention;
mod settings;
mod state;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::broker::embedded::admin::EmbeddedAdmin;
use crate::broker::embedded::consumer::EmbeddedConsumer;
use crate::broker::embedded::producer::EmbeddedProducer;
use crate::broker::embedded::reader::EmbeddedReader;
use crate::broker::embedded::state::{Shared, locked};
use crate::broker::{
    Admin, Broker, BrokerError, Consumer, ConsumerConfig, LogReader, Producer, Rebalance,
};
use crate::model::Topic;

pub use crate::broker::embedded::faults::Faults;

/// Tells the time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A log in a folder, or in memory.
pub struct EmbeddedLog {
    running: Arc<Running>,
    faults: Faults,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, and makes both if they are missing. Fails if another process has
    /// it open (the error names that process), or if a newer program wrote it. `clock` stamps
    /// records and decides what retention removes.
    pub fn open(dir: &Path, clock: Clock) -> Result<Arc<Self>, BrokerError> {
        Self::start(Some(dir), clock)
    }

    /// Opens an empty log that is gone when it is closed.
    pub fn in_memory(clock: Clock) -> Result<Arc<Self>, BrokerError> {
        Self::start(None, clock)
    }

    fn start(dir: Option<&Path>, clock: Clock) -> Result<Arc<Self>, BrokerError> {
        let shared = Arc::new(Shared::open(dir, clock)?);
        let writer = writer::start(Arc::clone(&shared))?;
        let faults = Faults::new(Arc::clone(&shared));
        let running = Running { shared, writer: Mutex::new(Some(writer)) };
        Ok(Arc::new(Self { running: Arc::new(running), faults }))
    }

    /// Sets how many partitions a topic gets that nobody declared (4, if this is never called):
    /// one that the first record sent to it creates, or one ensured without a count.
    pub fn set_default_partitions(&self, partitions: i32) -> Result<(), BrokerError> {
        settings::check_partitions(&Topic::from("(default)"), partitions)?;
        self.running.shared.default_partitions.store(partitions, Ordering::Relaxed);
        Ok(())
    }

    /// Sets how many records, and bytes of them, may wait for their delivery before producers are
    /// told that the queue is full.
    pub fn set_queue_limits(&self, records: usize, bytes: usize) {
        self.running.shared.queue.limit(records, bytes);
    }

    /// Writes what is queued, then refuses everything and lets another process have the folder.
    /// Records that cannot be written are delivered as [`BrokerError::Unavailable`]. Blocks until
    /// the last delivery.
    pub fn close(&self) {
        self.running.close();
    }

    /// Scripted rebalances and faults, for tests.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Broker for EmbeddedLog {
    fn consumer(
        &self,
        config: &ConsumerConfig,
        rebalance: Box<dyn Rebalance>,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        Ok(Box::new(EmbeddedConsumer::new(Arc::clone(&self.running), config, rebalance)?))
    }

    fn producer(&self) -> Result<Arc<dyn Producer>, BrokerError> {
        self.running.shared.check_open()?;
        Ok(Arc::new(EmbeddedProducer::new(Arc::clone(&self.running))))
    }

    fn admin(&self) -> Result<Arc<dyn Admin>, BrokerError> {
        self.running.shared.check_open()?;
        Ok(Arc::new(EmbeddedAdmin::new(Arc::clone(&self.running))))
    }

    fn reader(&self) -> Result<Box<dyn LogReader>, BrokerError> {
        Ok(Box::new(EmbeddedReader::new(Arc::clone(&self.running))?))
    }
}

/// The log and its writer thread, for as long as anybody has a handle on it.
struct Running {
    shared: Arc<Shared>,
    /// `None` once it was told to end.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    fn close(&self) {
        self.shared.close();
        let Some(writer) = locked(&self.writer).take() else { return };
        // The last handle may lie in a delivery callback: the thread cannot wait for itself, and
        // gives the folder back when it ends.
        if writer.thread().id() == std::thread::current().id() {
            return;
        }
        if writer.join().is_err() {
            tracing::error!("the writer thread of the embedded log panicked");
        }
        self.shared.release_folder();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}
