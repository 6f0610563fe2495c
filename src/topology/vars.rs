//! `[vars]`: the only reader of the environment.
//!
//! Responsible for: declarations, their types, and values from the environment or the default.
//! Not responsible for: putting values into strings (`config::variables`).

use secrecy::SecretString;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Context, Section, Value};
use crate::config::units;
use crate::config::variables::Variables;
use crate::topology::names;

/// What a variable may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Host,
    Port,
    Bool,
    Int,
    Duration,
    Size,
    Url,
    Secret,
}

/// What a variable holds.
enum Content {
    Plain(String),
    Secret(SecretString),
}

const KINDS: [(&str, Kind); 9] = [
    ("text", Kind::Text),
    ("host", Kind::Host),
    ("port", Kind::Port),
    ("bool", Kind::Bool),
    ("int", Kind::Int),
    ("duration", Kind::Duration),
    ("size", Kind::Size),
    ("url", Kind::Url),
    ("secret", Kind::Secret),
];

/// Reads `[vars]` of the document. A variable without a sensible value is reported here, once,
/// whatever uses it.
pub(super) fn read<'a>(
    cx: Context<'a>,
    document: &'a DeTable<'a>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Variables {
    let mut variables = Variables::default();
    let root = Section::new(cx, "the topology", document, 0..0);
    let Some(section) = root.value("vars").and_then(|value| value.section("[vars]")) else {
        return variables;
    };
    for declaration in section.entries() {
        if let Err(why) = names::node(declaration.key()) {
            let message = format!("`{}` is not a name for a variable", declaration.key());
            cx.report.push(Diagnostic::new(message).at(declaration.key_span()).label(why));
        }
        match value_of(&declaration, env) {
            Some(Content::Secret(value)) => {
                variables.declare_secret(declaration.key(), Some(value));
            }
            Some(Content::Plain(value)) => variables.declare(declaration.key(), Some(value)),
            None => variables.declare(declaration.key(), None),
        }
    }
    variables
}

fn value_of(declaration: &Value<'_>, env: &dyn Fn(&str) -> Option<String>) -> Option<Content> {
    let name = declaration.key();
    let section = declaration.section(format!("[vars] {name}"))?;
    let kind = section.or("type", Kind::Text, |value| value.choice(&KINDS));
    let variable = section.maybe("env", Value::word);
    let default = section.value("default");
    section.finish();
    let (kind, variable) = (kind?, variable?);
    if kind == Kind::Secret {
        return secret(declaration, variable.as_deref(), default, env).map(Content::Secret);
    }
    plain(declaration, kind, variable, default, env).map(Content::Plain)
}

/// A secret comes from the environment. What stands in a file for everybody to read is none, so
/// its default can only be empty: where it is not needed, it need not be set.
fn secret(
    declaration: &Value<'_>,
    variable: Option<&str>,
    default: Option<Value<'_>>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<SecretString> {
    if default.as_ref().is_some_and(|value| value.item().as_str() != Some("")) {
        let message = format!("the `default` of the secret `{}` is not empty", declaration.key());
        let help = "a secret comes from `env`; `default = \"\"` where it may be unset".to_owned();
        // Without a place: that would show the line, and with it the secret.
        declaration.context().report.push(Diagnostic::new(message).help(help));
        return None;
    }
    let text = variable.and_then(env).or_else(|| default.is_some().then(String::new));
    match text {
        Some(text) => Some(SecretString::from(text)),
        None => missing(declaration, variable),
    }
}

fn plain(
    declaration: &Value<'_>,
    kind: Kind,
    variable: Option<String>,
    default: Option<Value<'_>>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let name = declaration.key();
    let default = match default {
        Some(value) => Some(default_of(&value, kind)?),
        None => None,
    };
    let from_env = variable.as_deref().and_then(env);
    let Some(text) = from_env else {
        return default.or_else(|| missing(declaration, variable.as_deref()));
    };
    match checked(kind, &text) {
        Ok(value) => Some(value),
        Err(why) => {
            let variable = variable.unwrap_or_default();
            let message = format!("environment variable {variable} is `{text}`, which {why}");
            let label = format!("`{name}` is declared as {} here", called(kind));
            declaration.fail(Diagnostic::new(message).label(label))
        }
    }
}

fn missing<T>(declaration: &Value<'_>, variable: Option<&str>) -> Option<T> {
    let name = declaration.key();
    let (message, help) = match variable {
        Some(variable) => (
            format!("variable `{name}` has no value: environment variable {variable} is not set"),
            format!("set {variable}, or give `default`"),
        ),
        None => {
            (format!("variable `{name}` has no value"), "give `env`, `default` or both".to_owned())
        }
    };
    declaration.fail(Diagnostic::new(message).help(help))
}

fn default_of(value: &Value<'_>, kind: Kind) -> Option<String> {
    let text = match value.item() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(_) => value.integer(i64::MIN..=i64::MAX)?.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        _ => return value.wrong("a string, an integer or a boolean"),
    };
    match checked(kind, &text) {
        Ok(value) => Some(value),
        Err(why) => value.fail(Diagnostic::new(format!("`default` {why}"))),
    }
}

fn called(kind: Kind) -> String {
    let name = KINDS.iter().find(|(_, known)| *known == kind).map_or("text", |(name, _)| *name);
    format!("{} {name}", if kind == Kind::Int { "an" } else { "a" })
}

/// The value as it goes into strings, or why `text` is none of its kind.
fn checked(kind: Kind, text: &str) -> Result<String, String> {
    let as_it_is = |is_fit: bool, why: &str| {
        if is_fit { Ok(text.to_owned()) } else { Err(why.to_owned()) }
    };
    match kind {
        Kind::Text | Kind::Secret => Ok(text.to_owned()),
        Kind::Host => host(text),
        Kind::Port => as_it_is(
            text.parse::<u16>().is_ok_and(|port| port > 0),
            "is not a port: a number from 1 to 65535",
        ),
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok("true".to_owned()),
            "false" | "0" => Ok("false".to_owned()),
            _ => Err("is neither true nor false".to_owned()),
        },
        Kind::Int => as_it_is(text.parse::<i64>().is_ok(), "is not an integer"),
        Kind::Duration => {
            as_it_is(units::duration(text).is_some(), "is not a time such as \"30s\" or \"24h\"")
        }
        Kind::Size => as_it_is(units::size(text).is_some(), "is not a size such as \"150 MiB\""),
        Kind::Url => as_it_is(
            text.contains("://") && reqwest::Url::parse(text).is_ok(),
            "is not a URL such as \"https://host/path\"",
        ),
    }
}

/// An empty host is fine: it says that there is none.
fn host(text: &str) -> Result<String, String> {
    let is_address = text.starts_with('[') && text.ends_with(']');
    if text.contains(':') && !is_address {
        return Err("is not a host: it contains `:`; the port belongs into its own".to_owned());
    }
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if is_address || text.chars().all(is_fit) {
        return Ok(text.to_owned());
    }
    Err("is not a host name".to_owned())
}
