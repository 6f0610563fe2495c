//! How large a batch a topic takes.
//!
//! Responsible for: remembering the topics whose `max.message.bytes` is below what the producer
//! puts into one batch. A broker refuses a batch as a whole, so on these a record that is too
//! large would take its neighbours along.
//! Not responsible for: asking the broker (`admin` does, for the topics that it ensures).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::model::Topic;

/// Bytes that a batch takes beside its records, rounded up.
const FRAMING: u64 = 128;

/// Largest batch that is told apart from larger ones; librdkafka takes an `i32`.
const LARGEST: u64 = 1 << 30;

/// The topics that take small batches only.
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes of a batch where nothing is known.
    usual: u64,
    /// There are small ones: most pipelines have none, and their producer looks no further.
    any: AtomicBool,
    small: RwLock<HashMap<Topic, u32>>,
}

impl Limits {
    /// For a producer whose batches have up to `usual` bytes.
    pub(super) fn new(usual: u64) -> Self {
        Self { usual, any: AtomicBool::new(false), small: RwLock::default() }
    }

    /// Remembers that `topic` takes up to `max_message_bytes` at once.
    pub(super) fn learn(&self, topic: &Topic, max_message_bytes: u64) {
        let room = max_message_bytes.saturating_sub(FRAMING).clamp(1, LARGEST);
        let mut small = self.small.write().unwrap_or_else(PoisonError::into_inner);
        if room >= self.usual {
            small.remove(topic);
        } else {
            // A power of two, so that there are few different sizes: each has a client.
            small.insert(topic.clone(), 1 << room.ilog2());
        }
        self.any.store(!small.is_empty(), Ordering::Release);
    }

    /// Bytes of a batch for `topic`, if it takes only small ones.
    pub(super) fn small_batch(&self, topic: &Topic) -> Option<u32> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.small.read().unwrap_or_else(PoisonError::into_inner).get(topic).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::from(name)
    }

    #[test]
    fn the_usual_topic_takes_the_usual_batch() {
        let limits = Limits::new(1_000_000);
        assert_eq!(limits.small_batch(&topic("orders")), None);
        limits.learn(&topic("orders"), 1_048_588);
        assert_eq!(limits.small_batch(&topic("orders")), None);
    }

    #[test]
    fn a_small_batch_fits_its_topic() {
        let limits = Limits::new(1_000_000);
        for bytes in [0, 1, 129, 2000, 4096, 100_000, 999_999] {
            limits.learn(&topic("small"), bytes);
            let batch = u64::from(limits.small_batch(&topic("small")).unwrap());
            assert!(batch == 1 || batch + FRAMING <= bytes, "{batch} for {bytes}");
        }
        assert_eq!(limits.small_batch(&topic("orders")), None);
    }

    #[test]
    fn a_limit_that_was_raised_is_forgotten() {
        let limits = Limits::new(1_000_000);
        limits.learn(&topic("small"), 2000);
        limits.learn(&topic("small"), 2_000_000);
        assert_eq!(limits.small_batch(&topic("small")), None);
    }
}
