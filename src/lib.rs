//! Tidemill.
pub mod model;
pub mod progress;
pub mod telemetry;
pub mod expr;
