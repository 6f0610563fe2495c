//! Tidemill.
pub mod broker;
pub mod columnar;
pub mod cli;
pub mod completion;
pub mod config;
pub mod engine;
pub mod expr;
pub mod model;
pub mod net;
pub mod processor;
pub mod progress;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod spool;
pub mod telemetry;
pub mod topology;
