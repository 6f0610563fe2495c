//! Supervision: a fresh actor from a factory, on the same inbox, whenever one dies.
//!
//! Responsible for: starting actors on an arbiter, restarting those that panic or fail within
//! their [`RestartPolicy`], stopping them, and telling their owner how it ended.
//! Not responsible for: the decision between restart and escalation (`progress::restart`), what
//! counts as a death (`runtime::exit`), and the messages, which wait in a `runtime::inbox`.
//!
//! After Quickwit's supervisor (a factory, and a queue that survives) and OTP's `one_for_one`.
//! State is not carried over: an incarnation begins as its factory makes it.
//!
//! Stopping works for any actor, without a message of its own: the supervisor puts a future into
//! the actor's context, before it starts, that waits for the stop signal and calls `ctx.stop()`.
//! So a stop never waits for room in a queue, and never blocks. It takes effect between two
//! messages, and not before a future has resolved that the actor `wait`s for. Messages that wait in
//! the inbox stay there; for an actor that is to handle them first, close the inbox instead.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::{
    Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, WrapFuture,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::progress::restart::{Decision, RestartIntensity, RestartPolicy};
use crate::runtime::clock::SharedClock;
use crate::runtime::exit::{Exit, Lifeline};
use crate::runtime::jitter::jitter;
use crate::runtime::node::BoxFuture;

/// What a supervisor needs to know about an actor.
pub struct ChildSpec<F> {
    /// Name for logs and errors.
    pub name: String,
    /// How often it may be restarted.
    pub policy: RestartPolicy,
    /// Tells when it died.
    pub clock: SharedClock,
    /// Where it runs. Its supervision runs there too.
    pub arbiter: ArbiterHandle,
    /// Builds each incarnation, on the arbiter: `FnMut(Lifeline) -> A`. The actor has to keep the
    /// lifeline as a field. A panic in here counts as a death.
    pub factory: F,
}

/// How a supervised actor ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// Its work is done.
    Finished,
    /// It was stopped, or stopped itself without giving a reason.
    Stopped,
    /// It died more often than its policy allows, or its arbiter went away under it.
    Escalated {
        /// Its name.
        name: String,
        /// How it died the last time.
        reason: String,
        /// How often it had been restarted within the period of its policy.
        restarts: u32,
    },
}

/// What is known of a child while it lives.
struct Vitals {
    name: String,
    restarts: AtomicU32,
    last_reason: Mutex<Option<String>>,
}

impl Vitals {
    fn died(&self, reason: &str) {
        let mut last = self.last_reason.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(reason.to_owned());
    }
}

/// A supervised actor, as its owner sees it; clones are handles of the same child. When the last
/// of them is dropped (one lives in each [`Child::ended`] that is awaited), the actor is stopped:
/// nobody could do it any more.
#[derive(Clone)]
#[must_use = "the actor is stopped when its last handle is dropped"]
pub struct Child {
    vitals: Arc<Vitals>,
    stop: watch::Sender<bool>,
    end: watch::Receiver<Option<ChildEnd>>,
}

impl Child {
    /// Asks the actor to stop, and not to be restarted. Returns at once; see the module's text
    /// for when it takes effect.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the actor has ended for good.
    pub async fn ended(mut self) -> ChildEnd {
        let end = self.end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| self.orphaned())
    }

    /// How often it was restarted, over all its life.
    pub fn restarts(&self) -> u32 {
        self.vitals.restarts.load(Ordering::Relaxed)
    }

    /// How it died the last time, if it ever did.
    pub fn last_reason(&self) -> Option<String> {
        self.vitals.last_reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.vitals.name
    }

    /// The supervision is gone and has left no word: its arbiter has ended. That is fine where the
    /// actor was to stop anyway, and must not go unnoticed elsewhere.
    fn orphaned(&self) -> ChildEnd {
        if *self.stop.borrow() {
            return ChildEnd::Stopped;
        }
        ChildEnd::Escalated {
            name: self.vitals.name.clone(),
            reason: "its arbiter has ended".to_owned(),
            restarts: self.restarts(),
        }
    }
}

/// Starts an actor and keeps it alive under its policy.
pub fn supervise<A, F>(spec: ChildSpec<F>) -> Child
where
    A: Actor<Context = Context<A>>,
    F: FnMut(Lifeline) -> A + Send + 'static,
{
    let ChildSpec { name, policy, clock, arbiter, factory } = spec;
    let vitals =
        Arc::new(Vitals { name, restarts: AtomicU32::new(0), last_reason: Mutex::default() });
    let (stop, stop_signal) = watch::channel(false);
    let (tell, end) = watch::channel(None);
    let supervision = Supervision {
        vitals: vitals.clone(),
        intensity: RestartIntensity::new(policy),
        clock,
        arbiter: arbiter.clone(),
        factory: Arc::new(Mutex::new(factory)),
        stop: stop_signal,
    };
    // Where the arbiter has ended already, the task is dropped and `end` with it.
    arbiter.spawn(async move {
        let end = supervision.run::<A>().await;
        tell.send_replace(Some(end));
    });
    Child { vitals, stop, end }
}

/// Resolves once the child is to stop.
async fn stop_requested(signal: &mut watch::Receiver<bool>) {
    // An error means that no handle is left, which is a request as well.
    let _ = signal.wait_for(|stop| *stop).await;
}

/// The state of a supervised actor's supervisor.
struct Supervision<F> {
    vitals: Arc<Vitals>,
    intensity: RestartIntensity,
    clock: SharedClock,
    arbiter: ArbiterHandle,
    /// Shared with the closure that runs on the arbiter: an actor cannot change threads, so it is
    /// built where it lives. Never contended.
    factory: Arc<Mutex<F>>,
    stop: watch::Receiver<bool>,
}

impl<F> Supervision<F> {
    async fn run<A>(mut self) -> ChildEnd
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(Lifeline) -> A + Send + 'static,
    {
        loop {
            let exit = self.incarnation::<A>().await;
            if !exit.calls_for_restart() {
                tracing::debug!(actor = %self.vitals.name, %exit, "actor ended");
                let finished = exit == Exit::Finished;
                return if finished { ChildEnd::Finished } else { ChildEnd::Stopped };
            }
            if let Some(end) = self.after_death(exit.to_string()).await {
                return end;
            }
        }
    }

    /// Starts an actor and waits for its end.
    async fn incarnation<A>(&self) -> Exit
    where
        A: Actor<Context = Context<A>>,
        F: FnMut(Lifeline) -> A + Send + 'static,
    {
        let (lifeline, ended) = Lifeline::watched();
        let factory = self.factory.clone();
        let mut stop = self.stop.clone();
        let address = A::start_in_arbiter(&self.arbiter, move |ctx| {
            let mut factory = factory.lock().unwrap_or_else(PoisonError::into_inner);
            let actor = (*factory)(lifeline);
            let stop = async move { stop_requested(&mut stop).await };
            ctx.spawn(stop.into_actor(&actor).map(|(), _, ctx: &mut Context<A>| ctx.stop()));
            actor
        });
        // A lifeline reports when it is dropped, also with a closure that was never run.
        let exit = ended.await.unwrap_or(Exit::Stopped);
        // Until here the address kept an actor alive that waits for actix messages only.
        drop(address);
        exit
    }

    /// Waits until the next incarnation may start, or says why there will be none.
    async fn after_death(&mut self, reason: String) -> Option<ChildEnd> {
        let name = self.vitals.name.as_str();
        self.vitals.died(&reason);
        if *self.stop.borrow() {
            tracing::warn!(actor = %name, %reason, "actor died while it was to stop");
            return Some(ChildEnd::Stopped);
        }
        match self.intensity.on_exit(self.clock.now().0, jitter()) {
            Decision::RestartAfter(delay) => {
                tracing::warn!(actor = %name, %reason, ?delay, "actor died and is restarted");
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stop_requested(&mut self.stop) => return Some(ChildEnd::Stopped),
                }
                self.vitals.restarts.fetch_add(1, Ordering::Relaxed);
                None
            }
            Decision::Escalate { restarts, within } => {
                tracing::error!(
                    actor = %name, %reason, restarts, ?within, "actor dies too often, giving up"
                );
                Some(ChildEnd::Escalated { name: name.to_owned(), reason, restarts })
            }
        }
    }
}

/// How a group ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEnd {
    /// All children have finished or were stopped.
    AllEnded,
    /// One has escalated; the others may still run.
    Escalated {
        /// Its name.
        name: String,
        /// How it died the last time.
        reason: String,
        /// How often it had been restarted within the period of its policy.
        restarts: u32,
    },
}

/// Children that are restarted independently of each other (*one_for_one*), and whose first
/// escalation concerns them all.
#[derive(Default)]
pub struct Group {
    children: Vec<Child>,
    running: FuturesUnordered<BoxFuture<'static, ChildEnd>>,
}

impl Group {
    /// A group without children.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a child that was started already.
    pub fn add(&mut self, child: Child) {
        self.running.push(Box::pin(child.clone().ended()));
        self.children.push(child);
    }

    /// All children that were added, in that order.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// Asks all children to stop, the last one added first.
    pub fn stop(&self) {
        self.children.iter().rev().for_each(Child::stop);
    }

    /// Waits for the first escalation, or until no child is left. After an escalation it can be
    /// called again, for the others. Dropping the future loses nothing.
    pub async fn ended(&mut self) -> GroupEnd {
        while let Some(end) = self.running.next().await {
            if let ChildEnd::Escalated { name, reason, restarts } = end {
                return GroupEnd::Escalated { name, reason, restarts };
            }
        }
        GroupEnd::AllEnded
    }
}

#[cfg(test)]
mod tests;
