//! Tidemill runs declared topologies over Kafka: partition consumers feed pools of workers, sinks
//! make results durable, and a manifest aggregator fires each completion exactly once.
//!
//! # Where to start reading
//!
//! 1. [`engine`]: how a pipeline is built bottom-up and drained top-down.
//! 2. [`broker::group`] and [`source::partition_consumer`]: from the log to a batch of records.
//! 3. [`processor::stage`]: what happens to one record; [`runtime::node`] says why that is a
//!    transaction.
//! 4. [`sink::kafka`]: how a result becomes durable, and its obligation settled.
//! 5. [`progress::obligation`] and [`progress::tracker`]: how that becomes a committed offset.
//! 6. [`completion`]: how a member's outcome becomes a manifest's completion.
//!
//! # Layers
//!
//! Imports point downward only; `tests/it/architecture.rs` holds that.
//!
//! ```text
//! L6  cli  api                                        what people type, and programs ask
//! L5  engine                                          build, run, drain
//! L4  topology  config  ops                           what is declared; what is asked
//! L3  source  processor  sink  completion             siblings, unknown to each other
//! L2  runtime  broker  state  expr  spool  columnar  net  sql
//! L1  progress  telemetry                             pure decisions; instruments
//! L0  model                                           values that cross borders
//! ```
//!
//! # The data path
//!
//! ```text
//! log ─▶ poll thread ─▶ PartitionBuffer ─▶ PartitionConsumer ─▶ Pool (stage) ─▶ Sink
//!           ▲                                     │  ▲                           │
//!           └──────── contiguous offsets ◀────────┘  └──── slots of a scope ◀────┘ settle
//!
//! member settled ─▶ progress topic ─▶ ManifestAggregator ─▶ state store ─▶ OutboxDispatcher
//! ```

pub mod api;
pub mod broker;
pub mod cli;
pub mod columnar;
pub mod completion;
pub mod config;
pub mod engine;
pub mod expr;
pub mod model;
pub mod net;
pub mod ops;
pub mod processor;
pub mod progress;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod spool;
pub mod sql;
pub mod state;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod topology;
