//! Whether a pipeline lives and can do its work.
//!
//! Responsible for: asking, again and again, whether the broker, the topics of sources and the
//! state store answer, and how much the store says is to be done; saying what all parts know of
//! what is away.
//! Not responsible for: what a node does while its dependency is away, or who is told (`api`).
//!
//! Nodes report what is away themselves when they meet it. The probes here find it as well while
//! there is nothing to do, and name what no node would name: a broker that holds everything back,
//! a topic of a source that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use crate::broker::{Admin, BrokerError};
use crate::engine::Context;
use crate::engine::observed::Observed;
use crate::model::{NodeName, PipelineName, Topic};
use crate::ops::time::Time;
use crate::runtime::clock::SharedClock;
use crate::runtime::escalation::Escalation;
use crate::runtime::heartbeat::Stalled;
use crate::runtime::shutdown::{Level, ShutdownToken};
use crate::source::config::Config as Source;
use crate::state::StateStore;
use crate::telemetry::unavailable::{BROKER, STATE_STORE};
use crate::telemetry::{Away, Instruments, NodeAway};
use crate::topology::{NodeKind, Topology};

/// How often the dependencies of the whole pipeline are asked.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long the state store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// A source, and the topic that it reads.
#[derive(Clone, Debug)]
struct Read {
    node: NodeName,
    topic: Topic,
}

/// How a pipeline is. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    pipeline: PipelineName,
    sources: Arc<[Read]>,
    has_store: bool,
    observed: Arc<Observed>,
    instruments: Arc<Instruments>,
    escalation: Arc<Escalation>,
    clock: SharedClock,
    shutdown: ShutdownToken,
}

/// A node whose dependency is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStanding {
    /// Name of the node, or `broker`, or `state store`.
    pub node: String,
    /// Since when.
    pub since: Time,
    /// What failed.
    pub why: String,
}

impl From<NodeAway> for NodeStanding {
    fn from(NodeAway { node, since, why }: NodeAway) -> Self {
        Self { node: node.to_string(), since: Time(since), why }
    }
}

/// Whether a pipeline can do its work at the moment, and why it cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Started, not draining, and nothing is unavailable.
    pub ready: bool,
    /// The pipeline.
    pub pipeline: String,
    /// Whether all its parts run.
    pub started: bool,
    /// Whether it takes no new work, because it stops.
    pub draining: bool,
    /// Nodes whose dependency is away.
    pub unavailable: Vec<NodeStanding>,
    /// Sources of which this process has no partition: others have them all, or the group has not
    /// met yet. That is fine for a process that stands by.
    pub unassigned: Vec<String>,
    /// Whether the state store answers; nothing where the topology needs none.
    pub state_store_reachable: Option<bool>,
}

impl Readiness {
    /// That of a pipeline whose parts are being started.
    pub fn starting(pipeline: &PipelineName) -> Self {
        Self {
            ready: false,
            pipeline: pipeline.to_string(),
            started: false,
            draining: false,
            unavailable: Vec::new(),
            unassigned: Vec::new(),
            state_store_reachable: None,
        }
    }
}

impl Health {
    /// The health of a pipeline that has been built.
    pub(super) fn new(context: &Context, topology: &Topology, shutdown: ShutdownToken) -> Self {
        let sources = topology.graph.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Source(Source::Kafka(source)) => {
                Some(Read { node: node.name.clone(), topic: source.topic.clone() })
            }
            _ => None,
        });
        Self {
            pipeline: context.pipeline.clone(),
            sources: sources.collect(),
            has_store: !(topology.manifests.is_empty() && topology.tables.is_empty()),
            observed: context.observed.clone(),
            instruments: context.instruments.clone(),
            escalation: context.escalation.clone(),
            clock: context.clock.clone(),
            shutdown,
        }
    }

    /// Whether it can do its work.
    pub fn readiness(&self) -> Readiness {
        let unavailable = self.instruments.unavailable.nodes();
        let store_is_away = unavailable.iter().any(|away| &*away.node == STATE_STORE);
        let draining = self.shutdown.level() != Level::Running || self.escalation.get().is_some();
        let assigned = self.observed.lags.assigned();
        let unassigned =
            self.sources.iter().filter(|read| assigned.iter().all(|own| own.topic != read.topic));
        Readiness {
            ready: !draining && unavailable.is_empty(),
            pipeline: self.pipeline.to_string(),
            started: true,
            draining,
            unavailable: unavailable.into_iter().map(NodeStanding::from).collect(),
            unassigned: unassigned.map(|read| read.node.to_string()).collect(),
            state_store_reachable: self.has_store.then_some(!store_is_away),
        }
    }

    /// Threads that are busy and show no progress.
    pub fn stalled(&self) -> Vec<Stalled> {
        self.observed.monitor.stalled(self.clock.now())
    }

    /// Asks the broker and the state store again and again, until the task is aborted.
    pub(super) fn probe(
        &self,
        admin: Arc<dyn Admin>,
        store: Option<Arc<dyn StateStore>>,
    ) -> JoinHandle<()> {
        actix::spawn(self.clone().probed(admin, store))
    }

    async fn probed(self, admin: Arc<dyn Admin>, store: Option<Arc<dyn StateStore>>) {
        let mut found = Found::default();
        loop {
            found.broker(&self.sources, &admin, &self.instruments).await;
            if let Some(store) = &store
                && found.store(&**store, &self.instruments).await
            {
                self.count(&**store).await;
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// Has the store count what is to be done. Where it cannot in time, the former counts stay: it
    /// answers, so nothing is away.
    async fn count(&self, store: &dyn StateStore) {
        let counting = tokio::time::timeout(STORE_TIMEOUT, store.backlog(&self.pipeline));
        match counting.await {
            Ok(Ok(backlog)) => self.observed.backlog(backlog),
            Ok(Err(error)) => tracing::debug!(%error, "the backlog is not known at the moment"),
            Err(_) => tracing::debug!("counting the backlog takes too long"),
        }
    }
}

/// What the probes have found to be away.
#[derive(Default)]
struct Found {
    broker: Option<Away>,
    store: Option<Away>,
    /// By source: its topic does not exist.
    topics: BTreeMap<NodeName, Away>,
}

impl Found {
    async fn broker(&mut self, sources: &[Read], admin: &Arc<dyn Admin>, all: &Instruments) {
        let known = match topics(admin.clone()).await {
            Ok(known) => known,
            Err(error) => {
                self.broker.get_or_insert_with(|| all.unavailable.enter(BROKER, error));
                return;
            }
        };
        self.broker = None;
        for Read { node, topic } in sources {
            if known.contains(topic) {
                self.topics.remove(node);
                continue;
            }
            self.topics.entry(node.clone()).or_insert_with(|| {
                let missing = BrokerError::UnknownTopic(topic.clone());
                tracing::warn!(%node, error = %missing, "a source waits for its topic");
                all.unavailable.enter(node.as_str(), missing)
            });
        }
    }

    /// Whether the store answers.
    async fn store(&mut self, store: &dyn StateStore, all: &Instruments) -> bool {
        let failed = match tokio::time::timeout(STORE_TIMEOUT, store.pipelines()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {STORE_TIMEOUT:?}")),
        };
        match failed {
            None => self.store = None,
            Some(why) => {
                self.store.get_or_insert_with(|| all.unavailable.enter(STATE_STORE, why));
            }
        }
        self.store.is_none()
    }
}

/// The topics that there are. One listing serves all sources.
async fn topics(admin: Arc<dyn Admin>) -> Result<BTreeSet<Topic>, BrokerError> {
    let listed = tokio::task::spawn_blocking(move || admin.describe(None)).await;
    let listed = listed.unwrap_or_else(|panicked| {
        Err(BrokerError::Fatal(format!("listing topics failed: {panicked}")))
    })?;
    Ok(listed.into_iter().map(|info| info.name).collect())
}

#[cfg(test)]
mod tests;
