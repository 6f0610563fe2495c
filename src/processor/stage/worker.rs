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

use crate::model::{Failure, FailureClass, NodeName};
use crate::processor::stage::{Broken, Chain};
use crate::progress::obligation::Owed;
use crate::progress::retry::{Attempts, RetryDecision, RetryPolicy};
use crate::runtime::inbox::Address;
use crate::runtime::jitter::jitter;
use crate::runtime::lanes::{Claim, Input};
use crate::runtime::node::Failed;
use crate::runtime::pool::{Desk, Worker};
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
        let Some(Claim { source, meta, duty }) = desk.finish() else { return };
        let node = broken.node.clone();
        let failed = Failed { source, meta, node, failure, attempts, duty: broken.duty(duty) };
        let _waiting = desk.protect();
        // Closed means that the pipeline is stopping: the record is abandoned with it.
        let _ = self.context.failures.blocking_send(failed);
    }
}

impl Worker<Owed<Input>> for StageWorker {
    fn item(&mut self, item: Owed<Input>, desk: &Desk<Owed<Input>>) {
        let Input { entry, record } = item.value;
        let mut attempts = Attempts::default();
        let mut unavailable: Option<Away> = None;
        loop {
            let mut broken = match self.chain.run(entry, record.clone(), &|| desk.beat()) {
                Ok(finished) => {
                    match desk.finish() {
                        Some(claim) => self.chain.commit(finished, claim.duty),
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
        }
    }

    fn end_of_batch(&mut self, desk: &Desk<Owed<Input>>) {
        let _waiting = desk.protect();
        if self.chain.flush().is_err() {
            tracing::debug!(lane = %desk.lane(), "stopping with output that nobody takes any more");
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
