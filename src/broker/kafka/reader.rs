//! Reading a cluster beside all groups.
//!
//! Responsible for: ranges of a partition, through a consumer that is assigned what it reads and
//! joins nothing.
//! Not responsible for: groups and their offsets (`consumer`).

use std::ops::ControlFlow;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Message};
use tracing::{debug, trace};

use crate::broker::{BrokerError, LogReader};
use crate::model::{LogRecord, Offset, TopicPartition};

use super::arena::Arena;
use super::{KafkaConfig, fault, list, log_client_line, settings};

/// How long a look-up may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// One poll.
const STEP: Duration = Duration::from_millis(250);
/// Polls in a row that may bring nothing before the broker counts as away.
const QUIET_POLLS: u32 = 120;

/// A reader of one cluster.
pub(super) struct KafkaReader {
    client: BaseConsumer<Silent>,
    arena: Arena,
}

impl KafkaReader {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, BrokerError> {
        let client = settings::reader(config)
            .create_with_context(Silent)
            .map_err(|error| fault::creating("reader", error))?;
        Ok(Self { client, arena: Arena::default() })
    }

    /// Hands over what the assigned partition has before `until`.
    fn take_until(
        &mut self,
        partition: &TopicPartition,
        until: Offset,
        take: &mut dyn FnMut(LogRecord) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let mut quiet = 0;
        while quiet < QUIET_POLLS {
            match self.client.poll(STEP) {
                None => quiet += 1,
                Some(Ok(message)) => {
                    let offset = Offset(message.offset());
                    if offset >= until {
                        return Ok(());
                    }
                    quiet = 0;
                    let record = self.arena.record(&message);
                    if take(record).is_break() || offset.after() >= until {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => {
                    let error = fault::on_topic(&partition.topic, "reading", &error);
                    if !error.is_transient() {
                        return Err(error);
                    }
                    debug!(%partition, %error, "reading on");
                    quiet += 1;
                }
            }
        }
        Err(BrokerError::Unavailable(format!(
            "reading {partition}: the brokers sent nothing for {:?}",
            STEP * QUIET_POLLS
        )))
    }
}

impl LogReader for KafkaReader {
    fn bounds(&mut self, partition: &TopicPartition) -> Result<(Offset, Offset), BrokerError> {
        list::check_topic(&partition.topic)?;
        let (earliest, latest) = self
            .client
            .fetch_watermarks(partition.topic.as_str(), partition.partition.0, TIMEOUT)
            .map_err(|error| fault::on_topic(&partition.topic, "watermarks", &error))?;
        Ok((Offset(earliest), Offset(latest)))
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        (from, until): (Offset, Offset),
        take: &mut dyn FnMut(LogRecord) -> ControlFlow<()>,
    ) -> Result<(), BrokerError> {
        let (earliest, latest) = self.bounds(partition)?;
        let (from, until) = (from.max(earliest), until.min(latest));
        if from >= until {
            return Ok(());
        }
        let failed = |error: &KafkaError| fault::on_topic(&partition.topic, "reading", error);
        let assigned = list::of_offsets(&[(partition.clone(), from)])?;
        self.client.assign(&assigned).map_err(|error| failed(&error))?;
        let taken = self.take_until(partition, until, take);
        self.client.unassign().map_err(|error| failed(&error))?;
        taken
    }
}

/// Hears the client's log; its errors are returned by the polls that bring them.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_client_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        trace!(%error, reason, "error of a reader");
    }
}

impl ConsumerContext for Silent {}
