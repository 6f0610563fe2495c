//! Records copied out of librdkafka.
//!
//! Responsible for: copying keys, values and headers into chunks that many records share, so that
//! a small record costs no allocation of its own. A chunk is freed with the last record in it.
//! Not responsible for: how many records are in flight, which bounds how many chunks live.

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

/// Name that stands in for one that is not UTF-8, which the binding cannot read.
const UNREADABLE: &str = "\u{FFFD}";

/// Copies records.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunk: BytesMut,
    /// An unreadable header was reported: once is enough for a person to look.
    reported: bool,
}

impl Arena {
    /// Copies `message`.
    pub(super) fn record<M: Message>(&mut self, message: &M) -> LogRecord {
        LogRecord {
            offset: Offset(message.offset()),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(|key| self.copy(key)),
            value: message.payload().map(|value| self.copy(value)),
            headers: self.headers(message),
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > LARGE {
            return Bytes::copy_from_slice(bytes);
        }
        if !self.chunk.try_reclaim(bytes.len()) {
            self.chunk = BytesMut::with_capacity(CHUNK);
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
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
    fn coordinates_and_the_absence_of_key_and_value_are_kept() {
        let record = Arena::default().record(&message(None, None, &[]));
        assert_eq!((record.offset, record.timestamp), (Offset(17), Some(42)));
        assert_eq!((record.key, record.value), (None, None));
        let empty = Arena::default().record(&message(Some(vec![]), Some(vec![]), &[]));
        assert_eq!((empty.key, empty.value), (Some(Bytes::new()), Some(Bytes::new())));
    }
}
