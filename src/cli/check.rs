//! `tidemill check`.
//!
//! Responsible for: saying that a topology is fine, or everything that is wrong with it.
//! Not responsible for: the checks (`topology`).

use std::path::{Path, PathBuf};

use super::{Exit, load};
use crate::topology::{self, Topology};

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
            Ok(topology) => tell(path, &topology),
            Err(wrong) => exit = wrong,
        }
    }
    exit
}

fn tell(path: &Path, topology: &Topology) {
    let (nodes, stages) = (topology.graph.nodes.len(), topology::stages(&topology.graph).len());
    let path = path.display();
    println!("{path}: {} is fine: {nodes} nodes in {stages} stages", topology.name);
    for note in topology::notes(topology) {
        println!("note: {note}");
    }
}
