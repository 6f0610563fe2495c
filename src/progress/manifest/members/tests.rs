//! Tests of the compact set of members.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Entry, Member, MemberHash, Members, Tally};
use crate::model::event::MemberState;
use crate::model::{Digest, MemberId};

const STATES: [MemberState; 4] =
    [MemberState::Pending, MemberState::DeadLettered, MemberState::Empty, MemberState::Done];

fn hash(number: u64) -> MemberHash {
    MemberHash::of(&MemberId::from(number.to_string()))
}

fn member(number: u64) -> Member {
    let state = STATES[(number % 4) as usize];
    let digest = Digest::from_bytes(u128::from(number).to_le_bytes());
    let settled = state != MemberState::Pending;
    Member { expected: !number.is_multiple_of(3), state, digest: settled.then_some(digest) }
}

#[test]
fn an_entry_takes_33_bytes_and_unpacks_to_what_was_packed() {
    assert_eq!(size_of::<Entry>(), 33);
    for number in 0..24 {
        assert_eq!(Entry::pack(hash(number), &member(number)).unpack(), member(number));
    }
}

#[test]
fn a_member_takes_at_most_48_bytes_at_any_size() {
    let mut members = Members::default();
    let mut worst = 0.0f64;
    for number in 0..20_000u64 {
        members.put(hash(number), member(number));
        worst = worst.max(members.heap_bytes() as f64 / members.len() as f64);
    }
    assert!(worst <= 48.0, "{worst} bytes per member");
}

#[test]
fn hashes_that_begin_alike_are_told_apart() {
    let mut members = Members::default();
    let alike = |number: u8| {
        let mut bytes = [7u8; 16];
        bytes[15] = number;
        MemberHash::from_bytes(bytes)
    };
    for number in 0..100u8 {
        assert_eq!(members.get(alike(number)), None);
        members.put(alike(number), member(u64::from(number)));
    }
    for number in 0..100u8 {
        assert_eq!(members.get(alike(number)), Some(member(u64::from(number))));
    }
}

#[test]
fn the_hash_of_an_id_never_changes() {
    // The store keeps it: another hash would lose every open manifest.
    let expected = blake3::hash(b"part-1").to_hex();
    let hash = MemberHash::of(&MemberId::from("part-1"));
    assert_eq!(format!("{hash:?}"), &expected.as_str()[..32]);
    assert_eq!(MemberHash::from_bytes(*hash.as_bytes()), hash);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_agrees_with_a_map(steps in prop::collection::vec((0u64..80, 0u64..12), 0..400)) {
        let mut members = Members::default();
        let mut map = BTreeMap::new();
        for (id, value) in steps {
            members.put(hash(id), member(value));
            map.insert(id, member(value));
            prop_assert_eq!(members.len(), map.len());
            prop_assert_eq!(members.tally(), members.recount());
        }
        for id in 0..80 {
            prop_assert_eq!(members.get(hash(id)), map.get(&id).copied());
        }
        let expected = map.values().filter(|member| member.expected).count() as u64;
        let Tally { pending, dead_lettered, empty, done, unexpected, .. } = members.tally();
        prop_assert_eq!(members.tally().expected, expected);
        prop_assert_eq!(pending + dead_lettered + empty + done, expected);
        let forgotten =
            |member: &&Member| !member.expected && member.state == MemberState::Pending;
        let forgotten = map.values().filter(forgotten).count() as u64;
        prop_assert_eq!(expected + unexpected + forgotten, map.len() as u64);
    }
}
