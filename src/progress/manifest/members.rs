//! The members of one manifest in memory: a set, in at most 48 bytes per member.
//!
//! Responsible for: the identity of members as hashes, what is known of each, and tallies that
//! follow from the set.
//! Not responsible for: the rules by which a member changes (`progress::manifest`), or ids as
//! text, which only the store keeps.
//!
//! Entries are 33 bytes (two hashes and a byte of flags) in a vector that grows by an eighth, so
//! at most 37.2 bytes each; an open-addressing index of 4-byte positions, between 3/8 and 3/4
//! full, adds at most 10.7. That is 47.8 bytes at worst, 42 on average. Up to 16 members need no
//! index. (A std `HashMap` of the same entries takes 39 to 78, a `BTreeMap` about 52.)

use std::fmt;

use crate::model::event::MemberState;
use crate::model::{Digest, MemberId};

/// Identity of a member in memory: 128 bits of the BLAKE3 hash of its id. Ids come from outside,
/// so the hash has to resist crafted collisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberHash([u8; 16]);

impl MemberHash {
    /// The hash of an id.
    pub fn of(id: &MemberId) -> Self {
        let hash = blake3::hash(id.as_str().as_bytes());
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        Self(bytes)
    }

    /// A hash from its 16 bytes, as the store keeps it.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Where the search in the index begins: the first bytes are as good as any.
    fn slot(&self) -> usize {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) as usize
    }
}

impl fmt::Debug for MemberHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is known of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whether the manifest expects it.
    pub expected: bool,
    /// Its best state so far.
    pub state: MemberState,
    /// The accepted digest, once it has settled.
    pub digest: Option<Digest>,
}

/// How many members are in which state. Always recomputable from the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Expected members.
    pub expected: u64,
    /// Of those, not settled.
    pub pending: u64,
    /// Of those, dead-lettered.
    pub dead_lettered: u64,
    /// Of those, with nothing in them.
    pub empty: u64,
    /// Of those, done.
    pub done: u64,
    /// Settled members that are not expected.
    pub unexpected: u64,
}

impl Tally {
    /// Where a member counts: nowhere if it has not settled and nobody expects it any more.
    fn place(&mut self, member: &Member) -> Option<&mut u64> {
        Some(match (member.expected, member.state) {
            (true, MemberState::Pending) => &mut self.pending,
            (true, MemberState::DeadLettered) => &mut self.dead_lettered,
            (true, MemberState::Empty) => &mut self.empty,
            (true, MemberState::Done) => &mut self.done,
            (false, MemberState::Pending) => return None,
            (false, _) => &mut self.unexpected,
        })
    }

    fn add(&mut self, member: &Member) {
        if let Some(place) = self.place(member) {
            *place += 1;
        }
        self.expected += u64::from(member.expected);
    }

    fn remove(&mut self, member: &Member) {
        if let Some(place) = self.place(member) {
            *place -= 1;
        }
        self.expected -= u64::from(member.expected);
    }
}

/// Bits of the flags that hold the state; one more says whether the member is expected.
const STATE_MASK: u8 = 0b011;
const EXPECTED: u8 = 0b100;

/// One member; byte arrays only, so that it takes 33 bytes without padding.
#[derive(Clone, Copy)]
struct Entry {
    hash: MemberHash,
    /// Meaningless while the state is pending.
    digest: [u8; 16],
    flags: u8,
}

impl Entry {
    fn pack(hash: MemberHash, member: &Member) -> Self {
        Self {
            hash,
            digest: member.digest.map_or([0; 16], |digest| *digest.as_bytes()),
            flags: member.state as u8 | if member.expected { EXPECTED } else { 0 },
        }
    }

    fn unpack(&self) -> Member {
        let state = match self.flags & STATE_MASK {
            0 => MemberState::Pending,
            1 => MemberState::DeadLettered,
            2 => MemberState::Empty,
            _ => MemberState::Done,
        };
        let settled = state != MemberState::Pending;
        Member {
            expected: self.flags & EXPECTED != 0,
            state,
            digest: settled.then(|| Digest::from_bytes(self.digest)),
        }
    }
}

/// Up to so many members are searched one by one.
const FEW: usize = 16;

/// The members of one manifest. Members are added and change, they never leave.
#[derive(Clone, Default)]
pub struct Members {
    entries: Vec<Entry>,
    /// Position in `entries` plus one, by hash, with linear probing; 0 is free. Empty while there
    /// are few members.
    index: Box<[u32]>,
    tally: Tally,
}

impl Members {
    /// Number of members, expected or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known of any member.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many are in which state.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The tally counted anew from the set.
    pub fn recount(&self) -> Tally {
        let mut tally = Tally::default();
        self.iter().for_each(|(_, member)| tally.add(&member));
        tally
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + size_of_val(&*self.index)
    }

    /// All members, in the order in which they were first seen.
    pub fn iter(&self) -> impl Iterator<Item = (MemberHash, Member)> {
        self.entries.iter().map(|entry| (entry.hash, entry.unpack()))
    }

    /// What is known of a member.
    pub fn get(&self, hash: MemberHash) -> Option<Member> {
        self.find(hash).map(|at| self.entries[at].unpack())
    }

    /// Adds a member or replaces what is known of it.
    pub fn put(&mut self, hash: MemberHash, member: Member) {
        let entry = Entry::pack(hash, &member);
        match self.find(hash) {
            Some(at) => {
                self.tally.remove(&self.entries[at].unpack());
                self.entries[at] = entry;
            }
            None => self.push(entry),
        }
        self.tally.add(&member);
    }

    fn find(&self, hash: MemberHash) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.iter().position(|entry| entry.hash == hash);
        }
        let mask = self.index.len() - 1;
        let mut slot = hash.slot() & mask;
        // Ends, because a quarter of the index is free.
        while let Some(at) = (self.index[slot] as usize).checked_sub(1) {
            if self.entries[at].hash == hash {
                return Some(at);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    fn push(&mut self, entry: Entry) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            self.entries.reserve_exact((len / 8).max(1));
        }
        self.entries.push(entry);
        if len < FEW {
            return;
        }
        if (len + 1) * 4 > self.index.len() * 3 {
            self.rebuild_index();
        } else {
            Self::enter(&mut self.index, &entry.hash, len);
        }
    }

    fn rebuild_index(&mut self) {
        let slots = (self.entries.len() * 4 / 3 + 1).next_power_of_two();
        let mut index = vec![0u32; slots].into_boxed_slice();
        for (at, entry) in self.entries.iter().enumerate() {
            Self::enter(&mut index, &entry.hash, at);
        }
        self.index = index;
    }

    fn enter(index: &mut [u32], hash: &MemberHash, at: usize) {
        let mask = index.len() - 1;
        let mut slot = hash.slot() & mask;
        while index[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        // 2^32 members would take 200 GB.
        index[slot] = (at + 1) as u32;
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
