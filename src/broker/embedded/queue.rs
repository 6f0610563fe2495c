//! What waits for the writer thread.
//!
//! Responsible for: a bounded queue of records, the newest offset to commit per group and
//! partition, and counting what was delivered. Records keep their room until they are delivered.
//! Not responsible for: writing (`writer`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::embedded::state::{closed, locked};
use crate::broker::{BrokerError, Delivery, ProducerRecord};
use crate::model::{Offset, Topic, TopicPartition};

/// Records that may wait for their delivery.
const DEFAULT_RECORDS: usize = 65_536;
/// Bytes that may wait for their delivery.
const DEFAULT_BYTES: usize = 64 << 20;
/// Records in one commit.
const BATCH_RECORDS: usize = 16_384;
/// Bytes in one commit, unless a single record is larger.
const BATCH_BYTES: usize = 16 << 20;

/// Offsets to commit; the newest one of a partition is enough.
pub(super) type Commits = BTreeMap<(Arc<str>, TopicPartition), Offset>;

/// Tells one caller how its commit went.
pub(super) type Answer = SyncSender<Result<(), BrokerError>>;

/// A record that waits.
pub(super) struct Queued {
    /// The record; its time stamp is set.
    pub(super) record: ProducerRecord,
    /// Bytes of its key, value and headers.
    pub(super) size: usize,
    /// To be called once.
    pub(super) delivery: Delivery,
    /// A script wants it to fail with this.
    pub(super) refused: Option<BrokerError>,
}

/// What became of a record that was to be queued.
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// There is no room.
    Full(ProducerRecord, Delivery),
    /// The log is closed.
    Closed(Delivery),
}

/// What the writer thread does next, in one transaction.
#[derive(Default)]
pub(super) struct Work {
    /// Records, oldest first.
    pub(super) records: Vec<Queued>,
    /// Offsets to commit.
    pub(super) commits: Commits,
    /// Who waits for these commits.
    pub(super) answers: Vec<Answer>,
}

impl Work {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.commits.is_empty() && self.answers.is_empty()
    }
}

struct Waiting {
    records: VecDeque<Queued>,
    commits: Commits,
    answers: Vec<Answer>,
    /// Whether the writer thread has offsets in its hands.
    committing: bool,
    /// Records and bytes queued or in the writer's hands.
    outstanding: (usize, usize),
    most: (usize, usize),
    /// Records ever sent, and ever delivered: they are delivered in the order of sending.
    sent: u64,
    delivered: u64,
    /// Whether the writer thread sleeps.
    asleep: bool,
    /// Whether a script keeps records from the writer.
    held: bool,
    closed: bool,
    /// How many of the next records of a topic a script wants to fail.
    failures: BTreeMap<Topic, (u32, BrokerError)>,
}

impl Waiting {
    fn has_work(&self) -> bool {
        let records = !self.records.is_empty() && !self.held;
        records || !self.commits.is_empty() || !self.answers.is_empty()
    }

    fn hand_over_commits(&mut self, work: &mut Work) {
        work.commits = std::mem::take(&mut self.commits);
        work.answers = std::mem::take(&mut self.answers);
        self.committing = !work.commits.is_empty();
    }

    fn scripted_failure(&mut self, topic: &Topic) -> Option<BrokerError> {
        let (left, error) = self.failures.get_mut(topic)?;
        let error = error.clone();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.failures.remove(topic);
        }
        Some(error)
    }
}

/// Shared by all producers and the writer thread of one log.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes the writer thread.
    work: Condvar,
    /// Wakes who waits for deliveries.
    progress: Condvar,
}

impl Default for Queue {
    fn default() -> Self {
        let waiting = Waiting {
            records: VecDeque::new(),
            commits: Commits::new(),
            answers: Vec::new(),
            committing: false,
            outstanding: (0, 0),
            most: (DEFAULT_RECORDS, DEFAULT_BYTES),
            sent: 0,
            delivered: 0,
            asleep: false,
            held: false,
            closed: false,
            failures: BTreeMap::new(),
        };
        Self { waiting: Mutex::new(waiting), work: Condvar::new(), progress: Condvar::new() }
    }
}

// === the side of producers and consumers ===

impl Queue {
    /// Queues a record. A record larger than the whole queue is taken when the queue is empty.
    pub(super) fn push(&self, record: ProducerRecord, delivery: Delivery) -> Pushed {
        let size = size_of_record(&record);
        let mut waiting = locked(&self.waiting);
        if waiting.closed {
            return Pushed::Closed(delivery);
        }
        let (records, bytes) = waiting.outstanding;
        if records >= waiting.most.0 || (records > 0 && bytes + size > waiting.most.1) {
            return Pushed::Full(record, delivery);
        }
        let refused = if waiting.failures.is_empty() {
            None
        } else {
            waiting.scripted_failure(&record.topic)
        };
        waiting.outstanding = (records + 1, bytes + size);
        waiting.sent += 1;
        waiting.records.push_back(Queued { record, size, delivery, refused });
        let wake = waiting.asleep;
        drop(waiting);
        if wake {
            self.work.notify_one();
        }
        Pushed::Queued
    }

    /// Leaves offsets to be committed; `answer` hears how it went.
    pub(super) fn commit(
        &self,
        group: &Arc<str>,
        offsets: &[(TopicPartition, Offset)],
        answer: Option<Answer>,
    ) -> Result<(), BrokerError> {
        let mut waiting = locked(&self.waiting);
        if waiting.closed {
            return Err(closed());
        }
        for (partition, offset) in offsets {
            waiting.commits.insert((Arc::clone(group), partition.clone()), *offset);
        }
        waiting.answers.extend(answer);
        drop(waiting);
        self.work.notify_one();
        Ok(())
    }

    /// Waits until no commit is under way, however it ends.
    pub(super) fn settle_commits(&self) {
        let mut waiting = locked(&self.waiting);
        if waiting.closed || (waiting.commits.is_empty() && !waiting.committing) {
            return;
        }
        let (answer, answered) = sync_channel(1);
        waiting.answers.push(answer);
        drop(waiting);
        self.work.notify_one();
        // A failed commit is no failure of whoever waits for its end.
        drop(answered.recv());
    }

    /// Waits until everything sent before has been delivered; false if `timeout` passed first.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let waiting = locked(&self.waiting);
        let goal = waiting.sent;
        let (waiting, _) = self
            .progress
            .wait_timeout_while(waiting, timeout, |waiting| waiting.delivered < goal)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.delivered >= goal
    }

    /// Sets how many records and bytes may wait.
    pub(super) fn limit(&self, records: usize, bytes: usize) {
        locked(&self.waiting).most = (records, bytes);
    }

    /// Makes the next `times` records sent to `topic` fail.
    pub(super) fn fail_next(&self, topic: &Topic, times: u32, error: BrokerError) {
        let mut waiting = locked(&self.waiting);
        if times == 0 {
            waiting.failures.remove(topic);
        } else {
            waiting.failures.insert(topic.clone(), (times, error));
        }
    }

    /// Keeps records from the writer, or lets them go.
    pub(super) fn hold(&self, held: bool) {
        locked(&self.waiting).held = held;
        self.work.notify_one();
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        locked(&self.waiting).closed = true;
        self.work.notify_all();
    }
}

fn size_of_record(record: &ProducerRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, bytes::Bytes::len)
        + record.value.as_ref().map_or(0, bytes::Bytes::len)
        + headers
}

// === the side of the writer thread ===

impl Queue {
    /// Waits for work, at most for `wait`; empty when there was none, `None` when the log is
    /// closed and all that can be written is written.
    pub(super) fn take(&self, wait: Duration) -> Option<Work> {
        let mut waiting = locked(&self.waiting);
        waiting.asleep = true;
        let (mut waiting, _) = self
            .work
            .wait_timeout_while(waiting, wait, |waiting| !waiting.closed && !waiting.has_work())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.asleep = false;
        if waiting.closed && !waiting.has_work() {
            return None;
        }
        let records = if waiting.held { Vec::new() } else { next_batch(&mut waiting.records) };
        let mut work = Work { records, ..Work::default() };
        waiting.hand_over_commits(&mut work);
        Some(work)
    }

    /// Adds the offsets that have come in since to work that has to be tried again.
    pub(super) fn take_commits(&self, work: &mut Work) {
        locked(&self.waiting).hand_over_commits(work);
    }

    /// The offsets taken are committed, or have failed.
    pub(super) fn commits_done(&self) {
        locked(&self.waiting).committing = false;
    }

    /// That many records of that many bytes are delivered.
    pub(super) fn delivered(&self, records: usize, bytes: usize) {
        let mut waiting = locked(&self.waiting);
        waiting.outstanding.0 = waiting.outstanding.0.saturating_sub(records);
        waiting.outstanding.1 = waiting.outstanding.1.saturating_sub(bytes);
        waiting.delivered += records as u64;
        drop(waiting);
        self.progress.notify_all();
    }

    /// Waits before another attempt; true if the log was closed meanwhile.
    pub(super) fn back_off(&self, delay: Duration) -> bool {
        let waiting = locked(&self.waiting);
        let (waiting, _) = self
            .work
            .wait_timeout_while(waiting, delay, |waiting| !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.closed
    }

    /// All records that nobody will write any more.
    pub(super) fn abandoned(&self) -> Vec<Queued> {
        std::mem::take(&mut locked(&self.waiting).records).into()
    }
}

fn next_batch(records: &mut VecDeque<Queued>) -> Vec<Queued> {
    let mut bytes = 0;
    let fitting = records
        .iter()
        .take(BATCH_RECORDS)
        .take_while(|queued| {
            bytes += queued.size;
            bytes <= BATCH_BYTES
        })
        .count();
    if fitting == records.len() {
        return std::mem::take(records).into();
    }
    records.drain(..fitting.max(1)).collect()
}
