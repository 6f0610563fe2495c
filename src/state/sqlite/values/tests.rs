//! What JSON values are in SQLite, and back.

use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use serde_json::json;

use super::{bound, cell, json as read};
use crate::sql::SqlType;
use crate::state::cells::Cell;

#[test]
fn parameters_are_bound_by_their_json_type() {
    let table = [
        (json!(null), SqlValue::Null),
        (json!(true), SqlValue::Integer(1)),
        (json!(false), SqlValue::Integer(0)),
        (json!(-3), SqlValue::Integer(-3)),
        (json!(0.5), SqlValue::Real(0.5)),
        (json!("a"), SqlValue::Text("a".to_owned())),
        (json!([1, "x"]), SqlValue::Text("[1,\"x\"]".to_owned())),
        (json!({"a": null}), SqlValue::Text("{\"a\":null}".to_owned())),
    ];
    for (value, wanted) in table {
        assert_eq!(bound(&value), wanted, "{value}");
    }
}

#[test]
fn stored_values_are_read_as_declared() {
    let table = [
        (ValueRef::Integer(1), Some(SqlType::Bool), json!(true)),
        (ValueRef::Integer(1), Some(SqlType::Int), json!(1)),
        (ValueRef::Integer(1), None, json!(1)),
        (ValueRef::Text(b"{\"a\":1}"), Some(SqlType::Json), json!({"a": 1})),
        (ValueRef::Text(b"{\"a\":1}"), Some(SqlType::Text), json!("{\"a\":1}")),
        (ValueRef::Text(b"no json"), Some(SqlType::Json), json!("no json")),
        (ValueRef::Real(f64::INFINITY), Some(SqlType::Double), json!(null)),
        (ValueRef::Null, Some(SqlType::Bool), json!(null)),
        (ValueRef::Blob(&[0, 255]), None, json!("00ff")),
    ];
    for (value, kind, wanted) in table {
        assert_eq!(read(value, kind), wanted, "{value:?}");
    }
}

#[test]
fn days_instants_and_booleans_are_bound_as_what_sqlite_has() {
    let text = |text: &str| ToSqlOutput::Owned(SqlValue::Text(text.to_owned()));
    let table = [
        (Cell::Date("2025-03-10".parse().unwrap()), text("2025-03-10")),
        (
            Cell::Instant("2025-03-10T00:00:00+01:00".parse().unwrap()),
            text("2025-03-09T23:00:00.000Z"),
        ),
        (Cell::Bool(true), ToSqlOutput::Owned(SqlValue::Integer(1))),
        (Cell::Json("[]".into()), ToSqlOutput::Borrowed(ValueRef::Text(b"[]"))),
        (Cell::Null, ToSqlOutput::Borrowed(ValueRef::Null)),
    ];
    for (value, wanted) in table {
        assert_eq!(cell(value), wanted);
    }
}
