//! Responsible for: groups against a naive computation, and the limits.
//! Not responsible for: types of cells (`columnar::cell`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Float64Array, StringArray};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;

use super::*;
use crate::expr::fixtures;
use crate::model::event::MemberFacts;
use crate::processor::config::AggregateColumn;

#[derive(Default)]
struct Taken {
    emitted: Vec<Record>,
    beats: usize,
}

impl Emit for Taken {
    fn emit(&mut self, port: Port, record: Record) -> Result<(), Failure> {
        assert_eq!(port, Port::FIRST);
        self.emitted.push(record);
        Ok(())
    }

    fn note(&mut self, _: MemberFacts) {}

    fn progress(&mut self) {
        self.beats += 1;
    }
}

impl Taken {
    fn rows(&self, index: usize) -> &RecordBatch {
        match &self.emitted[index].body {
            Body::Columns(columns) => &columns.rows,
            other => panic!("{other:?} has no rows"),
        }
    }
}

type Row = (Option<i32>, &'static str, f64);

fn result(name: &str, function: AggregateFunction, column: Option<&str>) -> AggregateColumn {
    AggregateColumn { name: name.into(), function, column: column.map(str::to_owned) }
}

fn config(columns: Vec<AggregateColumn>, max_groups: usize) -> Aggregate {
    Aggregate { by: vec!["day".into(), "space".into()], columns, max_groups }
}

fn everything() -> Vec<AggregateColumn> {
    vec![
        result("total", AggregateFunction::Sum, Some("cost")),
        result("least", AggregateFunction::Min, Some("cost")),
        result("most", AggregateFunction::Max, Some("cost")),
        result("rows", AggregateFunction::Count, None),
        result("costs", AggregateFunction::Distinct, Some("cost")),
    ]
}

fn batch(rows: &[Row]) -> RecordBatch {
    let days: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Date32Array>());
    let spaces: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    let costs: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)));
    let columns = [("day", days, true), ("space", spaces, false), ("cost", costs, false)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn record(schema: &str, rows: &[Row]) -> Record {
    let mut record = fixtures::record("{}");
    record.meta = Arc::new(Metadata { schema: Some(schema.into()), ..Metadata::default() });
    record.body = Body::Columns(Columns { rows: batch(rows) });
    record
}

fn run(config: Aggregate, inputs: Vec<Record>) -> (Result<(), Failure>, Taken) {
    let mut node = AggregateNode::new(config);
    let mut taken = Taken::default();
    for input in inputs {
        if let Err(failure) = node.apply(input, &mut taken) {
            node.abort();
            return (Err(failure), taken);
        }
    }
    (node.finish(&mut taken), taken)
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let array = batch.column_by_name(column).unwrap().as_string::<i32>();
    array.iter().flatten().map(str::to_owned).collect()
}

fn doubles(batch: &RecordBatch, column: &str) -> Vec<f64> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn counts(batch: &RecordBatch, column: &str) -> Vec<i64> {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn groups_leave_at_the_end_in_the_order_in_which_they_appeared() {
    let inputs = vec![
        record("pods", &[(Some(1), "b", 2.0), (Some(1), "a", 1.0), (Some(1), "b", 2.0)]),
        record("pods", &[(None, "b", 5.0), (Some(1), "b", -7.0)]),
    ];
    let (result, taken) = run(config(everything(), 100), inputs);
    result.unwrap();
    assert_eq!(taken.emitted.len(), 1);
    let rows = taken.rows(0);
    let days = rows.column_by_name("day").unwrap().as_primitive::<Date32Type>();
    assert_eq!(days.iter().collect::<Vec<_>>(), [Some(1), Some(1), None]);
    assert_eq!(texts(rows, "space"), ["b", "a", "b"]);
    assert_eq!(doubles(rows, "total"), [-3.0, 1.0, 5.0]);
    assert_eq!(doubles(rows, "least"), [-7.0, 1.0, 5.0]);
    assert_eq!(doubles(rows, "most"), [2.0, 1.0, 5.0]);
    assert_eq!(counts(rows, "rows"), [3, 1, 1]);
    assert_eq!(counts(rows, "costs"), [2, 1, 1]);
    assert!(taken.beats >= 2);
}

#[test]
fn each_schema_has_groups_of_its_own_and_keeps_its_name() {
    let rows = [(Some(1), "a", 1.0)];
    let inputs = vec![record("pods", &rows), record("nodes", &rows), record("pods", &rows)];
    let (result, taken) = run(config(everything(), 100), inputs);
    result.unwrap();
    let schemas: Vec<_> = taken.emitted.iter().map(|r| r.meta.schema.as_deref()).collect();
    assert_eq!(schemas, [Some("pods"), Some("nodes")]);
    assert_eq!(counts(taken.rows(0), "rows"), [2]);
    assert_eq!(counts(taken.rows(1), "rows"), [1]);
}

#[test]
fn nothing_is_left_over_for_the_next_record() {
    let mut node = AggregateNode::new(config(everything(), 100));
    let mut taken = Taken::default();
    node.apply(record("pods", &[(Some(1), "a", 1.0)]), &mut taken).unwrap();
    node.abort();
    node.finish(&mut taken).unwrap();
    assert!(taken.emitted.is_empty(), "an aborted record leaves nothing");
    node.apply(record("pods", &[(Some(1), "a", 1.0)]), &mut taken).unwrap();
    node.finish(&mut taken).unwrap();
    node.finish(&mut taken).unwrap();
    assert_eq!(taken.emitted.len(), 1, "groups leave once");
}

#[test]
fn values_that_are_not_there_take_no_part() {
    let costs: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(2.0), None]));
    let spaces: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "b"]));
    let columns = [("space", spaces, false), ("cost", costs, true)];
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut input = fixtures::record("{}");
    input.body = Body::Columns(Columns { rows });
    let settings = Aggregate { by: vec!["space".into()], columns: everything(), max_groups: 9 };
    let (result, taken) = run(settings, vec![input]);
    result.unwrap();
    let totals = taken.rows(0).column_by_name("total").unwrap();
    assert!(totals.is_null(0) && totals.is_valid(1));
    assert_eq!(counts(taken.rows(0), "costs"), [0, 1]);
    assert_eq!(counts(taken.rows(0), "rows"), [1, 2]);
}

#[test]
fn beyond_the_limit_partial_groups_leave_early_and_add_up() {
    let columns = vec![result("total", AggregateFunction::Sum, Some("cost"))];
    let rows = [(Some(1), "a", 1.0), (Some(1), "b", 2.0), (Some(1), "c", 4.0), (Some(1), "a", 8.0)];
    let (result, taken) = run(config(columns, 2), vec![record("pods", &rows)]);
    result.unwrap();
    assert_eq!(taken.emitted.len(), 2);
    assert_eq!(texts(taken.rows(0), "space"), ["a", "b"]);
    assert_eq!(texts(taken.rows(1), "space"), ["c", "a"]);
    assert_eq!(doubles(taken.rows(0), "total"), [1.0, 2.0]);
    assert_eq!(doubles(taken.rows(1), "total"), [4.0, 8.0]);
}

#[test]
fn counts_of_different_values_are_refused_beyond_the_limit() {
    let columns = || vec![result("costs", AggregateFunction::Distinct, Some("cost"))];
    let groups = [(Some(1), "a", 1.0), (Some(1), "b", 1.0), (Some(1), "c", 1.0)];
    let (refused, taken) = run(config(columns(), 2), vec![record("pods", &groups)]);
    assert_eq!(refused.unwrap_err().class(), Some(&FailureClass::TOO_LARGE));
    assert!(taken.emitted.is_empty());
    let values = [(Some(1), "a", 1.0), (Some(1), "a", 2.0), (Some(1), "a", 3.0)];
    let (refused, _) = run(config(columns(), 2), vec![record("pods", &values)]);
    assert_eq!(refused.unwrap_err().class(), Some(&FailureClass::TOO_LARGE));
}

#[test]
fn columns_that_are_missing_or_of_the_wrong_type_are_named() {
    let rows = [(Some(1), "a", 1.0)];
    let text = vec![result("total", AggregateFunction::Sum, Some("space"))];
    let (refused, _) = run(config(text, 9), vec![record("pods", &rows)]);
    assert!(refused.unwrap_err().why().contains("space"));
    let missing = vec![result("total", AggregateFunction::Sum, Some("price"))];
    let (refused, _) = run(config(missing, 9), vec![record("pods", &rows)]);
    assert!(refused.unwrap_err().why().contains("price"));
    let (refused, _) = run(config(everything(), 9), vec![fixtures::record("{}")]);
    assert_eq!(refused.unwrap_err().class(), Some(&FailureClass::REJECTED));
}

#[test]
fn results_have_the_types_that_tables_expect() {
    let (result, taken) =
        run(config(everything(), 9), vec![record("pods", &[(Some(1), "a", 1.0)])]);
    result.unwrap();
    let types: Vec<_> =
        taken.rows(0).schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let (double, int) = (DataType::Float64, DataType::Int64);
    let expected = [
        DataType::Date32,
        DataType::Utf8,
        double.clone(),
        double.clone(),
        double,
        int.clone(),
        int,
    ];
    assert_eq!(types, expected);
}

proptest! {
    #[test]
    fn sums_and_counts_added_up_by_a_reader_equal_the_naive_ones(
        rows in proptest::collection::vec(
            (proptest::option::of(0i32..3), 0usize..4, -100i32..100), 1..60,
        ),
        cut in 0usize..60,
        max_groups in 1usize..8,
    ) {
        const SPACES: [&str; 4] = ["", "a", "ab", "b"];
        let rows: Vec<Row> = rows
            .into_iter()
            .map(|(day, space, cost)| (day, SPACES[space], f64::from(cost) / 4.0))
            .collect();
        let columns = vec![
            result("total", AggregateFunction::Sum, Some("cost")),
            result("rows", AggregateFunction::Count, None),
        ];
        let (front, back) = rows.split_at(cut.min(rows.len()));
        let inputs = vec![record("s", front), record("s", back)];
        let (outcome, taken) = run(config(columns, max_groups), inputs);
        outcome.unwrap();

        let mut naive: BTreeMap<(Option<i32>, String), (f64, i64)> = BTreeMap::new();
        for (day, space, cost) in &rows {
            let group = naive.entry((*day, (*space).to_owned())).or_default();
            *group = (group.0 + cost, group.1 + 1);
        }
        let mut read: BTreeMap<(Option<i32>, String), (f64, i64)> = BTreeMap::new();
        for index in 0..taken.emitted.len() {
            let rows = taken.rows(index);
            prop_assert!(rows.num_rows() <= max_groups);
            let days = rows.column_by_name("day").unwrap().as_primitive::<Date32Type>();
            let values = doubles(rows, "total").into_iter().zip(counts(rows, "rows"));
            for ((day, space), (total, count)) in days.iter().zip(texts(rows, "space")).zip(values) {
                let group = read.entry((day, space)).or_default();
                *group = (group.0 + total, group.1 + count);
            }
        }
        prop_assert_eq!(read, naive);
    }
}
