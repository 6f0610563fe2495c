//! The manifests of a shard that are in memory, and when deadlines of any are due.
//!
//! Responsible for: keeping them under a limit of bytes, the ones used last; and an index of
//! deadlines that also covers those that are not in memory.
//! Not responsible for: loading them (`owner`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::completion::aggregator::held::Held;
use crate::model::ManifestKey;
use crate::progress::deadline::{Moment, OwnedTime, Upcoming};

struct Slot {
    held: Held,
    /// When it was used last.
    used: u64,
    bytes: usize,
}

/// Manifests in memory.
#[derive(Default)]
pub(super) struct OpenManifests {
    slots: HashMap<ManifestKey, Slot>,
    by_use: BTreeMap<u64, ManifestKey>,
    uses: u64,
    bytes: usize,
}

impl OpenManifests {
    /// Whether it is in memory.
    pub(super) fn contains(&self, manifest: &ManifestKey) -> bool {
        self.slots.contains_key(manifest)
    }

    /// The manifest, if it is in memory.
    pub(super) fn get(&self, manifest: &ManifestKey) -> Option<&Held> {
        self.slots.get(manifest).map(|slot| &slot.held)
    }

    /// The manifest, if it is in memory; to be followed by [`OpenManifests::used`].
    pub(super) fn get_mut(&mut self, manifest: &ManifestKey) -> Option<&mut Held> {
        self.slots.get_mut(manifest).map(|slot| &mut slot.held)
    }

    /// Puts one in.
    pub(super) fn insert(&mut self, manifest: ManifestKey, held: Held) {
        self.remove(&manifest);
        self.uses += 1;
        let bytes = held.memory_bytes() + manifest.as_str().len();
        self.bytes += bytes;
        self.by_use.insert(self.uses, manifest.clone());
        self.slots.insert(manifest, Slot { held, used: self.uses, bytes });
    }

    /// It was used, and may take more memory than before.
    pub(super) fn used(&mut self, manifest: &ManifestKey) {
        let Some(slot) = self.slots.get_mut(manifest) else { return };
        let bytes = slot.held.memory_bytes() + manifest.as_str().len();
        self.bytes = (self.bytes - slot.bytes).saturating_add(bytes);
        slot.bytes = bytes;
        self.uses += 1;
        let before = std::mem::replace(&mut slot.used, self.uses);
        if let Some(key) = self.by_use.remove(&before) {
            self.by_use.insert(self.uses, key);
        }
    }

    /// Forgets the coldest ones until the others take no more than `limit` bytes. The one used
    /// last stays, however large.
    pub(super) fn evict(&mut self, limit: usize) {
        while self.bytes > limit && self.slots.len() > 1 {
            let Some((_, coldest)) = self.by_use.pop_first() else { return };
            self.remove(&coldest);
        }
    }

    fn remove(&mut self, manifest: &ManifestKey) {
        if let Some(slot) = self.slots.remove(manifest) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
    }
}

/// When the next deadline of each open manifest is due: one or two small entries each, in memory
/// or not.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// On the shard's scale.
    owned: Agenda<OwnedTime>,
    /// By the wall clock.
    wall: Agenda<i64>,
}

impl Deadlines {
    /// Sets when a manifest is to be looked at.
    pub(super) fn set(&mut self, manifest: &ManifestKey, due: Upcoming) {
        self.owned.set(manifest, due.owned);
        self.wall.set(manifest, due.wall);
    }

    /// At most `limit` manifests that are due at `now`, each once, the most urgent of each scale
    /// first.
    pub(super) fn due(&self, now: Moment, limit: usize) -> Vec<ManifestKey> {
        let mut due: Vec<ManifestKey> = self.owned.due(now.owned).take(limit).cloned().collect();
        for manifest in self.wall.due(now.unix_millis) {
            if due.len() == limit {
                break;
            }
            let is_there = self.owned.by_manifest.get(manifest).is_some_and(|at| *at <= now.owned);
            if !is_there {
                due.push(manifest.clone());
            }
        }
        due
    }

    /// The manifest that is due next on the shard's scale.
    pub(super) fn next(&self) -> Option<&ManifestKey> {
        self.owned.by_time.first().map(|(_, manifest)| manifest)
    }
}

/// When manifests are due, on one scale.
#[derive(Debug, Default)]
struct Agenda<T> {
    by_time: BTreeSet<(T, ManifestKey)>,
    by_manifest: HashMap<ManifestKey, T>,
}

impl<T: Copy + Ord> Agenda<T> {
    fn set(&mut self, manifest: &ManifestKey, due: Option<T>) {
        let before = match due {
            Some(due) => self.by_manifest.insert(manifest.clone(), due),
            None => self.by_manifest.remove(manifest),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, manifest.clone()));
        }
        if let Some(due) = due {
            self.by_time.insert((due, manifest.clone()));
        }
    }

    /// Those that are due at `now`, the most urgent first.
    fn due(&self, now: T) -> impl Iterator<Item = &ManifestKey> {
        let due = self.by_time.iter().take_while(move |(at, _)| *at <= now);
        due.map(|(_, manifest)| manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held::new("report".into(), false, Moment::default())
    }

    fn owned(at: u64) -> Upcoming {
        Upcoming { owned: Some(OwnedTime(at)), wall: None }
    }

    fn at(owned: u64, unix_millis: i64) -> Moment {
        Moment { owned: OwnedTime(owned), unix_millis }
    }

    fn key(name: &str) -> ManifestKey {
        ManifestKey::from(name)
    }

    #[test]
    fn the_coldest_go_first_and_the_last_one_used_stays() {
        let mut open = OpenManifests::default();
        for name in ["a", "b", "c"] {
            open.insert(key(name), held());
        }
        let one = open.bytes / 3;
        open.used(&key("a"));
        open.evict(one * 2);
        assert!(open.contains(&key("a")) && open.contains(&key("c")));
        assert!(!open.contains(&key("b")));
        open.evict(0);
        assert!(open.contains(&key("a")), "used last");
        assert_eq!((open.slots.len(), open.by_use.len(), open.bytes), (1, 1, one));
    }

    #[test]
    fn putting_one_in_again_does_not_count_it_twice() {
        let mut open = OpenManifests::default();
        open.insert(key("a"), held());
        let once = open.bytes;
        open.insert(key("a"), held());
        assert_eq!((open.bytes, open.by_use.len()), (once, 1));
    }

    #[test]
    fn deadlines_move_and_go() {
        let mut deadlines = Deadlines::default();
        deadlines.set(&key("a"), owned(5));
        deadlines.set(&key("b"), owned(3));
        assert_eq!(deadlines.next(), Some(&key("b")));
        assert_eq!(deadlines.due(at(5, 0), 9), [key("b"), key("a")]);
        assert_eq!(deadlines.due(at(5, 0), 1), [key("b")]);
        deadlines.set(&key("b"), owned(9));
        assert_eq!(deadlines.due(at(5, 0), 9), [key("a")]);
        deadlines.set(&key("a"), Upcoming::default());
        assert!(deadlines.due(at(8, 0), 9).is_empty());
        let Deadlines { owned, .. } = &deadlines;
        assert_eq!((owned.by_time.len(), owned.by_manifest.len()), (1, 1));
    }

    #[test]
    fn a_manifest_that_is_due_on_both_scales_is_named_once() {
        let mut deadlines = Deadlines::default();
        let both = Upcoming { owned: Some(OwnedTime(5)), wall: Some(70) };
        deadlines.set(&key("a"), both);
        deadlines.set(&key("b"), Upcoming { owned: None, wall: Some(60) });
        assert_eq!(deadlines.due(at(4, 70), 9), [key("b"), key("a")]);
        assert_eq!(deadlines.due(at(5, 70), 9), [key("a"), key("b")]);
        assert_eq!(deadlines.due(at(5, 70), 1), [key("a")]);
        assert!(deadlines.due(at(4, 59), 9).is_empty());
        assert_eq!(deadlines.next(), Some(&key("a")), "no wall clock keeps the shard's time");
    }
}
