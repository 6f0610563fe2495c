//! Offsets on their way to the broker.
//!
//! Responsible for: keeping the furthest committable offset of each partition until it is taken,
//! and forgetting partitions that were taken away.
//! Not responsible for: deciding what is committable (`tracker`) or committing (`broker::group`).
//!
//! It is a merging slot: whoever has a new position puts it in and never waits, because a later
//! position takes the place of an earlier one. It holds one entry per partition, so it cannot
//! fill. The furthest wins, whatever epoch it comes from: every position offered has nothing
//! without an outcome before it, so reading again from further back does not make it less true,
//! and a commit that failed can be put back without undoing what was offered meanwhile.

use std::collections::BTreeMap;

use crate::model::{Offset, TopicPartition};

/// The furthest committable offset of each partition that waits to be committed.
#[derive(Debug, Default)]
pub struct Commits {
    waiting: BTreeMap<TopicPartition, Offset>,
}

impl Commits {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts in a position, or puts back one whose commit failed.
    pub fn offer(&mut self, partition: TopicPartition, offset: Offset) {
        let waiting = self.waiting.entry(partition).or_insert(offset);
        *waiting = offset.max(*waiting);
    }

    /// Takes everything that waits, in the order of the partitions.
    pub fn take(&mut self) -> Vec<(TopicPartition, Offset)> {
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// These partitions are being taken away: forgets them. Returns what waited of them, to be
    /// committed before they go; if they are gone already, it must not be committed any more.
    pub fn remove(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        partitions.iter().filter_map(|partition| self.waiting.remove_entry(partition)).collect()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests;
