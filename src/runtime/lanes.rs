//! Which lane a record takes.
//!
//! Responsible for: spreading a batch over the lanes of a stage so that records with one key keep
//! their order (I8) and records without a key share the work.
//! Not responsible for: the threads behind the lanes (`runtime::pool`).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{Body, Metadata, Record, SourceRef};
use crate::progress::obligation::{Obligation, Owed};
use crate::runtime::inbox::Address;
use crate::runtime::pool::Claimable;

/// A record on its way into a stage.
#[derive(Clone, Debug)]
pub struct Input {
    /// Which of the stage's entries it takes.
    pub entry: u16,
    /// The record; its fields are bytes, because it crosses threads.
    pub record: Record,
}

/// The right to settle a record, and what a dead letter would need of it.
#[derive(Debug)]
pub struct Claim {
    /// The record of the source.
    pub source: SourceRef,
    /// What it is part of.
    pub meta: Arc<Metadata>,
    /// Its duty.
    pub duty: Obligation,
}

impl Claimable for Owed<Input> {
    type Claim = Claim;

    fn claim(&mut self) -> Claim {
        let record = &self.value.record;
        Claim {
            source: record.source.clone(),
            meta: record.meta.clone(),
            duty: std::mem::replace(&mut self.duty, Obligation::detached()),
        }
    }
}

/// Records on their way to one lane.
pub type LaneBatch = Vec<Owed<Input>>;

/// The lanes of a stage, as those who feed it see them.
pub struct Lanes {
    lanes: Vec<Address<LaneBatch>>,
    next: AtomicUsize,
    /// Keyed per process: nobody outside can aim all keys at one lane.
    hasher: RandomState,
}

impl Lanes {
    /// Spreads over these addresses, one per lane.
    pub fn new(lanes: Vec<Address<LaneBatch>>) -> Self {
        Self { lanes, next: AtomicUsize::new(0), hasher: RandomState::new() }
    }

    /// Splits a batch by lane, keeping the order within each. A batch without keys stays whole
    /// and goes to the next lane in turn; members of an archive are spread one by one, because
    /// each is much work.
    pub fn split(&self, batch: LaneBatch) -> Vec<(Address<LaneBatch>, LaneBatch)> {
        if self.lanes.len() == 1 {
            return vec![(self.lanes[0].clone(), batch)];
        }
        let mut split: Vec<LaneBatch> = self.lanes.iter().map(|_| Vec::new()).collect();
        let shared = self.turn();
        for owed in batch {
            let lane = match (&owed.value.record.body, owed.value.record.key()) {
                (Body::Blob(_), _) => self.turn(),
                (_, Some(key)) => self.lane_of(key),
                (_, None) => shared,
            };
            split[lane].push(owed);
        }
        let with_address = self.lanes.iter().cloned().zip(split);
        with_address.filter(|(_, batch)| !batch.is_empty()).collect()
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len()
    }

    fn lane_of(&self, key: &[u8]) -> usize {
        (self.hasher.hash_one(key) % self.lanes.len() as u64) as usize
    }
}
