//! The log behind everything: one small trait family, two implementations, one contract suite.
//!
//! Responsible for: consuming with assignment events, producing with acknowledgements, topics and
//! their settings. `kafka` talks to a real cluster, `embedded` is a durable log in SQLite for one
//! process, and the same log in memory, with scripted rebalances and faults, is the test double.
//! Not responsible for: which offsets may be committed or when to pause; it does as it is told.
//!
//! Consumers are polled by one thread of their own. Between an assignment and the first `seek` of
//! a partition nothing of it is delivered: start positions are looked up elsewhere, through
//! [`Positions`], so that nothing waits on the polling thread.

pub mod embedded;
pub mod group;
pub mod kafka;
pub mod partitioner;
mod topic_settings;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{Headers, LogRecord, Offset, Topic, TopicPartition};

/// What a broker refused or failed to do. Texts name the topic, partition or group concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The broker cannot be reached, or did not answer in time; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// The topic (or the partition of it) does not exist.
    #[error("topic {0} does not exist")]
    UnknownTopic(Topic),
    /// A position outside what the partition holds; never reset in silence.
    #[error(
        "offset {offset} of {partition} is out of range, the partition holds {earliest}..{latest}"
    )]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The position asked for.
        offset: Offset,
        /// First position that can be read.
        earliest: Offset,
        /// Position after the last record.
        latest: Offset,
    },
    /// The record is larger than the topic or the broker takes.
    #[error("record of {size} bytes is too large for topic {topic}: {why}")]
    TooLarge {
        /// Where it was sent.
        topic: Topic,
        /// Its size in bytes.
        size: usize,
        /// The broker's words.
        why: String,
    },
    /// A topic exists with other settings than the pipeline needs.
    #[error("topic {topic} exists with {setting} = {found}, the pipeline needs {wanted}: {remedy}")]
    WrongSetting {
        /// The topic.
        topic: Topic,
        /// Name of the setting.
        setting: String,
        /// Its value.
        found: String,
        /// The value needed.
        wanted: String,
        /// What to do about it.
        remedy: String,
    },
    /// Something that trying again cannot mend.
    #[error("{0}")]
    Fatal(String),
}

impl BrokerError {
    /// Whether another attempt may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Where a consumer group without a committed offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is still there.
    Earliest,
    /// After the last record at the time of the look-up.
    Latest,
    /// At the first record stamped at or after this time, milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// How partitions are spread over the members of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignor {
    /// Eager: everything is revoked, then assigned anew.
    #[default]
    Range,
    /// Incremental: only what moves is revoked.
    CooperativeSticky,
}

/// What a consumer needs to know before it joins its group.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Topics to read.
    pub topics: Vec<Topic>,
    /// Consumer group.
    pub group: String,
    /// How partitions are spread over the group.
    pub assignor: Assignor,
    /// How long a silent member stays in the group.
    pub session_timeout: Duration,
    /// How long the polling thread may stay away before it loses its partitions.
    pub max_poll_interval: Duration,
    /// Bytes that the client prefetches, over all partitions.
    pub prefetch_bytes: usize,
}

impl ConsumerConfig {
    /// The defaults, for `topics` read by `group`.
    pub fn new(group: impl Into<String>, topics: Vec<Topic>) -> Self {
        Self {
            topics,
            group: group.into(),
            assignor: Assignor::default(),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(120),
            prefetch_bytes: 16 << 20,
        }
    }
}

/// Hears of changes of the assignment, inside [`Consumer::poll`] and [`Consumer::poll_runs`].
pub trait Rebalance: Send {
    /// These partitions were added. They are paused; nothing of them is delivered before
    /// [`Consumer::seek`] and [`Consumer::resume`].
    fn assigned(&mut self, partitions: &[TopicPartition]);

    /// These partitions are about to be taken away. Returns the offsets to commit first. This is
    /// the one place where the polling thread may wait, with a deadline of the callee's own.
    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)>;

    /// These partitions are gone already (the group went on without this member): there is
    /// nothing to drain and nothing that may be committed.
    fn lost(&mut self, partitions: &[TopicPartition]);
}

/// What one poll brought.
#[derive(Debug)]
pub enum Polled {
    /// The next record of an assigned partition.
    Record(TopicPartition, LogRecord),
    /// Nothing within the time given.
    Idle,
}

/// Records of one partition that came one after the other, in offset order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they lie.
    pub partition: TopicPartition,
    /// The records; there is at least one in every run that is handed over.
    pub records: Vec<LogRecord>,
    /// Their bytes (keys, values and headers) together.
    pub bytes: usize,
}

impl Run {
    /// A run without records yet; so many will probably come.
    pub fn expecting(records: usize, partition: TopicPartition) -> Self {
        Self { partition, records: Vec::with_capacity(records), bytes: 0 }
    }

    /// A run of these records.
    pub fn of(partition: TopicPartition, records: Vec<LogRecord>) -> Self {
        let bytes = bytes_of(&records);
        Self { partition, records, bytes }
    }

    /// Adds the next record.
    pub fn push(&mut self, record: LogRecord) {
        self.bytes += record.size();
        self.records.push(record);
    }

    /// Leaves out records.
    pub fn retain(&mut self, keep: impl FnMut(&LogRecord) -> bool) {
        let before = self.records.len();
        self.records.retain(keep);
        if self.records.len() < before {
            self.bytes = bytes_of(&self.records);
        }
    }
}

fn bytes_of(records: &[LogRecord]) -> usize {
    records.iter().map(LogRecord::size).sum()
}

/// Reads assigned partitions. Used by one thread at a time.
pub trait Consumer: Send {
    /// Waits at most `wait` for the next record; serves rebalances.
    fn poll(&mut self, wait: Duration) -> Result<Polled, BrokerError>;

    /// Does what polling again and again would do, for less: waits at most `wait` for the next
    /// record, and adds it to `runs` together with those that follow it without waiting, at most
    /// `most` in all. What is in `runs` came before an error that is returned.
    fn poll_runs(
        &mut self,
        wait: Duration,
        most: usize,
        runs: &mut Vec<Run>,
    ) -> Result<(), BrokerError>;

    /// Stops delivery from these partitions. Records that the client has prefetched are fetched
    /// again after [`Consumer::resume`].
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;

    /// Delivers again from these partitions.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError>;

    /// Sets the next offset to read of assigned partitions.
    fn seek(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), BrokerError>;

    /// Commits offsets without waiting for the answer; a failure is logged, and made good by the
    /// next commit.
    fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), BrokerError>;

    /// Look-ups that may run on another thread while this one polls. They are
    /// [`BrokerError::Unavailable`] once the consumer is gone.
    fn positions(&self) -> Arc<dyn Positions>;
}

/// Look-ups of offsets. Calls block and belong on a blocking thread.
pub trait Positions: Send + Sync {
    /// The group's committed offsets; `None` where it has none.
    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Offset>>, BrokerError>;

    /// First readable offset and the offset after the last record.
    fn watermarks(&self, partition: &TopicPartition) -> Result<(Offset, Offset), BrokerError>;

    /// First offset whose record is stamped at or after `timestamp` (milliseconds since the Unix
    /// epoch); the end of the partition if there is none.
    fn offset_at(&self, partition: &TopicPartition, timestamp: i64) -> Result<Offset, BrokerError>;

    /// Commits offsets and waits for the answer.
    fn commit(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), BrokerError>;
}

/// Reads partitions outside of every group: nothing is committed, and nobody's assignment moves.
/// Calls block and belong on a blocking thread.
pub trait LogReader: Send {
    /// First readable offset and the offset after the last record.
    fn bounds(&mut self, partition: &TopicPartition) -> Result<(Offset, Offset), BrokerError>;

    /// Hands the records of a partition in a range of offsets (the second one left out) to `take`,
    /// in offset order, one at a time, until it breaks off. Ends where the partition ends at the
    /// time of the call; records that are gone are left out.
    fn read(
        &mut self,
        partition: &TopicPartition,
        range: (Offset, Offset),
        take: &mut dyn FnMut(LogRecord) -> ControlFlow<()>,
    ) -> Result<(), BrokerError>;
}

/// A record to be produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: Topic,
    /// Partition; `None` lets the key decide (murmur2, as the Java client does), or, without a
    /// key, the producer.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
    /// Milliseconds since the Unix epoch; `None` lets the producer stamp it.
    pub timestamp: Option<i64>,
}

impl ProducerRecord {
    /// A record without key and headers.
    pub fn new(topic: Topic, value: impl Into<Bytes>) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }
}

/// Called exactly once per sent record, on the producer's thread: it must not block.
pub type Delivery = Box<dyn FnOnce(Result<(TopicPartition, Offset), BrokerError>) + Send>;

/// The producer's queue has no room; the record comes back.
pub struct QueueFull(pub ProducerRecord, pub Delivery);

/// Appends records, acknowledged once all in-sync replicas have them. Keeps the order of records
/// sent by one thread to one partition.
///
/// A broker that is away is no delivery error: records wait in the queue, the queue fills, and
/// the caller is held back. Errors that are delivered concern the record itself, or are fatal.
pub trait Producer: Send + Sync {
    /// Queues one record.
    fn send(&self, record: ProducerRecord, delivery: Delivery) -> Result<(), QueueFull>;

    /// Waits until everything queued has been delivered or `timeout` has passed; true if nothing
    /// is left. Blocks.
    fn flush(&self, timeout: Duration) -> bool;
}

/// A topic as the pipeline needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: Topic,
    /// Number of partitions when it is created; `None` leaves it to the broker's default.
    pub partitions: Option<i32>,
    /// Settings under Kafka's names (`retention.ms`, `max.message.bytes`), checked where the topic
    /// exists already.
    pub settings: BTreeMap<String, String>,
}

/// What the broker says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Topic,
    /// Number of partitions.
    pub partitions: i32,
}

/// Topics and their settings. Calls block and belong on a blocking thread.
pub trait Admin: Send + Sync {
    /// Creates the topics that are missing and checks the others: a declared partition count or
    /// setting that differs is [`BrokerError::WrongSetting`]. A topic may take larger records than
    /// declared.
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), BrokerError>;

    /// All topics, or those named.
    fn describe(&self, topics: Option<&[Topic]>) -> Result<Vec<TopicInfo>, BrokerError>;

    /// Removes the records before each offset.
    fn delete_records(&self, before: &[(TopicPartition, Offset)]) -> Result<(), BrokerError>;
}

/// One log: a Kafka cluster or the embedded one.
pub trait Broker: Send + Sync {
    /// A consumer that joins its group on the first poll. `rebalance` hears of its assignment.
    fn consumer(
        &self,
        config: &ConsumerConfig,
        rebalance: Box<dyn Rebalance>,
    ) -> Result<Box<dyn Consumer>, BrokerError>;

    /// A producer; pipelines share one.
    fn producer(&self) -> Result<Arc<dyn Producer>, BrokerError>;

    /// Topic administration.
    fn admin(&self) -> Result<Arc<dyn Admin>, BrokerError>;

    /// A reader beside all groups.
    fn reader(&self) -> Result<Box<dyn LogReader>, BrokerError>;
}
