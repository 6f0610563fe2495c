//! Responsible for: what the node emits, notes and fails with.
//! Not responsible for: how text becomes values (`columnar`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::expr::fixtures;
use crate::model::event::MemberFacts;
use crate::processor::config::CsvColumn;

/// Keeps what a node hands out.
#[derive(Default)]
struct Taken {
    emitted: Vec<(Port, Record)>,
    notes: Vec<MemberFacts>,
    beats: usize,
    /// Fails the emission of this number.
    fail_at: Option<usize>,
}

impl Emit for Taken {
    fn emit(&mut self, port: Port, record: Record) -> Result<(), Failure> {
        if self.fail_at == Some(self.emitted.len()) {
            return Err(Failure::unavailable("further down"));
        }
        self.emitted.push((port, record));
        Ok(())
    }

    fn note(&mut self, facts: MemberFacts) {
        self.notes.push(facts);
    }

    fn progress(&mut self) {
        self.beats += 1;
    }
}

fn config() -> Csv {
    let schema = |name: &str, number: &str| CsvSchema {
        name: name.to_owned(),
        columns: vec![
            CsvColumn { name: "at".into(), kind: ColumnKind::Instant },
            CsvColumn { name: number.into(), kind: ColumnKind::Double },
        ],
        drop_row: None,
    };
    Csv {
        schemas: vec![schema("pods", "cpu"), schema("nodes", "cores")],
        delimiter: b',',
        long_rows: LongRows::Reject,
        bad_double: Some(0.0),
        instant_format: "%Y-%m-%d".into(),
        derive: vec![Derived {
            name: "day".into(),
            from: DerivedFrom::Date { column: "at".into() },
        }],
        batch_rows: 2,
        max_row_bytes: 100,
    }
}

fn run(text: &str, connected: bool) -> (Result<(), Failure>, Taken) {
    let mut record = fixtures::record(r#"{"name":"a.csv"}"#);
    record.body = Body::Bytes(Bytes::copy_from_slice(text.as_bytes()));
    record.meta = Arc::new(Metadata { member: Some("a.csv".into()), ..Metadata::default() });
    let mut taken = Taken::default();
    let result = CsvNode::new(&config(), connected).unwrap().apply(record, &mut taken);
    (result, taken)
}

fn rows(record: &Record) -> usize {
    match &record.body {
        Body::Columns(columns) => columns.rows.num_rows(),
        other => panic!("{other:?} has no rows"),
    }
}

#[test]
fn rows_leave_through_the_port_of_their_schema_as_part_of_their_member() {
    let (result, taken) = run("at,cores\n2025-03-10,1\n2025-03-10,2\n2025-03-11,3\n", false);
    result.unwrap();
    assert_eq!(taken.emitted.iter().map(|(_, record)| rows(record)).collect::<Vec<_>>(), [2, 1]);
    for (port, record) in &taken.emitted {
        assert_eq!(*port, Port(1));
        assert_eq!(record.meta.schema.as_deref(), Some("nodes"));
        assert_eq!(record.meta.member.as_ref().map(|id| id.as_str()), Some("a.csv"));
        assert_eq!(record.meta.part, None, "parts are numbered by the sink");
        assert_eq!(fixtures::fields_of(record), r#"{"name":"a.csv"}"#);
    }
    assert!(taken.beats >= 2, "long work has to show progress");
    assert_eq!(taken.notes, [MemberFacts::default()]);
}

#[test]
fn nothing_comes_of_a_file_without_rows() {
    for text in ["", "at,cpu\r\n"] {
        let (result, taken) = run(text, true);
        result.unwrap();
        assert!(taken.emitted.is_empty(), "{text:?}");
        assert!(taken.notes.iter().all(|facts| *facts == MemberFacts::default()));
    }
}

#[test]
fn what_was_left_out_and_mended_is_noted_once_for_the_whole_file() {
    let text = "at,cpu\n2025-03-10,x\n2025-03-10,1,2\n2025-03-10\n2025-03-10,y\n";
    let (result, taken) = run(text, false);
    result.unwrap();
    assert_eq!(taken.notes.len(), 1);
    let count = |name: &str, count: u64| (name.to_owned(), count);
    assert_eq!(taken.notes[0].rejected, BTreeMap::from([count("long_row", 1)]));
    assert_eq!(taken.notes[0].mended, BTreeMap::from([count("cpu", 2), count("short_row", 1)]));
    assert!(taken.emitted.iter().all(|(port, _)| *port == Port(0)), "nobody reads the others");
}

#[test]
fn rows_to_look_at_leave_through_the_last_port_if_somebody_reads_it() {
    let (result, taken) = run("at,cpu\n2025-03-10,1,2\n2025-03-10\n2025-03-10,1\n", true);
    result.unwrap();
    let (seen, columns): (Vec<_>, Vec<_>) =
        taken.emitted.into_iter().partition(|(port, _)| *port == Port(2));
    let seen: Vec<_> = seen.iter().map(|(_, record)| fixtures::fields_of(record)).collect();
    assert_eq!(
        seen,
        [
            r#"{"kept":false,"line":2,"reason":"long_row","text":"2025-03-10,1,2"}"#,
            r#"{"kept":true,"line":3,"reason":"short_row","text":"2025-03-10"}"#,
        ]
    );
    assert_eq!(columns.iter().map(|(_, record)| rows(record)).sum::<usize>(), 2);
}

#[test]
fn a_file_that_fits_no_schema_is_poison_of_its_own_class() {
    let (result, taken) = run("at,color\n2025-03-10,red\n", true);
    let failure = result.unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::UNMATCHED));
    assert!(failure.why().contains("at, color"), "{}", failure.why());
    assert!(taken.emitted.is_empty() && taken.notes.is_empty());
}

#[test]
fn a_row_beyond_the_limit_is_poison() {
    let (result, _) = run(&format!("at,cpu\n{}", "9".repeat(200)), true);
    assert_eq!(result.unwrap_err().class(), Some(&FailureClass::TOO_LARGE));
}

#[test]
fn a_record_without_text_is_poison() {
    let record = fixtures::record("{}");
    let result = CsvNode::new(&config(), true).unwrap().apply(record, &mut Taken::default());
    assert_eq!(result.unwrap_err().class(), Some(&FailureClass::UNDECODABLE));
}

#[test]
fn a_failure_further_down_ends_the_file_as_it_is() {
    let mut record = fixtures::record("{}");
    record.body = Body::Bytes(Bytes::from_static(b"at,cpu\n2025-03-10,1\n"));
    let mut taken = Taken { fail_at: Some(0), ..Taken::default() };
    let result = CsvNode::new(&config(), true).unwrap().apply(record, &mut taken);
    assert_eq!(result, Err(Failure::unavailable("further down")));
    assert!(taken.notes.is_empty());
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let mut config = config();
    config.derive[0].from = DerivedFrom::Date { column: "cpu".into() };
    assert!(matches!(CsvNode::new(&config, true), Err(PlanError::NoInstant { .. })));
}
