//! Names of a topology.
//!
//! Responsible for: what may name a node, a topic, a table, a column, a field.
//! Not responsible for: whether a name is taken or known.

use crate::config::diagnostic::Diagnostic;
use crate::config::document::Value;
use crate::model::Topic;

/// Longest name of a pipeline, a node, a variable, a schema.
const LONGEST: usize = 64;

/// Longest name that both databases take for tables and columns.
const LONGEST_IDENTIFIER: usize = 63;

/// Longest name that Kafka takes for a topic.
const LONGEST_TOPIC: usize = 249;

/// Whether `name` can name a pipeline, a node, a variable or a schema. Such names go into topics,
/// paths and `node.port`, so dots and slashes are out.
pub(super) fn node(name: &str) -> Result<(), String> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts_well && name.len() <= LONGEST && name.chars().all(is_fit) {
        return Ok(());
    }
    Err(format!("a letter, then letters, digits, `_` and `-`, at most {LONGEST}"))
}

/// Whether `name` can name a table, a view, a column, a fact or a field.
pub(super) fn identifier(name: &str) -> Result<(), String> {
    let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if starts_well && name.len() <= LONGEST_IDENTIFIER && name.chars().all(is_fit) {
        return Ok(());
    }
    Err(format!(
        "a lowercase letter, then lowercase letters, digits and `_`, at most {LONGEST_IDENTIFIER}"
    ))
}

/// The identifier in a string.
pub(super) fn identifier_in(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    match identifier(&name) {
        Ok(()) => Some(name),
        Err(why) => {
            let message = format!("`{name}` cannot be used as `{}`", value.key());
            value.fail(Diagnostic::new(message).label(why))
        }
    }
}

/// The name of a topic in a string.
pub(super) fn topic(value: &Value<'_>) -> Option<Topic> {
    let name = value.word()?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_path = name == "." || name == "..";
    if name.len() <= LONGEST_TOPIC && name.chars().all(is_fit) && !is_path {
        return Some(Topic::from(name));
    }
    let label = format!("letters, digits, `.`, `_` and `-`, at most {LONGEST_TOPIC}");
    value.fail(Diagnostic::new(format!("`{name}` is not a name for a topic")).label(label))
}

/// Splits `node.port`.
pub(super) fn node_and_port(text: &str) -> (&str, Option<&str>) {
    match text.split_once('.') {
        Some((node, port)) => (node, Some(port)),
        None => (text, None),
    }
}
