//! The one thread that writes records and committed offsets.
//!
//! Responsible for: group commits (everything that waits, up to a cap, in one transaction with one
//! fsync), choosing partitions, giving offsets, calling deliveries in the order of sending, and
//! trying again while the disk is full or the file is busy. A record waits; it is never dropped.
//! Records without a key go to one partition until a batch of Kafka's default size is full, then
//! to the next (KIP-480).
//! Not responsible for: room in the queue (`queue`), topics (`admin`), removing records
//! (`retention`).

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::broker::embedded::queue::{Commits, Queued, Work};
use crate::broker::embedded::settings::Settings;
use crate::broker::embedded::state::{Shared, State, closed, locked};
use crate::broker::embedded::{admin, database, headers, retention, settings};
use crate::broker::{BrokerError, ProducerRecord, partitioner};
use crate::model::{Offset, Partition, Topic, TopicPartition};

/// How often an idle writer looks whether retention is due.
const TICK: Duration = Duration::from_secs(1);
/// Bytes without a key that go to one partition in a row.
const STICKY_BYTES: usize = 16 << 10;
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

type Outcome = Result<(TopicPartition, Offset), BrokerError>;

/// Where a record goes.
struct Place {
    topic: i64,
    part: i32,
    offset: Offset,
}

/// A partition that a batch appends to.
struct Tail {
    name: Topic,
    next: Offset,
    /// Bytes that the batch adds.
    bytes: i64,
}

/// Where the records of a batch go, in the order of sending.
#[derive(Default)]
struct Plan {
    places: Vec<Result<Place, BrokerError>>,
    tails: HashMap<(i64, i32), Tail>,
}

#[derive(Default)]
struct Sticky {
    part: i32,
    bytes: usize,
}

struct Writer {
    shared: Arc<Shared>,
    /// Where records without a key go at the moment.
    sticky: HashMap<Topic, Sticky>,
    retention: retention::Schedule,
}

/// Starts the thread; it ends after the log is closed.
pub(super) fn start(shared: Arc<Shared>) -> Result<JoinHandle<()>, BrokerError> {
    let retention = retention::Schedule::starting(shared.now());
    let writer = Writer { shared, sticky: HashMap::new(), retention };
    std::thread::Builder::new().name("embedded-log".to_owned()).spawn(move || writer.run()).map_err(
        |error| BrokerError::Fatal(format!("the embedded log could not start its thread: {error}")),
    )
}

impl Writer {
    fn run(mut self) {
        while let Some(work) = self.shared.queue.take(TICK) {
            if !work.is_empty() {
                self.write(work);
            }
            self.retention.run_if_due(&self.shared);
        }
        let abandoned = self.shared.queue.abandoned();
        let outcomes = refuse(&abandoned, &closed());
        self.deliver(abandoned, outcomes);
    }

    /// Tries until the records are written, the log is closed, or trying makes no sense.
    fn write(&mut self, mut work: Work) {
        let mut delay = FIRST_BACK_OFF;
        let mut failed_before = false;
        loop {
            let result = self.attempt(&work.records, &work.commits);
            self.answer(&mut work, &result);
            let error = match result {
                Ok(outcomes) => {
                    if failed_before {
                        tracing::info!("embedded log writes again");
                    }
                    return self.deliver(work.records, outcomes);
                }
                Err(error) => error,
            };
            if !failed_before {
                tracing::warn!(%error, records = work.records.len(), "embedded log cannot write");
            }
            failed_before = true;
            let hopeless = !error.is_transient() || work.records.is_empty();
            if hopeless || self.shared.queue.back_off(delay) {
                let outcomes = refuse(&work.records, &error);
                return self.deliver(work.records, outcomes);
            }
            delay = (delay * 2).min(LONGEST_BACK_OFF);
            self.shared.queue.take_commits(&mut work);
        }
    }

    /// Only records wait for better times: whoever commits an offset is told at once, and a later
    /// commit makes good for it.
    fn answer(&self, work: &mut Work, result: &Result<Vec<Outcome>, BrokerError>) {
        self.shared.queue.commits_done();
        work.commits.clear();
        for answer in work.answers.drain(..) {
            let result = result.as_ref().map(|_| ()).map_err(BrokerError::clone);
            // Whoever asked may have stopped waiting.
            drop(answer.send(result));
        }
    }

    fn deliver(&self, records: Vec<Queued>, outcomes: Vec<Outcome>) {
        let count = records.len();
        let bytes = records.iter().map(|queued| queued.size).sum::<usize>();
        for (queued, outcome) in records.into_iter().zip(outcomes) {
            let call = AssertUnwindSafe(|| (queued.delivery)(outcome));
            if catch_unwind(call).is_err() {
                tracing::error!("a delivery callback of the embedded log panicked");
            }
        }
        self.shared.queue.delivered(count, bytes);
    }

    fn attempt(
        &mut self,
        records: &[Queued],
        commits: &Commits,
    ) -> Result<Vec<Outcome>, BrokerError> {
        if records.is_empty() && commits.is_empty() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.shared);
        let mut connection = locked(&shared.writing);
        create_missing_topics(&shared, &mut connection, records)?;
        let (plan, commits) = {
            let state = shared.state();
            (self.plan(&state, records), numbered(&state, commits))
        };
        store(&mut connection, records, &plan, &commits)
            .map_err(|error| database::failed("write", &error))?;
        shared.publish(|state| {
            for ((_, part), tail) in &plan.tails {
                state.move_head(&tail.name, *part, |head| head.end = tail.next);
            }
        });
        drop(connection);
        let outcome = |(queued, place): (&Queued, Result<Place, BrokerError>)| -> Outcome {
            let place = place?;
            let topic = queued.record.topic.clone();
            Ok((TopicPartition { topic, partition: Partition(place.part) }, place.offset))
        };
        Ok(records.iter().zip(plan.places).map(outcome).collect())
    }

    fn plan(&mut self, state: &State, records: &[Queued]) -> Plan {
        let mut plan = Plan::default();
        plan.places.reserve(records.len());
        for queued in records {
            let place = self.place(state, &mut plan.tails, queued);
            plan.places.push(place);
        }
        plan
    }

    fn place(
        &mut self,
        state: &State,
        tails: &mut HashMap<(i64, i32), Tail>,
        queued: &Queued,
    ) -> Result<Place, BrokerError> {
        if let Some(error) = &queued.refused {
            return Err(error.clone());
        }
        let name = &queued.record.topic;
        let Some(topic) = state.topics.get(name) else {
            settings::check_name(name)?;
            return Err(BrokerError::UnknownTopic(name.clone()));
        };
        if queued.size > topic.settings.max_message_bytes {
            let why = format!("max.message.bytes is {}", topic.settings.max_message_bytes);
            return Err(BrokerError::TooLarge { topic: name.clone(), size: queued.size, why });
        }
        let part = self.partition(&queued.record, queued.size, topic.heads.len() as i32);
        let head = usize::try_from(part).ok().and_then(|index| topic.heads.get(index));
        let Some(head) = head else { return Err(BrokerError::UnknownTopic(name.clone())) };
        let tail = tails.entry((topic.id, part)).or_insert_with(|| Tail {
            name: name.clone(),
            next: head.end,
            bytes: 0,
        });
        let offset = tail.next;
        tail.next = offset.after();
        tail.bytes += queued.size as i64;
        Ok(Place { topic: topic.id, part, offset })
    }

    fn partition(&mut self, record: &ProducerRecord, size: usize, partitions: i32) -> i32 {
        if let Some(part) = record.partition {
            return part;
        }
        if let Some(key) = &record.key {
            return partitioner::partition_of(key, partitions);
        }
        let sticky = self.sticky.entry(record.topic.clone()).or_default();
        let part = sticky.part % partitions;
        sticky.bytes += size;
        if sticky.bytes >= STICKY_BYTES {
            *sticky = Sticky { part: (part + 1) % partitions, bytes: 0 };
        }
        part
    }
}

/// As Kafka brokers do, a topic is made for the first record sent to it. Names that are none are
/// left out; their records fail one by one.
fn create_missing_topics(
    shared: &Shared,
    connection: &mut Connection,
    records: &[Queued],
) -> Result<(), BrokerError> {
    let missing: BTreeSet<Topic> = {
        let state = shared.state();
        let names = records.iter().filter(|queued| queued.refused.is_none());
        let names = names.map(|queued| &queued.record.topic);
        names.filter(|name| !state.topics.contains_key(*name)).cloned().collect()
    };
    for name in missing {
        if settings::check_name(&name).is_ok() {
            let partitions = admin::default_partitions(shared);
            admin::create(shared, connection, &name, partitions, Settings::unset())?;
        }
    }
    Ok(())
}

/// An offset to commit, with the number of its topic.
struct Commit<'a> {
    group: &'a str,
    topic: i64,
    part: i32,
    offset: Offset,
}

fn numbered<'a>(state: &State, commits: &'a Commits) -> Vec<Commit<'a>> {
    let commit = |((group, partition), offset): (&'a (Arc<str>, TopicPartition), &Offset)| {
        let topic = state.topics.get(&partition.topic)?.id;
        Some(Commit { group, topic, part: partition.partition.0, offset: *offset })
    };
    commits.iter().filter_map(commit).collect()
}

fn store(
    connection: &mut Connection,
    records: &[Queued],
    plan: &Plan,
    commits: &[Commit<'_>],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    append(&transaction, records, plan)?;
    {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO group_offsets (group_name, topic_id, part, position) \
             VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET position = excluded.position",
        )?;
        for commit in commits {
            statement.execute((commit.group, commit.topic, commit.part, commit.offset.0))?;
        }
    }
    transaction.commit()
}

fn append(transaction: &Transaction<'_>, records: &[Queued], plan: &Plan) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO records \
         (topic_id, part, position, stamped, record_key, record_value, headers) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut encoded = Vec::new();
    for (queued, place) in records.iter().zip(&plan.places) {
        let Ok(place) = place else { continue };
        let record = &queued.record;
        encoded.clear();
        headers::encode(&record.headers, &mut encoded);
        insert.execute((
            place.topic,
            place.part,
            place.offset.0,
            record.timestamp.unwrap_or(0),
            record.key.as_deref(),
            record.value.as_deref(),
            (!encoded.is_empty()).then_some(encoded.as_slice()),
        ))?;
    }
    let mut advance = transaction.prepare_cached(
        "UPDATE partitions SET next_position = ?3, bytes = bytes + ?4 \
         WHERE topic_id = ?1 AND part = ?2",
    )?;
    for ((topic, part), tail) in &plan.tails {
        advance.execute((*topic, *part, tail.next.0, tail.bytes))?;
    }
    Ok(())
}

fn refuse(records: &[Queued], error: &BrokerError) -> Vec<Outcome> {
    records.iter().map(|_| Err(error.clone())).collect()
}
