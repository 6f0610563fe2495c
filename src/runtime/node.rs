//! What a node is to the stage that runs it.
//!
//! Responsible for: the traits of CPU nodes ([`Transform`]), of the CPU half of sinks
//! ([`Writer`]), of nodes that do I/O ([`Call`]) and of borders of manifests and receipts
//! ([`Boundary`]); and the rule that ties them together: *a record of a stage is a transaction*.
//! Not responsible for: running them (`processor::stage`) or building them.
//!
//! A stage feeds one input record through its nodes. What they emit is held back until the whole
//! record succeeded; only then writers are told to `prepare` (which may fail) and to `commit`
//! (which may not), and only then parts of the record's obligation are handed out. So a record
//! that fails, panics or hangs half-way has had no effect, and settling it is left to one place.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::model::event::MemberFacts;
use crate::model::{Failure, Metadata, NodeName, Record, SourceRef};
use crate::progress::obligation::{Obligation, OnClose};

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Index of an output of a node, in the order of its declared ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port(pub u8);

impl Port {
    /// The first output.
    pub const FIRST: Self = Self(0);
}

/// An output of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Name after the dot in `inputs = ["node.port"]`; empty for an output that has none.
    pub name: String,
    /// Whether `inputs = ["node"]`, without a port, reads this output too.
    pub main: bool,
}

/// Takes what a node emits.
pub trait Emit {
    /// Hands `record` to whatever is connected to `port`. An error came from further down and
    /// has to be returned as it is: the input record has failed.
    fn emit(&mut self, port: Port, record: Record) -> Result<(), Failure>;

    /// Leaves facts with the member that the input record belongs to, if the record succeeds.
    fn note(&mut self, facts: MemberFacts);

    /// Called now and then during long work on one record, so that it is not taken for hung.
    fn progress(&mut self);
}

/// A CPU node. Runs on a worker thread, one record at a time.
pub trait Transform: Send {
    /// Processes one record. Emitting nothing is fine: the record is *filtered* then.
    fn apply(&mut self, record: Record, out: &mut dyn Emit) -> Result<(), Failure>;

    /// The stage's input record has been read to its end: emits what was held back for it.
    fn finish(&mut self, _out: &mut dyn Emit) -> Result<(), Failure> {
        Ok(())
    }

    /// The stage's input record has failed: forgets what was held back for it.
    fn abort(&mut self) {}
}

/// Names one of the obligations that are open while a stage works on an input record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopeId(pub u32);

impl ScopeId {
    /// The scope of the stage's input record itself.
    pub const INPUT: Self = Self(0);
}

/// The obligations that are open while a stage commits an input record.
pub struct Duties {
    input: Obligation,
    /// Below the input record, in the order of their ids. Most records cross no border, and then
    /// nothing is allocated.
    nested: Vec<Obligation>,
}

impl Duties {
    /// Starts with the duty of the input record.
    pub fn new(input: Obligation) -> Self {
        Self { input, nested: Vec::new() }
    }

    /// Puts a scope of its own under `parent`; its id is the next in order.
    pub fn nest(&mut self, parent: ScopeId, on_close: Box<dyn OnClose>, collects: bool) {
        let nested = self.part(parent).nest(on_close, collects);
        self.nested.push(nested);
    }

    /// A further part of the duty of `scope`.
    pub fn part(&self, scope: ScopeId) -> Obligation {
        self.open(scope).fork()
    }

    /// Leaves facts with the member that `scope` belongs to.
    pub fn note(&self, scope: ScopeId, facts: MemberFacts) {
        self.open(scope).note(facts);
    }

    /// The obligations themselves, innermost first, to be settled once all parts are handed out.
    pub fn into_innermost_first(self) -> impl Iterator<Item = Obligation> {
        self.nested.into_iter().rev().chain([self.input])
    }

    fn open(&self, scope: ScopeId) -> &Obligation {
        match scope.0.checked_sub(1) {
            None => &self.input,
            Some(nested) => &self.nested[nested as usize],
        }
    }
}

/// The pipeline is stopping: whoever is told gives up what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline is stopping")]
pub struct Stopped;

/// The CPU half of a sink, or an edge to the next stage.
pub trait Writer: Send {
    /// Takes one record made from the stage's current input record. Nothing of it may be visible
    /// outside before [`Writer::commit`].
    fn accept(&mut self, record: Record, scope: ScopeId) -> Result<(), Failure>;

    /// The input record has been read to its end: finishes what was accepted, as far as that can
    /// fail.
    fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Everything accepted since the last commit may leave, each piece under a part of its duty.
    fn commit(&mut self, duties: &Duties);

    /// Forgets everything accepted since the last commit.
    fn abort(&mut self);

    /// The batch of inputs is at its end: hands over what was committed. Blocks while whoever
    /// takes it is full, which is how backpressure arrives here.
    fn flush(&mut self) -> Result<(), Stopped>;
}

/// A node that waits for something outside: runs on the async side, many calls at once.
pub trait Call: Send + Sync {
    /// Turns one record into the one that goes on.
    fn call(&self, record: Record) -> BoxFuture<'_, Result<Record, Failure>>;
}

/// A border below which a record gets an obligation scope of its own: a member of a manifest, or
/// a record that is owed a receipt.
pub trait Boundary: Send {
    /// Looks at a record that crosses the border, and may set what it is part of.
    fn cross(&mut self, record: &mut Record) -> Result<Crossing, Failure>;

    /// Whether a record that a replay led to is meant by it. One that is not goes no further: it
    /// was done before, and is *filtered* this time. Asked of replays only.
    fn is_meant(&mut self, _record: &mut Record) -> Result<bool, Failure> {
        Ok(true)
    }
}

/// What a [`Boundary`] asks for.
pub struct Crossing {
    /// Called when everything below has settled.
    pub on_close: Box<dyn OnClose>,
    /// Whether facts noted below stay with this scope (a member) or go further up (a receipt).
    pub collects: bool,
}

/// A record that failed for good, on its way to the dead-letter topic.
#[derive(Debug)]
pub struct Failed {
    /// The record of the source that it was made from: that is what a dead letter holds.
    pub source: SourceRef,
    /// What it was part of.
    pub meta: Arc<Metadata>,
    /// Node that gave up.
    pub node: NodeName,
    /// What went wrong.
    pub failure: Failure,
    /// Attempts made at it.
    pub attempts: u32,
    /// Settled as dead-lettered once the broker acked the copy.
    pub duty: Obligation,
}
