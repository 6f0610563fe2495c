//! Programs and templates inside a topology.
//!
//! Responsible for: compiling them, and pointing at the very characters of the file that are
//! wrong.
//! Not responsible for: the language itself (`expr`).

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::expr::{CompileError, Program, Purpose, Template};

/// The program in a string; `${…}` means nothing in it.
pub(super) fn program(value: &Value<'_>, purpose: Purpose) -> Option<Program> {
    let source = value.raw()?;
    match Program::compile(source, purpose) {
        Ok(program) => Some(program),
        Err(errors) => {
            for error in errors {
                report(value, "program", error);
            }
            None
        }
    }
}

/// A program that yields a value and changes nothing.
pub(super) fn key(value: &Value<'_>) -> Option<Program> {
    program(value, Purpose::Key)
}

/// A program that may change fields or make a payload.
pub(super) fn map(value: &Value<'_>) -> Option<Program> {
    program(value, Purpose::Map)
}

/// The programs of a table, by name, in the order of the file; names have to be identifiers if
/// `check` says so.
pub(super) fn named_keys(
    section: &Section<'_>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Vec<(String, Program)>> {
    let read = |entry: &Value<'_>| {
        if let Err(why) = check(entry.key()) {
            let message = format!("`{}` cannot be used as a name", entry.key());
            return entry.fail(Diagnostic::new(message).at(entry.key_span()).label(why));
        }
        key(entry).map(|program| (entry.key().to_owned(), program))
    };
    let read: Vec<Option<_>> = section.entries().iter().map(read).collect();
    read.into_iter().collect()
}

/// The template in a string. Variables work in it: `${name}` is put in first, `{…}` comes after.
pub(super) fn template(value: &Value<'_>) -> Option<Template> {
    let (raw, text) = (value.raw()?, value.text()?);
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(mut error) => {
            if text != raw {
                error.span = 0..raw.len();
            }
            report(value, "template", error);
            None
        }
    }
}

fn report(value: &Value<'_>, what: &str, error: CompileError) {
    let message = format!("the {what} in `{}` is not valid: {}", value.key(), error.message);
    let mut diagnostic = Diagnostic::new(message).at(value.inside(error.span)).help(error.help);
    if let Some(label) = error.label {
        diagnostic = diagnostic.label(label);
    }
    value.context().report.push(diagnostic);
}
