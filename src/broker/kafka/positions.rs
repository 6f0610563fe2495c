//! Look-ups of offsets beside a consumer that is being polled.
//!
//! Responsible for: committed offsets, bounds of partitions, offsets by time and synchronous
//! commits, on the caller's thread.
//! Not responsible for: membership. Look-ups go on when the consumer has left its group.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset as KafkaOffset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use crate::broker::{BrokerError, Positions};
use crate::model::{Offset, TopicPartition};

use super::rebalance::Context;
use super::{commit, fault, list};

/// How long a look-up may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Look-ups through a consumer that somebody else polls.
pub(super) struct KafkaPositions {
    /// Shared with the one that is polled.
    client: Arc<BaseConsumer<Context>>,
}

impl KafkaPositions {
    pub(super) fn new(client: &Arc<BaseConsumer<Context>>) -> Self {
        Self { client: Arc::clone(client) }
    }
}

impl Positions for KafkaPositions {
    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Offset>>, BrokerError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self
            .client
            .committed_offsets(list::of_partitions(partitions)?, TIMEOUT)
            .map_err(|error| {
                let group = self.client.context().group();
                fault::general(&format!("committed offsets of group {group}"), &error)
            })?;
        let offset_of = |partition: &TopicPartition| -> Result<Option<Offset>, BrokerError> {
            let topic = &partition.topic;
            let Some(entry) = answer.find_partition(topic.as_str(), partition.partition.0) else {
                return Ok(None);
            };
            entry.error().map_err(|error| fault::on_topic(topic, "committed offset", &error))?;
            match entry.offset() {
                KafkaOffset::Offset(offset) => Ok(Some(Offset(offset))),
                _ => Ok(None),
            }
        };
        partitions.iter().map(offset_of).collect()
    }

    fn watermarks(&self, partition: &TopicPartition) -> Result<(Offset, Offset), BrokerError> {
        list::check_topic(&partition.topic)?;
        let (earliest, latest) = self
            .client
            .fetch_watermarks(partition.topic.as_str(), partition.partition.0, TIMEOUT)
            .map_err(|error| fault::on_topic(&partition.topic, "watermarks", &error))?;
        Ok((Offset(earliest), Offset(latest)))
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp: i64) -> Result<Offset, BrokerError> {
        let failed =
            |error: &KafkaError| fault::on_topic(&partition.topic, "offset by time", error);
        // Kafka takes the time in place of an offset, and none below zero.
        let asked = list::of_offsets(&[(partition.clone(), Offset(timestamp.max(0)))])?;
        let answer =
            self.client.offsets_for_times(asked, TIMEOUT).map_err(|error| failed(&error))?;
        let entry = answer.find_partition(partition.topic.as_str(), partition.partition.0);
        if let Some(entry) = entry {
            entry.error().map_err(|error| failed(&error))?;
            if let KafkaOffset::Offset(offset) = entry.offset() {
                return Ok(Offset(offset));
            }
        }
        self.watermarks(partition).map(|(_, latest)| latest)
    }

    fn commit(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        commit::within(TIMEOUT, Arc::clone(&self.client), list::of_offsets(offsets)?)
    }
}
