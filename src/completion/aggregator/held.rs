//! One manifest in memory, and its form in the store.
//!
//! Responsible for: what belongs to a manifest beside its members' states: facts, times, why it
//! completed; and translating both ways, so that a manifest that was stored and loaded goes on as
//! if it had never left.
//! Not responsible for: the rules (`progress::manifest`), or when it is stored (`draft`).
//!
//! Ids and facts of members are in the store. Kept here are those that are needed before the
//! member changes again: ids of dead-lettered members, which a completion names, and what members
//! brought that settled before anybody expected them, because their row is written once more.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::event::{Expected, MemberFacts, MemberState, ProgressEvent};
use crate::model::{ManifestKey, MemberId, NodeName};
use crate::progress::deadline::{OwnedTime, Timing};
use crate::progress::manifest::{
    CompletedBy, EventCounts, Head, ManifestState, Member, MemberChange, MemberHash, Phase,
};
use crate::state::{ManifestPhase, ManifestRow, MemberRow, StoredManifest};

/// Bytes that an entry of a map takes beside what it points at, roughly.
const ENTRY_BYTES: usize = 64;
/// Bytes that one object of a member's facts takes, roughly.
const OBJECT_BYTES: usize = 320;

/// The time of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// On the shard's scale, for deadlines.
    pub(super) owned: OwnedTime,
    /// In milliseconds since the Unix epoch, for people.
    pub(super) unix_millis: i64,
}

/// What is stored of a manifest in [`ManifestRow::extra`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Extra {
    /// When its deadlines count from.
    pub(super) timing: Timing,
    /// The shard's time when this was stored: a takeover goes on from the latest.
    pub(super) owned: OwnedTime,
    /// Why it was to complete, if that completion is blocked.
    pub(super) blocked: Option<CompletedBy>,
}

impl Extra {
    /// What `row` holds; a row without it has nothing that counts.
    pub(super) fn of(row: &ManifestRow) -> Self {
        Self::deserialize(&row.extra).unwrap_or_default()
    }
}

/// What a member brought that nobody expects yet.
#[derive(Clone, Debug)]
struct Early {
    facts: MemberFacts,
    settled_at: Option<i64>,
}

/// A manifest in memory.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Its members and where it stands.
    pub(super) state: ManifestState,
    /// Name of its declaration.
    pub(super) kind: NodeName,
    /// Attributes from *expected* events.
    pub(super) facts: Map<String, Value>,
    /// Why it was to complete, if that completion is blocked.
    pub(super) blocked: Option<CompletedBy>,
    first_at: i64,
    last_at: i64,
    completed_at: Option<i64>,
    note: Option<String>,
    failed: HashMap<MemberHash, MemberId>,
    early: HashMap<MemberHash, Early>,
    /// Bytes of the three maps, roughly.
    bytes: usize,
}

impl Held {
    /// A manifest about which nothing is known.
    pub(super) fn new(kind: NodeName, now: Moment) -> Self {
        Self {
            state: ManifestState::new(now.owned),
            kind,
            facts: Map::new(),
            blocked: None,
            first_at: now.unix_millis,
            last_at: now.unix_millis,
            completed_at: None,
            note: None,
            failed: HashMap::new(),
            early: HashMap::new(),
            bytes: 0,
        }
    }

    /// A manifest as it was stored.
    pub(super) fn load(stored: StoredManifest) -> Self {
        let StoredManifest { row, members } = stored;
        let extra = Extra::of(&row);
        let head = Head {
            phase: phase_of(row.phase),
            revision: row.revision.max(1),
            announced: row.announced,
            timing: extra.timing,
            counts: EventCounts {
                duplicates: row.duplicates,
                conflicts: row.conflicts,
                late: row.late,
            },
        };
        let states = members.iter().map(|row| {
            let member = Member { expected: row.expected, state: row.state, digest: row.digest };
            (MemberHash::of(&row.member), member)
        });
        let mut held = Self {
            state: ManifestState::load(head, states),
            kind: row.kind,
            facts: row.facts,
            blocked: extra.blocked,
            first_at: row.first_at,
            last_at: row.last_at,
            completed_at: row.completed_at,
            note: row.note,
            failed: HashMap::new(),
            early: HashMap::new(),
            bytes: 0,
        };
        held.bytes = json_bytes(&held.facts);
        for row in members {
            let hash = MemberHash::of(&row.member);
            if !row.expected && row.state != MemberState::Pending {
                held.keep_early(hash, Early { facts: row.facts, settled_at: row.settled_at });
            }
            if row.state == MemberState::DeadLettered {
                held.keep_failed(hash, row.member);
            }
        }
        held
    }

    /// Bytes it takes in memory, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.state.memory_bytes() + self.bytes
    }

    /// An event was applied.
    pub(super) fn seen(&mut self, now: Moment) {
        self.last_at = self.last_at.max(now.unix_millis);
    }

    /// Adds the attributes of an announcement. What is known stays: the first one wins.
    pub(super) fn learn(&mut self, event: &Expected) {
        for (name, value) in &event.facts {
            let unknown = self.facts.get(name).is_none_or(Value::is_null);
            if unknown && !value.is_null() {
                self.facts.insert(name.clone(), value.clone());
                self.bytes += ENTRY_BYTES + name.len() + value_bytes(value);
            }
        }
    }

    /// The row of a member that an event changed.
    pub(super) fn member_row(&mut self, change: &MemberChange, event: &ProgressEvent) -> MemberRow {
        let (facts, settled_at) = match event {
            ProgressEvent::Settled(event) => (event.facts.clone(), Some(event.at)),
            ProgressEvent::Expected(_) | ProgressEvent::Command(_) => {
                match self.early.remove(&change.hash) {
                    Some(early) => {
                        self.bytes = self.bytes.saturating_sub(early_bytes(&early));
                        (early.facts, early.settled_at)
                    }
                    None => (MemberFacts::default(), None),
                }
            }
        };
        if !change.member.expected {
            self.keep_early(change.hash, Early { facts: facts.clone(), settled_at });
        }
        if change.member.state == MemberState::DeadLettered {
            self.keep_failed(change.hash, change.id.clone());
        } else if let Some(id) = self.failed.remove(&change.hash) {
            self.bytes = self.bytes.saturating_sub(ENTRY_BYTES + id.as_str().len());
        }
        MemberRow {
            member: change.id.clone(),
            expected: change.member.expected,
            state: change.member.state,
            digest: change.member.digest,
            facts,
            settled_at,
        }
    }

    /// Ids of these dead-lettered members.
    pub(super) fn failed_ids(&self, hashes: &[MemberHash]) -> Vec<&str> {
        hashes.iter().filter_map(|hash| self.failed.get(hash).map(MemberId::as_str)).collect()
    }

    /// It is complete.
    pub(super) fn complete(&mut self, note: String, now: Moment) {
        self.completed_at = Some(now.unix_millis);
        self.note = Some(note);
        self.blocked = None;
    }

    /// Something else than a completion is to be remembered of it.
    pub(super) fn remark(&mut self, note: String) {
        self.note = Some(note);
    }

    /// It was opened again, or never closed.
    pub(super) fn reopened(&mut self) {
        self.completed_at = None;
        self.note = None;
    }

    /// Its completion was refused by an action and rolled back: it is open as before.
    pub(super) fn block(&mut self, by: CompletedBy, why: &str) {
        let head = Head { phase: Phase::Open, ..*self.state.head() };
        let members: Vec<_> = self.state.members().iter().collect();
        self.state = ManifestState::load(head, members);
        self.completed_at = None;
        self.note = Some(format!("blocked: {why}"));
        self.blocked = Some(by);
    }

    /// Its form in the store.
    pub(super) fn row(&self, manifest: &ManifestKey, shard: i32, now: OwnedTime) -> ManifestRow {
        let head = self.state.head();
        let extra = Extra { timing: head.timing, owned: now, blocked: self.blocked };
        ManifestRow {
            manifest: manifest.clone(),
            kind: self.kind.clone(),
            shard,
            phase: phase_as_stored(head.phase),
            revision: head.revision,
            announced: head.announced,
            facts: self.facts.clone(),
            first_at: self.first_at,
            last_at: self.last_at,
            completed_at: self.completed_at,
            duplicates: head.counts.duplicates,
            conflicts: head.counts.conflicts,
            late: head.counts.late,
            note: self.note.clone(),
            extra: serde_json::to_value(extra).unwrap_or_default(),
        }
    }

    fn keep_early(&mut self, hash: MemberHash, early: Early) {
        self.bytes += early_bytes(&early);
        if let Some(old) = self.early.insert(hash, early) {
            self.bytes = self.bytes.saturating_sub(early_bytes(&old));
        }
    }

    fn keep_failed(&mut self, hash: MemberHash, id: MemberId) {
        let bytes = ENTRY_BYTES + id.as_str().len();
        if self.failed.insert(hash, id).is_none() {
            self.bytes += bytes;
        }
    }
}

fn phase_of(stored: ManifestPhase) -> Phase {
    match stored {
        ManifestPhase::Open => Phase::Open,
        ManifestPhase::Complete => Phase::Complete,
        ManifestPhase::Cancelled => Phase::Cancelled,
        ManifestPhase::Failed => Phase::Failed,
    }
}

fn phase_as_stored(phase: Phase) -> ManifestPhase {
    match phase {
        Phase::Open => ManifestPhase::Open,
        Phase::Complete => ManifestPhase::Complete,
        Phase::Cancelled => ManifestPhase::Cancelled,
        Phase::Failed => ManifestPhase::Failed,
    }
}

fn early_bytes(early: &Early) -> usize {
    let facts = &early.facts;
    let counted = facts.rejected.len() + facts.mended.len();
    let failure = facts.failure.as_ref().map_or(0, |failure| failure.why.len());
    size_of::<Early>() + ENTRY_BYTES * (1 + counted) + OBJECT_BYTES * facts.objects.len() + failure
}

fn json_bytes(object: &Map<String, Value>) -> usize {
    object.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => {
            values.iter().map(|value| size_of::<Value>() + value_bytes(value)).sum()
        }
        Value::Object(object) => json_bytes(object),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
