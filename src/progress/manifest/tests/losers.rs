//! Properties of attempts that lost, for any events in any order.

use proptest::prelude::*;

use super::{NOW, command, expected, settled, tolerating};
use crate::model::Digest;
use crate::model::event::{CommandAction, MemberState, ProgressEvent};
use crate::progress::manifest::{ManifestState, MemberHash};

const MEMBERS: [&str; 3] = ["a", "b", "c"];

fn attempt() -> impl Strategy<Value = ProgressEvent> {
    let states = [MemberState::DeadLettered, MemberState::Empty, MemberState::Done];
    (0..MEMBERS.len(), 0..states.len(), 1u8..4)
        .prop_map(move |(member, state, digest)| settled(MEMBERS[member], states[state], digest))
}

fn anything() -> impl Strategy<Value = ProgressEvent> {
    prop_oneof![
        8 => attempt(),
        1 => Just(expected(&MEMBERS[..2])),
        1 => Just(expected(&MEMBERS)),
        1 => Just(command(CommandAction::Force)),
        1 => Just(command(CommandAction::Reopen)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_retired_is_accepted_neither_now_nor_later(
        events in prop::collection::vec(anything(), 1..60),
    ) {
        let mut state = ManifestState::new(NOW);
        let mut retired: Vec<(MemberHash, Digest)> = Vec::new();
        for event in &events {
            let applied = state.apply(event, &tolerating(1), NOW);
            retired.extend(applied.retire.iter().map(|lost| (lost.member, lost.digest)));
            for (member, digest) in &retired {
                let known = state.members().get(*member);
                prop_assert_eq!(known.map(|known| known.state), Some(MemberState::Done));
                prop_assert_ne!(known.and_then(|known| known.digest), Some(*digest));
            }
        }
    }
}
