//! Which cells fit which columns.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, ListArray, NullArray,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;

use super::{Cell, Cells, instant_text};
use crate::sql::SqlType;

/// The first cell as a column of that type holds it; `None` if it cannot.
fn held(array: impl arrow::array::Array + 'static, kind: SqlType) -> Option<Cell<'static>> {
    let array: ArrayRef = Arc::new(array);
    let cells = Cells::of(&array).unwrap();
    cells.get(0, kind).map(|cell| match cell {
        Cell::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
        Cell::Json(text) => Cell::Json(Cow::Owned(text.into_owned())),
        Cell::Null => Cell::Null,
        Cell::Int(number) => Cell::Int(number),
        Cell::Double(number) => Cell::Double(number),
        Cell::Bool(value) => Cell::Bool(value),
        Cell::Date(day) => Cell::Date(day),
        Cell::Instant(at) => Cell::Instant(at),
    })
}

fn date(text: &str) -> Option<Cell<'static>> {
    Some(Cell::Date(text.parse().unwrap()))
}

fn instant(text: &str) -> Option<Cell<'static>> {
    Some(Cell::Instant(text.parse().unwrap()))
}

#[test]
fn whole_doubles_are_integers_and_others_are_refused() {
    let double = |number: f64| held(Float64Array::from(vec![number]), SqlType::Int);
    assert_eq!(double(3.0), Some(Cell::Int(3)));
    assert_eq!(double(-9_223_372_036_854_775_808.0), Some(Cell::Int(i64::MIN)));
    for refused in [3.5, f64::NAN, f64::INFINITY, 9_223_372_036_854_775_808.0] {
        assert_eq!(double(refused), None, "{refused}");
    }
}

#[test]
fn integers_are_doubles_where_that_is_exact() {
    let int = |number: u64| held(UInt64Array::from(vec![number]), SqlType::Double);
    assert_eq!(int(1 << 53), Some(Cell::Double(9_007_199_254_740_992.0)));
    assert_eq!(int((1 << 53) + 1), None);
    assert_eq!(held(Int32Array::from(vec![-7]), SqlType::Int), Some(Cell::Int(-7)));
}

#[test]
fn days_are_instants_at_midnight_and_instants_are_no_days() {
    let day = || Date32Array::from(vec![20_157]);
    assert_eq!(held(day(), SqlType::Date), date("2025-03-10"));
    assert_eq!(held(day(), SqlType::Instant), instant("2025-03-10T00:00:00Z"));
    assert_eq!(held(day(), SqlType::Int), None);
    let at =
        || TimestampMicrosecondArray::from(vec![1_741_564_800_123_456]).with_timezone("+00:00");
    assert_eq!(held(at(), SqlType::Instant), instant("2025-03-10T00:00:00.123Z"));
    assert_eq!(held(at(), SqlType::Date), None);
    let text = Some(Cell::Text(Cow::Borrowed("2025-03-10T00:00:00.123Z")));
    assert_eq!(held(at(), SqlType::Text), text);
}

#[test]
fn the_text_of_an_instant_always_has_milliseconds() {
    let at = "2025-03-10T02:00:00+02:00".parse().unwrap();
    assert_eq!(instant_text(at), "2025-03-10T00:00:00.000Z");
}

#[test]
fn text_is_read_as_what_the_column_holds() {
    let of = |value: &str, kind| held(StringArray::from(vec![value]), kind);
    assert_eq!(of("2025-03-10", SqlType::Date), date("2025-03-10"));
    let utc = instant("2025-03-09T22:00:00Z");
    assert_eq!(of("2025-03-10T00:00:00+02:00", SqlType::Instant), utc);
    assert_eq!(of("12", SqlType::Int), Some(Cell::Int(12)));
    assert_eq!(of("true", SqlType::Bool), Some(Cell::Bool(true)));
    let document = Some(Cell::Json(Cow::Borrowed("{\"a\": [1]}")));
    assert_eq!(of("{\"a\": [1]}", SqlType::Json), document);
    assert_eq!(of("10. March", SqlType::Text), Some(Cell::Text(Cow::Borrowed("10. March"))));
    for kind in [SqlType::Date, SqlType::Instant, SqlType::Int, SqlType::Bool, SqlType::Json] {
        assert_eq!(of("10. March", kind), None, "{kind:?}");
    }
}

#[test]
fn nulls_fit_every_column() {
    for kind in SqlType::ALL {
        assert_eq!(held(NullArray::new(1), kind), Some(Cell::Null), "{kind:?}");
        let null = held(BooleanArray::from(vec![None::<bool>]), kind);
        assert_eq!(null, Some(Cell::Null), "{kind:?}");
    }
}

#[test]
fn what_no_column_holds_is_an_error() {
    let numbers = vec![Some(vec![Some(1)])];
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(numbers));
    assert!(Cells::of(&list).is_err());
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert!(Cells::of(&large).is_err());
}
