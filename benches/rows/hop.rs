//! One hop from a sender to a worker, in batches.
//!
//! Responsible for: opening a batch's obligations, an inbox, a lane and settling, against a
//! crossbeam channel of the same batches.
//! Not responsible for: making the records: both sides clone the same ones.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::bounded;
use tidemill::model::{
    Epoch, Fields, LogRecord, Metadata, Offset, Outcome, Record, SourceBatch, SourceRef,
    TopicPartition,
};
use tidemill::progress::obligation::{Owed, Scope, Wake};
use tidemill::runtime::lanes::{Input, Lanes};
use tidemill::runtime::pool::{Desk, LaneId, Worker};

use crate::harness::pipeline::{LANE_BATCHES, pool, runtime};
use crate::harness::process::{Meter, Sample};
use crate::harness::records::{BATCH, Records};
use crate::harness::{About, PATIENCE, Row, Setting, Side, Tried, Unit};

/// Records of one run.
const RECORDS: u64 = 10_000_000;
/// Different batches: more than are under way at once, so that sender and worker never count
/// references of the same one.
const RING: usize = 64;

/// The row.
pub struct Hop;

impl Row for Hop {
    fn about(&self) -> About {
        About {
            name: "hop".to_owned(),
            path: "one hop between actors in batches of 256; crossbeam batches",
            goal: "≤ 150 ns",
            unit: Unit::Nanoseconds("record"),
            needs: None,
        }
    }

    fn run(&self, side: Side, setting: &Setting, _fixture: &str) -> Tried<Sample> {
        let batches = setting.scaled(RECORDS) / BATCH as u64;
        let ring = ring(&Records::new()?);
        match side {
            Side::Engine => through_a_lane(&ring, batches),
            Side::Baseline => through_a_channel(&ring, batches),
        }
    }
}

/// Settles each record.
struct Settle;

impl Worker<Owed<Input>> for Settle {
    fn item(&mut self, item: Owed<Input>, desk: &Desk<Owed<Input>>) {
        black_box(&item.value);
        if let Some(duty) = desk.finish() {
            duty.settle(Outcome::Delivered);
        }
    }

    fn end_of_batch(&mut self, _desk: &Desk<Owed<Input>>) {}
}

/// Counts batches whose records all have their outcome.
#[derive(Default)]
struct Closed(AtomicU64);

impl Wake for Closed {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

fn through_a_lane(ring: &[Vec<Input>], batches: u64) -> Tried<Sample> {
    let worker = |_: LaneId| -> Box<dyn Worker<Owed<Input>>> { Box::new(Settle) };
    let pool = pool(1, Arc::new(worker))?;
    let lanes = Lanes::new(pool.addresses());
    let runtime = runtime()?;
    let closed = Arc::new(Closed::default());
    let meter = Meter::start()?;
    for inputs in ring.iter().cycle().take(usize::try_from(batches)?) {
        let (_scope, duties) = Scope::open_waking(BATCH as u32, closed.clone());
        let owed = inputs.iter().cloned().zip(duties);
        let batch = owed.map(|(input, duty)| Owed::new(input, duty)).collect();
        for (lane, part) in lanes.split(batch) {
            lane.blocking_send(part).map_err(|closed| closed.to_string())?;
        }
    }
    runtime.block_on(pool.drain(PATIENCE))?;
    let sample = meter.stop(batches * BATCH as u64, 0)?;
    let closed = closed.0.load(Ordering::Acquire);
    if closed == batches { Ok(sample) } else { Err("a record was not settled".into()) }
}

fn through_a_channel(ring: &[Vec<Input>], batches: u64) -> Tried<Sample> {
    let (sender, receiver) = bounded::<Vec<Input>>(LANE_BATCHES);
    let meter = Meter::start()?;
    let worker = std::thread::spawn(move || {
        let mut received = 0u64;
        for input in receiver.iter().flatten() {
            black_box(&input);
            received += 1;
        }
        received
    });
    for inputs in ring.iter().cycle().take(usize::try_from(batches)?) {
        sender.send(inputs.clone()).map_err(|_| "the receiver has ended")?;
    }
    drop(sender);
    let received = worker.join().map_err(|_| "the receiver panicked")?;
    meter.stop(received, 0)
}

fn ring(records: &Records) -> Vec<Vec<Input>> {
    (0..RING).map(|_| batch(records)).collect()
}

fn batch(records: &Records) -> Vec<Input> {
    let log = (0..BATCH as u64).map(|index| LogRecord {
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
    let input = |index| {
        let source = SourceRef::new(batch.clone(), index);
        let value = source.record().value.clone().unwrap_or_default();
        Input { entry: 0, record: Record::from_source(source, meta.clone(), Fields::Raw(value)) }
    };
    (0..BATCH as u32).map(input).collect()
}
