//! Scripted rebalances and faults of the embedded log.
//!
//! Responsible for: the controls that tests of whole pipelines turn: partitions that move or are
//! lost, records that fail, a log that is away for a while, offsets with gaps. Part of the test
//! kit; nothing in the engine calls it.
//! Not responsible for: crashes of the process; they are made by killing it.

use std::sync::Arc;

use crate::broker::BrokerError;
use crate::broker::embedded::state::{Shared, locked};
use crate::broker::embedded::{database, retention};
use crate::model::{Offset, Topic, TopicPartition};

/// The controls of one log.
pub struct Faults {
    shared: Arc<Shared>,
}

impl Faults {
    /// The controls of the log behind `shared`.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Takes partitions away from whichever members of `group` hold them: each is called back
    /// within its next poll, and what it returns is committed. Nobody in the group gets them
    /// until [`Faults::restore`].
    pub fn revoke(&self, group: &str, partitions: &[TopicPartition]) {
        self.shared.update(|state| {
            if let Some(group) = state.group(group) {
                group.withhold(partitions);
            }
        });
    }

    /// As [`Faults::revoke`], but behind the members' backs: they hear that the partitions are
    /// lost, and their commits for them are refused from now on.
    pub fn lose(&self, group: &str, partitions: &[TopicPartition]) {
        self.shared.update(|state| {
            if let Some(group) = state.group(group) {
                group.lose(partitions);
            }
        });
    }

    /// Gives partitions back to `group` that were revoked or lost by script.
    pub fn restore(&self, group: &str, partitions: &[TopicPartition]) {
        self.shared.update(|state| {
            if let Some(group) = state.group(group) {
                group.restore(partitions);
            }
        });
    }

    /// Makes the next `times` records sent to `topic` fail with `error`; 0 takes that back.
    pub fn fail_next(&self, topic: &Topic, times: u32, error: BrokerError) {
        self.shared.queue.fail_next(topic, times, error);
    }

    /// Makes the log unavailable to producers: records wait in the queue, which may fill.
    pub fn hold_produce(&self) {
        self.shared.queue.hold(true);
    }

    /// Ends [`Faults::hold_produce`].
    pub fn release_produce(&self) {
        self.shared.queue.hold(false);
    }

    /// Makes the log unavailable to consumers: polls bring nothing. Rebalances go on.
    pub fn hold_fetch(&self) {
        self.shared.update(|state| state.fetch_held = true);
    }

    /// Ends [`Faults::hold_fetch`].
    pub fn release_fetch(&self) {
        self.shared.update(|state| state.fetch_held = false);
    }

    /// Removes one record, as compaction does: its offset becomes a gap. What a consumer has
    /// prefetched it keeps.
    pub fn compact(&self, partition: &TopicPartition, offset: Offset) -> Result<(), BrokerError> {
        let (topic, _) = self.shared.locate(partition)?;
        let mut connection = locked(&self.shared.writing);
        retention::delete_one(&mut connection, (topic, partition.partition.0), offset)
            .map_err(|error| database::failed("remove a record", &error))
    }
}
