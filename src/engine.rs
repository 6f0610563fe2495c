//! The engine: builds a pipeline bottom-up, runs it, drains it top-down.
//!
//! Responsible for: the order in which parts start and stop, and how a run ends.
//! Not responsible for: what any part does.
//!
//! Start, so that each part finds what it hands over to:
//! 1. log, producer, state store, topics, buckets
//! 2. dispatcher, retirer and aggregators
//! 3. dead letters, publisher of events
//! 4. sinks
//! 5. ingress
//! 6. stages, from the last to the first, and the nodes between them
//! 7. sources
//!
//! Drain, so that nothing is handed to a part that has stopped:
//! 1. the ingress takes no more uploads
//! 2. sources take no more records and wait until those in flight have their outcome
//! 3. sources commit what is done and leave their groups
//! 4. stages work off what is left, from the first to the last
//! 5. aggregators finish their batch and leave their group; dispatcher and retirer stop
//! 6. calls, sinks, publisher and dead letters stop

mod blueprint;
mod completion;
mod context;
pub mod health;
mod ingress;
mod nodes;
mod observed;
pub mod operator;
mod retirement;
mod sinks;
mod sources;
mod stages;
mod store;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use tokio::task::JoinHandle;

use crate::broker::BrokerError;
use crate::config::Config;
use crate::engine::blueprint::Parts;
use crate::engine::completion::RunningCompletion;
use crate::engine::context::Context;
use crate::engine::health::Health;
use crate::engine::nodes::Spools;
use crate::engine::sinks::Starter;
use crate::engine::sources::{Inflow, RunningGroup};
use crate::engine::stages::{Builder, RunningStages};
use crate::ops::Operator;
use crate::runtime::escalation::{Ending, Escalated};
use crate::runtime::shutdown::{Shutdown, ShutdownToken};
use crate::runtime::supervisor::Child;
use crate::source::config::Config as Source;
use crate::source::ingress::IngressServer;
use crate::state::StateStore;
use crate::telemetry::{Instruments, Metrics};
use crate::topology::{self, Feed, Graph, NodeKind, Stage, Topology};

/// Why a pipeline could not start, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct EngineError {
    /// What kind of end it is.
    pub ending: Ending,
    /// What happened, on what, and what to do.
    pub why: String,
}

impl EngineError {
    fn internal(error: impl ToString) -> Self {
        Self { ending: Ending::Internal, why: error.to_string() }
    }

    fn misconfigured(why: impl Into<String>) -> Self {
        Self { ending: Ending::Misconfigured, why: why.into() }
    }

    fn dependency(why: impl Into<String>) -> Self {
        Self { ending: Ending::Dependency, why: why.into() }
    }

    fn broker(error: BrokerError) -> Self {
        Self { ending: Ending::Dependency, why: error.to_string() }
    }
}

impl From<Escalated> for EngineError {
    fn from(Escalated { ending, why }: Escalated) -> Self {
        Self { ending, why }
    }
}

/// How a pipeline that was told to stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether everything in flight had its outcome, so that nothing will be processed again.
    pub complete: bool,
}

/// A running pipeline.
pub struct Running {
    context: Context,
    shutdown: ShutdownToken,
    store: Option<Arc<dyn StateStore>>,
    operator: Operator,
    health: Health,
    metrics: Arc<Metrics>,
    /// Asks whether what everything depends on is there.
    probe: JoinHandle<()>,
    completion: Option<RunningCompletion>,
    ingress: Option<IngressServer>,
    sources: Vec<RunningGroup>,
    stages: RunningStages,
    /// Dropped to end waits for dependencies.
    stopping: crossbeam_channel::Sender<()>,
    /// Sinks, publisher and dead letters, in the order in which they started.
    bottom: Vec<Child>,
    _arbiter: Arbiter,
}

/// Starts a topology. Has to be called within an actix system.
///
/// # Errors
/// What kept it from starting.
pub async fn start(
    topology: Topology,
    config: Config,
    shutdown: &Shutdown,
) -> Result<Running, EngineError> {
    let context = Context::open(&topology, config).await?;
    let store = store::open_store(&context, &topology).await?;
    let mut topics = topics::produced(&topology);
    topics.push(context.dead_letter_spec());
    context.ensure(topics).await?;
    let roots = sinks::roots(&topology.graph).await?;
    let shared = ingress::shared(&topology).await?;

    let arbiter = Arbiter::new();
    context.observed.arbiter("the engine", &Arbiter::current(), &context.clock);
    context.observed.arbiter("sinks and calls", &arbiter.handle(), &context.clock);
    let completion = match store.clone() {
        Some(store) => completion::start(&context, &topology, store, &roots, arbiter.handle())?,
        None => None,
    };
    let (failures, letters) = sinks::dead_letters(&context, arbiter.handle());
    let mut bottom = vec![letters];
    let mut parts = Parts::default();
    bottom.extend(completion::borders(&context, &topology, &mut parts, arbiter.handle()));
    let spools = Spools::new(&context, &topology.graph);
    let sinks = Starter {
        context: &context,
        topology: &topology,
        store: store.clone(),
        lanes: context.config.workers.lanes().get(),
        spools: &spools,
        roots: &roots,
        failures: &failures,
        arbiter: arbiter.handle(),
    };
    bottom.extend(assemble(&context, &topology.graph, &sinks, &mut parts)?);
    let ingress = ingress::start(&context, &topology, shared)?;

    let plan = topology::stages(&topology.graph);
    let (stopping, stopped) = crossbeam_channel::bounded(0);
    let builder = Builder {
        context: &context,
        graph: &topology.graph,
        parts: &parts,
        spools: &spools,
        failures: &failures,
        stopping: stopped,
        local: ingress.as_ref().map(ingress::payloads),
        arbiter: arbiter.handle(),
    };
    let stages = builder.start(&plan)?;
    let sources = start_sources(&context, &topology, &plan, &stages)?;
    let metrics = Arc::new(observed::metrics(&context).map_err(EngineError::internal)?);
    let health = Health::new(&context, &topology, shutdown.token());
    let probe = health.probe(context.admin.clone(), store.clone());
    let operator = operator::operator(&context, &topology, store.clone());
    tracing::info!(pipeline = %context.pipeline, "pipeline runs");
    Ok(Running {
        context,
        shutdown: shutdown.token(),
        store,
        operator,
        health,
        metrics,
        probe,
        completion,
        ingress,
        sources,
        stages,
        stopping,
        bottom,
        _arbiter: arbiter,
    })
}

/// Makes the parts of all nodes; returns the actors of the sinks among them.
fn assemble(
    context: &Context,
    graph: &Graph,
    sinks: &Starter<'_>,
    parts: &mut Parts,
) -> Result<Vec<Child>, EngineError> {
    let mut children = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let step = match &node.kind {
            NodeKind::Source(source) => Some(nodes::source_step(source)),
            NodeKind::Processor(config) => {
                nodes::processor_step(context, graph, index, config, sinks.spools)?
            }
            NodeKind::Sink(config) => {
                let sink = sinks.start(&node.name, config)?;
                children.push(sink.child);
                Some(sink.step)
            }
        };
        parts.steps.extend(step.map(|step| (index, step)));
    }
    Ok(children)
}

fn start_sources(
    context: &Context,
    topology: &Topology,
    plan: &[Stage],
    stages: &RunningStages,
) -> Result<Vec<RunningGroup>, EngineError> {
    let mut started = Vec::new();
    for stage in plan {
        for (entry, way_in) in stage.entries.iter().enumerate() {
            let Feed::Source(node) = way_in.feed else { continue };
            let NodeKind::Source(Source::Kafka(source)) = &topology.graph.nodes[node].kind else {
                continue;
            };
            let Some(lanes) = stages.lanes.get(&stage.id) else { continue };
            let inflow = Inflow {
                name: &topology.graph.nodes[node].name,
                source,
                replays: topology.replay_topic(),
                lanes: lanes.clone(),
                entry: entry as u16,
                strangers: Arc::new(sources::strangers(&topology.graph, node)),
            };
            started.extend(sources::start(context, &inflow)?);
        }
    }
    Ok(started)
}

impl Running {
    /// Address of the ingress, if the topology has one.
    pub fn ingress_addr(&self) -> Option<SocketAddr> {
        self.ingress.as_ref().map(IngressServer::local_addr)
    }

    /// The state store, if the topology needs one.
    pub fn store(&self) -> Option<Arc<dyn StateStore>> {
        self.store.clone()
    }

    /// What operators change the pipeline with.
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// What the pipeline counts.
    pub fn instruments(&self) -> Arc<Instruments> {
        self.context.instruments.clone()
    }

    /// Whether it lives and can do its work.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// All metrics, as text.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Waits until the pipeline is told to stop or cannot go on, and stops it.
    ///
    /// # Errors
    /// What it could not go on from.
    pub async fn ended(self) -> Result<Ended, EngineError> {
        let escalation = self.context.escalation.clone();
        let (asked, dying) = (self.shutdown.clone(), self.shutdown.clone());
        let ingress = async {
            match &self.ingress {
                Some(ingress) => ingress.failed().await,
                None => std::future::pending().await,
            }
        };
        let failed = tokio::select! {
            () = asked.draining() => None,
            escalated = escalation.raised() => Some(escalated),
            why = ingress => Some(Escalated { ending: Ending::Internal, why }),
        };
        // A pipeline that cannot go on still finishes what it can: the others get a clean start.
        let complete = tokio::select! {
            complete = self.drain() => complete,
            () = dying.stopping() => false,
        };
        match failed.or_else(|| escalation.get()) {
            Some(escalated) => Err(escalated.into()),
            None => Ok(Ended { complete }),
        }
    }

    /// The drain, in the order of the module's text.
    async fn drain(self) -> bool {
        let deadline = self.context.config.shutdown.drain_deadline;
        tracing::info!(pipeline = %self.context.pipeline, ?deadline, "draining");
        // 1. no more uploads
        if let Some(ingress) = self.ingress {
            ingress.stop().await;
        }
        // 2. no more records; those in flight get their outcome
        let mut complete = true;
        for source in &self.sources {
            complete &= source.drain(deadline).await;
        }
        // 3. commit and leave
        for source in self.sources {
            source.stop().await;
        }
        // 4. stages, in the order in which records flow
        drop(self.stopping);
        for pool in &self.stages.pools {
            if pool.drain(STAGE_DRAIN).await.is_err() {
                pool.stop();
                complete = false;
            }
        }
        // 5. what was settled is in the progress topic, and is applied now or after the next start
        if let Some(completion) = self.completion {
            completion.group.drain(deadline).await;
            completion.group.stop().await;
            completion.dispatcher.stop();
            completion.retirer.iter().for_each(Child::stop);
        }
        // 6. the rest
        self.probe.abort();
        self.stages.callers.iter().for_each(Child::stop);
        self.bottom.iter().rev().for_each(Child::stop);
        tracing::info!(pipeline = %self.context.pipeline, complete, "pipeline stopped");
        complete
    }
}

/// How long the threads of one stage may take to end once nothing is in flight.
const STAGE_DRAIN: Duration = Duration::from_secs(5);
