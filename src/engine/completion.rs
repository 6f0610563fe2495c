//! Starting stage 2: borders, aggregators, the dispatcher and the retirer.
//!
//! Responsible for: turning declared manifests, receipts and tables into running parts.
//! Not responsible for: what they do (`completion`, `state`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use actix::{Arbiter, ArbiterHandle};
use tokio::sync::Notify;

use crate::broker::group::PartitionActors;
use crate::completion::config::ActionKind;
use crate::completion::publisher::LARGEST_MESSAGE;
use crate::completion::{
    AggregatorContext, AggregatorSettings, AnnounceBoundary, BoundaryContext, DispatcherContext,
    DispatcherSettings, EventPublisher, Kinds, ManifestAggregator, MemberBoundary,
    OutboxDispatcher, ProgressTopic, Publisher, PublisherContext, ReceiptBoundary,
    dispatcher::HttpSender,
};
use crate::engine::blueprint::{BoundaryFactory, Parts};
use crate::engine::nodes::definition_below;
use crate::engine::sinks::Roots;
use crate::engine::sources::{self, RunningGroup};
use crate::engine::store::group_of;
use crate::engine::{Context, EngineError, retirement};
use crate::model::NodeName;
use crate::runtime::supervisor::{Child, ChildSpec, supervise};
use crate::state::StateStore;
use crate::topology::Topology;

/// Starts the publisher and puts the borders where the topology declares them; nothing without
/// manifests and receipts.
pub fn borders(
    context: &Context,
    topology: &Topology,
    parts: &mut Parts,
    arbiter: ArbiterHandle,
) -> Option<Child> {
    if topology.manifests.is_empty() && topology.receipts.is_empty() {
        return None;
    }
    let publisher = Publisher::new();
    let shared = PublisherContext {
        publisher: publisher.clone(),
        producer: context.producer.clone(),
        escalation: context.escalation.clone(),
        room: Arc::default(),
    };
    let child = supervise(ChildSpec {
        name: "publisher of events".to_owned(),
        policy: context.restart_policy(),
        clock: context.clock.clone(),
        arbiter,
        factory: move |lifeline| EventPublisher::new(shared.clone(), lifeline),
    });
    context.watch(&child);
    let boundary = BoundaryContext {
        pipeline: context.pipeline.clone(),
        progress: Arc::new(ProgressTopic {
            topic: topology.progress_topic(),
            partitions: topology.progress.partitions,
            max_bytes: LARGEST_MESSAGE,
        }),
        publisher,
        clock: context.clock.clone(),
    };
    place(topology, &boundary, parts);
    Some(child)
}

/// Receipts lie outside: one is owed for the record, whatever it is a part of below.
fn place(topology: &Topology, boundary: &BoundaryContext, parts: &mut Parts) {
    for (name, receipt) in &topology.receipts {
        let (name, declared, boundary) = (name.clone(), receipt.clone(), boundary.clone());
        let factory: BoundaryFactory = Arc::new(move || {
            Box::new(ReceiptBoundary::new(name.clone(), &declared, boundary.clone()))
        });
        put(topology, &receipt.of, None, &factory, parts);
    }
    for (kind, manifest) in &topology.manifests {
        let below = |node: &NodeName| {
            let index = topology.graph.index_of(node).unwrap_or_default();
            definition_below(&topology.graph, index)
        };
        let (definition, announced) = (below(&manifest.members), below(&manifest.announced_by));
        let shared = (kind.clone(), manifest.clone(), boundary.clone());
        let announce: BoundaryFactory = Arc::new(move || {
            let (kind, manifest, boundary) = shared.clone();
            Box::new(AnnounceBoundary::new(kind, &manifest, announced, boundary))
        });
        let port = manifest.announced_port.as_deref();
        put(topology, &manifest.announced_by, port, &announce, parts);
        let shared = (kind.clone(), manifest.clone(), boundary.clone());
        let member: BoundaryFactory = Arc::new(move || {
            let (kind, manifest, boundary) = shared.clone();
            Box::new(MemberBoundary::new(kind, &manifest, definition, boundary))
        });
        put(topology, &manifest.members, None, &member, parts);
    }
}

/// Puts a border on one output of a node, or on all of its main ones.
fn put(
    topology: &Topology,
    node: &NodeName,
    port: Option<&str>,
    factory: &BoundaryFactory,
    parts: &mut Parts,
) {
    let Some(index) = topology.graph.index_of(node) else { return };
    for (number, spec) in topology.graph.nodes[index].ports().iter().enumerate() {
        if port.map_or(spec.main, |port| spec.name == port) {
            parts.boundaries.entry((index, number as u8)).or_default().push(factory.clone());
        }
    }
}

/// Stage 2, running.
pub struct RunningCompletion {
    /// The aggregators.
    pub group: RunningGroup,
    /// Delivers actions.
    pub dispatcher: Child,
    /// Deletes retired objects, where sinks write objects.
    pub retirer: Option<Child>,
}

/// Starts the dispatcher, the retirer and the aggregators; nothing without manifests. `roots` are
/// those of the sinks.
pub fn start(
    context: &Context,
    topology: &Topology,
    store: Arc<dyn StateStore>,
    roots: &Roots,
    arbiter: ArbiterHandle,
) -> Result<Option<RunningCompletion>, EngineError> {
    if topology.manifests.is_empty() {
        return Ok(None);
    }
    let (completed, retired) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let retirer =
        retirement::start(context, roots, store.clone(), retired.clone(), arbiter.clone());
    let dispatcher = dispatcher(context, topology, store.clone(), completed.clone(), arbiter)?;
    let group = format!("{}.progress", group_of(topology));
    let assignor = context.config.consumer.assignor;
    let joined = sources::join(context, &group, vec![topology.progress_topic()], assignor)?;
    let shared = Arc::new(AggregatorContext {
        pipeline: context.pipeline.clone(),
        settings: AggregatorSettings::default(),
        kinds: Arc::new(Kinds::new(&topology.manifests)),
        store,
        orders: joined.orders.clone(),
        positions: joined.poll.positions(),
        admin: Some(context.admin.clone()),
        clock: context.clock.clone(),
        instruments: context.instruments.clone(),
        lags: context.observed.progress_lags.clone(),
        skipped: Arc::default(),
        escalation: context.escalation.clone(),
        epochs: Arc::new(AtomicU64::new(0)),
        completed,
        retired,
    });
    let policy = context.restart_policy();
    let actors: PartitionActors = Arc::new(move |partition, messages| {
        let shared = shared.clone();
        // Kept as long as the assignment, across all aggregators that note something in it.
        let place = shared.lags.of(&partition);
        supervise(ChildSpec {
            name: format!("manifest aggregator {partition}"),
            policy: policy.clone(),
            clock: shared.clock.clone(),
            arbiter: Arbiter::current(),
            factory: move |lifeline| {
                let _kept = &place;
                ManifestAggregator::new(
                    partition.clone(),
                    shared.clone(),
                    messages.clone(),
                    lifeline,
                )
            },
        })
    });
    Ok(Some(RunningCompletion { group: joined.run(context, actors), dispatcher, retirer }))
}

fn dispatcher(
    context: &Context,
    topology: &Topology,
    store: Arc<dyn StateStore>,
    completed: Arc<Notify>,
    arbiter: ArbiterHandle,
) -> Result<Child, EngineError> {
    let settings = DispatcherSettings::default();
    let mut actions = topology.manifests.iter().flat_map(|(_, manifest)| &manifest.on_complete);
    let tls = actions.any(|action| match &action.kind {
        ActionKind::Http { url, .. } => url.starts_with("https:"),
        _ => false,
    });
    let http = HttpSender::new(tls, settings.delivery_timeout)
        .map_err(|error| EngineError::misconfigured(error.to_string()))?;
    let shared = DispatcherContext {
        pipeline: context.pipeline.clone(),
        settings,
        store,
        producer: context.producer.clone(),
        http,
        clock: context.clock.clone(),
        instruments: context.instruments.clone(),
        completed,
    };
    let child = supervise(ChildSpec {
        name: "outbox dispatcher".to_owned(),
        policy: context.restart_policy(),
        clock: context.clock.clone(),
        arbiter,
        factory: move |lifeline| OutboxDispatcher::new(shared.clone(), lifeline),
    });
    context.watch(&child);
    Ok(child)
}
