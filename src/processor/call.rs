//! Nodes that wait for something outside.
//!
//! **Role** runs a [`Call`] on each record, a bounded number at once, and hands on the results.
//! **Owns** the permits of the calls in flight.
//! **Receives** batches of records from the stage before it.
//! **Sends** records to the stage behind it, failed ones to the dead letters.
//! **On failure** it is rebuilt on the same inbox; records in its hands are abandoned and read
//! again.
//!
//! Responsible for: bounding calls in flight, and carrying out what the retry policy decides: an
//! unavailable dependency is tried without end, a failing record under its policy.
//! Not responsible for: the decision (`progress::retry`) or the call (`processor::fetch`).

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::Semaphore;

use crate::expr::fields;
use crate::model::{Failure, NodeName, Record};
use crate::processor::edge::Target;
use crate::progress::obligation::{Obligation, Owed};
use crate::progress::retry::{Attempts, RetryDecision, RetryPolicy};
use crate::runtime::exit::Lifeline;
use crate::runtime::inbox::{Address, Inbox};
use crate::runtime::jitter::jitter;
use crate::runtime::lanes::{Input, LaneBatch};
use crate::runtime::node::{Call, Failed};
use crate::telemetry::{Away, Instruments};

/// Where the results of a call go, by the target's own entry.
pub type NextStages = Vec<Target>;

/// What the actor needs; the same for every incarnation.
pub struct CallerContext {
    /// The node's name.
    pub node: NodeName,
    /// What it does.
    pub call: Arc<dyn Call>,
    /// Calls in flight at once.
    pub concurrency: usize,
    /// What becomes of failures.
    pub retry: RetryPolicy,
    /// Everything behind the node; each gets every record.
    pub next: NextStages,
    /// The dead letters.
    pub failures: Address<Failed>,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
}

impl CallerContext {
    async fn run(self: Arc<Self>, record: Record, duty: Obligation) {
        let mut attempts = Attempts::default();
        let mut waiting = None;
        loop {
            let failure = match self.call.call(record.clone()).await {
                Ok(result) => return self.hand_on(result, duty).await,
                Err(failure) => failure,
            };
            match attempts.failed(&self.retry, &failure, jitter()) {
                RetryDecision::RetryAfter(delay) => tokio::time::sleep(delay).await,
                RetryDecision::Unavailable { retry_after } => {
                    waiting.get_or_insert_with(|| self.away(&failure));
                    tokio::time::sleep(retry_after).await;
                }
                RetryDecision::DeadLetter => {
                    let Record { source, meta, .. } = record;
                    let (node, attempts) = (self.node.clone(), attempts.own());
                    let failed = Failed { source, meta, node, failure, attempts, duty };
                    // Closed means that the pipeline is stopping: the record is abandoned.
                    let _ = self.failures.send(failed).await;
                    return;
                }
            }
        }
    }

    /// The node is unavailable for as long as what this returns lives.
    fn away(&self, failure: &Failure) -> Away {
        tracing::warn!(node = %self.node, error = %failure, "dependency away, trying on");
        self.instruments.unavailable.enter(self.node.as_str(), failure)
    }

    async fn hand_on(&self, mut record: Record, duty: Obligation) {
        fields::freeze(&mut record);
        for target in &self.next {
            let input = Input { entry: target.entry(), record: record.clone() };
            // Closed means that the pipeline is stopping: the part is abandoned.
            let _ = target.send(vec![Owed::new(input, duty.fork())]).await;
        }
        duty.settle(crate::model::Outcome::Filtered);
    }
}

/// The actor.
pub struct Caller {
    /// The same for every incarnation.
    context: Arc<CallerContext>,
    /// One permit per call in flight.
    permits: Arc<Semaphore>,
    /// Filled by the stage before.
    batches: Inbox<LaneBatch>,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl Caller {
    /// An incarnation that reads from `batches`.
    pub fn new(context: Arc<CallerContext>, batches: Inbox<LaneBatch>, lifeline: Lifeline) -> Self {
        let permits = Arc::new(Semaphore::new(context.concurrency.max(1)));
        Self { context, permits, batches, _lifeline: lifeline }
    }
}

impl Actor for Caller {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.batches.attach::<Self>(ctx);
    }
}

impl StreamHandler<LaneBatch> for Caller {
    fn handle(&mut self, batch: LaneBatch, ctx: &mut Self::Context) {
        // Each record waits for a permit before the next batch is taken, so the inbox stays the
        // only queue. A call that runs is a task of its own: it holds its obligation, and may end
        // well even if this incarnation does not.
        let (permits, context) = (self.permits.clone(), self.context.clone());
        let admitted = async move {
            for Owed { value, duty } in batch {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let running = context.clone().run(value.record, duty);
                actix::spawn(async move {
                    running.await;
                    drop(permit);
                });
            }
        };
        ctx.wait(admitted.into_actor(self));
    }
}
