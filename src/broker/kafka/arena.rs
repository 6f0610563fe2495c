//! Records copied out of librdkafka.
//!
//! Responsible for: copying keys, values and headers into chunks that many records share, so that
//! a small record costs no allocation of its own. A chunk is used again once no record is left in
//! it: a fresh one costs a page fault for every few records.
//! Not responsible for: how many records are in flight, which bounds how many chunks live.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rdkafka::message::{Headers as _, Message};
use tracing::{trace, warn};

use crate::model::{Headers, LogRecord, Offset};

/// Size of a shared chunk.
const CHUNK: usize = 256 * 1024;

/// Larger pieces get an allocation of their own: they would waste the rest of a chunk, and keep
/// small ones alive.
const LARGE: usize = 32 * 1024;

/// Chunks that are kept to be used again, with records in them or without. Of any more a chunk is
/// freed with the last record in it.
const MOST_RETIRED: usize = 64;

/// Polls without a record, since the present chunk was begun, after which free chunks are given
/// back.
const IDLE_POLLS: u32 = 100;

/// Name that stands in for one that is not UTF-8, which the binding cannot read.
const UNREADABLE: &str = "\u{FFFD}";

/// Copies records.
#[derive(Debug)]
pub(super) struct Arena {
    /// The rest of the chunk that is being filled.
    chunk: BytesMut,
    /// What is left of chunks that were filled, in that order. Such a handle gets its whole chunk
    /// back when the last record in it is gone.
    retired: VecDeque<BytesMut>,
    /// Polls that brought nothing since the present chunk was begun.
    idle: u32,
    /// An unreadable header was reported: once is enough for a person to look.
    reported: bool,
}

impl Default for Arena {
    fn default() -> Self {
        let chunk = BytesMut::with_capacity(CHUNK);
        Self { chunk, retired: VecDeque::new(), idle: 0, reported: false }
    }
}

impl Arena {
    /// Copies `message`.
    pub(super) fn record<M: Message>(&mut self, message: &M) -> LogRecord {
        let (key, value) = self.pair(message.key(), message.payload());
        LogRecord {
            offset: Offset(message.offset()),
            timestamp: message.timestamp().to_millis(),
            key,
            value,
            headers: self.headers(message),
        }
    }

    /// A poll brought nothing. When that goes on, nobody needs so many chunks.
    pub(super) fn rest(&mut self) {
        self.idle = self.idle.saturating_add(1);
        if self.idle == IDLE_POLLS {
            self.retired.clear();
        }
    }

    /// Copies key and value as one piece where they are small enough.
    fn pair(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> (Option<Bytes>, Option<Bytes>) {
        if let (Some(key), Some(value)) = (key, value)
            && (1..=LARGE).contains(&(key.len() + value.len()))
        {
            let mut piece = self.piece([key, value]);
            return (Some(piece.split_to(key.len())), Some(piece));
        }
        (key.map(|key| self.copy(key)), value.map(|value| self.copy(value)))
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        match bytes.len() {
            0 => Bytes::new(),
            1..=LARGE => self.piece([bytes, &[]]),
            _ => Bytes::copy_from_slice(bytes),
        }
    }

    /// Copies both, one behind the other; together they are at least one byte and not large.
    fn piece(&mut self, [first, second]: [&[u8]; 2]) -> Bytes {
        let chunk = self.room(first.len() + second.len());
        chunk.extend_from_slice(first);
        chunk.extend_from_slice(second);
        chunk.split().freeze()
    }

    /// A chunk with room for so many bytes.
    fn room(&mut self, size: usize) -> &mut BytesMut {
        if !self.chunk.try_reclaim(size) {
            self.renew();
        }
        &mut self.chunk
    }

    /// Begins another chunk: one that no record is left in, if there is any. The oldest are tried
    /// first, because their records are the likeliest to be gone.
    fn renew(&mut self) {
        let free = self.retired.iter_mut().position(|chunk| chunk.try_reclaim(CHUNK));
        let next = free.and_then(|free| self.retired.remove(free));
        let next = next.unwrap_or_else(|| BytesMut::with_capacity(CHUNK));
        let used = std::mem::replace(&mut self.chunk, next);
        // Those that are kept already are older, so they are free sooner.
        if self.retired.len() < MOST_RETIRED {
            self.retired.push_back(used);
        }
        self.idle = 0;
    }

    fn headers<M: Message>(&mut self, message: &M) -> Headers {
        let Some(headers) = message.headers() else { return Vec::new() };
        let mut copied = Vec::with_capacity(headers.count());
        for index in 0..headers.count() {
            // The binding unwraps the name as UTF-8, and a producer may have put anything there.
            match catch_unwind(AssertUnwindSafe(|| headers.try_get(index))) {
                Ok(Some(header)) => {
                    let value = header.value.map_or_else(Bytes::new, |value| self.copy(value));
                    copied.push((header.key.to_owned(), value));
                }
                Ok(None) => break,
                Err(_) => {
                    self.report(message);
                    copied.push((UNREADABLE.to_owned(), Bytes::new()));
                }
            }
        }
        copied
    }

    fn report<M: Message>(&mut self, message: &M) {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        if self.reported {
            trace!(topic, partition, offset, "header with an unreadable name");
        } else {
            self.reported = true;
            warn!(topic, partition, offset, "header with an unreadable name, reported once");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    fn message(key: Option<Vec<u8>>, value: Option<Vec<u8>>, headers: &[Vec<u8>]) -> OwnedMessage {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, value| {
            all.insert(Header { key: "name", value: Some(&value[..]) })
        });
        OwnedMessage::new(
            value,
            key,
            "orders".to_owned(),
            Timestamp::CreateTime(42),
            3,
            17,
            Some(headers),
        )
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        // Around the limits too: a large piece and a chunk that runs out.
        (any::<u8>(), prop_oneof![0..100_usize, LARGE - 2..LARGE + 2])
            .prop_map(|(byte, length)| vec![byte; length])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn records_hold_what_the_messages_held(
            given in prop::collection::vec(
                (prop::option::of(bytes()), prop::option::of(bytes()),
                 prop::collection::vec(bytes(), 0..3)),
                0..40,
            )
        ) {
            let mut arena = Arena::default();
            let copied: Vec<LogRecord> = given
                .iter()
                .map(|(key, value, headers)| {
                    arena.record(&message(key.clone(), value.clone(), headers))
                })
                .collect();
            for (record, (key, value, headers)) in copied.iter().zip(&given) {
                prop_assert_eq!(record.key.as_deref(), key.as_deref());
                prop_assert_eq!(record.value.as_deref(), value.as_deref());
                let found: Vec<&[u8]> =
                    record.headers.iter().map(|(_, value)| &value[..]).collect();
                prop_assert_eq!(found, headers.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn small_records_share_a_chunk() {
        let mut arena = Arena::default();
        let first = arena.record(&message(None, Some(vec![1; 100]), &[]));
        let second = arena.record(&message(None, Some(vec![2; 100]), &[]));
        let start = |record: &LogRecord| record.value.as_ref().map(|value| value.as_ptr() as usize);
        assert_eq!(start(&second), start(&first).map(|address| address + 100));
    }

    #[test]
    fn a_key_lies_in_front_of_its_value() {
        let mut arena = Arena::default();
        let record = arena.record(&message(Some(vec![1; 10]), Some(vec![2; 100]), &[]));
        let (key, value) = (record.key.unwrap(), record.value.unwrap());
        assert_eq!(value.as_ptr() as usize, key.as_ptr() as usize + 10);
    }

    /// Records that fill so many chunks to the last byte.
    fn filling(arena: &mut Arena, chunks: usize) -> Vec<LogRecord> {
        let record = message(Some(vec![1; 24]), Some(vec![2; 1_000]), &[]);
        (0..chunks * CHUNK / 1_024).map(|_| arena.record(&record)).collect()
    }

    fn addresses(records: &[LogRecord]) -> BTreeSet<usize> {
        records.iter().flat_map(|record| &record.key).map(|key| key.as_ptr() as usize).collect()
    }

    #[test]
    fn chunks_are_used_again_when_their_records_are_gone() {
        let mut arena = Arena::default();
        let records = filling(&mut arena, 3);
        let used = addresses(&records);
        drop(records);
        let again = filling(&mut arena, 3);
        assert_eq!(addresses(&again), used);
    }

    #[test]
    fn one_record_keeps_its_chunk_from_being_used_again() {
        let mut arena = Arena::default();
        let mut records = filling(&mut arena, 3);
        records.truncate(1);
        let others = filling(&mut arena, 5);
        assert!(addresses(&others).is_disjoint(&addresses(&records)));
    }

    #[test]
    fn few_chunks_are_kept_and_none_when_nothing_comes() {
        let mut arena = Arena::default();
        let _records = filling(&mut arena, MOST_RETIRED + 10);
        assert_eq!(arena.retired.len(), MOST_RETIRED);
        (1..IDLE_POLLS).for_each(|_| arena.rest());
        assert_eq!(arena.retired.len(), MOST_RETIRED);
        arena.rest();
        assert!(arena.retired.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn what_is_kept_never_changes_however_long_it_is_kept(
            kept in prop::collection::vec(prop::option::of(0..500_usize), 3_000),
        ) {
            let mut arena = Arena::default();
            let mut held: BTreeMap<usize, Vec<(LogRecord, u8)>> = BTreeMap::new();
            for (number, keep) in kept.into_iter().enumerate() {
                let byte = number as u8;
                let given = message(Some(vec![byte; 4]), Some(vec![byte; 1_500]), &[]);
                let record = arena.record(&given);
                if let Some(longer) = keep {
                    held.entry(number + longer).or_default().push((record, byte));
                }
                for (record, byte) in held.remove(&number).into_iter().flatten() {
                    let bytes = record.key.iter().chain(&record.value).flatten();
                    prop_assert!(bytes.copied().all(|found| found == byte));
                }
            }
        }
    }

    #[test]
    fn coordinates_and_the_absence_of_key_and_value_are_kept() {
        let record = Arena::default().record(&message(None, None, &[]));
        assert_eq!((record.offset, record.timestamp), (Offset(17), Some(42)));
        assert_eq!((record.key, record.value), (None, None));
        let empty = Arena::default().record(&message(Some(vec![]), Some(vec![]), &[]));
        assert_eq!((empty.key, empty.value), (Some(Bytes::new()), Some(Bytes::new())));
    }
}
