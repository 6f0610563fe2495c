//! `tidemill describe`.
//!
//! Responsible for: printing a topology as text or as a mermaid drawing.
//! Not responsible for: drawing it (`topology::describe`).

use std::path::PathBuf;

use super::{Exit, load};
use crate::config::Config;
use crate::topology::describe::{Capacities, mermaid, text};

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topology.
    #[arg(value_name = "TOPOLOGY")]
    topology: PathBuf,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Indented text.
    Text,
    /// A mermaid flowchart.
    Mermaid,
}

/// Prints the topology.
pub fn describe(arguments: &Arguments, config: &Config) -> Exit {
    let topology = match load(&arguments.topology) {
        Ok(topology) => topology,
        Err(exit) => return exit,
    };
    let capacities = Capacities::from(&config.limits);
    match arguments.format {
        Format::Text => print!("{}", text(&topology, &capacities)),
        Format::Mermaid => print!("{}", mermaid(&topology, &capacities)),
    }
    Exit::Ok
}
