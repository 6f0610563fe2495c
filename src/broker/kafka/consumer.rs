//! One member of a consumer group.
//!
//! Responsible for: polling, pausing, seeking and asynchronous commits on one `BaseConsumer`;
//! naming the partition whose position is out of range; leaving the group when dropped.
//! Not responsible for: what happens when the group rebalances (`rebalance`).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, TopicPartitionList};
use tracing::{trace, warn};

use crate::broker::{BrokerError, Consumer, ConsumerConfig, Polled, Positions, Rebalance, Run};
use crate::model::{Offset, Topic, TopicPartition};

use super::arena::Arena;
use super::positions::KafkaPositions;
use super::rebalance::Context;
use super::{KafkaConfig, fault, list, settings};

/// How long a seek may take. It only talks to librdkafka's own threads.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// A partition that was just assigned may not have been started yet: seek again, so many times,
const SEEK_ATTEMPTS: u32 = 10;
/// and so far apart.
const SEEK_PAUSE: Duration = Duration::from_millis(20);

/// How long to ask one partition for its bounds while looking for the one that is out of range.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(1);

/// When the consumer is dropped: how long a poll waits for the assignment to be given back,
const LEAVE_WAIT: Duration = Duration::from_millis(100);
/// and how many of them may bring nothing.
const LEAVE_POLLS: u32 = 100;

/// A consumer, from its creation until it leaves the group.
pub(super) struct KafkaConsumer {
    /// Shared with those who look up offsets, and with commits under way.
    client: Arc<BaseConsumer<Context>>,
    topics: Vec<Topic>,
    /// The group was joined.
    subscribed: bool,
    arena: Arena,
    /// Records of the longest run that was polled last: the next one will hardly be longer.
    longest: usize,
}

impl KafkaConsumer {
    pub(super) fn new(
        config: &KafkaConfig,
        wanted: &ConsumerConfig,
        rebalance: Box<dyn Rebalance>,
    ) -> Result<Self, BrokerError> {
        if wanted.group.is_empty() || wanted.topics.is_empty() {
            return Err(BrokerError::Fatal(format!(
                "a consumer needs a group and topics, found group {:?} and {} topics",
                wanted.group,
                wanted.topics.len()
            )));
        }
        wanted.topics.iter().try_for_each(list::check_topic)?;
        let context = Context::new(&wanted.group, rebalance);
        let client: BaseConsumer<Context> = settings::consumer(config, wanted)
            .create_with_context(context)
            .map_err(|error| fault::creating("consumer", error))?;
        let client = Arc::new(client);
        client.context().attach(&client);
        let topics = wanted.topics.clone();
        Ok(Self { client, topics, subscribed: false, arena: Arena::default(), longest: 0 })
    }

    fn subscribe(&mut self) -> Result<(), BrokerError> {
        if !self.subscribed {
            let topics: Vec<&str> = self.topics.iter().map(Topic::as_str).collect();
            self.client.subscribe(&topics).map_err(|error| {
                fault::general(&format!("joining group {}", self.client.context().group()), &error)
            })?;
            self.subscribed = true;
        }
        Ok(())
    }

    /// What a poll brought in place of a record.
    fn failed(&self, error: &KafkaError) -> Result<Polled, BrokerError> {
        let context = self.client.context();
        let reason = context.take_reason();
        match error {
            KafkaError::PartitionEOF(_) => Ok(Polled::Idle),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => Err(self.out_of_range(reason.as_deref())),
            error => Err(fault::polling(context.group(), error, reason.as_deref())),
        }
    }

    /// Hands over what is due of the records of one place. That is asked once for all of them,
    /// after the last: of what a rebalance has taken away meanwhile nothing is due any more.
    fn hand_over(&self, polled: Option<PolledRun>, runs: &mut Vec<Run>) {
        let Some(mut run) = polled.and_then(|polled| polled.run) else { return };
        self.client.context().assignment().admit_run(&mut run);
        if !run.records.is_empty() {
            runs.push(run);
        }
    }

    /// The error does not say which partition it is about, so the one whose position lies outside
    /// of what it holds is looked for. librdkafka reads no further there: this must be loud.
    fn out_of_range(&self, reason: Option<&str>) -> BrokerError {
        let context = self.client.context();
        let positions = context.assignment().positions();
        for (partition, offset) in positions {
            let bounds = self.client.fetch_watermarks(
                partition.topic.as_str(),
                partition.partition.0,
                WATERMARK_TIMEOUT,
            );
            let Ok((earliest, latest)) = bounds else { break };
            if !(earliest..=latest).contains(&offset.0) {
                let (earliest, latest) = (Offset(earliest), Offset(latest));
                // Told once: the next error is about another partition.
                context.assignment().stall(&partition);
                return BrokerError::OutOfRange { partition, offset, earliest, latest };
            }
        }
        BrokerError::Fatal(format!(
            "consumer of group {}: a position is out of range: {}",
            context.group(),
            reason.unwrap_or("the client does not say which")
        ))
    }

    /// Tells what has to be restarted from what only needs a seek.
    fn split_stalled(
        &self,
        positions: &[(TopicPartition, Offset)],
    ) -> (PositionList, PositionList) {
        let assignment = self.client.context().assignment();
        positions.iter().cloned().partition(|(partition, _)| assignment.is_stalled(partition))
    }

    /// Reads partitions again that librdkafka gave up: a seek is refused there, so they are
    /// assigned anew. The eager protocol only knows the assignment as a whole; the others go on
    /// where they are, and what is paused stays so.
    fn restart(&self, stalled: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        let context = self.client.context();
        let named = list::of_offsets(stalled)?;
        let restarted = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self
                .client
                .incremental_unassign(&named)
                .and_then(|()| self.client.incremental_assign(&named)),
            RebalanceProtocol::Eager | RebalanceProtocol::None => {
                let positions = context.assignment();
                self.client.assign(&list::of_assignment(positions.all(), stalled)?)
            }
        };
        restarted.map_err(|error| {
            let group = context.group();
            BrokerError::Unavailable(format!("restarting partitions of group {group}: {error}"))
        })?;
        let mut assignment = context.assignment();
        stalled.iter().for_each(|(partition, offset)| assignment.position(partition, *offset));
        Ok(())
    }

    /// Seeks, and returns what has to be tried again because librdkafka is not ready for it.
    fn seek_once(
        &self,
        positions: &[(TopicPartition, Offset)],
    ) -> Result<PositionList, BrokerError> {
        let context = self.client.context();
        let tried = || format!("seeking in group {}", context.group());
        let answer = self
            .client
            .seek_partitions(list::of_offsets(positions)?, SEEK_TIMEOUT)
            .map_err(|error| fault::general(&tried(), &error))?;
        let mut again = Vec::new();
        for (partition, offset) in positions {
            match entry_error(&answer, partition) {
                None => context.assignment().position(partition, *offset),
                Some(KafkaError::OffsetFetch(
                    RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress,
                )) => again.push((partition.clone(), *offset)),
                Some(error) => {
                    return Err(BrokerError::Unavailable(format!(
                        "{} to {offset} of {partition}: {error}",
                        tried()
                    )));
                }
            }
        }
        Ok(again)
    }
}

/// Records that were polled one after the other from one place.
struct PolledRun {
    /// The address of the client's own handle of the topic, and the number of the partition. While
    /// something is assigned its handle stays, and no assignment changes between two polls of a
    /// row: one that serves a rebalance brings no record, and ends the row.
    place: (usize, i32),
    /// `None` where the partition is not assigned.
    run: Option<Run>,
}

/// Positions, by partition.
type PositionList = Vec<(TopicPartition, Offset)>;

/// What a list that came back says of one partition.
fn entry_error(answer: &TopicPartitionList, partition: &TopicPartition) -> Option<KafkaError> {
    match answer.find_partition(partition.topic.as_str(), partition.partition.0) {
        Some(entry) => entry.error().err(),
        None => Some(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)),
    }
}

impl Consumer for KafkaConsumer {
    fn poll(&mut self, wait: Duration) -> Result<Polled, BrokerError> {
        self.subscribe()?;
        match self.client.poll(wait) {
            None => Ok(Polled::Idle),
            Some(Ok(message)) => {
                let admitted = self.client.context().assignment().admit(
                    message.topic(),
                    message.partition(),
                    Offset(message.offset()),
                );
                Ok(match admitted {
                    Some(partition) => Polled::Record(partition, self.arena.record(&message)),
                    None => Polled::Idle,
                })
            }
            Some(Err(error)) => self.failed(&error),
        }
    }

    fn poll_runs(
        &mut self,
        mut wait: Duration,
        most: usize,
        runs: &mut Vec<Run>,
    ) -> Result<(), BrokerError> {
        self.subscribe()?;
        let mut last: Option<PolledRun> = None;
        let mut ended = Ok(());
        for _ in 0..most {
            let message = match self.client.poll(wait) {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    ended = self.failed(&error).map(drop);
                    break;
                }
                None => {
                    if last.is_none() {
                        self.arena.rest();
                    }
                    break;
                }
            };
            wait = Duration::ZERO;
            let place = (message.topic_ptr().addr(), message.partition());
            if last.as_ref().is_none_or(|last| last.place != place) {
                let assignment = self.client.context().assignment();
                let partition = assignment.find(message.topic(), message.partition());
                drop(assignment);
                let run = partition.map(|partition| Run::expecting(self.longest, partition));
                self.hand_over(last.replace(PolledRun { place, run }), runs);
            }
            if let Some(run) = last.as_mut().and_then(|last| last.run.as_mut()) {
                run.push(self.arena.record(&message));
            }
        }
        self.hand_over(last, runs);
        self.longest = runs.iter().map(|run| run.records.len()).max().unwrap_or(self.longest);
        ended
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        let named = list::of_partitions(partitions)?;
        self.client.pause(&named).map_err(|error| fault::general("pausing partitions", &error))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        let named = list::of_partitions(partitions)?;
        self.client.resume(&named).map_err(|error| fault::general("resuming partitions", &error))
    }

    fn seek(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        if positions.is_empty() {
            return Ok(());
        }
        let missing = self.client.context().assignment().withhold(positions);
        if let Some(partition) = missing {
            return Err(BrokerError::Fatal(format!(
                "cannot seek {partition}: it is not assigned to this consumer"
            )));
        }
        let (stalled, mut left) = self.split_stalled(positions);
        if !stalled.is_empty() {
            self.restart(&stalled)?;
        }
        for attempt in 0..SEEK_ATTEMPTS {
            if left.is_empty() {
                break;
            }
            if attempt > 0 {
                thread::park_timeout(SEEK_PAUSE);
            }
            left = self.seek_once(&left)?;
        }
        match left.first() {
            None => Ok(()),
            Some((partition, offset)) => Err(BrokerError::Unavailable(format!(
                "seeking to {offset} of {partition}: the partition is not started yet"
            ))),
        }
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let offsets = list::of_offsets(offsets)?;
        self.client.commit(&offsets, CommitMode::Async).map_err(|error| {
            let group = self.client.context().group();
            fault::general(&format!("committing offsets of group {group}"), &error)
        })
    }

    fn positions(&self) -> Arc<dyn Positions> {
        Arc::new(KafkaPositions::new(&self.client))
    }
}

impl Drop for KafkaConsumer {
    /// Leaves the group at once, even if somebody keeps the client alive for look-ups.
    fn drop(&mut self) {
        if !self.subscribed {
            return;
        }
        let context = self.client.context();
        context.leave();
        self.client.unsubscribe();
        let mut idle = 0;
        while !context.assignment().is_empty() && idle < LEAVE_POLLS {
            match self.client.poll(LEAVE_WAIT) {
                Some(Ok(_)) => trace!(group = context.group(), "record left behind"),
                Some(Err(_)) | None => idle += 1,
            }
        }
        if !context.assignment().is_empty() {
            warn!(group = context.group(), "left the group without giving the assignment back");
        }
    }
}
