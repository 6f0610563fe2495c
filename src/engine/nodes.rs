//! Building the CPU nodes of a topology, and those that wait for something outside.
//!
//! Responsible for: wiring programs, spools and the clock into processors.
//! Not responsible for: where they run (`blueprint`, `stages`).

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::blueprint::{StepFactory, TransformFactory};
use crate::engine::observed::Observed;
use crate::engine::{Context, EngineError};
use crate::expr::{Evaluator, Program};
use crate::model::{Digest, Failure, FailureClass, Record};
use crate::processor::aggregate::AggregateNode;
use crate::processor::config::{self, Config};
use crate::processor::csv::CsvNode;
use crate::processor::decode::{DecodeNode, Format};
use crate::processor::fetch::{FetchNode, FetchSettings, Fetcher, LocalPayloads, UrlOf};
use crate::processor::filter::FilterNode;
use crate::processor::remap::RemapNode;
use crate::processor::unarchive::{UnarchiveCounters, UnarchiveNode, UnarchiveParts};
use crate::source::config::{Config as Source, Decode};
use crate::spool::{DiskBudget, Spool};
use crate::topology::{Graph, NodeKind};

/// Makes spools whose budgets share the bytes that the settings allow.
pub struct Spools {
    folder: std::path::PathBuf,
    bytes_each: u64,
    observed: Arc<Observed>,
}

impl Spools {
    /// Shares the budget evenly: nodes that spool must not wait for each other's room.
    pub fn new(context: &Context, graph: &Graph) -> Self {
        let spooling = graph.nodes.iter().filter(|node| spools(&node.kind)).count().max(1);
        let bytes_each = context.config.limits.spool_bytes / spooling as u64;
        let folder = context.config.data.dir.join("spool");
        Self { folder, bytes_each, observed: context.observed.clone() }
    }

    /// A spool with a budget of its own.
    pub fn make(&self) -> Result<Spool, EngineError> {
        let budget = DiskBudget::new(self.bytes_each);
        self.observed.spool(&budget);
        Spool::new(&self.folder, budget).map_err(|error| EngineError::dependency(error.to_string()))
    }
}

fn spools(kind: &NodeKind) -> bool {
    use crate::sink::config::Config as Sink;
    matches!(
        kind,
        NodeKind::Processor(Config::Fetch(_) | Config::Unarchive(_))
            | NodeKind::Sink(Sink::Parquet(_))
    )
}

/// Decodes the records of a source.
pub fn source_step(source: &Source) -> StepFactory {
    let Source::Kafka(kafka) = source;
    let format = match kafka.decode {
        Decode::Json => Format::Json,
        Decode::Text => Format::Text,
    };
    StepFactory::Transform(Arc::new(move || Box::new(DecodeNode::new(format))))
}

/// A CPU node; `None` for those that wait for something outside.
pub fn processor_step(
    context: &Context,
    graph: &Graph,
    node: usize,
    config: &Config,
    spools: &Spools,
) -> Result<Option<StepFactory>, EngineError> {
    let pipeline = context.pipeline.clone();
    let factory: TransformFactory = match config.clone() {
        Config::Fetch(_) => return Ok(None),
        Config::Filter(config) => {
            Arc::new(move || Box::new(FilterNode::new(config.clone(), pipeline.clone())))
        }
        Config::Remap(config) => {
            Arc::new(move || Box::new(RemapNode::new(config.clone(), pipeline.clone())))
        }
        Config::Aggregate(config) => Arc::new(move || Box::new(AggregateNode::new(config.clone()))),
        Config::Csv(config) => csv(graph, node, config)?,
        Config::Unarchive(config) => unarchive(context, graph, node, config, spools.make()?)?,
    };
    Ok(Some(StepFactory::Transform(factory)))
}

fn csv(graph: &Graph, node: usize, config: config::Csv) -> Result<TransformFactory, EngineError> {
    let connected =
        graph.port(node, "rejected").is_some_and(|port| !graph.readers(node, port).is_empty());
    let build = move || CsvNode::new(&config, connected);
    build().map_err(|error| EngineError::misconfigured(error.to_string()))?;
    Ok(Arc::new(move || match build() {
        Ok(node) => Box::new(node),
        Err(error) => unreachable!("the same settings were fine at start: {error}"),
    }))
}

fn unarchive(
    context: &Context,
    graph: &Graph,
    node: usize,
    config: config::Unarchive,
    spool: Spool,
) -> Result<TransformFactory, EngineError> {
    let definition = definition_below(graph, node);
    let (pipeline, clock) = (context.pipeline.clone(), context.clock.clone());
    let counters = Arc::new(UnarchiveCounters::default());
    let build = move || {
        UnarchiveNode::new(UnarchiveParts {
            limits: config.limits,
            index: config.index.clone(),
            prepare: config.prepare.clone().map(|program| {
                let mut evaluator = Evaluator::new(pipeline.clone());
                Box::new(move |record: &mut Record| evaluator.run(&program, record).map(|_| ()))
                    as Box<dyn FnMut(&mut Record) -> Result<(), Failure> + Send>
            }),
            members: config.members.clone().map(|program| {
                let mut evaluator = Evaluator::new(pipeline.clone());
                Box::new(move |record: &mut Record| names(&mut evaluator, &program, record))
                    as Box<dyn FnMut(&mut Record) -> Result<Vec<String>, Failure> + Send>
            }),
            definition,
            spool: spool.clone(),
            clock: clock.clone(),
            counters: counters.clone(),
        })
    };
    build().map_err(|error| EngineError::misconfigured(error.to_string()))?;
    Ok(Arc::new(move || match build() {
        Ok(node) => Box::new(node),
        Err(error) => unreachable!("the same settings were fine at start: {error}"),
    }))
}

fn text(bytes: &bytes::Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program that yields a list of texts.
fn names(
    evaluator: &mut Evaluator,
    program: &Program,
    record: &mut Record,
) -> Result<Vec<String>, Failure> {
    let value = evaluator.run(program, record)?;
    let no_list = || {
        let why = format!("`{}` is no list of texts", program.source().trim());
        Failure::poison(FailureClass::PROGRAM, why)
    };
    let list = value.as_array().ok_or_else(no_list)?;
    let texts = list.iter().map(|item| item.as_bytes().map(text));
    texts.collect::<Option<_>>().ok_or_else(no_list)
}

/// Digest over the declarations of a node and everything below it: content that went through
/// other definitions is other content.
pub fn definition_below(graph: &Graph, node: usize) -> Digest {
    let below = graph.downstream(node);
    let nodes = graph.nodes.iter().zip(below).filter(|(_, below)| *below);
    let text: Vec<&str> = nodes.map(|(node, _)| node.definition.as_str()).collect();
    Digest::of(&Digest::from_bytes([0; 16]), text.join("\n").as_bytes())
}

/// A node that fetches.
pub fn fetch(
    context: &Context,
    config: &config::Fetch,
    spool: Spool,
    local: Option<Arc<dyn LocalPayloads>>,
) -> Result<FetchNode, EngineError> {
    let settings = FetchSettings {
        allow: config.allow.clone(),
        max_bytes: config.max_bytes,
        timeout: config.timeout,
    };
    let fetcher = Fetcher::new(settings, spool, local)
        .map_err(|error| EngineError::misconfigured(error.to_string()))?;
    let evaluator = Mutex::new(Evaluator::new(context.pipeline.clone()));
    let program = config.url.clone();
    let url_of: UrlOf = Box::new(move |record| {
        let mut evaluator = evaluator.lock().unwrap_or_else(PoisonError::into_inner);
        let value = evaluator.run(&program, &mut record.clone())?;
        let url = value.as_bytes().map(text);
        url.ok_or_else(|| {
            let why = format!("`{}` is no text, so there is no URL", program.source().trim());
            Failure::poison(FailureClass::PROGRAM, why)
        })
    });
    Ok(FetchNode::new(url_of, fetcher))
}
