//! The bounded buffer between the poll thread and one partition consumer.
//!
//! Responsible for: holding records of one partition under a limit of bytes and records, and
//! saying when the partition has to be paused and when it may be resumed.
//! Not responsible for: pausing (`poll`), what all partitions may hold together (`budget`), or
//! what may be in flight (`progress::tracker`).
//!
//! The poll thread never waits for room: it puts in what it has already got, and pauses the
//! partition when that reaches the high mark. `pause` throws away what the client prefetched, so
//! the low mark is well below the high one.
//!
//! Records are kept as the runs in which they came. A run that fits is handed out as a whole, so
//! that its records are not moved one by one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::broker::group::budget::{BufferBudget, Part};
use crate::model::{Epoch, LogRecord, Offset};

/// High marks of a buffer; the low marks are half of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Bytes of keys, values and headers.
    pub bytes: usize,
    /// Records.
    pub records: usize,
}

/// Whether there is room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Below the high mark.
    Room,
    /// At or above it: the partition has to be paused.
    Full,
}

/// Records of one partition, read under one epoch.
#[derive(Debug)]
pub struct PartitionBuffer {
    epoch: Epoch,
    limits: BufferLimits,
    held: Mutex<Held>,
    /// Signals the partition consumer, which is the only one that waits.
    filled: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Held {
    /// Oldest first; none is empty.
    stretches: VecDeque<Stretch>,
    records: usize,
    bytes: usize,
    /// Of the budget of all partitions, where there is one.
    part: Option<Part>,
}

/// Records that came in one run, or in several small ones.
#[derive(Debug)]
struct Stretch {
    records: VecDeque<LogRecord>,
    bytes: usize,
}

impl PartitionBuffer {
    /// An empty buffer for one epoch of a partition; `filled` is signalled at each push.
    pub fn new(epoch: Epoch, limits: BufferLimits, filled: Arc<Notify>) -> Self {
        Self { epoch, limits, held: Mutex::default(), filled }
    }

    /// A buffer that shares a budget with those of other partitions as well.
    pub fn sharing(
        epoch: Epoch,
        limits: BufferLimits,
        budget: &Arc<BufferBudget>,
        filled: Arc<Notify>,
    ) -> Self {
        let held = Held { part: Some(budget.part()), ..Held::default() };
        Self { epoch, limits, held: Mutex::new(held), filled }
    }

    /// The epoch under which its records are read.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Puts in records of `bytes` together, even above the mark: they have been read already.
    pub fn push(&self, records: Vec<LogRecord>, bytes: usize) -> Fill {
        let mut held = self.lock();
        held.add(records, bytes);
        let full = held.bytes >= self.limits.bytes
            || held.records >= self.limits.records
            || held.part.as_ref().is_some_and(|part| part.is_full(held.bytes));
        drop(held);
        self.filled.notify_one();
        if full { Fill::Full } else { Fill::Room }
    }

    /// Takes the oldest records: at least one if there is any, at most `records`, and no more
    /// than `bytes` together unless the first alone is larger. There may be fewer than would fit,
    /// because runs are only cut where the first alone is too long.
    pub fn take(&self, records: usize, bytes: usize) -> Vec<LogRecord> {
        self.lock().take(records, bytes)
    }

    /// Whether a paused partition may be resumed.
    pub fn is_below_low_mark(&self) -> bool {
        let held = self.lock();
        held.bytes <= self.limits.bytes / 2
            && held.records <= self.limits.records / 2
            && held.part.as_ref().is_none_or(|part| part.has_room(held.bytes))
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.lock().records == 0
    }

    /// Offset and timestamp of the oldest record that is held.
    pub fn first(&self) -> Option<(Offset, Option<i64>)> {
        let held = self.lock();
        let first = held.stretches.front().and_then(|stretch| stretch.records.front())?;
        Some((first.offset, first.timestamp))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, records: Vec<LogRecord>, bytes: usize) {
        if records.is_empty() {
            return;
        }
        self.records += records.len();
        self.count_bytes(self.bytes + bytes);
        // Small runs share what one of them has allocated, so that many of them take no more
        // memory than a few large ones.
        let last = self.stretches.back_mut();
        let room = records.len();
        match last.filter(|last| last.records.len() + room <= last.records.capacity()) {
            Some(last) => {
                last.records.extend(records);
                last.bytes += bytes;
            }
            None => self.stretches.push_back(Stretch { records: records.into(), bytes }),
        }
    }

    fn take(&mut self, records: usize, bytes: usize) -> Vec<LogRecord> {
        let mut taken: Vec<LogRecord> = Vec::new();
        let mut size = 0;
        while let Some(next) = self.pop_within(records - taken.len(), bytes - size) {
            size += next.bytes;
            if taken.is_empty() {
                taken = next.records.into();
            } else {
                taken.extend(next.records);
            }
        }
        if taken.is_empty() {
            (taken, size) = self.cut(records, bytes);
        }
        self.records -= taken.len();
        self.count_bytes(self.bytes - size);
        // A batch does not keep the room of a run that it does not fill.
        if taken.len() < taken.capacity() / 2 {
            taken.shrink_to_fit();
        }
        taken
    }

    /// The oldest stretch, if it has no more than so many records and bytes.
    fn pop_within(&mut self, records: usize, bytes: usize) -> Option<Stretch> {
        let first = self.stretches.front()?;
        let fits = first.records.len() <= records && first.bytes <= bytes;
        if fits { self.stretches.pop_front() } else { None }
    }

    /// Cuts records off the first stretch, which does not fit as a whole; returns their bytes too.
    fn cut(&mut self, records: usize, bytes: usize) -> (Vec<LogRecord>, usize) {
        let Some(first) = self.stretches.front_mut() else { return (Vec::new(), 0) };
        let mut size = 0;
        let mut count = 0;
        for next in first.records.iter().take(records).map(LogRecord::size) {
            if count > 0 && size + next > bytes {
                break;
            }
            size += next;
            count += 1;
        }
        let cut = first.records.drain(..count).collect();
        first.bytes -= size;
        if first.records.is_empty() {
            self.stretches.pop_front();
        }
        (cut, size)
    }

    fn count_bytes(&mut self, bytes: usize) {
        self.bytes = bytes;
        if let Some(part) = &mut self.part {
            part.hold(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn record(offset: i64, size: usize) -> LogRecord {
        LogRecord {
            offset: Offset(offset),
            timestamp: None,
            key: None,
            value: Some(Bytes::from(vec![0; size])),
            headers: Vec::new(),
        }
    }

    fn push(buffer: &PartitionBuffer, record: LogRecord) -> Fill {
        let bytes = record.size();
        buffer.push(vec![record], bytes)
    }

    fn buffer(bytes: usize, records: usize) -> PartitionBuffer {
        PartitionBuffer::new(Epoch(1), BufferLimits { bytes, records }, Arc::default())
    }

    #[test]
    fn is_full_at_either_mark_and_keeps_what_was_read_already() {
        let by_bytes = buffer(100, 1000);
        assert_eq!(push(&by_bytes, record(0, 99)), Fill::Room);
        assert_eq!(push(&by_bytes, record(1, 1)), Fill::Full);
        assert_eq!(push(&by_bytes, record(2, 50)), Fill::Full);
        assert_eq!(by_bytes.take(10, usize::MAX).len(), 3);

        let by_records = buffer(1000, 2);
        assert_eq!(push(&by_records, record(0, 1)), Fill::Room);
        assert_eq!(push(&by_records, record(1, 1)), Fill::Full);
    }

    #[test]
    fn resumes_only_at_half_of_both_marks() {
        let buffer = buffer(100, 4);
        for offset in 0..4 {
            push(&buffer, record(offset, 25));
        }
        assert!(!buffer.is_below_low_mark());
        buffer.take(1, usize::MAX);
        assert!(!buffer.is_below_low_mark(), "three quarters are still held");
        buffer.take(1, usize::MAX);
        assert!(buffer.is_below_low_mark());
    }

    #[test]
    fn takes_in_order_within_both_limits_and_never_nothing() {
        let buffer = buffer(1000, 100);
        for offset in 0..5 {
            push(&buffer, record(offset, 40));
        }
        let offsets = |taken: Vec<LogRecord>| taken.iter().map(|r| r.offset.0).collect::<Vec<_>>();
        assert_eq!(offsets(buffer.take(2, 1000)), [0, 1]);
        assert_eq!(offsets(buffer.take(9, 90)), [2, 3]);
        assert_eq!(offsets(buffer.take(9, 10)), [4], "a record larger than the limit goes alone");
        assert!(buffer.take(9, 10).is_empty());
        assert!(buffer.is_empty());
        assert_eq!(buffer.first(), None);
        push(&buffer, record(7, 1));
        assert_eq!(buffer.first(), Some((Offset(7), None)));
    }

    fn run(offsets: std::ops::Range<i64>, size: usize) -> (Vec<LogRecord>, usize) {
        let records: Vec<_> = offsets.map(|offset| record(offset, size)).collect();
        let bytes = records.len() * size;
        (records, bytes)
    }

    fn offsets(taken: &[LogRecord]) -> Vec<i64> {
        taken.iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn a_run_that_fits_is_handed_out_without_moving_its_records() {
        let buffer = buffer(1 << 20, 1_000);
        let (records, bytes) = run(0..64, 10);
        let place = records.as_ptr();
        buffer.push(records, bytes);
        let taken = buffer.take(64, 640);
        assert_eq!((taken.as_ptr(), taken.len()), (place, 64));
    }

    #[test]
    fn a_run_that_is_too_long_is_cut_and_its_rest_comes_next() {
        let buffer = buffer(1 << 20, 1_000);
        for (records, bytes) in [run(0..5, 10), run(5..8, 10)] {
            buffer.push(records, bytes);
        }
        assert_eq!(offsets(&buffer.take(2, 1_000)), [0, 1], "by records");
        assert_eq!(offsets(&buffer.take(9, 25)), [2, 3], "by bytes");
        assert_eq!(offsets(&buffer.take(2, 1_000)), [4], "what follows is not cut to fill it up");
        assert_eq!(offsets(&buffer.take(9, 1_000)), [5, 6, 7]);
    }

    #[test]
    fn small_runs_take_no_more_memory_than_a_few_large_ones() {
        let buffer = buffer(1 << 20, 10_000);
        for offset in 0..1_000 {
            let mut records = Vec::with_capacity(64);
            records.extend([record(offset, 1)]);
            buffer.push(records, 1);
        }
        let room: usize =
            buffer.lock().stretches.iter().map(|stretch| stretch.records.capacity()).sum();
        assert!(room < 2_000, "{room} records have room where there are 1000");
        let taken = buffer.take(10, 1_000);
        assert_eq!(offsets(&taken), (0..10).collect::<Vec<_>>());
        assert!(taken.capacity() < 20);
    }

    #[test]
    fn what_other_partitions_hold_makes_a_buffer_full_below_its_own_mark() {
        let budget = BufferBudget::new(400);
        let limits = BufferLimits { bytes: 1_000, records: 1_000 };
        let sharing = || PartitionBuffer::sharing(Epoch(1), limits, &budget, Arc::default());
        let (one, other) = (sharing(), sharing());
        assert_eq!(push(&one, record(0, 290)), Fill::Room);
        assert_eq!(push(&other, record(0, 100)), Fill::Room);
        assert_eq!(push(&other, record(1, 10)), Fill::Full);
        assert!(!other.is_below_low_mark());
        one.take(1, usize::MAX);
        assert!(other.is_below_low_mark(), "the others have given back what they had");
        drop(one);
        assert_eq!(push(&other, record(2, 80)), Fill::Room);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<usize>),
        Take(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop::collection::vec(0..50_usize, 1..20).prop_map(Step::Push),
            (1..30_usize, 0..400_usize).prop_map(|(records, bytes)| Step::Take(records, bytes)),
        ];
        prop::collection::vec(step, 0..100)
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in_and_within_the_limits(script in steps()) {
            let buffer = buffer(600, 40);
            let mut model: VecDeque<(i64, usize)> = VecDeque::new();
            let mut next = 0;
            for step in script {
                match step {
                    Step::Push(sizes) => {
                        let records = sizes.iter().zip(next..).map(|(size, at)| record(at, *size));
                        let fill = buffer.push(records.collect(), sizes.iter().sum());
                        model.extend((next..).zip(sizes.iter().copied()));
                        next += sizes.len() as i64;
                        let bytes: usize = model.iter().map(|(_, size)| size).sum();
                        let full = bytes >= 600 || model.len() >= 40;
                        prop_assert_eq!(fill == Fill::Full, full);
                    }
                    Step::Take(records, bytes) => {
                        let taken = buffer.take(records, bytes);
                        let expected: Vec<_> = model.drain(..taken.len()).collect();
                        let found = taken.iter().map(|record| (record.offset.0, record.size()));
                        prop_assert_eq!(found.collect::<Vec<_>>(), expected.clone());
                        prop_assert!(taken.len() <= records);
                        prop_assert!(!taken.is_empty() || model.is_empty(), "never nothing");
                        let size: usize = expected.iter().map(|(_, size)| size).sum();
                        prop_assert!(size <= bytes || taken.len() == 1);
                    }
                }
                let bytes: usize = model.iter().map(|(_, size)| size).sum();
                prop_assert_eq!(buffer.is_empty(), model.is_empty());
                let first = model.front().map(|(at, _)| (Offset(*at), None));
                prop_assert_eq!(buffer.first(), first);
                prop_assert_eq!(buffer.is_below_low_mark(), bytes <= 300 && model.len() <= 20);
            }
        }
    }
}
