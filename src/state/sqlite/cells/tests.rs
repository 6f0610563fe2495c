//! Which cells fit which columns, and how they are written.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, ListArray, NullArray,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::Cells;
use crate::sql::SqlType;

/// The first cell as it is stored; `None` if it cannot be.
fn stored(array: impl arrow::array::Array + 'static, kind: SqlType) -> Option<Value> {
    let array: ArrayRef = Arc::new(array);
    let cells = Cells::of(&array).unwrap();
    let value = match cells.get(0, kind)? {
        ToSqlOutput::Owned(value) => value,
        ToSqlOutput::Borrowed(ValueRef::Null) => Value::Null,
        ToSqlOutput::Borrowed(ValueRef::Text(text)) => {
            Value::Text(String::from_utf8(text.to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    };
    Some(value)
}

fn text(of: &str) -> Option<Value> {
    Some(Value::Text(of.to_owned()))
}

#[test]
fn whole_doubles_are_integers_and_others_are_refused() {
    let double = |number: f64| stored(Float64Array::from(vec![number]), SqlType::Int);
    assert_eq!(double(3.0), Some(Value::Integer(3)));
    assert_eq!(double(-9_223_372_036_854_775_808.0), Some(Value::Integer(i64::MIN)));
    for refused in [3.5, f64::NAN, f64::INFINITY, 9_223_372_036_854_775_808.0] {
        assert_eq!(double(refused), None, "{refused}");
    }
}

#[test]
fn integers_are_doubles_where_that_is_exact() {
    let int = |number: u64| stored(UInt64Array::from(vec![number]), SqlType::Double);
    assert_eq!(int(1 << 53), Some(Value::Real(9_007_199_254_740_992.0)));
    assert_eq!(int((1 << 53) + 1), None);
    assert_eq!(stored(Int32Array::from(vec![-7]), SqlType::Int), Some(Value::Integer(-7)));
}

#[test]
fn days_and_instants_are_text() {
    let day = || Date32Array::from(vec![20_157]);
    assert_eq!(stored(day(), SqlType::Date), text("2025-03-10"));
    assert_eq!(stored(day(), SqlType::Instant), text("2025-03-10T00:00:00.000Z"));
    assert_eq!(stored(day(), SqlType::Int), None);
    let at =
        || TimestampMicrosecondArray::from(vec![1_741_564_800_123_456]).with_timezone("+00:00");
    assert_eq!(stored(at(), SqlType::Instant), text("2025-03-10T00:00:00.123Z"));
    assert_eq!(stored(at(), SqlType::Date), None);
}

#[test]
fn text_is_read_as_what_the_column_holds() {
    let of = |value: &str, kind| stored(StringArray::from(vec![value]), kind);
    assert_eq!(of("2025-03-10", SqlType::Date), text("2025-03-10"));
    let utc = text("2025-03-09T22:00:00.000Z");
    assert_eq!(of("2025-03-10T00:00:00+02:00", SqlType::Instant), utc);
    assert_eq!(of("12", SqlType::Int), Some(Value::Integer(12)));
    assert_eq!(of("true", SqlType::Bool), Some(Value::Integer(1)));
    assert_eq!(of("{\"a\": [1]}", SqlType::Json), text("{\"a\": [1]}"));
    assert_eq!(of("10. March", SqlType::Text), text("10. March"));
    for kind in [SqlType::Date, SqlType::Instant, SqlType::Int, SqlType::Bool, SqlType::Json] {
        assert_eq!(of("10. March", kind), None, "{kind:?}");
    }
}

#[test]
fn nulls_fit_every_column() {
    for kind in SqlType::ALL {
        let null = Some(Value::Null);
        assert_eq!(stored(NullArray::new(1), kind), null, "{kind:?}");
        assert_eq!(stored(BooleanArray::from(vec![None::<bool>]), kind), null, "{kind:?}");
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
