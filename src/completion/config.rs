//! Settings of manifests, receipts and their actions, validated.
//!
//! Responsible for: saying completely when a manifest is complete and what happens then.
//! Not responsible for: parsing or error messages (`topology`).

use std::time::Duration;

use crate::expr::Program;
use crate::model::{FailureClass, NodeName, Topic};
use crate::progress::deadline::{DeadlineAction, Extension};
use crate::progress::manifest::{Late, Share};

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
    /// Program for the version of that list, an integer or null; without it lists add up.
    pub version: Option<Program>,
    /// Attributes of the manifest.
    pub facts: Vec<(String, Program)>,
    /// When it is complete.
    pub policy: Policy,
    /// Failure classes that settle a member as done with a remark.
    pub accept: Vec<FailureClass>,
    /// What becomes of members that settle after a completion which did without them.
    pub late: Late,
    /// What happens when time runs out.
    pub deadlines: Vec<Deadline>,
    /// What happens on completion, in order.
    pub on_complete: Vec<Action>,
}

/// When a manifest is complete.
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// Every expected member is done or empty.
    #[default]
    AllDone,
    /// Every expected member is settled, and at most so many are dead-lettered.
    AllSettled {
        /// Tolerated dead-lettered members.
        tolerate: Share,
    },
    /// So many of the expected members are done or empty.
    Quorum(Share),
    /// A program over the counts of its members and its facts says so.
    Predicate(Program),
}

/// When time runs out.
#[derive(Clone, Debug)]
pub struct Deadline {
    /// When it is due.
    pub due: DeadlineDue,
    /// What happens then.
    pub action: DeadlineAction,
    /// How it is put off before that.
    pub extension: Option<Extension>,
}

/// When a deadline is due.
#[derive(Clone, Debug)]
pub enum DeadlineDue {
    /// So long after the last event of the manifest.
    Inactivity(Duration),
    /// So long after its first event.
    First(Duration),
    /// At the point in time that a program over the manifest's facts yields; never if that is
    /// null.
    At(Program),
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
    /// Retires objects, in the completion's transaction: they go away and stay away.
    Retire {
        /// Names them by their url in its first column, with `:name` parameters. It runs after
        /// the statements, whatever the order of the actions.
        query: String,
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
