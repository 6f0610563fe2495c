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

mod architecture;
mod broker_contract;
mod commands;
mod cost;
mod harness;
mod passthrough;
mod state_contract;
