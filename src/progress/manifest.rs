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
//! Lists of expected members add up. Where they have versions, a list under a higher one takes the
//! place of those before: members that it leaves out are no longer expected, and what they came to
//! stays known. A list under a lower version is *outdated* and changes nothing, so that lists may
//! come in any order too.
//!
//! After completion: an expected member that the completion did without (forced, deadline, quorum)
//! is *late*, dropped and counted, or opens the next revision where that is declared; a better
//! attempt at a member that it counted is a *correction*; and a list that adds members, or leaves
//! out some that were counted, is an *amendment*. Corrections and amendments open the next
//! revision, under the same policy. A member that nobody expects is kept, because an amendment may
//! come after it. The rules are those that users of other aggregators (Camel, Spring Integration,
//! NiFi) do without: sets instead of counts, tombstones that last, revisions, and a reason for
//! every completion.
//!
//! Of two contents of one member the first stays, and there is no other policy: what lost is
//! retired, its objects go away, and an event that comes again must not bring it back.
//!
//! A predicate over facts is asked outside, because facts are not kept here; its answer comes in
//! as a value ([`ManifestState::decide`]).

mod applied;
mod attempt;
mod commands;
mod head;
mod members;
mod policy;

use std::collections::HashSet;
use std::time::Duration;

use self::attempt::Attempt;
use super::deadline::{DeadlineAction, Moment, Timing, Turn, Upcoming};
use super::invariants::{Invariant, check};
use crate::model::MemberId;
use crate::model::event::{CommandAction, Expected, MemberState, ProgressEvent, Settled};

pub use applied::{Applied, Completion, Effect, MemberChange, Retire};
pub use commands::{Foreseen, foresee};
pub use head::{EventCounts, Head, Phase};
pub use members::{Member, MemberHash, Members, Tally};
pub use policy::{CompletedBy, Late, Policy, Rules, Share, Verdict};

/// One manifest in memory.
#[derive(Clone, Debug)]
pub struct ManifestState {
    head: Head,
    members: Members,
    /// Whether no event was applied yet: the store does not know it.
    fresh: bool,
}

impl ManifestState {
    /// A manifest that nothing is known of, about to get its first event at `now`.
    pub fn new(now: Moment) -> Self {
        let head = Head {
            phase: Phase::Open,
            revision: 1,
            announced: false,
            version: None,
            timing: Timing::starting(now.owned),
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
        size_of::<Self>() + self.members.heap_bytes() + self.head.timing.heap_bytes()
    }

    /// Applies one event of the progress topic.
    pub fn apply(&mut self, event: &ProgressEvent, rules: &Rules, now: Moment) -> Applied {
        let before = self.head.clone();
        let mut applied = Applied::default();
        match event {
            ProgressEvent::Expected(event) => {
                self.touch(rules, now);
                self.expect(event, rules, now, &mut applied);
            }
            ProgressEvent::Settled(event) if event.state == MemberState::Pending => {
                applied.refused = Some("a member cannot settle as pending");
            }
            ProgressEvent::Settled(event) => {
                self.touch(rules, now);
                self.settle(event, rules, now, &mut applied);
            }
            ProgressEvent::Command(_) if self.fresh => {
                applied.refused = Some("no event of such a manifest has arrived");
            }
            ProgressEvent::Command(event) => self.command(event.action, rules, now, &mut applied),
        }
        if applied.refused.is_none() {
            self.judge(rules, &mut applied);
        }
        self.conclude(before, applied)
    }

    /// What the predicate says of an open manifest, once it was asked after an event (see
    /// [`Applied::ask`]). If that completes the manifest, its head has to be persisted.
    pub fn decide(&mut self, holds: bool) -> Option<Completion> {
        let open = self.head.phase == Phase::Open && self.head.announced;
        (holds && open).then(|| self.complete(CompletedBy::Predicate))
    }

    /// Lets the next deadline act that is due at `now` (see
    /// [`ShardClock::due_time`](super::deadline::ShardClock::due_time)); `None` if there is none.
    /// Several may be due at once, so it has to be called until then.
    pub fn expire(&mut self, rules: &Rules, now: Moment) -> Option<Applied> {
        if self.head.phase != Phase::Open {
            return None;
        }
        let before = self.head.clone();
        let turn = self.head.timing.take_due(&rules.deadlines, now)?;
        let effect = match turn {
            Turn::PutOff => Effect::PutOff,
            Turn::Acts(DeadlineAction::Alert) => Effect::Alert,
            Turn::Acts(DeadlineAction::Complete) => {
                Effect::Completed(self.complete(CompletedBy::Deadline))
            }
            Turn::Acts(DeadlineAction::Fail) => {
                self.head.phase = Phase::Failed;
                Effect::Failed
            }
        };
        Some(self.conclude(before, Applied { effect, ..Applied::default() }))
    }

    /// When a deadline is due next.
    pub fn next_due(&self, rules: &Rules) -> Upcoming {
        match self.head.phase {
            Phase::Open => self.head.timing.next_due(&rules.deadlines),
            Phase::Complete | Phase::Cancelled | Phase::Failed => Upcoming::default(),
        }
    }

    fn touch(&mut self, rules: &Rules, now: Moment) {
        if self.head.phase == Phase::Open {
            self.head.timing.touch(now.owned, &rules.deadlines);
        }
    }

    fn expect(&mut self, event: &Expected, rules: &Rules, now: Moment, applied: &mut Applied) {
        let version = if rules.versioned { event.version } else { self.head.version };
        if self.head.announced && version < self.head.version {
            applied.outdated = true;
            return;
        }
        applied.replaced = self.head.announced && version > self.head.version;
        self.head.version = version;
        self.head.timing.appoint(&event.due, applied.replaced);
        let shrunk = applied.replaced && self.leave_out(&event.members, applied);
        let grown = self.add(&event.members, applied);
        applied.duplicate = self.head.announced && !applied.replaced && !grown;
        self.head.announced = true;
        match self.head.phase {
            Phase::Complete if grown || shrunk => self.reopen(rules, now, applied),
            Phase::Cancelled | Phase::Failed => applied.late = true,
            Phase::Complete | Phase::Open => {}
        }
    }

    /// Expects no member any more that is not listed. Returns whether one of them had settled: a
    /// completion may have counted it.
    fn leave_out(&mut self, listed: &[MemberId], applied: &mut Applied) -> bool {
        let listed: HashSet<MemberHash> = listed.iter().map(MemberHash::of).collect();
        let expected = self.members.iter().filter(|(_, member)| member.expected);
        let gone: Vec<_> = expected.filter(|(hash, _)| !listed.contains(hash)).collect();
        for (hash, member) in &gone {
            let member = Member { expected: false, ..*member };
            self.put(None, *hash, member, false, applied);
        }
        gone.iter().any(|(_, member)| member.state != MemberState::Pending)
    }

    /// Expects the listed members too. Returns whether one of them was not expected before.
    fn add(&mut self, listed: &[MemberId], applied: &mut Applied) -> bool {
        let mut grown = false;
        for id in listed {
            let hash = MemberHash::of(id);
            let known = self.members.get(hash);
            let member = match known {
                Some(Member { expected: true, .. }) => continue,
                Some(member) => Member { expected: true, ..member },
                None => Member { expected: true, state: MemberState::Pending, digest: None },
            };
            self.put(Some(id), hash, member, known.is_none(), applied);
            grown = true;
        }
        grown
    }

    fn settle(&mut self, event: &Settled, rules: &Rules, now: Moment, applied: &mut Applied) {
        let hash = MemberHash::of(&event.member);
        let known = self.members.get(hash);
        let expected = known.is_some_and(|member| member.expected);
        let attempt = Attempt::of(event, known.as_ref());
        let complete = self.head.phase == Phase::Complete;
        applied.unexpected = !expected;
        applied.late = self.head.phase != Phase::Open;
        match attempt {
            // Its objects are not retired: re-opened, the manifest may still accept them.
            Attempt::First if complete && expected && rules.late == Late::Drop => return,
            Attempt::First | Attempt::Better => {
                let member = Member { expected, state: event.state, digest: Some(event.digest) };
                self.put(Some(&event.member), hash, member, known.is_none(), applied);
            }
            Attempt::Duplicate => applied.duplicate = true,
            Attempt::Conflict => applied.conflict = true,
        }
        applied.retire.extend(attempt.loser(event, known, hash));
        if complete && expected {
            // The completion counted this member, or did without it although it counts: what
            // settles it better is taken, anything else says nothing new, and neither is late.
            applied.late = false;
            if matches!(attempt, Attempt::First | Attempt::Better) {
                self.reopen(rules, now, applied);
            }
        }
    }

    fn command(
        &mut self,
        action: CommandAction,
        rules: &Rules,
        now: Moment,
        applied: &mut Applied,
    ) {
        let has_completed = self.head.phase == Phase::Complete || self.head.revision > 1;
        match (action, self.head.phase) {
            (CommandAction::Force, Phase::Open | Phase::Failed) => {
                applied.effect = Effect::Completed(self.complete(CompletedBy::Forced));
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
                self.reopen(rules, now, applied);
            }
            (CommandAction::Extend { .. }, Phase::Open) if rules.deadlines.is_empty() => {
                applied.refused = Some("no deadlines are declared for it: nothing to extend");
            }
            (CommandAction::Extend { by_seconds }, Phase::Open) => {
                let by = Duration::from_secs(by_seconds);
                self.head.timing.put_off(by, now.owned, &rules.deadlines);
                applied.effect = Effect::PutOff;
            }
            (CommandAction::Extend { .. }, _) => {
                applied.refused = Some("it is not open: reopen it, which gives it its whole time");
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
        id: Option<&MemberId>,
        hash: MemberHash,
        member: Member,
        first_seen: bool,
        applied: &mut Applied,
    ) {
        self.members.put(hash, member);
        applied.members.push(MemberChange { id: id.cloned(), hash, member, first_seen });
    }

    /// Opens it again: under the next revision if the present one has completed.
    fn reopen(&mut self, rules: &Rules, now: Moment, applied: &mut Applied) {
        if self.head.phase == Phase::Complete {
            self.head.revision += 1;
        }
        self.head.phase = Phase::Open;
        self.head.timing.restart(now, &rules.deadlines);
        applied.reopened = true;
    }

    fn judge(&mut self, rules: &Rules, applied: &mut Applied) {
        if self.head.phase != Phase::Open || !self.head.announced {
            return;
        }
        match rules.policy.judge(&self.members.tally()) {
            Verdict::Open => {}
            Verdict::Complete(why) => applied.effect = Effect::Completed(self.complete(why)),
            Verdict::Ask => applied.ask = true,
        }
    }

    fn complete(&mut self, why: CompletedBy) -> Completion {
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
        Completion {
            why,
            revision: self.head.revision,
            tally,
            dead_lettered: self.members.iter().filter_map(dead).collect(),
        }
    }

    /// Counts what an event was, and finds out whether the head has to be persisted.
    fn conclude(&mut self, before: Head, mut applied: Applied) -> Applied {
        if applied.refused.is_none() {
            let counts = &mut self.head.counts;
            counts.duplicates += u64::from(applied.duplicate);
            counts.conflicts += u64::from(applied.conflict);
            counts.late += u64::from(applied.late);
            counts.outdated += u64::from(applied.outdated);
            applied.head_changed = self.fresh || self.head != before;
            self.fresh = false;
        }
        applied
    }
}

#[cfg(test)]
mod tests;
