//! One manifest in memory, and its form in the store.
//!
//! Responsible for: what belongs to a manifest beside its members' states: facts, times, why it
//! completed; and translating both ways, so that a manifest that was stored and loaded goes on as
//! if it had never left.
//! Not responsible for: the rules (`progress::manifest`), or when it is stored (`draft`).
//!
//! Ids and facts of members are in the store. Kept here are those that are needed before the
//! member changes again: ids of dead-lettered members, which a completion names; what members
//! brought that settled before anybody expected them, because their row is written once more; ids
//! of all members and what they brought where a list may leave any of them out again; and urls of
//! objects that go if another attempt is accepted.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::event::{Expected, MemberFacts, MemberState, ProgressEvent};
use crate::model::{Digest, ManifestKey, MemberId, NodeName};
use crate::progress::deadline::{Moment, OwnedTime, Timing};
use crate::progress::manifest::{
    CompletedBy, EventCounts, Head, ManifestState, Member, MemberChange, MemberHash, Phase, Retire,
};
use crate::state::{ManifestPhase, ManifestRow, MemberRow, StoredManifest};

/// Bytes that an entry of a map takes beside what it points at, roughly.
const ENTRY_BYTES: usize = 64;
/// Bytes that one object of a member's facts takes, roughly.
const OBJECT_BYTES: usize = 320;

/// What is stored of a manifest in [`ManifestRow::extra`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Extra {
    /// When its deadlines count from.
    pub(super) timing: Timing,
    /// The shard's time when this was stored: a takeover goes on from the latest.
    pub(super) owned: OwnedTime,
    /// Why it was to complete, if that completion is blocked.
    pub(super) blocked: Option<CompletedBy>,
    /// The highest version of its list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i64>,
    /// Lists that came under an older version.
    pub(super) outdated: u64,
}

impl Extra {
    /// What `row` holds; a row without it has nothing that counts.
    pub(super) fn of(row: &ManifestRow) -> Self {
        Self::deserialize(&row.extra).unwrap_or_default()
    }
}

/// What is kept of a member whose row may be written again without an event of its own.
#[derive(Clone, Debug)]
struct Kept {
    id: MemberId,
    facts: MemberFacts,
    settled_at: Option<i64>,
}

/// Objects of an attempt that may lose against another one yet.
#[derive(Clone, Debug)]
struct Unsure {
    digest: Digest,
    urls: Vec<String>,
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
    kept: HashMap<MemberHash, Kept>,
    /// Whether all members are kept, because a list may leave them out.
    keeps_all: bool,
    unsure: HashMap<MemberHash, Unsure>,
    /// Bytes of the four maps, roughly.
    bytes: usize,
}

impl Held {
    /// A manifest about which nothing is known. `versioned` says whether its lists have versions.
    pub(super) fn new(kind: NodeName, versioned: bool, now: Moment) -> Self {
        Self {
            state: ManifestState::new(now),
            kind,
            facts: Map::new(),
            blocked: None,
            first_at: now.unix_millis,
            last_at: now.unix_millis,
            completed_at: None,
            note: None,
            failed: HashMap::new(),
            kept: HashMap::new(),
            keeps_all: versioned,
            unsure: HashMap::new(),
            bytes: 0,
        }
    }

    /// A manifest as it was stored. `versioned` says whether its lists have versions.
    pub(super) fn load(stored: StoredManifest, versioned: bool) -> Self {
        let StoredManifest { row, members } = stored;
        let extra = Extra::of(&row);
        let head = Head {
            phase: phase_of(row.phase),
            revision: row.revision.max(1),
            announced: row.announced,
            version: extra.version,
            timing: extra.timing,
            counts: EventCounts {
                duplicates: row.duplicates,
                conflicts: row.conflicts,
                late: row.late,
                outdated: extra.outdated,
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
            kept: HashMap::new(),
            keeps_all: versioned,
            unsure: HashMap::new(),
            bytes: 0,
        };
        held.bytes = json_bytes(&held.facts);
        for row in members {
            let hash = MemberHash::of(&row.member);
            held.keep_unsure(hash, row.state, row.digest, &row.facts);
            if row.state == MemberState::DeadLettered {
                held.keep_failed(hash, row.member.clone());
            }
            let is_early = !row.expected && row.state != MemberState::Pending;
            if is_early || versioned {
                let MemberRow { member: id, facts, settled_at, .. } = row;
                held.keep(hash, Kept { id, facts, settled_at });
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

    /// Adds the attributes of an announcement. What is known stays, the first one wins, unless the
    /// announcement `replaces` those before.
    pub(super) fn learn(&mut self, event: &Expected, replaces: bool) {
        for (name, value) in &event.facts {
            let unknown = self.facts.get(name).is_none_or(Value::is_null);
            if value.is_null() || !(unknown || replaces) {
                continue;
            }
            let before = self.facts.insert(name.clone(), value.clone());
            self.bytes += match before {
                Some(before) => value_bytes(value).saturating_sub(value_bytes(&before)),
                None => ENTRY_BYTES + name.len() + value_bytes(value),
            };
        }
    }

    /// The row of a member that an event changed; none if nobody knows its id, which is so only of
    /// a member that was listed before lists had versions.
    pub(super) fn member_row(
        &mut self,
        change: &MemberChange,
        event: &ProgressEvent,
    ) -> Option<MemberRow> {
        let kept = self.kept.remove(&change.hash);
        if let Some(kept) = &kept {
            self.bytes = self.bytes.saturating_sub(kept_bytes(kept));
        }
        let id = change.id.clone().or_else(|| kept.as_ref().map(|kept| kept.id.clone()))?;
        let (facts, settled_at) = match (event, kept) {
            (ProgressEvent::Settled(event), _) => (event.facts.clone(), Some(event.at)),
            (_, Some(kept)) => (kept.facts, kept.settled_at),
            (_, None) => (MemberFacts::default(), None),
        };
        let row = MemberRow {
            member: id,
            expected: change.member.expected,
            state: change.member.state,
            digest: change.member.digest,
            facts,
            settled_at,
        };
        self.keep_unsure(change.hash, row.state, row.digest, &row.facts);
        let is_early = !row.expected && row.state != MemberState::Pending;
        if is_early || self.keeps_all {
            let (id, facts) = (row.member.clone(), row.facts.clone());
            self.keep(change.hash, Kept { id, facts, settled_at });
        }
        if row.state == MemberState::DeadLettered {
            self.keep_failed(change.hash, row.member.clone());
        } else if let Some(id) = self.failed.remove(&change.hash) {
            self.bytes = self.bytes.saturating_sub(ENTRY_BYTES + id.as_str().len());
        }
        Some(row)
    }

    /// Objects of an attempt that has lost, as far as the member's row told of them.
    pub(super) fn lost_objects(&self, lost: &Retire) -> Vec<String> {
        let unsure = self.unsure.get(&lost.member).filter(|unsure| unsure.digest == lost.digest);
        unsure.map(|unsure| unsure.urls.clone()).unwrap_or_default()
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

    /// Its predicate was asked, and failed with `why` or with nothing; whether that is news.
    pub(super) fn asked(&mut self, why: Option<&str>) -> bool {
        if self.blocked.is_some() {
            return false;
        }
        let note = why.map(|why| format!("its predicate failed: {why}"));
        let is_news = note.is_some() && note != self.note;
        self.note = note;
        is_news
    }

    /// It was opened again, or never closed.
    pub(super) fn reopened(&mut self) {
        self.completed_at = None;
        self.note = None;
    }

    /// Its completion was refused by an action and rolled back: it is open as before.
    pub(super) fn block(&mut self, by: CompletedBy, why: &str) {
        let head = Head { phase: Phase::Open, ..self.state.head().clone() };
        let members: Vec<_> = self.state.members().iter().collect();
        self.state = ManifestState::load(head, members);
        self.completed_at = None;
        self.note = Some(format!("blocked: {why}"));
        self.blocked = Some(by);
    }

    /// Its form in the store.
    pub(super) fn row(&self, manifest: &ManifestKey, shard: i32, now: OwnedTime) -> ManifestRow {
        let head = self.state.head();
        let extra = Extra {
            timing: head.timing.clone(),
            owned: now,
            blocked: self.blocked,
            version: head.version,
            outdated: head.counts.outdated,
        };
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

    /// Keeps the objects of a member that another attempt may change, and no others.
    fn keep_unsure(
        &mut self,
        hash: MemberHash,
        state: MemberState,
        digest: Option<Digest>,
        facts: &MemberFacts,
    ) {
        if let Some(old) = self.unsure.remove(&hash) {
            self.bytes = self.bytes.saturating_sub(unsure_bytes(&old));
        }
        let Some(digest) = digest.filter(|_| state < MemberState::Done) else { return };
        if facts.objects.is_empty() {
            return;
        }
        let urls = facts.objects.iter().map(|object| object.url.clone()).collect();
        let unsure = Unsure { digest, urls };
        self.bytes += unsure_bytes(&unsure);
        self.unsure.insert(hash, unsure);
    }

    fn keep(&mut self, hash: MemberHash, kept: Kept) {
        self.bytes += kept_bytes(&kept);
        if let Some(old) = self.kept.insert(hash, kept) {
            self.bytes = self.bytes.saturating_sub(kept_bytes(&old));
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

fn kept_bytes(kept: &Kept) -> usize {
    let facts = &kept.facts;
    let counted = facts.rejected.len() + facts.mended.len();
    let failure = facts.failure.as_ref().map_or(0, |failure| failure.why.len());
    let objects = OBJECT_BYTES * facts.objects.len();
    size_of::<Kept>() + kept.id.as_str().len() + ENTRY_BYTES * (1 + counted) + objects + failure
}

fn unsure_bytes(unsure: &Unsure) -> usize {
    ENTRY_BYTES + unsure.urls.iter().map(|url| size_of::<String>() + url.len()).sum::<usize>()
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
