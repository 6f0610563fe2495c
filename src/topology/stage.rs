//! The fusion plan: which CPU nodes run together on one worker.
//!
//! Responsible for: cutting a graph into stages, and saying, for each stage, where records enter,
//! which nodes they meet and where they leave.
//! Not responsible for: running stages (`processor::stage`) or building them (`engine`).
//!
//! A stage begins behind a source, behind a `fetch`, or behind an `unarchive` (whose members are
//! spread over lanes anew), and takes in every filter, remap, csv, aggregate and sink below, with
//! fan-out, until it ends:
//!
//! - at a sink: its CPU half is the last node of the branch;
//! - at a `fetch`: an edge leads to the node that does I/O, and what comes back begins a stage;
//! - at an `unarchive`: it is the last CPU node of its branch, and one further stage is fed by all
//!   of its ports;
//! - at a node that reads several stages (fan-in): it begins a stage of its own, which all of
//!   them feed.
//!
//! So every source, every `fetch` and every `unarchive` feeds exactly one stage, and forks happen
//! inside stages only. A stage can be without nodes, when what enters goes on to a `fetch` or to
//! a fan-in at once.
//!
//! ```text
//! orders ──▶│ stage 0: paid ─▶ slim ─▶ out │
//!
//! uploads ─▶│ stage 0: ours │─▶ payload (fetch) ─▶│ stage 1: files (unarchive) │
//!   files, files.index ─▶│ stage 2: rows ─▶ lake, claimed ─▶ table │
//! ```

use crate::processor::config::Config as Processor;
use crate::runtime::node::Port;
use crate::topology::graph::{Graph, NodeKind, port_at};

/// One output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet {
    /// Index of the node in the graph.
    pub node: usize,
    /// Its output.
    pub port: Port,
}

/// What a stage reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Records of this source.
    Source(usize),
    /// What this `fetch` returns.
    Call(usize),
    /// What another stage sends on: records that left this output. Its node is an `unarchive`,
    /// any node above a fan-in, or a source or `fetch` whose own stage passes it on.
    Edge(Outlet),
}

/// Where a record goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this node, in the same stage.
    Node(usize),
    /// To this `fetch`.
    Call(usize),
    /// Into another stage.
    Stage {
        /// Its id.
        stage: usize,
        /// Which of its entries.
        entry: u16,
    },
}

/// One way into a stage. Its number is its index in [`Stage::entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What comes in here.
    pub feed: Feed,
    /// Where it goes.
    pub to: Vec<Target>,
}

/// Where records of one output go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The output; its node is one of the stage's.
    pub from: Outlet,
    /// Where its records go; never empty. Outputs without a route are read by nobody.
    pub to: Vec<Target>,
}

/// CPU nodes that run together, one record at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Its number: its index in the plan.
    pub id: usize,
    /// Ways in, at least one.
    pub entries: Vec<Entry>,
    /// Its nodes in topological order, by index in the graph.
    pub nodes: Vec<usize>,
    /// Where its nodes' records go, by node and port.
    pub routes: Vec<Route>,
}

impl Stage {
    /// Where records that leave `from` go.
    pub fn targets(&self, from: Outlet) -> &[Target] {
        let route = self.routes.iter().find(|route| route.from == from);
        route.map_or(&[], |route| route.to.as_slice())
    }

    /// Targets outside the stage, each once, in order: its edges.
    pub fn edges(&self) -> Vec<Target> {
        let from_entries = self.entries.iter().flat_map(|entry| &entry.to);
        let from_nodes = self.routes.iter().flat_map(|route| &route.to);
        let mut edges: Vec<Target> = Vec::new();
        for target in from_entries.chain(from_nodes) {
            if !matches!(target, Target::Node(_)) && !edges.contains(target) {
                edges.push(*target);
            }
        }
        edges
    }
}

/// Cuts `graph` into stages. Stages are numbered along the stream: an edge leads to a higher
/// number, directly or through a `fetch`.
pub fn stages(graph: &Graph) -> Vec<Stage> {
    let mut planner = Planner { graph, stages: Vec::new(), behind: Vec::new(), seat: Vec::new() };
    planner.seat_all();
    planner.connect_all();
    planner.stages
}

struct Planner<'g> {
    graph: &'g Graph,
    stages: Vec<Stage>,
    /// By node: the stage in which what it emits meets its readers. `None`: nobody reads it.
    behind: Vec<Option<usize>>,
    /// By node: the stage in which it runs. `None`: a source or a `fetch`.
    seat: Vec<Option<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Call,
    Unarchive,
    Fused,
}

impl Planner<'_> {
    fn role(&self, node: usize) -> Role {
        match &self.graph.nodes[node].kind {
            NodeKind::Source(_) => Role::Source,
            NodeKind::Processor(Processor::Fetch(_)) => Role::Call,
            NodeKind::Processor(Processor::Unarchive(_)) => Role::Unarchive,
            NodeKind::Processor(_) | NodeKind::Sink(_) => Role::Fused,
        }
    }

    fn open(&mut self) -> usize {
        let id = self.stages.len();
        self.stages.push(Stage { id, ..Stage::default() });
        id
    }

    /// Gives each node its stage. Nodes come in topological order, so whatever a node reads has
    /// its place already.
    fn seat_all(&mut self) {
        for node in 0..self.graph.nodes.len() {
            let role = self.role(node);
            let seat = match role {
                Role::Source | Role::Call => None,
                Role::Unarchive | Role::Fused => Some(self.seat_of(node)),
            };
            if let Some(stage) = seat {
                self.stages[stage].nodes.push(node);
            }
            let behind = match role {
                Role::Source => Some(self.open_for(Feed::Source(node))),
                Role::Call => Some(self.open_for(Feed::Call(node))),
                Role::Unarchive if self.graph.successors(node).is_empty() => None,
                Role::Unarchive => Some(self.open()),
                Role::Fused => seat,
            };
            self.seat.push(seat);
            self.behind.push(behind);
        }
    }

    fn open_for(&mut self, feed: Feed) -> usize {
        let stage = self.open();
        self.stages[stage].entries.push(Entry { feed, to: Vec::new() });
        stage
    }

    /// The stage of everything that `node` reads, or a new one if that is several stages.
    fn seat_of(&mut self, node: usize) -> usize {
        let inputs = &self.graph.nodes[node].inputs;
        let mut origins: Vec<usize> =
            inputs.iter().filter_map(|input| self.behind[input.node]).collect();
        origins.sort_unstable();
        origins.dedup();
        match origins.as_slice() {
            [stage] => *stage,
            _ => self.open(),
        }
    }

    fn connect_all(&mut self) {
        for node in 0..self.graph.nodes.len() {
            let ports = self.graph.nodes[node].ports().len();
            for port in (0..ports).filter_map(port_at) {
                let outlet = Outlet { node, port };
                let readers = self.graph.readers(node, port);
                if let Some(stage) = self.behind[node].filter(|_| !readers.is_empty()) {
                    self.connect(stage, outlet, &readers);
                }
            }
        }
    }

    /// Leads what leaves `outlet` to its readers; `stage` is the one in which it meets them.
    fn connect(&mut self, stage: usize, outlet: Outlet, readers: &[usize]) {
        let role = self.role(outlet.node);
        let entry = match role {
            Role::Source => Some(self.entry(stage, Feed::Source(outlet.node))),
            Role::Call => Some(self.entry(stage, Feed::Call(outlet.node))),
            Role::Unarchive => Some(self.entry(stage, Feed::Edge(outlet))),
            Role::Fused => None,
        };
        if role == Role::Unarchive
            && let (Some(seat), Some(entry)) = (self.seat[outlet.node], entry)
        {
            self.route(seat, outlet, Target::Stage { stage, entry });
        }
        for reader in readers {
            let target = self.target(stage, outlet, *reader);
            match entry {
                Some(entry) => self.enter(stage, entry, target),
                None => self.route(stage, outlet, target),
            }
        }
    }

    /// Where a record of `outlet`, being in `stage`, goes to reach `reader`.
    fn target(&mut self, stage: usize, outlet: Outlet, reader: usize) -> Target {
        match self.seat[reader] {
            None => Target::Call(reader),
            Some(seat) if seat == stage => Target::Node(reader),
            Some(seat) => {
                let entry = self.entry(seat, Feed::Edge(outlet));
                self.enter(seat, entry, Target::Node(reader));
                Target::Stage { stage: seat, entry }
            }
        }
    }

    /// The number of the entry of `stage` for `feed`.
    fn entry(&mut self, stage: usize, feed: Feed) -> u16 {
        let entries = &mut self.stages[stage].entries;
        let at = entries.iter().position(|entry| entry.feed == feed).unwrap_or_else(|| {
            entries.push(Entry { feed, to: Vec::new() });
            entries.len() - 1
        });
        // A graph has far fewer outputs than that; see `ports::MOST_SCHEMAS`.
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    fn enter(&mut self, stage: usize, entry: u16, target: Target) {
        if let Some(entry) = self.stages[stage].entries.get_mut(usize::from(entry))
            && !entry.to.contains(&target)
        {
            entry.to.push(target);
        }
    }

    fn route(&mut self, stage: usize, from: Outlet, target: Target) {
        let routes = &mut self.stages[stage].routes;
        match routes.iter_mut().find(|route| route.from == from) {
            Some(route) if route.to.contains(&target) => {}
            Some(route) => route.to.push(target),
            None => routes.push(Route { from, to: vec![target] }),
        }
    }
}

#[cfg(test)]
mod tests;
