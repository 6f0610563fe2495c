//! The CPU half of the table sink.
//!
//! Responsible for: whose rows they are, collecting those of one scope, and holding them back
//! until the input record is committed.
//! Not responsible for: values and columns (`rows`), or writing (`table`).

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use vrl::value::Value;

use crate::expr::{Evaluator, Program, fields};
use crate::model::{
    Body, Digest, Failure, FailureClass, ManifestKey, MemberId, Metadata, NodeName, Outcome,
    PipelineName, Record, SourceRef,
};
use crate::progress::obligation::Owed;
use crate::runtime::handover::Handover;
use crate::runtime::inbox::Address;
use crate::runtime::node::{Duties, ScopeId, Stopped, Writer};
use crate::sink::config;
use crate::sink::table::rows::RowBuffer;
use crate::state::{DeclaredTable, TableOwner, TableRows};

/// Most bytes of rows that one input record may lead to. They are written in one transaction, so
/// they have to be in memory together.
const MAX_BYTES: usize = 64 << 20;

/// The rows of one scope, and what a dead letter would need.
#[derive(Debug)]
pub struct PendingRows {
    /// The rows; at least one.
    pub rows: TableRows,
    /// The record of the source that they were made from.
    pub source: SourceRef,
    /// What that was part of.
    pub meta: Arc<Metadata>,
}

/// What the actor receives.
pub type TableBatch = Vec<Owed<PendingRows>>;

/// Whose rows they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RowOwner {
    manifest: ManifestKey,
    member: Option<MemberId>,
    digest: Digest,
}

/// What was accepted for one scope.
struct Group {
    scope: ScopeId,
    owner: RowOwner,
    source: SourceRef,
    meta: Arc<Metadata>,
    rows: RowBuffer,
    /// What the rows come to, once they are prepared.
    batches: Vec<RecordBatch>,
}

/// Turns records into rows of a declared table.
pub struct TableWriter {
    node: NodeName,
    table: Arc<DeclaredTable>,
    /// Programs by the index of the column that they set.
    set: Vec<(usize, Program)>,
    evaluator: Evaluator,
    sink: Address<TableBatch>,
    accepted: Vec<Group>,
    bytes: usize,
    max_bytes: usize,
    committed: Handover<Owed<PendingRows>>,
}

impl TableWriter {
    /// A writer of the sink `node` that hands over to the actor behind `sink`; `committed` is the
    /// lane's. Programs for columns that `table` does not have are left out: a check of the
    /// topology.
    pub fn new(
        node: NodeName,
        pipeline: PipelineName,
        config: &config::TableSink,
        table: Arc<DeclaredTable>,
        sink: Address<TableBatch>,
        committed: Handover<Owed<PendingRows>>,
    ) -> Self {
        let set = config.set.iter().filter_map(|(name, program)| {
            let column = table.columns.iter().position(|(column, _)| column == name)?;
            Some((column, program.clone()))
        });
        let set = set.collect();
        Self {
            node,
            table,
            set,
            evaluator: Evaluator::new(pipeline),
            sink,
            accepted: Vec::new(),
            bytes: 0,
            max_bytes: MAX_BYTES,
            committed,
        }
    }

    /// The same with another limit of bytes for the rows of one input record.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    fn owner(&self, record: &Record) -> Result<RowOwner, Failure> {
        let meta = &record.meta;
        let member = match self.table.owner {
            TableOwner::Member => Some(meta.member.clone()),
            TableOwner::Manifest => Some(None),
            TableOwner::Key(_) => None,
        };
        let refused = |why: &str| {
            let why = format!("sink {} cannot write to {}: {why}", self.node, self.table.name);
            Failure::poison(FailureClass::REJECTED, why)
        };
        let Some(member) = member else {
            return Err(refused("a table with a key is written by actions only"));
        };
        if self.table.owner == TableOwner::Member && member.is_none() {
            return Err(refused("the record is no member of a manifest"));
        }
        let (Some(manifest), Some(digest)) = (meta.manifest.clone(), meta.digest) else {
            return Err(refused("the record belongs to no manifest"));
        };
        Ok(RowOwner { manifest, member, digest })
    }

    fn group(&mut self, scope: ScopeId, owner: RowOwner, record: &Record) -> &mut Group {
        let found =
            self.accepted.iter().position(|group| group.scope == scope && group.owner == owner);
        let index = found.unwrap_or_else(|| {
            self.accepted.push(Group {
                scope,
                owner,
                source: record.source.clone(),
                meta: record.meta.clone(),
                rows: RowBuffer::new(&self.table.columns),
                batches: Vec::new(),
            });
            self.accepted.len() - 1
        });
        &mut self.accepted[index]
    }

    fn rejected(&self, why: &str) -> Failure {
        let (node, table) = (&self.node, &self.table.name);
        let why = format!("sink {node} cannot write to {table}: {why}");
        Failure::poison(FailureClass::REJECTED, why)
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.max_bytes {
            return Ok(());
        }
        let why = format!(
            "the rows of one record for {} take more than {} bytes, aggregate them or write \
             objects",
            self.table.name, self.max_bytes
        );
        Err(Failure::poison(FailureClass::TOO_LARGE, why))
    }

    fn forget_record(&mut self) {
        self.accepted.clear();
        self.bytes = 0;
    }
}

impl Writer for TableWriter {
    fn accept(&mut self, mut record: Record, scope: ScopeId) -> Result<(), Failure> {
        let owner = self.owner(&record)?;
        let mut set: Vec<(usize, Value)> = Vec::with_capacity(self.set.len());
        for (column, program) in &self.set {
            set.push((*column, self.evaluator.run(program, &mut record)?));
        }
        let body = std::mem::take(&mut record.body);
        let group = self.group(scope, owner, &record);
        let pushed = match body {
            Body::Columns(columns) => group.rows.push_columns(&columns.rows, &set),
            // A body of bytes is no row; the fields that came with it are.
            Body::Empty | Body::Bytes(_) | Body::Blob(_) => {
                let tree = fields::into_tree(&mut record)?;
                group.rows.push(tree, &set)
            }
        };
        let bytes = pushed.map_err(|why| self.rejected(&why))?;
        self.charge(bytes)
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let mut accepted = std::mem::take(&mut self.accepted);
        for group in &mut accepted {
            let rows = std::mem::take(&mut group.rows);
            group.batches = rows.finish().map_err(|why| self.rejected(&why))?;
        }
        self.accepted = accepted;
        Ok(())
    }

    fn commit(&mut self, duties: &Duties) {
        for group in std::mem::take(&mut self.accepted) {
            let duty = duties.part(group.scope);
            if group.batches.is_empty() {
                duty.settle(Outcome::Delivered);
                continue;
            }
            let RowOwner { manifest, member, digest } = group.owner;
            let rows = TableRows {
                table: self.table.name.clone(),
                manifest,
                member,
                digest,
                sink: self.node.clone(),
                rows: group.batches,
            };
            let pending = PendingRows { rows, source: group.source, meta: group.meta };
            self.committed.extend([Owed::new(pending, duty)]);
        }
        self.forget_record();
    }

    fn abort(&mut self) {
        self.forget_record();
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let batch = self.committed.take();
        if batch.is_empty() {
            return Ok(());
        }
        self.sink.blocking_send(batch).map_err(|_| Stopped)
    }
}
