//! Which records of an assignment may be delivered.
//!
//! Responsible for: withholding the records of a partition until its position was set, and those
//! below that position. librdkafka may have prefetched some between the assignment and the pause.
//! Not responsible for: telling librdkafka to pause or to seek.

use crate::broker::Run;
use crate::model::{LogRecord, Offset, TopicPartition};

/// An assigned partition.
#[derive(Debug)]
struct Slot {
    partition: TopicPartition,
    /// Next offset to deliver; `None` until it is set.
    position: Option<Offset>,
    /// Its position was out of range, and librdkafka gave up reading it.
    stalled: bool,
}

/// The partitions that are assigned at present.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    slots: Vec<Slot>,
    /// Where the last record was found: the next one is mostly of the same partition.
    last: usize,
}

impl Assignment {
    /// Adds partitions, without a position.
    pub(super) fn add(&mut self, partitions: &[TopicPartition]) {
        self.remove(partitions);
        self.slots.extend(partitions.iter().map(|partition| Slot {
            partition: partition.clone(),
            position: None,
            stalled: false,
        }));
    }

    /// Forgets partitions.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        self.slots.retain(|slot| !partitions.contains(&slot.partition));
        self.last = 0;
    }

    /// Withholds these partitions until their position is set again. Returns one that is not
    /// assigned, if there is any.
    pub(super) fn withhold(
        &mut self,
        partitions: &[(TopicPartition, Offset)],
    ) -> Option<TopicPartition> {
        let mut missing = None;
        for (partition, _) in partitions {
            match self.slots.iter_mut().find(|slot| slot.partition == *partition) {
                Some(slot) => slot.position = None,
                None => missing = Some(partition.clone()),
            }
        }
        missing
    }

    /// Withholds a partition that librdkafka gave up reading.
    pub(super) fn stall(&mut self, partition: &TopicPartition) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.partition == *partition) {
            slot.position = None;
            slot.stalled = true;
        }
    }

    /// Whether librdkafka gave up reading it.
    pub(super) fn is_stalled(&self, partition: &TopicPartition) -> bool {
        self.slots.iter().any(|slot| slot.stalled && slot.partition == *partition)
    }

    /// Sets the next offset to deliver, if the partition is assigned.
    pub(super) fn position(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.partition == *partition) {
            slot.position = Some(offset);
            slot.stalled = false;
        }
    }

    /// Whether this record is due. If it is, the position moves past it.
    pub(super) fn admit(
        &mut self,
        topic: &str,
        partition: i32,
        offset: Offset,
    ) -> Option<TopicPartition> {
        let is_meant = |slot: &Slot| {
            slot.partition.partition.0 == partition && slot.partition.topic.as_str() == topic
        };
        if !self.slots.get(self.last).is_some_and(is_meant) {
            self.last = self.slots.iter().position(is_meant)?;
        }
        let slot = self.slots.get_mut(self.last)?;
        if slot.position? > offset {
            return None;
        }
        slot.position = Some(offset.after());
        Some(slot.partition.clone())
    }

    /// The assigned partition of that name.
    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<TopicPartition> {
        let mut named = self.slots.iter().map(|slot| &slot.partition);
        named.find(|one| one.partition.0 == partition && one.topic.as_str() == topic).cloned()
    }

    /// Leaves those records of a run that are due, as asking for each of them would. The partition
    /// may have gone since the first of them came.
    pub(super) fn admit_run(&mut self, run: &mut Run) {
        let mut slots = self.slots.iter_mut();
        let slot = slots.find(|slot| slot.partition == run.partition);
        let Some(position) = slot.and_then(|slot| slot.position.as_mut()) else {
            return run.retain(|_| false);
        };
        run.retain(|LogRecord { offset, .. }| {
            let is_due = *position <= *offset;
            if is_due {
                *position = offset.after();
            }
            is_due
        });
    }

    /// Everything that is assigned, with its position where there is one.
    pub(super) fn all(&self) -> impl Iterator<Item = (&TopicPartition, Option<Offset>)> {
        self.slots.iter().map(|slot| (&slot.partition, slot.position))
    }

    /// The positions that are set.
    pub(super) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        let positioned = |slot: &Slot| Some((slot.partition.clone(), slot.position?));
        self.slots.iter().filter_map(positioned).collect()
    }

    /// Whether nothing is assigned.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("orders", number)
    }

    fn assigned(numbers: &[i32]) -> Assignment {
        let mut assignment = Assignment::default();
        let partitions: Vec<_> = numbers.iter().map(|number| partition(*number)).collect();
        assignment.add(&partitions);
        assignment
    }

    fn run(number: i32, offsets: &[i64]) -> Run {
        let record = |offset: &i64| LogRecord {
            offset: Offset(*offset),
            timestamp: None,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: Vec::new(),
        };
        Run::of(partition(number), offsets.iter().map(record).collect())
    }

    fn admitted(assignment: &mut Assignment, number: i32, offsets: &[i64]) -> Vec<i64> {
        let mut run = run(number, offsets);
        assignment.admit_run(&mut run);
        assert_eq!(run.bytes, 5 * run.records.len());
        run.records.iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn a_run_of_a_partition_that_went_meanwhile_brings_nothing() {
        let mut assignment = assigned(&[0, 1]);
        assignment.position(&partition(0), Offset(5));
        assert_eq!(assignment.find("orders", 0), Some(partition(0)));
        assert_eq!(assignment.find("orders", 2), None);
        assert_eq!(assignment.find("other", 0), None);
        assignment.remove(&[partition(0)]);
        assert!(admitted(&mut assignment, 0, &[5, 6]).is_empty());
        assignment.add(&[partition(0)]);
        assert!(admitted(&mut assignment, 0, &[5, 6]).is_empty(), "it has no position yet");
        assert!(admitted(&mut assignment, 1, &[0]).is_empty());
    }

    proptest! {
        #[test]
        fn a_run_is_admitted_as_its_records_would_be_one_by_one(
            start in prop::option::of(0..20_i64),
            runs in prop::collection::vec(prop::collection::vec(0..40_i64, 1..10), 1..5),
        ) {
            let (mut whole, mut single) = (assigned(&[0, 1]), assigned(&[0, 1]));
            for assignment in [&mut whole, &mut single] {
                if let Some(start) = start {
                    assignment.position(&partition(1), Offset(start));
                }
            }
            for offsets in runs {
                let is_due = |offset: &i64| single.admit("orders", 1, Offset(*offset)).is_some();
                let expected: Vec<_> = offsets.iter().copied().filter(is_due).collect();
                prop_assert_eq!(admitted(&mut whole, 1, &offsets), expected);
                prop_assert_eq!(whole.positions(), single.positions());
            }
        }
    }

    #[test]
    fn nothing_is_due_before_a_position_is_set() {
        let mut assignment = assigned(&[0, 1]);
        assert_eq!(assignment.admit("orders", 0, Offset(0)), None);
        assignment.position(&partition(0), Offset(0));
        assert_eq!(assignment.admit("orders", 0, Offset(0)), Some(partition(0)));
        assert_eq!(assignment.admit("orders", 1, Offset(0)), None);
    }

    #[test]
    fn records_below_the_position_are_withheld_and_none_comes_twice() {
        let mut assignment = assigned(&[0]);
        assignment.position(&partition(0), Offset(5));
        assert_eq!(assignment.admit("orders", 0, Offset(4)), None);
        // A gap is no reason to wait: offsets are missing in compacted topics.
        assert_eq!(assignment.admit("orders", 0, Offset(7)), Some(partition(0)));
        assert_eq!(assignment.admit("orders", 0, Offset(7)), None);
        assert_eq!(assignment.positions(), [(partition(0), Offset(8))]);
    }

    #[test]
    fn a_position_may_be_set_back() {
        let mut assignment = assigned(&[0]);
        assignment.position(&partition(0), Offset(9));
        assert_eq!(assignment.withhold(&[(partition(0), Offset(2))]), None);
        assert_eq!(assignment.admit("orders", 0, Offset(9)), None);
        assignment.position(&partition(0), Offset(2));
        assert_eq!(assignment.admit("orders", 0, Offset(2)), Some(partition(0)));
    }

    #[test]
    fn a_position_can_only_be_set_on_what_is_assigned() {
        let mut assignment = assigned(&[0]);
        let positions = [(partition(0), Offset(0)), (partition(1), Offset(0))];
        assert_eq!(assignment.withhold(&positions), Some(partition(1)));
        assignment.position(&partition(1), Offset(0));
        assert_eq!(assignment.admit("orders", 1, Offset(0)), None);
    }

    #[test]
    fn a_stalled_partition_is_silent_until_its_position_is_set() {
        let mut assignment = assigned(&[0, 1]);
        assignment.position(&partition(0), Offset(77));
        assignment.stall(&partition(0));
        assert!(assignment.is_stalled(&partition(0)) && !assignment.is_stalled(&partition(1)));
        assert_eq!(assignment.admit("orders", 0, Offset(77)), None);
        assert!(assignment.positions().is_empty());
        assignment.position(&partition(0), Offset(1));
        assert!(!assignment.is_stalled(&partition(0)));
        assert_eq!(assignment.admit("orders", 0, Offset(1)), Some(partition(0)));
    }

    #[test]
    fn a_partition_that_comes_back_starts_without_a_position() {
        let mut assignment = assigned(&[0, 1]);
        assignment.position(&partition(0), Offset(3));
        assignment.add(&[partition(0)]);
        assert_eq!(assignment.admit("orders", 0, Offset(3)), None);
    }

    #[test]
    fn only_the_named_partitions_are_removed() {
        let mut assignment = assigned(&[0, 1, 2]);
        assignment.position(&partition(0), Offset(0));
        assignment.position(&partition(2), Offset(0));
        assert_eq!(assignment.admit("orders", 2, Offset(0)), Some(partition(2)));
        assignment.remove(&[partition(0), partition(1)]);
        assert_eq!(assignment.admit("orders", 0, Offset(1)), None);
        assert_eq!(assignment.admit("orders", 2, Offset(1)), Some(partition(2)));
        assert_eq!(assignment.admit("other", 2, Offset(2)), None);
        assignment.remove(&[partition(2)]);
        assert!(assignment.is_empty());
    }
}
