//! Manifests: which there are, what is in one, what one waits for.
//!
//! Responsible for: listings and details as data; and for a key that nobody knows, those that
//! were probably meant.
//! Not responsible for: saying why (`explanation`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::model::event::{MemberFacts, MemberState};
use crate::model::{Digest, ManifestKey, PipelineName};
use crate::ops::text::printable;
use crate::ops::time::Time;
use crate::ops::{Delivery, OpsError};
use crate::progress::manifest::CompletedBy;
use crate::state::{
    ManifestFilter, ManifestPhase, ManifestRow, ManifestSummary, MemberRow, OutboxStatus,
    StateStore, StoredManifest,
};

/// Keys that are suggested in place of an unknown one.
const SUGGESTED: usize = 3;
/// Newest manifests among which a misspelt key is looked for.
const LOOKED_AT: u32 = 1_000;

/// One manifest in a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ManifestLine {
    /// Its key.
    pub manifest: String,
    /// Name of its declaration.
    pub kind: String,
    /// `open`, `complete`, `cancelled` or `failed`.
    pub phase: String,
    /// Whether its completion is blocked by an action that failed.
    pub blocked: bool,
    /// Revision that completes next, or that completed last; from 1.
    pub revision: u32,
    /// Whether an *expected* event has arrived: without one, `expected` says nothing.
    pub announced: bool,
    /// Members that it lists.
    pub expected: u64,
    /// Of those, done or empty.
    pub done: u64,
    /// Of those, dead-lettered.
    pub dead_lettered: u64,
    /// Of those, not settled.
    pub missing: u64,
    /// Rows of settled members.
    pub rows: u64,
    /// First event.
    pub first_at: Time,
    /// Last event.
    pub last_at: Time,
    /// Completion.
    pub completed_at: Option<Time>,
    /// Why it completed, is blocked or was given up.
    pub note: Option<String>,
}

impl ManifestLine {
    fn new(row: &ManifestRow, counts: Counts) -> Self {
        let settled = counts.done.saturating_add(counts.dead_lettered);
        Self {
            manifest: row.manifest.to_string(),
            kind: row.kind.to_string(),
            phase: row.phase.as_str().to_owned(),
            blocked: blocked(row).is_some(),
            revision: row.revision,
            announced: row.announced,
            expected: counts.expected,
            done: counts.done,
            dead_lettered: counts.dead_lettered,
            missing: counts.expected.saturating_sub(settled),
            rows: counts.rows,
            first_at: Time(row.first_at),
            last_at: Time(row.last_at),
            completed_at: row.completed_at.map(Time),
            note: row.note.clone(),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    expected: u64,
    done: u64,
    dead_lettered: u64,
    rows: u64,
}

impl Counts {
    fn of(members: &[MemberRow]) -> Self {
        let mut counts = Self::default();
        for member in members {
            if member.state != MemberState::Pending {
                counts.rows = counts.rows.saturating_add(member.facts.rows);
            }
            if member.expected {
                counts.expected += 1;
                match member.state {
                    MemberState::Done | MemberState::Empty => counts.done += 1,
                    MemberState::DeadLettered => counts.dead_lettered += 1,
                    MemberState::Pending => {}
                }
            }
        }
        counts
    }
}

/// For which reason an open manifest was to complete when an action refused it.
pub(super) fn blocked(row: &ManifestRow) -> Option<CompletedBy> {
    let by = row.extra.get("blocked").filter(|_| row.phase == ManifestPhase::Open)?;
    serde_json::from_value(by.clone()).ok()
}

/// Manifests of a pipeline, newest event first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The manifests.
    pub manifests: Vec<ManifestLine>,
    /// Whether the limit left some out.
    pub more: bool,
}

/// Manifests of a pipeline that a filter lets through.
///
/// # Errors
/// If the store does not answer.
pub async fn list(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    filter: &ManifestFilter,
) -> Result<Listing, OpsError> {
    let limit = if filter.limit == 0 { 0 } else { filter.limit.saturating_add(1) };
    let found = store.manifests(pipeline, &ManifestFilter { limit, ..filter.clone() }).await?;
    let most = if filter.limit == 0 { found.len() } else { filter.limit as usize };
    let line = |ManifestSummary { row, expected, done, dead_lettered, rows }: &ManifestSummary| {
        let (expected, done, dead_lettered, rows) = (*expected, *done, *dead_lettered, *rows);
        ManifestLine::new(row, Counts { expected, done, dead_lettered, rows })
    };
    Ok(Listing { manifests: found.iter().take(most).map(line).collect(), more: found.len() > most })
}

/// One member of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberLine {
    /// Its id.
    pub member: String,
    /// Whether the manifest lists it.
    pub expected: bool,
    /// `pending`, `dead_lettered`, `empty` or `done`.
    pub state: String,
    /// The digest that was accepted.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// When it settled.
    pub settled_at: Option<Time>,
    /// What it brought with it: rows, objects, rejected rows, why it failed.
    #[schema(value_type = Object)]
    pub facts: MemberFacts,
}

impl From<MemberRow> for MemberLine {
    fn from(row: MemberRow) -> Self {
        Self {
            member: row.member.to_string(),
            expected: row.expected,
            state: row.state.as_str().to_owned(),
            digest: row.digest,
            settled_at: row.settled_at.map(Time),
            facts: row.facts,
        }
    }
}

/// One manifest with all that hangs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ManifestDetails {
    /// What a listing shows of it.
    #[serde(flatten)]
    pub line: ManifestLine,
    /// The pipeline.
    pub pipeline: String,
    /// The progress partition that owns it.
    pub shard: i32,
    /// Attributes from *expected* events.
    #[schema(value_type = Object)]
    pub facts: Map<String, Value>,
    /// Events that changed nothing.
    pub duplicates: u64,
    /// Events that contradicted what was accepted.
    pub conflicts: u64,
    /// Events that came after its end.
    pub late: u64,
    /// Its members, by id.
    pub members: Vec<MemberLine>,
    /// What its completions owe and have delivered, oldest first.
    pub deliveries: Vec<Delivery>,
}

/// Everything that is stored of one manifest.
///
/// # Errors
/// [`OpsError::Unknown`], with keys that are like it, if there is none of that key.
pub async fn show(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    key: &ManifestKey,
) -> Result<ManifestDetails, OpsError> {
    let (StoredManifest { row, members }, outbox) = find(store, pipeline, key).await?;
    Ok(ManifestDetails {
        line: ManifestLine::new(&row, Counts::of(&members)),
        pipeline: pipeline.to_string(),
        shard: row.shard,
        facts: row.facts,
        duplicates: row.duplicates,
        conflicts: row.conflicts,
        late: row.late,
        members: members.into_iter().map(MemberLine::from).collect(),
        deliveries: Delivery::of(&outbox),
    })
}

/// The members that a manifest waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// The pipeline.
    pub pipeline: String,
    /// The manifest.
    pub manifest: String,
    /// Whether it is known which members it expects.
    pub announced: bool,
    /// How many it expects.
    pub expected: u64,
    /// Ids of those that have not settled, sorted.
    pub missing: Vec<String>,
}

/// Which expected members of a manifest have not settled.
///
/// # Errors
/// [`OpsError::Unknown`], with keys that are like it, if there is none of that key.
pub async fn missing(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    key: &ManifestKey,
) -> Result<Missing, OpsError> {
    let (StoredManifest { row, members }, _) = find(store, pipeline, key).await?;
    let expected = || members.iter().filter(|member| member.expected);
    let pending = expected().filter(|member| member.state == MemberState::Pending);
    Ok(Missing {
        pipeline: pipeline.to_string(),
        manifest: row.manifest.to_string(),
        announced: row.announced,
        expected: expected().count() as u64,
        missing: pending.map(|member| member.member.to_string()).collect(),
    })
}

/// A manifest as it is stored, with its deliveries.
pub(super) async fn find(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    key: &ManifestKey,
) -> Result<(StoredManifest, Vec<OutboxStatus>), OpsError> {
    if let Some(found) = store.manifest(pipeline, key).await? {
        return Ok(found);
    }
    let close: Vec<String> =
        similar(store, pipeline, key).await?.iter().map(|key| printable(key)).collect();
    let hint = match close.as_slice() {
        [] => "`tidemill manifests list` shows those that there are".to_owned(),
        close => format!("did you mean {}?", close.join(" or ")),
    };
    let key = printable(key.as_str());
    Err(OpsError::Unknown(format!("pipeline {pipeline} has no manifest {key}; {hint}")))
}

/// Keys that begin like the wanted one, or else contain it or differ in few letters.
async fn similar(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    key: &ManifestKey,
) -> Result<Vec<String>, OpsError> {
    let limit = SUGGESTED as u32;
    let prefix = Some(key.to_string()).filter(|key| !key.is_empty());
    let filter = ManifestFilter { prefix, limit, ..ManifestFilter::default() };
    let begin = keys(store, pipeline, &filter).await?;
    if !begin.is_empty() {
        return Ok(begin);
    }
    let filter = ManifestFilter { limit: LOOKED_AT, ..ManifestFilter::default() };
    let known = keys(store, pipeline, &filter).await?.into_iter();
    let mut close: Vec<(usize, String)> =
        known.filter_map(|known| Some((distance(key.as_str(), &known)?, known))).collect();
    close.sort();
    Ok(close.into_iter().map(|(_, known)| known).take(SUGGESTED).collect())
}

/// How far a key is from the wanted one; `None` if it was not meant.
fn distance(wanted: &str, known: &str) -> Option<usize> {
    if known.contains(wanted) {
        return Some(0);
    }
    let letters = wanted.chars().count();
    let most = (letters / 3).max(1);
    if known.chars().count().abs_diff(letters) > most {
        return None;
    }
    Some(strsim::damerau_levenshtein(wanted, known)).filter(|distance| *distance <= most)
}

async fn keys(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    filter: &ManifestFilter,
) -> Result<Vec<String>, OpsError> {
    let found = store.manifests(pipeline, filter).await?;
    Ok(found.into_iter().map(|summary| summary.row.manifest.into()).collect())
}
