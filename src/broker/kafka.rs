//! A Kafka cluster as the log, through librdkafka (crate `rdkafka`).
//!
//! Responsible for: the traits of [`crate::broker`] on a real cluster. One `BaseConsumer` per
//! [`Consumer`], polled by the caller's thread: `StreamConsumer` and split partition queues have
//! stalls that nobody notices (rust-rdkafka #665, #840). Positions are always given by the
//! caller, never by `auto.offset.reset`: a new assignment starts at an explicit beginning and
//! paused, nothing of it is delivered, and the caller seeks and resumes. One idempotent producer
//! for all who ask.
//! Not responsible for: which offsets are right, backpressure, retries.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | what librdkafka is told, and which properties a user may add |
//! | `security` | login and TLS |
//! | `refusals` | why brokers do not let us in |
//! | `fault` | librdkafka's errors as [`BrokerError`] |
//! | `list` | partitions and offsets in librdkafka's form |
//! | `assignment` | which records of an assignment may be delivered; pure |
//! | `rebalance` | callbacks of the consumer |
//! | `arena` | records copied out of librdkafka |
//! | `commit` | commits with a deadline |
//! | `limits` | topics that take small batches only |
//! | `consumer`, `positions`, `producer`, `reader`, `admin` | the traits |

mod admin;
mod arena;
mod assignment;
mod commit;
mod consumer;
mod fault;
mod limits;
mod list;
mod positions;
mod producer;
mod reader;
mod rebalance;
mod refusals;
mod security;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rdkafka::config::RDKafkaLogLevel;
use tracing::{debug, trace, warn};

use crate::broker::{
    Admin, Broker, BrokerError, Consumer, ConsumerConfig, LogReader, Producer, Rebalance,
};

use self::admin::KafkaAdmin;
use self::consumer::KafkaConsumer;
use self::limits::Limits;
use self::producer::KafkaProducer;
use self::reader::KafkaReader;
use self::refusals::Refusals;

pub use self::security::{Certificate, Login, Mechanism, Security, Tls};

/// How to reach a cluster.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Where to ask for the cluster first: `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Further settings under librdkafka's names (`client.rack`, `socket.timeout.ms`). Those that
    /// the engine's promises rest on are refused, and those about login and TLS. Values are never
    /// shown.
    pub properties: BTreeMap<String, String>,
    /// Login and TLS.
    pub security: Security,
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("KafkaConfig")
            .field("bootstrap", &self.bootstrap)
            .field("properties", &names)
            .field("security", &self.security)
            .finish()
    }
}

/// A Kafka cluster.
#[derive(Debug)]
pub struct KafkaBroker {
    config: KafkaConfig,
    /// Learned where topics are ensured, heeded where records are produced.
    limits: Arc<Limits>,
    /// Learned by the producer, told by the admin client.
    refusals: Arc<Refusals>,
    /// The producer that everybody shares, for as long as anybody has it.
    producer: Mutex<Weak<KafkaProducer>>,
}

impl KafkaBroker {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`BrokerError::Fatal`] names the property that is unknown, malformed or set by the engine,
    /// or what needs a build with `--features kafka-tls`.
    pub fn new(config: KafkaConfig) -> Result<Arc<Self>, BrokerError> {
        settings::check(&config, cfg!(feature = "kafka-tls"))?;
        let limits = Arc::new(Limits::new(settings::usual_batch(&config)));
        let (refusals, producer) = (Arc::default(), Mutex::new(Weak::new()));
        Ok(Arc::new(Self { config, limits, refusals, producer }))
    }
}

impl Broker for KafkaBroker {
    fn consumer(
        &self,
        config: &ConsumerConfig,
        rebalance: Box<dyn Rebalance>,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        Ok(Box::new(KafkaConsumer::new(&self.config, config, rebalance)?))
    }

    fn producer(&self) -> Result<Arc<dyn Producer>, BrokerError> {
        let mut shared = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = shared.upgrade().filter(|producer| !producer.is_dead()) {
            return Ok(producer);
        }
        let producer = KafkaProducer::new(&self.config, &self.limits, &self.refusals)?;
        let producer = Arc::new(producer);
        *shared = Arc::downgrade(&producer);
        Ok(producer)
    }

    fn admin(&self) -> Result<Arc<dyn Admin>, BrokerError> {
        Ok(Arc::new(KafkaAdmin::new(&self.config, &self.limits, &self.refusals)?))
    }

    fn reader(&self) -> Result<Box<dyn LogReader>, BrokerError> {
        Ok(Box::new(KafkaReader::new(&self.config)?))
    }
}

/// Passes a line of librdkafka's log on. What it calls an error (a broker that cannot be reached)
/// it recovers from by itself, so nothing here is more than a warning.
fn log_client_line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            warn!(target: "librdkafka", facility, detail = text, "message of the kafka client");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            debug!(target: "librdkafka", facility, detail = text, "message of the kafka client");
        }
        RDKafkaLogLevel::Debug => {
            trace!(target: "librdkafka", facility, detail = text, "message of the kafka client");
        }
    }
}
