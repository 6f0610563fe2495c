//! Look-ups and commits of offsets.
//!
//! Responsible for: committed offsets, the ends of partitions, offsets by time, and commits that
//! wait until they are durable.
//! Not responsible for: whether the caller may commit: a consumer checks that it still holds a
//! partition (`consumer`), whoever calls here answers for it himself.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::broker::embedded::Running;
use crate::broker::embedded::database;
use crate::broker::embedded::state::{Shared, closed, locked};
use crate::broker::{BrokerError, Positions};
use crate::model::{Offset, TopicPartition};

/// The positions of one group.
pub(super) struct EmbeddedPositions {
    log: Arc<Running>,
    group: Arc<str>,
}

impl EmbeddedPositions {
    /// The positions of `group` in `log`.
    pub(super) fn new(log: Arc<Running>, group: Arc<str>) -> Self {
        Self { log, group }
    }
}

impl Positions for EmbeddedPositions {
    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Offset>>, BrokerError> {
        let shared = &self.log.shared;
        // A commit that was sent before has to be seen, as it would be on one connection to Kafka.
        shared.queue.settle_commits();
        let located = partitions.iter().map(|partition| {
            let (topic, _) = shared.locate(partition)?;
            Ok((topic, partition.partition.0))
        });
        let located: Vec<_> = located.collect::<Result<_, BrokerError>>()?;
        let connection = locked(&shared.looking_up);
        let found = located.into_iter().map(|place| {
            database::committed(&connection, &self.group, place)
                .map_err(|error| database::failed("look up committed offsets", &error))
        });
        found.collect()
    }

    fn watermarks(&self, partition: &TopicPartition) -> Result<(Offset, Offset), BrokerError> {
        let (_, head) = self.log.shared.locate(partition)?;
        Ok((head.start, head.end))
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp: i64) -> Result<Offset, BrokerError> {
        let (topic, head) = self.log.shared.locate(partition)?;
        let place = (topic, partition.partition.0);
        let connection = locked(&self.log.shared.looking_up);
        let found = database::first_stamped(&connection, place, head.start, timestamp)
            .map_err(|error| database::failed("look up an offset by time", &error))?;
        Ok(found.unwrap_or(head.end).min(head.end))
    }

    fn commit(&self, offsets: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        commit(&self.log.shared, &self.group, offsets)
    }
}

/// Commits offsets and waits until they are durable.
pub(super) fn commit(
    shared: &Shared,
    group: &Arc<str>,
    offsets: &[(TopicPartition, Offset)],
) -> Result<(), BrokerError> {
    if offsets.is_empty() {
        return Ok(());
    }
    check_known(shared, offsets)?;
    let (answer, answered) = sync_channel(1);
    shared.queue.commit(group, offsets, Some(answer))?;
    answered.recv().unwrap_or_else(|_| Err(closed()))
}

/// Offsets of partitions that do not exist cannot be committed.
pub(super) fn check_known(
    shared: &Shared,
    offsets: &[(TopicPartition, Offset)],
) -> Result<(), BrokerError> {
    let state = shared.state();
    offsets.iter().try_for_each(|(partition, _)| state.locate(partition).map(|_| ()))
}
