//! The Kafka sink.
//!
//! **Role** produces records and settles each when the broker has acked it.
//! **Owns** nothing but the batch it is working on; records in flight belong to the producer.
//! **Receives** batches of records from the stages that end in it.
//! **Sends** records to the producer, failed ones to the dead letters.
//! **On failure** it is rebuilt on the same inbox; a batch in its hands is abandoned and read
//! again.
//!
//! Responsible for: encoding (in the stage), and for backpressure while the producer is full.
//! Not responsible for: retries towards the broker, which the producer does without end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::{BrokerError, Producer, ProducerRecord, QueueFull};
use crate::expr::{Evaluator, Program, fields};
use crate::model::{Failure, FailureClass, Metadata, NodeName, Outcome, PipelineName};
use crate::model::{Record, SourceRef, Topic};
use crate::progress::obligation::{Obligation, Owed};
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::exit::Lifeline;
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::handover::Handover;
use crate::runtime::inbox::{Address, Inbox};
use crate::runtime::node::{Duties, Failed, ScopeId, Stopped, Writer};
use crate::sink::config::KafkaSink as KafkaSinkConfig;
use crate::telemetry::Instruments;

/// How long a full producer is left alone before it is asked again.
const FULL_WAIT: Duration = Duration::from_millis(50);

/// A record ready to be produced, and what a dead letter would need of it.
#[derive(Debug)]
pub struct Encoded {
    record: ProducerRecord,
    source: SourceRef,
    meta: Arc<Metadata>,
}

/// What the actor receives.
pub type EncodedBatch = Vec<Owed<Encoded>>;

/// The CPU half: turns records into what is produced.
pub struct KafkaWriter {
    topic: Topic,
    key: Option<Program>,
    value: Option<Program>,
    evaluator: Evaluator,
    sink: Address<EncodedBatch>,
    accepted: Vec<(Encoded, ScopeId)>,
    committed: Handover<Owed<Encoded>>,
}

impl KafkaWriter {
    /// A writer that hands over to the actor behind `sink`; `committed` is the lane's.
    pub fn new(
        config: &KafkaSinkConfig,
        pipeline: PipelineName,
        sink: Address<EncodedBatch>,
        committed: Handover<Owed<Encoded>>,
    ) -> Self {
        Self {
            topic: config.topic.clone(),
            key: config.key.clone(),
            value: config.value.clone(),
            evaluator: Evaluator::new(pipeline),
            sink,
            accepted: Vec::new(),
            committed,
        }
    }

    fn encode(&mut self, mut record: Record) -> Result<Encoded, Failure> {
        let key = match &self.key {
            None => record.key().cloned(),
            Some(program) => {
                let value = self.evaluator.run(program, &mut record)?;
                key_bytes(&value)
            }
        };
        let value = match &self.value {
            None => {
                fields::freeze(&mut record);
                fields::raw(&record)
            }
            Some(program) => {
                let value = self.evaluator.run(program, &mut record)?;
                Bytes::from(fields::to_json(&value))
            }
        };
        let produced = ProducerRecord {
            topic: self.topic.clone(),
            partition: None,
            key,
            value: Some(value),
            headers: record.source.record().headers.clone(),
            timestamp: record.source.record().timestamp,
        };
        Ok(Encoded { record: produced, source: record.source, meta: record.meta })
    }
}

/// A key is text as it stands, and anything else as JSON; null is no key.
fn key_bytes(value: &vrl::value::Value) -> Option<Bytes> {
    if value.is_null() {
        return None;
    }
    Some(value.as_bytes().cloned().unwrap_or_else(|| Bytes::from(fields::to_json(value))))
}

impl Writer for KafkaWriter {
    fn accept(&mut self, record: Record, scope: ScopeId) -> Result<(), Failure> {
        let encoded = self.encode(record)?;
        self.accepted.push((encoded, scope));
        Ok(())
    }

    fn commit(&mut self, duties: &Duties) {
        self.committed.extend(
            self.accepted.drain(..).map(|(encoded, scope)| Owed::new(encoded, duties.part(scope))),
        );
    }

    fn abort(&mut self) {
        self.accepted.clear();
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let batch = self.committed.take();
        if batch.is_empty() {
            return Ok(());
        }
        self.sink.blocking_send(batch).map_err(|_| Stopped)
    }
}

/// What deliveries report back; they run on the producer's thread and must not wait.
struct Deliveries {
    /// Records that the broker refused, on their way to the dead letters.
    refused: Mutex<Vec<Failed>>,
    /// Signalled at each delivery: there is room in the producer.
    room: Notify,
    /// Signalled when something was refused.
    refusal: Notify,
    node: NodeName,
    escalation: Arc<Escalation>,
    instruments: Arc<Instruments>,
}

impl Deliveries {
    fn delivered(&self, duty: Obligation) {
        crash_point(Point::SinkAcked);
        self.instruments.records_out.add(1);
        duty.settle(Outcome::Delivered);
        self.room.notify_one();
    }

    fn refused(&self, error: BrokerError, owed: Owed<(SourceRef, Arc<Metadata>)>) {
        let Owed { value: (source, meta), duty } = owed;
        let class = match &error {
            BrokerError::TooLarge { .. } => FailureClass::TOO_LARGE,
            BrokerError::Unavailable(_) => {
                // The producer was closed over it: whoever comes next reads the record again.
                drop(duty);
                return;
            }
            BrokerError::UnknownTopic(_) | BrokerError::Fatal(_) => {
                let why = format!("sink {} cannot produce: {error}", self.node);
                self.escalation.raise(Ending::Dependency, why);
                drop(duty);
                return;
            }
            _ => FailureClass::REJECTED,
        };
        let failure = Failure::poison(class, error.to_string());
        let failed = Failed { source, meta, node: self.node.clone(), failure, attempts: 1, duty };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        self.room.notify_one();
        self.refusal.notify_one();
    }

    fn take_refused(&self) -> Vec<Failed> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the actor needs; the same for every incarnation.
#[derive(Clone)]
pub struct KafkaSinkContext {
    producer: Arc<dyn Producer>,
    failures: Address<Failed>,
    deliveries: Arc<Deliveries>,
}

impl KafkaSinkContext {
    /// For the sink `node`.
    pub fn new(
        node: NodeName,
        producer: Arc<dyn Producer>,
        failures: Address<Failed>,
        escalation: Arc<Escalation>,
        instruments: Arc<Instruments>,
    ) -> Self {
        let deliveries = Arc::new(Deliveries {
            refused: Mutex::default(),
            room: Notify::new(),
            refusal: Notify::new(),
            node,
            escalation,
            instruments,
        });
        Self { producer, failures, deliveries }
    }

    async fn produce(self, batch: EncodedBatch) {
        for Owed { value: Encoded { record, source, meta }, duty } in batch {
            crash_point(Point::SinkSend);
            let deliveries = self.deliveries.clone();
            let about = (source, meta);
            let mut waiting = record;
            let mut delivery: crate::broker::Delivery = Box::new(move |result| match result {
                Ok(_) => deliveries.delivered(duty),
                Err(error) => deliveries.refused(error, Owed::new(about, duty)),
            });
            while let Err(QueueFull(record, back)) = self.producer.send(waiting, delivery) {
                (waiting, delivery) = (record, back);
                // The producer is shared: it may be full of somebody else's records, of whose
                // deliveries nobody tells this sink.
                let _ = tokio::time::timeout(FULL_WAIT, self.deliveries.room.notified()).await;
            }
        }
    }

    async fn forward_refused(&self) {
        for failed in self.deliveries.take_refused() {
            // Closed means that the pipeline is stopping: the record is abandoned with it.
            let _ = self.failures.send(failed).await;
        }
    }
}

/// The actor.
pub struct KafkaSink {
    /// Shared by all incarnations, so that late deliveries find their way.
    context: KafkaSinkContext,
    /// Filled by the stages.
    batches: Inbox<EncodedBatch>,
    /// Tells the supervisor how this incarnation ended.
    _lifeline: Lifeline,
}

impl KafkaSink {
    /// An incarnation that reads from `batches`.
    pub fn new(
        context: KafkaSinkContext,
        batches: Inbox<EncodedBatch>,
        lifeline: Lifeline,
    ) -> Self {
        Self { context, batches, _lifeline: lifeline }
    }
}

impl Actor for KafkaSink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.batches.attach::<Self>(ctx);
        let context = self.context.clone();
        let forwarding = async move {
            loop {
                context.deliveries.refusal.notified().await;
                context.forward_refused().await;
            }
        };
        ctx.spawn(forwarding.into_actor(self));
    }
}

impl StreamHandler<EncodedBatch> for KafkaSink {
    fn handle(&mut self, batch: EncodedBatch, ctx: &mut Self::Context) {
        // Waiting here is the backpressure: the next batch stays in the inbox meanwhile.
        ctx.wait(self.context.clone().produce(batch).into_actor(self));
    }
}
