//! Tests against real files, real processes, a real Kafka broker and the shipped binary.
//!
//! `scripts/test` starts the servers these tests need and names them in `TIDEMILL_TEST_…`; a test
//! without its server fails and says so.

mod architecture;
mod broker_contract;
mod harness;
mod passthrough;
