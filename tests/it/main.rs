//! Tests against real files, real processes, a real Kafka broker and the shipped binary.
//!
//! `scripts/test` starts the servers these tests need and names them in `TIDEMILL_TEST_…`; a test
//! without its server fails and says so.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests learn of their servers from the environment, wait by the clock, and may panic"
)]

mod api;
mod architecture;
mod broker_contract;
mod canaries;
mod commands;
mod cost;
mod database;
mod faults;
mod full_disks;
mod harness;
mod hostile;
mod kafka_security;
mod operators;
mod passthrough;
mod postgres_tls;
mod replicas;
mod s3;
mod shared_spool;
mod state_contract;
mod supersede;
