//! What real and damaged files become.
//!
//! Responsible for: one test per rule of the damaged cost reports.
//! Not responsible for: single values (`double`, `instant`) or rows (`rows`).

mod fuzz;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Float64Type, TimestampMillisecondType};

use super::*;
use crate::columnar::plan::{Bound, Column, CsvSettings, Derivation, Derived, Kind, Schema};

const HEADER: &str = "interval_start,pod,cpu,memory,labels\r\n";
const AT: &str = "2025-03-13 05:00:00 +0000 UTC";

fn settings() -> CsvSettings {
    let column = |name: &str, kind| Column { name: name.into(), kind };
    let pods = vec![
        column("interval_start", Kind::Instant),
        column("pod", Kind::Text),
        column("cpu", Kind::Double),
        column("memory", Kind::Double),
    ];
    let nodes = vec![column("interval_start", Kind::Instant), column("node", Kind::Text)];
    let bound = Some(Bound { above: 1e18, columns: vec!["memory".into()] });
    let month = Derivation::Format { column: "interval_start".into(), format: "%m".into() };
    CsvSettings {
        schemas: vec![
            Schema { name: "pods".into(), columns: pods, bound },
            Schema { name: "nodes".into(), columns: nodes, bound: None },
        ],
        delimiter: b',',
        cut_long_rows: false,
        bad_double: Some(0.0),
        instant_format: crate::columnar::instant::GO_FORMAT.into(),
        derive: vec![
            Derived {
                name: "day".into(),
                from: Derivation::Date { column: "interval_start".into() },
            },
            Derived { name: "month".into(), from: month },
        ],
        batch_rows: 4,
        max_row_bytes: 1000,
    }
}

/// Everything that a file led to.
struct Outcome {
    schema: usize,
    rows: RecordBatch,
    batches: Vec<usize>,
    facts: MemberFacts,
    inspected: Vec<Inspected>,
}

impl Outcome {
    fn text(&self, column: &str) -> Vec<String> {
        let array = self.rows.column_by_name(column).unwrap().as_string::<i32>();
        array.iter().map(|value| value.unwrap_or("null").to_owned()).collect()
    }

    fn doubles(&self, column: &str) -> Vec<f64> {
        let array = self.rows.column_by_name(column).unwrap().as_primitive::<Float64Type>();
        array.values().to_vec()
    }

    fn rejected(&self) -> Vec<(&str, u64)> {
        self.facts.rejected.iter().map(|(reason, count)| (reason.as_str(), *count)).collect()
    }

    fn mended(&self) -> Vec<(&str, u64)> {
        self.facts.mended.iter().map(|(what, count)| (what.as_str(), *count)).collect()
    }
}

fn open(settings: CsvSettings, text: &[u8]) -> Result<Option<CsvReader<&[u8]>>, ReadError> {
    CsvReader::open(&Arc::new(CsvPlan::new(settings).unwrap()), text, true)
}

fn read_with(settings: CsvSettings, text: &[u8]) -> Outcome {
    let mut reader = open(settings, text).unwrap().unwrap();
    let (mut batches, mut inspected) = (Vec::new(), Vec::new());
    loop {
        let step = reader.step().unwrap();
        inspected.extend(reader.take_inspected());
        match step {
            Step::Batch(batch) => batches.push(batch),
            Step::Going => {}
            Step::End => break,
        }
    }
    let arrow = reader.layout().arrow.clone();
    Outcome {
        schema: reader.layout().schema,
        rows: arrow::compute::concat_batches(&arrow, &batches).unwrap(),
        batches: batches.iter().map(RecordBatch::num_rows).collect(),
        facts: reader.facts(),
        inspected,
    }
}

fn read(text: &str) -> Outcome {
    read_with(settings(), text.as_bytes())
}

fn pods(cells: &[&str]) -> String {
    let rows = cells.iter().map(|cells| format!("{AT},{cells}\r\n"));
    format!("{HEADER}{}", rows.collect::<String>())
}

#[test]
fn good_rows_become_typed_columns_with_derived_ones_behind_them() {
    let out = read(&pods(&["a,28800,61.0,label_x:1|label_empty:", "b,1e3,327673996441.02655,"]));
    assert_eq!(out.schema, 0);
    assert_eq!(out.text("pod"), ["a", "b"]);
    assert_eq!(out.text("labels"), ["label_x:1|label_empty:", ""]);
    assert_eq!(out.doubles("cpu"), [28_800.0, 1000.0]);
    assert_eq!(out.doubles("memory"), [61.0, 327_673_996_441.026_55]);
    let starts = out.rows.column(0).as_primitive::<TimestampMillisecondType>();
    assert_eq!(starts.value(0), 1_741_842_000_000);
    assert_eq!(starts.timezone(), Some("UTC"));
    let days = out.rows.column_by_name("day").unwrap().as_primitive::<Date32Type>();
    assert_eq!(days.value(1), 20_160);
    assert_eq!(out.text("month"), ["03", "03"]);
    assert_eq!(out.facts, MemberFacts::default());
}

#[test]
fn batches_are_full_but_for_the_last() {
    let out = read(&pods(&["a,1,1,"; 10]));
    assert_eq!(out.batches, [4, 4, 2]);
}

#[test]
fn long_rows_are_left_out_and_short_ones_filled_and_both_are_kept_to_look_at() {
    let rows = ["a,1,1,x", "b,1,1,x,surplus", "c,2", "d,1,1,x,\"sur,plus\",more", "e,1,1,x"];
    let text = pods(&rows).replacen("c,2\r\n", "c,2\r\n\r\n", 1);
    let out = read(&text);
    assert_eq!(out.text("pod"), ["a", "c", "e"]);
    assert_eq!(out.text("labels"), ["x", "", "x"]);
    assert_eq!(out.doubles("memory"), [1.0, 0.0, 1.0]);
    assert_eq!(out.rejected(), [("long_row", 2)]);
    assert_eq!(out.mended(), [("short_row", 1)]);
    let seen: Vec<_> = out.inspected.iter().map(|row| (row.line, row.reason, row.kept)).collect();
    assert_eq!(seen, [(3, "long_row", false), (4, "short_row", true), (6, "long_row", false)]);
    assert_eq!(out.inspected[2].text, format!("{AT},d,1,1,x,\"sur,plus\",more"));
}

#[test]
fn surplus_fields_can_be_cut_off_instead() {
    let rows = pods(&["a,1,1,x,surplus", "b,1,1,x"]);
    let out = read_with(CsvSettings { cut_long_rows: true, ..settings() }, rows.as_bytes());
    assert_eq!(out.text("labels"), ["x", "x"]);
    assert!(out.rejected().is_empty());
    assert_eq!(out.mended(), [("long_row", 1)]);
}

#[test]
fn values_that_are_no_numbers_become_zero_and_all_but_empty_ones_count() {
    let cells = ["abc", "", "NaN", "\"1,5\"", "12.5 cores", "0x10", "1e3", " 250.5 "];
    let rows: Vec<_> = cells.iter().map(|cell| format!("p,{cell},1,")).collect();
    let out = read(&pods(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(out.doubles("cpu"), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1000.0, 250.5]);
    assert_eq!(out.mended(), [("cpu", 5)]);
    assert!(out.rejected().is_empty());
}

#[test]
fn without_a_substitute_a_row_with_a_bad_number_is_left_out() {
    let rows = pods(&["a,abc,1,", "b,,1,", "c,1,1,"]);
    let out = read_with(CsvSettings { bad_double: None, ..settings() }, rows.as_bytes());
    assert_eq!(out.text("pod"), ["c"]);
    assert_eq!(out.rejected(), [("bad_double", 2)]);
    assert!(out.mended().is_empty());
}

#[test]
fn rows_above_the_bound_are_left_out_and_only_those() {
    let rows = ["a,1,2e18,", "b,1,1e18,", "c,1,inf,", "d,1,-5,", "e,3e18,1,", "f,x,2e18,"];
    let out = read(&pods(&rows));
    assert_eq!(out.text("pod"), ["b", "d", "e"]);
    assert_eq!(out.doubles("memory"), [1e18, -5.0, 1.0]);
    assert_eq!(out.rejected(), [("over_cap", 3)]);
    assert!(out.mended().is_empty(), "a row that is left out has no mended values");
}

#[test]
fn a_bad_instant_is_null_and_counted_and_an_empty_one_is_null() {
    let text = format!("{HEADER}someday,a,1,1,\r\n,b,1,1,\r\n{AT},c,1,1,\r\n");
    let out = read(&text);
    assert!(out.rows.column(0).is_null(0) && out.rows.column(0).is_null(1));
    assert!(out.rows.column_by_name("day").unwrap().is_null(0));
    assert_eq!(out.text("month"), ["null", "null", "03"]);
    assert_eq!(out.mended(), [("interval_start", 1)]);
}

#[test]
fn a_file_of_nothing_has_no_header_and_a_header_alone_no_batches() {
    assert!(open(settings(), b"").unwrap().is_none());
    assert!(open(settings(), b"\r\n\r\n").unwrap().is_none());
    let out = read(HEADER);
    assert_eq!((out.schema, out.batches.len()), (0, 0));
    assert_eq!(out.facts, MemberFacts::default());
}

#[test]
fn a_file_whose_columns_fit_no_schema_is_named_by_its_columns() {
    let error = open(settings(), b"interval_start,pod,color\r\nx,y,z\r\n").err().unwrap();
    assert_eq!(error.to_string(), "no declared schema fits the columns interval_start, pod, color");
    let zeros = vec![0u8; 5000];
    let error = open(settings(), &zeros).err().unwrap();
    assert!(matches!(error, ReadError::Row(RowError::TooLarge { line: 1, .. })), "{error}");
}

#[test]
fn a_header_beyond_the_column_limit_is_refused() {
    let header = vec!["c"; MAX_COLUMNS + 1].join(",");
    let settings = CsvSettings { max_row_bytes: 1 << 20, ..settings() };
    let error = open(settings, header.as_bytes()).err().unwrap();
    assert!(matches!(error, ReadError::TooManyColumns { columns } if columns == MAX_COLUMNS + 1));
}

#[test]
fn line_ends_a_byte_order_mark_and_quotes_make_no_difference() {
    let plain = read(&pods(&["a,1,2,x"]));
    let text = format!("\u{feff}{}", pods(&["\"a\",\"1\",2,\"x\""]).replace("\r\n", "\n"));
    let other = read(text.trim_end());
    assert_eq!(plain.rows, other.rows);
}

#[test]
fn quoted_fields_keep_separators_and_line_ends() {
    let out = read(&pods(&["\"a,\r\n\"\"b\"\"\",1,2,x", "c,1,2,x"]));
    assert_eq!(out.text("pod"), ["a,\r\n\"b\"", "c"]);
}

#[test]
fn bytes_that_are_no_utf8_are_replaced_and_counted() {
    let mut text = pods(&["a,1,2,x", "b,1,2,"]).into_bytes();
    let at = text.windows(2).rposition(|pair| pair == b"b,").unwrap();
    text[at] = 0xff;
    let out = read_with(settings(), &text);
    assert_eq!(out.text("pod"), ["a", "\u{fffd}"]);
    assert_eq!(out.mended(), [("pod", 1)]);
}

#[test]
fn a_row_beyond_the_limit_fails_the_file_with_its_line() {
    let text = pods(&["a,1,2,x", &format!("b,1,2,{}", "y".repeat(2000))]);
    let mut reader = open(settings(), text.as_bytes()).unwrap().unwrap();
    let error = reader.step().unwrap_err();
    assert!(matches!(error, ReadError::Row(RowError::TooLarge { line: 3, limit: 1000, .. })));
}

#[test]
fn rows_kept_to_look_at_are_bounded_in_number_and_size() {
    let long = format!("a,1,2,x,{}\r\n", "z".repeat(9000));
    let row = format!("{AT},{long}");
    let text = format!("{HEADER}{}", row.repeat(MAX_INSPECTED + 50));
    let settings = CsvSettings { max_row_bytes: 1 << 20, ..settings() };
    let out = read_with(settings, text.as_bytes());
    assert_eq!(out.rejected(), [("long_row", MAX_INSPECTED as u64 + 50)]);
    assert_eq!(out.inspected.len(), MAX_INSPECTED);
    assert!(out.inspected.iter().all(|row| row.text.len() <= MAX_INSPECTED_BYTES));
}

#[test]
fn big_rows_make_small_batches() {
    let big = format!("a,1,2,{}", "y".repeat(crate::columnar::batch::BATCH_BYTES / 2));
    let settings = CsvSettings { max_row_bytes: 16 << 20, batch_rows: 100, ..settings() };
    let out = read_with(settings, pods(&[&big, &big, &big]).as_bytes());
    assert_eq!(out.batches, [2, 1]);
}
