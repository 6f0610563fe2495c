//! Why is this manifest not complete? Or: why is it?
//!
//! Responsible for: what a manifest's stored state means: where it stands, who is missing, who
//! failed and where its record lies, what blocks its completion, which deliveries are owed.
//! Not responsible for: the words (`wording`), what to do about it (`advice`), the dead letters of
//! its members (`letters`), or finding it (`manifests`).
//!
//! All of it is derived from one state of the store and a point in time, so an explanation can be
//! had while the engine runs, and after it has died.

mod advice;
mod letters;
mod wording;

pub use letters::explain_with_letters;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::model::event::MemberState;
use crate::model::{ManifestKey, PipelineName, Topic};
use crate::ops::manifests::{blocked, find};
use crate::ops::text::Excerpt;
use crate::ops::time::{Age, Time};
use crate::ops::{Delivery, OpsError};
use crate::progress::deadline::Timing;
use crate::progress::manifest::CompletedBy;
use crate::state::{
    ManifestPhase, ManifestRow, MemberRow, OutboxStatus, StateStore, StoredManifest,
};

/// Members of each sort that are named; the others are counted.
const NAMED: usize = 10;
/// How the note of a blocked completion begins.
const BLOCKED: &str = "blocked: ";

/// Where a manifest stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Open: no *expected* event has arrived, so nobody knows which members there have to be.
    Unannounced,
    /// Open: expected members have not settled.
    WaitingForMembers,
    /// Open: all have settled, but more failed than its policy tolerates.
    TooManyFailures,
    /// Open: it would be complete, but one of its actions failed for good.
    Blocked,
    /// Open, with nothing to wait for: the next event completes it.
    Due,
    /// Complete.
    Complete,
    /// Given up by an operator.
    Cancelled,
    /// Given up by a deadline.
    Failed,
}

/// Members by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberCounts {
    /// Members that the manifest lists.
    pub expected: u64,
    /// Of those, done.
    pub done: u64,
    /// Of those, with nothing in them.
    pub empty: u64,
    /// Of those, dead-lettered.
    pub dead_lettered: u64,
    /// Of those, not settled.
    pub missing: u64,
    /// Settled members that it does not list.
    pub unexpected: u64,
}

impl MemberCounts {
    fn of(members: &[MemberRow]) -> Self {
        let mut counts = Self::default();
        for member in members {
            if !member.expected {
                counts.unexpected += u64::from(!is_pending(member));
                continue;
            }
            counts.expected += 1;
            *match member.state {
                MemberState::Done => &mut counts.done,
                MemberState::Empty => &mut counts.empty,
                MemberState::DeadLettered => &mut counts.dead_lettered,
                MemberState::Pending => &mut counts.missing,
            } += 1;
        }
        counts
    }
}

/// A member that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedMember {
    /// Its id.
    pub member: String,
    /// Whether the manifest lists it.
    pub expected: bool,
    /// Failure class.
    pub class: Option<String>,
    /// Node that gave it up.
    pub node: Option<String>,
    /// What failed.
    pub why: Option<String>,
    /// When it settled.
    pub settled_at: Option<Time>,
    /// Ids of its dead letters that wait, as far as they were looked for.
    #[serde(default)]
    pub dead_letters: Vec<String>,
}

impl FailedMember {
    fn of(row: &MemberRow) -> Self {
        let failure = row.facts.failure.as_ref();
        Self {
            member: row.member.to_string(),
            expected: row.expected,
            class: failure.map(|failure| failure.class.clone()),
            node: failure.map(|failure| failure.node.to_string()),
            why: failure.map(|failure| failure.why.clone()),
            settled_at: row.settled_at.map(Time),
            dead_letters: Vec::new(),
        }
    }
}

/// A completion that an action refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockedBy {
    /// What failed, the action's name first.
    pub error: String,
    /// For which reason the manifest was to complete.
    #[schema(value_type = String)]
    pub would_complete_by: CompletedBy,
}

/// Why a manifest is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The pipeline.
    pub pipeline: String,
    /// The manifest.
    pub manifest: String,
    /// Name of its declaration.
    pub kind: String,
    /// The progress partition that owns it.
    pub shard: i32,
    /// `open`, `complete`, `cancelled` or `failed`.
    pub phase: String,
    /// Where it stands, more exactly.
    pub standing: Standing,
    /// Revision that completes next, or that completed last; from 1.
    pub revision: u32,
    /// Whether an *expected* event has arrived.
    pub announced: bool,
    /// Attributes from *expected* events.
    #[schema(value_type = Object)]
    pub facts: Map<String, Value>,
    /// The point in time at which this was so.
    pub now: Time,
    /// First event.
    pub first_at: Time,
    /// Last event.
    pub last_at: Time,
    /// Milliseconds since the last event.
    pub quiet_ms: Age,
    /// Completion.
    pub completed_at: Option<Time>,
    /// Why it completed: `all_done`, `tolerated`, `quorum`, `predicate`, `deadline` or `forced`.
    #[schema(value_type = Option<String>)]
    pub completed_by: Option<CompletedBy>,
    /// Its members in numbers.
    pub members: MemberCounts,
    /// Expected members that have not settled.
    pub missing: Excerpt<String>,
    /// Dead-lettered members, expected or not.
    pub failed: Excerpt<FailedMember>,
    /// Members that failed in a way that its declaration accepts: they count as done.
    pub accepted: Excerpt<FailedMember>,
    /// Settled members that it does not list (yet).
    pub unexpected: Excerpt<String>,
    /// The topic that holds the source records of failed members; none if no member failed.
    pub dead_letters: Option<String>,
    /// What blocks its completion.
    pub blocked: Option<BlockedBy>,
    /// Whether one of its deadlines has passed.
    pub deadline_passed: bool,
    /// Events that changed nothing.
    pub duplicates: u64,
    /// Events that contradicted what was accepted.
    pub conflicts: u64,
    /// Events that came after its end.
    pub late: u64,
    /// Lists that came under an older version than the one known.
    #[serde(default)]
    pub outdated: u64,
    /// What the store remembers of its end in words.
    pub note: Option<String>,
    /// What its completions owe and have delivered, oldest first.
    pub deliveries: Vec<Delivery>,
    /// What to do next, in one sentence.
    pub next_step: String,
}

/// Explains a manifest. `dead_letters` is the dead-letter topic of the pipeline.
///
/// # Errors
/// [`OpsError::Unknown`], with keys that are like it, if there is none of that key.
pub async fn explain(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    key: &ManifestKey,
    dead_letters: &Topic,
    now: Time,
) -> Result<Explanation, OpsError> {
    let (stored, outbox) = find(store, pipeline, key).await?;
    Ok(Explanation::of(pipeline, &stored, &outbox, dead_letters, now))
}

impl Explanation {
    /// What the stored state of a manifest means at `now`.
    fn of(
        pipeline: &PipelineName,
        stored: &StoredManifest,
        outbox: &[OutboxStatus],
        dead_letters: &Topic,
        now: Time,
    ) -> Self {
        let StoredManifest { row, members } = stored;
        let counts = MemberCounts::of(members);
        let failed = failures(members, |member| member.state == MemberState::DeadLettered);
        let accepted = failures(members, was_accepted);
        let dead = !(failed.is_empty() && accepted.is_empty());
        let mut explanation = Self {
            pipeline: pipeline.to_string(),
            manifest: row.manifest.to_string(),
            kind: row.kind.to_string(),
            shard: row.shard,
            phase: row.phase.as_str().to_owned(),
            standing: standing(row, &counts),
            revision: row.revision,
            announced: row.announced,
            facts: row.facts.clone(),
            now,
            first_at: Time(row.first_at),
            last_at: Time(row.last_at),
            quiet_ms: Time(row.last_at).until(now),
            completed_at: row.completed_at.map(Time),
            completed_by: completed_by(row),
            members: counts,
            missing: ids(members, |member| member.expected && is_pending(member)),
            failed,
            accepted,
            unexpected: ids(members, |member| !member.expected && !is_pending(member)),
            dead_letters: dead.then(|| dead_letters.to_string()),
            blocked: blocked_by(row),
            deadline_passed: deadline_passed(row),
            duplicates: row.duplicates,
            conflicts: row.conflicts,
            late: row.late,
            outdated: row.extra.get("outdated").and_then(Value::as_u64).unwrap_or_default(),
            note: row.note.clone(),
            deliveries: Delivery::of(outbox),
            next_step: String::new(),
        };
        explanation.next_step = explanation.advice();
        explanation
    }
}

fn standing(row: &ManifestRow, counts: &MemberCounts) -> Standing {
    match row.phase {
        ManifestPhase::Complete => Standing::Complete,
        ManifestPhase::Cancelled => Standing::Cancelled,
        ManifestPhase::Failed => Standing::Failed,
        ManifestPhase::Open if blocked(row).is_some() => Standing::Blocked,
        ManifestPhase::Open if !row.announced => Standing::Unannounced,
        ManifestPhase::Open if counts.missing > 0 => Standing::WaitingForMembers,
        ManifestPhase::Open if counts.dead_lettered > 0 => Standing::TooManyFailures,
        ManifestPhase::Open => Standing::Due,
    }
}

fn completed_by(row: &ManifestRow) -> Option<CompletedBy> {
    let note = row.note.as_ref().filter(|_| row.phase == ManifestPhase::Complete)?;
    serde_json::from_value(Value::from(note.as_str())).ok()
}

fn blocked_by(row: &ManifestRow) -> Option<BlockedBy> {
    let would_complete_by = blocked(row)?;
    let note = row.note.as_deref().unwrap_or("no error was kept");
    let error = note.strip_prefix(BLOCKED).unwrap_or(note).to_owned();
    Some(BlockedBy { error, would_complete_by })
}

/// Whether a deadline has acted since the last event that set it back.
fn deadline_passed(row: &ManifestRow) -> bool {
    let timing = row.extra.get("timing").cloned().unwrap_or_default();
    serde_json::from_value::<Timing>(timing).is_ok_and(|timing| timing.acted != 0)
}

fn is_pending(member: &MemberRow) -> bool {
    member.state == MemberState::Pending
}

fn ids(members: &[MemberRow], wanted: impl Fn(&MemberRow) -> bool) -> Excerpt<String> {
    let found = members.iter().filter(|member| wanted(member));
    Excerpt::of(found.map(|member| member.member.to_string()), NAMED)
}

fn failures(members: &[MemberRow], wanted: impl Fn(&MemberRow) -> bool) -> Excerpt<FailedMember> {
    Excerpt::of(members.iter().filter(|member| wanted(member)).map(FailedMember::of), NAMED)
}

fn was_accepted(member: &MemberRow) -> bool {
    let counts = matches!(member.state, MemberState::Done | MemberState::Empty);
    counts && member.facts.failure.is_some()
}

#[cfg(test)]
mod tests;
