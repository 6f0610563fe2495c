//! The poll thread on the embedded log in memory, with the assignment's part played by the test.

#![expect(clippy::disallowed_methods, reason = "waits by the clock, with a deadline")]

use std::time::Instant;

use super::*;
use crate::broker::embedded::EmbeddedLog;
use crate::broker::group::budget::BufferBudget;
use crate::broker::group::buffer::BufferLimits;
use crate::broker::{ProducerRecord, TopicSpec};
use crate::model::Epoch;
use crate::runtime::clock::SystemClock;
use crate::runtime::inbox::{Inbox, inbox};

const PATIENCE: Duration = Duration::from_secs(10);

struct Polling {
    log: Arc<EmbeddedLog>,
    orders: Arc<PollOrders>,
    events: Inbox<AssignmentEvent>,
    instruments: Arc<Instruments>,
    thread: PollThread,
}

fn polling(partitions: i32) -> Polling {
    let log = EmbeddedLog::in_memory(Arc::new(|| 0)).unwrap();
    let topic = TopicSpec {
        name: "t".into(),
        partitions: Some(partitions),
        settings: std::collections::BTreeMap::new(),
    };
    log.admin().unwrap().ensure(&[topic]).unwrap();
    let orders = Arc::new(PollOrders::default());
    let (address, events) = inbox("assignment", 16);
    let settings = PollSettings {
        consumer: ConsumerConfig::new("group", vec!["t".into()]),
        commit_interval: Duration::from_millis(1),
        drain_deadline: PATIENCE,
    };
    let instruments = Arc::new(Instruments::default());
    let clock = SystemClock::shared();
    let thread =
        PollThread::start(&*log, settings, orders.clone(), address, clock, instruments.clone())
            .unwrap();
    Polling { log, orders, events, instruments, thread }
}

impl Polling {
    fn produce(&self, count: usize) {
        self.produce_to(0, count);
    }

    fn produce_to(&self, partition: i32, count: usize) {
        let producer = self.log.producer().unwrap();
        for number in 0..count {
            let mut record = ProducerRecord::new("t".into(), format!("{number}"));
            record.partition = Some(partition);
            assert!(producer.send(record, Box::new(|result| assert!(result.is_ok()))).is_ok());
        }
        assert!(producer.flush(PATIENCE));
    }

    fn begin(&self, epoch: u64, offset: i64, records: usize) -> Arc<PartitionBuffer> {
        let limits = BufferLimits { bytes: usize::MAX, records };
        let buffer = Arc::new(PartitionBuffer::new(Epoch(epoch), limits, Arc::default()));
        self.orders.begin(TopicPartition::new("t", 0), Offset(offset), buffer.clone());
        buffer
    }

    fn assigned(&self) -> Vec<TopicPartition> {
        match self.events.blocking_recv() {
            Some(AssignmentEvent::Assigned(partitions)) => partitions,
            _ => panic!("expected an assignment"),
        }
    }
}

struct Deaf;

impl Rebalance for Deaf {
    fn assigned(&mut self, _: &[TopicPartition]) {}

    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        Vec::new()
    }

    fn lost(&mut self, _: &[TopicPartition]) {}
}

/// Takes records as they come, until there are `count`.
fn drain(buffer: &PartitionBuffer, count: usize) -> Vec<i64> {
    let deadline = Instant::now() + PATIENCE;
    let mut offsets = Vec::new();
    while offsets.len() < count {
        assert!(Instant::now() < deadline, "got {} of {count} records", offsets.len());
        offsets.extend(buffer.take(7, usize::MAX).iter().map(|record| record.offset.0));
        std::thread::yield_now();
    }
    offsets
}

#[test]
fn delivers_from_the_ordered_offset_and_pauses_without_losing_anything() {
    let polling = polling(1);
    polling.produce(500);
    assert_eq!(polling.assigned(), [TopicPartition::new("t", 0)]);
    let buffer = polling.begin(1, 100, 10);
    let deadline = Instant::now() + PATIENCE;
    while polling.instruments.pauses.get() == 0 {
        assert!(Instant::now() < deadline, "a buffer of ten is never full");
        std::thread::yield_now();
    }
    assert_eq!(drain(&buffer, 400), (100..500).collect::<Vec<_>>());
    polling.thread.join();
}

#[test]
fn partitions_that_share_too_small_a_budget_are_paused_and_all_get_through() {
    let polling = polling(2);
    polling.produce_to(0, 300);
    polling.produce_to(1, 300);
    assert_eq!(polling.assigned().len(), 2);
    let budget = BufferBudget::new(100);
    let limits = BufferLimits { bytes: usize::MAX, records: usize::MAX };
    let buffers = [0, 1].map(|partition| {
        let buffer = PartitionBuffer::sharing(Epoch(1), limits, &budget, Arc::default());
        let buffer = Arc::new(buffer);
        polling.orders.begin(TopicPartition::new("t", partition), Offset(0), buffer.clone());
        buffer
    });
    let deadline = Instant::now() + PATIENCE;
    let mut read = [0, 0];
    while read != [300, 300] {
        assert!(Instant::now() < deadline, "got {read:?} of 300 records each");
        for (buffer, read) in buffers.iter().zip(&mut read) {
            for record in buffer.take(7, usize::MAX) {
                assert_eq!(record.offset, Offset(*read));
                *read += 1;
            }
        }
        std::thread::yield_now();
    }
    assert!(polling.instruments.pauses.get() > 0);
    polling.thread.join();
}

#[test]
fn an_older_begin_never_replaces_a_newer_one() {
    let polling = polling(1);
    polling.produce(20);
    polling.assigned();
    let newer = polling.begin(2, 10, 100);
    assert_eq!(drain(&newer, 10), (10..20).collect::<Vec<_>>());
    let older = polling.begin(1, 0, 100);
    polling.produce(5);
    assert_eq!(drain(&newer, 5), (20..25).collect::<Vec<_>>());
    assert!(older.is_empty());
    polling.thread.join();
}

#[test]
fn a_revoke_waits_for_the_answer_and_commits_what_was_offered_by_then() {
    let polling = polling(1);
    polling.produce(5);
    let partitions = polling.assigned();
    polling.begin(1, 0, 100);
    polling.log.faults().revoke("group", &partitions);
    let Some(AssignmentEvent::Revoked { partitions: revoked, reply }) =
        polling.events.blocking_recv()
    else {
        panic!("expected a revoke")
    };
    assert_eq!(revoked, partitions);
    polling.orders.commit(partitions[0].clone(), Offset(3));
    reply.send(()).unwrap();
    polling.log.faults().restore("group", &partitions);
    assert_eq!(polling.assigned(), partitions);
    let committed = polling.thread.positions().committed(&partitions).unwrap();
    assert_eq!(committed, [Some(Offset(3))]);
    polling.thread.join();
}

#[test]
fn a_lost_partition_takes_its_commits_with_it() {
    let polling = polling(1);
    let partitions = polling.assigned();
    polling.log.faults().lose("group", &partitions);
    assert!(matches!(polling.events.blocking_recv(), Some(AssignmentEvent::Lost(_))));
    polling.orders.forget(&partitions);
    polling.log.faults().restore("group", &partitions);
    polling.assigned();
    let committed = polling.thread.positions().committed(&partitions).unwrap();
    assert_eq!(committed, [None]);
    polling.thread.join();
}

#[test]
fn the_last_commit_is_made_before_the_group_is_left() {
    let polling = polling(1);
    let partitions = polling.assigned();
    polling.orders.commit(partitions[0].clone(), Offset(9));
    polling.thread.join();
    let config = ConsumerConfig::new("group", vec!["t".into()]);
    let next = polling.log.consumer(&config, Box::new(Deaf)).unwrap();
    assert_eq!(next.positions().committed(&partitions).unwrap(), [Some(Offset(9))]);
}

#[test]
fn an_offset_out_of_range_is_reported_by_name_and_not_reset() {
    let polling = polling(1);
    polling.produce(3);
    polling.assigned();
    let buffer = polling.begin(1, 99, 100);
    let Some(AssignmentEvent::Failed(error)) = polling.events.blocking_recv() else {
        panic!("expected an error")
    };
    assert!(matches!(error, BrokerError::OutOfRange { offset: Offset(99), .. }), "{error}");
    assert!(buffer.is_empty());
    polling.thread.join();
}
