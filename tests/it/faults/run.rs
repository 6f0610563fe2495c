//! A run: load, faults from a seed, and what is left of it.
//!
//! Responsible for: the kinds of faults, their order, how long it takes until everything works
//! again after each, and the line that a run is summed up in.
//! Not responsible for: what is right (`audit`).

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

use tidemill::runtime::fault::Point;

use super::audit::{Findings, audit};
use super::evidence::Evidence;
use super::feeder::Feeder;
use super::plan::{Dice, Expected, Mix, Plan};
use super::proxy::{Cut, Proxy};
use super::receiver::Mood;
use super::rig::{Rig, SETTLING};
use super::servers::{KafkaServer, PostgresServer};
use crate::harness::await_within;

/// How long everything may take to work again after a fault.
const RECOVERY: Duration = Duration::from_secs(120);
/// How long a replica may take to come by the point at which it is to crash.
const REACH: Duration = Duration::from_secs(15);
/// How long a fault lasts that has no end of its own.
const LASTS: Duration = Duration::from_secs(3);
/// Commits that are cut, and requests that fail, by one fault.
const TIMES: usize = 3;

/// Crash points that the suite's topology comes by; the first two only when its group is new.
pub const ON_THE_WAY: [Point; 22] = [
    Point::StartCommit,
    Point::StartCommitted,
    Point::SinkSend,
    Point::SinkAcked,
    Point::RowsWrite,
    Point::RowsWritten,
    Point::LetterSend,
    Point::LetterAcked,
    Point::EventSend,
    Point::EventAcked,
    Point::OffsetsCommit,
    Point::OffsetsCommitted,
    Point::TakeoverBegin,
    Point::TakeoverDone,
    Point::ApplyBegin,
    Point::ApplyDone,
    Point::CompletionBegin,
    Point::CompletionSend,
    Point::CompletionDone,
    Point::OutboxClaimed,
    Point::OutboxDelivered,
    Point::OutboxMarked,
];

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A replica is ended with SIGKILL.
    Kill,
    /// A replica is told to stop.
    Terminate,
    /// A replica stands still for longer than its membership lasts, and wakes as a zombie.
    Freeze,
    /// A replica ends at a crash point.
    Crash,
    /// Replicas join and leave, one after the other.
    Storm,
    /// The broker is ended with SIGKILL.
    BrokerKilled,
    /// Postgres ends without a word.
    StoreStopped,
    /// Connections break before the server has seen the commit.
    CommitUnseen,
    /// Connections break before its answer is seen.
    AnswerUnseen,
    /// Nobody can write rows for a while.
    TableLocked,
    /// The receiver refuses requests.
    ReceiverRefuses,
    /// The receiver takes requests and does not answer.
    ReceiverBreaks,
    /// The receiver takes its time.
    ReceiverIsSlow,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Kill,
        Self::Terminate,
        Self::Freeze,
        Self::Crash,
        Self::Storm,
        Self::BrokerKilled,
        Self::StoreStopped,
        Self::CommitUnseen,
        Self::AnswerUnseen,
        Self::TableLocked,
        Self::ReceiverRefuses,
        Self::ReceiverBreaks,
        Self::ReceiverIsSlow,
    ];
}

/// When a run has seen enough.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// After so many faults.
    pub faults: usize,
    /// Or after that time, whichever comes first.
    pub elapsed: Duration,
}

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Decides about load and faults.
    pub seed: u64,
    /// Replicas.
    pub replicas: usize,
    /// Records a second.
    pub rate: u32,
    /// Its end.
    pub until: Until,
}

/// What came of a run.
pub struct Report {
    seed: u64,
    faults: Vec<Kind>,
    records: usize,
    lists: usize,
    recoveries: Vec<Duration>,
    refused: usize,
    /// What is wrong.
    pub findings: Findings,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: BTreeSet<Kind> = self.faults.iter().copied().collect();
        let Findings { lost, doubled, once, repeated, .. } = &self.findings;
        let (lost, doubled, lists) = (lost.len(), doubled.len(), self.lists);
        write!(
            f,
            "seed {}: {} faults of {} kinds, {} records, {lists} manifests: lost {lost}, duplicate \
             effects {doubled}, completions {once}/{lists} exactly once, repeated deliveries \
             {repeated} (same key), zombies refused {}, recovery p50/p99 {:.1}/{:.1} s",
            self.seed,
            self.faults.len(),
            kinds.len(),
            self.records,
            self.refused,
            self.recovery(50),
            self.recovery(99),
        )
    }
}

impl Report {
    /// Seconds within which so many of a hundred faults were over.
    fn recovery(&self, percent: usize) -> f64 {
        let mut sorted = self.recoveries.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted.get((sorted.len() * percent / 100).min(last)).map_or(0.0, Duration::as_secs_f64)
    }
}

/// A pipeline and the servers that it needs, all of which can fail.
struct World {
    // Dropped first: replicas go before their servers.
    rig: Rig,
    door: Proxy,
    postgres: PostgresServer,
    kafka: KafkaServer,
    replicas: usize,
    dice: Dice,
    /// What was produced to see whether everything works.
    probes: Expected,
}

impl World {
    fn start(profile: &Profile) -> Self {
        let (kafka, postgres) = (KafkaServer::start(), PostgresServer::start());
        let door = Proxy::start(postgres.port());
        let mut rig = Rig::new(&kafka.address(), &postgres.url(), Some(door.port()));
        let replicas = profile.replicas.max(2);
        (0..replicas).for_each(|replica| rig.start(replica, None));
        // Not the numbers that the load is made of.
        let dice = Dice::new(!profile.seed);
        Self { rig, door, postgres, kafka, replicas, dice, probes: Expected::default() }
    }

    /// Lets something go wrong, and mends it.
    fn inject(&mut self, kind: Kind) {
        let one = self.dice.below(self.replicas);
        match kind {
            Kind::Kill => {
                self.rig.kill(one);
                self.rig.start(one, None);
            }
            Kind::Terminate => {
                self.rig.terminate(one);
                self.rig.start(one, None);
            }
            Kind::Freeze => {
                self.rig.freeze(one);
                // The others take over what it had, or this never ends.
                self.recover();
                self.rig.thaw(one);
            }
            Kind::Crash => self.crash(one),
            Kind::Storm => {
                for more in self.replicas..self.replicas + TIMES {
                    self.rig.start(more, None);
                    self.rig.replica(more).wait_for_log("pipeline runs");
                    self.rig.terminate(more);
                }
            }
            Kind::BrokerKilled => {
                self.kafka.kill();
                self.kafka.start_again();
            }
            Kind::StoreStopped => {
                self.postgres.stop();
                self.postgres.start_again();
            }
            Kind::CommitUnseen => self.cut(Cut::Before),
            Kind::AnswerUnseen => self.cut(Cut::After),
            Kind::TableLocked => {
                let held = self.rig.lock_rows();
                std::thread::park_timeout(LASTS);
                drop(held);
            }
            Kind::ReceiverRefuses => self.rig.receiver.next(Mood::Refuses, TIMES),
            Kind::ReceiverBreaks => self.rig.receiver.next(Mood::Breaks, TIMES),
            Kind::ReceiverIsSlow => self.rig.receiver.next(Mood::IsSlow, TIMES),
        }
    }

    /// Replaces a replica by one that crashes at some point, and that one by a sound one.
    fn crash(&mut self, one: usize) {
        let points = &ON_THE_WAY[2..];
        let point = points[self.dice.below(points.len())];
        let times = 1 + self.dice.below(TIMES);
        self.rig.kill(one);
        self.rig.start(one, Some(&format!("{}:{times}", point.name())));
        // It may have nothing to do there: no poison comes, or no shard is its own.
        if self.rig.ended(one, REACH).is_none() {
            self.rig.kill(one);
        }
        self.rig.start(one, None);
    }

    fn cut(&self, cut: Cut) {
        self.door.cut(cut, TIMES);
        let _ = await_within(LASTS, || (self.door.cuts_left() == 0).then_some(()));
        self.door.cut(cut, 0);
    }

    /// Waits until a list with a member in each partition completes; how long that took.
    fn recover(&mut self) -> Option<Duration> {
        let began = Instant::now();
        let name = format!("probe-{:05}", self.probes.lists.len());
        let (events, expected) = Plan::probe(&name);
        self.rig.produce(&events);
        self.probes.add(expected);
        let rig = &mut self.rig;
        let done = await_within(RECOVERY, || {
            rig.revive();
            rig.is_done(&name).then(|| began.elapsed())
        });
        if done.is_none() {
            rig.alarms.push(format!("{name} did not complete within {RECOVERY:?}"));
        }
        done
    }
}

/// Makes a run.
pub fn run(profile: &Profile) -> Report {
    let mut world = World::start(profile);
    world.recover();
    let plan = Plan::new(profile.seed, Mix::USUAL);
    let feeder = Feeder::start(&world.rig, plan, profile.rate);
    let (mut faults, mut recoveries, mut deck) = (Vec::new(), Vec::new(), Vec::new());
    let began = Instant::now();
    while goes_on(profile.until, faults.len(), began) {
        if deck.is_empty() {
            deck.extend(Kind::ALL);
            world.dice.shuffle(&mut deck);
        }
        let Some(kind) = deck.pop() else { break };
        faults.push(kind);
        let injected = Instant::now();
        say(&format!("seed {}: fault {}: {kind:?}", profile.seed, faults.len()));
        world.inject(kind);
        if world.recover().is_none() {
            break;
        }
        recoveries.push(injected.elapsed());
        say(&format!("fault {} is over after {:.1?}", faults.len(), injected.elapsed()));
    }
    let mut expected = feeder.finish();
    expected.add(std::mem::take(&mut world.probes));
    let findings = judged(&mut world.rig, &expected);
    let (records, lists) = (expected.records, expected.lists.len());
    let (seed, refused) = (profile.seed, world.rig.refused);
    let report = Report { seed, faults, records, lists, recoveries, refused, findings };
    say(&report.to_string());
    report
}

fn goes_on(until: Until, faults: usize, began: Instant) -> bool {
    faults < until.faults && began.elapsed() < until.elapsed
}

/// Lets everything come to its end, and compares.
fn judged(rig: &mut Rig, expected: &Expected) -> Findings {
    let read = await_within(SETTLING, || {
        rig.revive();
        (rig.behind() == Some(0)).then_some(())
    });
    if read.is_none() {
        rig.alarms.push(format!("{:?} records have no outcome", rig.behind()));
    }
    rig.finish(expected.lists.len(), SETTLING);
    audit(expected, &Evidence::of(rig))
}

/// Says something, even if it all goes well: a figure that nobody sees is none.
fn say(line: &str) {
    // Nobody has to listen.
    let _ = writeln!(std::io::stderr(), "faults: {line}");
}
