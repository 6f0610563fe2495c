//! Which dead letters are meant, and which of them are kept.
//!
//! Responsible for: what a filter lets through; keeping the newest or the oldest of any number
//! within a bound.
//! Not responsible for: reading letters (`scan`).

use std::collections::{BTreeMap, BTreeSet};

use crate::ops::OpsError;
use crate::ops::dead_letters::letter::{LetterId, LetterLine};
use crate::ops::dead_letters::scan::Ranges;
use crate::ops::dead_letters::{DeadLetterFilter, LetterState};

/// Most letters that are listed or changed at once.
const MOST: u32 = 10_000;

/// A filter whose ids are read.
pub(super) struct Selection {
    ids: Option<BTreeSet<LetterId>>,
    filter: DeadLetterFilter,
}

impl Selection {
    /// What a listing shows.
    pub(super) fn new(filter: &DeadLetterFilter) -> Result<Self, OpsError> {
        let ids: BTreeSet<LetterId> =
            filter.ids.iter().map(|id| id.parse::<LetterId>()).collect::<Result<_, _>>()?;
        let ids = (!ids.is_empty()).then_some(ids);
        Ok(Self { ids, filter: filter.clone() })
    }

    /// This letter alone.
    pub(super) fn one(id: LetterId) -> Self {
        Self { ids: Some(BTreeSet::from([id])), filter: DeadLetterFilter::default() }
    }

    /// What a change is about. Letters that are not named by id have to be waiting, unless the
    /// filter says otherwise, and a filter that says nothing is refused: it would mean everything.
    pub(super) fn to_change(filter: &DeadLetterFilter) -> Result<Self, OpsError> {
        let nothing = DeadLetterFilter { limit: filter.limit, ..DeadLetterFilter::default() };
        if *filter == nothing {
            return Err(OpsError::Invalid(
                "nothing says which dead letters are meant: name them by id, or filter by node, \
                 class, manifest, member, time or state; the state waiting means all that wait"
                    .to_owned(),
            ));
        }
        let mut selection = Self::new(filter)?;
        if selection.ids.is_none() && selection.filter.state.is_none() {
            selection.filter.state = Some(LetterState::Waiting);
        }
        Ok(selection)
    }

    /// Letters that are named by id.
    pub(super) fn named(&self) -> Vec<LetterId> {
        self.ids.iter().flatten().copied().collect()
    }

    /// What has to be read.
    pub(super) fn ranges(&self) -> Ranges {
        self.ids.as_ref().map_or_else(Ranges::all, Ranges::around)
    }

    /// How many letters are kept.
    pub(super) fn most(&self) -> usize {
        let most = if self.filter.limit == 0 { MOST } else { self.filter.limit.min(MOST) };
        most as usize
    }

    /// Whether the letter may be meant, as far as its id says that.
    pub(super) fn names(&self, id: LetterId) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
    }

    /// Whether everything but its id fits.
    pub(super) fn lets_through(&self, line: &LetterLine) -> bool {
        let filter = &self.filter;
        let fits =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let recent = |since: i64| line.failed_at.is_some_and(|at| at.0 >= since);
        fits(&filter.node, &line.node)
            && fits(&filter.class, &line.class)
            && fits(&filter.manifest, &line.manifest)
            && fits(&filter.member, &line.member)
            && filter.since.is_none_or(recent)
            && filter.state.is_none_or(|state| state == line.state)
    }
}

/// Which letters stay when there are more than can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Those that failed last.
    Newest,
    /// Those that failed first.
    Oldest,
}

/// Letters within a bound.
pub(super) struct Kept {
    keep: Keep,
    most: usize,
    total: u64,
    /// By the time of the failure, then by place.
    lines: BTreeMap<(i64, LetterId), LetterLine>,
}

impl Kept {
    /// No letters, and room for `most`.
    pub(super) fn new(keep: Keep, most: usize) -> Self {
        Self { keep, most, total: 0, lines: BTreeMap::new() }
    }

    /// Adds a letter; another one goes if there is no room.
    pub(super) fn put(&mut self, id: LetterId, line: LetterLine) {
        self.total += 1;
        let at = line.failed_at.map_or(i64::MIN, |at| at.0);
        self.lines.insert((at, id), line);
        if self.lines.len() > self.most {
            match self.keep {
                Keep::Newest => self.lines.pop_first(),
                Keep::Oldest => self.lines.pop_last(),
            };
        }
    }

    /// How many were added.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many of them went.
    pub(super) fn left_out(&self) -> u64 {
        self.total - self.lines.len() as u64
    }

    /// The letters, newest failure first.
    pub(super) fn into_newest_first(self) -> Vec<LetterLine> {
        self.lines.into_values().rev().collect()
    }

    /// The letters, oldest failure first.
    pub(super) fn into_oldest_first(self) -> Vec<LetterLine> {
        self.lines.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogRecord, Offset};
    use crate::ops::time::Time;

    fn line(offset: i64, failed_at: i64) -> (LetterId, LetterLine) {
        let id = LetterId { partition: 0, offset };
        let record = LogRecord {
            offset: Offset(offset),
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let mut line = LetterLine::of(id, &record, (LetterState::Waiting, None));
        line.failed_at = Some(Time(failed_at));
        line.node = Some("rows".to_owned());
        line.manifest = Some("m".to_owned());
        (id, line)
    }

    fn ids(lines: &[LetterLine]) -> Vec<&str> {
        lines.iter().map(|line| line.id.as_str()).collect()
    }

    #[test]
    fn what_is_kept_is_bounded_and_counted() {
        let mut newest = Kept::new(Keep::Newest, 2);
        let mut oldest = Kept::new(Keep::Oldest, 2);
        for (offset, at) in [(1, 30), (2, 10), (3, 20)] {
            let (id, line) = line(offset, at);
            newest.put(id, line.clone());
            oldest.put(id, line);
        }
        assert_eq!((newest.total(), newest.left_out()), (3, 1));
        assert_eq!(ids(&newest.into_newest_first()), ["0-1", "0-3"]);
        assert_eq!(ids(&oldest.into_oldest_first()), ["0-2", "0-3"]);
    }

    #[test]
    fn whatever_a_filter_says_has_to_fit() {
        let (_, line) = line(1, 100);
        let text = |text: &str| Some(text.to_owned());
        let none = DeadLetterFilter::default;
        let table = [
            (none(), true),
            (DeadLetterFilter { node: text("rows"), ..none() }, true),
            (DeadLetterFilter { node: text("slim"), ..none() }, false),
            (DeadLetterFilter { class: text("unmatched"), ..none() }, false),
            (DeadLetterFilter { manifest: text("m"), since: Some(100), ..none() }, true),
            (DeadLetterFilter { manifest: text("m"), since: Some(101), ..none() }, false),
            (DeadLetterFilter { member: text("a"), manifest: text("m"), ..none() }, false),
            (DeadLetterFilter { state: Some(LetterState::Waiting), ..none() }, true),
            (DeadLetterFilter { state: Some(LetterState::Replayed), ..none() }, false),
        ];
        for (filter, wanted) in table {
            let found = Selection::new(&filter).unwrap().lets_through(&line);
            assert_eq!(found, wanted, "{filter:?}");
        }
    }

    #[test]
    fn a_change_means_waiting_letters_unless_they_are_named_or_it_says_otherwise() {
        let state = |filter: &DeadLetterFilter| Selection::to_change(filter).unwrap().filter.state;
        let none = DeadLetterFilter::default;
        let by_node = DeadLetterFilter { node: Some("rows".to_owned()), ..none() };
        assert_eq!(state(&by_node), Some(LetterState::Waiting));
        let discarded = DeadLetterFilter { state: Some(LetterState::Discarded), ..none() };
        assert_eq!(state(&discarded), Some(LetterState::Discarded));
        let by_id = DeadLetterFilter { ids: vec!["0-1".to_owned()], ..none() };
        assert_eq!(state(&by_id), None);
        let everything = Selection::to_change(&DeadLetterFilter { limit: 5, ..none() });
        assert!(matches!(everything.err(), Some(OpsError::Invalid(_))));
    }
}
