//! What all parts of a running pipeline share.
//!
//! Responsible for: opening the log, and the few objects that everything else is built with.
//! Not responsible for: building or running the parts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::broker::embedded::EmbeddedLog;
use crate::broker::kafka::{KafkaBroker, KafkaConfig};
use crate::broker::{Admin, Broker, BrokerError, Producer, TopicSpec};
use crate::config::Config;
use crate::engine::EngineError;
use crate::engine::observed::Observed;
use crate::model::{PipelineName, Topic};
use crate::progress::dead_letters::{DeadLetterLimit, DeadLetterLimits, RatioLimit};
use crate::progress::restart::{Backoff, RestartPolicy};
use crate::progress::retry::RetryPolicy;
use crate::runtime::clock::{SharedClock, SystemClock};
use crate::runtime::escalation::{Ending, Escalation};
use crate::runtime::supervisor::Child;
use crate::telemetry::Instruments;
use crate::topology::{BrokerSection, Topology};

/// Most bytes of headers that a dead letter adds to its source record.
const LETTER_ROOM: u64 = 64 << 10;
/// Largest record that Kafka takes unless it is told otherwise.
const LARGEST_RECORD: u64 = 1_048_588;

/// What all parts share.
#[derive(Clone)]
pub struct Context {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The settings.
    pub config: Arc<Config>,
    /// The log.
    pub broker: Arc<dyn Broker>,
    /// One producer for all.
    pub producer: Arc<dyn Producer>,
    /// Topics.
    pub admin: Arc<dyn Admin>,
    /// Time.
    pub clock: SharedClock,
    /// Counters.
    pub instruments: Arc<Instruments>,
    /// What metrics and health are read from.
    pub observed: Arc<Observed>,
    /// Where errors go that end the pipeline.
    pub escalation: Arc<Escalation>,
    /// Outcomes seen, against the limit of dead letters.
    pub dead_letter_limit: Arc<Mutex<DeadLetterLimit>>,
    /// Mints epochs.
    pub epochs: Arc<AtomicU64>,
}

impl Context {
    /// Opens the log that the topology names.
    pub async fn open(topology: &Topology, config: Config) -> Result<Self, EngineError> {
        let clock = SystemClock::shared();
        let (section, folder) = (topology.broker.clone(), config.data.dir.join("log"));
        let log_clock = clock.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let broker = open_log(section, &folder, log_clock)?;
            let (producer, admin) = (broker.producer()?, broker.admin()?);
            Ok::<_, BrokerError>((broker, producer, admin))
        });
        let (broker, producer, admin) =
            opened.await.map_err(EngineError::internal)?.map_err(EngineError::broker)?;
        let limit = DeadLetterLimit::new(limits(&config));
        let (instruments, time) = (Instruments::default(), clock.clone());
        instruments.unavailable.tell_time(Arc::new(move || time.unix_millis()));
        Ok(Self {
            pipeline: topology.name.clone(),
            config: Arc::new(config),
            broker,
            producer,
            admin,
            clock,
            instruments: Arc::new(instruments),
            observed: Arc::default(),
            escalation: Arc::default(),
            dead_letter_limit: Arc::new(Mutex::new(limit)),
            epochs: Arc::default(),
        })
    }

    /// The topic of the pipeline's dead letters.
    pub fn dead_letter_topic(&self) -> Topic {
        Topic::from(format!("{}{}", self.pipeline, self.config.dead_letters.topic_suffix))
    }

    /// Makes the topics that are missing and checks the others.
    pub async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<(), EngineError> {
        let admin = self.admin.clone();
        let ensured = tokio::task::spawn_blocking(move || admin.ensure(&topics)).await;
        ensured.map_err(EngineError::internal)?.map_err(EngineError::broker)
    }

    /// The topic of dead letters as it has to be. A letter keeps the time stamp of its source
    /// record, which may be old: a limit of time could remove it as soon as it is written.
    pub fn dead_letter_spec(&self) -> TopicSpec {
        let room = (LARGEST_RECORD + LETTER_ROOM).to_string();
        TopicSpec {
            name: self.dead_letter_topic(),
            partitions: None,
            settings: BTreeMap::from([
                ("max.message.bytes".to_owned(), room),
                ("retention.ms".to_owned(), "-1".to_owned()),
            ]),
        }
    }

    /// How often an actor may be restarted.
    pub fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy {
            max_restarts: self.config.restart.max,
            within: self.config.restart.within,
            ..RestartPolicy::default()
        }
    }

    /// What becomes of failures where a node says nothing of its own.
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy::default()
    }

    /// How look-ups of positions are spaced while the broker is away.
    pub fn backoff(&self) -> Backoff {
        self.restart_policy().backoff
    }

    /// Ends the pipeline if `child` dies for good.
    pub fn watch(&self, child: &Child) {
        use crate::runtime::supervisor::ChildEnd;
        let (escalation, child) = (self.escalation.clone(), child.clone());
        actix::spawn(async move {
            if let ChildEnd::Escalated { name, reason, restarts } = child.ended().await {
                let why =
                    format!("{name} was restarted {restarts} times and failed again: {reason}");
                escalation.raise(Ending::Internal, why);
            }
        });
    }
}

fn open_log(
    section: BrokerSection,
    folder: &std::path::Path,
    clock: SharedClock,
) -> Result<Arc<dyn Broker>, BrokerError> {
    match section.bootstrap {
        Some(bootstrap) => {
            let BrokerSection { properties, security, .. } = section;
            Ok(KafkaBroker::new(KafkaConfig { bootstrap, properties, security })?)
        }
        None => Ok(EmbeddedLog::open(folder, Arc::new(move || clock.unix_millis()))?),
    }
}

fn limits(config: &Config) -> DeadLetterLimits {
    let settings = &config.dead_letters;
    DeadLetterLimits {
        consecutive: (settings.max_consecutive > 0).then_some(settings.max_consecutive),
        ratio: (settings.max_ratio < 1.0)
            .then_some(RatioLimit { ratio: settings.max_ratio, sample: settings.min_sample }),
    }
}
