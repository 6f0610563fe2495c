//! The actor kit: what actix gives (actors, contexts, timers) and what it lacks.
//!
//! Responsible for: inboxes that outlive their actors, supervision with restart intensity, death
//! watch, heartbeats, shutdown levels, worker threads with lanes, the clock; and the traits and
//! values that the nodes of a stage share.
//! Not responsible for: Kafka, SQL, or any decision that can be made by a pure function
//! (`progress`).
//!
//! Why not actix's own: its `Supervisor` does not restart an actor that panicked and drops its
//! mailbox, its `SyncArbiter` has no backpressure and never replaces a dead thread, and `do_send`
//! is an unbounded queue.
//!
//! ```text
//! senders ──▶ Address ─▶ [ bounded queue ] ─▶ Inbox ──▶ actor, n-th incarnation ─▶ Lifeline
//!                                                 ▲                                   │
//!                                                 └── supervisor builds n+1 ◀── Exit ─┘
//! ```

pub mod clock;
pub mod escalation;
pub mod exit;
pub mod fault;
pub mod file_lock;
pub mod handover;
pub mod heartbeat;
pub mod inbox;
pub mod jitter;
pub mod lanes;
pub mod node;
pub mod pool;
pub mod shutdown;
pub mod supervisor;
