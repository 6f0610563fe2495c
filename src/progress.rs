//! Pure state machines: every decision about obligations, offsets, membership and retries.
//!
//! Responsible for: the obligation tree, the offset tracker, retry and restart policies, the
//! limit of dead letters, manifests and their deadlines.
//! Not responsible for: time, I/O, threads. Time and randomness come in as arguments, what to do
//! goes out as return values; actors and threads only move messages. An obligation is the one
//! value here that is shared between threads, and it is made of atomics only.

pub mod obligation;
