//! Starting sources and draining them.
//!
//! Responsible for: the poll thread, the assignment and the partition consumers of each source,
//! for its topic and for replayed dead letters.
//! Not responsible for: what they do (`broker::group`, `source`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use tokio::sync::oneshot;

use crate::broker::group::{
    Assignment, AssignmentContext, AssignmentEvent, BufferBudget, BufferLimits, PartitionActors,
    PollOrders, PollSettings, PollThread,
};
use crate::broker::{ConsumerConfig, Start};
use crate::engine::{Context, EngineError};
use crate::model::{NodeName, Topic};
use crate::runtime::inbox::{Address, inbox};
use crate::runtime::lanes::Lanes;
use crate::runtime::supervisor::{Child, ChildSpec, supervise};
use crate::source::config::KafkaSource;
use crate::source::partition_consumer::{PartitionConsumer, SourceContext, SourceSettings};
use crate::source::replay::Intake;
use crate::source::start::StartResolver;
use crate::source::watchdog::EmptyTails;
use crate::topology::Graph;

/// A running membership in a consumer group.
pub struct RunningGroup {
    name: String,
    events: Address<AssignmentEvent>,
    assignment: Child,
    poll: PollThread,
    _arbiter: Arbiter,
}

/// A group's poll thread and the slots of its orders, before its actors are known.
pub struct Joined {
    name: String,
    events: Address<AssignmentEvent>,
    inbox: crate::runtime::inbox::Inbox<AssignmentEvent>,
    /// Orders to the poll thread.
    pub orders: Arc<PollOrders>,
    /// The poll thread.
    pub poll: PollThread,
}

/// Joins `group` on `topics`. Assignments wait until [`Joined::run`].
pub fn join(
    context: &Context,
    group: &str,
    topics: Vec<Topic>,
    assignor: crate::broker::Assignor,
) -> Result<Joined, EngineError> {
    let consumer = &context.config.consumer;
    let config = ConsumerConfig {
        topics,
        group: group.to_owned(),
        assignor,
        session_timeout: consumer.session_timeout,
        max_poll_interval: consumer.max_poll_interval,
        prefetch_bytes: usize::try_from(consumer.prefetch_bytes).unwrap_or(usize::MAX),
    };
    let (events, inbox) = inbox(format!("assignment-{group}"), 64);
    let orders = Arc::new(PollOrders::default());
    let settings = PollSettings {
        consumer: config,
        commit_interval: consumer.commit_interval,
        drain_deadline: consumer.revoke_drain_deadline,
    };
    let poll = PollThread::start(
        &*context.broker,
        settings,
        orders.clone(),
        events.clone(),
        context.clock.clone(),
        context.instruments.clone(),
    )
    .map_err(EngineError::broker)?;
    let name = format!("poll thread of {group}");
    context.observed.monitor.add(name, consumer.max_poll_interval, orders.pulse());
    Ok(Joined { name: group.to_owned(), events, inbox, orders, poll })
}

impl Joined {
    /// Starts the assignment; `actors` starts the actor of each partition, on the arbiter given
    /// to it by being the current one.
    pub fn run(self, context: &Context, actors: PartitionActors) -> RunningGroup {
        let arbiter = Arbiter::new();
        context.observed.arbiter(&self.name, &arbiter.handle(), &context.clock);
        let assigned = AssignmentContext {
            actors,
            drain_deadline: context.config.consumer.revoke_drain_deadline,
            escalation: context.escalation.clone(),
            instruments: context.instruments.clone(),
        };
        let inbox = self.inbox;
        let assignment = supervise(ChildSpec {
            name: format!("assignment of {}", self.name),
            policy: context.restart_policy(),
            clock: context.clock.clone(),
            arbiter: arbiter.handle(),
            factory: move |lifeline| Assignment::new(assigned.clone(), inbox.clone(), lifeline),
        });
        context.watch(&assignment);
        RunningGroup {
            name: self.name,
            events: self.events,
            assignment,
            poll: self.poll,
            _arbiter: arbiter,
        }
    }
}

impl RunningGroup {
    /// Takes no more records, and waits until those in flight have their outcome.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        let event = AssignmentEvent::DrainAll { deadline, reply };
        self.events.send(event).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Hands in the last commits and leaves the group.
    pub async fn stop(self) {
        self.assignment.stop();
        let (name, poll) = (self.name, self.poll);
        if tokio::task::spawn_blocking(move || poll.join()).await.is_err() {
            tracing::error!(group = %name, "leaving the group failed");
        }
    }
}

/// A source, and where its records go.
pub struct Inflow<'a> {
    /// Its name in the topology.
    pub name: &'a NodeName,
    /// What it reads.
    pub source: &'a KafkaSource,
    /// The pipeline's topic of replayed dead letters.
    pub replays: Topic,
    /// The lanes of the first stage.
    pub lanes: Arc<Lanes>,
    /// The entry of that stage.
    pub entry: u16,
    /// Names of nodes that its records do not come by.
    pub strangers: Arc<BTreeSet<String>>,
}

/// Names of the nodes that no record of the node `source` comes by.
pub fn strangers(graph: &Graph, source: usize) -> BTreeSet<String> {
    let below = graph.downstream(source);
    let nodes = graph.nodes.iter().zip(below).filter(|(_, below)| !below);
    nodes.map(|(node, _)| node.name.to_string()).collect()
}

/// Starts a source. It reads the topic of replays as well, in a group of its own: whatever moves
/// there leaves the assignment of the source's topic alone.
pub fn start(context: &Context, inflow: &Inflow<'_>) -> Result<[RunningGroup; 2], EngineError> {
    let Inflow { name, source, .. } = inflow;
    let total = usize::try_from(context.config.limits.buffer_total).unwrap_or(usize::MAX);
    let buffers = BufferBudget::new(total);
    let own = Membership {
        group: source.group.clone(),
        topic: source.topic.clone(),
        start: source.start,
        intake: Intake::Topic((*name).clone()),
        buffers: buffers.clone(),
    };
    let replays = Membership {
        group: format!("{}.replay.{name}", source.group),
        topic: inflow.replays.clone(),
        start: Start::Earliest,
        intake: Intake::Replays((*name).clone()),
        buffers,
    };
    Ok([member(context, inflow, own)?, member(context, inflow, replays)?])
}

/// One membership of a source.
struct Membership {
    group: String,
    topic: Topic,
    start: Start,
    intake: Intake,
    buffers: Arc<BufferBudget>,
}

fn member(
    context: &Context,
    inflow: &Inflow<'_>,
    membership: Membership,
) -> Result<RunningGroup, EngineError> {
    let Membership { group, topic, start, intake, buffers } = membership;
    let joined = join(context, &group, vec![topic], inflow.source.assignor)?;
    let shared = Arc::new(SourceContext {
        settings: settings(context),
        buffers,
        starts: Arc::new(resolver(context, &joined, &group, start)),
        orders: joined.orders.clone(),
        lanes: inflow.lanes.clone(),
        entry: inflow.entry,
        intake,
        clock: context.clock.clone(),
        instruments: context.instruments.clone(),
        escalation: context.escalation.clone(),
        dead_letter_limit: context.dead_letter_limit.clone(),
        epochs: context.epochs.clone(),
        tails: EmptyTails::default(),
        lags: context.observed.lags.clone(),
        strangers: inflow.strangers.clone(),
    });
    let policy = context.restart_policy();
    let actors: PartitionActors = Arc::new(move |partition, messages| {
        let shared = shared.clone();
        // Kept as long as the assignment, across all consumers that note something in it.
        let place = shared.lags.of(&partition);
        supervise(ChildSpec {
            name: format!("partition consumer {partition}"),
            policy: policy.clone(),
            clock: shared.clock.clone(),
            arbiter: Arbiter::current(),
            factory: move |lifeline| {
                let _kept = &place;
                PartitionConsumer::new(
                    partition.clone(),
                    shared.clone(),
                    messages.clone(),
                    lifeline,
                )
            },
        })
    });
    Ok(joined.run(context, actors))
}

/// Finds out where partitions of the group begin.
pub fn resolver(context: &Context, joined: &Joined, group: &str, start: Start) -> StartResolver {
    StartResolver::new(
        joined.poll.positions(),
        context.admin.clone(),
        group.to_owned(),
        start,
        context.backoff(),
    )
}

fn settings(context: &Context) -> SourceSettings {
    let limits = &context.config.limits;
    SourceSettings {
        batch_records: limits.batch_records,
        batch_bytes: usize::try_from(limits.batch_bytes).unwrap_or(usize::MAX),
        in_flight_records: limits.in_flight_records,
        buffer: BufferLimits {
            bytes: usize::try_from(limits.buffer_bytes).unwrap_or(usize::MAX),
            records: limits.buffer_records,
        },
        stall_limit: context.config.consumer.stall_limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_does_not_wait_for_what_its_records_do_not_come_by() {
        let text = r#"
            version = 1
            name = "two"
            [sources.orders]
            type = "kafka"
            topic = "orders"
            [sources.payments]
            type = "kafka"
            topic = "payments"
            [processors.paid]
            type = "remap"
            inputs = ["payments"]
            program = "."
            [sinks.all]
            type = "kafka"
            inputs = ["orders", "paid"]
            topic = "all"
            [sinks.raw]
            type = "kafka"
            inputs = ["payments"]
            topic = "raw"
        "#;
        let topology = crate::topology::parse("two.toml", text, &|_| None).unwrap();
        let of = |name: &str| {
            let index = topology.graph.index_of(&name.into()).unwrap();
            strangers(&topology.graph, index).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of("orders"), ["paid", "payments", "raw"]);
        assert_eq!(of("payments"), ["orders"]);
    }
}
