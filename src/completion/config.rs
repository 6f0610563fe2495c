//! Settings of manifests, receipts and their actions, validated.
//!
//! Responsible for: saying completely when a manifest is complete and what happens then.
//! Not responsible for: parsing or error messages (`topology`).

use std::time::Duration;

use crate::expr::Program;
use crate::model::{FailureClass, NodeName, Topic};

/// `[receipts.NAME]`: one message for each record leaving a node, once all below it has settled.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Node whose records get receipts.
    pub of: NodeName,
    /// Topic of the receipts.
    pub topic: Topic,
    /// Program for the message; null sends none. Sees `%outcome` and `%error`.
    pub payload: Program,
}

/// `[manifests.NAME]`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Node each record of which is an *expected* event.
    pub announced_by: NodeName,
    /// Port of that node.
    pub announced_port: Option<String>,
    /// Node each record of which is a member.
    pub members: NodeName,
    /// Program for the manifest's key.
    pub key: Program,
    /// Program for the key of the progress topic; the manifest's key if absent.
    pub shard_by: Option<Program>,
    /// Program for a member's id.
    pub member: Program,
    /// Program for the ids expected.
    pub expected: Program,
    /// Attributes of the manifest.
    pub facts: Vec<(String, Program)>,
    /// When it is complete.
    pub policy: Policy,
    /// Failure classes that settle a member as done with a remark.
    pub accept: Vec<FailureClass>,
    /// What happens when time runs out.
    pub deadlines: Vec<Deadline>,
    /// What happens on completion, in order.
    pub on_complete: Vec<Action>,
}

/// When a manifest is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Policy {
    /// Every expected member is done or empty.
    #[default]
    AllDone,
    /// Every expected member is settled, and at most so many are dead-lettered.
    AllSettled {
        /// Tolerated number of dead-lettered members.
        tolerate: u64,
    },
}

/// When time runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// From when it counts.
    pub since: DeadlineSince,
    /// How long.
    pub after: Duration,
    /// What happens then.
    pub action: DeadlineAction,
}

/// From when a deadline counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineSince {
    /// The last event of the manifest.
    Inactivity,
    /// Its first event.
    First,
}

/// What a deadline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineAction {
    /// Says so, and leaves the manifest open.
    Alert,
    /// Completes it with what has settled.
    Complete,
    /// Gives it up.
    Fail,
}

/// One action of a completion.
#[derive(Clone, Debug)]
pub struct Action {
    /// Its name, unique within the manifest's declaration.
    pub name: String,
    /// What it does.
    pub kind: ActionKind,
}

/// What an action does.
#[derive(Clone, Debug)]
pub enum ActionKind {
    /// Runs statements in the completion's transaction.
    Sql {
        /// The statements, with `:name` parameters.
        statements: Vec<String>,
    },
    /// Produces a message.
    Kafka {
        /// Where to.
        topic: Topic,
        /// Program for the value; an array makes several messages.
        payload: Program,
        /// Program for the key.
        key: Option<Program>,
    },
    /// Sends a request.
    Http {
        /// Where to.
        url: String,
        /// Program for the JSON body.
        payload: Program,
    },
}

/// `[tables.NAME]`: a table the engine creates in the state store's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Whose rows it holds.
    pub owner: Owner,
    /// Its columns, in order.
    pub columns: Vec<(String, TableType)>,
}

/// Whose rows a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A member's: `_manifest`, `_member` and `_digest` are added.
    Member,
    /// A manifest's: `_manifest` is added.
    Manifest,
    /// Actions'; the key columns are unique.
    Key(Vec<String>),
}

/// Portable column types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableType {
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
    /// Point in time.
    Instant,
    /// JSON document.
    Json,
}

/// `[[views]]`: a named query, created in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The query.
    pub query: String,
}
