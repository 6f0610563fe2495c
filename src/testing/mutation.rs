//! Good input, spoilt.
//!
//! Responsible for: strategies that take one of several seeds and change bytes, numbers, words and
//! whole pieces of it, the same ones in every run.
//! Not responsible for: the seeds and the words, or what has to come of them.
//!
//! This stands in for a fuzzer that learns from coverage: it needs no other compiler and no other
//! dependency, and runs with all other tests. Good seeds take it behind the first checks.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

/// Mutations of one input at most.
const MOST: usize = 6;
/// Bytes of a piece that is removed or repeated at most.
const LONGEST_PIECE: usize = 700;

/// Words of a format: what is put in where random bytes would never hit.
pub(crate) type Words = &'static [&'static [u8]];

/// So many cases, the same in every run, and none of them is written down.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x7ced_1dea),
        ..ProptestConfig::default()
    }
}

/// One change.
#[derive(Clone, Debug)]
enum Mutation {
    Flip { at: Index, bit: u8 },
    Overwrite { at: Index, with: Vec<u8> },
    Insert { at: Index, what: Vec<u8> },
    Remove { at: Index, count: usize },
    Repeat { from: Index, count: usize, to: Index },
    Cut { at: Index },
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        // Behind the last byte is a place, too.
        let places = bytes.len() + 1;
        match self {
            Self::Flip { at, bit } => {
                let at = at.index(places);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1_u8 << *bit);
            }
            Self::Overwrite { at, with } => {
                let at = at.index(places);
                for (byte, new) in bytes[at..].iter_mut().zip(with) {
                    *byte = *new;
                }
            }
            Self::Insert { at, what } => {
                let at = at.index(places);
                drop(bytes.splice(at..at, what.iter().copied()));
            }
            Self::Remove { at, count } => {
                let at = at.index(places);
                let end = (at + count).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            Self::Repeat { from, count, to } => {
                let (from, to) = (from.index(places), to.index(places));
                let piece = bytes[from..(from + count).min(bytes.len())].to_vec();
                drop(bytes.splice(to..to, piece));
            }
            Self::Cut { at } => {
                let at = at.index(places);
                bytes.truncate(at);
            }
        }
    }
}

fn mutation(words: Words) -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let random = prop::collection::vec(any::<u8>(), 1..9);
    let word = prop::sample::select(words).prop_map(<[u8]>::to_vec);
    let piece = prop_oneof![random, word.clone(), word];
    let count = prop_oneof![1..9_usize, 1..LONGEST_PIECE];
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        4 => (at(), piece.clone()).prop_map(|(at, with)| Mutation::Overwrite { at, with }),
        4 => (at(), piece).prop_map(|(at, what)| Mutation::Insert { at, what }),
        2 => (at(), count.clone()).prop_map(|(at, count)| Mutation::Remove { at, count }),
        2 => (at(), count, at()).prop_map(|(from, count, to)| Mutation::Repeat { from, count, to }),
        1 => at().prop_map(|at| Mutation::Cut { at }),
    ]
}

/// One of `seeds` after some mutations.
pub(crate) fn spoilt(seeds: Vec<Vec<u8>>, words: Words) -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop::collection::vec(mutation(words), 1..=MOST);
    (prop::sample::select(seeds), mutations).prop_map(|(mut bytes, mutations)| {
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    })
}

/// Bytes of which nothing is known.
pub(crate) fn noise(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}
