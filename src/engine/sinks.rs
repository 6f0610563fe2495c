//! Starting sinks.
//!
//! Responsible for: the actor of each sink, the factory of its CPU half, and asking buckets
//! whether they can be used before anything starts.
//! Not responsible for: what they do (`sink`).

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::ArbiterHandle;
use tokio::sync::Semaphore;

use crate::engine::blueprint::{StepFactory, WriterFactory};
use crate::engine::nodes::Spools;
use crate::engine::store::declared;
use crate::engine::{Context, EngineError};
use crate::model::NodeName;
use crate::progress::obligation::Owed;
use crate::runtime::handover::Handover;
use crate::runtime::inbox::{Address, inbox};
use crate::runtime::node::Failed;
use crate::runtime::supervisor::{Child, ChildSpec, supervise};
use crate::sink::config::{
    Config, KafkaSink as KafkaSettings, ParquetSink as ParquetSettings, TableSink as TableSettings,
};
use crate::sink::dead_letter::{DeadLetterContext, DeadLetters};
use crate::sink::kafka::{Encoded, KafkaSink, KafkaSinkContext, KafkaWriter};
use crate::sink::parquet::{CONCURRENCY, ParquetSink, ParquetWriter, UploadContext};
use crate::sink::table::{PendingRows, TableSink, TableSinkContext, TableWriter};
use crate::spool::objects::{ObjectRoot, RootError};
use crate::state::StateStore;
use crate::topology::{Graph, NodeKind, Topology};

/// A running sink.
pub struct RunningSink {
    /// Its CPU half, for the stages that end in it.
    pub step: StepFactory,
    /// Its actor.
    pub child: Child,
}

/// Starts the dead letters.
pub fn dead_letters(context: &Context, arbiter: ArbiterHandle) -> (Address<Failed>, Child) {
    let (address, failures) = inbox("dead letters", context.config.limits.batch_records);
    context.observed.queue(&address);
    let letters = DeadLetterContext {
        topic: context.dead_letter_topic(),
        pipeline: context.pipeline.clone(),
        producer: context.producer.clone(),
        clock: context.clock.clone(),
        escalation: context.escalation.clone(),
        room: Arc::default(),
    };
    let child = supervise(ChildSpec {
        name: "dead letters".to_owned(),
        policy: context.restart_policy(),
        clock: context.clock.clone(),
        arbiter,
        factory: move |lifeline| DeadLetters::new(letters.clone(), failures.clone(), lifeline),
    });
    context.watch(&child);
    (address, child)
}

/// Where the sinks that write objects put them, by sink.
pub type Roots = BTreeMap<NodeName, ObjectRoot>;

/// Opens the roots of all sinks that write objects.
///
/// # Errors
/// The first that cannot be used, and what to do about it.
pub async fn roots(graph: &Graph) -> Result<Roots, EngineError> {
    let mut roots = Roots::new();
    for node in &graph.nodes {
        let NodeKind::Sink(Config::Parquet(settings)) = &node.kind else { continue };
        let unusable =
            |error: RootError| EngineError::dependency(format!("sink {}: {error}", node.name));
        let root = ObjectRoot::open(&settings.url, settings.s3.as_deref()).map_err(unusable)?;
        root.probe().await.map_err(unusable)?;
        roots.insert(node.name.clone(), root);
    }
    Ok(roots)
}

/// What starting sinks needs.
pub struct Starter<'a> {
    /// Shared by all parts.
    pub context: &'a Context,
    /// Declared tables.
    pub topology: &'a Topology,
    /// The state store, where the topology needs one.
    pub store: Option<Arc<dyn StateStore>>,
    /// Lanes of each stage.
    pub lanes: usize,
    /// Spools of sinks that spool.
    pub spools: &'a Spools,
    /// Where objects go.
    pub roots: &'a Roots,
    /// The dead letters.
    pub failures: &'a Address<Failed>,
    /// Where actors run.
    pub arbiter: ArbiterHandle,
}

impl Starter<'_> {
    /// Starts a sink.
    pub fn start(&self, name: &NodeName, config: &Config) -> Result<RunningSink, EngineError> {
        let arbiter = self.arbiter.clone();
        match config {
            Config::Kafka(settings) => {
                Ok(kafka(self.context, name, settings, self.lanes, self.failures, arbiter))
            }
            Config::Parquet(settings) => {
                let root = self.roots.get(name).cloned().ok_or_else(|| {
                    EngineError::internal(format!("the root of sink {name} was not opened"))
                })?;
                parquet(self.context, name, settings, root, self.spools, arbiter)
            }
            Config::Table(settings) => self.table(name, settings),
        }
    }

    fn table(&self, name: &NodeName, settings: &TableSettings) -> Result<RunningSink, EngineError> {
        let tables = &self.topology.tables;
        let table = tables.iter().find(|table| table.name == settings.table);
        let (Some(table), Some(store)) = (table, &self.store) else {
            let why = format!("sink {name} writes table {}, which is not declared", settings.table);
            return Err(EngineError::misconfigured(why));
        };
        let context = self.context;
        let (address, batches) = inbox(format!("sink {name}"), context.config.limits.sink_batches);
        context.observed.queue(&address);
        let shared = TableSinkContext {
            node: name.clone(),
            store: store.clone(),
            failures: self.failures.clone(),
            concurrency: TABLE_WRITES,
            backoff: context.backoff(),
            escalation: context.escalation.clone(),
            instruments: context.instruments.clone(),
        };
        let child = supervise(ChildSpec {
            name: format!("sink {name}"),
            policy: context.restart_policy(),
            clock: context.clock.clone(),
            arbiter: self.arbiter.clone(),
            factory: move |lifeline| TableSink::new(shared.clone(), batches.clone(), lifeline),
        });
        context.watch(&child);
        let held: Vec<Handover<Owed<PendingRows>>> =
            (0..self.lanes).map(|_| Handover::default()).collect();
        let (name, settings) = (name.clone(), settings.clone());
        let (pipeline, table) = (context.pipeline.clone(), Arc::new(declared(table)));
        let factory: WriterFactory = Arc::new(move |lane| {
            Box::new(TableWriter::new(
                name.clone(),
                pipeline.clone(),
                &settings,
                table.clone(),
                address.clone(),
                held[lane.index()].clone(),
            ))
        });
        Ok(RunningSink { step: StepFactory::Writer(factory), child })
    }
}

/// Writes of one table sink at once: the store groups them into one commit.
const TABLE_WRITES: usize = 64;

fn kafka(
    context: &Context,
    name: &NodeName,
    settings: &KafkaSettings,
    lanes: usize,
    failures: &Address<Failed>,
    arbiter: ArbiterHandle,
) -> RunningSink {
    let (address, batches) = inbox(format!("sink {name}"), context.config.limits.sink_batches);
    context.observed.queue(&address);
    let shared = KafkaSinkContext::new(
        name.clone(),
        context.producer.clone(),
        failures.clone(),
        context.escalation.clone(),
        context.instruments.clone(),
    );
    let child = supervise(ChildSpec {
        name: format!("sink {name}"),
        policy: context.restart_policy(),
        clock: context.clock.clone(),
        arbiter,
        factory: move |lifeline| KafkaSink::new(shared.clone(), batches.clone(), lifeline),
    });
    context.watch(&child);
    let held: Vec<Handover<Owed<Encoded>>> = (0..lanes).map(|_| Handover::default()).collect();
    let (settings, pipeline) = (settings.clone(), context.pipeline.clone());
    let factory: WriterFactory = Arc::new(move |lane| {
        let committed = held[lane.index()].clone();
        Box::new(KafkaWriter::new(&settings, pipeline.clone(), address.clone(), committed))
    });
    RunningSink { step: StepFactory::Writer(factory), child }
}

fn parquet(
    context: &Context,
    name: &NodeName,
    settings: &ParquetSettings,
    root: ObjectRoot,
    spools: &Spools,
    arbiter: ArbiterHandle,
) -> Result<RunningSink, EngineError> {
    let (address, batches) = inbox(format!("sink {name}"), context.config.limits.sink_batches);
    context.observed.queue(&address);
    let (clock, instruments) = (context.clock.clone(), context.instruments.clone());
    let upload = UploadContext::new(name.clone(), root, clock, instruments);
    let uploads = Arc::new(Semaphore::new(CONCURRENCY));
    let child = supervise(ChildSpec {
        name: format!("sink {name}"),
        policy: context.restart_policy(),
        clock: context.clock.clone(),
        arbiter,
        factory: move |lifeline| {
            let (upload, uploads) = (upload.clone(), uploads.clone());
            ParquetSink::new(upload, uploads, batches.clone(), lifeline)
        },
    });
    context.watch(&child);
    let (name, settings) = (name.clone(), settings.clone());
    let (pipeline, spool) = (context.pipeline.clone(), spools.make()?);
    let build = move || {
        ParquetWriter::new(
            name.clone(),
            pipeline.clone(),
            &settings,
            spool.clone(),
            address.clone(),
        )
    };
    build().map_err(|error| EngineError::misconfigured(error.to_string()))?;
    let factory: WriterFactory = Arc::new(move |_lane| match build() {
        Ok(writer) => Box::new(writer),
        Err(error) => unreachable!("the same settings were fine at start: {error}"),
    });
    Ok(RunningSink { step: StepFactory::Writer(factory), child })
}
