//! A model of the protocol by which a shard has one writer.
//!
//! Responsible for: owners that take over, freeze, die and come back; requests that arrive late,
//! in any order or never; answers that are lost; a store that is restored from a backup; and
//! finding out which invariant (I1 to I5) does not hold.
//! Not responsible for: what the changes are about (`manifest`), or the requests as a database
//! sees them (`state`). What became of a change whose answer was lost is decided by the real code
//! (`commit_fate`).
//!
//! A shard is one row. A change is applied only if all of this holds, checked in one transaction
//! with its effects:
//!
//! ```text
//! epoch and token   are those of the row: whoever took over since has changed them (I4)
//! from = next       it begins where the last change ended: no gap, nothing twice (I1)
//! follows = mark    it comes right after the change that its sender knows to be the last one
//! ```
//!
//! `from = next` is not enough for a change that moves nothing on (a deadline): sent twice because
//! its answer was lost, the first one may arrive after the second, and both begin where the row
//! stands. `follows = mark` refuses the latecomer.

use uuid::Uuid;

use super::commit_fate::{CommitFate, SentChange, ShardMark, commit_fate};
use super::invariants::Invariant;
use crate::model::Epoch;

/// What the store checks; a model without one of them has to fail.
#[derive(Clone, Copy, Debug)]
struct Guards {
    epoch: bool,
    token: bool,
    chain: bool,
    follows: bool,
}

impl Guards {
    const ALL: Self = Self { epoch: true, token: true, chain: true, follows: true };
}

/// What a change does to the state: each of these must happen once, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The event at this offset is applied.
    Event(u64),
    /// The deadline of this number acts; from 1.
    Deadline(u64),
}

/// A change on its way to the store.
#[derive(Clone, Debug)]
struct Change {
    sender: usize,
    sent: SentChange,
    follows: Option<Uuid>,
    from: u64,
    to: u64,
    effects: Vec<Effect>,
}

/// What the store says to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Applied,
    Fenced,
    Broken,
}

/// The row of the shard, and the state that changes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    epoch: Epoch,
    token: Uuid,
    mark: Option<Uuid>,
    next: u64,
    effects: Vec<Effect>,
    /// Who took over last. No store knows that; it is what I3 is judged by.
    taken_by: usize,
}

impl Row {
    fn apply(&mut self, change: &Change, guards: Guards) -> Answer {
        let is_own = (!guards.epoch || change.sent.epoch == self.epoch)
            && (!guards.token || change.sent.token == self.token);
        if !is_own {
            return Answer::Fenced;
        }
        let is_next = (!guards.chain || change.from == self.next)
            && (!guards.follows || change.follows == self.mark);
        if !is_next {
            return Answer::Broken;
        }
        (self.next, self.mark) = (change.to, Some(change.sent.mark));
        self.effects.extend(&change.effects);
        Answer::Applied
    }

    fn events(&self) -> u64 {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Event(_))).count() as u64
    }

    fn deadlines(&self) -> u64 {
        self.effects.len() as u64 - self.events()
    }
}

/// Somebody who owns the shard, or thinks so.
#[derive(Clone, Debug, Default)]
struct Owner {
    lease: Option<(Epoch, Uuid)>,
    next: u64,
    deadlines: u64,
    /// The change that it knows to be the last one.
    follows: Option<Uuid>,
    /// The change to which it has no answer yet.
    waiting: Option<Change>,
}

/// One thing that happens; numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An owner takes the shard over.
    TakeOver(usize),
    /// An owner sends a change of so many events; of none it is a deadline.
    Send(usize, u64),
    /// A request arrives, in any order.
    Arrive(usize),
    /// A request never arrives.
    Vanish(usize),
    /// An answer arrives.
    Hear(usize),
    /// An answer is lost.
    Miss(usize),
    /// An owner that has no answer asks what became of its change.
    Ask(usize),
    /// An owner dies. What it has sent is still on its way.
    Crash(usize),
    /// The store is copied, or put back to the copy.
    BackUp,
    Restore,
}

/// A shard, its owners, and what is on its way between them.
struct World {
    guards: Guards,
    /// Events that there are.
    log: u64,
    row: Row,
    backup: Option<Row>,
    is_restored: bool,
    owners: Vec<Owner>,
    requests: Vec<Change>,
    answers: Vec<(usize, Uuid, Answer)>,
    /// Offset that was last committed to the broker.
    committed: u64,
    ids: u128,
    violated: Vec<Invariant>,
}

impl World {
    fn new(guards: Guards, owners: usize, log: u64) -> Self {
        let row = Row {
            epoch: Epoch(0),
            token: Uuid::nil(),
            mark: None,
            next: 0,
            effects: Vec::new(),
            taken_by: usize::MAX,
        };
        Self {
            guards,
            log,
            row,
            backup: None,
            is_restored: false,
            owners: vec![Owner::default(); owners],
            requests: Vec::new(),
            answers: Vec::new(),
            committed: 0,
            ids: 0,
            violated: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        let owners = self.owners.len();
        match step {
            Step::TakeOver(owner) => self.take_over(owner % owners),
            Step::Send(owner, events) => self.send(owner % owners, events),
            Step::Arrive(number) => {
                if let Some(change) = taken(&mut self.requests, number) {
                    self.arrive(change);
                }
            }
            Step::Vanish(number) => {
                taken(&mut self.requests, number);
            }
            Step::Hear(number) => {
                if let Some((owner, mark, answer)) = taken(&mut self.answers, number) {
                    self.hear(owner, mark, answer);
                }
            }
            Step::Miss(number) => {
                taken(&mut self.answers, number);
            }
            Step::Ask(owner) => self.ask(owner % owners),
            Step::Crash(owner) => self.owners[owner % owners] = Owner::default(),
            Step::BackUp => self.backup = Some(self.row.clone()),
            Step::Restore => {
                if let Some(backup) = self.backup.clone() {
                    (self.row, self.is_restored) = (backup, true);
                }
            }
        }
        let too_far = self.committed > self.row.next && !self.is_restored;
        self.judge(Invariant::EffectsBeforeCommit, !too_far);
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn take_over(&mut self, owner: usize) {
        let token = self.id();
        let row = &mut self.row;
        (row.epoch, row.token, row.taken_by) = (row.epoch.next(), token, owner);
        self.owners[owner] = Owner {
            lease: Some((row.epoch, token)),
            next: row.next,
            deadlines: row.deadlines(),
            follows: row.mark,
            waiting: None,
        };
    }

    fn send(&mut self, owner: usize, events: u64) {
        let mark = self.id();
        let sender = &mut self.owners[owner];
        let (Some((epoch, token)), None) = (sender.lease, &sender.waiting) else { return };
        let (from, to) = (sender.next, self.log.min(sender.next + events));
        let effects = match events {
            0 => vec![Effect::Deadline(sender.deadlines + 1)],
            _ => (from..to).map(Effect::Event).collect(),
        };
        if effects.is_empty() {
            return;
        }
        let sent = SentChange { epoch, token, mark };
        let follows = sender.follows;
        let change = Change { sender: owner, sent, follows, from, to, effects };
        sender.waiting = Some(change.clone());
        self.requests.push(change);
    }

    fn arrive(&mut self, change: Change) {
        let before = self.row.clone();
        let answer = self.row.apply(&change, self.guards);
        if answer == Answer::Applied {
            self.judge_applied(&before, &change);
        } else {
            self.judge(Invariant::Fenced, self.row == before);
        }
        self.answers.push((change.sender, change.sent.mark, answer));
    }

    fn hear(&mut self, owner: usize, mark: Uuid, answer: Answer) {
        let waits = self.owners[owner].waiting.as_ref();
        if waits.is_none_or(|change| change.sent.mark != mark) {
            return;
        }
        match answer {
            Answer::Applied => self.go_on(owner),
            Answer::Fenced | Answer::Broken => self.owners[owner] = Owner::default(),
        }
    }

    fn ask(&mut self, owner: usize) {
        let Some(mut change) = self.owners[owner].waiting.clone() else { return };
        let Row { epoch, token, mark, .. } = self.row;
        match commit_fate(&change.sent, Some(&ShardMark { epoch, token, mark })) {
            CommitFate::Applied => self.go_on(owner),
            CommitFate::Fenced => self.owners[owner] = Owner::default(),
            CommitFate::Lost => {
                change.sent.mark = self.id();
                self.owners[owner].waiting = Some(change.clone());
                self.requests.push(change);
            }
        }
    }

    /// An owner knows that its change is durable: only now does it commit the offset.
    fn go_on(&mut self, owner: usize) {
        let owner = &mut self.owners[owner];
        let Some(change) = owner.waiting.take() else { return };
        let acted = change.effects.iter().filter(|effect| matches!(effect, Effect::Deadline(_)));
        owner.deadlines += acted.count() as u64;
        (owner.next, owner.follows) = (change.to, Some(change.sent.mark));
        self.committed = change.to;
    }

    fn judge_applied(&mut self, before: &Row, change: &Change) {
        let SentChange { epoch, token, .. } = change.sent;
        self.judge(Invariant::Fenced, (epoch, token) == (before.epoch, before.token));
        self.judge(Invariant::SingleWriter, change.sender == before.taken_by);
        self.judge(Invariant::Monotone, self.row.next >= before.next);
        let (mut events, mut deadlines) = (before.events(), before.deadlines());
        for effect in &change.effects {
            match *effect {
                Effect::Event(offset) => {
                    self.judge(Invariant::NoGap, offset == events);
                    events += 1;
                }
                Effect::Deadline(number) => {
                    deadlines += 1;
                    self.judge(Invariant::Conservation, number == deadlines);
                }
            }
        }
    }

    fn judge(&mut self, invariant: Invariant, holds: bool) {
        if !holds && !self.violated.contains(&invariant) {
            self.violated.push(invariant);
        }
    }

    /// An owner goes on alone until everything is applied; what is still on its way arrives after
    /// that.
    fn settle(&mut self, owner: usize) {
        let late = std::mem::take(&mut self.requests);
        self.take_over(owner);
        loop {
            self.send(owner, 3);
            let Some(change) = self.requests.pop() else { break };
            self.arrive(change);
            if let Some((owner, mark, answer)) = self.answers.pop() {
                self.hear(owner, mark, answer);
            }
        }
        late.into_iter().for_each(|change| self.arrive(change));
    }
}

/// Takes the element of that number, counted round and round.
fn taken<T>(from: &mut Vec<T>, number: usize) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    let index = number % from.len();
    Some(from.remove(index))
}

mod tests;
