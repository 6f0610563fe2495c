//! The topology language: from text to a validated topology.
//!
//! Responsible for: parsing to a document whose values know their places, reading each node on
//! its own, compiling programs, checking the graph, and saying everything that is wrong at once;
//! the graph, its stages, and pictures of them.
//! Not responsible for: running anything, and for what needs a broker or a database to be known.
//!
//! Start reading at [`parse`]. Order of events: `[vars]` (`vars`), then each section on its own
//! (`nodes`, `manifests`, `tables`, …) into the config types of `source`, `processor`, `sink` and
//! `completion`, then the graph (`wiring`), then what can only be judged on a whole graph
//! (`checks`, `columns`). The fusion plan is made from the graph by [`stages`].

mod actions;
mod broker;
mod checks;
mod columns;
mod csv;
pub mod describe;
mod graph;
mod ingress;
mod manifests;
mod marks;
mod names;
mod nodes;
mod notes;
mod objects;
mod ports;
mod processors;
mod programs;
mod read;
mod sinks;
mod sources;
mod stage;
mod tables;
mod vars;
mod wiring;

use std::path::Path;

use crate::completion::config::{Manifest, Receipt, Table, View};
use crate::config::diagnostic::{Diagnostics, Report};
use crate::config::document::{self, Context};
use crate::model::{NodeName, PipelineName, Topic};
use crate::source::config::Ingress;

pub use broker::BrokerSection;
pub use graph::{Graph, Input, Node, NodeKind};
pub use notes::notes;
pub use ports::ports;
pub use stage::{Entry, Feed, Outlet, Route, Stage, Target, stages};

/// A topology that has been checked.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Its name; prefixes the internal topics.
    pub name: PipelineName,
    /// Which log it runs on.
    pub broker: BrokerSection,
    /// Stage 2.
    pub progress: Progress,
    /// Endpoints that take uploads.
    pub ingresses: Vec<(NodeName, Ingress)>,
    /// Sources, processors and sinks.
    pub graph: Graph,
    /// Messages about records that have settled.
    pub receipts: Vec<(NodeName, Receipt)>,
    /// Declared manifests.
    pub manifests: Vec<(NodeName, Manifest)>,
    /// Tables that the engine creates.
    pub tables: Vec<Table>,
    /// Views that the engine creates, in order.
    pub views: Vec<View>,
}

/// `[progress]`: the topic between the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Partitions of the progress topic: how many aggregators there can be. Cannot be changed
    /// once the topic exists.
    pub partitions: i32,
}

impl Default for Progress {
    fn default() -> Self {
        Self { partitions: 12 }
    }
}

impl Topology {
    /// The topic of progress events.
    pub fn progress_topic(&self) -> Topic {
        Topic::from(format!("{}.progress", self.name))
    }

    /// The topic that replayed dead letters go to; sources read it too.
    pub fn replay_topic(&self) -> Topic {
        Topic::from(format!("{}.replay", self.name))
    }
}

/// Reads the topology at `path`; `env` looks up environment variables.
///
/// # Errors
/// All errors of the file at once, or that it cannot be read.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Topology, Diagnostics> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text, env),
        Err(error) => Err(Diagnostics::whole_file(&name, format!("cannot read {name}: {error}"))),
    }
}

/// Reads a topology from `text`, which messages call `file_name`.
///
/// # Errors
/// All errors of the text at once.
pub fn parse(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Topology, Diagnostics> {
    let report = Report::default();
    let topology = document::parse(text, &report).and_then(|table| {
        let without = Context { text, report: &report, variables: None };
        let variables = vars::read(without, &table, env);
        let cx = Context { text, report: &report, variables: Some(&variables) };
        read::topology(cx, &table)
    });
    report.conclude(file_name, text, topology)
}

#[cfg(test)]
mod tests;
