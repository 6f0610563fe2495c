//! Which columns flow where.
//!
//! Responsible for: columns that a path, an aggregate or a table needs and that no input has.
//! Not responsible for: programs, which see fields and never columns.
//!
//! A node can be reached by rows of several shapes (one per schema, say), so each output has a
//! list of them. Columns of a file beside the declared ones exist too, but nothing may depend on
//! them: whether they are there differs from file to file.

use std::collections::BTreeMap;

use crate::completion::config::Table;
use crate::config::diagnostic::{Diagnostic, Report};
use crate::config::units;
use crate::processor::config::{
    Aggregate, AggregateFunction, ColumnKind, Config as Processor, Csv, CsvSchema, DerivedFrom,
};
use crate::sink::config::{Config as Sink, ParquetSink, TableSink};
use crate::topology::graph::{Graph, Node, NodeKind};
use crate::topology::marks::Marks;
use crate::topology::wiring::Wired;

/// Type of a column on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Double,
    Instant,
    Date,
    Int,
}

/// One kind of record that an output emits.
#[derive(Clone, Debug)]
struct Shape {
    /// The output that first emitted it: `rows.pod_usage`.
    from: String,
    /// `None`: it has no columns.
    columns: Option<BTreeMap<String, Kind>>,
}

/// Reports columns that are needed and not there.
pub(super) fn check(report: &Report, wired: &Wired, tables: &[Option<Table>]) {
    // By node and port.
    let mut shapes: Vec<Vec<Vec<Shape>>> = Vec::new();
    for (index, (node, marks)) in wired.graph.nodes.iter().zip(&wired.marks).enumerate() {
        let incoming = incoming(&wired.graph, &shapes, index);
        let checker = Checker { report, node, marks, incoming: &incoming };
        match &node.kind {
            NodeKind::Processor(Processor::Aggregate(aggregate)) => checker.aggregate(aggregate),
            NodeKind::Sink(Sink::Parquet(sink)) => checker.parquet(sink),
            NodeKind::Sink(Sink::Table(sink)) => {
                let table = tables.iter().flatten().find(|table| table.name == sink.table);
                if let Some(table) = table {
                    checker.table(sink, table);
                }
            }
            _ => {}
        }
        shapes.push(outgoing(node, &incoming));
    }
}

/// What reaches a node; everything it reads stands before it.
fn incoming(graph: &Graph, shapes: &[Vec<Vec<Shape>>], index: usize) -> Vec<Shape> {
    let reads = graph.reads(index);
    let found = reads.iter().filter_map(|(node, port)| shapes.get(*node)?.get(usize::from(port.0)));
    found.flatten().cloned().collect()
}

fn outgoing(node: &Node, incoming: &[Shape]) -> Vec<Vec<Shape>> {
    let bare = |port: &str| {
        let from = match port {
            "" => node.name.to_string(),
            port => format!("{}.{port}", node.name),
        };
        Shape { from, columns: None }
    };
    match &node.kind {
        NodeKind::Processor(Processor::Filter(_) | Processor::Remap(_)) => {
            node.ports().iter().map(|_| incoming.to_vec()).collect()
        }
        NodeKind::Processor(Processor::Csv(csv)) => {
            let shape = |schema: &CsvSchema| {
                let columns = Some(csv_columns(csv, schema));
                vec![Shape { columns, ..bare(&schema.name) }]
            };
            csv.schemas.iter().map(shape).chain([vec![bare("rejected")]]).collect()
        }
        NodeKind::Processor(Processor::Aggregate(aggregate)) => {
            let columns = Some(aggregate_columns(aggregate, incoming));
            vec![vec![Shape { columns, ..bare("") }]]
        }
        _ => node.ports().iter().map(|spec| vec![bare(&spec.name)]).collect(),
    }
}

fn csv_columns(csv: &Csv, schema: &CsvSchema) -> BTreeMap<String, Kind> {
    let declared = schema.columns.iter().map(|column| {
        let kind = match column.kind {
            ColumnKind::Text => Kind::Text,
            ColumnKind::Double => Kind::Double,
            ColumnKind::Instant => Kind::Instant,
        };
        (column.name.clone(), kind)
    });
    let derived = csv.derive.iter().map(|derived| {
        let kind = match derived.from {
            DerivedFrom::Date { .. } => Kind::Date,
            DerivedFrom::Format { .. } => Kind::Text,
        };
        (derived.name.clone(), kind)
    });
    declared.chain(derived).collect()
}

fn aggregate_columns(aggregate: &Aggregate, incoming: &[Shape]) -> BTreeMap<String, Kind> {
    let kind_of = |column: &str| {
        let known = incoming.iter().filter_map(|shape| shape.columns.as_ref()?.get(column));
        known.copied().next().unwrap_or(Kind::Text)
    };
    let groups = aggregate.by.iter().map(|column| (column.clone(), kind_of(column)));
    let results = aggregate.columns.iter().map(|column| {
        let kind = match column.function {
            AggregateFunction::Sum => Kind::Double,
            AggregateFunction::Count | AggregateFunction::Distinct => Kind::Int,
            AggregateFunction::Min | AggregateFunction::Max => {
                column.column.as_deref().map_or(Kind::Double, kind_of)
            }
        };
        (column.name.clone(), kind)
    });
    groups.chain(results).collect()
}

/// One node with what reaches it.
struct Checker<'c> {
    report: &'c Report,
    node: &'c Node,
    marks: &'c Marks,
    incoming: &'c [Shape],
}

impl Checker<'_> {
    fn aggregate(&self, aggregate: &Aggregate) {
        if !self.has_columns("aggregates") {
            return;
        }
        for column in &aggregate.by {
            self.need(column, &format!("by[{column}]"));
        }
        for result in &aggregate.columns {
            let Some(column) = &result.column else { continue };
            let place = format!("columns.{}", result.name);
            self.need(column, &place);
            if result.function == AggregateFunction::Sum {
                self.need_double(column, &place);
            }
        }
    }

    fn parquet(&self, sink: &ParquetSink) {
        let in_path = sink.path.columns();
        for column in &sink.omit {
            if !in_path.contains(column) {
                let message = format!("`{column}` is left out of the objects and not in the path");
                let help = "its values would be lost; `omit` is for columns of the path".to_owned();
                let place = self.marks.part(&format!("omit[{column}]"));
                self.report.push(Diagnostic::new(message).at(place).help(help));
            }
        }
        if self.has_columns("writes") {
            for column in &in_path {
                self.need(column, "path");
            }
        }
    }

    fn table(&self, sink: &TableSink, table: &Table) {
        let declared: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        for (column, _) in &sink.set {
            if !declared.contains(&column.as_str()) {
                let message = format!("table `{}` has no column `{column}`", table.name);
                let place = self.marks.part(&format!("set.{column}"));
                let help = units::hint(column, &declared);
                self.report.push(Diagnostic::new(message).at(place).help(help));
            }
        }
        for column in declared {
            let is_set = sink.set.iter().any(|(name, _)| name == column);
            // Records without columns fill a table from their fields, which nobody knows yet.
            if !is_set && self.incoming.iter().any(|shape| shape.columns.is_some()) {
                self.need(column, "table");
            }
        }
    }

    /// Whether columns arrive at all; reports it if they do not.
    fn has_columns(&self, verb: &str) -> bool {
        let Some(without) = self.incoming.iter().find(|shape| shape.columns.is_none()) else {
            return !self.incoming.is_empty();
        };
        let message =
            format!("`{}` {verb} columns, and `{}` has none", self.node.name, without.from);
        let help = "a processor of type csv makes columns".to_owned();
        self.report.push(Diagnostic::new(message).at(self.marks.part("inputs")).help(help));
        false
    }

    /// Reports `column` at `place` if one of the shapes with columns lacks it.
    fn need(&self, column: &str, place: &str) {
        let lacking: Vec<&Shape> = self
            .incoming
            .iter()
            .filter(|shape| shape.columns.as_ref().is_some_and(|c| !c.contains_key(column)))
            .collect();
        let Some(first) = lacking.first() else { return };
        let names: Vec<String> = lacking.iter().map(|shape| format!("`{}`", shape.from)).collect();
        let known: Vec<&str> =
            first.columns.iter().flatten().map(|(name, _)| name.as_str()).collect();
        let message = format!("no column `{column}` in {}", names.join(", "));
        let diagnostic = Diagnostic::new(message).at(self.marks.part(place));
        self.report.push(diagnostic.help(units::hint(column, &known)));
    }

    fn need_double(&self, column: &str, place: &str) {
        let is_other = |shape: &&Shape| {
            let kind = shape.columns.as_ref().and_then(|columns| columns.get(column));
            kind.is_some_and(|kind| !matches!(kind, Kind::Double | Kind::Int))
        };
        if let Some(shape) = self.incoming.iter().find(is_other) {
            let message = format!("`{column}` of `{}` is not a double and has no sum", shape.from);
            self.report.push(Diagnostic::new(message).at(self.marks.part(place)));
        }
    }
}
