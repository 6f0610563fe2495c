//! The table sink.
//!
//! **Role** writes rows into a declared table and settles them when the transaction is committed.
//! **Owns** the rows that it is writing.
//! **Receives** batches of rows from the stages that end in it.
//! **Sends** rows to the state store, those that the table refuses to the dead letters.
//! **On failure** it is rebuilt on the same inbox; rows in its hands are abandoned and read again,
//! and what had been written by then is not written twice.
//!
//! Responsible for: a bounded number of writes at once, and waiting for a store that is away.
//! Not responsible for: making rows (`writer`), writing them once (`state`), or which attempt at
//! a member counts.

mod rows;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::model::{Failure, FailureClass, NodeName, Outcome};
use crate::progress::obligation::Owed;
use crate::progress::restart::Backoff;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{self, Guard, Point, crash_point};
use crate::runtime::inbox::{Address, Inbox};
use crate::runtime::jitter::jitter;
use crate::runtime::node::Failed;
use crate::state::{StateError, StateStore};
use crate::telemetry::Instruments;

pub use writer::{PendingRows, TableBatch, TableWriter};

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub struct TableSinkContext {
    /// Name of the sink.
    pub node: NodeName,
    /// Takes the rows.
    pub store: Arc<dyn StateStore>,
    /// Where rows go that the table refuses.
    pub failures: Address<Failed>,
    /// Writes at once.
    pub concurrency: usize,
    /// Delays while the store is away.
    pub backoff: Backoff,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
}

impl TableSinkContext {
    /// Writes what comes in, until nothing more can.
    async fn run(self, batches: Inbox<TableBatch>) {
        let mut batches = batches.open().await;
        let mut waiting: VecDeque<Owed<PendingRows>> = VecDeque::new();
        let mut writing: FuturesUnordered<LocalBoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut is_closed = false;
        loop {
            while writing.len() < self.concurrency.max(1)
                && let Some(next) = waiting.pop_front()
            {
                writing.push(Box::pin(self.clone().write(next)));
            }
            if is_closed && writing.is_empty() {
                return;
            }
            tokio::select! {
                Some(()) = writing.next() => {}
                // While rows wait, the next batch stays in the inbox: that is the backpressure.
                batch = batches.recv(), if waiting.is_empty() && !is_closed => match batch {
                    Some(batch) => waiting.extend(batch),
                    None => is_closed = true,
                },
            }
        }
    }

    async fn write(self, owed: Owed<PendingRows>) {
        let Owed { value: PendingRows { mut rows, source, meta }, duty } = owed;
        let duty = fault::until_durable(duty);
        if fault::is_off(Guard::RowRegistry) {
            // The registry has never heard of a sink of that name.
            rows.sink = uuid::Uuid::new_v4().to_string().into();
        }
        crash_point(Point::RowsWrite);
        let count: usize = rows.rows.iter().map(|batch| batch.num_rows()).sum();
        let mut away = None;
        let mut attempt = 0u32;
        let written = loop {
            match self.store.write_rows(rows.clone()).await {
                Err(error) if error.is_transient() => {
                    if away.is_none() {
                        tracing::warn!(sink = %self.node, %error, "the state store is away");
                        away = Some(self.instruments.unavailable.enter(self.node.as_str(), error));
                    }
                    tokio::time::sleep(self.backoff.delay(attempt, jitter())).await;
                    attempt = attempt.saturating_add(1);
                }
                written => break written,
            }
        };
        drop(away);
        match written {
            Ok(is_new) => {
                crash_point(Point::RowsWritten);
                if is_new {
                    self.instruments.records_out.add(count as u64);
                }
                duty.settle(Outcome::Delivered);
            }
            Err(StateError::Fatal(why) | StateError::Unavailable(why)) => {
                let why = format!("sink {} cannot write to its table: {why}", self.node);
                self.escalation.raise(Ending::Dependency, why);
                drop(duty);
            }
            Err(StateError::Mismatch(why)) => {
                let failure = Failure::poison(FailureClass::REJECTED, why);
                let node = self.node.clone();
                let failed = Failed { source, meta, node, failure, attempts: 1, duty };
                // Closed means that the pipeline is stopping: the record is abandoned with it.
                let _ = self.failures.send(failed).await;
            }
        }
    }
}

/// The actor.
pub struct TableSink {
    /// The same for every incarnation.
    context: TableSinkContext,
    /// Filled by the stages.
    batches: Inbox<TableBatch>,
    /// Tells the supervisor how this incarnation ended.
    lifeline: Lifeline,
}

impl TableSink {
    /// An incarnation that reads from `batches`.
    pub fn new(context: TableSinkContext, batches: Inbox<TableBatch>, lifeline: Lifeline) -> Self {
        Self { context, batches, lifeline }
    }
}

impl Actor for TableSink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Not attached as a stream: writes have to go on while the inbox is left alone.
        let running = self.context.clone().run(self.batches.clone()).into_actor(self);
        ctx.spawn(running.map(|(), actor, ctx| {
            actor.lifeline.finish();
            ctx.stop();
        }));
    }
}

#[cfg(test)]
mod tests;
