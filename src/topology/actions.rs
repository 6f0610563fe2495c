//! `[[manifests.NAME.on_complete]]`.
//!
//! Responsible for: the actions of a completion, in order, their names, and whether their SQL is
//! what it has to be as far as that shows without a database.
//! Not responsible for: preparing SQL (`state`), or running anything.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::completion::config::{Action, ActionKind};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::config::units;
use crate::sql::{SqlError, Statement, StatementKind};
use crate::topology::nodes::unknown_type;
use crate::topology::{names, programs};

/// Names that `:name` stands for in SQL; `None` where they cannot be told, because the facts have
/// errors.
type Bound<'b> = Option<&'b [&'b str]>;

/// Reads the actions of a manifest. One without a name is called after its type and its number
/// among those of that type: `sql-1`.
pub(super) fn read(value: &Value<'_>, bound: Bound<'_>) -> Option<Vec<Action>> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut actions: Vec<Option<Action>> = Vec::new();
    for element in value.list()? {
        let action = action(&element, bound, &mut numbers);
        let is_taken = |name: &str| actions.iter().flatten().any(|earlier| earlier.name == name);
        let action = match action {
            Some(action) if is_taken(&action.name) => {
                let message = format!("there are two actions called `{}`", action.name);
                element.fail(Diagnostic::new(message))
            }
            other => other,
        };
        actions.push(action);
    }
    actions.into_iter().collect()
}

fn action(
    value: &Value<'_>,
    bound: Bound<'_>,
    numbers: &mut BTreeMap<String, usize>,
) -> Option<Action> {
    let section = value.section("[[on_complete]]")?;
    let kind = section.required("type")?;
    let type_name = kind.raw()?;
    let number = numbers.entry(type_name.to_owned()).or_default();
    *number += 1;
    let default = format!("{type_name}-{number}");
    let name = section.or("name", default, name);
    let action = match type_name {
        "sql" => sql(&section, bound),
        "kafka" => kafka(&section),
        "http" => http(&section),
        "retire" => retire(&section, bound),
        other => return unknown_type(&kind, other, &["sql", "kafka", "http", "retire"]),
    };
    section.finish();
    Some(Action { name: name?, kind: action? })
}

fn name(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    match names::node(&name) {
        Ok(()) => Some(name),
        Err(why) => {
            let message = format!("`{name}` cannot be used as a name");
            value.fail(Diagnostic::new(message).label(why))
        }
    }
}

fn sql(section: &Section<'_>, bound: Bound<'_>) -> Option<ActionKind> {
    let statements = section.need("statements", |value| {
        let statements = value.each(|value| checked(value, "statement", bound, change))?;
        if statements.is_empty() {
            return value.fail(Diagnostic::new("`statements` is empty"));
        }
        Some(statements)
    });
    Some(ActionKind::Sql { statements: statements? })
}

fn retire(section: &Section<'_>, bound: Bound<'_>) -> Option<ActionKind> {
    let parse = Statement::parse_catalogue_query;
    let query = section.need("query", |value| checked(value, "query", bound, parse));
    Some(ActionKind::Retire { query: query? })
}

/// A statement that changes rows.
fn change(text: &str) -> Result<Statement, SqlError> {
    let statement = Statement::parse(text)?;
    if statement.kind() == StatementKind::Query {
        let message = "an action changes rows with INSERT, UPDATE or DELETE".to_owned();
        return Err(SqlError { at: text.len() - text.trim_start().len(), message });
    }
    Ok(statement)
}

/// SQL that `parse` takes and whose parameters are bound.
fn checked(
    value: &Value<'_>,
    what: &str,
    bound: Bound<'_>,
    parse: fn(&str) -> Result<Statement, SqlError>,
) -> Option<String> {
    let text = statement(value)?;
    let (error, help) = match parse(&text) {
        Err(error) => (error, None),
        Ok(parsed) => match bound.map(|bound| (bound, parsed.check_parameters(bound))) {
            Some((bound, Err(error))) => (error, units::listing(bound)),
            _ => return Some(text),
        },
    };
    let message = format!("the {what} in `{}` is not valid: {}", value.key(), error.message);
    let help = help.map(|bound| format!("bound here: {bound}"));
    value.fail(Diagnostic::new(message).at(value.inside(word_at(&text, error.at))).help(help))
}

/// The word that begins at a place, or whatever one character stands there.
fn word_at(text: &str, at: usize) -> Range<usize> {
    let rest = text.get(at..).unwrap_or_default();
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')');
    at..at + rest.find(ends).unwrap_or(rest.len()).max(first)
}

/// A query as it stands: `${…}` means nothing in it.
pub(super) fn statement(value: &Value<'_>) -> Option<String> {
    let statement = value.raw()?;
    if statement.trim().is_empty() {
        return value.fail(Diagnostic::new("the statement is empty"));
    }
    Some(statement.to_owned())
}

fn kafka(section: &Section<'_>) -> Option<ActionKind> {
    let topic = section.need("topic", names::topic);
    let payload = section.need("payload", programs::map);
    let key = section.maybe("key", programs::key);
    Some(ActionKind::Kafka { topic: topic?, payload: payload?, key: key? })
}

fn http(section: &Section<'_>) -> Option<ActionKind> {
    let url = section.need("url", url);
    let payload = section.need("payload", programs::map);
    Some(ActionKind::Http { url: url?, payload: payload? })
}

fn url(value: &Value<'_>) -> Option<String> {
    let url = value.text()?;
    let parsed = reqwest::Url::parse(&url);
    let is_web = parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_web {
        return Some(url);
    }
    value.not(&url, "a URL such as \"https://host/path\"")
}
