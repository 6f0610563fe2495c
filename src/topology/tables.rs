//! `[tables]` and `[[views]]`.
//!
//! Responsible for: tables and views as they are declared.
//! Not responsible for: creating them (`state`), or who writes to them (`checks`).

use crate::completion::config::{Owner, Table, TableType, View};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::config::units;
use crate::topology::{actions, names};

const TYPES: [(&str, TableType); 7] = [
    ("text", TableType::Text),
    ("int", TableType::Int),
    ("double", TableType::Double),
    ("bool", TableType::Bool),
    ("date", TableType::Date),
    ("instant", TableType::Instant),
    ("json", TableType::Json),
];

/// Reads all tables, in the order of the file; `None` stands for one with errors.
pub(super) fn tables(root: &Section<'_>) -> Vec<Option<Table>> {
    let section = root.value("tables").and_then(|value| value.section("[tables]"));
    let entries = section.map_or_else(Vec::new, |section| section.entries());
    entries.iter().map(table).collect()
}

fn table(entry: &Value<'_>) -> Option<Table> {
    let is_named = is_identifier(entry);
    let section = entry.section(format!("table `{}`", entry.key()))?;
    let columns = section.need("columns", columns);
    let key = section.maybe("key", |value| value.each(Value::word));
    let owner = section.maybe("owner", |value| {
        value.choice(&[("member", Owner::Member), ("manifest", Owner::Manifest)])
    });
    let key_place = section.value("key").map_or_else(|| section.span(), |value| value.span());
    section.finish();
    let (columns, key, owner) = (columns?, key?, owner?);
    let owner = match (owner, key) {
        (Some(owner), None) => owner,
        (None, Some(key)) if !key.is_empty() => {
            let known: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            if let Some(unknown) = key.iter().find(|column| !known.contains(&column.as_str())) {
                let message = format!("key column `{unknown}` is not declared");
                let help = units::hint(unknown, &known);
                return entry.fail(Diagnostic::new(message).at(key_place).help(help));
            }
            Owner::Key(key)
        }
        _ => {
            let message = format!("table `{}` needs either `owner` or `key`", entry.key());
            let help = "owner = \"member\" or \"manifest\" for sinks, key = [\"name\"] for actions";
            let diagnostic = Diagnostic::new(message).at(entry.key_span());
            return entry.fail(diagnostic.help(help.to_owned()));
        }
    };
    is_named.then(|| Table { name: entry.key().to_owned(), owner, columns })
}

fn columns(value: &Value<'_>) -> Option<Vec<(String, TableType)>> {
    let section = value.section("`columns`")?;
    let read = |entry: &Value<'_>| {
        let (is_named, kind) = (is_identifier(entry), entry.choice(&TYPES));
        is_named.then_some((entry.key().to_owned(), kind?))
    };
    let read: Vec<Option<(String, TableType)>> = section.entries().iter().map(read).collect();
    if read.is_empty() {
        return value.fail(Diagnostic::new("`columns` is empty"));
    }
    read.into_iter().collect()
}

/// Reports a key that databases do not take as a name. Names with `_` in front are the engine's.
fn is_identifier(entry: &Value<'_>) -> bool {
    let Err(why) = names::identifier(entry.key()) else { return true };
    let message = format!("`{}` cannot name a table or a column", entry.key());
    let diagnostic = Diagnostic::new(message).at(entry.key_span()).label(why);
    entry.context().report.push(diagnostic);
    false
}

/// Reads all views, in order, which may not be called like one of `tables`.
pub(super) fn views(root: &Section<'_>, tables: &[Option<Table>]) -> Option<Vec<View>> {
    let Some(value) = root.value("views") else { return Some(Vec::new()) };
    let mut views: Vec<Option<View>> = Vec::new();
    for element in value.list()? {
        let view = view(&element);
        let is_taken = |name: &str| {
            tables.iter().flatten().any(|table| table.name == name)
                || views.iter().flatten().any(|earlier| earlier.name == name)
        };
        let view = match view {
            Some(view) if is_taken(&view.name) => {
                let message = format!("there is a table or a view called `{}` already", view.name);
                element.fail(Diagnostic::new(message))
            }
            other => other,
        };
        views.push(view);
    }
    views.into_iter().collect()
}

fn view(value: &Value<'_>) -> Option<View> {
    let section = value.section("[[views]]")?;
    let name = section.need("name", names::identifier_in);
    let query = section.need("query", actions::statement);
    section.finish();
    Some(View { name: name?, query: query? })
}
