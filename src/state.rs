//! The state store: what survives of manifests, their rows and the deliveries they owe.
//!
//! Responsible for: one trait, and its implementations: SQLite, the embedded default, and
//! Postgres. Leases that fence, changes that apply in one transaction or not at all, rows that
//! are written once per (manifest, member, digest), and the outbox.
//! Not responsible for: deciding what a change is (`progress::manifest`), or delivering actions
//! (`completion::dispatcher`).
//!
//! The protocol of leases, epochs and chained offsets follows DESIGN section 5: one row per
//! shard locks, fences and chains, and nothing else guards a single writer.

pub mod sqlite;

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::model::event::{MemberFacts, MemberState};
use crate::model::{Digest, Epoch, ManifestKey, MemberId, NodeName, Offset, PipelineName};
use crate::runtime::node::BoxFuture;

/// What the store refused or failed to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The store cannot be reached, is full or did not answer in time; trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored does not fit what the pipeline needs; somebody has to decide.
    #[error("{0}")]
    Mismatch(String),
    /// A fault that trying again cannot mend.
    #[error("{0}")]
    Fatal(String),
}

impl StateError {
    /// Whether another attempt may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// One partition of the progress topic of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardKey {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The partition.
    pub shard: i32,
}

/// Ownership of a shard. It has no expiry time: it ends when somebody else takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub key: ShardKey,
    /// Raised at each takeover.
    pub epoch: Epoch,
    /// Random per takeover: tells owners apart even after a restored backup.
    pub token: Uuid,
}

/// A shard that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The lease.
    pub lease: Lease,
    /// Next offset of the progress partition to apply; `None` if none ever was.
    pub next: Option<Offset>,
}

/// What is fixed for a pipeline from its first start on; another value refuses to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineIdentity {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Consumer group of its sources.
    pub group: String,
    /// Partitions of its progress topic.
    pub shards: i32,
}

/// Portable type of a declared column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Double,
    /// Boolean.
    Bool,
    /// Calendar day.
    Date,
    /// Point in time, UTC.
    Instant,
    /// JSON document.
    Json,
}

/// Whose rows a declared table holds, which decides the columns the engine adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableOwner {
    /// A member's: `_manifest`, `_member`, `_digest`. Readers see accepted digests only.
    Member,
    /// A manifest's: `_manifest`; written through its announcing record.
    Manifest,
    /// Actions'; these columns are the primary key.
    Key(Vec<String>),
}

/// A declared table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredTable {
    /// Its name.
    pub name: String,
    /// Whose rows it holds.
    pub owner: TableOwner,
    /// Its columns, in order.
    pub columns: Vec<(String, ColumnType)>,
}

/// A declared view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredView {
    /// Its name.
    pub name: String,
    /// Its query.
    pub query: String,
}

/// Everything a topology declares in the store's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declarations {
    /// Tables.
    pub tables: Vec<DeclaredTable>,
    /// Views, in the order in which they are created.
    pub views: Vec<DeclaredView>,
    /// Statements of `sql` actions, prepared at start so that mistakes show before any record.
    pub statements: Vec<String>,
}

/// A member as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRow {
    /// Its id.
    pub member: MemberId,
    /// Whether the manifest lists it.
    pub expected: bool,
    /// Its state.
    pub state: MemberState,
    /// The digest that was accepted, once settled.
    pub digest: Option<Digest>,
    /// What it brought with it.
    pub facts: MemberFacts,
    /// When it settled, milliseconds since the Unix epoch.
    pub settled_at: Option<i64>,
}

/// State of a manifest as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestPhase {
    /// Waiting for members.
    Open,
    /// Complete under its revision.
    Complete,
    /// Given up by an operator.
    Cancelled,
    /// Given up by a deadline.
    Failed,
}

impl ManifestPhase {
    /// The word that listings show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// A manifest as it is stored, without its members.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestRow {
    /// Its key.
    pub manifest: ManifestKey,
    /// Name of its declaration.
    pub kind: NodeName,
    /// The shard that owns it; another shard touching it is an error.
    pub shard: i32,
    /// Its phase.
    pub phase: ManifestPhase,
    /// Revision that completes next, or that completed last; from 1.
    pub revision: u32,
    /// Whether an *expected* event has been seen.
    pub announced: bool,
    /// Attributes from the *expected* event.
    pub facts: Map<String, Value>,
    /// First event, milliseconds since the Unix epoch.
    pub first_at: i64,
    /// Last event, milliseconds since the Unix epoch.
    pub last_at: i64,
    /// Completion, milliseconds since the Unix epoch.
    pub completed_at: Option<i64>,
    /// Events that changed nothing.
    pub duplicates: u64,
    /// Events that contradicted what was accepted.
    pub conflicts: u64,
    /// Members that settled after completion without changing it.
    pub late: u64,
    /// Why it completed, or why its completion is blocked.
    pub note: Option<String>,
    /// What else the owner of the shard needs to go on with it, opaque to the store: when its
    /// deadlines count from, and how its blocked completion came about.
    pub extra: Value,
}

/// A manifest with its members, loaded to go on with it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredManifest {
    /// The manifest.
    pub row: ManifestRow,
    /// Its members.
    pub members: Vec<MemberRow>,
}

/// Values that `:name` parameters of a statement are bound to.
pub type Parameters = BTreeMap<String, Value>;

/// A delivery that a completion owes.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxRow {
    /// The manifest.
    pub manifest: ManifestKey,
    /// Its revision.
    pub revision: u32,
    /// Name of the action.
    pub action: String,
    /// Number of the element, where the payload is an array.
    pub part: u32,
    /// What the receiver tells repeats apart by.
    pub idempotency_key: Uuid,
    /// Where to and what, as resolved at completion.
    pub target: OutboxTarget,
}

/// Where a delivery goes, and what it carries.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutboxTarget {
    /// A message.
    Kafka {
        /// Where to.
        topic: String,
        /// Its key.
        key: Option<String>,
        /// Its value.
        payload: Value,
    },
    /// A request.
    Http {
        /// Where to.
        url: String,
        /// Its JSON body.
        payload: Value,
    },
}

/// The actions of one completion, applied in a savepoint of their own: an error that will not
/// pass rolls back this completion alone.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRow {
    /// The manifest as it is once complete.
    pub manifest: ManifestRow,
    /// Statements of `sql` actions with their action's name, in order.
    pub statements: Vec<(String, String)>,
    /// What `:name` stands for.
    pub parameters: Parameters,
    /// Deliveries owed.
    pub outbox: Vec<OutboxRow>,
}

/// Everything one batch of progress events changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Offset at which the batch begins; has to be where the last one ended.
    pub from: Offset,
    /// Offset after the batch.
    pub to: Offset,
    /// Manifests that changed without completing.
    pub manifests: Vec<ManifestRow>,
    /// Members that changed, by manifest.
    pub members: Vec<(ManifestKey, MemberRow)>,
    /// Completions, in order.
    pub completions: Vec<CompletionRow>,
}

/// A completion whose actions failed and will fail again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedCompletion {
    /// The manifest.
    pub manifest: ManifestKey,
    /// What failed.
    pub why: String,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is durable; these completions of it are blocked and stored as such.
    Yes {
        /// Completions that were rolled back alone.
        blocked: Vec<BlockedCompletion>,
    },
    /// Somebody else owns the shard: nothing was changed.
    Fenced,
}

/// Rows of one member (or of a manifest's announcing record) for one declared table.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// The table.
    pub table: String,
    /// The manifest.
    pub manifest: ManifestKey,
    /// The member; `None` for rows of the manifest itself.
    pub member: Option<MemberId>,
    /// What makes two attempts the same.
    pub digest: Digest,
    /// Name of the sink: a member may be written by several.
    pub sink: NodeName,
    /// The rows. Columns are found by name; missing ones are null.
    pub rows: Vec<RecordBatch>,
}

/// A delivery taken out of the outbox for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Identity of the row.
    pub id: i64,
    /// The delivery.
    pub row: OutboxRow,
    /// Attempts made before this one.
    pub attempts: u32,
}

/// A delivery as listings show it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxStatus {
    /// The delivery.
    pub row: OutboxRow,
    /// Attempts made.
    pub attempts: u32,
    /// When it was delivered, milliseconds since the Unix epoch.
    pub delivered_at: Option<i64>,
    /// What the last attempt failed with.
    pub last_error: Option<String>,
}

/// A manifest as listings show it.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestSummary {
    /// The manifest.
    pub row: ManifestRow,
    /// Members listed.
    pub expected: u64,
    /// Of those, members done or empty.
    pub done: u64,
    /// Of those, members dead-lettered.
    pub dead_lettered: u64,
    /// Rows of settled members.
    pub rows: u64,
}

/// A manifest with its members and the deliveries it owes.
pub type ManifestDetail = (StoredManifest, Vec<OutboxStatus>);

/// Which manifests a listing shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestFilter {
    /// Only this phase.
    pub phase: Option<ManifestPhase>,
    /// Only keys that begin like this.
    pub prefix: Option<String>,
    /// At most so many; 0 is no limit.
    pub limit: u32,
}

/// Rows of a declared table or view.
#[derive(Clone, Debug, PartialEq)]
pub struct TablePage {
    /// Its columns, in order; known without any row.
    pub columns: Vec<String>,
    /// The rows, as JSON objects in the order of the columns.
    pub rows: Vec<Map<String, Value>>,
}

/// The state store of a pipeline.
///
/// Every call may be made again after [`StateError::Unavailable`]: what it changes is idempotent,
/// or chained, or fenced.
pub trait StateStore: Send + Sync {
    /// Checks the pipeline's identity, stores it at the first start, creates declared tables and
    /// views, compares those that exist, and prepares the statements.
    fn prepare<'a>(
        &'a self,
        identity: &'a PipelineIdentity,
        declared: &'a Declarations,
    ) -> BoxFuture<'a, Result<(), StateError>>;

    /// Takes a shard over from whoever owns it.
    fn take_over<'a>(&'a self, shard: &'a ShardKey) -> BoxFuture<'a, Result<Takeover, StateError>>;

    /// The stored state of these manifests; those that are unknown are left out. A manifest that
    /// belongs to another shard is a [`StateError::Mismatch`].
    fn load<'a>(
        &'a self,
        lease: &'a Lease,
        manifests: &'a [ManifestKey],
    ) -> BoxFuture<'a, Result<Vec<StoredManifest>, StateError>>;

    /// Applies a batch of progress events in one transaction.
    fn apply<'a>(
        &'a self,
        lease: &'a Lease,
        change: Change,
    ) -> BoxFuture<'a, Result<Applied, StateError>>;

    /// Writes rows, once per (table, sink, manifest, member, digest): true if they were written
    /// now, false if they had been before.
    fn write_rows<'a>(&'a self, rows: TableRows) -> BoxFuture<'a, Result<bool, StateError>>;

    /// Takes deliveries that are due and not behind an earlier revision of the same action; they
    /// are due again at `until` if nothing is heard of them. Times are milliseconds since the
    /// Unix epoch.
    fn claim<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        now: i64,
        until: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Claimed>, StateError>>;

    /// A delivery arrived.
    fn delivered(&self, id: i64, now: i64) -> BoxFuture<'_, Result<(), StateError>>;

    /// A delivery failed; it is due again at `retry_at`.
    fn failed<'a>(
        &'a self,
        id: i64,
        retry_at: i64,
        error: &'a str,
    ) -> BoxFuture<'a, Result<(), StateError>>;

    /// Manifests of a pipeline, newest event first.
    fn manifests<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        filter: &'a ManifestFilter,
    ) -> BoxFuture<'a, Result<Vec<ManifestSummary>, StateError>>;

    /// One manifest with its members and deliveries, or `None`.
    fn manifest<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        manifest: &'a ManifestKey,
    ) -> BoxFuture<'a, Result<Option<ManifestDetail>, StateError>>;

    /// All rows of a declared table or view, as JSON objects in the order of its columns.
    fn table<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Map<String, Value>>, StateError>>;

    /// The first rows of a declared table or view, at most `limit`; 0 is no limit.
    fn table_page<'a>(
        &'a self,
        name: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<TablePage, StateError>>;

    /// Names of the declared tables and views of all pipelines, sorted.
    fn tables(&self) -> BoxFuture<'_, Result<Vec<String>, StateError>>;

    /// Pipelines that have state here, sorted.
    fn pipelines(&self) -> BoxFuture<'_, Result<Vec<PipelineName>, StateError>>;
}
