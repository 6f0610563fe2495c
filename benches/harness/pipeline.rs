//! A source and the workers of one stage, put together as the engine does it.
//!
//! Responsible for: the way of a record from a log to its worker and of its outcome back to the
//! tracker, and measuring it from the first record to the last outcome.
//! Not responsible for: what the workers do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Arbiter, System};
use tidemill::broker::group::{
    Assignment, AssignmentContext, AssignmentEvent, BufferBudget, BufferLimits, PartitionActors,
    PollOrders, PollSettings, PollThread,
};
use tidemill::broker::{Broker, ConsumerConfig, Start};
use tidemill::model::Topic;
use tidemill::progress::dead_letters::{DeadLetterLimit, DeadLetterLimits};
use tidemill::progress::obligation::Owed;
use tidemill::progress::restart::RestartPolicy;
use tidemill::runtime::clock::SystemClock;
use tidemill::runtime::escalation::Escalation;
use tidemill::runtime::inbox::inbox;
use tidemill::runtime::lanes::{Input, Lanes};
use tidemill::runtime::pool::{Pool, PoolSpec, WorkerFactory};
use tidemill::runtime::supervisor::{ChildSpec, supervise};
use tidemill::source::partition_consumer::{PartitionConsumer, SourceContext, SourceSettings};
use tidemill::source::start::StartResolver;
use tidemill::telemetry::Instruments;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::logs::{PARTITIONS, PREFETCH, unique};
use super::process::{Meter, Sample};
use super::records::BATCH;
use super::{PATIENCE, Tried};

/// Worker threads of a stage.
pub const LANES: usize = 2;
/// Batches that wait for each of them, as the engine's default has it.
pub const LANE_BATCHES: usize = 8;

/// How often to look whether everything is done.
const LOOK: Duration = Duration::from_millis(1);
/// The engine's defaults.
const BATCH_BYTES: usize = 1 << 20;
const IN_FLIGHT: usize = 10_000;
const BUFFER: BufferLimits = BufferLimits { bytes: 8 << 20, records: 10_000 };
const BUFFERS: usize = 128 << 20;
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
const DRAIN: Duration = Duration::from_secs(30);
const HANG_LIMIT: Duration = Duration::from_secs(60);

/// Worker threads with these workers.
pub fn pool(lanes: usize, worker: WorkerFactory<Owed<Input>>) -> Tried<Pool<Owed<Input>>> {
    Ok(Pool::start(PoolSpec {
        name: "bench".to_owned(),
        lanes,
        inbox_capacity: LANE_BATCHES,
        hang_limit: HANG_LIMIT,
        max_hung: 0,
        clock: SystemClock::shared(),
        worker,
        // A dropped claim is abandoned, which every row looks for.
        on_panicked: Arc::new(|_, claim| drop(claim)),
        on_hung: Arc::new(|_, claim| drop(claim)),
    })?)
}

/// A runtime for what is asynchronous around a row that is not.
pub fn runtime() -> Tried<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Reads `count` records of `topic` into `worker`s until all of them have their outcome.
pub fn consume(
    broker: &dyn Broker,
    topic: &Topic,
    count: u64,
    worker: WorkerFactory<Owed<Input>>,
) -> Tried<Sample> {
    System::new().block_on(run(broker, topic, count, worker))
}

async fn run(
    broker: &dyn Broker,
    topic: &Topic,
    count: u64,
    worker: WorkerFactory<Owed<Input>>,
) -> Tried<Sample> {
    let clock = SystemClock::shared();
    let instruments = Arc::new(Instruments::default());
    let escalation = Arc::new(Escalation::default());
    let orders = Arc::new(PollOrders::default());
    let pool = pool(LANES, worker)?;
    let group = unique("bench");
    let (events, assigned) = inbox("assignment", 64);
    let consumer = ConsumerConfig {
        prefetch_bytes: PREFETCH,
        ..ConsumerConfig::new(group.clone(), vec![topic.clone()])
    };
    let settings =
        PollSettings { consumer, commit_interval: COMMIT_INTERVAL, drain_deadline: DRAIN };
    let poll = PollThread::start(
        broker,
        settings,
        orders.clone(),
        events.clone(),
        clock.clone(),
        instruments.clone(),
    )?;
    let policy = RestartPolicy::default();
    let starts = StartResolver::new(
        poll.positions(),
        broker.admin()?,
        group,
        Start::Earliest,
        policy.backoff.clone(),
    );
    let source = SourceContext {
        strangers: Arc::default(),
        tails: tidemill::source::watchdog::EmptyTails::default(),
        lags: Arc::default(),
        settings: SourceSettings {
            batch_records: BATCH,
            batch_bytes: BATCH_BYTES,
            in_flight_records: IN_FLIGHT,
            buffer: BUFFER,
            stall_limit: HANG_LIMIT,
        },
        buffers: BufferBudget::new(BUFFERS),
        starts: Arc::new(starts),
        orders,
        lanes: Arc::new(Lanes::new(pool.addresses())),
        entry: 0,
        intake: tidemill::source::replay::Intake::Topic("orders".into()),
        clock: clock.clone(),
        instruments: instruments.clone(),
        escalation: escalation.clone(),
        dead_letter_limit: Arc::new(Mutex::new(DeadLetterLimit::new(DeadLetterLimits::default()))),
        epochs: Arc::default(),
    };
    let context = AssignmentContext {
        actors: actors(source),
        drain_deadline: DRAIN,
        escalation: escalation.clone(),
        instruments: instruments.clone(),
    };
    let arbiter = Arbiter::new();
    let assignment = supervise(ChildSpec {
        name: "assignment".to_owned(),
        policy,
        clock,
        arbiter: arbiter.handle(),
        factory: move |lifeline| Assignment::new(context.clone(), assigned.clone(), lifeline),
    });

    let sample = measure(&instruments, &escalation, count).await?;

    let (reply, drained) = oneshot::channel();
    let drain = AssignmentEvent::DrainAll { deadline: DRAIN, reply };
    events.send(drain).await.map_err(|closed| closed.to_string())?;
    let drained = drained.await?;
    assignment.stop();
    tokio::task::spawn_blocking(move || poll.join()).await?;
    pool.drain(DRAIN).await?;
    arbiter.stop();
    if drained { Ok(sample) } else { Err("records were left in flight".into()) }
}

fn actors(source: SourceContext) -> PartitionActors {
    let source = Arc::new(source);
    Arc::new(move |partition, messages| {
        let source = source.clone();
        supervise(ChildSpec {
            name: partition.to_string(),
            policy: RestartPolicy::default(),
            clock: source.clock.clone(),
            arbiter: Arbiter::current(),
            factory: move |lifeline| {
                let (source, messages) = (source.clone(), messages.clone());
                PartitionConsumer::new(partition.clone(), source, messages, lifeline)
            },
        })
    })
}

/// Measures from the first record to the last outcome that the source has heard of.
async fn measure(instruments: &Instruments, escalation: &Escalation, count: u64) -> Tried<Sample> {
    until("the first record", escalation, || instruments.records_in.get() > 0).await?;
    let meter = Meter::start()?;
    let good = || instruments.delivered.get() + instruments.filtered.get();
    let bad = || instruments.dead_lettered.get() + instruments.abandoned.get();
    until("the last outcome", escalation, || good() + bad() >= count).await?;
    let sample = meter.stop(count, instruments.bytes_in.get())?;
    if bad() > 0 || good() != count {
        return Err(format!("{} records are fine, {} are not", good(), bad()).into());
    }
    let buffers = BUFFERS.min(BUFFER.bytes * usize::try_from(PARTITIONS)?);
    let note = format!("queues may hold {} MB", (PREFETCH + buffers) / 1_000_000);
    Ok(sample.with_note(note))
}

async fn until(what: &str, escalation: &Escalation, mut done: impl FnMut() -> bool) -> Tried {
    let looks = async {
        while !done() {
            if let Some(escalated) = escalation.get() {
                return Err(escalated.into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Tried::Ok(())
    };
    let in_time = tokio::time::timeout(PATIENCE, looks).await;
    in_time.unwrap_or_else(|_| Err(format!("waited {PATIENCE:?} for {what}").into()))
}
