//! Rows of declared tables and views.
//!
//! Responsible for: reading them by name, and CSV as RFC 4180 quotes it.
//! Not responsible for: which rows count (`state`).

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::ops::OpsError;
use crate::ops::text::printable;
use crate::state::{StateStore, TablePage};

/// Rows of a table or view.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Columns and rows.
    pub page: TablePage,
    /// Whether the limit left some out.
    pub more: bool,
}

/// The first rows of a declared table or view, at most `limit`; 0 is no limit.
///
/// # Errors
/// [`OpsError::Unknown`], with the names of those that there are, if none of that name is declared.
pub async fn rows(store: &dyn StateStore, name: &str, limit: u32) -> Result<Rows, OpsError> {
    let known = store.tables().await?;
    if !known.iter().any(|known| known == name) {
        return Err(OpsError::Unknown(unknown(name, &known)));
    }
    let one_more = if limit == 0 { 0 } else { limit.saturating_add(1) };
    let mut page = store.table_page(name, one_more).await?;
    let more = limit != 0 && page.rows.len() > limit as usize;
    if more {
        page.rows.truncate(limit as usize);
    }
    Ok(Rows { page, more })
}

fn unknown(name: &str, known: &[String]) -> String {
    let name = printable(name);
    if known.is_empty() {
        return format!("no table or view called {name}: none is declared in this store");
    }
    format!("no table or view called {name} is declared; there are: {}", known.join(", "))
}

/// Writes a header and the rows as CSV: quotes where RFC 4180 needs them, lines ended by LF. A
/// null is an empty field, an empty text `""`; JSON is written as text. In a single column a null
/// is `""` too, because readers skip empty lines.
///
/// # Errors
/// Those of `out`.
pub fn write_csv(page: &TablePage, out: &mut impl Write) -> io::Result<()> {
    let header: Vec<String> = page.columns.iter().map(|name| quoted(name)).collect();
    writeln!(out, "{}", header.join(","))?;
    for row in &page.rows {
        let fields: Vec<String> = page.columns.iter().map(|name| field(row, name)).collect();
        let line = fields.join(",");
        out.write_all(if line.is_empty() { b"\"\"" } else { line.as_bytes() })?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn field(row: &Map<String, Value>, column: &str) -> String {
    match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(value) => quoted(&plain(value)),
    }
}

/// A value as plain text.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn csv(columns: &[&str], rows: &[Value]) -> String {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let rows = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        let mut out = Vec::new();
        write_csv(&TablePage { columns, rows }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        let rows = [
            json!({"a": "plain", "b": "with, comma"}),
            json!({"a": "a \"quote\"", "b": "two\nlines"}),
            json!({"a": "return\r", "b": " blank "}),
        ];
        let wanted = "a,b\nplain,\"with, comma\"\n\"a \"\"quote\"\"\",\"two\nlines\"\n\
                      \"return\r\", blank \n";
        assert_eq!(csv(&["a", "b"], &rows), wanted);
    }

    #[test]
    fn a_null_is_not_an_empty_text() {
        let rows = [json!({"a": null, "b": ""}), json!({"b": 1})];
        assert_eq!(csv(&["a", "b"], &rows), "a,b\n,\"\"\n,1\n");
        assert_eq!(csv(&["a"], &rows), "a\n\"\"\n\"\"\n", "no line is empty");
    }

    #[test]
    fn numbers_truths_and_json_are_written_as_text() {
        let rows = [json!({"n": -1.5, "t": true, "j": {"k": [1, "x"]}})];
        let wanted = "n,t,j\n-1.5,true,\"{\"\"k\"\":[1,\"\"x\"\"]}\"\n";
        assert_eq!(csv(&["n", "t", "j"], &rows), wanted);
    }

    #[test]
    fn a_table_without_rows_has_a_header() {
        assert_eq!(csv(&["a", "b,c"], &[]), "a,\"b,c\"\n");
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let known = ["hours".to_owned(), "sums".to_owned()];
        let wanted = "no table or view called sum is declared; there are: hours, sums";
        assert_eq!(unknown("sum", &known), wanted);
    }
}
