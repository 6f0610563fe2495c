//! Deliveries to Kafka.
//!
//! Responsible for: the form of a message, and waiting for the broker's ack.
//! Not responsible for: an outage: the producer keeps the message, and the delivery stays on its
//! way for as long as that takes.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::broker::{Delivery, Producer, ProducerRecord, QueueFull};
use crate::model::Topic;
use crate::state::OutboxRow;

/// How long a full producer is left alone before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(50);

/// Produces a message; resolves once the broker has acked or refused it.
pub(super) async fn produce(
    producer: &dyn Producer,
    row: &OutboxRow,
    topic: &str,
    key: Option<&str>,
    payload: &Value,
) -> Result<(), String> {
    let (answer, acked) = oneshot::channel();
    let mut record = message(row, topic, key, payload);
    let mut delivery: Delivery = Box::new(move |result| {
        // Nobody waits any more if the dispatcher has ended: the row is due again later.
        let _ = answer.send(result.map(|_| ()));
    });
    while let Err(QueueFull(back, again)) = producer.send(record, delivery) {
        (record, delivery) = (back, again);
        tokio::time::sleep(FULL_WAIT).await;
    }
    match acked.await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the producer ended without an answer".to_owned()),
    }
}

fn message(row: &OutboxRow, topic: &str, key: Option<&str>, payload: &Value) -> ProducerRecord {
    let mut record = ProducerRecord::new(Topic::from(topic), payload.to_string());
    record.key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    record.headers = vec![
        ("Idempotency-Key".to_owned(), Bytes::from(row.idempotency_key.to_string())),
        ("tidemill-manifest".to_owned(), Bytes::from(row.manifest.to_string())),
        ("tidemill-revision".to_owned(), Bytes::from(row.revision.to_string())),
    ];
    record
}
