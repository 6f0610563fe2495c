//! Tests of open batches: what lanes get, and how outcomes come back.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::progress::dead_letters::DeadLetterLimits;
use crate::progress::obligation::Obligation;
use crate::runtime::inbox::{Inbox, inbox};
use crate::runtime::lanes::Lanes;

const EPOCH: Epoch = Epoch(3);

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Lanes that nobody works on.
fn lanes(count: usize) -> (Lanes, Vec<Inbox<LaneBatch>>) {
    let (addresses, inboxes) = (0..count).map(|lane| inbox(format!("lane-{lane}"), 1)).unzip();
    (Lanes::new(addresses), inboxes)
}

/// Records at these offsets, each with a key of its own.
fn records(offsets: impl IntoIterator<Item = i64>) -> Vec<LogRecord> {
    let record = |offset: i64| LogRecord {
        offset: Offset(offset),
        timestamp: Some(offset * 10),
        key: Some(Bytes::from(offset.to_be_bytes().to_vec())),
        value: Some(Bytes::from(format!("{offset}"))),
        headers: Vec::new(),
    };
    offsets.into_iter().map(record).collect()
}

struct Fixture {
    tracker: OffsetTracker,
    open: OpenBatch,
    woken: Arc<Woken>,
    /// Duties of all records, by offset.
    duties: Vec<(Offset, Option<Obligation>)>,
}

impl Fixture {
    fn new(intake: &Intake, lane_count: usize, records: Vec<LogRecord>) -> Self {
        let mut tracker = OffsetTracker::new(EPOCH, Offset(0));
        tracker.track(records.iter().map(|record| record.offset));
        let (lanes, _inboxes) = lanes(lane_count);
        let woken = Arc::new(Woken::default());
        let partition = TopicPartition::new("orders", 0);
        let taken = Taken { intake, entry: 7, partition: &partition, epoch: EPOCH, since: 42 };
        let by_lane = lanes.split_log(records);
        let (open, batches) = OpenBatch::open(&taken, by_lane, woken.clone());
        let owed = batches.into_iter().flat_map(|(_, batch)| batch);
        let mut duties: Vec<_> =
            owed.map(|owed| (owed.value.record.source.offset(), Some(owed.duty))).collect();
        duties.sort_by_key(|(offset, _)| *offset);
        Self { tracker, open, woken, duties }
    }

    fn of_topic(lane_count: usize, offsets: impl IntoIterator<Item = i64>) -> Self {
        Self::new(&Intake::Topic("orders".into()), lane_count, records(offsets))
    }

    fn settle(&mut self, index: usize, outcome: Outcome) {
        if let Some(duty) = self.duties[index].1.take() {
            duty.settle(outcome);
        }
    }

    fn collect(&mut self) -> Collected {
        let mut collected = Collected::default();
        self.open.collect(&mut self.tracker, &mut collected);
        collected
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }
}

#[test]
fn lanes_share_nothing_of_a_batch_and_wake_the_source_once() {
    let intake = Intake::Topic("orders".into());
    let partition = TopicPartition::new("orders", 0);
    let taken = Taken { intake: &intake, entry: 7, partition: &partition, epoch: EPOCH, since: 42 };
    let (lanes, _inboxes) = lanes(2);
    let woken = Arc::new(Woken::default());
    let by_lane = lanes.split_log(records(0..100));
    let (open, batches) = OpenBatch::open(&taken, by_lane, woken.clone());
    assert_eq!((batches.len(), open.parts.len()), (2, 2), "a hundred keys take both lanes");
    let [one, other] = [0, 1].map(|lane| &batches[lane].1);
    assert!(!Arc::ptr_eq(&one[0].value.record.meta, &other[0].value.record.meta));
    assert!(!Arc::ptr_eq(&open.parts[0].scope, &open.parts[1].scope));
    assert_eq!(one.len() + other.len(), 100);
    for (_, batch) in &batches {
        assert!(batch.is_sorted_by_key(|owed| owed.value.record.source.offset()));
        let owed = batch.iter().all(|owed| owed.value.entry == 7 && owed.value.record.is_as_read());
        assert!(owed, "every record is as it was read");
    }
    let mut batches = batches.into_iter();
    batches.next().into_iter().flat_map(|(_, batch)| batch).for_each(deliver);
    assert!(!open.is_closed());
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    batches.next().into_iter().flat_map(|(_, batch)| batch).for_each(deliver);
    assert!(open.is_closed());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
}

fn deliver(owed: Owed<Input>) {
    owed.duty.settle(Outcome::Delivered);
}

#[test]
fn a_batch_without_failures_is_collected_as_a_whole() {
    let mut fixture = Fixture::of_topic(2, (10..60).chain(80..100));
    for index in 0..70 {
        fixture.settle(index, if index < 20 { Outcome::Filtered } else { Outcome::Delivered });
    }
    assert_eq!(fixture.woken(), 1);
    let collected = fixture.collect();
    assert_eq!(collected.tally.of(Outcome::Filtered), 20);
    assert_eq!(collected.tally.of(Outcome::Delivered), 50);
    assert!(fixture.open.is_collected());
    assert_eq!(fixture.tracker.take_committable(), Some(Offset(100)));
}

#[test]
fn what_is_settled_is_collected_while_others_are_in_flight_and_only_once() {
    let mut fixture = Fixture::of_topic(2, 0..10);
    assert_eq!(fixture.open.first(), Some((Offset(0), Some(0))));
    for index in [0, 1, 2, 7] {
        fixture.settle(index, Outcome::Delivered);
    }
    assert_eq!(fixture.collect().tally.total(), 4);
    assert_eq!(fixture.collect().tally.total(), 0);
    assert_eq!(fixture.tracker.take_committable(), Some(Offset(3)));
    assert_eq!(fixture.open.first(), Some((Offset(3), Some(30))));
    for index in [3, 4, 5, 6, 8, 9] {
        fixture.settle(index, Outcome::Delivered);
    }
    assert_eq!((fixture.woken(), fixture.open.is_collected()), (1, false));
    assert_eq!(fixture.collect().tally.total(), 6);
    assert!(fixture.open.is_collected());
    assert_eq!(fixture.tracker.take_committable(), Some(Offset(10)));
}

#[test]
fn an_abandoned_record_is_told_to_the_tracker_and_counts_for_nothing() {
    let mut fixture = Fixture::of_topic(2, 0..10);
    (0..10).filter(|index| *index != 4).for_each(|index| fixture.settle(index, Outcome::Filtered));
    fixture.duties.clear();
    let collected = fixture.collect();
    assert!(fixture.tracker.abandoned());
    assert_eq!((collected.tally.good(), collected.tally.total()), (9, 10));
    let mut limit = DeadLetterLimit::new(DeadLetterLimits { consecutive: Some(0), ratio: None });
    assert_eq!(collected.observe(&mut limit), None);
}

#[test]
fn dead_letters_in_a_row_go_by_offsets_whatever_lanes_the_records_took() {
    let mut fixture = Fixture::of_topic(4, 0..200);
    for index in 0..200 {
        let dead = index % 2 == 0 || (100..105).contains(&index);
        fixture.settle(index, if dead { Outcome::DeadLettered } else { Outcome::Delivered });
    }
    let collected = fixture.collect();
    let observed = |consecutive| {
        let limits = DeadLetterLimits { consecutive: Some(consecutive), ratio: None };
        collected.observe(&mut DeadLetterLimit::new(limits))
    };
    assert_eq!(observed(5), None, "from 100 to 104 there are five in a row");
    assert_eq!(observed(4), Some(LimitExceeded::Consecutive { count: 5, limit: 4 }));
}

#[test]
fn replays_for_other_sources_are_settled_without_any_lane() {
    let mut fixture = Fixture::new(&Intake::Replays("orders".into()), 2, records(0..5));
    assert!(fixture.duties.is_empty(), "none of them replays anything");
    assert!(fixture.open.is_closed());
    assert_eq!(fixture.woken(), 1);
    assert_eq!(fixture.collect().tally.of(Outcome::Filtered), 5);
    assert_eq!(fixture.tracker.take_committable(), Some(Offset(5)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the lanes, the order of outcomes and the looks in between: what is committed and
    /// counted is what one record after the other would have led to.
    #[test]
    fn lanes_and_looks_in_between_change_nothing(
        lane_count in 1usize..4,
        outcomes in prop::collection::vec(0u8..20, 1..120),
        order in prop::collection::vec((any::<u32>(), prop::bool::weighted(0.1)), 120),
    ) {
        let count = outcomes.len();
        let outcome = |index: usize| match outcomes[index] {
            0 => Outcome::DeadLettered,
            1..8 => Outcome::Filtered,
            _ => Outcome::Delivered,
        };
        let mut fixture = Fixture::of_topic(lane_count, 0..count as i64);
        let mut sequence: Vec<usize> = (0..count).collect();
        sequence.sort_by_key(|index| order[*index].0);
        let mut tally = Tally::default();
        let mut looks = 0;
        for index in sequence {
            fixture.settle(index, outcome(index));
            if order[index].1 {
                tally.merge(fixture.collect().tally());
                looks += 1;
                let open = fixture.duties.iter().position(|(_, duty)| duty.is_some());
                prop_assert_eq!(
                    fixture.tracker.first_unsettled(),
                    open.map(|index| Offset(index as i64))
                );
            }
        }
        let last = fixture.collect();
        tally.merge(last.tally());
        prop_assert_eq!(tally, (0..count).map(outcome).collect::<Tally>());
        prop_assert!(fixture.open.is_collected());
        prop_assert_eq!(fixture.tracker.take_committable(), Some(Offset(count as i64)));
        prop_assert_eq!(fixture.woken(), 1);
        if looks == 0 {
            let limits = DeadLetterLimits { consecutive: Some(0), ratio: None };
            let mut one_by_one = DeadLetterLimit::new(limits);
            let expected = (0..count).map(outcome).find_map(|one| one_by_one.observe(one));
            prop_assert_eq!(last.observe(&mut DeadLetterLimit::new(limits)), expected);
        }
    }
}
