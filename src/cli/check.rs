//! `tidemill check`.
//!
//! Responsible for: saying that a topology is fine, or everything that is wrong with it.
//! Not responsible for: the checks (`topology`).

use std::path::PathBuf;

use super::{Exit, load};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Topologies to check.
    #[arg(required = true, value_name = "TOPOLOGY")]
    topologies: Vec<PathBuf>,
}

/// Checks each topology; the first that is wrong decides the exit code, all are checked.
pub fn check(arguments: &Arguments) -> Exit {
    let mut exit = Exit::Ok;
    for path in &arguments.topologies {
        match load(path) {
            Ok(topology) => println!(
                "{}: {} is fine: {} nodes in {} stages",
                path.display(),
                topology.name,
                topology.graph.nodes.len(),
                crate::topology::stages(&topology.graph).len(),
            ),
            Err(wrong) => exit = wrong,
        }
    }
    exit
}
