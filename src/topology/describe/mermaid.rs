//! A topology as a mermaid flowchart.
//!
//! Responsible for: the syntax of mermaid, with nothing of a topology breaking out of it.
//! Not responsible for: what is drawn (`describe`).

use std::fmt::Write;

use crate::topology::Topology;
use crate::topology::describe::{Capacities, announced_name, node_name, outlet_name, summary};
use crate::topology::graph::NodeKind;
use crate::topology::stage::{Entry, Feed, Stage, Target, stages};

/// The topology as a mermaid flowchart: stages are subgraphs, arrows that cross their borders
/// carry the capacity of their queue.
pub fn mermaid(topology: &Topology, capacities: &Capacities) -> String {
    let mut chart =
        Chart { topology, capacities, stages: stages(&topology.graph), out: String::new() };
    chart.draw();
    chart.out
}

struct Chart<'t> {
    topology: &'t Topology,
    capacities: &'t Capacities,
    stages: Vec<Stage>,
    out: String,
}

impl Chart<'_> {
    fn draw(&mut self) {
        self.line("flowchart LR");
        self.ingresses();
        self.outside();
        let stages = std::mem::take(&mut self.stages);
        for stage in &stages {
            self.subgraph(stage);
        }
        for stage in &stages {
            self.entries(stage, &stages);
            self.routes(stage, &stages);
        }
        self.completions();
    }

    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{text}");
    }

    fn arrow(&mut self, from: &str, label: &str, to: &str) {
        match label {
            "" => self.line(&format!("  {from} --> {to}")),
            label => self.line(&format!("  {from} -->|\"{}\"| {to}", escaped(label))),
        }
    }

    fn ingresses(&mut self) {
        for (number, (name, ingress)) in self.topology.ingresses.iter().enumerate() {
            let label = format!("ingress {name}<br/>POST {}", ingress.path);
            self.line(&format!("  i{number}[/\"{}\"/]", escaped(&label)));
            for (index, node) in self.topology.graph.nodes.iter().enumerate() {
                if let NodeKind::Source(crate::source::config::Config::Kafka(source)) = &node.kind
                    && source.topic == ingress.topic
                {
                    self.arrow(&format!("i{number}"), source.topic.as_str(), &format!("n{index}"));
                }
            }
        }
    }

    /// Sources and nodes that do I/O.
    fn outside(&mut self) {
        for (index, node) in self.topology.graph.nodes.iter().enumerate() {
            let is_inside = self.stages.iter().any(|stage| stage.nodes.contains(&index));
            if is_inside {
                continue;
            }
            let label = escaped(&format!("{}<br/>{}", node.name, summary(node)));
            match node.kind {
                NodeKind::Source(_) => self.line(&format!("  n{index}[(\"{label}\")]")),
                _ => self.line(&format!("  n{index}{{{{\"{label}\"}}}}")),
            }
        }
    }

    fn subgraph(&mut self, stage: &Stage) {
        self.line(&format!("  subgraph s{}[\"stage {}\"]", stage.id, stage.id));
        if stage.nodes.is_empty() {
            self.line(&format!("    p{}((\" \"))", stage.id));
        }
        for index in &stage.nodes {
            let Some(node) = self.topology.graph.nodes.get(*index) else { continue };
            let label =
                escaped(&format!("{}<br/>{}: {}", node.name, node.type_name(), summary(node)));
            match node.kind {
                NodeKind::Sink(_) => self.line(&format!("    n{index}[(\"{label}\")]")),
                _ => self.line(&format!("    n{index}[\"{label}\"]")),
            }
        }
        self.line("  end");
    }

    fn entries(&mut self, stage: &Stage, stages: &[Stage]) {
        for entry in &stage.entries {
            // The other stage draws the arrow of an edge.
            let (from, label) = match entry.feed {
                Feed::Source(node) => (node, self.capacities.intake()),
                Feed::Call(node) => (node, self.capacities.lane()),
                Feed::Edge(_) => continue,
            };
            for to in self.places(entry, stage, stages) {
                self.arrow(&format!("n{from}"), &label, &to);
            }
        }
    }

    fn routes(&mut self, stage: &Stage, stages: &[Stage]) {
        for route in &stage.routes {
            let from = format!("n{}", route.from.node);
            let name = outlet_name(&self.topology.graph, route.from);
            let is_bare = name == node_name(&self.topology.graph, route.from.node);
            let name = if is_bare { String::new() } else { name };
            for target in &route.to {
                let queue = match target {
                    Target::Node(_) => String::new(),
                    Target::Call(_) => self.capacities.sink(),
                    Target::Stage { .. } => self.capacities.lane(),
                };
                let parts: Vec<&str> =
                    [name.as_str(), queue.as_str()].into_iter().filter(|p| !p.is_empty()).collect();
                let label = parts.join("<br/>");
                for to in ends(target, stages) {
                    self.arrow(&from, &label, &to);
                }
            }
        }
    }

    /// The nodes in which arrows into `entry` end; one without nodes has a dot for them, and
    /// arrows of its own beyond it.
    fn places(&mut self, entry: &Entry, stage: &Stage, stages: &[Stage]) -> Vec<String> {
        if !stage.nodes.is_empty() {
            return entry.to.iter().flat_map(|target| ends(target, stages)).collect();
        }
        let dot = format!("p{}", stage.id);
        for target in &entry.to {
            let queue = match target {
                Target::Call(_) => self.capacities.sink(),
                _ => self.capacities.lane(),
            };
            for to in ends(target, stages) {
                self.arrow(&dot, &queue, &to);
            }
        }
        vec![dot]
    }

    fn completions(&mut self) {
        if self.topology.manifests.is_empty() {
            return;
        }
        let topic = escaped(self.topology.progress_topic().as_str());
        self.line(&format!("  progress[(\"{topic}\")]"));
        let partitions = self.topology.progress.partitions;
        let label = format!("aggregators<br/>one for each of {partitions} partitions");
        self.line(&format!("  aggregator[\"{label}\"]"));
        self.arrow("progress", "", "aggregator");
        let mut number = 0;
        for (name, manifest) in &self.topology.manifests {
            for (node, what) in
                [(&manifest.members, "settled"), (&manifest.announced_by, "expected")]
            {
                if let Some(index) = self.topology.graph.index_of(node) {
                    let label = match what {
                        "expected" => format!("{name}: expected by {}", announced_name(manifest)),
                        _ => format!("{name}: settled"),
                    };
                    let label = escaped(&label);
                    self.line(&format!("  n{index} -.->|\"{label}\"| progress"));
                }
            }
            for action in &manifest.on_complete {
                let label = escaped(&format!("{name}: {}", action.name));
                self.line(&format!("  a{number}([\"{label}\"])"));
                self.arrow("aggregator", "", &format!("a{number}"));
                number += 1;
            }
        }
    }
}

/// The nodes that a target stands for.
fn ends(target: &Target, stages: &[Stage]) -> Vec<String> {
    match target {
        Target::Node(node) | Target::Call(node) => vec![format!("n{node}")],
        Target::Stage { stage, entry } => {
            let entry = stages.get(*stage).and_then(|s| s.entries.get(usize::from(*entry)));
            let inner = entry.map_or(&[][..], |entry| entry.to.as_slice());
            inner.iter().flat_map(|target| ends(target, stages)).collect()
        }
    }
}

/// Text inside quotes of mermaid; line breaks that are written as such stay.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive("<br/>") {
        let (words, line_break) = match part.strip_suffix("<br/>") {
            Some(words) => (words, "<br/>"),
            None => (part, ""),
        };
        for c in words.chars() {
            match c {
                '"' => out.push_str("#quot;"),
                '<' => out.push_str("#lt;"),
                '>' => out.push_str("#gt;"),
                '#' => out.push_str("#35;"),
                c if c.is_control() => out.push(' '),
                c => out.push(c),
            }
        }
        out.push_str(line_break);
    }
    out
}
