//! Tests of the lag of a partition.

use proptest::prelude::*;

use super::{Behind, Glance, Lag, MOST_SIGHTS};
use crate::model::Offset;

fn fetched(offset: i64, timestamp: i64) -> Glance {
    Glance { first: Some((Offset(offset), Some(timestamp))), position: Offset(offset + 1) }
}

fn drained(position: i64) -> Glance {
    Glance { first: None, position: Offset(position) }
}

fn behind(records: u64, millis: u64) -> Behind {
    Behind { records, millis }
}

#[test]
fn an_idle_partition_is_not_behind_however_long_it_is_idle() {
    let mut lag = Lag::default();
    assert_eq!(lag.behind(1_000), behind(0, 0), "nothing is known yet");
    lag.see_end(Offset(10), 1_000);
    lag.look(drained(10), 1_000);
    assert_eq!(lag.behind(1_000), behind(0, 0));
    assert_eq!(lag.behind(900_000), behind(0, 0));
}

#[test]
fn a_busy_partition_is_as_old_as_its_oldest_record_without_an_outcome() {
    let mut lag = Lag::default();
    lag.see_end(Offset(100), 10_000);
    lag.look(fetched(40, 7_000), 10_000);
    assert_eq!(lag.behind(10_000), behind(60, 3_000));
    lag.settled(50);
    lag.look(fetched(90, 9_500), 10_100);
    assert_eq!(lag.behind(10_100), behind(10, 600));
    lag.settled(10);
    lag.look(drained(100), 10_200);
    assert_eq!(lag.behind(10_200), behind(0, 0));
}

#[test]
fn a_paused_partition_gets_older_without_being_looked_at() {
    let mut lag = Lag::default();
    lag.see_end(Offset(100), 10_000);
    lag.look(fetched(40, 7_000), 10_000);
    lag.see_end(Offset(500), 310_000);
    assert_eq!(lag.behind(310_000), behind(460, 303_000));
}

#[test]
fn a_record_that_was_never_fetched_is_as_old_as_the_first_sight_of_an_end_beyond_it() {
    let mut lag = Lag::default();
    for (end, now) in [(10, 0), (20, 5_000), (30, 10_000)] {
        lag.see_end(Offset(end), now);
    }
    lag.look(drained(10), 12_000);
    assert_eq!(lag.behind(12_000), behind(20, 7_000));
    lag.settled(15);
    lag.look(drained(25), 13_000);
    assert_eq!(lag.behind(13_000), behind(5, 3_000));
    lag.settled(5);
    lag.look(drained(30), 14_000);
    assert_eq!(lag.behind(14_000), behind(0, 0));
}

#[test]
fn a_record_without_a_timestamp_or_from_the_future_is_not_older_than_it_can_be() {
    let mut lag = Lag::default();
    lag.look(Glance { first: Some((Offset(4), None)), position: Offset(5) }, 2_000);
    assert_eq!(lag.behind(2_500), behind(1, 500));
    let mut lag = Lag::default();
    lag.look(fetched(4, 999_000), 2_000);
    assert_eq!(lag.behind(2_000), behind(1, 1), "something is outstanding, so it is not zero");
    assert_eq!(lag.behind(2_500), behind(1, 500));
}

#[test]
fn reading_the_same_records_again_makes_none_of_them_younger() {
    let mut lag = Lag::default();
    lag.see_end(Offset(50), 10_000);
    lag.look(fetched(40, 7_000), 10_000);
    // The consumer died and begins again at the committed offset, with nothing fetched yet.
    lag.look(drained(38), 20_000);
    assert_eq!(lag.behind(20_000), behind(12, 13_000));
    lag.look(fetched(38, 6_900), 21_000);
    assert_eq!(lag.behind(21_000), behind(12, 14_100));
}

#[test]
fn a_stretch_without_records_is_no_lag_and_what_comes_after_it_is() {
    let mut lag = Lag::default();
    lag.see_end(Offset(12), 1_000);
    lag.look(drained(10), 1_000);
    assert_eq!(lag.behind(61_000), behind(2, 60_000));
    lag.is_hollow(Offset(10), Offset(12));
    lag.look(drained(10), 62_000);
    assert_eq!(lag.behind(62_000), behind(0, 0));
    lag.see_end(Offset(14), 70_000);
    lag.look(drained(10), 71_000);
    assert_eq!(lag.behind(71_000), behind(2, 1_000));
}

#[test]
fn an_end_that_the_log_lost_is_no_lag() {
    let mut lag = Lag::default();
    lag.see_end(Offset(20), 1_000);
    lag.look(drained(15), 1_000);
    lag.see_end(Offset(15), 2_000);
    lag.look(drained(15), 2_000);
    assert_eq!(lag.behind(9_000), behind(0, 0));
}

#[test]
fn sights_are_bounded_and_the_oldest_one_is_kept() {
    let mut lag = Lag::default();
    for tick in 0..1_000 {
        lag.see_end(Offset(10 + tick), tick);
        assert!(lag.sights.len() <= MOST_SIGHTS);
    }
    lag.look(drained(9), 1_000);
    assert_eq!(lag.behind(1_000), behind(1_000, 1_000));
}

/// What may happen to a partition between two looks.
#[derive(Clone, Copy, Debug)]
enum Event {
    Append(i64),
    Fetch(i64),
    Settle(i64),
    SeeEnd,
    Rewind,
    Nothing,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1_i64..5).prop_map(Event::Append),
        (1_i64..5).prop_map(Event::Fetch),
        (1_i64..5).prop_map(Event::Settle),
        Just(Event::SeeEnd),
        Just(Event::Rewind),
        Just(Event::Nothing),
    ]
}

/// A partition whose records get their outcomes in order.
#[derive(Default)]
struct Partition {
    /// By offset.
    timestamps: Vec<i64>,
    fetched: usize,
    settled: usize,
    known_end: usize,
}

impl Partition {
    fn glance(&self) -> Glance {
        let first = (self.settled < self.fetched)
            .then(|| (Offset(self.settled as i64), Some(self.timestamps[self.settled])));
        Glance { first, position: Offset(self.fetched as i64) }
    }
}

proptest! {
    /// Never negative; zero exactly while nothing is known to be outstanding; and while no record
    /// gets its outcome, never going back.
    #[test]
    fn lag_is_the_age_of_what_is_outstanding(
        events in prop::collection::vec((event(), 1_i64..500), 1..200),
    ) {
        let (mut lag, mut partition) = (Lag::default(), Partition::default());
        let (mut now, mut before) = (1_000_i64, None);
        for (event, passed) in events {
            now += passed;
            let mut moved = false;
            match event {
                Event::Append(count) => {
                    partition.timestamps.extend((0..count).map(|_| now));
                }
                Event::Fetch(count) => {
                    let wanted = partition.fetched + count as usize;
                    partition.fetched = wanted.min(partition.timestamps.len());
                }
                Event::Settle(count) => {
                    let wanted = partition.settled + count as usize;
                    let reached = wanted.min(partition.fetched);
                    moved = reached > partition.settled;
                    lag.settled((reached - partition.settled) as u64);
                    partition.settled = reached;
                }
                Event::SeeEnd => {
                    partition.known_end = partition.timestamps.len();
                    lag.see_end(Offset(partition.known_end as i64), now);
                }
                Event::Rewind => partition.fetched = partition.settled,
                Event::Nothing => {}
            }
            lag.look(partition.glance(), now);
            let behind = lag.behind(now);
            let outstanding = partition.fetched.max(partition.known_end) > partition.settled;
            prop_assert_eq!(behind.millis > 0, outstanding, "{:?} at {}", behind, now);
            prop_assert_eq!(behind.records > 0, outstanding);
            if let Some(oldest) = partition.timestamps.get(partition.settled) {
                prop_assert!(behind.millis <= u64::try_from(now - oldest).unwrap().max(1));
            }
            if let Some(earlier) = before.filter(|earlier| *earlier > 0 && !moved) {
                let rewound = matches!(event, Event::Rewind);
                prop_assert!(behind.millis >= earlier || (rewound && behind.millis == 0));
            }
            before = Some(behind.millis);
        }
    }
}
