//! Commits that are waited for, but not for ever.
//!
//! Responsible for: a deadline of our own around librdkafka's synchronous commit, which has none
//! and waits for as long as the group's coordinator is away.
//! Not responsible for: which offsets may be committed.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};

use crate::broker::BrokerError;

use super::fault;
use super::rebalance::Context;

/// Commits `offsets` and waits for the answer, at most for `timeout`. Past that the commit may
/// still succeed; its thread ends with the answer and until then keeps the consumer alive.
pub(super) fn within(
    timeout: Duration,
    consumer: Arc<BaseConsumer<Context>>,
    offsets: TopicPartitionList,
) -> Result<(), BrokerError> {
    let tried = format!("committing offsets of group {}", consumer.context().group());
    let (answer, answered) = sync_channel(1);
    let commit = move || {
        let result = consumer.commit(&offsets, CommitMode::Sync);
        drop(consumer);
        // An error means that the deadline has passed and nobody listens any more.
        let _ = answer.send(result);
    };
    thread::Builder::new()
        .name("kafka-commit".to_owned())
        .spawn(commit)
        .map_err(|error| BrokerError::Unavailable(format!("{tried}: no thread: {error}")))?;
    match answered.recv_timeout(timeout) {
        Ok(result) => result.map_err(|error| fault::general(&tried, &error)),
        Err(_) => Err(BrokerError::Unavailable(format!(
            "{tried}: the broker did not answer within {} s",
            timeout.as_secs()
        ))),
    }
}
