//! The assignment of one consumer: a supervised actor for each partition it is given.
//!
//! **Role** keeps exactly one supervised actor per assigned partition.
//! **Owns** the children, by partition.
//! **Receives** [`AssignmentEvent`]s from the poll thread and the engine.
//! **Sends** drain and stop to the partitions' actors; named errors to the escalation.
//! **On failure** it is rebuilt by its supervisor; a partition whose child escalates ends the
//! pipeline with a named error.
//!
//! Responsible for: starting, draining and letting go of the actors of partitions.
//! Not responsible for: positions, records or offsets; what the actors are is up to whoever
//! builds them ([`PartitionActors`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::broker::BrokerError;
use crate::model::TopicPartition;
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::inbox::{Address, Inbox, inbox};
use crate::runtime::supervisor::{Child, ChildEnd};
use crate::telemetry::{Instruments, Part};

/// Everything in flight has its outcome, and the last commit is with the poll thread.
pub struct Drained;

/// What the actor of a partition is told.
pub enum PartitionMessage {
    /// Take no more records, answer once everything in flight has its outcome.
    Drain {
        /// The answer; dropped if the actor goes first.
        reply: oneshot::Sender<Drained>,
    },
}

/// Starts the supervised actor of a partition, which reads its messages from the inbox.
pub type PartitionActors =
    Arc<dyn Fn(TopicPartition, Inbox<PartitionMessage>) -> Child + Send + Sync>;

/// What happens to the assignment.
pub enum AssignmentEvent {
    /// Partitions were added; they are paused until their consumers say where to begin.
    Assigned(Vec<TopicPartition>),
    /// Partitions are about to go: drain them, then answer. The poll thread is waiting.
    Revoked {
        /// Which ones.
        partitions: Vec<TopicPartition>,
        /// Answered when they are drained or the deadline has passed.
        reply: crossbeam_channel::Sender<()>,
    },
    /// Partitions are gone; there is nothing to drain.
    Lost(Vec<TopicPartition>),
    /// The consumer failed in a way that polling on does not mend.
    Failed(BrokerError),
    /// The pipeline stops: drain everything, then answer.
    DrainAll {
        /// How long that may take.
        deadline: Duration,
        /// Answered with whether everything in flight got its outcome.
        reply: oneshot::Sender<bool>,
    },
}

/// The actor of a partition, as the assignment sees it.
struct Member {
    messages: Address<PartitionMessage>,
    child: Child,
}

/// What an assignment needs; the same for every incarnation.
#[derive(Clone)]
pub struct AssignmentContext {
    /// Starts the actor of a partition.
    pub actors: PartitionActors,
    /// How long a revoke waits for records in flight.
    pub drain_deadline: Duration,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// Counts what is going on.
    pub instruments: Arc<Instruments>,
}

/// The actor.
pub struct Assignment {
    /// The same for every incarnation.
    context: AssignmentContext,
    /// Filled by the poll thread and the engine.
    events: Inbox<AssignmentEvent>,
    /// By partition; at most one each.
    members: HashMap<TopicPartition, Member>,
    /// How many of them there are, for the metrics.
    assigned: Part,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl Assignment {
    /// An assignment without partitions.
    pub fn new(
        context: AssignmentContext,
        events: Inbox<AssignmentEvent>,
        lifeline: Lifeline,
    ) -> Self {
        let assigned = Part::new(context.instruments.clone(), |all| &all.assigned);
        Self { context, events, members: HashMap::new(), assigned, _lifeline: lifeline }
    }

    fn assign(&mut self, partitions: Vec<TopicPartition>) {
        for partition in partitions {
            if let Some(old) = self.members.remove(&partition) {
                old.child.stop();
            }
            let member = self.enlist(partition.clone());
            self.members.insert(partition, member);
        }
        self.assigned.set(self.members.len() as u64);
    }

    fn enlist(&self, partition: TopicPartition) -> Member {
        let (messages, inbox) = inbox(format!("partition-{partition}"), 4);
        let child = (self.context.actors)(partition, inbox);
        self.watch(child.clone());
        Member { messages, child }
    }

    /// A partition that cannot be kept alive ends the pipeline: leaving it out would stall it in
    /// silence.
    fn watch(&self, child: Child) {
        let escalation = self.context.escalation.clone();
        actix::spawn(async move {
            if let ChildEnd::Escalated { name, reason, restarts } = child.ended().await {
                escalation.raise(
                    Ending::Internal,
                    format!("{name} was restarted {restarts} times and failed again: {reason}"),
                );
            }
        });
    }

    /// Drains members within the deadline; resolves to whether all of them made it.
    fn drain(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Duration,
    ) -> impl Future<Output = bool> + use<> {
        let going: Vec<Member> =
            partitions.iter().filter_map(|partition| self.members.remove(partition)).collect();
        self.assigned.set(self.members.len() as u64);
        let instruments = self.context.instruments.clone();
        async move {
            let drained = join_all(going.iter().map(Member::drain));
            let complete = match tokio::time::timeout(deadline, drained).await {
                Ok(drained) => drained.into_iter().all(|drained| drained),
                Err(_) => false,
            };
            if !complete {
                instruments.drains_cut_short.add(1);
            }
            going.iter().for_each(|member| member.child.stop());
            complete
        }
    }

    fn handle_event(&mut self, event: AssignmentEvent, ctx: &mut Context<Self>) {
        match event {
            AssignmentEvent::Assigned(partitions) => self.assign(partitions),
            AssignmentEvent::Revoked { partitions, reply } => {
                let drained = self.drain(&partitions, self.context.drain_deadline);
                ctx.spawn(
                    async move {
                        drained.await;
                        // The poll thread may have given up waiting.
                        let _ = reply.try_send(());
                    }
                    .into_actor(self),
                );
            }
            AssignmentEvent::Lost(partitions) => {
                for partition in partitions {
                    if let Some(member) = self.members.remove(&partition) {
                        member.child.stop();
                    }
                }
                self.assigned.set(self.members.len() as u64);
            }
            AssignmentEvent::Failed(error) => {
                let ending = match error {
                    BrokerError::OutOfRange { .. } | BrokerError::WrongSetting { .. } => {
                        Ending::Policy
                    }
                    _ => Ending::Dependency,
                };
                self.context.escalation.raise(ending, error.to_string());
            }
            AssignmentEvent::DrainAll { deadline, reply } => {
                let all: Vec<_> = self.members.keys().cloned().collect();
                let drained = self.drain(&all, deadline);
                ctx.spawn(
                    async move {
                        let _ = reply.send(drained.await);
                    }
                    .into_actor(self),
                );
            }
        }
    }
}

impl Member {
    /// Whether everything in flight got its outcome.
    async fn drain(&self) -> bool {
        let (reply, answer) = tokio::sync::oneshot::channel();
        if self.messages.send(PartitionMessage::Drain { reply }).await.is_err() {
            return false;
        }
        matches!(answer.await, Ok(Drained))
    }
}

impl Actor for Assignment {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.events.attach::<Self>(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.members.drain().for_each(|(_, member)| member.child.stop());
    }
}

impl StreamHandler<AssignmentEvent> for Assignment {
    fn handle(&mut self, event: AssignmentEvent, ctx: &mut Self::Context) {
        self.handle_event(event, ctx);
    }
}
