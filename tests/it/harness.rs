//! What the tests of whole processes share: the broker, a running `tidemill`, waiting.
//!
//! Responsible for: starting and ending processes, producing and reading records around them.
//! Not responsible for: what is expected of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidemill::broker::kafka::{KafkaBroker, KafkaConfig, Security};
use tidemill::broker::{
    Broker, BrokerError, Consumer, ConsumerConfig, Polled, Producer, ProducerRecord, QueueFull,
    Rebalance, TopicSpec,
};
use tidemill::model::{LogRecord, Offset, Topic, TopicPartition};

/// How long anything here may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Address of the test broker.
///
/// # Panics
/// Without one: the test cannot prove anything.
pub fn bootstrap() -> String {
    std::env::var("TIDEMILL_TEST_KAFKA").expect(
        "TIDEMILL_TEST_KAFKA is not set: run the tests through scripts/test, which starts Kafka",
    )
}

/// The test broker.
pub fn kafka() -> Arc<KafkaBroker> {
    kafka_at(bootstrap())
}

/// A broker.
pub fn kafka_at(bootstrap: String) -> Arc<KafkaBroker> {
    let (properties, security) = (BTreeMap::new(), Security::default());
    let config = KafkaConfig { bootstrap, properties, security };
    KafkaBroker::new(config).expect("a client for the broker")
}

/// A name that no other test or run uses.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// Waits until `condition` gives a value.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, condition)
}

/// Waits until `condition` gives a value.
///
/// # Panics
/// After `patience`, naming what was waited for.
pub fn wait_within<T>(patience: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    await_within(patience, condition).unwrap_or_else(|| panic!("waited {patience:?} for {what}"))
}

/// The value that `condition` gives, or `None` if it gives none within `patience`.
pub fn await_within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A port of this machine that nobody listens on, below the range from which the kernel takes
/// ports for outgoing connections.
pub fn free_port() -> u16 {
    loop {
        let port = 20_000 + (uuid::Uuid::new_v4().as_u128() % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Makes a topic of so many partitions.
pub fn create_topic(broker: &dyn Broker, name: &str, partitions: i32) -> Topic {
    let topic = Topic::from(name);
    let spec =
        TopicSpec { name: topic.clone(), partitions: Some(partitions), settings: BTreeMap::new() };
    broker.admin().expect("an admin client").ensure(&[spec]).expect("the topic is made");
    topic
}

/// What the broker refused.
pub type Refused = Arc<Mutex<Vec<BrokerError>>>;

/// Hands a record to the producer, for as long as it is full.
pub fn send(producer: &dyn Producer, record: ProducerRecord, refused: &Refused) {
    let refused = refused.clone();
    let mut next = record;
    let mut delivery: tidemill::broker::Delivery = Box::new(move |result| {
        if let Err(error) = result {
            refused.lock().unwrap().push(error);
        }
    });
    while let Err(QueueFull(record, back)) = producer.send(next, delivery) {
        (next, delivery) = (record, back);
        std::thread::yield_now();
    }
}

/// Produces all records and waits for their acks.
pub fn produce(broker: &dyn Broker, records: impl IntoIterator<Item = ProducerRecord>) {
    let producer = broker.producer().expect("a producer");
    let refused = Refused::default();
    records.into_iter().for_each(|record| send(&*producer, record, &refused));
    assert!(producer.flush(PATIENCE), "everything is acked in time");
    assert!(refused.lock().unwrap().is_empty(), "{:?}", refused.lock().unwrap());
}

/// Hears of its assignment and does nothing about it.
pub struct Deaf;

impl Rebalance for Deaf {
    fn assigned(&mut self, _: &[TopicPartition]) {}

    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        Vec::new()
    }

    fn lost(&mut self, _: &[TopicPartition]) {}
}

struct Assigned(Arc<Mutex<Vec<TopicPartition>>>);

impl Rebalance for Assigned {
    fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().extend_from_slice(partitions);
    }

    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<(TopicPartition, Offset)> {
        Vec::new()
    }

    fn lost(&mut self, _: &[TopicPartition]) {}
}

/// Reads a topic from its beginning, under a group of its own.
pub struct Reader {
    topic: Topic,
    consumer: Box<dyn Consumer>,
    assigned: Arc<Mutex<Vec<TopicPartition>>>,
    /// Everything read so far.
    pub records: Vec<(TopicPartition, LogRecord)>,
}

impl Reader {
    /// A reader of `topic`.
    pub fn new(broker: &dyn Broker, topic: &Topic) -> Self {
        let assigned = Arc::new(Mutex::new(Vec::new()));
        let config = ConsumerConfig::new(unique("reader"), vec![topic.clone()]);
        let consumer =
            broker.consumer(&config, Box::new(Assigned(assigned.clone()))).expect("a consumer");
        Self { topic: topic.clone(), consumer, assigned, records: Vec::new() }
    }

    /// Reads on until `enough` says so.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn read_until(
        &mut self,
        what: &str,
        enough: impl Fn(&[(TopicPartition, LogRecord)]) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !enough(&self.records) {
            assert!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} for {what}, read {} records",
                self.records.len()
            );
            self.poll(Duration::from_millis(50));
        }
    }

    /// Reads everything that the topic holds now.
    ///
    /// # Panics
    /// When nothing comes for [`PATIENCE`].
    pub fn read_all(&mut self, broker: &dyn Broker) {
        let admin = broker.admin().expect("an admin client");
        let described = admin.describe(Some(std::slice::from_ref(&self.topic)));
        let partitions = described.expect("the topic")[0].partitions;
        let positions = self.consumer.positions();
        let held: i64 = (0..partitions)
            .map(|number| {
                let partition = TopicPartition::new(self.topic.clone(), number);
                let (earliest, end) = positions.watermarks(&partition).expect("watermarks");
                end.0 - earliest.0
            })
            .sum();
        let mut last = Instant::now();
        while (self.records.len() as i64) < held {
            if self.poll(Duration::from_millis(50)) {
                last = Instant::now();
            }
            let (read, topic) = (self.records.len(), &self.topic);
            assert!(last.elapsed() < PATIENCE, "read {read} of {held} records of {topic}");
        }
    }

    /// Reads whatever comes until nothing has come for `quiet`.
    pub fn read_until_quiet(&mut self, quiet: Duration) {
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            if self.poll(Duration::from_millis(50)) {
                last = Instant::now();
            }
        }
    }

    fn poll(&mut self, wait: Duration) -> bool {
        for partition in std::mem::take(&mut *self.assigned.lock().unwrap()) {
            let positions = self.consumer.positions();
            let (earliest, _) = positions.watermarks(&partition).expect("watermarks");
            self.consumer.seek(&[(partition.clone(), earliest)]).expect("seek");
            self.consumer.resume(std::slice::from_ref(&partition)).expect("resume");
        }
        match self.consumer.poll(wait).expect("poll") {
            Polled::Record(partition, record) => {
                self.records.push((partition, record));
                true
            }
            Polled::Idle => false,
        }
    }

    /// The values read so far, as text.
    pub fn values(&self) -> Vec<String> {
        let values = self.records.iter().map(|(_, record)| record.value.clone());
        values.map(|value| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()).collect()
    }
}

/// A running `tidemill`.
pub struct Tidemill {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Reads its standard error to the end.
    listening: Option<JoinHandle<()>>,
}

impl Tidemill {
    /// Starts the binary that was built with these tests.
    pub fn start(arguments: &[&str], directory: &Path) -> Self {
        Self::start_with(arguments, directory, &[])
    }

    /// The same, with further variables in its environment.
    pub fn start_with(
        arguments: &[&str],
        directory: &Path,
        environment: &[(String, String)],
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(arguments)
            // Many run at once: each takes a free port.
            .env("TIDEMILL_API_LISTEN", "127.0.0.1:0")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        let written = log.clone();
        let listening = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, listening: Some(listening) }
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until its log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// Sends a signal by name, as `kill` takes it.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its status")
    }

    /// The most memory that it has had at any time, in bytes; `None` once it has ended.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// Whether all of its threads are stopped.
    pub fn is_frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        // The name of the program is in parentheses and may hold anything; its state follows.
        let state = stat.ok().and_then(|stat| Some(stat.rsplit_once(") ")?.1.chars().next()));
        state.flatten() == Some('T')
    }

    /// Waits for its end; returns everything it has logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("the process to end", || self.ended());
        if let Some(listening) = self.listening.take() {
            listening.join().expect("its last lines");
        }
        (status, self.log())
    }
}

impl Drop for Tidemill {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the process:\n{}", self.log());
        }
    }
}
