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

mod cells;
mod comparison;
mod declared;
mod layout;
mod names;
pub mod postgres;
mod refusals;
mod rows;
pub mod sqlite;
mod stored;
mod table_rows;

pub use declared::{ColumnType, Declarations, DeclaredTable, DeclaredView, TableOwner};
pub use rows::{
    Applied, Backlog, BlockedCompletion, Change, Claimed, CompletionRow, ManifestDetail,
    ManifestFilter, ManifestPhase, ManifestRow, ManifestSummary, MemberRow, OutboxRow,
    OutboxStatus, OutboxTarget, Parameters, StoredManifest, TablePage, TableRows,
};

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::model::{Epoch, ManifestKey, Offset, PipelineName};
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

/// Which retired objects are due for deletion; milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredDue {
    /// Now.
    pub now: i64,
    /// When what is taken is due again.
    pub until: i64,
    /// Objects that were last deleted before this are looked for once more.
    pub swept_before: i64,
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

    /// Next offset of the progress partition that the owner of a shard will apply; `None` if
    /// nothing was ever applied to it. Whoever sent an event asks this to learn whether it was
    /// applied.
    fn position<'a>(
        &'a self,
        shard: &'a ShardKey,
    ) -> BoxFuture<'a, Result<Option<Offset>, StateError>>;

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

    /// Takes retired objects whose deletion is due: those that were not deleted since they were
    /// retired or named again, and those that were last deleted before `swept_before`. They are
    /// due again at `until` if nothing is heard of them. Returns their urls.
    fn claim_retired<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        due: RetiredDue,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<String>, StateError>>;

    /// Retired objects are gone from where they lay. Those that were named again since they were
    /// claimed stay due.
    fn objects_deleted<'a>(
        &'a self,
        pipeline: &'a PipelineName,
        urls: &'a [String],
        now: i64,
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

    /// What a pipeline has not got done yet.
    fn backlog<'a>(
        &'a self,
        pipeline: &'a PipelineName,
    ) -> BoxFuture<'a, Result<Backlog, StateError>>;

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
