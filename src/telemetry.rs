//! What can be observed of a running engine.
//!
//! Responsible for: one catalogue that declares every instrument, and the setting up of logs.
//! Not responsible for: deciding anything by what it counts.

pub mod catalogue;
pub mod logs;

pub use catalogue::{Counter, Gauge, Instruments};
