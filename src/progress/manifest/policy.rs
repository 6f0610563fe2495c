//! What is declared of a kind of manifest, and when such a manifest is complete.
//!
//! Responsible for: policies judged by tallies, and the reasons for which a manifest completes.
//! Not responsible for: asking a predicate (`completion`), or what an event changes (`manifest`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Tally;
use crate::progress::deadline::Deadline;

/// Hundredths of a percent in the whole.
const WHOLE: u128 = 10_000;

/// Some of the members that a manifest expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Members(u64),
    /// So many hundredths of a percent of them.
    Hundredths(u32),
}

impl Share {
    /// The most members that are no more than this.
    pub fn at_most(self, expected: u64) -> u64 {
        match self {
            Self::Members(members) => members,
            Self::Hundredths(part) => whole(u128::from(expected) * u128::from(part) / WHOLE),
        }
    }

    /// The fewest members that are no less than this. There are never more than all of them.
    pub fn at_least(self, expected: u64) -> u64 {
        let members = match self {
            Self::Members(members) => members,
            Self::Hundredths(part) => {
                whole((u128::from(expected) * u128::from(part)).div_ceil(WHOLE))
            }
        };
        members.min(expected)
    }
}

fn whole(members: u128) -> u64 {
    u64::try_from(members).unwrap_or(u64::MAX)
}

/// As a topology says it: `3`, `5%`, `2.5%`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members(members) => write!(f, "{members}"),
            Self::Hundredths(part) => write!(f, "{}%", f64::from(*part) / 100.0),
        }
    }
}

/// When a manifest is complete. Whatever the policy but a predicate, it is once every expected
/// member is done or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Every expected member is done or empty.
    #[default]
    AllDone,
    /// Every expected member is settled.
    AllSettled {
        /// Most dead-lettered members that are tolerated.
        tolerate: Share,
    },
    /// So many of the expected members are done or empty.
    Quorum(Share),
    /// Somebody who knows the manifest's facts says so.
    Predicate,
}

/// What a policy says of an announced manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits.
    Open,
    /// It is complete.
    Complete(CompletedBy),
    /// The predicate has to be asked.
    Ask,
}

impl Policy {
    /// Whether an announced manifest with such members is complete, and why.
    pub fn judge(self, tally: &Tally) -> Verdict {
        let good = tally.done + tally.empty;
        let by = match self {
            Self::Predicate => return Verdict::Ask,
            _ if good == tally.expected => Some(CompletedBy::AllDone),
            Self::AllDone => None,
            Self::AllSettled { tolerate } => {
                let tolerated = tally.dead_lettered <= tolerate.at_most(tally.expected);
                (tally.pending == 0 && tolerated).then_some(CompletedBy::Tolerated)
            }
            Self::Quorum(quorum) => {
                (good >= quorum.at_least(tally.expected)).then_some(CompletedBy::Quorum)
            }
        };
        by.map_or(Verdict::Open, Verdict::Complete)
    }
}

/// What becomes of an expected member that settles after a completion which did without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Late {
    /// It is dropped and counted.
    #[default]
    Drop,
    /// It opens the next revision.
    Revision,
}

/// What is declared for a kind of manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// When it is complete.
    pub policy: Policy,
    /// What happens when time runs out; those beyond
    /// [`MOST_DEADLINES`](crate::progress::deadline::MOST_DEADLINES) never act.
    pub deadlines: Vec<Deadline>,
    /// What becomes of late members.
    pub late: Late,
    /// Whether lists have versions: if not, those that events carry mean nothing.
    pub versioned: bool,
}

/// Why a manifest completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompletedBy {
    /// Every expected member is done or empty.
    AllDone,
    /// Every expected member is settled, some are dead-lettered within what is tolerated.
    Tolerated,
    /// Enough of the expected members are done or empty.
    Quorum,
    /// Its predicate holds.
    Predicate,
    /// Time ran out.
    Deadline,
    /// An operator wanted it.
    Forced,
}

impl CompletedBy {
    /// The word that listings and payloads show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllDone => "all_done",
            Self::Tolerated => "tolerated",
            Self::Quorum => "quorum",
            Self::Predicate => "predicate",
            Self::Deadline => "deadline",
            Self::Forced => "forced",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(done: u64, empty: u64, dead_lettered: u64, pending: u64) -> Tally {
        let expected = done + empty + dead_lettered + pending;
        Tally { expected, pending, dead_lettered, empty, done, unexpected: 7 }
    }

    #[test]
    fn a_policy_judges_as_the_table_says() {
        use CompletedBy::{AllDone, Quorum, Tolerated};
        let tolerating = |tolerate| Policy::AllSettled { tolerate };
        let (members, percent) = (Share::Members, |part: u32| Share::Hundredths(part * 100));
        // Policy, members done, empty, dead-lettered and pending, why it is complete.
        let table = [
            (Policy::AllDone, (0, 0, 0, 0), Some(AllDone)),
            (Policy::AllDone, (2, 1, 0, 0), Some(AllDone)),
            (Policy::AllDone, (2, 0, 0, 1), None),
            (Policy::AllDone, (2, 0, 1, 0), None),
            (tolerating(members(0)), (2, 0, 1, 0), None),
            (tolerating(members(1)), (2, 0, 1, 0), Some(Tolerated)),
            (tolerating(members(1)), (2, 0, 1, 1), None),
            (tolerating(members(1)), (3, 0, 0, 0), Some(AllDone)),
            (tolerating(percent(5)), (19, 0, 1, 0), Some(Tolerated)),
            (tolerating(percent(5)), (18, 0, 1, 0), None),
            (tolerating(percent(5)), (37, 0, 2, 0), None),
            (tolerating(percent(100)), (0, 0, 3, 0), Some(Tolerated)),
            (tolerating(percent(100)), (0, 0, 3, 1), None),
            (Policy::Quorum(members(3)), (2, 0, 0, 8), None),
            (Policy::Quorum(members(3)), (2, 1, 0, 7), Some(Quorum)),
            (Policy::Quorum(members(3)), (3, 0, 7, 0), Some(Quorum)),
            (Policy::Quorum(members(3)), (2, 0, 0, 0), Some(AllDone)),
            (Policy::Quorum(members(3)), (1, 0, 0, 1), None),
            (Policy::Quorum(percent(80)), (3, 0, 0, 1), None),
            (Policy::Quorum(percent(80)), (3, 1, 0, 1), Some(Quorum)),
            (Policy::Quorum(percent(80)), (4, 0, 1, 0), Some(Quorum)),
            (Policy::Quorum(percent(80)), (0, 0, 0, 0), Some(AllDone)),
        ];
        for (policy, (done, empty, dead, pending), why) in table {
            let tally = tally(done, empty, dead, pending);
            let wanted = why.map_or(Verdict::Open, Verdict::Complete);
            assert_eq!(policy.judge(&tally), wanted, "{policy:?} {tally:?}");
        }
    }

    #[test]
    fn a_predicate_is_asked_whatever_has_settled() {
        for tally in [tally(0, 0, 0, 0), tally(3, 0, 0, 0), tally(0, 0, 1, 2)] {
            assert_eq!(Policy::Predicate.judge(&tally), Verdict::Ask);
        }
    }

    #[test]
    fn a_share_is_shown_as_it_is_written() {
        let shown = [Share::Members(3), Share::Hundredths(500), Share::Hundredths(250)];
        assert_eq!(shown.map(|share| share.to_string()), ["3", "5%", "2.5%"]);
    }

    #[test]
    fn the_words_for_reasons_are_those_that_the_store_keeps() {
        use CompletedBy::{AllDone, Deadline, Forced, Predicate, Quorum, Tolerated};
        for why in [AllDone, Tolerated, Quorum, Predicate, Deadline, Forced] {
            assert_eq!(serde_json::to_value(why).unwrap(), why.as_str());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_part_is_rounded_to_the_safe_side(expected in any::<u64>(), part in 0u32..=10_000) {
            let share = Share::Hundredths(part);
            let exact = u128::from(expected) * u128::from(part);
            let (most, least) = (u128::from(share.at_most(expected)), share.at_least(expected));
            prop_assert!(most * WHOLE <= exact && exact < (most + 1) * WHOLE);
            let least = u128::from(least);
            prop_assert!(least * WHOLE >= exact && least <= u128::from(expected));
            prop_assert!(least == 0 || (least - 1) * WHOLE < exact);
        }

        #[test]
        fn more_members_done_never_open_a_manifest_again(
            done in 0u64..50, dead in 0u64..50, pending in 1u64..50, part in 0u32..=10_000,
        ) {
            for policy in [Policy::AllDone, Policy::Quorum(Share::Hundredths(part))] {
                if policy.judge(&tally(done, 0, dead, pending)) != Verdict::Open {
                    let more = policy.judge(&tally(done + 1, 0, dead, pending - 1));
                    prop_assert_ne!(more, Verdict::Open);
                }
            }
        }
    }
}
