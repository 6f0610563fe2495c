//! Sources: from the log to the first stage, and back to the committed offset.
//!
//! Responsible for: one consumer actor per assigned partition, on top of `broker::group`; dead
//! letters that are replayed; the HTTP ingress that announces uploads on a topic.
//! Not responsible for: what happens to a record (`processor`, `sink`), nor for the rules of
//! offsets (`progress::tracker`, `progress::positions`).
//!
//! ```text
//! poll thread ──▶ PartitionBuffer ──▶ PartitionConsumer ──▶ lanes of the first stage
//!      ▲  ▲                                  │
//!      │  └── seek, resume ◀─────────────────┤ (at each start, under a new epoch)
//!      └───── commit ◀── Commits ◀───────────┘ (contiguous offsets only)
//! ```

pub mod config;
pub mod ingress;
mod open_batch;
pub mod partition_consumer;
pub mod replay;
pub mod start;
pub mod watchdog;

pub use config::Config;
