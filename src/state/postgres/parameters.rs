//! Values that parameters of topologies are bound to.
//!
//! Responsible for: JSON values as the types that the server has inferred for `:name` want them,
//! where that loses nothing. A value that does not fit is a fault of its completion, which names
//! the parameter.
//! Not responsible for: finding parameters (`sql`), or running statements (`actions`).
//!
//! Values are sent as text, which the server reads by its own rules. What is checked here are
//! those rules that would let something else pass, or whose error would not name the parameter.

use bytes::BytesMut;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde_json::{Number, Value};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::state::Parameters;
use crate::state::postgres::nul;

/// A value as the server reads it; `None` is NULL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bound(Option<String>);

impl Bound {
    /// A text of the engine's own.
    pub(super) fn text(text: &str) -> Self {
        Self(Some(text.to_owned()))
    }
}

impl ToSql for Bound {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// Binds the parameters of a statement, or says which one cannot be bound.
pub(super) fn bind(
    names: &[String],
    wanted: &[Type],
    values: &Parameters,
) -> Result<Vec<Bound>, String> {
    names
        .iter()
        .zip(wanted)
        .map(|(name, kind)| {
            let Some(value) = values.get(name) else {
                return Err(format!("nothing is bound to :{name}"));
            };
            bound(value, kind).map_err(|why| format!(":{name} {why}"))
        })
        .collect()
}

fn bound(value: &Value, kind: &Type) -> Result<Bound, String> {
    if value.is_null() {
        return Ok(Bound(None));
    }
    if let Kind::Domain(inner) = kind.kind() {
        return bound(value, inner);
    }
    let text = match *kind {
        Type::INT2 => whole(value).and_then(in_range::<i16>),
        Type::INT4 => whole(value).and_then(in_range::<i32>),
        Type::INT8 => whole(value).map(|number| number.to_string()),
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => decimal(value),
        Type::BOOL => truth(value).map(|value| value.to_string()),
        Type::DATE => day(value).map(|day| day.to_string()),
        Type::TIMESTAMPTZ => instant(value).map(|at| at.to_string()),
        Type::TIMESTAMP => civil(value).map(|at| at.to_string()),
        Type::UUID => parsed::<Uuid>(value).map(|id| id.to_string()),
        Type::JSON => Some(value.to_string()),
        Type::JSONB => Some(nul::without_escaped(&value.to_string()).into_owned()),
        _ => Some(as_text(value)),
    };
    match text {
        Some(text) if text.contains('\0') => Err("has a NUL character, which no text has".into()),
        Some(text) => Ok(Bound(Some(text))),
        None => Err(format!("is {}, and not of type {kind}", described(value))),
    }
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A string as it is, anything else as JSON.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parsed<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(value) => Some(i64::from(*value)),
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().or_else(|| whole_float(number)),
        _ => None,
    }
}

fn whole_float(number: &Number) -> Option<i64> {
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    let number = float as i64;
    (number as f64 == float && number != i64::MAX).then_some(number)
}

fn in_range<T: TryFrom<i64>>(number: i64) -> Option<String> {
    T::try_from(number).is_ok().then(|| number.to_string())
}

fn decimal(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => text.parse::<f64>().is_ok().then(|| text.clone()),
        _ => None,
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// A day and nothing more: a time of day would be lost.
fn day(value: &Value) -> Option<Date> {
    parsed(value).filter(|day: &Date| value.as_str() == Some(day.to_string().as_str()))
}

/// A day is an instant at its midnight, as in columns.
fn instant(value: &Value) -> Option<Timestamp> {
    parsed(value).or_else(|| {
        let midnight = day(value)?.to_zoned(TimeZone::UTC).ok()?;
        Some(midnight.timestamp())
    })
}

/// An instant without a zone is meant in UTC.
fn civil(value: &Value) -> Option<DateTime> {
    let utc = |at: Timestamp| at.to_zoned(TimeZone::UTC).datetime();
    parsed(value).map(utc).or_else(|| parsed(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_bound_as_the_types_want_them() {
        let at = "2025-03-10T00:00:00.5Z";
        let table = [
            (Type::TEXT, json!("a\"ü"), Some("a\"ü")),
            (Type::TEXT, json!(1.5), Some("1.5")),
            (Type::VARCHAR, json!([1, "x"]), Some("[1,\"x\"]")),
            (Type::INT2, json!(-3), Some("-3")),
            (Type::INT4, json!("12"), Some("12")),
            (Type::INT8, json!(3.0), Some("3")),
            (Type::INT8, json!(true), Some("1")),
            (Type::FLOAT8, json!(0.1), Some("0.1")),
            (Type::FLOAT4, json!("1e3"), Some("1e3")),
            (Type::NUMERIC, json!(7), Some("7")),
            (Type::BOOL, json!(false), Some("false")),
            (Type::BOOL, json!(1), Some("true")),
            (Type::DATE, json!("2025-03-10"), Some("2025-03-10")),
            (Type::TIMESTAMPTZ, json!("2025-03-10T02:00:00.5+02:00"), Some(at)),
            (Type::TIMESTAMPTZ, json!("2025-03-10"), Some("2025-03-10T00:00:00Z")),
            (Type::TIMESTAMP, json!("2025-03-10T02:00:00+02:00"), Some("2025-03-10T00:00:00")),
            (Type::TIMESTAMP, json!("2025-03-10T02:00:00"), Some("2025-03-10T02:00:00")),
            (Type::JSONB, json!({"a": ["\0"]}), Some("{\"a\":[\"\u{FFFD}\"]}")),
            (Type::JSON, json!("text"), Some("\"text\"")),
            (
                Type::UUID,
                json!("67E55044-10B1-426F-9247-BB680E5FE0C8"),
                Some("67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ),
            (Type::TEXT_ARRAY, json!("{a,b}"), Some("{a,b}")),
            (Type::DATE, json!(null), None),
        ];
        for (kind, value, wanted) in table {
            let wanted = Bound(wanted.map(str::to_owned));
            assert_eq!(bound(&value, &kind), Ok(wanted), "{kind} {value}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let table = [
            (Type::TEXT, json!("a\0")),
            (Type::INT2, json!(40_000)),
            (Type::INT4, json!(3.5)),
            (Type::INT8, json!(1e300)),
            (Type::INT8, json!(9.3e18)),
            (Type::FLOAT8, json!("much")),
            (Type::NUMERIC, json!([])),
            (Type::BOOL, json!(2)),
            (Type::DATE, json!("10. March")),
            (Type::DATE, json!(20_157)),
            (Type::DATE, json!("2025-03-10T02:00:00")),
            (Type::TIMESTAMPTZ, json!("2025-03-10T02:00:00")),
            (Type::TIMESTAMPTZ, json!("noon")),
            (Type::UUID, json!("none")),
        ];
        for (kind, value) in table {
            assert!(bound(&value, &kind).is_err(), "{kind} {value}");
        }
    }

    #[test]
    fn a_fault_names_its_parameter() {
        let names = ["made".to_owned(), "stranger".to_owned()];
        let wanted = [Type::TIMESTAMPTZ, Type::TEXT];
        let bind_to = |made: Value| {
            bind(&names, &wanted, &Parameters::from([("made".to_owned(), made)])).unwrap_err()
        };
        assert_eq!(bind_to(json!("2025-03-10T00:00:00Z")), "nothing is bound to :stranger");
        let why = bind_to(json!([1]));
        assert_eq!(why, ":made is an array, and not of type timestamptz");
    }
}
