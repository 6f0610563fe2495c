//! Parse, filter with a program, set one field, drop.
//!
//! Responsible for: a stage of two nodes on two lanes against two threads that only parse.
//! Not responsible for: the way from the log to the stage alone (`dispatch`).
//!
//! The baseline parses with `serde_json` in batches of the same size; it neither filters nor
//! computes anything. In memory both sides share the bytes of the values.

use std::hint::black_box;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill::expr::{Program, Purpose};
use tidemill::model::{
    Epoch, Fields, LogRecord, Metadata, Offset, Outcome, PipelineName, Record, SourceBatch,
    SourceRef, Topic, TopicPartition,
};
use tidemill::processor::config::{Filter, Remap, Rest};
use tidemill::processor::filter::FilterNode;
use tidemill::processor::remap::RemapNode;
use tidemill::processor::stage::worker::{ChainFactory, StageContext, StageWorker};
use tidemill::processor::stage::{Chain, ChainNode, Output, Step};
use tidemill::progress::obligation::{Owed, Scope};
use tidemill::progress::retry::RetryPolicy;
use tidemill::runtime::inbox::inbox;
use tidemill::runtime::lanes::{Input, LaneBatch, Lanes};
use tidemill::runtime::node::Transform;
use tidemill::runtime::pool::{LaneId, Worker, WorkerFactory};

use crate::harness::logs::{fill, kafka, unique};
use crate::harness::needs::Need;
use crate::harness::pipeline::{LANE_BATCHES, LANES, consume, pool, runtime};
use crate::harness::process::{Meter, Sample};
use crate::harness::raw::{poll_values, raw_consumer};
use crate::harness::records::{BATCH, Records};
use crate::harness::{About, Fixture, PATIENCE, Row, Setting, Side, Tried, Unit};

/// Records of one run.
const RECORDS: u64 = 500_000;
/// Keeps four of five records.
const CONDITION: &str = r#".status == "ok""#;
/// Sets one field.
const PROGRAM: &str = ".total = (to_int(.qty) ?? 0) * 3";

/// The row, from either source.
pub enum Mapping {
    /// From a Kafka broker.
    Kafka,
    /// From memory.
    Memory,
}

impl Row for Mapping {
    fn about(&self) -> About {
        let (name, path) = match self {
            Self::Kafka => (
                "mapping-kafka",
                "consume, parse, VRL filter and one field, drop; raw consume and 2 parsing threads",
            ),
            Self::Memory => {
                ("mapping-memory", "the same from memory; batches to 2 parsing threads")
            }
        };
        About {
            name: name.to_owned(),
            path,
            goal: "≥ 0.8",
            unit: Unit::PerSecond("records"),
            needs: matches!(self, Self::Kafka).then_some(Need::Kafka),
        }
    }

    fn prepare(&self, setting: &Setting) -> Tried<Fixture> {
        match self {
            Self::Kafka => {
                let topic = fill(&*kafka(setting)?, &unique("bench"), setting.scaled(RECORDS))?;
                Ok(Fixture::named(topic.as_str().to_owned()))
            }
            Self::Memory => Ok(Fixture::none()),
        }
    }

    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample> {
        let count = setting.scaled(RECORDS);
        let batches = count / BATCH as u64;
        match (self, side) {
            (Self::Kafka, Side::Engine) => {
                let stage = Stage::build()?;
                consume(&*kafka(setting)?, &Topic::from(fixture), count, stage.workers)
            }
            (Self::Kafka, Side::Baseline) => poll_and_parse(setting, fixture, count),
            (Self::Memory, Side::Engine) => map(batches),
            (Self::Memory, Side::Baseline) => parse(batches),
        }
    }
}

/// The stage of the row.
struct Stage {
    workers: WorkerFactory<Owed<Input>>,
    /// Its workers stop waiting for dependencies when it is dropped.
    _running: Sender<()>,
}

impl Stage {
    fn build() -> Tried<Self> {
        let condition = compile(CONDITION, Purpose::Filter)?;
        let program = compile(PROGRAM, Purpose::Map)?;
        let build: ChainFactory = Arc::new(move || chain(condition.clone(), program.clone()));
        // No record fails here. If one did, nobody would take it, and it would be abandoned.
        let (failures, _) = inbox("dead-letters", 1);
        let (running, stopping) = bounded(1);
        let (retry, instruments) = (RetryPolicy::default(), Arc::default());
        let context = Arc::new(StageContext { failures, retry, stopping, instruments });
        let workers = Arc::new(move |_: LaneId| -> Box<dyn Worker<Owed<Input>>> {
            Box::new(StageWorker::new(context.clone(), build.clone()))
        });
        Ok(Self { workers, _running: running })
    }
}

fn compile(source: &str, purpose: Purpose) -> Tried<Program> {
    Program::compile(source, purpose).map_err(|errors| format!("{source}: {errors:?}").into())
}

fn chain(condition: Program, program: Program) -> Chain {
    let pipeline = PipelineName::from("bench");
    let filter = FilterNode::new(Filter { condition, rest: Rest::Drop }, pipeline.clone());
    let remap = RemapNode::new(Remap { program }, pipeline);
    let nodes = vec![node("kept", filter, vec![1]), node("mapped", remap, Vec::new())];
    Chain::new(nodes, vec![vec![0]])
}

fn node(name: &str, transform: impl Transform + 'static, next: Vec<usize>) -> ChainNode {
    ChainNode {
        name: name.into(),
        step: Step::Transform(Box::new(transform)),
        outputs: vec![Output { boundaries: Vec::new(), next }],
    }
}

/// Feeds the stage from memory.
fn map(batches: u64) -> Tried<Sample> {
    let records = Records::new()?;
    let stage = Stage::build()?;
    let pool = pool(LANES, stage.workers)?;
    let lanes = Lanes::new(pool.addresses());
    let runtime = runtime()?;
    let mut scopes = Vec::new();
    let meter = Meter::start()?;
    for batch in 0..batches {
        let (scope, owed) = open(&records, batch);
        scopes.push(scope);
        for (lane, part) in lanes.split(owed) {
            lane.blocking_send(part).map_err(|closed| closed.to_string())?;
        }
    }
    runtime.block_on(pool.drain(PATIENCE))?;
    let sample = measured(meter, &records, batches)?;
    let filtered = |scope: &Arc<Scope>| {
        (0..BATCH as u32).all(|slot| scope.outcome(slot) == Some(Outcome::Filtered))
    };
    if scopes.iter().all(filtered) { Ok(sample) } else { Err("a record failed".into()) }
}

/// A batch as a partition consumer hands it out.
fn open(records: &Records, batch: u64) -> (Arc<Scope>, LaneBatch) {
    let first = batch * BATCH as u64;
    let log = (first..first + BATCH as u64).map(|index| LogRecord {
        offset: Offset(index as i64),
        timestamp: None,
        key: Some(records.key(index)),
        value: Some(records.value(index)),
        headers: Vec::new(),
    });
    let batch = Arc::new(SourceBatch {
        origin: TopicPartition::new("orders", 0),
        epoch: Epoch(1),
        records: log.collect(),
    });
    let meta = Arc::new(Metadata::default());
    let (scope, duties) = Scope::open(BATCH as u32);
    let owed = (0..).zip(duties).map(|(index, duty)| {
        let source = SourceRef::new(batch.clone(), index);
        let value = source.record().value.clone().unwrap_or_default();
        let record = Record::from_source(source, meta.clone(), Fields::Raw(value));
        Owed::new(Input { entry: 0, record }, duty)
    });
    (scope, owed.collect())
}

fn measured(meter: Meter, records: &Records, batches: u64) -> Tried<Sample> {
    let bytes: u64 = (0..BATCH as u64).map(|index| records.value(index).len() as u64).sum();
    meter.stop(batches * BATCH as u64, batches * bytes)
}

/// Threads that parse.
struct Parsers<B> {
    batches: Sender<Vec<B>>,
    threads: Vec<JoinHandle<Tried<u64>>>,
}

impl<B: AsRef<[u8]> + Send + 'static> Parsers<B> {
    fn start() -> Self {
        let (batches, work) = bounded(LANE_BATCHES * LANES);
        let thread = |work: Receiver<Vec<B>>| {
            std::thread::spawn(move || -> Tried<u64> {
                let mut parsed = 0;
                for value in work.iter().flatten() {
                    black_box(serde_json::from_slice::<serde_json::Value>(value.as_ref())?);
                    parsed += 1;
                }
                Ok(parsed)
            })
        };
        let threads = (0..LANES).map(|_| thread(work.clone())).collect();
        Self { batches, threads }
    }

    fn send(&self, batch: Vec<B>) -> Tried {
        self.batches.send(batch).map_err(|_| "the parsing threads have ended".into())
    }

    /// Waits for the threads; returns how many values they parsed.
    fn finish(self) -> Tried<u64> {
        drop(self.batches);
        let mut parsed = 0;
        for thread in self.threads {
            parsed += thread.join().map_err(|_| "a parsing thread panicked")??;
        }
        Ok(parsed)
    }
}

fn parse(batches: u64) -> Tried<Sample> {
    let records = Records::new()?;
    let parsers = Parsers::<Bytes>::start();
    let meter = Meter::start()?;
    for batch in 0..batches {
        let first = batch * BATCH as u64;
        let values = (first..first + BATCH as u64).map(|index| records.value(index));
        parsers.send(values.collect())?;
    }
    let parsed = parsers.finish()?;
    let sample = measured(meter, &records, batches)?;
    if parsed == sample.items { Ok(sample) } else { Err("a record was lost".into()) }
}

fn poll_and_parse(setting: &Setting, topic: &str, count: u64) -> Tried<Sample> {
    let consumer = raw_consumer(setting, topic)?;
    let parsers = Parsers::<Vec<u8>>::start();
    let mut meter = None;
    let mut bytes = 0;
    let mut batch = Vec::with_capacity(BATCH);
    poll_values(
        &consumer,
        count,
        || {
            meter = Some(Meter::start()?);
            Ok(())
        },
        |value| {
            bytes += value.len() as u64;
            batch.push(value.to_vec());
            if batch.len() == BATCH {
                parsers.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
            }
            Ok(())
        },
    )?;
    parsers.send(batch)?;
    let parsed = parsers.finish()?;
    let sample = meter.ok_or("there was nothing to read")?.stop(count, bytes)?;
    if parsed == count { Ok(sample) } else { Err("a record was lost".into()) }
}
