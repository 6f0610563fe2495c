//! Starting the pools of the stages, and the nodes between them that wait for something outside.
//!
//! Responsible for: building stages from the last to the first, so that each finds those behind
//! it running; the hang check.
//! Not responsible for: arranging a stage (`blueprint`) or running it (`processor::stage`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;

use crate::engine::blueprint::{Blueprint, Parts};
use crate::engine::nodes::{self, Spools};
use crate::engine::{Context, EngineError};
use crate::model::{Failure, FailureClass, NodeName};
use crate::processor::call::{Caller, CallerContext};
use crate::processor::config::{Config as Processor, Fetch};
use crate::processor::edge::Target as EdgeTarget;
use crate::processor::fetch::LocalPayloads;
use crate::processor::stage::worker::{StageContext, StageWorker};
use crate::progress::obligation::Owed;
use crate::progress::retry::RetryPolicy;
use crate::runtime::escalation::Ending;
use crate::runtime::inbox::{Address, inbox};
use crate::runtime::lanes::{Input, LaneBatch, Lanes, Origin};
use crate::runtime::node::Failed;
use crate::runtime::pool::{Claim, OnClaim, Pool, PoolSpec, WorkerFactory};
use crate::runtime::supervisor::{Child, ChildSpec, supervise};
use crate::topology::{Feed, Graph, NodeKind, Stage, Target};

/// A running pool of a stage.
pub type StagePool = Pool<Owed<Input>>;

/// All stages of a pipeline, running.
pub struct RunningStages {
    /// By stage id.
    pub lanes: HashMap<usize, Arc<Lanes>>,
    /// In the order in which records flow.
    pub pools: Vec<Arc<StagePool>>,
    /// Actors of nodes that wait for something outside.
    pub callers: Vec<Child>,
}

/// What building the stages needs.
pub struct Builder<'a> {
    /// Shared by all parts.
    pub context: &'a Context,
    /// The nodes.
    pub graph: &'a Graph,
    /// What they are made of.
    pub parts: &'a Parts,
    /// Spools of nodes that fetch.
    pub spools: &'a Spools,
    /// The dead letters.
    pub failures: &'a Address<Failed>,
    /// Disconnected when everything has to stop.
    pub stopping: crossbeam_channel::Receiver<()>,
    /// Payloads of the pipeline's own ingress.
    pub local: Option<Arc<dyn LocalPayloads>>,
    /// Where actors run.
    pub arbiter: ArbiterHandle,
}

impl Builder<'_> {
    /// Starts all stages, the last first.
    pub fn start(&self, stages: &[Stage]) -> Result<RunningStages, EngineError> {
        let mut running =
            RunningStages { lanes: HashMap::new(), pools: Vec::new(), callers: Vec::new() };
        let mut calls: HashMap<usize, Address<LaneBatch>> = HashMap::new();
        for stage in stages.iter().rev() {
            let pool = self.start_stage(stage, &running.lanes, &calls)?;
            let addresses = pool.addresses();
            addresses.iter().for_each(|lane| self.context.observed.queue(lane));
            let lanes = Arc::new(Lanes::new(addresses));
            running.lanes.insert(stage.id, lanes.clone());
            running.pools.insert(0, pool);
            for (number, entry) in stage.entries.iter().enumerate() {
                if let Feed::Call(node) = entry.feed {
                    let next = EdgeTarget::Stage { lanes: lanes.clone(), entry: number as u16 };
                    let (address, child) = self.start_call(node, next)?;
                    calls.insert(node, address);
                    running.callers.push(child);
                }
            }
        }
        Ok(running)
    }

    fn start_stage(
        &self,
        stage: &Stage,
        lanes: &HashMap<usize, Arc<Lanes>>,
        calls: &HashMap<usize, Address<LaneBatch>>,
    ) -> Result<Arc<StagePool>, EngineError> {
        let settings = &self.context.config;
        let count = settings.workers.lanes().get();
        let edge = |target: Target| match target {
            Target::Node(_) => None,
            Target::Call(node) => calls.get(&node).cloned().map(EdgeTarget::Call),
            Target::Stage { stage, entry } => {
                let lanes = lanes.get(&stage)?.clone();
                Some(EdgeTarget::Stage { lanes, entry })
            }
        };
        let blueprint = Arc::new(Blueprint::new(self.graph, stage, self.parts, count, edge));
        let shared = Arc::new(StageContext {
            failures: self.failures.clone(),
            retry: self.context.retry_policy(),
            stopping: self.stopping.clone(),
            instruments: self.context.instruments.clone(),
        });
        let worker: WorkerFactory<Owed<Input>> = Arc::new(move |lane| {
            let blueprint = blueprint.clone();
            let build = Arc::new(move || blueprint.chain(lane));
            Box::new(StageWorker::new(shared.clone(), build))
        });
        let name: NodeName = format!("stage-{}", stage.id).into();
        let pool = Pool::start(PoolSpec {
            name: name.to_string(),
            lanes: count,
            inbox_capacity: settings.limits.lane_batches,
            hang_limit: settings.limits.record_time_limit,
            max_hung: settings.limits.max_hung_threads,
            clock: self.context.clock.clone(),
            worker,
            on_panicked: self.give_up(name.clone(), FailureClass::PANICKED, "panicked"),
            on_hung: self.give_up(name, FailureClass::HUNG, "did not come back in time"),
        });
        let pool = Arc::new(pool.map_err(|error| EngineError::internal(error.to_string()))?);
        self.check_for_hangs(&pool);
        Ok(pool)
    }

    /// Settles a record that no worker will settle.
    fn give_up(
        &self,
        node: NodeName,
        class: FailureClass,
        what: &'static str,
    ) -> OnClaim<Owed<Input>> {
        let (failures, instruments) = (self.failures.clone(), self.context.instruments.clone());
        Arc::new(move |_lane, claim: Claim<Owed<Input>>| {
            if class == FailureClass::HUNG {
                instruments.hung.add(1);
            }
            let Claim { duty, origin: Origin { source, meta } } = claim;
            let failure = Failure::poison(class.clone(), format!("{node} {what}"));
            let node = node.clone();
            let failed = Failed { source, meta, node, failure, attempts: 1, duty };
            // Full or closed: the record is abandoned, read again, and ends here once more.
            if failures.try_send(failed).is_err() {
                tracing::warn!("the dead letters take no more at the moment");
            }
        })
    }

    fn check_for_hangs(&self, pool: &Arc<StagePool>) {
        let (pool, clock) = (Arc::downgrade(pool), self.context.clock.clone());
        let escalation = self.context.escalation.clone();
        let every = self.context.config.limits.record_time_limit / 4;
        actix::spawn(async move {
            loop {
                tokio::time::sleep(every.clamp(Duration::from_millis(10), MOST_BETWEEN_CHECKS))
                    .await;
                let Some(pool) = pool.upgrade() else { return };
                if let Err(error) = pool.check(clock.now()) {
                    escalation.raise(Ending::Internal, error.to_string());
                    return;
                }
            }
        });
    }

    fn start_call(
        &self,
        node: usize,
        next: EdgeTarget,
    ) -> Result<(Address<LaneBatch>, Child), EngineError> {
        let name = self.graph.nodes[node].name.clone();
        let NodeKind::Processor(Processor::Fetch(config)) = &self.graph.nodes[node].kind else {
            return Err(EngineError::internal(format!("{name} is no node that waits")));
        };
        let call = nodes::fetch(self.context, config, self.spools.make()?, self.local.clone())?;
        let limits = &self.context.config.limits;
        let (address, batches) = inbox(format!("call {name}"), limits.sink_batches);
        self.context.observed.queue(&address);
        let shared = Arc::new(CallerContext {
            node: name.clone(),
            call: Arc::new(call),
            concurrency: config.concurrency,
            retry: retry(config, self.context.retry_policy()),
            next: vec![next],
            failures: self.failures.clone(),
            instruments: self.context.instruments.clone(),
        });
        let child = supervise(ChildSpec {
            name: format!("call {name}"),
            policy: self.context.restart_policy(),
            clock: self.context.clock.clone(),
            arbiter: self.arbiter.clone(),
            factory: move |lifeline| Caller::new(shared.clone(), batches.clone(), lifeline),
        });
        self.context.watch(&child);
        Ok((address, child))
    }
}

/// Longest time between two looks at a pool.
const MOST_BETWEEN_CHECKS: Duration = Duration::from_secs(1);

fn retry(config: &Fetch, otherwise: RetryPolicy) -> RetryPolicy {
    RetryPolicy { attempts: config.attempts, ..otherwise }
}
