//! From nodes that name each other to a graph.
//!
//! Responsible for: inputs that do not exist, cycles, outputs that nobody reads, and the
//! topological order.
//! Not responsible for: the nodes themselves (`nodes`), or what flows between them (`columns`).

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, Report};
use crate::config::units;
use crate::model::NodeName;
use crate::runtime::node::PortSpec;
use crate::topology::graph::{Graph, Input, Node, NodeKind, is_read};
use crate::topology::manifests::Use;
use crate::topology::marks::Marks;
use crate::topology::nodes::{Draft, DraftInput, Role};
use crate::topology::ports;

/// A graph, and where the file speaks of its nodes.
pub(super) struct Wired {
    pub graph: Graph,
    /// By index of the node.
    pub marks: Vec<Marks>,
}

/// Outputs of a node; `None` if its declaration has errors and they cannot be told.
fn outputs(draft: &Draft) -> Option<Vec<PortSpec>> {
    match (&draft.kind, draft.role) {
        (_, Role::Source) => Some(vec![PortSpec { name: String::new(), main: true }]),
        (_, Role::Sink) => Some(Vec::new()),
        (Some(NodeKind::Processor(config)), Role::Processor) => Some(ports::ports(config)),
        _ => None,
    }
}

/// Ties the nodes together. `uses` are what manifests read: they count as readers of an output.
/// `None` if there were errors here or in a node.
pub(super) fn wire(report: &Report, drafts: Vec<Draft>, uses: &[Use]) -> Option<Wired> {
    let before = report.len();
    let (resolved, order) = {
        let wiring = Wiring::new(report, &drafts);
        let resolved = wiring.resolve();
        wiring.unread(&resolved, uses);
        let order = wiring.order(&resolved)?;
        (resolved, order)
    };
    if report.len() > before {
        return None;
    }
    assemble(drafts, &resolved, &order)
}

struct Wiring<'d> {
    report: &'d Report,
    drafts: &'d [Draft],
    /// The first draft of each name.
    by_name: BTreeMap<&'d str, usize>,
    /// Nodes that were probably meant by inputs with errors: that nobody reads them follows.
    meant: RefCell<Vec<&'d str>>,
}

impl<'d> Wiring<'d> {
    fn new(report: &'d Report, drafts: &'d [Draft]) -> Self {
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, draft) in drafts.iter().enumerate() {
            let Some(first) = by_name.get(draft.name.as_str()) else {
                by_name.insert(&draft.name, index);
                continue;
            };
            let message = format!("there are two nodes called `{}`", draft.name);
            let first = drafts[*first].marks.whole();
            report.push(
                Diagnostic::new(message).at(draft.marks.whole()).context(first, "the other one"),
            );
        }
        Self { report, drafts, by_name, meant: RefCell::default() }
    }

    /// Inputs of each draft; `Input::node` is the index of a draft.
    fn resolve(&self) -> Vec<Vec<Input>> {
        self.drafts.iter().map(|draft| self.inputs_of(draft)).collect()
    }

    fn inputs_of(&self, draft: &Draft) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        for input in &draft.inputs {
            let Some(resolved) = self.input(input) else { continue };
            if self.overlaps(&inputs, &resolved) {
                let message = format!("`{}` reads the same output twice", draft.name);
                let label = "each record would arrive twice";
                self.report.push(Diagnostic::new(message).at(input.span.clone()).label(label));
                continue;
            }
            inputs.push(resolved);
        }
        inputs
    }

    fn input(&self, input: &DraftInput) -> Option<Input> {
        let Some(node) = self.by_name.get(input.node.as_str()).copied() else {
            let message = format!("unknown input `{}`", input.node);
            let readable = self.readable();
            self.meant.borrow_mut().extend(units::closest(&input.node, &readable));
            let help = units::hint(&input.node, &readable);
            let diagnostic = Diagnostic::new(message).at(input.span.clone());
            self.report.push(diagnostic.label("no node of that name").help(help));
            return None;
        };
        let from = &self.drafts[node];
        if from.role == Role::Sink {
            let message = format!("`{}` is a sink: nothing leaves it", input.node);
            self.report.push(Diagnostic::new(message).at(input.span.clone()));
            return None;
        }
        if let (Some(port), Some(outputs)) = (&input.port, outputs(from))
            && !outputs.iter().any(|spec| spec.name == *port)
        {
            self.meant.borrow_mut().push(&from.name);
            let diagnostic = unknown_port(&input.node, port, &outputs);
            self.report.push(diagnostic.at(input.span.clone()));
            return None;
        }
        Some(Input { node, port: input.port.clone() })
    }

    /// Names of nodes that can be inputs, in the order of the file.
    fn readable(&self) -> Vec<&'d str> {
        let readable = self.drafts.iter().filter(|draft| draft.role != Role::Sink);
        readable.map(|draft| draft.name.as_str()).collect()
    }

    fn overlaps(&self, inputs: &[Input], new: &Input) -> bool {
        let outputs = outputs(&self.drafts[new.node]);
        inputs.iter().filter(|input| input.node == new.node).any(|input| match &outputs {
            Some(outputs) => outputs.iter().any(|spec| is_read(input, spec) && is_read(new, spec)),
            None => input.port == new.port,
        })
    }

    /// Reports main outputs that nobody reads.
    fn unread(&self, resolved: &[Vec<Input>], uses: &[Use]) {
        for (index, draft) in self.drafts.iter().enumerate() {
            let name = draft.name.as_str();
            if self.by_name.get(name) != Some(&index) || self.meant.borrow().contains(&name) {
                continue;
            }
            let readers = resolved.iter().flatten().filter(|input| input.node == index);
            let used = uses.iter().filter(|used| used.node == draft.name);
            let used = used.map(|used| Input { node: index, port: used.port.clone() });
            let readers: Vec<Input> = readers.cloned().chain(used).collect();
            let Some(outputs) = outputs(draft) else { continue };
            let is_unread =
                |spec: &&PortSpec| spec.main && !readers.iter().any(|input| is_read(input, spec));
            let unread: Vec<&str> =
                outputs.iter().filter(is_unread).map(|spec| spec.name.as_str()).collect();
            if !unread.is_empty() {
                self.report.push(unread_error(draft, &unread));
            }
        }
    }

    /// The topological order that keeps the order of the file where it can; cycles are reported.
    fn order(&self, resolved: &[Vec<Input>]) -> Option<Vec<usize>> {
        let mut order = Vec::with_capacity(self.drafts.len());
        let mut is_done = vec![false; self.drafts.len()];
        loop {
            let ready = (0..self.drafts.len()).find(|index| {
                !is_done[*index] && resolved[*index].iter().all(|input| is_done[input.node])
            });
            let Some(next) = ready else { break };
            is_done[next] = true;
            order.push(next);
        }
        if order.len() == self.drafts.len() {
            return Some(order);
        }
        self.report_cycles(resolved, &is_done);
        None
    }

    /// Follows inputs upwards from each node that is stuck until a node comes again.
    fn report_cycles(&self, resolved: &[Vec<Input>], is_done: &[bool]) {
        let mut is_seen = is_done.to_vec();
        for start in 0..self.drafts.len() {
            let mut path: Vec<usize> = Vec::new();
            let mut at = start;
            while !is_seen[at] {
                is_seen[at] = true;
                path.push(at);
                // A stuck node has an input that is stuck too.
                let stuck = resolved[at].iter().find(|input| !is_done[input.node]);
                let Some(input) = stuck else { break };
                at = input.node;
            }
            if let Some(first) = path.iter().position(|node| *node == at) {
                self.report_cycle(&path[first..]);
            }
        }
    }

    /// `cycle` lists nodes against the stream: each reads the one after it.
    fn report_cycle(&self, cycle: &[usize]) {
        let Some(first) = cycle.iter().min() else { return };
        let at = cycle.iter().position(|node| node == first).unwrap_or(0);
        let names = cycle[at..].iter().chain(&cycle[..=at]).map(|node| &self.drafts[*node].name);
        let mut path: Vec<&str> = names.map(String::as_str).collect();
        path.reverse();
        let reads = path.len().checked_sub(2).map(|before| path[before]);
        let draft = &self.drafts[*first];
        let input = draft.inputs.iter().find(|input| Some(input.node.as_str()) == reads);
        let place = input.map_or_else(|| draft.marks.whole(), |input| input.span.clone());
        let message = format!("nodes read each other in a circle: {}", path.join(" -> "));
        let help = "records flow one way; leave out one of these inputs".to_owned();
        self.report.push(Diagnostic::new(message).at(place).help(help));
    }
}

/// The error for a port that a known node does not have.
pub(super) fn unknown_port(node: &str, port: &str, outputs: &[PortSpec]) -> Diagnostic {
    let named = outputs.iter().map(|spec| spec.name.as_str()).filter(|name| !name.is_empty());
    let named: Vec<String> = named.map(|name| format!("{node}.{name}")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let help = units::hint(&format!("{node}.{port}"), &named)
        .unwrap_or_else(|| format!("it has one output, `{node}`"));
    Diagnostic::new(format!("`{node}` has no port `{port}`")).help(help)
}

fn unread_error(draft: &Draft, unread: &[&str]) -> Diagnostic {
    let names: Vec<String> = unread
        .iter()
        .map(|port| match *port {
            "" => format!("`{}`", draft.name),
            port => format!("`{}.{port}`", draft.name),
        })
        .collect();
    let message = format!("nobody reads {}", names.join(", "));
    let help = "name it in the `inputs` of a node, or leave it out".to_owned();
    Diagnostic::new(message).at(draft.marks.whole()).help(help)
}

fn assemble(drafts: Vec<Draft>, resolved: &[Vec<Input>], order: &[usize]) -> Option<Wired> {
    let mut index_of = vec![0; drafts.len()];
    for (index, draft) in order.iter().enumerate() {
        index_of[*draft] = index;
    }
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    let (mut nodes, mut marks) = (Vec::new(), Vec::new());
    for at in order {
        let draft = drafts[*at].take()?;
        let inputs = resolved[*at]
            .iter()
            .map(|input| Input { node: index_of[input.node], port: input.port.clone() });
        nodes.push(Node {
            name: NodeName::from(draft.name),
            kind: draft.kind?,
            inputs: inputs.collect(),
            definition: draft.definition,
        });
        marks.push(draft.marks);
    }
    Some(Wired { graph: Graph { nodes }, marks })
}
