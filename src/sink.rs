//! Sinks: the CPU half that runs in a stage, and the actor that makes results durable.
//!
//! Responsible for: the Kafka sink, the Parquet sink, the table sink, and the dead letters.
//! Not responsible for: deciding what fails for good (`progress::retry`) or when to stop
//! (`progress::dead_letters`).
//!
//! A sink settles on a durable receipt only: the broker's ack, the renamed file, the committed
//! transaction.

pub mod config;
pub mod dead_letter;
pub mod kafka;
pub mod parquet;
pub mod table;

pub use config::Config;
