//! The watchdog of one partition.
//!
//! Responsible for: measuring what `progress::stall` decides on, and remembering tails of a
//! partition that hold no records (transaction markers), which look like a stall for ever.
//! Not responsible for: the decision, or beginning the partition anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Offset, TopicPartition};
use crate::progress::stall::{Movement, Sight, StallWatch};

/// How often a partition is looked at, if its limit is not shorter.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tails that looked stalled; shared by all incarnations.
#[derive(Debug, Default)]
pub struct EmptyTails(Mutex<HashMap<TopicPartition, Tail>>);

/// The stretch between the position of a consumer and the end of its partition.
#[derive(Clone, Copy, Debug)]
struct Tail {
    position: Offset,
    latest: Offset,
    /// Whether it was begun anew once and still held nothing.
    is_empty: bool,
}

impl EmptyTails {
    /// Up to where `partition` is known to hold no records from `position` on.
    pub fn end_of(&self, partition: &TopicPartition, position: Offset) -> Option<Offset> {
        let tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = tails.get(partition)?;
        (tail.is_empty && tail.position == position).then_some(tail.latest)
    }
}

/// What is seen of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Next offset to be taken in.
    pub position: Offset,
    /// The offset after the last record.
    pub latest: Offset,
    /// Whether records are buffered or in flight: the partition is held back by what comes after.
    pub held_back: bool,
    /// Whether anything that records depend on is unavailable.
    pub unavailable: bool,
}

/// Watches one incarnation of a partition consumer.
#[derive(Debug)]
pub struct Watchdog(StallWatch);

impl Watchdog {
    /// A watch that lets the partition stand still for `limit` although there is something to read.
    pub fn new(limit: Duration) -> Self {
        Self(StallWatch::new(limit))
    }

    /// How long the partition has stood still without a reason, if that is too long.
    pub fn look(
        &mut self,
        partition: &TopicPartition,
        seen: Seen,
        tails: &EmptyTails,
        now: Duration,
    ) -> Option<Duration> {
        let sight = Sight {
            lag: u64::try_from(seen.latest.0 - seen.position.0).unwrap_or(0),
            progress: seen.position.0.unsigned_abs(),
            paused: seen.held_back,
            unavailable: seen.unavailable,
        };
        let Movement::Stalled { since } = self.0.look(sight, now) else { return None };
        let Seen { position, latest, .. } = seen;
        let mut tails = tails.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = tails.get(partition);
        let is_empty =
            before.is_some_and(|tail| (tail.position, tail.latest) == (position, latest));
        tails.insert(partition.clone(), Tail { position, latest, is_empty });
        (!is_empty).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn seen(position: i64, latest: i64) -> Seen {
        let (position, latest) = (Offset(position), Offset(latest));
        Seen { position, latest, held_back: false, unavailable: false }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_partition_with_lag_that_never_moves_is_stalled_once() {
        let (partition, tails) = (TopicPartition::new("t", 0), EmptyTails::default());
        let mut watchdog = Watchdog::new(LIMIT);
        assert_eq!(watchdog.look(&partition, seen(5, 9), &tails, seconds(0)), None);
        assert_eq!(watchdog.look(&partition, seen(5, 9), &tails, seconds(59)), None);
        let stalled = watchdog.look(&partition, seen(5, 9), &tails, seconds(61));
        assert_eq!(stalled, Some(seconds(61)));
        assert_eq!(tails.end_of(&partition, Offset(5)), None, "it may be a stall");

        let mut rebuilt = Watchdog::new(LIMIT);
        rebuilt.look(&partition, seen(5, 9), &tails, seconds(100));
        let again = rebuilt.look(&partition, seen(5, 9), &tails, seconds(200));
        assert_eq!(again, None, "a tail that holds no records even after a rebuild is no stall");
        assert_eq!(tails.end_of(&partition, Offset(5)), Some(Offset(9)));
        assert_eq!(tails.end_of(&partition, Offset(6)), None);
        let later = rebuilt.look(&partition, seen(5, 12), &tails, seconds(201));
        assert!(later.is_some(), "new records that do not arrive are");
    }

    #[test]
    fn nothing_to_read_and_reasons_to_wait_are_no_stall() {
        let (partition, tails) = (TopicPartition::new("t", 0), EmptyTails::default());
        let held_back = Seen { held_back: true, ..seen(5, 9) };
        let unavailable = Seen { unavailable: true, ..seen(5, 9) };
        for sight in [seen(9, 9), held_back, unavailable] {
            let mut watchdog = Watchdog::new(LIMIT);
            assert_eq!(watchdog.look(&partition, sight, &tails, seconds(0)), None);
            assert_eq!(watchdog.look(&partition, sight, &tails, seconds(600)), None, "{sight:?}");
        }
    }
}
