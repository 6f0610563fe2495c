//! Behaviour of chains, with nodes made for the purpose.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::model::letter::Replay;
use crate::model::{
    Epoch, FailureClass, Fields, LogRecord, Metadata, Offset, SourceBatch, SourceRef,
    TopicPartition,
};
use crate::progress::obligation::Scope;

/// What left the chain, with the duty that came with it.
type Left = Arc<Mutex<Vec<(String, Obligation)>>>;

struct Collect {
    name: &'static str,
    accepted: Vec<(String, ScopeId)>,
    left: Left,
    refuse_to_prepare: bool,
}

impl Collect {
    fn step(name: &'static str, left: &Left) -> Step {
        let left = left.clone();
        Step::Writer(Box::new(Self { name, accepted: Vec::new(), left, refuse_to_prepare: false }))
    }
}

impl Writer for Collect {
    fn accept(&mut self, record: Record, scope: ScopeId) -> Result<(), Failure> {
        self.accepted.push((text(&record), scope));
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        if self.refuse_to_prepare {
            return Err(Failure::unavailable("disk full"));
        }
        Ok(())
    }

    fn commit(&mut self, duties: &Duties) {
        let mut left = self.left.lock().unwrap();
        for (text, scope) in self.accepted.drain(..) {
            left.push((format!("{}:{text}", self.name), duties.part(scope)));
        }
    }

    fn abort(&mut self) {
        self.accepted.clear();
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

/// Emits the words of the text one by one; `boom` panics, `bad` fails.
struct Words;

impl Transform for Words {
    fn apply(&mut self, record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        for word in text(&record).split_whitespace() {
            match word {
                "boom" => panic!("boom"),
                "bad" => return Err(Failure::poison(FailureClass::PROGRAM, "bad word")),
                _ => out.emit(Port::FIRST, with_text(&record, word))?,
            }
        }
        Ok(())
    }
}

struct Pass;

impl Transform for Pass {
    fn apply(&mut self, record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        out.emit(Port::FIRST, record)
    }
}

type Closed = Arc<Mutex<Vec<(String, Outcome)>>>;

struct Border(Closed);
struct Note(String, Closed);

impl Boundary for Border {
    fn cross(&mut self, record: &mut Record) -> Result<Crossing, Failure> {
        let on_close = Box::new(Note(text(record), self.0.clone()));
        Ok(Crossing { on_close, collects: false })
    }
}

impl OnClose for Note {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, _facts: MemberFacts) {
        self.1.lock().unwrap().push((self.0, outcome));
        parent.settle(outcome);
    }
}

fn record(value: &str) -> Record {
    let source = LogRecord {
        offset: Offset(7),
        timestamp: None,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    };
    let batch = SourceBatch {
        origin: TopicPartition::new("words", 0),
        epoch: Epoch(1),
        records: vec![source],
    };
    let source = SourceRef::new(Arc::new(batch), 0);
    let fields = Fields::Raw(Bytes::copy_from_slice(value.as_bytes()));
    Record::from_source(source, Arc::new(Metadata::default()), fields)
}

fn with_text(record: &Record, text: &str) -> Record {
    let mut child = record.clone();
    child.fields = Fields::Raw(Bytes::copy_from_slice(text.as_bytes()));
    child
}

fn text(record: &Record) -> String {
    match &record.fields {
        Fields::Raw(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Fields::Tree(_) => unreachable!("these tests keep fields raw"),
    }
}

fn node(name: &str, step: Step, next: &[usize]) -> ChainNode {
    let outputs = vec![Output { boundaries: Vec::new(), next: next.to_vec() }];
    ChainNode { name: name.into(), step, outputs }
}

fn run(chain: &mut Chain, value: &str) -> Result<Finished, Broken> {
    chain.run(0, record(value), &|| {})
}

fn names(left: &Left) -> Vec<String> {
    left.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
}

fn words_to(left: &Left) -> Chain {
    let nodes = vec![
        node("words", Step::Transform(Box::new(Words)), &[1]),
        node("out", Collect::step("out", left), &[]),
    ];
    Chain::new(nodes, vec![vec![0]])
}

#[test]
fn everything_a_record_led_to_leaves_together_and_settles_it_together() {
    let left = Left::default();
    let mut chain = words_to(&left);
    let (scope, mut duties) = Scope::open(1);
    let finished = run(&mut chain, "a b").ok().expect("the record succeeds");
    assert!(names(&left).is_empty(), "nothing leaves before the commit");

    chain.commit(finished, duties.remove(0));
    assert_eq!(names(&left), ["out:a", "out:b"]);
    let parts = std::mem::take(&mut *left.lock().unwrap());
    assert_eq!(scope.outcome(0), None, "both parts are in flight");
    parts.into_iter().for_each(|(_, duty)| duty.settle(Outcome::Delivered));
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
}

#[test]
fn a_record_that_leads_to_nothing_is_filtered() {
    let left = Left::default();
    let mut chain = words_to(&left);
    let (scope, mut duties) = Scope::open(1);
    let finished = run(&mut chain, "  ").ok().expect("the record succeeds");
    chain.commit(finished, duties.remove(0));
    assert_eq!(scope.outcome(0), Some(Outcome::Filtered));
}

#[test]
fn a_failure_half_way_leaves_no_trace_and_names_the_node() {
    let left = Left::default();
    let mut chain = words_to(&left);
    let broken = run(&mut chain, "a bad b").err().expect("the record fails");
    assert_eq!(broken.node.as_str(), "words");
    assert_eq!(broken.failure, Some(Failure::poison(FailureClass::PROGRAM, "bad word")));

    let (_scope, mut duties) = Scope::open(1);
    let next = run(&mut chain, "c").ok().expect("the next record is not affected");
    chain.commit(next, duties.remove(0));
    assert_eq!(names(&left), ["out:c"], "nothing of the failed record left with the next one");
}

#[test]
fn a_panic_is_reported_at_the_node_it_happened_in() {
    let left = Left::default();
    let mut chain = words_to(&left);
    let broken = run(&mut chain, "a boom").err().expect("the record fails");
    assert_eq!(broken.node.as_str(), "words");
    assert_eq!(broken.failure, None);
}

#[test]
fn a_writer_that_cannot_prepare_holds_back_the_others_too() {
    let left = Left::default();
    let refusing =
        Collect { name: "full", accepted: Vec::new(), left: left.clone(), refuse_to_prepare: true };
    let nodes = vec![
        node("pass", Step::Transform(Box::new(Pass)), &[1, 2]),
        node("out", Collect::step("out", &left), &[]),
        node("full", Step::Writer(Box::new(refusing)), &[]),
    ];
    let mut chain = Chain::new(nodes, vec![vec![0]]);
    let broken = run(&mut chain, "a").err().expect("the record fails");
    assert_eq!(broken.node.as_str(), "full");
    assert!(matches!(broken.failure, Some(Failure::Unavailable { .. })));
    assert!(names(&left).is_empty());
}

#[test]
fn fan_out_reaches_every_node_behind_and_the_worst_part_wins() {
    let left = Left::default();
    let nodes = vec![
        node("pass", Step::Transform(Box::new(Pass)), &[1, 2]),
        node("one", Collect::step("one", &left), &[]),
        node("two", Collect::step("two", &left), &[]),
    ];
    let mut chain = Chain::new(nodes, vec![vec![0]]);
    let (scope, mut duties) = Scope::open(1);
    let finished = run(&mut chain, "a").ok().expect("the record succeeds");
    chain.commit(finished, duties.remove(0));
    assert_eq!(names(&left), ["one:a", "two:a"]);
    let mut parts = std::mem::take(&mut *left.lock().unwrap()).into_iter();
    parts.next().unwrap().1.settle(Outcome::DeadLettered);
    parts.next().unwrap().1.settle(Outcome::Delivered);
    assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));
}

fn with_border(left: &Left, closed: &Closed) -> Chain {
    let mut first = node("pass", Step::Transform(Box::new(Pass)), &[1]);
    first.outputs[0].boundaries.push(Box::new(Border(closed.clone())));
    let nodes = vec![
        first,
        node("words", Step::Transform(Box::new(Words)), &[2]),
        node("out", Collect::step("out", left), &[]),
    ];
    Chain::new(nodes, vec![vec![0]])
}

#[test]
fn a_border_hears_once_when_all_behind_it_has_settled() {
    let (left, closed) = (Left::default(), Closed::default());
    let mut chain = with_border(&left, &closed);
    let (scope, mut duties) = Scope::open(1);
    let finished = run(&mut chain, "a b").ok().expect("the record succeeds");
    chain.commit(finished, duties.remove(0));
    let parts = std::mem::take(&mut *left.lock().unwrap());
    assert!(closed.lock().unwrap().is_empty());
    parts.into_iter().for_each(|(_, duty)| duty.settle(Outcome::Delivered));
    assert_eq!(*closed.lock().unwrap(), [("a b".to_owned(), Outcome::Delivered)]);
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
}

#[test]
fn a_failure_behind_a_border_is_settled_through_it() {
    let (left, closed) = (Left::default(), Closed::default());
    let mut chain = with_border(&left, &closed);
    let (scope, mut duties) = Scope::open(1);
    let broken = run(&mut chain, "a bad").err().expect("the record fails");
    broken.duty(duties.remove(0)).settle(Outcome::DeadLettered);
    assert_eq!(*closed.lock().unwrap(), [("a bad".to_owned(), Outcome::DeadLettered)]);
    assert_eq!(scope.outcome(0), Some(Outcome::DeadLettered));
}

/// Means one text, when a replay is about it.
struct Meaning(&'static str, Closed);

impl Boundary for Meaning {
    fn cross(&mut self, record: &mut Record) -> Result<Crossing, Failure> {
        Border(self.1.clone()).cross(record)
    }

    fn is_meant(&mut self, record: &mut Record) -> Result<bool, Failure> {
        Ok(text(record) == self.0)
    }
}

#[test]
fn what_a_replay_does_not_mean_goes_no_further_and_crosses_no_border() {
    let (left, closed) = (Left::default(), Closed::default());
    let mut first = node("words", Step::Transform(Box::new(Words)), &[1]);
    let borders = &mut first.outputs[0].boundaries;
    borders.push(Box::new(Border(closed.clone())));
    borders.push(Box::new(Meaning("b", closed.clone())));
    let nodes = vec![first, node("out", Collect::step("out", &left), &[])];
    let mut chain = Chain::new(nodes, vec![vec![0]]);
    let mut replayed = record("a b c");
    let replay = Replay {
        of: "0-1".to_owned(),
        manifest: None,
        member: None,
        attempts: 1,
        first_failed_at: None,
    };
    replayed.meta = Arc::new(Metadata { replay: Some(Arc::new(replay)), ..Metadata::default() });
    for (record, wanted) in [(replayed, &["b"][..]), (record("a b c"), &["a", "b", "c"][..])] {
        let (_scope, mut duties) = Scope::open(1);
        let finished = chain.run(0, record, &|| {}).ok().expect("the record succeeds");
        chain.commit(finished, duties.remove(0));
        let parts = std::mem::take(&mut *left.lock().unwrap());
        let texts: Vec<_> = parts.iter().map(|(text, _)| text.trim_start_matches("out:")).collect();
        assert_eq!(texts, wanted);
        parts.into_iter().for_each(|(_, duty)| duty.settle(Outcome::Delivered));
        let heard: Vec<_> = closed.lock().unwrap().drain(..).map(|(text, _)| text).collect();
        assert_eq!(heard.len(), 2 * wanted.len(), "both borders of each, and nothing else");
    }
}
