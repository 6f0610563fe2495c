//! Checks between the parts of a topology.
//!
//! Responsible for: names that refer to other parts (nodes of manifests and receipts, tables of
//! sinks, ingresses of fetches), and parts that would get in each other's way.
//! Not responsible for: the graph itself (`wiring`), or columns (`columns`).

use std::collections::BTreeMap;
use std::ops::Range;

use crate::completion::config::{Manifest, Owner, Receipt, Table};
use crate::config::diagnostic::{Diagnostic, Report};
use crate::config::document::Section;
use crate::config::units;
use crate::processor::config::{Allow, Config as Processor};
use crate::runtime::node::PortSpec;
use crate::sink::config::Config as Sink;
use crate::source::config::Config as Source;
use crate::topology::graph::NodeKind;
use crate::topology::ingress;
use crate::topology::manifests::{Draft, Use};
use crate::topology::nodes::{self, Role};
use crate::topology::ports;
use crate::topology::wiring::{Wired, unknown_port};

/// Reports a topology that nothing can enter.
pub(super) fn has_input(root: &Section<'_>, drafts: &[nodes::Draft], ingresses: &[ingress::Draft]) {
    if ingresses.is_empty() && !drafts.iter().any(|draft| draft.role == Role::Source) {
        let help = "declare a [sources.NAME] or an [ingress.NAME]".to_owned();
        root.report(Diagnostic::new("nothing can enter this topology").help(help));
    }
}

/// What manifests and receipts may name: taken before the graph exists, so that errors in nodes
/// do not hide errors here.
pub(super) struct Known {
    nodes: Vec<KnownNode>,
}

struct KnownNode {
    name: String,
    role: Role,
    /// `None` if the node has errors and its outputs cannot be told.
    outputs: Option<Vec<PortSpec>>,
}

impl Known {
    /// All nodes that were read.
    pub fn of(drafts: &[nodes::Draft]) -> Self {
        let node = |draft: &nodes::Draft| KnownNode {
            name: draft.name.clone(),
            role: draft.role,
            outputs: match &draft.kind {
                Some(NodeKind::Processor(config)) => Some(ports::ports(config)),
                _ => None,
            },
        };
        Self { nodes: drafts.iter().map(node).collect() }
    }

    /// Reports what `drafts` name and does not exist.
    pub fn check<T>(&self, report: &Report, drafts: &[Draft<T>]) {
        for draft in drafts {
            for used in &draft.uses {
                if let Some(diagnostic) = self.judge(used) {
                    report.push(diagnostic.or_at(draft.marks.part(used.key)));
                }
            }
        }
    }

    fn judge(&self, used: &Use) -> Option<Diagnostic> {
        let Some(node) = self.nodes.iter().find(|node| node.name == used.node) else {
            let readable = self.nodes.iter().filter(|node| node.role != Role::Sink);
            let names: Vec<&str> = readable.map(|node| node.name.as_str()).collect();
            let message = format!("unknown node `{}` in `{}`", used.node, used.key);
            return Some(Diagnostic::new(message).help(units::hint(&used.node, &names)));
        };
        if node.role == Role::Sink {
            let message = format!("`{}` is a sink: no records leave it", used.node);
            return Some(Diagnostic::new(message));
        }
        let port = used.port.as_deref()?;
        if used.key != "announced_by" {
            let message = format!("`{}` names a node, without a port", used.key);
            return Some(Diagnostic::new(message));
        }
        let none: &[PortSpec] = &[];
        let outputs = if node.role == Role::Source { none } else { node.outputs.as_deref()? };
        let is_known = outputs.iter().any(|spec| spec.name == port);
        (!is_known).then(|| unknown_port(&used.node, port, outputs))
    }
}

/// The parts of a topology beside the graph.
pub(super) struct Parts<'p> {
    pub report: &'p Report,
    pub pipeline: &'p str,
    pub ingresses: &'p [ingress::Draft],
    pub receipts: &'p [Draft<Receipt>],
    pub manifests: &'p [Draft<Manifest>],
    pub tables: &'p [Option<Table>],
}

impl Parts<'_> {
    /// Checks that need no graph.
    pub fn check_alone(&self) {
        let mut paths: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for draft in self.ingresses {
            let Some(ingress) = &draft.ingress else { continue };
            if let Some(other) = paths.insert(&ingress.path, draft.path_span.clone()) {
                let message = format!("two ingresses share the path `{}`", ingress.path);
                let diagnostic = Diagnostic::new(message).at(draft.path_span.clone());
                self.report.push(diagnostic.context(other, "the other one"));
            }
        }
        let mut members: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for draft in self.manifests {
            for used in draft.uses.iter().filter(|used| used.key == "members") {
                let place = draft.marks.part("members");
                if let Some(other) = members.insert(&used.node, place.clone()) {
                    let message =
                        format!("records of `{}` are members of two manifests", used.node);
                    let diagnostic = Diagnostic::new(message).at(place);
                    self.report.push(diagnostic.context(other, "the other one"));
                }
            }
        }
        for draft in self.receipts {
            if let Some(receipt) = &draft.declared {
                self.check_topic(receipt.topic.as_str(), draft.marks.part("topic"));
            }
        }
    }

    /// Checks that need the graph.
    pub fn check_with(&self, wired: &Wired) {
        self.check_sources(wired);
        self.check_fetches(wired);
        self.check_kafka_sinks(wired);
        self.check_objects(wired);
        self.check_tables(wired);
    }

    /// The engine's own topics take nothing from a topology.
    fn check_topic(&self, topic: &str, place: Range<usize>) {
        let own = topic.strip_prefix(self.pipeline).filter(|_| !self.pipeline.is_empty());
        if matches!(own, Some(".progress" | ".replay")) {
            let message = format!("`{topic}` is a topic of the engine's own");
            self.report.push(Diagnostic::new(message).at(place));
        }
    }

    fn check_sources(&self, wired: &Wired) {
        let mut read: BTreeMap<(&str, &str), Range<usize>> = BTreeMap::new();
        for (node, marks) in wired.graph.nodes.iter().zip(&wired.marks) {
            let NodeKind::Source(Source::Kafka(source)) = &node.kind else { continue };
            let place = marks.part("topic");
            let key = (source.topic.as_str(), source.group.as_str());
            if let Some(other) = read.insert(key, place.clone()) {
                let message = format!("two sources read topic `{}` as group `{}`", key.0, key.1);
                let help = "read it once and let several nodes name the source".to_owned();
                let diagnostic = Diagnostic::new(message).at(place).help(help);
                self.report.push(diagnostic.context(other, "the other one"));
            }
        }
    }

    fn check_fetches(&self, wired: &Wired) {
        let known: Vec<&str> = self.ingresses.iter().map(|draft| draft.name.as_str()).collect();
        for (node, marks) in wired.graph.nodes.iter().zip(&wired.marks) {
            let NodeKind::Processor(Processor::Fetch(fetch)) = &node.kind else { continue };
            for allow in &fetch.allow {
                let Allow::Ingress(name) = allow else { continue };
                if known.contains(&name.as_str()) {
                    continue;
                }
                let place = marks.part(&format!("allow[ingress:{name}]"));
                let diagnostic = Diagnostic::new(format!("unknown ingress `{name}`")).at(place);
                self.report.push(diagnostic.help(units::hint(name.as_str(), &known)));
            }
        }
    }

    fn check_kafka_sinks(&self, wired: &Wired) {
        for (node, marks) in wired.graph.nodes.iter().zip(&wired.marks) {
            let NodeKind::Sink(Sink::Kafka(sink)) = &node.kind else { continue };
            let topic = sink.topic.as_str();
            let place = marks.part("topic");
            self.check_topic(topic, place.clone());
            let reader = wired.graph.nodes.iter().find(|node| match &node.kind {
                NodeKind::Source(Source::Kafka(source)) => source.topic.as_str() == topic,
                _ => false,
            });
            if let Some(reader) = reader {
                let message = format!(
                    "`{}` writes to `{topic}`, which `{}` reads: an endless loop",
                    node.name, reader.name
                );
                self.report.push(Diagnostic::new(message).at(place));
            }
        }
    }

    /// Two sinks that write to the same names would overwrite each other.
    fn check_objects(&self, wired: &Wired) {
        let mut written: BTreeMap<(&str, &str), Range<usize>> = BTreeMap::new();
        for (node, marks) in wired.graph.nodes.iter().zip(&wired.marks) {
            let NodeKind::Sink(Sink::Parquet(sink)) = &node.kind else { continue };
            let place = marks.part("path");
            let key = (sink.url.trim_end_matches('/'), sink.path.source());
            if let Some(other) = written.insert(key, place.clone()) {
                let diagnostic = Diagnostic::new("two sinks write to the same path").at(place);
                self.report.push(diagnostic.context(other, "the other one"));
            }
        }
    }

    /// Rows of a (manifest, member, digest) are written once: by one sink per table.
    fn check_tables(&self, wired: &Wired) {
        let mut written: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        let tables: Vec<&Table> = self.tables.iter().flatten().collect();
        for (index, (node, marks)) in wired.graph.nodes.iter().zip(&wired.marks).enumerate() {
            let NodeKind::Sink(Sink::Table(sink)) = &node.kind else { continue };
            let place = marks.part("table");
            let Some(table) = tables.iter().find(|table| table.name == sink.table) else {
                // A table whose declaration is wrong has been reported itself.
                if self.tables.iter().all(Option::is_some) {
                    let known: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                    let help = units::hint(&sink.table, &known)
                        .unwrap_or_else(|| "declare it under [tables]".to_owned());
                    let message = format!("unknown table `{}`", sink.table);
                    self.report.push(Diagnostic::new(message).at(place).help(help));
                }
                continue;
            };
            if let Some(other) = written.insert(&table.name, place.clone()) {
                let message = format!("two sinks write to table `{}`", table.name);
                let diagnostic = Diagnostic::new(message).at(place.clone());
                self.report.push(diagnostic.context(other, "the other one"));
            }
            self.check_owner(wired, index, table, place);
        }
    }

    /// The owner's columns have to be known where the rows come from.
    fn check_owner(&self, wired: &Wired, sink: usize, table: &Table, place: Range<usize>) {
        let is_below = |key: &str| self.is_below(wired, sink, key);
        let (is_known, what) = match &table.owner {
            Owner::Member => (is_below("members"), "the members of a manifest"),
            Owner::Manifest => {
                (is_below("members") || is_below("announced_by"), "a node that a manifest names")
            }
            Owner::Key(_) => {
                let message = format!("table `{}` has a key: it is for actions", table.name);
                let help = "tables of sinks have `owner = \"member\"` or \"manifest\"";
                let diagnostic = Diagnostic::new(message).at(place);
                self.report.push(diagnostic.help(help.to_owned()));
                return;
            }
        };
        if !is_known {
            let message = format!("rows of table `{}` have no owner here", table.name);
            let label = format!("nothing above this sink is {what}");
            self.report.push(Diagnostic::new(message).at(place).label(label));
        }
    }

    /// Whether records reach `node` through what manifests name under `key`.
    fn is_below(&self, wired: &Wired, node: usize, key: &str) -> bool {
        let graph = &wired.graph;
        let uses = self.manifests.iter().flat_map(|draft| &draft.uses);
        uses.filter(|used| used.key == key).any(|used| {
            let name = used.node.as_str().into();
            let Some(named) = graph.index_of(&name) else { return false };
            let first = match used.port.as_deref() {
                Some(port) => match graph.port(named, port) {
                    Some(port) => graph.readers(named, port),
                    None => Vec::new(),
                },
                None => graph.successors(named),
            };
            first.iter().any(|reader| graph.downstream(*reader)[node])
        })
    }
}
