//! Which lane a record takes.
//!
//! Responsible for: spreading a batch over the lanes of a stage so that records with one key keep
//! their order (I8) and records without a key share the work; what is needed to settle a record in
//! place of its worker.
//! Not responsible for: the threads behind the lanes (`runtime::pool`).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{Body, LogRecord, Metadata, Record, SourceRef};
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

/// What a dead letter would need of a record.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The record of the source.
    pub source: SourceRef,
    /// What it is part of.
    pub meta: Arc<Metadata>,
}

impl Claimable for Owed<Input> {
    type Duty = Obligation;
    type Origin = Origin;

    fn duty(&mut self) -> Obligation {
        std::mem::replace(&mut self.duty, Obligation::detached())
    }

    fn origin(&self) -> Origin {
        let record = &self.value.record;
        Origin { source: record.source.clone(), meta: record.meta.clone() }
    }

    fn renew(&self, origin: &mut Origin) {
        let record = &self.value.record;
        origin.source.clone_from(&record.source);
        if !Arc::ptr_eq(&origin.meta, &record.meta) {
            origin.meta = record.meta.clone();
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
        let shared = self.turn();
        self.spread(batch, |owed| match (&owed.value.record.body, owed.value.record.key()) {
            (Body::Blob(_), _) => self.turn(),
            (_, Some(key)) => self.lane_of(key),
            (_, None) => shared,
        })
    }

    /// Splits records as they lie in the log, in the same way.
    pub fn split_log(&self, records: Vec<LogRecord>) -> Vec<(Address<LaneBatch>, Vec<LogRecord>)> {
        let shared = self.turn();
        if records.iter().all(|record| record.key.is_none()) {
            return vec![(self.lanes[shared].clone(), records)];
        }
        self.spread(records, |record| record.key.as_deref().map_or(shared, |key| self.lane_of(key)))
    }

    /// Gives each item to its lane; lanes without items are left out.
    fn spread<T>(
        &self,
        items: Vec<T>,
        lane_of: impl Fn(&T) -> usize,
    ) -> Vec<(Address<LaneBatch>, Vec<T>)> {
        if self.lanes.len() == 1 {
            return vec![(self.lanes[0].clone(), items)];
        }
        // An even share and a quarter of it, which is enough in most cases.
        let room = (items.len() / self.lanes.len() * 5 / 4 + 8).min(items.len());
        let mut split: Vec<Vec<T>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for item in items {
            let lane = &mut split[lane_of(&item)];
            if lane.capacity() == 0 {
                lane.reserve_exact(room);
            }
            lane.push(item);
        }
        let with_address = self.lanes.iter().cloned().zip(split);
        with_address.filter(|(_, items)| !items.is_empty()).collect()
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len()
    }

    fn lane_of(&self, key: &[u8]) -> usize {
        (self.hasher.hash_one(key) % self.lanes.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Epoch, Offset, SourceBatch, TopicPartition};
    use crate::runtime::inbox::{Inbox, inbox};

    fn lanes(count: usize) -> (Lanes, Vec<Inbox<LaneBatch>>) {
        let (addresses, inboxes) = (0..count).map(|lane| inbox(format!("{lane}"), 1)).unzip();
        (Lanes::new(addresses), inboxes)
    }

    fn log(keys: impl IntoIterator<Item = Option<&'static str>>) -> Vec<LogRecord> {
        let record = |(offset, key): (i64, Option<&'static str>)| LogRecord {
            offset: Offset(offset),
            timestamp: None,
            key: key.map(Into::into),
            value: None,
            headers: Vec::new(),
        };
        (0..).zip(keys).map(record).collect()
    }

    fn owed(records: Vec<LogRecord>, meta: &Arc<Metadata>) -> LaneBatch {
        let origin = TopicPartition::new("orders", 0);
        let batch = Arc::new(SourceBatch { origin, epoch: Epoch(1), records });
        let owed = |index: u32| {
            let record = Record::as_read(SourceRef::new(batch.clone(), index), meta.clone());
            Owed::new(Input { entry: 0, record }, Obligation::detached())
        };
        (0..batch.records.len() as u32).map(owed).collect()
    }

    /// Lane and offsets of each key; fails if a key has several lanes, or its order is lost.
    fn by_key<'r>(
        records: impl IntoIterator<Item = (&'r str, &'r LogRecord)>,
    ) -> BTreeMap<String, (String, Vec<i64>)> {
        let mut found: BTreeMap<String, (String, Vec<i64>)> = BTreeMap::new();
        for (lane, record) in records {
            let key = String::from_utf8_lossy(record.key.as_ref().unwrap()).into_owned();
            let (known, offsets) =
                found.entry(key).or_insert_with(|| (lane.to_owned(), Vec::new()));
            assert_eq!(known, lane);
            assert!(offsets.last().is_none_or(|last| *last < record.offset.0));
            offsets.push(record.offset.0);
        }
        found
    }

    #[test]
    fn a_key_has_one_lane_in_order_whether_it_comes_from_the_log_or_from_a_stage() {
        let (lanes, _inboxes) = lanes(3);
        let keys = ["a", "b", "c", "d", "e", "f", "g"].map(Some);
        let records = log(keys.into_iter().cycle().take(700));
        let parts = lanes.split_log(records.clone());
        let from_log = by_key(
            parts
                .iter()
                .flat_map(|(lane, records)| records.iter().map(|record| (lane.name(), record))),
        );
        assert!(from_log.values().all(|(_, offsets)| offsets.len() == 100));
        let parts = lanes.split(owed(records, &Arc::default()));
        let from_stage = by_key(parts.iter().flat_map(|(lane, batch)| {
            batch.iter().map(|owed| (lane.name(), owed.value.record.source.record()))
        }));
        assert_eq!(from_stage, from_log);
    }

    #[test]
    fn records_without_keys_stay_together_and_take_the_lanes_in_turn() {
        let (lanes, _inboxes) = lanes(2);
        let mut taken = Vec::new();
        for _ in 0..4 {
            let records = log([None; 10]);
            let place = records.as_ptr();
            let mut parts = lanes.split_log(records);
            let (lane, records) = parts.remove(0);
            assert!(parts.is_empty());
            assert_eq!((records.as_ptr(), records.len()), (place, 10), "nothing is moved");
            taken.push(lane.name().to_owned());
        }
        assert_eq!(taken, ["0", "1", "0", "1"]);
        let parts = lanes.split_log(log([None, Some("a"), None]));
        assert_eq!(parts.iter().map(|(_, records)| records.len()).sum::<usize>(), 3);
    }

    #[test]
    fn an_origin_is_renewed_without_counting_what_it_has_in_common_with_the_one_before() {
        let (meta, other) = (Arc::default(), Arc::default());
        let batch = owed(log([None, None]), &meta);
        let next = owed(log([None]), &other);
        let mut origin = batch[0].origin();
        let before = Arc::strong_count(&meta);
        batch[1].renew(&mut origin);
        assert_eq!((origin.source.offset(), Arc::strong_count(&meta)), (Offset(1), before));
        next[0].renew(&mut origin);
        assert_eq!((origin.source.offset(), Arc::strong_count(&meta)), (Offset(0), before - 1));
        assert!(Arc::ptr_eq(&origin.meta, &other));
    }
}
