//! What the behaviours of the broker contract are told with.
//!
//! Responsible for: the brokers under test, members of groups that note what they hear, and
//! waiting, with a deadline, for records and answers.
//! Not responsible for: what a broker has to do (`broker_contract`).

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tidemill::broker::embedded::EmbeddedLog;
use tidemill::broker::kafka::{KafkaBroker, KafkaConfig, Security};
use tidemill::broker::{
    Broker, BrokerError, Consumer, ConsumerConfig, Polled, Positions, Producer, ProducerRecord,
    QueueFull, Rebalance, Run, TopicSpec,
};
use tidemill::model::{LogRecord, Offset, Partition, Topic, TopicPartition};
use uuid::Uuid;

/// One poll.
const STEP: Duration = Duration::from_millis(100);
/// Polls before a test gives up: half a minute of them.
pub(super) const ATTEMPTS: usize = 300;
/// Polls that bring nothing before a test believes that nothing comes.
const QUIET: usize = 10;
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Where the stamps of records begin; late in 2023.
pub(super) const EPOCH: i64 = 1_700_000_000_000;

pub(super) type Tested = Result<(), Box<dyn Error>>;
type Acked = Result<(TopicPartition, Offset), BrokerError>;

pub(super) trait LogUnderTest {
    fn broker(&self) -> Arc<dyn Broker>;

    fn fresh_topic(&self, partitions: i32) -> Result<Topic, BrokerError> {
        self.fresh_topic_with(partitions, &[])
    }

    /// Without retention: the stamps in these tests are old.
    fn fresh_topic_with(
        &self,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<Topic, BrokerError> {
        let name = Topic::from(format!("contract-{}", Uuid::new_v4()));
        let keep = [("retention.ms", "-1")];
        self.broker().admin()?.ensure(&[spec(
            &name,
            partitions,
            &[&keep[..], settings].concat(),
        )])?;
        Ok(name)
    }
}

pub(super) struct Embedded {
    log: Arc<EmbeddedLog>,
    _folder: TempDir,
}

impl Embedded {
    pub(super) fn open() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let now = AtomicI64::new(EPOCH);
        let clock = Arc::new(move || now.fetch_add(1, Ordering::Relaxed));
        Ok(Self { log: EmbeddedLog::open(folder.path(), clock)?, _folder: folder })
    }
}

impl LogUnderTest for Embedded {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.log) as Arc<dyn Broker>
    }
}

pub(super) struct Kafka(Arc<KafkaBroker>);

impl Kafka {
    #[expect(
        clippy::disallowed_methods,
        reason = "scripts/test hands over the address of its broker in the environment"
    )]
    pub(super) fn open() -> Result<Self, Box<dyn Error>> {
        let bootstrap = std::env::var_os("TIDEMILL_TEST_KAFKA")
            .and_then(|address| address.into_string().ok())
            .ok_or("TIDEMILL_TEST_KAFKA names no broker: run the tests with scripts/test")?;
        let (properties, security) = (BTreeMap::new(), Security::default());
        let config = KafkaConfig { bootstrap, properties, security };
        Ok(Self(KafkaBroker::new(config)?))
    }
}

impl LogUnderTest for Kafka {
    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.0) as Arc<dyn Broker>
    }
}

pub(super) fn spec(name: &Topic, partitions: i32, settings: &[(&str, &str)]) -> TopicSpec {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    TopicSpec { name: name.clone(), partitions: Some(partitions), settings: settings.collect() }
}

pub(super) fn fresh_group() -> String {
    format!("contract-{}", Uuid::new_v4())
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn record(topic: &Topic, partition: i32, value: &str) -> ProducerRecord {
    let mut record = ProducerRecord::new(topic.clone(), value.to_owned());
    record.partition = Some(partition);
    record
}

/// Sends a record; the answer comes over the channel.
pub(super) fn send(producer: &dyn Producer, mut record: ProducerRecord) -> Receiver<Acked> {
    let (sender, acked) = sync_channel(1);
    loop {
        let sender = sender.clone();
        let delivery = Box::new(move |result| drop(sender.send(result)));
        match producer.send(record, delivery) {
            Ok(()) => return acked,
            Err(QueueFull(back, _)) => record = back,
        }
        producer.flush(STEP);
    }
}

pub(super) fn produce(
    log: &dyn LogUnderTest,
    record: ProducerRecord,
) -> Result<Acked, Box<dyn Error>> {
    let producer = log.broker().producer()?;
    Ok(send(producer.as_ref(), record).recv_timeout(DEADLINE)?)
}

/// Produces values into one partition; they get consecutive offsets.
pub(super) fn fill(
    log: &dyn LogUnderTest,
    topic: &Topic,
    partition: i32,
    values: &[&str],
) -> Tested {
    let producer = log.broker().producer()?;
    let sent: Vec<_> = values
        .iter()
        .map(|value| send(producer.as_ref(), record(topic, partition, value)))
        .collect();
    for acked in sent {
        acked.recv_timeout(DEADLINE)??;
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Assigned(TopicPartition),
    Revoked(TopicPartition),
    Lost(TopicPartition),
}

/// What members heard, with their names, in the order in which they heard it.
pub(super) type Journal = Arc<Mutex<Vec<(&'static str, Event)>>>;

struct Recorder {
    name: &'static str,
    journal: Journal,
    /// Committed for every partition that is revoked.
    at_revoke: Option<Offset>,
}

impl Recorder {
    fn note(&self, partitions: &[TopicPartition], event: impl Fn(TopicPartition) -> Event) {
        let events = partitions.iter().cloned().map(|partition| (self.name, event(partition)));
        locked(&self.journal).extend(events);
    }
}

impl Rebalance for Recorder {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.note(partitions, Event::Assigned);
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        self.note(partitions, Event::Revoked);
        let partitions = partitions.iter().cloned();
        self.at_revoke.map_or_else(Vec::new, |at| partitions.map(|p| (p, at)).collect())
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.note(partitions, Event::Lost);
    }
}

pub(super) struct Member {
    name: &'static str,
    pub(super) consumer: Box<dyn Consumer>,
    journal: Journal,
}

impl Member {
    pub(super) fn new(
        log: &dyn LogUnderTest,
        (name, group): (&'static str, &str),
        topic: &Topic,
        journal: &Journal,
        at_revoke: Option<Offset>,
    ) -> Result<Self, BrokerError> {
        let config = ConsumerConfig::new(group, vec![topic.clone()]);
        let recorder = Recorder { name, journal: Arc::clone(journal), at_revoke };
        let consumer = log.broker().consumer(&config, Box::new(recorder))?;
        Ok(Self { name, consumer, journal: Arc::clone(journal) })
    }

    /// The only member of a group, with all partitions assigned.
    pub(super) fn alone(
        log: &dyn LogUnderTest,
        group: &str,
        topic: &Topic,
    ) -> Result<Self, Box<dyn Error>> {
        let mut member = Self::new(log, ("alone", group), topic, &Journal::default(), None)?;
        let infos = log.broker().admin()?.describe(Some(std::slice::from_ref(topic)))?;
        let partitions = infos.first().ok_or("the topic is not described")?.partitions;
        for _ in 0..ATTEMPTS {
            if member.assigned().len() == partitions as usize {
                return Ok(member);
            }
            if let Some((partition, _)) = member.poll()? {
                return Err(format!("{partition} delivers though nobody sought").into());
            }
        }
        Err("not all partitions were assigned within the deadline".into())
    }

    /// Partitions that it was ever assigned.
    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        let journal = locked(&self.journal);
        let own = journal.iter().filter(|(name, _)| *name == self.name);
        own.filter_map(|(_, event)| match event {
            Event::Assigned(partition) => Some(partition.clone()),
            _ => None,
        })
        .collect()
    }

    /// One poll; a broker that is not quite ready yet brings nothing.
    pub(super) fn poll(&mut self) -> Result<Option<(TopicPartition, LogRecord)>, BrokerError> {
        match self.consumer.poll(STEP) {
            Ok(Polled::Record(partition, record)) => Ok(Some((partition, record))),
            Ok(Polled::Idle) => Ok(None),
            Err(error) if error.is_transient() => Ok(None),
            Err(BrokerError::UnknownTopic(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for runs of at most so many records.
    pub(super) fn poll_runs(&mut self, most: usize) -> Result<Vec<Run>, BrokerError> {
        let mut runs = Vec::new();
        match self.consumer.poll_runs(STEP, most, &mut runs) {
            Err(error) if !error.is_transient() => Err(error),
            Ok(()) | Err(_) => Ok(runs),
        }
    }

    pub(super) fn read_from(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<(), BrokerError> {
        self.consumer.seek(&[(partition.clone(), Offset(offset))])?;
        self.consumer.resume(std::slice::from_ref(partition))
    }

    pub(super) fn take(
        &mut self,
        count: usize,
    ) -> Result<Vec<(TopicPartition, LogRecord)>, Box<dyn Error>> {
        let mut taken = Vec::new();
        for _ in 0..ATTEMPTS + count {
            if taken.len() == count {
                return Ok(taken);
            }
            taken.extend(self.poll()?);
        }
        Err(format!("{} of {count} records within the deadline", taken.len()).into())
    }

    pub(super) fn values(&mut self, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
        let text = |record: LogRecord| record.value.map(|value| value.to_vec());
        let taken = self.take(count)?.into_iter();
        Ok(taken
            .filter_map(|(_, record)| text(record))
            .map(String::from_utf8)
            .collect::<Result<_, _>>()?)
    }

    pub(super) fn expect_silence(&mut self) -> Tested {
        for _ in 0..QUIET {
            if let Some((partition, record)) = self.poll()? {
                return Err(format!("{partition} delivered {}", record.offset).into());
            }
        }
        Ok(())
    }

    pub(super) fn positions(&self) -> Arc<dyn Positions> {
        self.consumer.positions()
    }
}

pub(super) fn part(topic: &Topic, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition: Partition(partition) }
}
