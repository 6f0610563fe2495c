//! What a run has left: topics, tables, requests.
//!
//! Responsible for: reading all of it, with nothing of the engine but its client for the broker.
//! Not responsible for: judging it (`audit`).

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill::model::{LogRecord, Topic};

use super::rig::Rig;
use crate::harness::Reader;

/// A member in the sink's topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its list.
    pub list: String,
    /// Its id.
    pub member: String,
    /// The sum that it carries.
    pub total: i64,
}

/// The row that a completion writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The list.
    pub list: String,
    /// The revision.
    pub revision: i64,
    /// How often it was carried out.
    pub times: i64,
    /// Members whose rows it saw.
    pub members: i64,
    /// Sum of their rows.
    pub total: i64,
}

/// A message or a request that told of a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The action.
    pub action: &'static str,
    /// The list.
    pub list: String,
    /// The revision.
    pub revision: i64,
    /// The idempotency key.
    pub key: String,
}

/// What a run has left.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The sink's topic.
    pub outputs: Vec<Output>,
    /// Values of the dead letters.
    pub letters: Vec<Vec<u8>>,
    /// By list and member: rows in the table, and their sum.
    pub rows: BTreeMap<(String, String), (usize, i64)>,
    /// Rows of completions.
    pub done: Vec<Done>,
    /// Phase and revision by list.
    pub phases: BTreeMap<String, (String, i64)>,
    /// By list and state: members.
    pub states: BTreeMap<(String, String), usize>,
    /// Messages and requests.
    pub deliveries: Vec<Delivery>,
    /// What logs must not hold.
    pub alarms: Vec<String>,
}

impl Evidence {
    /// Reads everything. All replicas have to be gone: nobody adds to it any more.
    pub fn of(rig: &Rig) -> Self {
        let rows = |query: &str| rig.database.rows(query).expect(query);
        let counted = rows(
            "SELECT _manifest, _member, COUNT(*), SUM(value) FROM part_row \
             GROUP BY _manifest, _member",
        );
        let done = rows("SELECT manifest, revision, times, members, total FROM batch_done");
        let phases = rows("SELECT manifest, phase, revision FROM tidemill_manifest");
        let states =
            rows("SELECT manifest, state, COUNT(*) FROM tidemill_member GROUP BY manifest, state");
        Self {
            outputs: read(rig, &rig.output).iter().map(output).collect(),
            letters: read(rig, &rig.letters).iter().map(value_of).collect(),
            rows: counted
                .into_iter()
                .map(|row| ((row[0].clone(), row[1].clone()), (number(&row[2]), number(&row[3]))))
                .collect(),
            done: done
                .into_iter()
                .map(|row| Done {
                    list: row[0].clone(),
                    revision: number(&row[1]),
                    times: number(&row[2]),
                    members: number(&row[3]),
                    total: number(&row[4]),
                })
                .collect(),
            phases: phases
                .into_iter()
                .map(|row| (row[0].clone(), (row[1].clone(), number(&row[2]))))
                .collect(),
            states: states
                .into_iter()
                .map(|row| ((row[0].clone(), row[1].clone()), number(&row[2])))
                .collect(),
            deliveries: deliveries(rig),
            alarms: rig.alarms.clone(),
        }
    }
}

fn deliveries(rig: &Rig) -> Vec<Delivery> {
    let messages = read(rig, &rig.completions);
    let messages = messages.iter().map(|record| {
        let key = record.headers.iter().find(|(name, _)| name == "Idempotency-Key");
        let key = key.map(|(_, key)| String::from_utf8_lossy(key).into_owned());
        delivery("announce", &value_of(record), key.unwrap_or_default())
    });
    let calls = rig.receiver.calls();
    let calls = calls.into_iter().map(|call| delivery("call", call.body.as_bytes(), call.key));
    messages.chain(calls).collect()
}

fn delivery(action: &'static str, body: &[u8], key: String) -> Delivery {
    let body: Value = serde_json::from_slice(body).expect("a delivery is JSON");
    Delivery {
        action,
        list: text(&body["manifest"]),
        revision: body["revision"].as_i64().expect("a revision"),
        key,
    }
}

fn output(record: &LogRecord) -> Output {
    let value: Value = serde_json::from_slice(&value_of(record)).expect("the sink writes JSON");
    Output {
        list: text(&value["manifest"]),
        member: text(&value["member"]),
        total: value["total"].as_i64().expect("a sum"),
    }
}

fn read(rig: &Rig, topic: &Topic) -> Vec<LogRecord> {
    let mut reader = Reader::new(rig.broker(), topic);
    reader.read_all(rig.broker());
    reader.records.into_iter().map(|(_, record)| record).collect()
}

fn value_of(record: &LogRecord) -> Vec<u8> {
    record.value.as_ref().map(|value| value.to_vec()).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}
