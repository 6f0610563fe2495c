//! Processors: the nodes between sources and sinks, and the stages that run them.
//!
//! Responsible for: each kind of node, fusing CPU nodes into a chain that runs a record as a
//! transaction, and running nodes that wait for something outside.
//! Not responsible for: which nodes are fused (`topology`), or threads (`runtime::pool`).

pub mod aggregate;
pub mod call;
pub mod config;
pub mod csv;
pub mod decode;
pub mod edge;
pub mod fetch;
pub mod filter;
pub mod remap;
pub mod stage;
pub mod unarchive;

pub use config::Config;
