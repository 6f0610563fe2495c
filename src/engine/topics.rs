//! The topics that a pipeline and its operators produce to.
//!
//! Responsible for: naming them with the settings they need, so that they exist before the first
//! record.
//! Not responsible for: topics that are only read; somebody else produces to those, and a source
//! waits until they exist. The topic of dead letters is the context's.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::TopicSpec;
use crate::completion::config::ActionKind;
use crate::model::Topic;
use crate::sink::config::Config as Sink;
use crate::topology::{Node, NodeKind, Topology};

/// Largest record that a replay takes: a source record, and headers that say what it replays.
const LARGEST_REPLAY: u64 = 1_048_588 + (64 << 10);

/// Topics of sinks, actions, receipts and the ingress, the progress topic, and those of operators.
pub fn produced(topology: &Topology) -> Vec<TopicSpec> {
    let mut specs: Vec<TopicSpec> = plain(topology)
        .into_iter()
        .map(|name| TopicSpec { name, partitions: None, settings: BTreeMap::new() })
        .collect();
    if !topology.manifests.is_empty() {
        specs.push(progress(topology));
    }
    specs.extend(operated(topology));
    specs
}

/// Topics that operators produce to. Without a source nobody takes replays.
fn operated(topology: &Topology) -> Vec<TopicSpec> {
    let is_source = |node: &Node| matches!(node.kind, NodeKind::Source(_));
    let replays = topology.graph.nodes.iter().any(is_source).then(|| replays(topology));
    replays.into_iter().chain([audit(topology)]).collect()
}

/// The topic of what operators changed.
pub fn audit_topic(topology: &Topology) -> Topic {
    Topic::from(format!("{}.audit", topology.name))
}

fn plain(topology: &Topology) -> BTreeSet<Topic> {
    let sinks = topology.graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Sink(Sink::Kafka(sink)) => Some(sink.topic.clone()),
        _ => None,
    });
    let actions = topology.manifests.iter().flat_map(|(_, manifest)| &manifest.on_complete);
    let actions = actions.filter_map(|action| match &action.kind {
        ActionKind::Kafka { topic, .. } => Some(topic.clone()),
        _ => None,
    });
    let receipts = topology.receipts.iter().map(|(_, receipt)| receipt.topic.clone());
    let ingresses = topology.ingresses.iter().map(|(_, ingress)| ingress.topic.clone());
    sinks.chain(actions).chain(receipts).chain(ingresses).collect()
}

fn setting(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// Events are removed once they are applied, never because they are old or many.
fn progress(topology: &Topology) -> TopicSpec {
    TopicSpec {
        name: topology.progress_topic(),
        partitions: Some(topology.progress.partitions),
        settings: BTreeMap::from([setting("retention.ms", -1), setting("retention.bytes", -1)]),
    }
}

/// A replay keeps the time stamp of its source record, which may be old by now: a limit of time
/// would remove it before it is read.
fn replays(topology: &Topology) -> TopicSpec {
    TopicSpec {
        name: topology.replay_topic(),
        partitions: None,
        settings: BTreeMap::from([
            setting("retention.ms", -1),
            setting("max.message.bytes", LARGEST_REPLAY),
        ]),
    }
}

/// One partition, so that what was done has an order; for ever.
fn audit(topology: &Topology) -> TopicSpec {
    TopicSpec {
        name: audit_topic(topology),
        partitions: Some(1),
        settings: BTreeMap::from([
            setting("retention.ms", -1),
            setting("cleanup.policy", "delete"),
        ]),
    }
}
