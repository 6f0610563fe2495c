//! `[[manifests.NAME.on_complete]]`.
//!
//! Responsible for: the actions of a completion, in order, and their names.
//! Not responsible for: preparing SQL (`completion`), or running anything.

use std::collections::BTreeMap;

use crate::completion::config::{Action, ActionKind};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::topology::nodes::unknown_type;
use crate::topology::{names, programs};

/// Reads the actions of a manifest. One without a name is called after its type and its number
/// among those of that type: `sql-1`.
pub(super) fn read(value: &Value<'_>) -> Option<Vec<Action>> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut actions: Vec<Option<Action>> = Vec::new();
    for element in value.list()? {
        let action = action(&element, &mut numbers);
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

fn action(value: &Value<'_>, numbers: &mut BTreeMap<String, usize>) -> Option<Action> {
    let section = value.section("[[on_complete]]")?;
    let kind = section.required("type")?;
    let type_name = kind.raw()?;
    let number = numbers.entry(type_name.to_owned()).or_default();
    *number += 1;
    let default = format!("{type_name}-{number}");
    let name = section.or("name", default, name);
    let action = match type_name {
        "sql" => sql(&section),
        "kafka" => kafka(&section),
        "http" => http(&section),
        other => return unknown_type(&kind, other, &["sql", "kafka", "http"]),
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

fn sql(section: &Section<'_>) -> Option<ActionKind> {
    let statements = section.need("statements", |value| {
        let statements = value.each(statement)?;
        if statements.is_empty() {
            return value.fail(Diagnostic::new("`statements` is empty"));
        }
        Some(statements)
    });
    Some(ActionKind::Sql { statements: statements? })
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
