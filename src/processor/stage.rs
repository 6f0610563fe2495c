//! A stage: CPU nodes that are fused and run on one worker, one input record at a time.
//!
//! Responsible for: routing what a node emits to the nodes behind it, opening scopes where
//! records cross borders, and making each input record a transaction: all of its effects leave
//! together, or none.
//! Not responsible for: threads (`runtime::pool`), retries and dead letters (`worker`).
//!
//! The nodes of a chain stand in topological order, so whatever is behind a node has a higher
//! index. That lets a node run while those behind it are borrowed separately, without a queue
//! between them: a record goes depth-first through the chain, parsed once.

pub mod worker;

use crate::model::event::MemberFacts;
use crate::model::{Failure, NodeName, Outcome, Record};
use crate::progress::obligation::{Obligation, OnClose};
use crate::runtime::fault;
use crate::runtime::node::{
    Boundary, Crossing, Duties, Emit, Port, ScopeId, Stopped, Transform, Writer,
};

/// What a node of a chain does.
pub enum Step {
    /// Makes records from records.
    Transform(Box<dyn Transform>),
    /// Takes records out of the chain.
    Writer(Box<dyn Writer>),
}

/// One output of a node.
#[derive(Default)]
pub struct Output {
    /// Borders that everything emitted here crosses, outermost first.
    pub boundaries: Vec<Box<dyn Boundary>>,
    /// Indexes of the nodes behind it, each higher than the node's own.
    pub next: Vec<usize>,
}

impl Output {
    /// Whether the replay that led to `record` means it; before any border is crossed, so that a
    /// record that is not meant opens nothing.
    fn means(&mut self, record: &mut Record) -> Result<bool, Failure> {
        for boundary in &mut self.boundaries {
            if !boundary.is_meant(record)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A node in its chain.
pub struct ChainNode {
    /// Its name in the topology.
    pub name: NodeName,
    /// What it does.
    pub step: Step,
    /// Its outputs, by port.
    pub outputs: Vec<Output>,
}

/// The fused nodes of a stage, built once per lane.
pub struct Chain {
    nodes: Vec<ChainNode>,
    /// First node of each entry.
    entries: Vec<Vec<usize>>,
}

/// A scope to be opened if the input record succeeds.
struct PendingScope {
    parent: ScopeId,
    on_close: Box<dyn OnClose>,
    collects: bool,
}

/// What is known of the input record while it runs.
struct Frame<'a> {
    scopes: Vec<PendingScope>,
    notes: Vec<(ScopeId, MemberFacts)>,
    /// Node and scope that are running, which is where a failure or a panic happened.
    at: (usize, ScopeId),
    beat: &'a dyn Fn(),
}

/// An input record that ran through all nodes and waits to be committed.
pub struct Finished {
    scopes: Vec<PendingScope>,
    notes: Vec<(ScopeId, MemberFacts)>,
}

/// An input record that failed.
pub struct Broken {
    /// Node at which it failed.
    pub node: NodeName,
    /// Why; `None` after a panic.
    pub failure: Option<Failure>,
    /// Scopes around the place of the failure, outermost first.
    scopes: Vec<PendingScope>,
}

impl Chain {
    /// A chain of these nodes; `entries` names the first nodes of each entry.
    pub fn new(nodes: Vec<ChainNode>, entries: Vec<Vec<usize>>) -> Self {
        debug_assert!(nodes.iter().enumerate().all(|(index, node)| {
            node.outputs.iter().flat_map(|output| &output.next).all(|next| *next > index)
        }));
        Self { nodes, entries }
    }

    /// Runs one record up to the point where only `commit` is left. After an error (or a panic,
    /// reported as [`Broken`] without a failure) nothing of it is left in the chain.
    pub fn run(&mut self, entry: u16, record: Record, beat: &dyn Fn()) -> Result<Finished, Broken> {
        let mut frame =
            Frame { scopes: Vec::new(), notes: Vec::new(), at: (0, ScopeId::INPUT), beat };
        let ran = {
            let (nodes, entries, frame) = (&mut self.nodes, &self.entries, &mut frame);
            // The chain is thrown away after a panic, so no broken invariant is ever seen.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let first = entries.get(usize::from(entry)).map_or(&[][..], Vec::as_slice);
                fan_out(nodes, 0, first, record, ScopeId::INPUT, frame)?;
                finish_all(nodes, frame)
            }))
        };
        let failure = match ran {
            Ok(Ok(())) => return Ok(Finished { scopes: frame.scopes, notes: frame.notes }),
            Ok(Err(failure)) => {
                self.abort();
                Some(failure)
            }
            Err(_panic) => None,
        };
        let (node, scope) = frame.at;
        let node = self.nodes.get(node).map_or_else(|| "stage".into(), |node| node.name.clone());
        Err(Broken { node, failure, scopes: ancestors(frame.scopes, scope) })
    }

    /// Lets everything that the record led to leave, under parts of `duty`.
    pub fn commit(&mut self, finished: Finished, duty: Obligation) {
        let mut duties = Duties::new(duty);
        for scope in finished.scopes {
            duties.nest(scope.parent, scope.on_close, scope.collects);
        }
        for (scope, facts) in finished.notes {
            duties.note(scope, facts);
        }
        for writer in writers(&mut self.nodes) {
            writer.commit(&duties);
        }
        // What came of the record is in the parts now. This one adds nothing to them: *filtered*
        // is the best outcome, and the one of a record that led to nothing.
        duties.into_innermost_first().for_each(|duty| duty.settle(Outcome::Filtered));
    }

    /// Forgets everything that the record led to: somebody else has settled it.
    pub fn discard(&mut self, finished: Finished) {
        drop(finished);
        self.abort();
    }

    /// Hands over what was committed since the last flush.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        writers(&mut self.nodes).try_for_each(|writer| writer.flush())
    }

    fn abort(&mut self) {
        for node in &mut self.nodes {
            match &mut node.step {
                Step::Transform(transform) => transform.abort(),
                Step::Writer(writer) => writer.abort(),
            }
        }
    }
}

impl Broken {
    /// Opens the scopes around the place of the failure under `duty`; whoever settles the part
    /// that is returned settles the failure.
    pub fn duty(self, duty: Obligation) -> Obligation {
        self.scopes.into_iter().fold(duty, |duty, scope| duty.nest(scope.on_close, scope.collects))
    }
}

/// The scopes from the outermost down to `innermost`; its siblings never happened.
fn ancestors(scopes: Vec<PendingScope>, innermost: ScopeId) -> Vec<PendingScope> {
    let mut path = Vec::new();
    let mut wanted = innermost;
    let mut scopes: Vec<_> = scopes.into_iter().map(Some).collect();
    while wanted != ScopeId::INPUT
        && let Some(scope) = scopes.get_mut(wanted.0 as usize - 1).and_then(Option::take)
    {
        wanted = scope.parent;
        path.push(scope);
    }
    path.reverse();
    path
}

fn writers(nodes: &mut [ChainNode]) -> impl Iterator<Item = &mut Box<dyn Writer>> {
    nodes.iter_mut().filter_map(|node| match &mut node.step {
        Step::Writer(writer) => Some(writer),
        Step::Transform(_) => None,
    })
}

/// Hands `record` to each of `targets`; all but the last get a clone.
fn fan_out(
    nodes: &mut [ChainNode],
    base: usize,
    targets: &[usize],
    record: Record,
    scope: ScopeId,
    frame: &mut Frame<'_>,
) -> Result<(), Failure> {
    let Some((last, others)) = targets.split_last() else { return Ok(()) };
    for target in others {
        visit(nodes, base, *target, record.clone(), scope, frame)?;
    }
    visit(nodes, base, *last, record, scope, frame)
}

/// Runs one node on one record. `nodes` starts with the node of index `base`.
fn visit(
    nodes: &mut [ChainNode],
    base: usize,
    index: usize,
    record: Record,
    scope: ScopeId,
    frame: &mut Frame<'_>,
) -> Result<(), Failure> {
    let came_from = std::mem::replace(&mut frame.at, (index, scope));
    let (head, tail) = nodes.split_at_mut(index - base + 1);
    let node = &mut head[index - base];
    fault::sabotage(&node.name, &record.source);
    match &mut node.step {
        Step::Writer(writer) => writer.accept(record, scope)?,
        Step::Transform(transform) => {
            let outputs = &mut node.outputs;
            let mut emitter = Emitter { tail, base: index + 1, outputs, scope, frame };
            transform.apply(record, &mut emitter)?;
        }
    }
    frame.at = came_from;
    Ok(())
}

/// Tells every node, in order, that the input record is at its end.
fn finish_all(nodes: &mut [ChainNode], frame: &mut Frame<'_>) -> Result<(), Failure> {
    for index in 0..nodes.len() {
        frame.at = (index, ScopeId::INPUT);
        let (head, tail) = nodes.split_at_mut(index + 1);
        let node = &mut head[index];
        match &mut node.step {
            Step::Writer(writer) => writer.prepare()?,
            Step::Transform(transform) => {
                let outputs = &mut node.outputs;
                let scope = ScopeId::INPUT;
                let mut emitter = Emitter { tail, base: index + 1, outputs, scope, frame };
                transform.finish(&mut emitter)?;
            }
        }
    }
    Ok(())
}

/// Takes what one node emits to the nodes behind it.
struct Emitter<'n, 'f, 'b> {
    /// The nodes behind the emitting one.
    tail: &'n mut [ChainNode],
    base: usize,
    outputs: &'n mut Vec<Output>,
    scope: ScopeId,
    frame: &'f mut Frame<'b>,
}

impl Emit for Emitter<'_, '_, '_> {
    fn emit(&mut self, port: Port, mut record: Record) -> Result<(), Failure> {
        let Some(output) = self.outputs.get_mut(usize::from(port.0)) else { return Ok(()) };
        if record.meta.replay.is_some() && !output.means(&mut record)? {
            return Ok(());
        }
        let mut scope = self.scope;
        for boundary in &mut output.boundaries {
            let Crossing { on_close, collects } = boundary.cross(&mut record)?;
            self.frame.scopes.push(PendingScope { parent: scope, on_close, collects });
            scope = ScopeId(self.frame.scopes.len() as u32);
        }
        fan_out(self.tail, self.base, &output.next, record, scope, self.frame)
    }

    fn note(&mut self, facts: MemberFacts) {
        self.frame.notes.push((self.scope, facts));
    }

    fn progress(&mut self) {
        (self.frame.beat)();
    }
}

#[cfg(test)]
mod tests;
