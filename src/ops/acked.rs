//! Producing something and knowing that it is there.
//!
//! Responsible for: waiting for the broker's ack, for as long as a person has patience.
//! Not responsible for: what is produced.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use crate::broker::{BrokerError, Delivery, Producer, ProducerRecord, QueueFull};
use crate::model::{Offset, TopicPartition};
use crate::ops::OpsError;

/// How long a person waits for an ack. The producer itself tries without end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a full producer is left alone before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(50);

/// Produces a record; resolves to where it lies.
pub(super) async fn one(
    producer: &dyn Producer,
    record: ProducerRecord,
) -> Result<(TopicPartition, Offset), OpsError> {
    let topic = record.topic.clone();
    match tokio::time::timeout(PATIENCE, acked(producer, record)).await {
        Ok(place) => Ok(place?),
        Err(_) => Err(OpsError::Broker(BrokerError::Unavailable(format!(
            "a record for topic {topic} was not acknowledged within {PATIENCE:?}: it may still \
             get there, so look before asking again"
        )))),
    }
}

/// Produces records in this order, and waits until each is acked.
pub(super) async fn all(
    producer: &dyn Producer,
    records: Vec<ProducerRecord>,
) -> Result<(), OpsError> {
    try_join_all(records.into_iter().map(|record| one(producer, record))).await?;
    Ok(())
}

async fn acked(
    producer: &dyn Producer,
    mut record: ProducerRecord,
) -> Result<(TopicPartition, Offset), BrokerError> {
    let (answer, answered) = oneshot::channel();
    let mut delivery: Delivery = Box::new(move |result| {
        // Nobody waits any more if whoever asked ran out of patience.
        let _ = answer.send(result);
    });
    while let Err(QueueFull(back, again)) = producer.send(record, delivery) {
        (record, delivery) = (back, again);
        tokio::time::sleep(FULL_WAIT).await;
    }
    match answered.await {
        Ok(result) => result,
        Err(_) => Err(BrokerError::Unavailable("the producer ended without an answer".to_owned())),
    }
}
