//! What operators act with.
//!
//! Responsible for: putting an [`Operator`] together, for a running pipeline and for a command
//! that connects to the same brokers beside it.
//! Not responsible for: what operators do (`ops`).

use std::sync::Arc;

use crate::completion::ProgressTopic;
use crate::completion::publisher::LARGEST_MESSAGE;
use crate::config::Config;
use crate::engine::{Context, EngineError, topics};
use crate::ops::{Operator, OperatorTopics};
use crate::source::config::Config as Source;
use crate::state::StateStore;
use crate::topology::{NodeKind, Topology};

/// The operator of a pipeline whose parts share `context`.
pub(super) fn operator(
    context: &Context,
    topology: &Topology,
    store: Option<Arc<dyn StateStore>>,
) -> Operator {
    let progress = (!topology.manifests.is_empty()).then(|| ProgressTopic {
        topic: topology.progress_topic(),
        partitions: topology.progress.partitions,
        max_bytes: LARGEST_MESSAGE,
    });
    let sources = topology.graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(Source::Kafka(_)) => Some(node.name.clone()),
        _ => None,
    });
    Operator {
        pipeline: context.pipeline.clone(),
        producer: context.producer.clone(),
        broker: context.broker.clone(),
        store,
        progress,
        topics: OperatorTopics {
            dead_letters: context.dead_letter_topic(),
            replay: topology.replay_topic(),
            audit: topics::audit_topic(topology),
        },
        sources: sources.collect(),
        clock: context.clock.clone(),
    }
}

/// An operator beside whoever runs the pipeline: with the brokers that the topology names, and the
/// state store that is given.
///
/// # Errors
/// The brokers cannot be reached, or the embedded log is in the hands of another process.
pub async fn connect(
    topology: &Topology,
    config: Config,
    store: Option<Arc<dyn StateStore>>,
) -> Result<Operator, EngineError> {
    let context = Context::open(topology, config).await?;
    Ok(operator(&context, topology, store))
}
