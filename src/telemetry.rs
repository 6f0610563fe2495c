//! What can be observed of a running engine.
//!
//! Responsible for: one catalogue that declares every instrument, exporting what they read, which
//! nodes wait for something that is away, and the setting up of logs.
//! Not responsible for: deciding anything by what it counts.

pub mod catalogue;
pub mod logs;
pub mod metrics;
pub mod unavailable;

pub use catalogue::{Counter, Declared, Gauge, Instruments, Kind, Part};
pub use metrics::{Metrics, MetricsError, Samples};
pub use unavailable::{Away, NodeAway, Unavailable};
