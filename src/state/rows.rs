//! What the state store keeps and gives back, as values.
//!
//! Responsible for: manifests, members, changes, rows of tables and deliveries as they cross the
//! border of the store.
//! Not responsible for: how a store keeps them.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::model::event::{MemberFacts, MemberState};
use crate::model::{Digest, ManifestKey, MemberId, NodeName, Offset};

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
    /// Queries of `retire` actions with their action's name, in order: each names objects by their
    /// url in its first column. They run after the statements, and see what those changed.
    pub retire: Vec<(String, String)>,
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
    /// Objects of attempts that do not count, because other content was accepted for their member:
    /// the manifest and the object's url. Retired with this change.
    pub retired: Vec<(ManifestKey, String)>,
    /// Objects that were named by events which changed nothing. Whoever sent such an event may
    /// have written a retired object again, so those of them that are retired are due for deletion
    /// once more.
    pub named: Vec<String>,
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

/// What a pipeline has not got done yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries that are owed.
    pub undelivered: u64,
    /// Of those, deliveries whose last attempt failed.
    pub failing: u64,
    /// When the oldest of them came to be owed, milliseconds since the Unix epoch. Of deliveries
    /// from before that was noted it is unknown.
    pub oldest_at: Option<i64>,
    /// Manifests that are open.
    pub open: u64,
    /// Of those, manifests whose completion is blocked.
    pub blocked: u64,
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
