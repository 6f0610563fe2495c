//! The bounded buffer between the poll thread and one partition consumer.
//!
//! Responsible for: holding records of one partition under a limit of bytes and records, and
//! saying when the partition has to be paused and when it may be resumed.
//! Not responsible for: pausing (`source::poll`) or what may be in flight (`progress::tracker`).
//!
//! The poll thread never waits for room: it puts in what it has already got, and pauses the
//! partition when that reaches the high mark. `pause` throws away what the client prefetched, so
//! the low mark is well below the high one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

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
    records: VecDeque<LogRecord>,
    bytes: usize,
}

impl PartitionBuffer {
    /// An empty buffer for one epoch of a partition; `filled` is signalled at each push.
    pub fn new(epoch: Epoch, limits: BufferLimits, filled: Arc<Notify>) -> Self {
        Self { epoch, limits, held: Mutex::default(), filled }
    }

    /// The epoch under which its records are read.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Puts in records of `bytes` together, even above the mark: they have been read already.
    pub fn push(&self, records: Vec<LogRecord>, bytes: usize) -> Fill {
        let mut held = self.lock();
        held.bytes += bytes;
        held.records.extend(records);
        let full = held.bytes >= self.limits.bytes || held.records.len() >= self.limits.records;
        drop(held);
        self.filled.notify_one();
        if full { Fill::Full } else { Fill::Room }
    }

    /// Takes the oldest records: at least one if there is any, at most `records`, and no more
    /// than `bytes` together unless the first alone is larger.
    pub fn take(&self, records: usize, bytes: usize) -> Vec<LogRecord> {
        let mut held = self.lock();
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < records
            && let Some(next) = held.records.front().map(LogRecord::size)
        {
            if !taken.is_empty() && size + next > bytes {
                break;
            }
            size += next;
            taken.extend(held.records.pop_front());
        }
        held.bytes -= size;
        taken
    }

    /// Whether a paused partition may be resumed.
    pub fn is_below_low_mark(&self) -> bool {
        let held = self.lock();
        held.bytes <= self.limits.bytes / 2 && held.records.len() <= self.limits.records / 2
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.lock().records.is_empty()
    }

    /// Offset and timestamp of the oldest record that is held.
    pub fn first(&self) -> Option<(Offset, Option<i64>)> {
        self.lock().records.front().map(|record| (record.offset, record.timestamp))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
}
