//! Pictures of a topology: text for terminals, mermaid for pages.
//!
//! Responsible for: drawing sources, stages, nodes, sinks and the way of completions, with the
//! capacity of every queue on its arrow.
//! Not responsible for: the plan it draws (`stage`).

mod mermaid;

use std::fmt::Write;

use crate::completion::config::{Manifest, Policy};
use crate::config::{Limits, units};
use crate::processor::config::Config as Processor;
use crate::progress::manifest::Share;
use crate::sink::config::Config as Sink;
use crate::source::config::Config as Source;
use crate::topology::Topology;
use crate::topology::graph::{Graph, Node, NodeKind, port_at};
use crate::topology::stage::{Feed, Outlet, Stage, Target, stages};

pub use mermaid::mermaid;

/// Capacities of the queues between the parts of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// Bytes buffered per partition.
    pub buffer_bytes: u64,
    /// Records buffered per partition.
    pub buffer_records: usize,
    /// Bytes buffered over all partitions of a source.
    pub buffer_total: u64,
    /// Records per partition without an outcome.
    pub in_flight_records: usize,
    /// Records of one batch.
    pub batch_records: usize,
    /// Batches that wait for a lane.
    pub lane_batches: usize,
    /// Batches that wait for a sink or a node that does I/O.
    pub sink_batches: usize,
}

impl From<&Limits> for Capacities {
    fn from(limits: &Limits) -> Self {
        Self {
            buffer_bytes: limits.buffer_bytes,
            buffer_records: limits.buffer_records,
            buffer_total: limits.buffer_total,
            in_flight_records: limits.in_flight_records,
            batch_records: limits.batch_records,
            lane_batches: limits.lane_batches,
            sink_batches: limits.sink_batches,
        }
    }
}

impl Capacities {
    /// What may lie between the poll thread and a partition's consumer.
    fn intake(&self) -> String {
        format!(
            "{} / {} records per partition, {} in all",
            units::show_size(self.buffer_bytes),
            self.buffer_records,
            units::show_size(self.buffer_total)
        )
    }

    /// What may wait in front of each lane of a stage.
    fn lane(&self) -> String {
        format!("{} batches of {} per lane", self.lane_batches, self.batch_records)
    }

    /// What may wait in front of a node that does I/O, and of the I/O half of a sink.
    fn sink(&self) -> String {
        format!("{} batches of {}", self.sink_batches, self.batch_records)
    }
}

/// The topology as text: one block per source, stage, `fetch` and manifest.
pub fn text(topology: &Topology, capacities: &Capacities) -> String {
    let mut drawing =
        Drawing { topology, capacities, stages: stages(&topology.graph), out: String::new() };
    drawing.draw();
    drawing.out
}

struct Drawing<'t> {
    topology: &'t Topology,
    capacities: &'t Capacities,
    stages: Vec<Stage>,
    out: String,
}

impl Drawing<'_> {
    fn draw(&mut self) {
        let log = match &self.topology.broker.bootstrap {
            Some(bootstrap) => format!("kafka at {bootstrap}"),
            None => "embedded log".to_owned(),
        };
        self.line(0, &format!("pipeline {} on {log}", self.topology.name));
        self.ingresses();
        let graph = &self.topology.graph;
        for (index, node) in graph.nodes.iter().enumerate() {
            if matches!(node.kind, NodeKind::Source(_)) {
                self.outside(index, node, "source", &self.capacities.intake());
            }
        }
        for stage in &self.stages.clone() {
            self.stage(stage);
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            if let NodeKind::Processor(Processor::Fetch(fetch)) = &node.kind {
                let queue = format!("{}, {} at once", self.capacities.sink(), fetch.concurrency);
                self.outside(index, node, "fetch", &queue);
            }
        }
        self.completions();
    }

    fn line(&mut self, depth: usize, text: &str) {
        let indent = "  ".repeat(depth);
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{indent}{text}");
    }

    fn ingresses(&mut self) {
        for (name, ingress) in &self.topology.ingresses {
            self.out.push('\n');
            self.line(0, &format!("ingress {name}: POST {}", ingress.path));
            self.line(1, &format!("-> topic {}", ingress.topic));
        }
    }

    /// A source or a `fetch`: what runs outside stages and feeds one. `queue` lies before the
    /// consumer of a source, and before a `fetch`.
    fn outside(&mut self, index: usize, node: &Node, what: &str, queue: &str) {
        let (feed, lanes) = (feed_of(index, node), self.capacities.lane());
        let fed = self.stages.iter().find(|stage| stage.entries.iter().any(|e| e.feed == feed));
        let fed = fed.map(|stage| stage.id);
        self.out.push('\n');
        self.line(0, &format!("{what} {}: {}", node.name, summary(node)));
        self.line(1, &format!("[{queue}]"));
        if matches!(node.kind, NodeKind::Source(_)) {
            let in_flight = self.capacities.in_flight_records;
            self.line(1, &format!("[{in_flight} records in flight per partition]"));
        }
        if let Some(id) = fed {
            self.line(1, &format!("-> stage {id} [{lanes}]"));
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let graph = &self.topology.graph;
        self.out.push('\n');
        self.line(0, &format!("stage {}", stage.id));
        for entry in &stage.entries {
            self.line(1, &format!("from {}", feed_name(graph, entry.feed)));
            for target in &entry.to {
                self.output("", target);
            }
        }
        for index in &stage.nodes {
            let Some(node) = graph.nodes.get(*index) else { continue };
            self.line(1, &format!("{} ({}): {}", node.name, node.type_name(), summary(node)));
            for (at, spec) in node.ports().iter().enumerate() {
                let Some(port) = port_at(at) else { continue };
                for target in stage.targets(Outlet { node: *index, port }) {
                    self.output(&spec.name, target);
                }
            }
            if matches!(node.kind, NodeKind::Sink(_)) {
                let queue = self.capacities.sink();
                self.line(2, &format!("-> durable [{queue}]"));
            }
        }
    }

    fn output(&mut self, port: &str, target: &Target) {
        let to = self.target_name(target);
        let from = if port.is_empty() { String::new() } else { format!(".{port} ") };
        self.line(2, &format!("{from}-> {to}"));
    }

    fn target_name(&self, target: &Target) -> String {
        let name = |node: &usize| node_name(&self.topology.graph, *node);
        match target {
            Target::Node(node) => name(node),
            Target::Call(node) => format!("{} [{}]", name(node), self.capacities.sink()),
            Target::Stage { stage, .. } => {
                format!("stage {stage} [{}]", self.capacities.lane())
            }
        }
    }

    fn completions(&mut self) {
        if self.topology.manifests.is_empty() {
            return;
        }
        self.out.push('\n');
        let topic = self.topology.progress_topic();
        let partitions = self.topology.progress.partitions;
        self.line(0, &format!("topic {topic}: {partitions} partitions, one aggregator each"));
        for (name, manifest) in &self.topology.manifests {
            self.line(1, &format!("manifest {name}: {}", summary_of_manifest(manifest)));
            for action in &manifest.on_complete {
                self.line(2, &format!("-> {}", action.name));
            }
        }
    }
}

/// What a source or a `fetch` is to the stage it feeds.
fn feed_of(index: usize, node: &Node) -> Feed {
    match node.kind {
        NodeKind::Source(_) => Feed::Source(index),
        _ => Feed::Call(index),
    }
}

fn node_name(graph: &Graph, node: usize) -> String {
    graph.nodes.get(node).map_or_else(String::new, |node| node.name.to_string())
}

/// How inputs would name an output.
fn outlet_name(graph: &Graph, outlet: Outlet) -> String {
    let Some(node) = graph.nodes.get(outlet.node) else { return String::new() };
    match node.ports().get(usize::from(outlet.port.0)) {
        Some(spec) if !spec.name.is_empty() => format!("{}.{}", node.name, spec.name),
        _ => node.name.to_string(),
    }
}

fn feed_name(graph: &Graph, feed: Feed) -> String {
    match feed {
        Feed::Source(node) | Feed::Call(node) => node_name(graph, node),
        Feed::Edge(outlet) => outlet_name(graph, outlet),
    }
}

/// What a node does, in a few words.
fn summary(node: &Node) -> String {
    match &node.kind {
        NodeKind::Source(Source::Kafka(source)) => {
            format!("topic {}, group {}", source.topic, source.group)
        }
        NodeKind::Processor(config) => match config {
            Processor::Filter(_) => "keeps some records".to_owned(),
            Processor::Remap(_) => "rewrites fields".to_owned(),
            Processor::Fetch(fetch) => {
                format!("bodies of up to {}", units::show_size(fetch.max_bytes))
            }
            Processor::Unarchive(_) => "members of archives".to_owned(),
            Processor::Csv(csv) => format!("rows of {} schemas", csv.schemas.len()),
            Processor::Aggregate(aggregate) if aggregate.by.is_empty() => "one group".to_owned(),
            Processor::Aggregate(aggregate) => format!("groups by {}", aggregate.by.join(", ")),
        },
        NodeKind::Sink(config) => match config {
            Sink::Kafka(sink) => format!("topic {}", sink.topic),
            Sink::Parquet(sink) => format!("objects under {}", sink.url),
            Sink::Table(sink) => format!("table {}", sink.table),
        },
    }
}

fn summary_of_manifest(manifest: &Manifest) -> String {
    let policy = match &manifest.policy {
        Policy::AllDone => "all done".to_owned(),
        Policy::AllSettled { tolerate: Share::Members(0) } => "all settled".to_owned(),
        Policy::AllSettled { tolerate } => format!("all settled, {tolerate} may fail"),
        Policy::Quorum(quorum) => format!("{quorum} done"),
        Policy::Predicate(_) => "by predicate".to_owned(),
    };
    let announced = announced_name(manifest);
    format!("members of {}, expected by {announced}, {policy}", manifest.members)
}

fn announced_name(manifest: &Manifest) -> String {
    match &manifest.announced_port {
        Some(port) => format!("{}.{port}", manifest.announced_by),
        None => manifest.announced_by.to_string(),
    }
}

#[cfg(test)]
mod tests;
