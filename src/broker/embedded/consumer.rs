//! Consuming from the embedded log.
//!
//! Responsible for: following the group's rebalances inside `poll`, and delivering the records of
//! assigned partitions in offset order, a run from one partition, then a run from the next.
//! Not responsible for: who is entitled to what (`group`), reading rows (`database`).
//!
//! A partition delivers once it was given a position and resumed. One whose position is out of
//! range says so now and then until a seek mends it, and the others go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use crate::broker::embedded::Running;
use crate::broker::embedded::database;
use crate::broker::embedded::group::{MemberId, Step};
use crate::broker::embedded::positions::{self, EmbeddedPositions};
use crate::broker::embedded::state::{State, locked};
use crate::broker::{BrokerError, Consumer, ConsumerConfig, Polled, Positions, Rebalance, Run};
use crate::model::{LogRecord, Offset, TopicPartition};

/// Records of one partition that are polled one by one before it is the next one's turn.
const TURN: usize = 32;
/// Turns between two reports that a position is out of range.
const QUIET_TURNS: u32 = 16;

/// An assigned partition.
struct Fetch {
    partition: TopicPartition,
    /// Next to deliver; nothing is delivered before the first seek.
    position: Option<Offset>,
    paused: bool,
    /// Prefetched: what there is in `position..next`.
    buffer: VecDeque<LogRecord>,
    /// Next to read from the database; past `position` where offsets have a gap.
    next: Offset,
    /// Why nothing can be read at `next`.
    broken: Option<Broken>,
}

struct Broken {
    error: BrokerError,
    /// Turns until it is reported again.
    quiet: u32,
}

impl Fetch {
    fn assigned(partition: TopicPartition) -> Self {
        Self {
            partition,
            position: None,
            paused: true,
            buffer: VecDeque::new(),
            next: Offset::ZERO,
            broken: None,
        }
    }

    fn is_active(&self) -> bool {
        !self.paused && self.position.is_some()
    }

    /// Whether another attempt to read would bring something that the last one did not.
    fn is_ready(&self, state: &State) -> bool {
        let Ok((_, head)) = state.locate(&self.partition) else { return false };
        let readable = head.start <= self.next && self.next < head.end;
        let out_of_range = self.next < head.start || self.next > head.end;
        self.is_active() && (readable || (out_of_range && self.broken.is_none()))
    }

    /// Forgets what is prefetched; returns the bytes it took.
    fn drop_buffer(&mut self) -> usize {
        self.next = self.position.unwrap_or(self.next);
        self.buffer.drain(..).map(|record| database::cost(&record)).sum()
    }
}

/// A member of a group, from its first poll until it is dropped.
pub(super) struct EmbeddedConsumer {
    /// Closed before the log, which is kept open by `log`.
    reader: Arc<Mutex<Connection>>,
    log: Arc<Running>,
    config: ConsumerConfig,
    group: Arc<str>,
    /// `None` before the first poll.
    member: Option<MemberId>,
    rebalance: Box<dyn Rebalance>,
    /// What is assigned, in order.
    fetches: Vec<Fetch>,
    /// Whose turn it is, and how many records it has delivered in it.
    turn: (usize, usize),
    /// Bytes prefetched over all partitions.
    buffered: usize,
    /// Version of the state up to which rebalances are served.
    seen: u64,
    /// Whether a script keeps records back.
    held: bool,
}

impl EmbeddedConsumer {
    /// A consumer that joins its group on the first poll.
    pub(super) fn new(
        log: Arc<Running>,
        config: &ConsumerConfig,
        rebalance: Box<dyn Rebalance>,
    ) -> Result<Self, BrokerError> {
        if config.group.is_empty() || config.topics.is_empty() {
            return Err(BrokerError::Fatal(format!(
                "a consumer needs a group and topics, found group {:?} and {} topics",
                config.group,
                config.topics.len()
            )));
        }
        log.shared.check_open()?;
        Ok(Self {
            reader: log.shared.reader()?,
            group: Arc::from(config.group.as_str()),
            config: config.clone(),
            log,
            member: None,
            rebalance,
            fetches: Vec::new(),
            turn: (0, 0),
            buffered: 0,
            seen: 0,
            held: false,
        })
    }

    fn attempt(&mut self) -> Result<Option<Polled>, BrokerError> {
        self.serve_rebalance()?;
        if self.held { Ok(None) } else { self.next_record() }
    }

    // === rebalances ===

    fn serve_rebalance(&mut self) -> Result<(), BrokerError> {
        if self.log.shared.version() == self.seen {
            return Ok(());
        }
        let member = self.joined()?;
        loop {
            let stepped = self.log.shared.step(&self.group, member)?;
            self.held = stepped.fetch_held;
            match stepped.step {
                Step::Settled => {
                    self.seen = stepped.version;
                    return Ok(());
                }
                Step::Acknowledged => {}
                Step::Assign(partitions) => self.assign(&partitions),
                Step::Revoke(partitions) => self.give_up(member, &partitions),
                Step::Lose(partitions) => {
                    self.forget(&partitions);
                    self.rebalance.lost(&partitions);
                }
            }
        }
    }

    fn joined(&mut self) -> Result<MemberId, BrokerError> {
        if let Some(member) = self.member {
            return Ok(member);
        }
        let config = &self.config;
        let joined = self
            .log
            .shared
            .update(|state| state.join(&self.group, &config.topics, config.assignor))?;
        self.member = Some(joined);
        Ok(joined)
    }

    fn assign(&mut self, partitions: &[TopicPartition]) {
        self.fetches.extend(partitions.iter().cloned().map(Fetch::assigned));
        self.fetches.sort_by(|a, b| a.partition.cmp(&b.partition));
        self.rebalance.assigned(partitions);
    }

    /// The group hands the partitions on only after they are released here, at the very end.
    fn give_up(&mut self, member: MemberId, partitions: &[TopicPartition]) {
        let offsets = self.rebalance.revoked(partitions);
        if let Err(error) = positions::commit(&self.log.shared, &self.group, &offsets) {
            tracing::warn!(group = &*self.group, %error, "commit at revoke failed");
        }
        self.forget(partitions);
        self.log.shared.update(|state| {
            if let Some(group) = state.group(&self.group) {
                group.release(member, partitions);
            }
        });
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for fetch in &mut self.fetches {
            if partitions.contains(&fetch.partition) {
                self.buffered -= fetch.drop_buffer();
            }
        }
        self.fetches.retain(|fetch| !partitions.contains(&fetch.partition));
        self.turn = (0, 0);
    }

    // === records ===

    /// Asks each partition once, beginning with the one whose turn it is.
    fn next_record(&mut self) -> Result<Option<Polled>, BrokerError> {
        let count = self.fetches.len();
        for _ in 0..=count {
            let (index, delivered) = self.turn;
            if index < count && delivered < TURN {
                self.turn.1 += 1;
                if let Some(polled) = self.take(index).inspect_err(|_| self.pass_turn(index))? {
                    return Ok(Some(polled));
                }
            }
            self.pass_turn(index);
        }
        Ok(None)
    }

    fn pass_turn(&mut self, from: usize) {
        let next = if from + 1 < self.fetches.len() { from + 1 } else { 0 };
        self.turn = (next, 0);
    }

    fn take(&mut self, index: usize) -> Result<Option<Polled>, BrokerError> {
        let Some(fetch) = self.fetches.get(index).filter(|fetch| fetch.is_active()) else {
            return Ok(None);
        };
        if fetch.buffer.is_empty() {
            self.refill(index)?;
        }
        let Some(fetch) = self.fetches.get_mut(index) else { return Ok(None) };
        let Some(record) = fetch.buffer.pop_front() else { return Ok(None) };
        fetch.position = Some(record.offset.after());
        self.buffered -= database::cost(&record);
        Ok(Some(Polled::Record(fetch.partition.clone(), record)))
    }

    /// Asks each partition once for a run, beginning with the one whose turn it is. Says whether
    /// there was anything.
    fn attempt_runs(&mut self, most: usize, runs: &mut Vec<Run>) -> Result<bool, BrokerError> {
        self.serve_rebalance()?;
        let mut left = if self.held { 0 } else { most };
        for _ in 0..self.fetches.len() {
            // A rebalance, or a script that keeps records back, is served before anything else.
            if left == 0 || self.log.shared.version() != self.seen {
                break;
            }
            let index = self.turn.0;
            let taken = self.take_run(index, left, runs);
            self.pass_turn(index);
            left -= taken?;
        }
        Ok(!self.held && left < most)
    }

    fn take_run(
        &mut self,
        index: usize,
        most: usize,
        runs: &mut Vec<Run>,
    ) -> Result<usize, BrokerError> {
        let Some(fetch) = self.fetches.get(index).filter(|fetch| fetch.is_active()) else {
            return Ok(0);
        };
        if fetch.buffer.is_empty() {
            self.refill(index)?;
        }
        let Some(fetch) = self.fetches.get_mut(index) else { return Ok(0) };
        let count = fetch.buffer.len().min(most);
        let records: Vec<_> = fetch.buffer.drain(..count).collect();
        let Some(last) = records.last() else { return Ok(0) };
        fetch.position = Some(last.offset.after());
        self.buffered -= records.iter().map(database::cost).sum::<usize>();
        runs.push(Run::of(fetch.partition.clone(), records));
        Ok(count)
    }

    fn refill(&mut self, index: usize) -> Result<(), BrokerError> {
        let budget = self.budget();
        let Some(fetch) = self.fetches.get_mut(index) else { return Ok(()) };
        let (topic, mut head) = self.log.shared.locate(&fetch.partition)?;
        if fetch.next == head.end {
            fetch.broken = None;
            return Ok(());
        }
        if head.start <= fetch.next && fetch.next < head.end {
            let place = (topic, fetch.partition.partition.0);
            let range = (fetch.next, head.end);
            let fetched = database::fetch(&locked(&self.reader), place, range, budget)
                .map_err(|error| database::failed("read records", &error))?;
            if fetched.start <= fetch.next {
                fetch.broken = None;
                let last = fetched.records.last().map(|record| record.offset.after());
                let read_to = if fetched.complete { Some(head.end) } else { last };
                fetch.next = read_to.unwrap_or(fetch.next);
                self.buffered += fetched.records.iter().map(database::cost).sum::<usize>();
                fetch.buffer.extend(fetched.records);
                return Ok(());
            }
            head.start = fetched.start;
        }
        let error = BrokerError::OutOfRange {
            partition: fetch.partition.clone(),
            offset: fetch.next,
            earliest: head.start,
            latest: head.end,
        };
        fetch.report(error)
    }

    /// Bytes that one partition may prefetch now.
    fn budget(&self) -> usize {
        let active = self.fetches.iter().filter(|fetch| fetch.is_active()).count();
        let share = self.config.prefetch_bytes / active.max(1);
        share.min(self.config.prefetch_bytes.saturating_sub(self.buffered)).max(1)
    }

    /// There was nothing to deliver: says so for the next partition that is broken.
    fn idle(&mut self) -> Result<Polled, BrokerError> {
        let first = self.turn.0;
        let count = self.fetches.len();
        for index in (first..count).chain(0..first.min(count)) {
            let Some(fetch) = self.fetches.get(index).filter(|fetch| fetch.is_active()) else {
                continue;
            };
            if let Some(broken) = &fetch.broken {
                let error = broken.error.clone();
                self.pass_turn(index);
                return Err(error);
            }
        }
        Ok(Polled::Idle)
    }

    fn await_change(&self, wait: Duration) {
        let shared = &self.log.shared;
        shared.wait(wait, |state| {
            let ready = !self.held && self.fetches.iter().any(|fetch| fetch.is_ready(state));
            shared.version() == self.seen && !ready
        });
    }

    fn find(&mut self, partition: &TopicPartition) -> Option<&mut Fetch> {
        let index = self.fetches.binary_search_by(|fetch| fetch.partition.cmp(partition)).ok()?;
        self.fetches.get_mut(index)
    }
}

impl Fetch {
    fn report(&mut self, error: BrokerError) -> Result<(), BrokerError> {
        if let Some(broken) = &mut self.broken
            && broken.quiet > 0
        {
            broken.quiet -= 1;
            return Ok(());
        }
        self.broken = Some(Broken { error: error.clone(), quiet: QUIET_TURNS });
        Err(error)
    }
}

impl Consumer for EmbeddedConsumer {
    fn poll(&mut self, wait: Duration) -> Result<Polled, BrokerError> {
        if let Some(polled) = self.attempt()? {
            return Ok(polled);
        }
        self.await_change(wait);
        match self.attempt()? {
            Some(polled) => Ok(polled),
            None if self.held => Ok(Polled::Idle),
            None => self.idle(),
        }
    }

    fn poll_runs(
        &mut self,
        wait: Duration,
        most: usize,
        runs: &mut Vec<Run>,
    ) -> Result<(), BrokerError> {
        if self.attempt_runs(most, runs)? {
            return Ok(());
        }
        self.await_change(wait);
        let any = self.attempt_runs(most, runs)?;
        if any || self.held { Ok(()) } else { self.idle().map(drop) }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        for partition in partitions {
            let Some(fetch) = self.find(partition) else { continue };
            fetch.paused = true;
            let freed = fetch.drop_buffer();
            self.buffered -= freed;
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        for partition in partitions {
            if let Some(fetch) = self.find(partition) {
                fetch.paused = false;
            }
        }
        Ok(())
    }

    fn seek(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        for (partition, offset) in positions {
            let Some(fetch) = self.find(partition) else {
                return Err(BrokerError::Fatal(format!(
                    "cannot seek {partition}: it is not assigned to this consumer"
                )));
            };
            fetch.position = Some(*offset);
            fetch.broken = None;
            let freed = fetch.drop_buffer();
            self.buffered -= freed;
        }
        Ok(())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        let Some(member) = self.member else { return Ok(()) };
        let shared = &self.log.shared;
        let (held, gone): (Vec<_>, Vec<_>) = {
            let mut state = shared.state();
            let group = state.group(&self.group);
            let owns = |offset: &(TopicPartition, Offset)| {
                group.as_ref().is_some_and(|group| group.owns(member, &offset.0))
            };
            offsets.iter().cloned().partition(owns)
        };
        for (partition, offset) in gone {
            let group = &*self.group;
            tracing::warn!(%partition, %offset, group, "commit refused, the partition has moved");
        }
        if held.is_empty() { Ok(()) } else { shared.queue.commit(&self.group, &held, None) }
    }

    fn positions(&self) -> Arc<dyn Positions> {
        Arc::new(EmbeddedPositions::new(Arc::clone(&self.log), Arc::clone(&self.group)))
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        if let Some(member) = self.member {
            self.log.shared.update(|state| state.leave(&self.group, member));
        }
    }
}
