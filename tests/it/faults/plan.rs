//! What is produced, and what has to become of it: the same for one seed.
//!
//! Responsible for: waves of lists and members, shuffled over the partitions, some of them twice,
//! some late, a few poisoned; and remembering what everything has to lead to.
//! Not responsible for: producing (`feeder`), or comparing (`audit`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::json;
use tidemill::broker::ProducerRecord;
use tidemill::model::Topic;

/// Partitions of the source's topic.
pub const PARTITIONS: i32 = 12;

/// Random numbers from a seed (SplitMix64): small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed says.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Whether something happens that does so `times` in ten thousand.
    pub fn happens(&mut self, times: u32) -> bool {
        self.next() % 10_000 < u64::from(times)
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// How the load is mixed; shares are in ten thousand.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Lists of a wave.
    pub lists: usize,
    /// Most members of a list.
    pub largest: usize,
    /// Records that come a second time.
    pub twice: u32,
    /// Records that come with a later wave.
    pub late: u32,
    /// Members that fail for good, and records that are no JSON.
    pub poison: u32,
}

impl Mix {
    /// What the suite runs under faults.
    pub const USUAL: Self = Self { lists: 12, largest: 500, twice: 300, late: 100, poison: 10 };
    /// Small lists, undisturbed: for scenarios of one fault.
    pub const SMALL: Self = Self { lists: 6, largest: 4, twice: 0, late: 0, poison: 0 };
}

/// A member, and what it has to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The values of its rows.
    pub rows: Vec<i64>,
    /// Whether it fails for good.
    pub poison: bool,
}

impl Member {
    /// Sum of its rows.
    pub fn total(&self) -> i64 {
        self.rows.iter().sum()
    }
}

/// One record to be produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    partition: i32,
    key: String,
    value: Vec<u8>,
}

impl Event {
    /// The record for `topic`.
    pub fn record(&self, topic: &Topic) -> ProducerRecord {
        let mut record = ProducerRecord::new(topic.clone(), self.value.clone());
        record.partition = Some(self.partition);
        record.key = Some(Bytes::copy_from_slice(self.key.as_bytes()));
        record
    }
}

/// Everything that was or will be produced.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Members by list and id.
    pub lists: BTreeMap<String, BTreeMap<String, Member>>,
    /// Values of records that have to end as dead letters.
    pub letters: BTreeSet<Vec<u8>>,
    /// Records, repeats included.
    pub records: usize,
}

/// Makes the load.
pub struct Plan {
    mix: Mix,
    dice: Dice,
    made: usize,
    late: Vec<Event>,
    expected: Expected,
}

impl Plan {
    /// The load of a seed.
    pub fn new(seed: u64, mix: Mix) -> Self {
        let (dice, expected) = (Dice::new(seed), Expected::default());
        Self { mix, dice, made: 0, late: Vec::new(), expected }
    }

    /// The next lists with their members, in another order.
    pub fn wave(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.late);
        for _ in 0..self.mix.lists {
            let size = self.size();
            let poison = self.mix.poison;
            events.extend(self.list(size, poison));
        }
        if self.dice.happens(self.mix.poison * 10) {
            events.push(self.broken());
        }
        self.dice.shuffle(&mut events);
        let mut wave = Vec::with_capacity(events.len());
        for event in events {
            if self.dice.happens(self.mix.twice) {
                let partition = self.partition();
                self.late.push(Event { partition, ..event.clone() });
            }
            let late = self.dice.happens(self.mix.late);
            if late { self.late.push(event) } else { wave.push(event) }
        }
        self.expected.records += wave.len();
        wave
    }

    /// One list with a poisoned member among its `size` ones, and a record that is no JSON.
    pub fn poisoned_wave(&mut self, size: usize) -> Vec<Event> {
        let mut events = self.list(size, 0);
        events.extend(self.list(1, 10_000));
        events.push(self.broken());
        self.expected.records += events.len();
        events
    }

    /// What is still held back.
    pub fn rest(&mut self) -> Vec<Event> {
        let rest = std::mem::take(&mut self.late);
        self.expected.records += rest.len();
        rest
    }

    /// A list with one member in each partition, whose completion shows that everything works.
    pub fn probe(name: &str) -> (Vec<Event>, Expected) {
        let mut expected = Expected::default();
        let members: BTreeMap<String, Member> = (0..PARTITIONS)
            .map(|part| (format!("{name}-{part}"), Member { rows: vec![1], poison: false }))
            .collect();
        let mut events = vec![list_event(name, &members, 0)];
        let parts = members
            .iter()
            .zip(0..)
            .map(|((id, member), part)| member_event(name, id, member, part));
        events.extend(parts);
        expected.records = events.len();
        expected.lists.insert(name.to_owned(), members);
        (events, expected)
    }

    /// What everything made so far has to lead to.
    pub fn expected(self) -> Expected {
        self.expected
    }

    fn partition(&mut self) -> i32 {
        self.dice.below(PARTITIONS as usize) as i32
    }

    /// Mostly small, a few large.
    fn size(&mut self) -> usize {
        let largest = self.mix.largest;
        let most = match self.dice.below(100) {
            0..80 => largest.min(12),
            80..98 => largest.min(60),
            _ => largest,
        };
        1 + self.dice.below(most)
    }

    fn list(&mut self, size: usize, poison: u32) -> Vec<Event> {
        let name = format!("m-{:06}", self.made);
        self.made += 1;
        let mut members = BTreeMap::new();
        for number in 0..size {
            let rows = (0..=self.dice.below(4)).map(|_| self.dice.below(1_000) as i64).collect();
            let poison = self.dice.happens(poison);
            members.insert(format!("{name}-{number:03}"), Member { rows, poison });
        }
        let mut events = vec![list_event(&name, &members, self.partition())];
        for (id, member) in &members {
            let event = member_event(&name, id, member, self.partition());
            if member.poison {
                self.expected.letters.insert(event.value.clone());
            }
            events.push(event);
        }
        self.expected.lists.insert(name, members);
        events
    }

    fn broken(&mut self) -> Event {
        let value = format!("{{\"kind\": \"part\", \"broken\": {}", self.dice.next()).into_bytes();
        self.expected.letters.insert(value.clone());
        Event { partition: self.partition(), key: "broken".to_owned(), value }
    }
}

impl Expected {
    /// Adds what was produced beside the plan.
    pub fn add(&mut self, other: Self) {
        self.lists.extend(other.lists);
        self.letters.extend(other.letters);
        self.records += other.records;
    }
}

fn list_event(name: &str, members: &BTreeMap<String, Member>, partition: i32) -> Event {
    let members: Vec<&String> = members.keys().collect();
    let value = json!({ "kind": "list", "manifest": name, "members": members });
    Event { partition, key: name.to_owned(), value: value.to_string().into_bytes() }
}

fn member_event(name: &str, id: &str, member: &Member, partition: i32) -> Event {
    let rows = member.rows.iter().zip(0..).map(|(value, n)| json!({ "n": n, "value": value }));
    let mut value = json!({
        "kind": "part", "manifest": name, "member": id,
        "total": member.total(), "rows": rows.collect::<Vec<_>>(),
    });
    if member.poison {
        value["poison"] = true.into();
    }
    Event { partition, key: name.to_owned(), value: value.to_string().into_bytes() }
}
