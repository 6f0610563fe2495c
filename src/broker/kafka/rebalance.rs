//! Callbacks of the consumer.
//!
//! Responsible for: what happens inside a poll when the group rebalances. An assigned partition
//! gets an explicit beginning (without one, `auto.offset.reset=error` raises an error even while
//! it is paused) and is paused before anything of it is delivered; a revoked one is given to the
//! listener, and what that returns is committed within a deadline of our own; a lost one is only
//! reported. Only the partitions that are named are touched, so incremental rebalances work.
//! Not responsible for: draining (the listener), positions (whoever seeks).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, Consumer as _, ConsumerContext, Rebalance as RebalanceEvent,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset as KafkaOffset, TopicPartitionList};
use tracing::{debug, trace, warn};

use crate::broker::Rebalance;
use crate::model::{Offset, TopicPartition};

use super::assignment::Assignment;
use super::{commit, list, log_client_line};

/// How long a revoke waits for the broker to take the last offsets.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the callbacks share with the consumer that is being polled.
pub(super) struct Context {
    group: String,
    /// Hears of the assignment. Called by the polling thread only.
    listener: Mutex<Box<dyn Rebalance>>,
    assignment: Mutex<Assignment>,
    /// The consumer itself, for commits that may outlive a callback.
    consumer: OnceLock<Weak<BaseConsumer<Context>>>,
    /// What librdkafka said beside the code of its last error: which topic, which broker.
    reason: Mutex<Option<String>>,
    /// The consumer is being dropped. The listener only hears of what happens inside a poll: by
    /// now, whoever it would wait for may be waiting for this.
    leaving: AtomicBool,
}

impl Context {
    pub(super) fn new(group: &str, listener: Box<dyn Rebalance>) -> Self {
        Self {
            group: group.to_owned(),
            listener: Mutex::new(listener),
            assignment: Mutex::new(Assignment::default()),
            consumer: OnceLock::new(),
            reason: Mutex::new(None),
            leaving: AtomicBool::new(false),
        }
    }

    /// Makes the consumer known to its own callbacks.
    pub(super) fn attach(&self, consumer: &Arc<BaseConsumer<Self>>) {
        self.consumer.get_or_init(|| Arc::downgrade(consumer));
    }

    /// The consumer group.
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// What may be delivered at present.
    pub(super) fn assignment(&self) -> MutexGuard<'_, Assignment> {
        lock(&self.assignment)
    }

    /// What librdkafka said beside the code of the error that was just returned.
    pub(super) fn take_reason(&self) -> Option<String> {
        lock(&self.reason).take()
    }

    /// From now on the listener hears nothing more.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    fn take_over(&self, consumer: &BaseConsumer<Self>, named: &TopicPartitionList) {
        let partitions = list::partitions(named);
        if partitions.is_empty() || self.is_leaving() {
            return;
        }
        self.assignment().add(&partitions);
        if let Err(error) = consumer.pause(named) {
            // Nothing is lost: records are withheld until the position is set, pause or not.
            warn!(group = self.group(), %error, "assigned partitions could not be paused");
        }
        debug!(group = self.group(), partitions = partitions.len(), "partitions assigned");
        lock(&self.listener).assigned(&partitions);
    }

    fn release(&self, consumer: &BaseConsumer<Self>, named: &TopicPartitionList) {
        let partitions = list::partitions(named);
        if partitions.is_empty() {
            return;
        }
        self.assignment().remove(&partitions);
        if self.is_leaving() {
            return;
        }
        if consumer.assignment_lost() {
            warn!(group = self.group(), partitions = partitions.len(), "partitions lost");
            lock(&self.listener).lost(&partitions);
            return;
        }
        let offsets = lock(&self.listener).revoked(&partitions);
        debug!(group = self.group(), partitions = partitions.len(), "partitions revoked");
        if !offsets.is_empty() {
            self.commit_before_release(&offsets);
        }
    }

    /// Without this commit the records are processed once more, so a failure is no reason to stay.
    fn commit_before_release(&self, offsets: &[(TopicPartition, Offset)]) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else { return };
        let committed = list::of_offsets(offsets)
            .and_then(|offsets| commit::within(COMMIT_TIMEOUT, consumer, offsets));
        if let Err(error) = committed {
            warn!(group = self.group(), %error, "last offsets of revoked partitions not committed");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_client_line(level, facility, text);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        trace!(group = self.group(), bytes = statistics.len(), "statistics of the kafka client");
    }

    /// The error itself is returned by the poll that brought it.
    fn error(&self, _error: KafkaError, reason: &str) {
        *lock(&self.reason) = Some(reason.to_owned());
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, event: &RebalanceEvent<'_>) {
        match event {
            RebalanceEvent::Assign(named) => {
                for mut entry in named.elements() {
                    if let Err(error) = entry.set_offset(KafkaOffset::Beginning) {
                        warn!(group = self.group(), %error, "no start offset set");
                    }
                }
            }
            RebalanceEvent::Revoke(named) => self.release(consumer, named),
            RebalanceEvent::Error(error) => {
                warn!(group = self.group(), %error, "rebalance failed");
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, event: &RebalanceEvent<'_>) {
        if let RebalanceEvent::Assign(named) = event {
            self.take_over(consumer, named);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                warn!(group = self.group(), %error, "offsets not committed, the next commit will");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
