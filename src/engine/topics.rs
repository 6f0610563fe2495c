//! The topics that a pipeline produces to.
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
use crate::topology::{NodeKind, Topology};

/// Topics of sinks, actions, receipts and the ingress, and the progress topic.
pub fn produced(topology: &Topology) -> Vec<TopicSpec> {
    let mut specs: Vec<TopicSpec> = plain(topology)
        .into_iter()
        .map(|name| TopicSpec { name, partitions: None, settings: BTreeMap::new() })
        .collect();
    if !topology.manifests.is_empty() {
        specs.push(progress(topology));
    }
    specs
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

/// Events are removed once they are applied, never because they are old or many.
fn progress(topology: &Topology) -> TopicSpec {
    let unlimited = |name: &str| (name.to_owned(), "-1".to_owned());
    TopicSpec {
        name: topology.progress_topic(),
        partitions: Some(topology.progress.partitions),
        settings: BTreeMap::from([unlimited("retention.ms"), unlimited("retention.bytes")]),
    }
}
