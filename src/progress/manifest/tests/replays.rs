//! Properties of manifests whose owner dies at any moment: what was not stored is applied again.

use std::time::Duration;

use proptest::prelude::*;

use super::{NOW, command, expected, settled};
use crate::model::event::{CommandAction, MemberState, ProgressEvent};
use crate::progress::deadline::{Deadline, DeadlineAction, Extension, Moment, OwnedTime, Since};
use crate::progress::manifest::{
    CompletedBy, Effect, Late, ManifestState, Policy, Rules, Share, Tally,
};

const IDS: [&str; 4] = ["a", "b", "c", "d"];

/// What the owner of a manifest takes at once, and whether it dies before that is stored.
type Batch = (usize, bool);

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::AllDone),
        (0u64..3).prop_map(|most| Policy::AllSettled { tolerate: Share::Members(most) }),
        (1u32..10_000).prop_map(|part| Policy::Quorum(Share::Hundredths(part))),
        Just(Policy::Predicate),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    let since = prop_oneof![Just(Since::First), Just(Since::Inactivity), Just(Since::Appointment)];
    let action = prop_oneof![
        Just(DeadlineAction::Alert),
        Just(DeadlineAction::Complete),
        Just(DeadlineAction::Fail),
    ];
    (since, 1u64..50, action, any::<bool>()).prop_map(|(since, seconds, action, extended)| {
        let extension = Extension { by: Duration::from_secs(7), most: 1 };
        let after = Duration::from_secs(seconds);
        Deadline { since, after, action, extension: extended.then_some(extension) }
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let late = prop_oneof![Just(Late::Drop), Just(Late::Revision)];
    (policy(), late, any::<bool>(), prop::collection::vec(deadline(), 0..3)).prop_map(
        |(policy, late, versioned, deadlines)| Rules { policy, deadlines, late, versioned },
    )
}

fn list() -> impl Strategy<Value = ProgressEvent> {
    let version = prop::option::of(1i64..4);
    let due = prop::collection::vec(prop::option::of(0i64..60_000), 0..3);
    let ids = prop::sample::subsequence(IDS.to_vec(), 0..=IDS.len());
    (ids, version, due).prop_map(|(ids, version, due)| {
        let mut event = expected(&ids);
        if let ProgressEvent::Expected(event) = &mut event {
            (event.version, event.due) = (version, due);
        }
        event
    })
}

fn attempt() -> impl Strategy<Value = ProgressEvent> {
    let states = [MemberState::Done, MemberState::Empty, MemberState::DeadLettered];
    (0..IDS.len(), 0..states.len(), 1u8..3)
        .prop_map(move |(id, state, digest)| settled(IDS[id], states[state], digest))
}

fn order() -> impl Strategy<Value = ProgressEvent> {
    prop_oneof![
        Just(CommandAction::Force),
        Just(CommandAction::Cancel),
        Just(CommandAction::Reopen),
        Just(CommandAction::Retry),
        (0u64..30).prop_map(|by_seconds| CommandAction::Extend { by_seconds }),
    ]
    .prop_map(command)
}

fn events() -> impl Strategy<Value = Vec<ProgressEvent>> {
    let event = prop_oneof![10 => attempt(), 4 => list(), 1 => order()];
    prop::collection::vec(event, 1..40)
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    prop::collection::vec((1usize..6, any::<bool>()), 0..40)
}

/// What a predicate would be: pure, over what the manifest has.
fn holds(tally: Tally) -> bool {
    tally.done > tally.pending + tally.dead_lettered
}

/// A manifest in the hands of one owner after the other, as the store sees it.
struct Story<'r> {
    rules: &'r Rules,
    /// The manifest as it was stored last.
    stored: Option<ManifestState>,
    /// Completions that were stored with it.
    completed: Vec<(u32, CompletedBy)>,
}

impl<'r> Story<'r> {
    fn new(rules: &'r Rules) -> Self {
        Self { rules, stored: None, completed: Vec::new() }
    }

    fn load(&self) -> ManifestState {
        match &self.stored {
            Some(stored) => ManifestState::load(stored.head().clone(), stored.members().iter()),
            None => ManifestState::new(NOW),
        }
    }

    /// Applies events and lets deadlines act in between; stores it all at once, or not at all.
    fn take(&mut self, events: &[ProgressEvent], now: impl Fn(usize) -> Moment, dies: bool) {
        let mut state = self.load();
        let mut completed = Vec::new();
        for (number, event) in events.iter().enumerate() {
            let now = now(number);
            while !state.fresh
                && let Some(applied) = state.expire(self.rules, now)
            {
                completed.extend(completion(&mut state, applied.effect, false));
            }
            let applied = state.apply(event, self.rules, now);
            completed.extend(completion(&mut state, applied.effect, applied.ask));
        }
        if !dies && !state.fresh {
            self.stored = Some(state);
            self.completed.extend(completed);
        }
    }
}

fn completion(state: &mut ManifestState, effect: Effect, ask: bool) -> Option<(u32, CompletedBy)> {
    let completion = match effect {
        Effect::Completed(completion) => Some(completion),
        _ if ask => {
            let holds = holds(state.members().tally());
            state.decide(holds)
        }
        _ => None,
    };
    completion.map(|completion| (completion.revision, completion.why))
}

/// What is stored after the events, whatever deaths there were on the way.
fn told<'r>(
    rules: &'r Rules,
    events: &[ProgressEvent],
    batches: &[Batch],
    now: impl Fn(usize) -> Moment,
) -> Story<'r> {
    let mut story = Story::new(rules);
    let (mut next, mut batches) = (0, batches.iter().copied());
    while next < events.len() {
        let (size, dies) = batches.next().unwrap_or((events.len(), false));
        let to = events.len().min(next + size);
        story.take(&events[next..to], |number| now(next + number), dies);
        next = if dies { next } else { to };
    }
    story
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn deaths_on_the_way_change_neither_the_manifest_nor_its_completions(
        rules in rules(),
        events in events(),
        batches in batches(),
    ) {
        // An event has its moment, whoever applies it: what differs is only who dies when.
        let now = |number: usize| {
            let millis = 1_000 * (number as u64 + 1);
            Moment { owned: OwnedTime(millis), unix_millis: millis.cast_signed() }
        };
        let straight = told(&rules, &events, &[], now);
        let broken = told(&rules, &events, &batches, now);
        prop_assert_eq!(&broken.completed, &straight.completed);
        let content = |story: &Story<'_>| {
            let state = story.load();
            (state.head().clone(), format!("{:?}", state.members()))
        };
        prop_assert_eq!(content(&broken), content(&straight));
    }

    #[test]
    fn each_revision_completes_once_however_time_passes_between_deaths(
        rules in rules(),
        events in events(),
        batches in batches(),
        seconds in prop::collection::vec((0u64..40, 0i64..40), 40),
    ) {
        let mut story = Story::new(&rules);
        let (mut next, mut now) = (0, Moment::default());
        let mut batches = batches.iter().copied();
        for (owned, wall) in seconds {
            let (size, dies) = batches.next().unwrap_or((events.len(), false));
            let to = events.len().min(next + size);
            // What passes while the owner is dead counts on the wall alone, and may count twice.
            now.unix_millis += 1_000 * wall;
            let later = Moment { owned: now.owned.plus(Duration::from_secs(owned)), ..now };
            story.take(&events[next..to], |_| later, dies);
            if !dies {
                (next, now) = (to, later);
            }
        }
        let revisions: Vec<u32> = story.completed.iter().map(|(revision, _)| *revision).collect();
        let wanted: Vec<u32> = (1..).take(revisions.len()).collect();
        prop_assert_eq!(revisions, wanted);
    }
}
