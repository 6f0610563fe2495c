//! The manifests of one shard: events and deadlines in, a change to be stored out.
//!
//! Responsible for: finding the manifest an event is about, applying the event, keeping rows,
//! facts and deadlines in step, and turning completions into what is stored.
//! Not responsible for: the rules (`progress::manifest`), loading and storing (`owner`), or time.
//!
//! Nothing here waits: a manifest that is not in memory is unknown, so whoever calls has looked it
//! up in the store before.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::completion::aggregator::actions::{Completed, Resolver};
use crate::completion::aggregator::draft::{Draft, Drafted};
use crate::completion::aggregator::held::{Extra, Held};
use crate::completion::aggregator::judge::Judge;
use crate::completion::aggregator::kinds::{Kind, Kinds};
use crate::completion::aggregator::open::{Deadlines, OpenManifests};
use crate::model::event::{Command, CommandAction, ProgressEvent, Settled};
use crate::model::{ManifestKey, MemberId, NodeName, Offset, PipelineName};
use crate::progress::deadline::{Moment, OwnedTime, Upcoming};
use crate::progress::manifest::{Applied, CompletedBy, Completion, Effect, Phase};
use crate::state::{BlockedCompletion, CompletionRow, ManifestRow, StoredManifest};

/// Longest text of an operator that is kept with a manifest, in characters.
const MAX_REMARK: usize = 500;

/// The manifests of one shard.
pub(super) struct Ledger {
    shard: i32,
    kinds: Arc<Kinds>,
    open: OpenManifests,
    deadlines: Deadlines,
    judge: Judge,
    resolver: Resolver,
    /// Manifests whose completion is blocked, as far as this owner knows.
    blocked: BTreeSet<ManifestKey>,
}

/// Where a manifest is changed.
struct Site<'a> {
    key: &'a ManifestKey,
    shard: i32,
    kind: &'a Kind,
    now: Moment,
}

impl Ledger {
    /// An empty one.
    pub(super) fn new(pipeline: PipelineName, shard: i32, kinds: Arc<Kinds>) -> Self {
        Self {
            shard,
            kinds,
            open: OpenManifests::default(),
            deadlines: Deadlines::default(),
            judge: Judge::new(pipeline.clone()),
            resolver: Resolver::new(pipeline),
            blocked: BTreeSet::new(),
        }
    }

    /// Whether the manifest is in memory.
    pub(super) fn knows(&self, manifest: &ManifestKey) -> bool {
        self.open.contains(manifest)
    }

    /// Puts a stored manifest into memory.
    pub(super) fn load(&mut self, stored: StoredManifest) {
        let manifest = stored.row.manifest.clone();
        let versioned = self.kinds.are_versioned(&stored.row.kind);
        let held = Held::load(stored, versioned);
        self.open.insert(manifest.clone(), held);
        self.watch(&manifest);
    }

    /// Watches the deadlines of an open manifest that stays in the store; returns the shard's
    /// time as far as the row tells it.
    pub(super) fn foresee(&mut self, row: &ManifestRow) -> OwnedTime {
        let extra = Extra::of(row);
        let rules = self.kinds.get(&row.kind).map(|kind| &kind.rules);
        let due = rules.map(|rules| extra.timing.next_due(&rules.deadlines));
        self.deadlines.set(&row.manifest, due.unwrap_or_default());
        extra.owned.max(extra.timing.first).max(extra.timing.last)
    }

    /// Manifests with a deadline at or before `now`.
    pub(super) fn due(&self, now: Moment, limit: usize) -> Vec<ManifestKey> {
        self.deadlines.due(now, limit)
    }

    /// The manifest whose deadline comes next.
    pub(super) fn next_due(&self) -> Option<ManifestKey> {
        self.deadlines.next().cloned()
    }

    /// A manifest that is gone from the store has no deadlines.
    pub(super) fn forget_deadline(&mut self, manifest: &ManifestKey) {
        self.deadlines.set(manifest, Upcoming::default());
    }

    /// Manifests whose completion is blocked.
    pub(super) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    /// Applies an event, or says why it is left out.
    pub(super) fn apply(
        &mut self,
        event: &ProgressEvent,
        now: Moment,
        draft: &mut Draft,
    ) -> Result<(), String> {
        let key = event.manifest();
        let mut fresh = None;
        let held = match self.open.get_mut(key) {
            Some(held) => held,
            None => fresh.insert(new_held(event, &self.kinds, now)?),
        };
        if let Some(kind) = declared_kind(event)
            && *kind != held.kind
        {
            return Err(format!("the manifest is one of kind {}, the event of {kind}", held.kind));
        }
        let Some(kind) = self.kinds.get(&held.kind) else {
            return Err(format!("no manifest {} is declared", held.kind));
        };
        let site = Site { key, shard: self.shard, kind, now };
        let applied = apply_event(held, event, &site)?;
        record(held, event, &applied, draft, &site);
        let completion = match (applied.effect, &kind.predicate) {
            (Effect::Completed(completion), _) => Some(completion),
            (_, Some(predicate)) if applied.ask => self.judge.decide(predicate, key, held),
            _ => None,
        };
        if let Some(completion) = completion {
            complete(held, completion, &mut self.resolver, draft, &site);
        }
        draft.touch(key);
        if let Some(held) = fresh {
            self.open.insert(key.clone(), held);
        }
        Ok(())
    }

    /// Lets everything act that is due for a manifest in memory.
    pub(super) fn expire(&mut self, key: &ManifestKey, now: Moment, draft: &mut Draft) {
        let Some(held) = self.open.get_mut(key) else { return };
        let Some(kind) = self.kinds.get(&held.kind) else { return };
        let site = Site { key, shard: self.shard, kind, now };
        while let Some(applied) = held.state.expire(&kind.rules, now) {
            draft.touch(key);
            report(held, &applied, None, key);
            if let Effect::Completed(completion) = applied.effect {
                complete(held, completion, &mut self.resolver, draft, &site);
            }
        }
    }

    /// Stores a manifest in memory once more.
    pub(super) fn touch(&self, key: &ManifestKey, draft: &mut Draft) {
        if self.open.contains(key) {
            draft.touch(key);
        }
    }

    /// Completions that the store rolled back: their manifests are open again.
    pub(super) fn reopen_blocked(
        &mut self,
        blocked: &[BlockedCompletion],
        drafted: &Drafted,
        draft: &mut Draft,
    ) {
        for BlockedCompletion { manifest, why } in blocked {
            let by = drafted.completed.get(manifest).copied().unwrap_or(CompletedBy::AllDone);
            if let Some(held) = self.open.get_mut(manifest) {
                blocked_by(held, manifest, by, why);
                draft.touch(manifest);
            }
        }
    }

    /// The change that a draft makes.
    pub(super) fn finish(&self, draft: Draft, span: (Offset, Offset), now: OwnedTime) -> Drafted {
        draft.finish(span, |key| self.open.get(key).map(|held| held.row(key, self.shard, now)))
    }

    /// A change is durable: its manifests were used last, and have new deadlines.
    pub(super) fn stored(&mut self, drafted: &Drafted, limit: usize) {
        for key in &drafted.touched {
            self.open.used(key);
            self.watch(key);
        }
        self.open.evict(limit);
    }

    fn watch(&mut self, key: &ManifestKey) {
        let Some(held) = self.open.get(key) else { return };
        let rules = self.kinds.get(&held.kind).map(|kind| &kind.rules);
        let due = rules.map(|rules| held.state.next_due(rules));
        self.deadlines.set(key, due.unwrap_or_default());
        if held.blocked.is_some() {
            self.blocked.insert(key.clone());
        } else {
            self.blocked.remove(key);
        }
    }
}

/// The kind of the declaration that an event names; commands name none.
fn declared_kind(event: &ProgressEvent) -> Option<&NodeName> {
    match event {
        ProgressEvent::Expected(event) => Some(&event.kind),
        ProgressEvent::Settled(event) => Some(&event.kind),
        ProgressEvent::Command(_) => None,
    }
}

fn new_held(event: &ProgressEvent, kinds: &Kinds, now: Moment) -> Result<Held, String> {
    let kind = declared_kind(event).cloned();
    let kind = kind.ok_or_else(|| "no event of such a manifest has arrived".to_owned())?;
    let versioned = kinds.are_versioned(&kind);
    Ok(Held::new(kind, versioned, now))
}

/// Applies an event to the state. A command to retry a blocked completion forces it, for the
/// reason for which it was to happen.
fn apply_event(held: &mut Held, event: &ProgressEvent, site: &Site<'_>) -> Result<Applied, String> {
    let (rules, now) = (&site.kind.rules, site.now);
    if let (ProgressEvent::Command(command), Some(by)) = (event, held.blocked)
        && command.action == CommandAction::Retry
        && held.state.head().phase == Phase::Open
    {
        let force = Command { action: CommandAction::Force, ..command.clone() };
        let mut applied = held.state.apply(&ProgressEvent::Command(force), rules, now);
        if let Effect::Completed(completion) = &mut applied.effect {
            completion.why = by;
        }
        return Ok(applied);
    }
    let applied = held.state.apply(event, rules, now);
    match applied.refused {
        Some(why) => Err(why.to_owned()),
        None => Ok(applied),
    }
}

/// Keeps what an event brought, except a completion.
fn record(
    held: &mut Held,
    event: &ProgressEvent,
    applied: &Applied,
    draft: &mut Draft,
    site: &Site<'_>,
) {
    held.seen(site.now);
    draft.counts.event(applied.duplicate);
    if applied.reopened {
        held.reopened();
        // What was blocked is past: the manifest goes on under its rules.
        held.blocked = None;
    }
    if let ProgressEvent::Expected(event) = event
        && !applied.outdated
    {
        held.learn(event, applied.replaced);
    }
    if let ProgressEvent::Settled(event) = event {
        retire(held, event, applied, draft, site.key);
    }
    for change in &applied.members {
        let Some(row) = held.member_row(change, event) else { continue };
        draft.member(site.key, change.hash, row);
        if let ProgressEvent::Settled(event) = event {
            draft.counts.member(event);
        }
    }
    let command = match event {
        ProgressEvent::Command(command) => Some(command),
        ProgressEvent::Expected(_) | ProgressEvent::Settled(_) => None,
    };
    report(held, applied, command, site.key);
}

/// Retires the objects of attempts that lost. An event that changed nothing says that somebody has
/// written its objects again: those of them that are retired have to go once more.
fn retire(
    held: &Held,
    event: &Settled,
    applied: &Applied,
    draft: &mut Draft,
    manifest: &ManifestKey,
) {
    let objects = &event.facts.objects;
    let urls = || -> Vec<String> { objects.iter().map(|object| object.url.clone()).collect() };
    for lost in &applied.retire {
        let is_own = lost.digest == event.digest;
        draft.retire(manifest, if is_own { urls() } else { held.lost_objects(lost) });
    }
    if applied.members.is_empty() {
        draft.name(urls());
    }
}

/// Says what happened to a manifest, in its note and in the log.
fn report(held: &mut Held, applied: &Applied, command: Option<&Command>, key: &ManifestKey) {
    let who = command.map(|command| remark(&format!("{}: {}", command.who, command.why)));
    let who = who.unwrap_or_default();
    if applied.reopened {
        let revision = held.state.head().revision;
        tracing::info!(manifest = %key, kind = %held.kind, revision, %who, "manifest is open again");
    }
    if applied.conflict {
        tracing::warn!(manifest = %key, kind = %held.kind, "a member settled with other content");
    }
    for retire in &applied.retire {
        tracing::debug!(manifest = %key, digest = %retire.digest, "an attempt does not count");
    }
    match &applied.effect {
        Effect::None | Effect::Completed(_) => {}
        Effect::Alert => {
            let pending = held.state.members().tally().pending;
            tracing::warn!(manifest = %key, kind = %held.kind, pending, "a deadline has passed");
        }
        Effect::PutOff => {
            tracing::warn!(manifest = %key, kind = %held.kind, %who, "a deadline is put off");
        }
        Effect::Failed => {
            held.remark("failed by a deadline".to_owned());
            tracing::error!(manifest = %key, kind = %held.kind, "a deadline gave a manifest up");
        }
        Effect::Cancelled => {
            held.remark(format!("cancelled by {who}"));
            tracing::info!(manifest = %key, kind = %held.kind, %who, "manifest is cancelled");
        }
        Effect::RetryActions => {
            tracing::info!(
                manifest = %key, %who, "deliveries are tried without end, there is none to revive"
            );
        }
    }
}

/// Turns a completion into what is stored, or blocks it.
fn complete(
    held: &mut Held,
    completion: Completion,
    resolver: &mut Resolver,
    draft: &mut Draft,
    site: &Site<'_>,
) {
    let completed = Completed {
        manifest: site.key,
        kind: &held.kind,
        revision: completion.revision,
        completed_at: site.now.unix_millis,
        why: completion.why.as_str(),
        facts: &held.facts,
        tally: completion.tally,
        failed: held.failed_ids(&completion.dead_lettered),
    };
    let resolved = resolver.resolve(&site.kind.actions, &site.kind.facts, &completed);
    match resolved {
        Ok(resolved) => {
            held.complete(completion.why.as_str().to_owned(), site.now);
            let row = CompletionRow {
                manifest: held.row(site.key, site.shard, site.now.owned),
                statements: resolved.statements,
                parameters: resolved.parameters,
                outbox: resolved.outbox,
                retire: resolved.retire,
            };
            draft.complete(row, completion.why);
        }
        Err(why) => blocked_by(held, site.key, completion.why, &why),
    }
}

fn blocked_by(held: &mut Held, key: &ManifestKey, by: CompletedBy, why: &str) {
    tracing::error!(
        manifest = %key, kind = %held.kind, error = why,
        "a completion is blocked by its actions, mend them and retry it by command"
    );
    held.block(by, why);
}

/// A person's words, as they are kept.
fn remark(text: &str) -> String {
    text.chars().filter(|letter| *letter != '\0').take(MAX_REMARK).collect()
}

/// The manifests that events are about, each once.
pub(super) fn manifests_of<'a>(
    events: impl Iterator<Item = &'a ProgressEvent>,
) -> BTreeSet<ManifestKey> {
    events.map(|event| event.manifest().clone()).collect()
}

/// Whether every text of an event can be stored. What we produce can; what others put into the
/// topic may not.
pub(super) fn is_storable(event: &ProgressEvent) -> bool {
    let plain = |text: &str| !text.is_empty() && !text.contains('\0');
    let members: &[MemberId] = match event {
        ProgressEvent::Expected(event) => &event.members,
        ProgressEvent::Settled(event) => std::slice::from_ref(&event.member),
        ProgressEvent::Command(_) => &[],
    };
    plain(event.manifest().as_str()) && members.iter().all(|member| plain(member.as_str()))
}

#[cfg(test)]
mod tests;
