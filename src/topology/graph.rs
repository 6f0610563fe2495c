//! The graph of a topology.
//!
//! Responsible for: nodes in topological order, and who reads what.
//! Not responsible for: checking it (`wiring`), or how it is cut into stages (`stage`).

use crate::model::NodeName;
use crate::runtime::node::{Port, PortSpec};
use crate::topology::ports;
use crate::{processor, sink, source};

/// What a node is and does.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Takes records from the broker.
    Source(source::config::Config),
    /// Makes records from records.
    Processor(processor::config::Config),
    /// Makes records durable.
    Sink(sink::config::Config),
}

/// What a node reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Index of the node that emits it.
    pub node: usize,
    /// One output of that node; `None`: all of its main outputs.
    pub port: Option<String>,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// What it is and does.
    pub kind: NodeKind,
    /// What it reads.
    pub inputs: Vec<Input>,
    /// Its declaration without layout: part of the digest of members that go through it.
    pub definition: String,
}

impl Node {
    /// Its outputs, in order: a [`Port`] is an index into them.
    pub fn ports(&self) -> Vec<PortSpec> {
        match &self.kind {
            NodeKind::Source(_) => vec![PortSpec { name: String::new(), main: true }],
            NodeKind::Processor(config) => ports::ports(config),
            NodeKind::Sink(_) => Vec::new(),
        }
    }

    /// The word for its type in `type = "…"`.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Source(source::config::Config::Kafka(_)) => "kafka",
            NodeKind::Processor(config) => match config {
                processor::config::Config::Filter(_) => "filter",
                processor::config::Config::Remap(_) => "remap",
                processor::config::Config::Fetch(_) => "fetch",
                processor::config::Config::Unarchive(_) => "unarchive",
                processor::config::Config::Csv(_) => "csv",
                processor::config::Config::Aggregate(_) => "aggregate",
            },
            NodeKind::Sink(config) => match config {
                sink::config::Config::Kafka(_) => "kafka",
                sink::config::Config::Parquet(_) => "parquet",
                sink::config::Config::Table(_) => "table",
            },
        }
    }
}

/// All nodes, each behind everything it reads.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The nodes in topological order; a node is known by its index.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The node called `name`.
    pub fn index_of(&self, name: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == *name)
    }

    /// The output of `node` called `port`; the empty name is that of an output without one.
    pub fn port(&self, node: usize, port: &str) -> Option<Port> {
        let ports = self.nodes.get(node)?.ports();
        port_at(ports.iter().position(|spec| spec.name == port)?)
    }

    /// Nodes that read output `port` of `node`, in topological order.
    pub fn readers(&self, node: usize, port: Port) -> Vec<usize> {
        let Some(from) = self.nodes.get(node) else { return Vec::new() };
        let ports = from.ports();
        let Some(spec) = ports.get(usize::from(port.0)) else { return Vec::new() };
        let reads = |reader: &Node| {
            reader.inputs.iter().any(|input| input.node == node && is_read(input, spec))
        };
        let readers = self.nodes.iter().enumerate().filter(|(_, reader)| reads(reader));
        readers.map(|(index, _)| index).collect()
    }

    /// Nodes that read any output of `node`, in topological order.
    pub fn successors(&self, node: usize) -> Vec<usize> {
        let reads = |reader: &Node| reader.inputs.iter().any(|input| input.node == node);
        let readers = self.nodes.iter().enumerate().filter(|(_, reader)| reads(reader));
        readers.map(|(index, _)| index).collect()
    }

    /// Outputs that `node` reads: pairs of a node and one of its ports.
    pub fn reads(&self, node: usize) -> Vec<(usize, Port)> {
        let Some(reader) = self.nodes.get(node) else { return Vec::new() };
        let mut found = Vec::new();
        for input in &reader.inputs {
            let ports = self.nodes.get(input.node).map_or_else(Vec::new, Node::ports);
            let read = ports.iter().enumerate().filter(|(_, spec)| is_read(input, spec));
            found.extend(read.filter_map(|(at, _)| Some((input.node, port_at(at)?))));
        }
        found
    }

    /// `start` and everything that records leaving it can reach.
    pub fn downstream(&self, start: usize) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            reached[index] = index == start || node.inputs.iter().any(|input| reached[input.node]);
        }
        reached
    }
}

/// Whether `input` reads the output `spec` of the node it names.
pub(super) fn is_read(input: &Input, spec: &PortSpec) -> bool {
    match &input.port {
        Some(name) => *name == spec.name,
        None => spec.main,
    }
}

/// The port at index `at`; there are at most 255, see `ports::MOST_SCHEMAS`.
pub(super) fn port_at(at: usize) -> Option<Port> {
    u8::try_from(at).ok().map(Port)
}
