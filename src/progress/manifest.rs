//! The state of one manifest, and what each event does to it.
//!
//! Responsible for: which members a manifest expects, how they ended, when it is complete (once
//! per revision), and what has to be persisted after each event.
//! Not responsible for: storing anything, actions of a completion, or which manifests are held in
//! memory (`completion`).
//!
//! Membership is a set, never a counter, so that any event may come again. Events may come in any
//! order: *expected* first, last, between or never; members before anybody expects them.
//!
//! ```text
//!           policy holds / deadline / force              fail (deadline)
//!   Complete ◀───────────────────────────── Open ───────────────────────▶ Failed
//!      │                                    ▲ ▲ └── cancel ──▶ Cancelled    │
//!      └── correction, amendment, reopen ───┘ └──────── reopen ──┴──────────┘
//!          (next revision)                        (same revision: never completed)
//! ```
//!
//! Two attempts at one member: the better state wins; at the same state the first digest wins and
//! another one is a *conflict*, except that a dead-lettered attempt has no content to conflict
//! with. Once a member is done its digest is final and those of other attempts are retired.
//!
//! After completion: an expected member that the completion did without (forced, deadline) is
//! *late*, dropped and counted; a better attempt at a member that it counted is a *correction*,
//! and newly expected members are an *amendment*: both open the next revision, under the same
//! policy. A member that nobody expects is kept, because an amendment may come after it. The rules
//! are those that users of other aggregators (Camel, Spring Integration, NiFi) do without: sets
//! instead of counts, tombstones that last, revisions, and a reason for every completion.

mod applied;
mod members;

use serde::{Deserialize, Serialize};

use super::deadline::{Deadline, DeadlineAction, OwnedTime, Timing};
use super::invariants::{Invariant, check};
use crate::model::MemberId;
use crate::model::event::{CommandAction, MemberState, ProgressEvent, Settled};

pub use applied::{Applied, Completion, Effect, MemberChange, Retire};
pub use members::{Member, MemberHash, Members, Tally};

/// When a manifest is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Every expected member is done or empty.
    #[default]
    AllDone,
    /// Every expected member is settled.
    AllSettled {
        /// Most dead-lettered members that are tolerated.
        tolerate: u64,
    },
}

impl Policy {
    /// Whether an announced manifest with such members is complete, and why.
    pub fn judge(self, tally: &Tally) -> Option<CompletedBy> {
        let tolerated = match self {
            Self::AllDone => 0,
            Self::AllSettled { tolerate } => tolerate,
        };
        match tally.dead_lettered {
            _ if tally.pending > 0 => None,
            0 => Some(CompletedBy::AllDone),
            dead if dead <= tolerated => Some(CompletedBy::Tolerated),
            _ => None,
        }
    }
}

/// What is declared for a kind of manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// When it is complete.
    pub policy: Policy,
    /// What happens when time runs out; those beyond
    /// [`MOST_DEADLINES`](super::deadline::MOST_DEADLINES) never act.
    pub deadlines: Vec<Deadline>,
}

/// Where a manifest stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for members.
    #[default]
    Open,
    /// Its present revision has completed.
    Complete,
    /// An operator gave it up.
    Cancelled,
    /// A deadline gave it up.
    Failed,
}

impl Phase {
    /// The word that listings show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Why a manifest completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompletedBy {
    /// Every expected member is done or empty.
    AllDone,
    /// Every expected member is settled, some are dead-lettered within what is tolerated.
    Tolerated,
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
            Self::Deadline => "deadline",
            Self::Forced => "forced",
        }
    }
}

/// Events of a manifest that changed none of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Said again what was known.
    pub duplicates: u64,
    /// Said something else of a member that had settled.
    pub conflicts: u64,
    /// Came after the manifest was complete, cancelled or failed.
    pub late: u64,
}

/// What is persisted of a manifest beside its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Where it stands.
    pub phase: Phase,
    /// The revision it completes under, or has completed under; from 1.
    pub revision: u32,
    /// Whether any *expected* event has arrived.
    pub announced: bool,
    /// When its deadlines count from.
    pub timing: Timing,
    /// Events that changed nothing.
    pub counts: EventCounts,
}

/// One manifest in memory.
#[derive(Clone, Debug)]
pub struct ManifestState {
    head: Head,
    members: Members,
    /// Whether no event was applied yet: the store does not know it.
    fresh: bool,
}

/// What another attempt at a member is, compared with what is known of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Better,
    Duplicate,
    Conflict,
}

impl Attempt {
    fn of(event: &Settled, known: Option<&Member>) -> Self {
        let Some((known, accepted)) = known.and_then(|known| Some((known, known.digest?))) else {
            return Self::First;
        };
        if event.state > known.state {
            Self::Better
        } else if event.digest == accepted || event.state == MemberState::DeadLettered {
            Self::Duplicate
        } else {
            Self::Conflict
        }
    }
}

impl ManifestState {
    /// A manifest that nothing is known of, about to get its first event at `now`.
    pub fn new(now: OwnedTime) -> Self {
        let head = Head {
            phase: Phase::Open,
            revision: 1,
            announced: false,
            timing: Timing::starting(now),
            counts: EventCounts::default(),
        };
        Self { head, members: Members::default(), fresh: true }
    }

    /// A manifest as the store has it.
    pub fn load(head: Head, members: impl IntoIterator<Item = (MemberHash, Member)>) -> Self {
        let mut set = Members::default();
        members.into_iter().for_each(|(hash, member)| set.put(hash, member));
        Self { head, members: set, fresh: false }
    }

    /// What is persisted beside the members.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.members.heap_bytes()
    }

    /// Applies one event of the progress topic.
    pub fn apply(&mut self, event: &ProgressEvent, rules: &Rules, now: OwnedTime) -> Applied {
        let before = self.head;
        let mut applied = Applied::default();
        match event {
            ProgressEvent::Expected(event) => {
                self.touch(rules, now);
                self.expect(&event.members, now, &mut applied);
            }
            ProgressEvent::Settled(event) if event.state == MemberState::Pending => {
                applied.refused = Some("a member cannot settle as pending");
            }
            ProgressEvent::Settled(event) => {
                self.touch(rules, now);
                self.settle(event, now, &mut applied);
            }
            ProgressEvent::Command(_) if self.fresh => {
                applied.refused = Some("no event of such a manifest has arrived");
            }
            ProgressEvent::Command(event) => self.command(event.action, now, &mut applied),
        }
        if applied.refused.is_none() {
            self.complete_if_policy_holds(rules, &mut applied);
        }
        self.conclude(before, applied)
    }

    /// Lets the next deadline act that is due at `now` (see
    /// [`ShardClock::due_time`](super::deadline::ShardClock::due_time)); `None` if there is none.
    /// Several may be due at once, so it has to be called until then.
    pub fn expire(&mut self, rules: &Rules, now: OwnedTime) -> Option<Applied> {
        if self.head.phase != Phase::Open {
            return None;
        }
        let before = self.head;
        let deadline = self.head.timing.take_due(&rules.deadlines, now)?;
        let mut applied = Applied::default();
        match deadline.action {
            DeadlineAction::Alert => applied.effect = Effect::Alert,
            DeadlineAction::Complete => self.complete(CompletedBy::Deadline, &mut applied),
            DeadlineAction::Fail => {
                self.head.phase = Phase::Failed;
                applied.effect = Effect::Failed;
            }
        }
        Some(self.conclude(before, applied))
    }

    /// When a deadline is due next.
    pub fn next_due(&self, rules: &Rules) -> Option<OwnedTime> {
        let open = self.head.phase == Phase::Open;
        open.then(|| self.head.timing.next_due(&rules.deadlines)).flatten()
    }

    fn touch(&mut self, rules: &Rules, now: OwnedTime) {
        if self.head.phase == Phase::Open {
            self.head.timing.touch(now, &rules.deadlines);
        }
    }

    fn expect(&mut self, ids: &[MemberId], now: OwnedTime, applied: &mut Applied) {
        for id in ids {
            let hash = MemberHash::of(id);
            let known = self.members.get(hash);
            let member = match known {
                Some(Member { expected: true, .. }) => continue,
                Some(member) => Member { expected: true, ..member },
                None => Member { expected: true, state: MemberState::Pending, digest: None },
            };
            self.put(id, hash, member, known.is_none(), applied);
        }
        let amended = !applied.members.is_empty();
        applied.duplicate = self.head.announced && !amended;
        self.head.announced = true;
        match self.head.phase {
            Phase::Complete if amended => self.reopen(now, applied),
            Phase::Cancelled | Phase::Failed => applied.late = true,
            Phase::Complete | Phase::Open => {}
        }
    }

    fn settle(&mut self, event: &Settled, now: OwnedTime, applied: &mut Applied) {
        let hash = MemberHash::of(&event.member);
        let known = self.members.get(hash);
        let expected = known.is_some_and(|member| member.expected);
        let attempt = Attempt::of(event, known.as_ref());
        let complete = self.head.phase == Phase::Complete;
        applied.unexpected = !expected;
        applied.late = self.head.phase != Phase::Open;
        match attempt {
            Attempt::First if complete && expected => {
                applied.retire.push(Retire { member: hash, digest: event.digest });
                return;
            }
            Attempt::First | Attempt::Better => {
                let member = Member { expected, state: event.state, digest: Some(event.digest) };
                self.put(&event.member, hash, member, known.is_none(), applied);
            }
            Attempt::Duplicate => applied.duplicate = true,
            Attempt::Conflict => applied.conflict = true,
        }
        applied.retire.extend(loser(event, attempt, known, hash));
        if complete && expected {
            // The completion counted this member: a better attempt corrects it, any other says
            // nothing new, and neither is late.
            applied.late = false;
            if attempt == Attempt::Better {
                self.reopen(now, applied);
            }
        }
    }

    fn command(&mut self, action: CommandAction, now: OwnedTime, applied: &mut Applied) {
        let has_completed = self.head.phase == Phase::Complete || self.head.revision > 1;
        match (action, self.head.phase) {
            (CommandAction::Force, Phase::Open | Phase::Failed) => {
                self.complete(CompletedBy::Forced, applied);
            }
            (CommandAction::Force, Phase::Cancelled) => {
                applied.refused = Some("it is cancelled: reopen it first");
            }
            (CommandAction::Cancel, Phase::Open | Phase::Failed) => {
                self.head.phase = Phase::Cancelled;
                applied.effect = Effect::Cancelled;
            }
            (CommandAction::Cancel, Phase::Complete) => {
                applied.refused = Some("it has completed: only an open manifest can be cancelled");
            }
            (CommandAction::Reopen, Phase::Complete | Phase::Cancelled | Phase::Failed) => {
                self.reopen(now, applied);
            }
            (CommandAction::Retry, _) if has_completed => applied.effect = Effect::RetryActions,
            (CommandAction::Retry, _) => {
                applied.refused = Some("it has not completed: there are no actions to retry");
            }
            (CommandAction::Force, Phase::Complete)
            | (CommandAction::Cancel, Phase::Cancelled)
            | (CommandAction::Reopen, Phase::Open) => applied.duplicate = true,
        }
    }

    fn put(
        &mut self,
        id: &MemberId,
        hash: MemberHash,
        member: Member,
        first_seen: bool,
        applied: &mut Applied,
    ) {
        self.members.put(hash, member);
        applied.members.push(MemberChange { id: id.clone(), hash, member, first_seen });
    }

    /// Opens it again: under the next revision if the present one has completed.
    fn reopen(&mut self, now: OwnedTime, applied: &mut Applied) {
        if self.head.phase == Phase::Complete {
            self.head.revision += 1;
        }
        self.head.phase = Phase::Open;
        self.head.timing = Timing::starting(now);
        applied.reopened = true;
    }

    fn complete_if_policy_holds(&mut self, rules: &Rules, applied: &mut Applied) {
        let open = self.head.phase == Phase::Open && self.head.announced;
        if let Some(why) = rules.policy.judge(&self.members.tally()).filter(|_| open) {
            self.complete(why, applied);
        }
    }

    fn complete(&mut self, why: CompletedBy, applied: &mut Applied) {
        let tally = self.members.recount();
        check(
            Invariant::Conservation,
            tally == self.members.tally(),
            format_args!("members {tally:?}, kept tally {:?}", self.members.tally()),
        );
        let dead = |(hash, member): (MemberHash, Member)| {
            (member.expected && member.state == MemberState::DeadLettered).then_some(hash)
        };
        self.head.phase = Phase::Complete;
        applied.effect = Effect::Completed(Completion {
            why,
            revision: self.head.revision,
            tally,
            dead_lettered: self.members.iter().filter_map(dead).collect(),
        });
    }

    /// Counts what an event was, and finds out whether the head has to be persisted.
    fn conclude(&mut self, before: Head, mut applied: Applied) -> Applied {
        if applied.refused.is_none() {
            let counts = &mut self.head.counts;
            counts.duplicates += u64::from(applied.duplicate);
            counts.conflicts += u64::from(applied.conflict);
            counts.late += u64::from(applied.late);
            applied.head_changed = self.fresh || self.head != before;
            self.fresh = false;
        }
        applied
    }
}

/// The attempt that lost against another one, once the member is done and its digest final.
fn loser(
    event: &Settled,
    attempt: Attempt,
    known: Option<Member>,
    hash: MemberHash,
) -> Option<Retire> {
    let known = known?;
    let accepted = known.digest?;
    let digest = match attempt {
        Attempt::Better if event.state == MemberState::Done => accepted,
        Attempt::Duplicate | Attempt::Conflict if known.state == MemberState::Done => event.digest,
        _ => return None,
    };
    (event.digest != accepted).then_some(Retire { member: hash, digest })
}

#[cfg(test)]
mod tests;
