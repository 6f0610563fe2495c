//! Sources, processors and sinks, each read on its own.
//!
//! Responsible for: names, `inputs`, and dispatch by `type`.
//! Not responsible for: what a type needs (`sources`, `processors`, `csv`, `sinks`), or whether
//! the inputs exist (`wiring`).

use std::ops::Range;

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::config::units;
use crate::topology::graph::NodeKind;
use crate::topology::marks::{self, Marks};
use crate::topology::{csv, names, processors, sinks, sources};
use crate::{processor, sink, source};

/// Which section a node stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Processor,
    Sink,
}

/// One element of `inputs`.
#[derive(Clone, Debug)]
pub(super) struct DraftInput {
    pub node: String,
    pub port: Option<String>,
    pub span: Range<usize>,
}

/// A node as it was read, before its inputs are looked at.
#[derive(Debug)]
pub(super) struct Draft {
    pub name: String,
    pub role: Role,
    pub inputs: Vec<DraftInput>,
    /// `None` if its declaration has errors, which have been reported.
    pub kind: Option<NodeKind>,
    pub definition: String,
    pub marks: Marks,
}

const SECTIONS: [(&str, Role); 3] =
    [("sources", Role::Source), ("processors", Role::Processor), ("sinks", Role::Sink)];

/// Reads all nodes, in the order of the file. `group` is the consumer group of sources that name
/// none.
pub(super) fn read(root: &Section<'_>, group: &str) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for (section, role) in SECTIONS {
        let Some(nodes) =
            root.value(section).and_then(|value| value.section(format!("[{section}]")))
        else {
            continue;
        };
        for node in nodes.entries() {
            names_or_report(&node);
            drafts.extend(draft(&node, section, role, group));
        }
    }
    drafts.sort_by_key(|draft| draft.marks.whole().start);
    drafts
}

/// Reports a key that cannot name what it stands for.
pub(super) fn names_or_report(entry: &Value<'_>) {
    if let Err(why) = names::node(entry.key()) {
        let message = format!("`{}` cannot be used as a name", entry.key());
        let diagnostic = Diagnostic::new(message).at(entry.key_span()).label(why);
        entry.context().report.push(diagnostic);
    }
}

fn draft(node: &Value<'_>, title: &str, role: Role, group: &str) -> Option<Draft> {
    let section = node.section(format!("[{title}.{}]", node.key()))?;
    let inputs = if role == Role::Source { Vec::new() } else { inputs(&section) };
    let kind = match role {
        Role::Source => source(section, group).map(NodeKind::Source),
        Role::Processor => processor(section).map(NodeKind::Processor),
        Role::Sink => sink(section).map(NodeKind::Sink),
    };
    Some(Draft {
        name: node.key().to_owned(),
        role,
        inputs,
        kind,
        definition: marks::canonical(node.item(), node.context().variables),
        marks: Marks::of(node),
    })
}

fn inputs(section: &Section<'_>) -> Vec<DraftInput> {
    let Some(value) = section.required("inputs") else { return Vec::new() };
    let Some(list) = value.list() else { return Vec::new() };
    if list.is_empty() {
        let help = "name the nodes it reads, such as `[\"orders\"]`".to_owned();
        section.report(Diagnostic::new("`inputs` is empty").at(value.span()).help(help));
    }
    list.iter().filter_map(input).collect()
}

fn input(value: &Value<'_>) -> Option<DraftInput> {
    let text = value.raw()?;
    let (node, port) = names::node_and_port(text);
    if node.is_empty() || port == Some("") {
        let message = format!("`{text}` is no input: `node` or `node.port` is needed");
        return value.fail(Diagnostic::new(message));
    }
    Some(DraftInput { node: node.to_owned(), port: port.map(str::to_owned), span: value.span() })
}

fn source(section: Section<'_>, group: &str) -> Option<source::config::Config> {
    let kind = section.required("type")?;
    let config = match kind.raw()? {
        "kafka" => sources::kafka(&section, group),
        other => return unknown_type(&kind, other, &["kafka"]),
    };
    section.finish();
    config
}

fn processor(section: Section<'_>) -> Option<processor::config::Config> {
    const KNOWN: [&str; 6] = ["filter", "remap", "fetch", "unarchive", "csv", "aggregate"];
    let kind = section.required("type")?;
    let config = match kind.raw()? {
        "filter" => processors::filter(&section),
        "remap" => processors::remap(&section),
        "fetch" => processors::fetch(&section),
        "unarchive" => processors::unarchive(&section),
        "csv" => csv::read(&section),
        "aggregate" => processors::aggregate(&section),
        other => return unknown_type(&kind, other, &KNOWN),
    };
    section.finish();
    config
}

fn sink(section: Section<'_>) -> Option<sink::config::Config> {
    let kind = section.required("type")?;
    let config = match kind.raw()? {
        "kafka" => sinks::kafka(&section),
        "parquet" => sinks::parquet(&section),
        "table" => sinks::table(&section),
        other => return unknown_type(&kind, other, &["kafka", "parquet", "table"]),
    };
    section.finish();
    config
}

/// Reports a `type` that is none of `known`, listing them; the other keys are not looked at then.
pub(super) fn unknown_type<T>(kind: &Value<'_>, found: &str, known: &[&str]) -> Option<T> {
    let close = units::closest(found, known).map(|close| format!("did you mean `{close}`? "));
    let listing = units::listing(known).unwrap_or_default();
    let help = format!("{}known types: {listing}", close.unwrap_or_default());
    kind.fail(Diagnostic::new(format!("unknown type `{found}`")).help(help))
}
