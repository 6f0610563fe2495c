//! Tests against real files, real processes, a real Kafka broker and the shipped binary.
//!
//! `scripts/test` starts the servers these tests need and names them in `TIDEMILL_TEST_…`; a test
//! without its server fails and says so.

#![expect(
    clippy::disallowed_methods,
    reason = "tests learn where their servers are from the environment, and wait by the clock"
)]

mod architecture;
mod broker_contract;
mod cost;
mod harness;
mod passthrough;
mod state_contract;
