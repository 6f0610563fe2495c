//! From the plan of a stage to the chains that run it.
//!
//! Responsible for: arranging entries, nodes, borders and edges of a stage so that everything
//! behind a node has a higher index, and building the same chain again for each lane and after
//! each panic.
//! Not responsible for: what the nodes are (`nodes`, `sinks`), or threads (`stages`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::NodeName;
use crate::processor::edge::{EdgeWriter, Target as EdgeTarget};
use crate::processor::stage::{Chain, ChainNode, Output, Step};
use crate::progress::obligation::Owed;
use crate::runtime::handover::Handover;
use crate::runtime::lanes::Input;
use crate::runtime::node::{Boundary, Transform, Writer};
use crate::runtime::pool::LaneId;
use crate::topology::{Feed, Graph, Outlet, Stage, Target};

/// Builds a CPU node.
pub type TransformFactory = Arc<dyn Fn() -> Box<dyn Transform> + Send + Sync>;
/// Builds the CPU half of a sink for a lane.
pub type WriterFactory = Arc<dyn Fn(LaneId) -> Box<dyn Writer> + Send + Sync>;
/// Builds a border.
pub type BoundaryFactory = Arc<dyn Fn() -> Box<dyn Boundary> + Send + Sync>;

/// Builds one node of a chain.
#[derive(Clone)]
pub enum StepFactory {
    /// A CPU node.
    Transform(TransformFactory),
    /// The CPU half of a sink, or an edge.
    Writer(WriterFactory),
}

impl StepFactory {
    fn build(&self, lane: LaneId) -> Step {
        match self {
            Self::Transform(factory) => Step::Transform(factory()),
            Self::Writer(factory) => Step::Writer(factory(lane)),
        }
    }
}

/// What the nodes of all stages are made of.
#[derive(Default)]
pub struct Parts {
    /// By node: what it is in a chain. Sources decode; a `fetch` has none.
    pub steps: HashMap<usize, StepFactory>,
    /// Borders by output, outermost first.
    pub boundaries: HashMap<(usize, u8), Vec<BoundaryFactory>>,
}

struct NodeBlueprint {
    name: NodeName,
    step: StepFactory,
    outputs: Vec<OutputBlueprint>,
}

#[derive(Default)]
struct OutputBlueprint {
    boundaries: Vec<BoundaryFactory>,
    next: Vec<usize>,
}

/// A stage, ready to be built any number of times.
pub struct Blueprint {
    nodes: Vec<NodeBlueprint>,
    entries: Vec<Vec<usize>>,
}

impl Blueprint {
    /// Arranges `stage`; `edge` resolves the targets outside of it.
    pub fn new(
        graph: &Graph,
        stage: &Stage,
        parts: &Parts,
        lanes: usize,
        edge: impl Fn(Target) -> Option<EdgeTarget>,
    ) -> Self {
        Arrangement { graph, stage, parts }.arrange(lanes, edge)
    }

    /// The chain of a lane.
    pub fn chain(&self, lane: LaneId) -> Chain {
        let nodes = self.nodes.iter().map(|node| ChainNode {
            name: node.name.clone(),
            step: node.step.build(lane),
            outputs: node.outputs.iter().map(OutputBlueprint::build).collect(),
        });
        Chain::new(nodes.collect(), self.entries.clone())
    }
}

impl OutputBlueprint {
    fn build(&self) -> Output {
        let boundaries = self.boundaries.iter().map(|factory| factory()).collect();
        Output { boundaries, next: self.next.clone() }
    }
}

struct Arrangement<'a> {
    graph: &'a Graph,
    stage: &'a Stage,
    parts: &'a Parts,
}

impl Arrangement<'_> {
    fn arrange(&self, lanes: usize, edge: impl Fn(Target) -> Option<EdgeTarget>) -> Blueprint {
        let doors = self.doors();
        let first_node = doors.len();
        let first_edge = first_node + self.stage.nodes.len();
        let edges = self.stage.edges();
        let index = |target: &Target| match target {
            Target::Node(node) => {
                self.stage.nodes.iter().position(|own| own == node).map(|at| first_node + at)
            }
            outside => edges.iter().position(|own| own == outside).map(|at| first_edge + at),
        };
        let indexes =
            |targets: &[Target]| targets.iter().filter_map(&index).collect::<Vec<usize>>();

        let mut nodes = Vec::new();
        let mut entries = Vec::new();
        for entry in &self.stage.entries {
            match doors.iter().position(|door| *door == entry.feed) {
                Some(at) => entries.push(vec![at]),
                None => entries.push(indexes(&entry.to)),
            }
        }
        for door in &doors {
            let entry = self.stage.entries.iter().find(|entry| entry.feed == *door);
            nodes.push(self.door(*door, indexes(entry.map_or(&[], |entry| &entry.to))));
        }
        for node in &self.stage.nodes {
            nodes.extend(self.node(*node, &indexes));
        }
        nodes.extend(edges.iter().filter_map(|target| Some(edge_node(edge(*target)?, lanes))));
        Blueprint { nodes, entries }
    }

    /// Entries that need a node of their own: sources decode, and what a `fetch` returns may
    /// cross borders.
    fn doors(&self) -> Vec<Feed> {
        let feeds = self.stage.entries.iter().map(|entry| entry.feed);
        feeds.filter(|feed| matches!(feed, Feed::Source(_) | Feed::Call(_))).collect()
    }

    fn door(&self, feed: Feed, next: Vec<usize>) -> NodeBlueprint {
        let node = match feed {
            Feed::Source(node) | Feed::Call(node) => node,
            Feed::Edge(outlet) => outlet.node,
        };
        let pass = || StepFactory::Transform(Arc::new(|| Box::new(Pass)));
        let step = self.parts.steps.get(&node).cloned().unwrap_or_else(pass);
        let boundaries = self.boundaries(node, 0);
        let name = self.graph.nodes[node].name.clone();
        NodeBlueprint { name, step, outputs: vec![OutputBlueprint { boundaries, next }] }
    }

    fn node(
        &self,
        node: usize,
        indexes: &impl Fn(&[Target]) -> Vec<usize>,
    ) -> Option<NodeBlueprint> {
        let ports = self.graph.nodes[node].ports().len();
        let outputs = (0..ports as u8).map(|number| {
            let outlet = Outlet { node, port: crate::runtime::node::Port(number) };
            OutputBlueprint {
                boundaries: self.boundaries(node, number),
                next: indexes(self.stage.targets(outlet)),
            }
        });
        Some(NodeBlueprint {
            name: self.graph.nodes[node].name.clone(),
            step: self.parts.steps.get(&node)?.clone(),
            outputs: outputs.collect(),
        })
    }

    fn boundaries(&self, node: usize, port: u8) -> Vec<BoundaryFactory> {
        self.parts.boundaries.get(&(node, port)).cloned().unwrap_or_default()
    }
}

fn edge_node(target: EdgeTarget, lanes: usize) -> NodeBlueprint {
    let held: Vec<Handover<Owed<Input>>> = (0..lanes).map(|_| Handover::default()).collect();
    let factory: WriterFactory =
        Arc::new(move |lane| Box::new(EdgeWriter::new(target.clone(), held[lane.index()].clone())));
    NodeBlueprint { name: "edge".into(), step: StepFactory::Writer(factory), outputs: Vec::new() }
}

/// Hands on what it gets.
struct Pass;

impl Transform for Pass {
    fn apply(
        &mut self,
        record: crate::model::Record,
        out: &mut dyn crate::runtime::node::Emit,
    ) -> Result<(), crate::model::Failure> {
        out.emit(crate::runtime::node::Port::FIRST, record)
    }
}
