//! Pure state machines: every decision about obligations, offsets, membership and retries.
//!
//! Responsible for: the obligation tree, the offset tracker, retry and restart policies, the
//! limit of dead letters, manifests and their deadlines, how far a partition is behind, how much
//! of a shared total it may buffer, what is owed to uploads that replicas share.
//! Not responsible for: time, I/O, threads. Time and randomness come in as arguments, what to do
//! goes out as return values; actors and threads only move messages. An obligation is the one
//! value here that is shared between threads, and it is made of atomics only.
//!
//! Where a state machine needs to know how much time has passed, `now` is a `Duration` on a scale
//! that only goes forward (time since the process started); where it has to survive the process,
//! it is [`deadline::OwnedTime`].

pub mod buffer_share;
pub mod commit_fate;
pub mod commits;
pub mod dead_letters;
pub mod deadline;
pub mod invariants;
pub mod lag;
pub mod manifest;
pub mod obligation;
pub mod positions;
pub mod restart;
pub mod retry;
#[cfg(test)]
mod shard_model;
pub mod shared_spool;
pub mod stall;
pub mod tracker;
