//! The CPU half of the Parquet sink.
//!
//! Responsible for: making objects of the columns that belong to one scope, holding them back
//! until the input record is committed, and handing them to the actor.
//! Not responsible for: where objects begin and end (`run`), or uploading them (`upload`).

use crate::model::{Body, Failure, FailureClass, NodeName, Outcome, PipelineName, Record};
use crate::progress::obligation::Obligation;
use crate::runtime::inbox::{Address, TrySendError};
use crate::runtime::node::{Duties, ScopeId, Stopped, Writer};
use crate::sink::config;
use crate::sink::parquet::object::{FinishedObject, properties};
use crate::sink::parquet::run::{Ledger, Plan, Run};
use crate::sink::parquet::segments::Segments;
use crate::spool::Spool;
use crate::spool::objects::Place;

/// The objects of one scope, to be settled together.
#[derive(Debug)]
pub struct ObjectPackage {
    /// The objects; at least one.
    pub objects: Vec<FinishedObject>,
    /// Settled when the last of them is durable.
    pub duty: Obligation,
}

/// What the actor receives.
pub type PackageBatch = Vec<ObjectPackage>;

/// Settings of a Parquet sink that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parquet sink {node} cannot be used: {why}")]
pub struct UnusableSink {
    /// The sink.
    pub node: NodeName,
    /// What is wrong.
    pub why: String,
}

/// What was accepted for one scope.
struct Accepted {
    scope: ScopeId,
    objects: Vec<FinishedObject>,
}

/// Turns columns into Parquet objects.
pub struct ParquetWriter {
    node: NodeName,
    plan: Plan,
    sink: Address<PackageBatch>,
    /// Rows that are being written.
    run: Option<Run>,
    ledger: Ledger,
    /// Of the current input record.
    accepted: Vec<Accepted>,
    /// Of input records that were committed and not flushed yet.
    committed: PackageBatch,
}

impl ParquetWriter {
    /// A writer of the sink `node` that hands over to the actor behind `sink`. Objects lie in
    /// `spool` until they are uploaded; its budget must be this sink's own.
    ///
    /// # Errors
    /// A compression level that zstd does not have.
    pub fn new(
        node: NodeName,
        pipeline: PipelineName,
        config: &config::ParquetSink,
        spool: Spool,
        sink: Address<PackageBatch>,
    ) -> Result<Self, UnusableSink> {
        let properties = properties(config.zstd, config.row_group_rows)
            .map_err(|error| UnusableSink { node: node.clone(), why: error.to_string() })?;
        let plan = Plan {
            pipeline,
            path: config.path.clone(),
            prefix_bytes: Place::parse(&config.url).map_or(0, |place| place.prefix().len()),
            columns: config.path.columns(),
            omit: config.omit.clone(),
            object_rows: config.object_rows,
            properties,
            segments: Segments::new(spool),
        };
        let (run, ledger) = (None, Ledger::default());
        let (accepted, committed) = (Vec::new(), Vec::new());
        Ok(Self { node, plan, sink, run, ledger, accepted, committed })
    }

    /// Ends the run, if there is one.
    fn close_run(&mut self) -> Result<(), Failure> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let scope = run.scope();
        let objects = run.close(&self.plan, &mut self.ledger)?;
        self.accepted_for(scope).objects.extend(objects);
        Ok(())
    }

    fn accepted_for(&mut self, scope: ScopeId) -> &mut Accepted {
        let index = match self.accepted.iter().position(|accepted| accepted.scope == scope) {
            Some(index) => index,
            None => {
                self.accepted.push(Accepted { scope, objects: Vec::new() });
                self.accepted.len() - 1
            }
        };
        &mut self.accepted[index]
    }

    fn forget_record(&mut self) {
        self.run = None;
        self.accepted.clear();
        self.ledger = Ledger::default();
        self.plan.segments.reset();
    }
}

impl Writer for ParquetWriter {
    fn accept(&mut self, mut record: Record, scope: ScopeId) -> Result<(), Failure> {
        let Body::Columns(columns) = std::mem::take(&mut record.body) else {
            let why = format!(
                "there are no columns in the record's body, read {} from a node with columns",
                self.node
            );
            return Err(Failure::poison(FailureClass::REJECTED, why));
        };
        self.accepted_for(scope);
        if columns.rows.num_rows() == 0 {
            return Ok(());
        }
        let schema = columns.rows.schema();
        let mut run = match self.run.take() {
            Some(run) if run.goes_on(scope, &record, &schema) => run,
            other => {
                self.run = other;
                self.close_run()?;
                Run::new(&self.plan, scope, &record, schema)?
            }
        };
        run.push(&self.plan, &mut self.ledger, &columns.rows)?;
        self.run = Some(run);
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        self.close_run()
    }

    fn commit(&mut self, duties: &Duties) {
        // Rows that nobody prepared cannot be delivered any more: they are abandoned.
        if let Some(run) = self.run.take() {
            drop(duties.part(run.scope()));
        }
        for Accepted { scope, objects } in std::mem::take(&mut self.accepted) {
            let duty = duties.part(scope);
            if objects.is_empty() {
                duty.settle(Outcome::Delivered);
            } else {
                self.committed.push(ObjectPackage { objects, duty });
            }
        }
        self.forget_record();
    }

    fn abort(&mut self) {
        self.forget_record();
        if self.committed.is_empty() {
            return;
        }
        // The record may have failed for want of spool, which the records before it still hold:
        // it would be tried again in vain for as long as they lie here.
        let committed = std::mem::take(&mut self.committed);
        if let Err(TrySendError::Full(back) | TrySendError::Closed(back)) =
            self.sink.try_send(committed)
        {
            self.committed = back;
        }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.committed.is_empty() {
            return Ok(());
        }
        self.sink.blocking_send(std::mem::take(&mut self.committed)).map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests;
