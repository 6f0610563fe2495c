//! The worker of a stage: one chain on one lane.
//!
//! Responsible for: running each record through the chain, and carrying out what the retry policy
//! decides about a failure: waiting for a dependency (which holds the lane back), trying again,
//! or giving the record to the dead letters.
//! Not responsible for: the decision (`progress::retry`), or hung records, which the pool takes
//! off the desk.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::model::{Failure, FailureClass, NodeName, Record};
use crate::processor::stage::{Broken, Chain};
use crate::progress::obligation::Owed;
use crate::progress::retry::{Attempts, RetryDecision, RetryPolicy};
use crate::runtime::inbox::Address;
use crate::runtime::jitter::jitter;
use crate::runtime::lanes::{Input, Origin};
use crate::runtime::node::Failed;
use crate::runtime::pool::{Claim, Desk, Worker};
use crate::telemetry::{Away, Instruments};

/// Builds the chain of a lane, at its start and after each panic.
pub type ChainFactory = Arc<dyn Fn() -> Chain + Send + Sync>;

/// What the workers of a stage share.
pub struct StageContext {
    /// The dead letters.
    pub failures: Address<Failed>,
    /// What becomes of failures.
    pub retry: RetryPolicy,
    /// Disconnected when everything has to stop: ends the wait for a dependency.
    pub stopping: Receiver<()>,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
}

/// The worker.
pub struct StageWorker {
    context: Arc<StageContext>,
    build: ChainFactory,
    chain: Chain,
}

impl StageWorker {
    /// A worker with a chain of its own.
    pub fn new(context: Arc<StageContext>, build: ChainFactory) -> Self {
        let chain = build();
        Self { context, build, chain }
    }

    /// The failure of a broken run; after a panic with a fresh chain.
    fn failure_of(&mut self, broken: &mut Broken) -> Failure {
        broken.failure.take().unwrap_or_else(|| {
            self.context.instruments.panics.add(1);
            self.chain = (self.build)();
            let why = format!("node {} panicked, the log has the panic's text", broken.node);
            Failure::poison(FailureClass::PANICKED, why)
        })
    }

    /// Waits before the next attempt; false if everything has to stop.
    fn wait(&self, delay: Duration, desk: &Desk<Owed<Input>>) -> bool {
        let _waiting = desk.protect();
        self.context.stopping.recv_timeout(delay) == Err(RecvTimeoutError::Timeout)
    }

    fn give_up(&self, broken: Broken, failure: Failure, attempts: u32, desk: &Desk<Owed<Input>>) {
        let Some(Claim { duty, origin }) = desk.give_up() else { return };
        let Origin { source, meta } = origin;
        let node = broken.node.clone();
        let failed = Failed { source, meta, node, failure, attempts, duty: broken.duty(duty) };
        let _waiting = desk.protect();
        // Closed means that the pipeline is stopping: the record is abandoned with it.
        let _ = self.context.failures.blocking_send(failed);
    }
}

impl Worker<Owed<Input>> for StageWorker {
    fn item(&mut self, item: Owed<Input>, desk: &Desk<Owed<Input>>) {
        let Input { entry, mut record } = item.value;
        let spare = Spare::of(&record);
        let mut attempts = Attempts::default();
        let mut unavailable: Option<Away> = None;
        loop {
            let mut broken = match self.chain.run(entry, record, &|| desk.beat()) {
                Ok(finished) => {
                    match desk.finish() {
                        Some(duty) => self.chain.commit(finished, duty),
                        None => self.chain.discard(finished),
                    }
                    return;
                }
                Err(broken) => broken,
            };
            let failure = self.failure_of(&mut broken);
            let delay = match attempts.failed(&self.context.retry, &failure, jitter()) {
                RetryDecision::RetryAfter(delay) => delay,
                RetryDecision::Unavailable { retry_after } => {
                    unavailable.get_or_insert_with(|| self.context.away(&broken.node, &failure));
                    retry_after
                }
                RetryDecision::DeadLetter => {
                    return self.give_up(broken, failure, attempts.own(), desk);
                }
            };
            // The scopes of this attempt never opened.
            drop(broken);
            if !self.wait(delay, desk) {
                return;
            }
            let Some(again) = spare.record(desk) else { return };
            record = again;
        }
    }

    fn end_of_batch(&mut self, desk: &Desk<Owed<Input>>) {
        let _waiting = desk.protect();
        if self.chain.flush().is_err() {
            tracing::debug!(lane = %desk.lane(), "stopping with output that nobody takes any more");
        }
    }
}

/// What a record is made from once more, should it have to be tried again. Most are not, so it
/// costs nothing where it can.
enum Spare {
    /// The record lies in the log as it came, and the desk knows where.
    Log,
    /// It was made by another stage.
    Copy(Record),
}

impl Spare {
    fn of(record: &Record) -> Self {
        if record.is_as_read() { Self::Log } else { Self::Copy(record.clone()) }
    }

    /// The record for another attempt; `None` if somebody else has settled it.
    fn record(&self, desk: &Desk<Owed<Input>>) -> Option<Record> {
        match self {
            Self::Log => desk.origin().map(|Origin { source, meta }| Record::as_read(source, meta)),
            Self::Copy(record) => Some(record.clone()),
        }
    }
}

impl StageContext {
    /// The node is unavailable for as long as what this returns lives.
    fn away(&self, node: &NodeName, failure: &Failure) -> Away {
        tracing::warn!(%node, error = %failure, "dependency away, trying on");
        self.instruments.unavailable.enter(node.as_str(), failure)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use crossbeam_channel::{Sender, bounded};

    use super::*;
    use crate::model::{
        Epoch, Fields, LogRecord, Metadata, Offset, Outcome, SourceBatch, SourceRef, TopicPartition,
    };
    use crate::processor::stage::{ChainNode, Step};
    use crate::progress::obligation::Scope;
    use crate::runtime::clock::ManualClock;
    use crate::runtime::inbox::{Inbox, inbox};
    use crate::runtime::node::{Emit, Transform};
    use crate::runtime::pool::work_inline;

    /// What a node saw: offset, source of the metadata, and fields.
    type Seen = Arc<Mutex<Vec<(Offset, Option<NodeName>, Fields)>>>;

    /// Fails so many times, then lets everything pass.
    struct Flaky {
        failures: Arc<AtomicU32>,
        seen: Seen,
    }

    impl Transform for Flaky {
        fn apply(&mut self, record: Record, _out: &mut dyn Emit) -> Result<(), Failure> {
            let Record { source, meta, fields, .. } = record;
            self.seen.lock().unwrap().push((source.offset(), meta.source.clone(), fields));
            let left = self.failures.load(Ordering::Relaxed);
            if left == 0 {
                return Ok(());
            }
            self.failures.store(left - 1, Ordering::Relaxed);
            let (class, why) = (FailureClass::REJECTED, "try again".to_owned());
            Err(Failure::Retriable { class, why, after: None })
        }
    }

    struct Fixture {
        worker: StageWorker,
        seen: Seen,
        dead: Inbox<Failed>,
        /// The worker waits between attempts as long as this lives.
        _running: Sender<()>,
    }

    /// A worker that makes three attempts at a record, which fails so many times.
    fn fixture(failures: u32) -> Fixture {
        let (running, stopping) = bounded(1);
        let (address, dead) = inbox("dead-letters", 1);
        let retry = RetryPolicy { attempts: 3, first: Duration::ZERO, ..RetryPolicy::default() };
        let instruments = Arc::default();
        let context = StageContext { failures: address, retry, stopping, instruments };
        let (seen, failures) = (Seen::default(), Arc::new(AtomicU32::new(failures)));
        let node = Flaky { failures, seen: seen.clone() };
        let build = move || {
            let (failures, seen) = (node.failures.clone(), node.seen.clone());
            let step = Step::Transform(Box::new(Flaky { failures, seen }));
            Chain::new(
                vec![ChainNode { name: "flaky".into(), step, outputs: vec![] }],
                vec![vec![0]],
            )
        };
        let worker = StageWorker::new(Arc::new(context), Arc::new(build));
        Fixture { worker, seen, dead, _running: running }
    }

    fn records() -> [Record; 2] {
        let log = |offset| LogRecord {
            offset: Offset(offset),
            timestamp: None,
            key: None,
            value: Some(Bytes::from(format!("{{\"offset\": {offset}}}"))),
            headers: Vec::new(),
        };
        let origin = TopicPartition::new("orders", 0);
        let batch = SourceBatch { origin, epoch: Epoch(1), records: vec![log(3), log(4)] };
        let batch = Arc::new(batch);
        let meta = Arc::new(Metadata { source: Some("orders".into()), ..Metadata::default() });
        let as_read = Record::as_read(SourceRef::new(batch.clone(), 1), meta.clone());
        let fields = Fields::Raw(Bytes::from_static(b"{}"));
        [as_read, Record::from_source(SourceRef::new(batch, 0), meta, fields)]
    }

    fn work(fixture: &mut Fixture, record: Record) -> Arc<Scope> {
        let (scope, mut duties) = Scope::open(1);
        let owed = Owed::new(Input { entry: 0, record }, duties.remove(0));
        work_inline(&mut fixture.worker, vec![owed], Arc::new(ManualClock::default()));
        scope
    }

    #[test]
    fn a_record_is_tried_again_as_it_was_wherever_it_comes_from() {
        for record in records() {
            let mut fixture = fixture(2);
            let scope = work(&mut fixture, record.clone());
            let Record { source, meta, fields, .. } = record;
            let once = (source.offset(), meta.source.clone(), fields);
            assert_eq!(*fixture.seen.lock().unwrap(), vec![once; 3]);
            assert_eq!(scope.outcome(0), Some(Outcome::Filtered));
        }
    }

    #[test]
    fn a_record_that_fails_for_good_goes_to_the_dead_letters_with_its_source() {
        for record in records() {
            let mut fixture = fixture(10);
            let scope = work(&mut fixture, record.clone());
            let failed = fixture.dead.blocking_recv().unwrap();
            assert_eq!((failed.source.offset(), failed.attempts), (record.source.offset(), 3));
            assert_eq!((failed.node.as_str(), &failed.meta), ("flaky", &record.meta));
            assert_eq!(scope.outcome(0), None, "whoever takes the dead letter settles it");
            failed.duty.settle(Outcome::DeadLettered);
            assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));
        }
    }
}
