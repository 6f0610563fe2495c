//! Producing into the embedded log.
//!
//! Responsible for: stamping records and queueing them for the writer thread.
//! Not responsible for: partitions, offsets and deliveries (`writer`).

use std::sync::Arc;
use std::time::Duration;

use crate::broker::embedded::Running;
use crate::broker::embedded::queue::Pushed;
use crate::broker::embedded::state::closed;
use crate::broker::{Delivery, Producer, ProducerRecord, QueueFull};

/// A handle on the queue of one log; all producers of a log share it.
pub(super) struct EmbeddedProducer {
    log: Arc<Running>,
}

impl EmbeddedProducer {
    /// A handle on the queue of `log`.
    pub(super) fn new(log: Arc<Running>) -> Self {
        Self { log }
    }
}

impl Producer for EmbeddedProducer {
    fn send(&self, mut record: ProducerRecord, delivery: Delivery) -> Result<(), QueueFull> {
        let shared = &self.log.shared;
        let stamped = record.timestamp;
        record.timestamp.get_or_insert_with(|| shared.now());
        match shared.queue.push(record, delivery) {
            Pushed::Queued => Ok(()),
            Pushed::Closed(delivery) => {
                delivery(Err(closed()));
                Ok(())
            }
            Pushed::Full(mut record, delivery) => {
                record.timestamp = stamped;
                Err(QueueFull(record, delivery))
            }
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.log.shared.queue.flush(timeout)
    }
}
