//! What an event did to a manifest.
//!
//! Responsible for: naming everything that has to be persisted, carried out or counted.
//! Not responsible for: deciding it (`progress::manifest`) or doing it (`completion`).

use super::{CompletedBy, Member, MemberHash, Tally};
use crate::model::{Digest, MemberId};

/// A completion: at most one for each revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Why.
    pub why: CompletedBy,
    /// Which one, from 1.
    pub revision: u32,
    /// The members it counts.
    pub tally: Tally,
    /// Expected members that are dead-lettered, in the order in which they were first seen; their
    /// ids are in the store.
    pub dead_lettered: Vec<MemberHash>,
}

/// What a manifest's event leads to outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// Its actions have to be carried out.
    Completed(Completion),
    /// A deadline passed, somebody should know. The manifest stays open.
    Alert,
    /// A deadline gave it up.
    Failed,
    /// A deadline was put off, by itself or by an operator. The manifest stays open.
    PutOff,
    /// An operator gave it up.
    Cancelled,
    /// Actions of its completions that are blocked or exhausted have to be tried again.
    RetryActions,
}

/// A member that has to be persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Its id, which is not kept here; none where a list left the member out. Whoever declares
    /// versions has to know the ids of such members.
    pub id: Option<MemberId>,
    /// Hash of the id.
    pub hash: MemberHash,
    /// What is known of it now.
    pub member: Member,
    /// Whether it was unknown before: a row to insert.
    pub first_seen: bool,
}

/// An attempt whose rows and objects never count: another digest is accepted for the member, and
/// final. Where the very same digest may still be accepted, nothing is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retire {
    /// Hash of the member's id.
    pub member: MemberHash,
    /// Digest of the attempt.
    pub digest: Digest,
}

/// What an event did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Members to persist.
    pub members: Vec<MemberChange>,
    /// Whether [`ManifestState::head`](crate::progress::manifest::ManifestState::head) has to be persisted.
    pub head_changed: bool,
    /// What it leads to outside.
    pub effect: Effect,
    /// Whether it opened the manifest again; it may be complete again already, see `effect`.
    pub reopened: bool,
    /// Attempts that lost.
    pub retire: Vec<Retire>,
    /// It said what was known.
    pub duplicate: bool,
    /// It said something else of a member that had settled; the first digest stays.
    pub conflict: bool,
    /// It came after the manifest was complete, cancelled or failed.
    pub late: bool,
    /// It settled a member that is not expected (yet).
    pub unexpected: bool,
    /// Its list is older than the one known and changed nothing.
    pub outdated: bool,
    /// Its list has taken the place of those before, under a higher version.
    pub replaced: bool,
    /// Whether the manifest is complete is for its predicate to say, see
    /// [`ManifestState::decide`](crate::progress::manifest::ManifestState::decide).
    pub ask: bool,
    /// Why it was not applied at all: nothing has to be persisted.
    pub refused: Option<&'static str>,
}
