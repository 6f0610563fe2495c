//! One change of a shard while it is being put together.
//!
//! Responsible for: each manifest and each member once per change, whatever happened to it within
//! the batch, the objects that the change is about, and what is to be counted once it is durable.
//! Not responsible for: applying events (`ledger`), or storing the change (`state`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::event::Settled;
use crate::model::{ManifestKey, Offset};
use crate::progress::manifest::{CompletedBy, MemberHash};
use crate::state::{Change, CompletionRow, ManifestRow, MemberRow};
use crate::telemetry::Instruments;

/// Objects that a change is about before it ends; the last event may bring more.
const MOST_OBJECTS: usize = 10_000;

/// What is counted once a change is durable: not before, since a batch may be applied again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    events: u64,
    duplicates: u64,
    members: u64,
    rows: u64,
    bytes: u64,
}

impl Counts {
    /// An event was applied.
    pub(super) fn event(&mut self, duplicate: bool) {
        self.events += 1;
        self.duplicates += u64::from(duplicate);
    }

    /// A member settled, or settled better than before.
    pub(super) fn member(&mut self, event: &Settled) {
        self.members += 1;
        self.rows += event.facts.rows;
        self.bytes += event.facts.bytes;
    }

    /// Counts them for everybody to see.
    pub(super) fn publish(&self, instruments: &Instruments) {
        instruments.progress_events.add(self.events);
        instruments.duplicate_events.add(self.duplicates);
        instruments.members.add(self.members);
        instruments.rows_out.add(self.rows);
        instruments.member_bytes.add(self.bytes);
    }
}

/// A change that is being put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    touched: BTreeSet<ManifestKey>,
    members: Vec<(ManifestKey, MemberRow)>,
    places: HashMap<(ManifestKey, MemberHash), usize>,
    completions: Vec<CompletionRow>,
    completed: BTreeMap<ManifestKey, CompletedBy>,
    retired: Vec<(ManifestKey, String)>,
    named: Vec<String>,
    /// What is to be counted.
    pub(super) counts: Counts,
}

/// A change that is ready, and what it means beside what it stores.
pub(super) struct Drafted {
    /// What is stored.
    pub(super) change: Change,
    /// Manifests that it touches.
    pub(super) touched: BTreeSet<ManifestKey>,
    /// Manifests that it completes, and why.
    pub(super) completed: BTreeMap<ManifestKey, CompletedBy>,
    /// What is to be counted.
    pub(super) counts: Counts,
}

impl Drafted {
    /// Whether objects may be due for deletion because of it.
    pub(super) fn concerns_objects(&self) -> bool {
        let Change { completions, retired, named, .. } = &self.change;
        !retired.is_empty()
            || !named.is_empty()
            || completions.iter().any(|completion| !completion.retire.is_empty())
    }
}

impl Draft {
    /// A manifest has to be stored.
    pub(super) fn touch(&mut self, manifest: &ManifestKey) {
        if !self.touched.contains(manifest) {
            self.touched.insert(manifest.clone());
        }
    }

    /// A member has to be stored; a later row of the same member takes the place of this one.
    pub(super) fn member(&mut self, manifest: &ManifestKey, hash: MemberHash, row: MemberRow) {
        let next = self.members.len();
        let place = *self.places.entry((manifest.clone(), hash)).or_insert(next);
        if place == next {
            self.members.push((manifest.clone(), row));
        } else {
            self.members[place].1 = row;
        }
    }

    /// A manifest completes. Nothing else may happen to it within this change: the completion may
    /// be rolled back alone, and its row must be the last word on it.
    pub(super) fn complete(&mut self, row: CompletionRow, by: CompletedBy) {
        self.completed.insert(row.manifest.manifest.clone(), by);
        self.completions.push(row);
    }

    /// Objects of an attempt do not count.
    pub(super) fn retire(&mut self, manifest: &ManifestKey, urls: Vec<String>) {
        self.retired.extend(urls.into_iter().map(|url| (manifest.clone(), url)));
    }

    /// Objects may have been written again.
    pub(super) fn name(&mut self, urls: Vec<String>) {
        self.named.extend(urls);
    }

    /// Whether it is about so many objects that another change should begin.
    pub(super) fn is_full(&self) -> bool {
        self.retired.len() + self.named.len() >= MOST_OBJECTS
    }

    /// Whether a manifest completes in this change.
    pub(super) fn completes(&self, manifest: &ManifestKey) -> bool {
        self.completed.contains_key(manifest)
    }

    /// The change from one offset to another; `row` gives the present form of a manifest.
    pub(super) fn finish(
        self,
        (from, to): (Offset, Offset),
        row: impl Fn(&ManifestKey) -> Option<ManifestRow>,
    ) -> Drafted {
        let open = self.touched.iter().filter(|key| !self.completed.contains_key(*key));
        let change = Change {
            from,
            to,
            manifests: open.filter_map(row).collect(),
            members: self.members,
            completions: self.completions,
            retired: self.retired,
            named: self.named,
        };
        Drafted { change, touched: self.touched, completed: self.completed, counts: self.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_full_once_it_is_about_many_objects() {
        let mut draft = Draft::default();
        draft.name(vec!["url".to_owned(); MOST_OBJECTS - 1]);
        assert!(!draft.is_full());
        draft.retire(&ManifestKey::from("m"), vec!["url".to_owned()]);
        assert!(draft.is_full());
    }
}
