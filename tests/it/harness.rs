//! What the tests of whole processes share: the broker, a running `tidemill`, waiting.
//!
//! Responsible for: starting and ending processes, producing and reading records around them.
//! Not responsible for: what is expected of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::broker::kafka::{KafkaBroker, KafkaConfig};
use tidemill::broker::{
    Broker, Consumer, ConsumerConfig, Polled, ProducerRecord, QueueFull, Rebalance, TopicSpec,
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
    let config = KafkaConfig { bootstrap: bootstrap(), properties: BTreeMap::new() };
    KafkaBroker::new(config).expect("a client for the test broker")
}

/// A name that no other test or run uses.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// Waits until `condition` gives a value.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
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

/// Produces all records and waits for their acks.
pub fn produce(broker: &dyn Broker, records: impl IntoIterator<Item = ProducerRecord>) {
    let producer = broker.producer().expect("a producer");
    let failed = Arc::new(Mutex::new(Vec::new()));
    for record in records {
        let failed = failed.clone();
        let mut next = record;
        let mut delivery: tidemill::broker::Delivery = Box::new(move |result| {
            if let Err(error) = result {
                failed.lock().unwrap().push(error);
            }
        });
        while let Err(QueueFull(record, back)) = producer.send(next, delivery) {
            (next, delivery) = (record, back);
            std::thread::yield_now();
        }
    }
    assert!(producer.flush(PATIENCE), "everything is acked in time");
    assert!(failed.lock().unwrap().is_empty(), "{:?}", failed.lock().unwrap());
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
        Self { consumer, assigned, records: Vec::new() }
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
}

impl Tidemill {
    /// Starts the binary that was built with these tests.
    pub fn start(arguments: &[&str], directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        let written = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
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

    /// Waits for its end.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("the process to end", || self.child.try_wait().expect("its status"));
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
