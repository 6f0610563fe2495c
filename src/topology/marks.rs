//! Where the parts of a table stand.
//!
//! Responsible for: remembering places by path (`columns.hours`, `omit[year]`), so that a check
//! over the whole graph can still point at one word of the file; and the canonical text of a
//! table, which does not change with its layout.
//! Not responsible for: reading values.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use crate::config::document::Value;
use crate::config::variables::Variables;

/// Places of the parts of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    whole: Range<usize>,
    parts: BTreeMap<String, Range<usize>>,
}

impl Marks {
    /// The places inside `value`; what is not found stands at its key.
    pub fn of(value: &Value<'_>) -> Self {
        let mut marks = Self { whole: value.key_span(), parts: BTreeMap::new() };
        marks.walk("", value.item());
        marks
    }

    /// Where the table is named.
    pub fn whole(&self) -> Range<usize> {
        self.whole.clone()
    }

    /// Where `path` stands: `a`, `a.b`, or `a[text]` for an element of an array of strings.
    pub fn part(&self, path: &str) -> Range<usize> {
        self.parts.get(path).unwrap_or(&self.whole).clone()
    }

    fn walk(&mut self, path: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => {
                for (name, value) in table {
                    let inner = match path {
                        "" => name.get_ref().to_string(),
                        _ => format!("{path}.{}", name.get_ref()),
                    };
                    self.parts.insert(inner.clone(), value.span());
                    self.walk(&inner, value.get_ref());
                }
            }
            DeValue::Array(array) => {
                for (number, value) in array.iter().enumerate() {
                    let inner = match value.get_ref().as_str() {
                        Some(text) => format!("{path}[{text}]"),
                        None => format!("{path}[{number}]"),
                    };
                    self.parts.insert(inner.clone(), value.span());
                    self.walk(&inner, value.get_ref());
                }
            }
            _ => {}
        }
    }
}

/// The text of a value without its layout: keys sorted, variables put in. Two tables that say the
/// same have the same text. Secret variables stay names: another password changes no definition.
pub(super) fn canonical(value: &DeValue<'_>, variables: Option<&Variables>) -> String {
    json(value, variables).to_string()
}

fn json(value: &DeValue<'_>, variables: Option<&Variables>) -> serde_json::Value {
    match value {
        DeValue::String(text) => {
            let expanded = variables.and_then(|variables| variables.expand(text).ok());
            serde_json::Value::from(expanded.map_or_else(|| text.to_string(), |e| e.into_owned()))
        }
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| serde_json::Value::from(number.as_str()), serde_json::Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| serde_json::Value::from(number.as_str()), serde_json::Value::from),
        DeValue::Boolean(value) => serde_json::Value::from(*value),
        DeValue::Datetime(datetime) => serde_json::Value::from(datetime.to_string()),
        DeValue::Array(array) => {
            array.iter().map(|value| json(value.get_ref(), variables)).collect()
        }
        DeValue::Table(table) => {
            let sorted: BTreeMap<String, serde_json::Value> = table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref(), variables)))
                .collect();
            sorted.into_iter().collect()
        }
    }
}
