//! How far the partitions that this process reads are behind.
//!
//! Responsible for: one place per assigned partition in which its consumer notes what it sees, for
//! as long as the assignment lasts, and reading all of them for the metrics.
//! Not responsible for: what lag is (`progress::lag`), or exporting it (`telemetry::metrics`).
//!
//! A place outlives the consumers that note something in it: a consumer that dies again and again
//! makes a partition look older, not as if it were gone.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::model::{Offset, Outcome, Tally, TopicPartition};
use crate::progress::lag::{Behind, Glance, Lag};

/// The places of all assigned partitions.
#[derive(Debug, Default)]
pub struct Lags(Mutex<Vec<Weak<PartitionLag>>>);

/// What is seen of one partition.
#[derive(Debug)]
pub struct PartitionLag {
    partition: TopicPartition,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    lag: Lag,
    /// Whether anybody has looked at the partition yet.
    is_known: bool,
    processed: u64,
    failed: u64,
    in_flight: InFlight,
}

/// What is in flight of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Records without an outcome.
    pub records: u64,
    /// When the oldest of them was handed out, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
}

/// One partition at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionReading {
    /// The partition.
    pub partition: TopicPartition,
    /// How far it is behind.
    pub behind: Behind,
    /// Records that were delivered or left out.
    pub processed: u64,
    /// Records that became dead letters.
    pub failed: u64,
    /// Records without an outcome.
    pub in_flight: u64,
    /// Milliseconds since the oldest of them was handed out.
    pub in_flight_millis: u64,
}

impl Lags {
    /// The place of a partition; it is there until the last of its handles is dropped.
    pub fn of(&self, partition: &TopicPartition) -> Arc<PartitionLag> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| place.strong_count() > 0);
        let mut known = places.iter().filter_map(Weak::upgrade);
        if let Some(place) = known.find(|place| place.partition == *partition) {
            return place;
        }
        let place =
            Arc::new(PartitionLag { partition: partition.clone(), noted: Mutex::default() });
        places.push(Arc::downgrade(&place));
        place
    }

    /// All partitions that have begun, at `now` in milliseconds since the Unix epoch.
    pub fn read(&self, now: i64) -> Vec<PartitionReading> {
        self.places().iter().filter_map(|place| place.read(now)).collect()
    }

    /// The partitions that are assigned, begun or not.
    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.places().iter().map(|place| place.partition.clone()).collect()
    }

    fn places(&self) -> Vec<Arc<PartitionLag>> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().filter_map(Weak::upgrade).collect()
    }
}

impl PartitionLag {
    /// Records got these outcomes.
    pub fn settled(&self, tally: &Tally) {
        let (processed, failed) = (tally.good(), tally.of(Outcome::DeadLettered));
        let mut noted = self.lock();
        noted.processed += processed;
        noted.failed += failed;
        noted.lag.settled(processed + failed);
    }

    /// So many events were applied, which have no other outcome.
    pub fn applied(&self, events: u64) {
        let mut noted = self.lock();
        noted.processed += events;
        noted.lag.settled(events);
    }

    /// The partition ends at `end`.
    pub fn see_end(&self, end: Offset, now: i64) {
        self.lock().lag.see_end(end, now);
    }

    /// From `from` to `to` the partition holds no records.
    pub fn is_hollow(&self, from: Offset, to: Offset) {
        self.lock().lag.is_hollow(from, to);
    }

    /// Looks at the partition.
    pub fn look(&self, glance: Glance, in_flight: InFlight, now: i64) {
        let mut noted = self.lock();
        noted.lag.look(glance, now);
        noted.in_flight = in_flight;
        noted.is_known = true;
    }

    fn read(&self, now: i64) -> Option<PartitionReading> {
        let noted = self.lock();
        let since = noted.in_flight.since;
        let in_flight_millis = since.map_or(0, |since| now.saturating_sub(since).max(0));
        noted.is_known.then(|| PartitionReading {
            partition: self.partition.clone(),
            behind: noted.lag.behind(now),
            processed: noted.processed,
            failed: noted.failed,
            in_flight: noted.in_flight.records,
            in_flight_millis: in_flight_millis.unsigned_abs(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("orders", number)
    }

    fn glance(first: i64, timestamp: i64) -> Glance {
        Glance { first: Some((Offset(first), Some(timestamp))), position: Offset(first + 1) }
    }

    #[test]
    fn a_place_lasts_as_long_as_its_assignment_and_outlives_its_consumers() {
        let lags = Lags::default();
        let assignment = lags.of(&partition(0));
        let consumer = lags.of(&partition(0));
        consumer.see_end(Offset(10), 5_000);
        consumer.look(glance(4, 1_000), InFlight::default(), 5_000);
        drop(consumer);
        assert_eq!(lags.read(6_000)[0].behind, Behind { records: 6, millis: 5_000 });
        let next = lags.of(&partition(0));
        assert_eq!(lags.assigned(), [partition(0)], "there is one place for both");
        drop((assignment, next));
        assert!(lags.read(6_000).is_empty() && lags.assigned().is_empty());
    }

    #[test]
    fn events_that_were_applied_count_and_those_left_are_as_old_as_they_are() {
        let lags = Lags::default();
        let place = lags.of(&partition(0));
        place.see_end(Offset(3), 1_000);
        place.look(glance(0, 400), InFlight::default(), 1_000);
        assert_eq!(lags.read(1_000)[0].behind, Behind { records: 3, millis: 600 });
        place.applied(2);
        place.look(glance(2, 900), InFlight::default(), 1_000);
        let read = lags.read(1_000).remove(0);
        assert_eq!((read.behind, read.processed), (Behind { records: 1, millis: 100 }, 2));
    }

    #[test]
    fn a_partition_that_has_not_begun_is_assigned_and_says_nothing() {
        let lags = Lags::default();
        let _assignment = lags.of(&partition(3));
        assert_eq!(lags.assigned(), [partition(3)]);
        assert!(lags.read(0).is_empty());
    }

    #[test]
    fn outcomes_and_what_is_in_flight_are_counted_per_partition() {
        let lags = Lags::default();
        let place = lags.of(&partition(0));
        let outcomes =
            [Outcome::Delivered, Outcome::Filtered, Outcome::DeadLettered, Outcome::Abandoned];
        place.settled(&outcomes.into_iter().collect());
        let in_flight = InFlight { records: 7, since: Some(2_000) };
        place.look(glance(4, 1_000), in_flight, 3_000);
        let read = lags.read(5_000).remove(0);
        assert_eq!((read.processed, read.failed), (2, 1));
        assert_eq!((read.in_flight, read.in_flight_millis), (7, 3_000));
    }
}
