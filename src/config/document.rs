//! A TOML document whose every value knows where it stands.
//!
//! Responsible for: reading tables and values by hand, one key at a time, so that each error has a
//! place and none hides another; unknown keys, missing keys, wrong types and units.
//! Not responsible for: what the keys mean (`config`, `topology`).
//!
//! Serde is not used here: with tagged, flattened and untagged enums it loses the places, and it
//! stops at the first error.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Report};
use crate::config::units;
use crate::config::variables::{ExpandError, Variables};

/// What reading any part of a document needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The whole file.
    pub text: &'a str,
    /// Takes the errors.
    pub report: &'a Report,
    /// Variables that work in strings; `None` where there are none.
    pub variables: Option<&'a Variables>,
}

/// Parses a document; all errors of its syntax go to `report`.
pub fn parse<'t>(text: &'t str, report: &Report) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let is_sound = errors.is_empty();
    for error in errors {
        let diagnostic = Diagnostic::new(format!("not valid TOML: {}", error.message()));
        // An error without a place is about the whole file.
        report.push(diagnostic.at(error.span().unwrap_or_default()));
    }
    is_sound.then(|| table.into_inner())
}

/// A table that is being read. Every key that is asked for is a known one; [`Section::finish`]
/// reports the others.
pub struct Section<'a> {
    cx: Context<'a>,
    /// How messages call it: `[sources.orders]`.
    title: String,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// Reads `table`, which stands at `span` and is called `title` in messages.
    pub fn new(
        cx: Context<'a>,
        title: impl Into<String>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        Self { cx, title: title.into(), table, span, known: RefCell::default() }
    }

    /// What reading it needs.
    pub fn context(&self) -> Context<'a> {
        self.cx
    }

    /// Where it stands: its header, or the whole of an inline table.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// How messages call it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The value of `key`, if it is there.
    pub fn value(&self, key: &'static str) -> Option<Value<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let (name, item) = self.table.get_key_value(key)?;
        Some(Value { cx: self.cx, key: key.to_owned(), key_span: name.span(), item })
    }

    /// The value of `key`; it is an error if it is not there.
    pub fn required(&self, key: &'static str) -> Option<Value<'a>> {
        let value = self.value(key);
        if value.is_none() {
            let message = format!("`{key}` is missing in {}", self.title);
            self.report(Diagnostic::new(message));
        }
        value
    }

    /// What `read` makes of a key that has to be there.
    pub fn need<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.required(key).and_then(|value| read(&value))
    }

    /// What `read` makes of a key, or `default` without it. `None` if the value makes no sense.
    pub fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.value(key).map_or(Some(default), |value| read(&value))
    }

    /// What `read` makes of a key that may be absent. `None` if the value makes no sense.
    pub fn maybe<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.value(key).map_or(Some(None), |value| read(&value).map(Some))
    }

    /// All values under names of the user's choice, in the order of the file.
    pub fn entries(&self) -> Vec<Value<'a>> {
        let mut entries: Vec<Value<'a>> = self
            .table
            .iter()
            .map(|(name, item)| Value {
                cx: self.cx,
                key: name.get_ref().to_string(),
                key_span: name.span(),
                item,
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    /// Reports an error, at the section itself unless it has a place.
    pub fn report(&self, diagnostic: Diagnostic) {
        self.cx.report.push(diagnostic.or_at(self.span()));
    }

    /// Reports all keys that nobody asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        for entry in self.entries() {
            if known.iter().any(|known| *known == entry.key) {
                continue;
            }
            let message = format!("unknown key `{}` in {}", entry.key, self.title);
            let help = units::hint(&entry.key, &known);
            self.report(Diagnostic::new(message).at(entry.key_span.clone()).help(help));
        }
    }
}

/// One value, with its key.
#[derive(Clone)]
pub struct Value<'a> {
    cx: Context<'a>,
    key: String,
    key_span: Range<usize>,
    item: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// The key under which it stands; elements of an array have the array's.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the key stands.
    pub fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    /// Where the value stands.
    pub fn span(&self) -> Range<usize> {
        self.item.span()
    }

    /// The value as it was parsed.
    pub fn item(&self) -> &'a DeValue<'a> {
        self.item.get_ref()
    }

    /// What reading it needs.
    pub fn context(&self) -> Context<'a> {
        self.cx
    }

    /// Reports an error, at this value unless it has a place; never a value.
    pub fn fail<T>(&self, diagnostic: Diagnostic) -> Option<T> {
        self.cx.report.push(diagnostic.or_at(self.span()));
        None
    }

    /// Reports that the value should be `wanted`; never a value.
    pub fn wrong<T>(&self, wanted: &str) -> Option<T> {
        let found = match self.item() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{}` has to be {wanted}", self.key);
        self.fail(Diagnostic::new(message).label(format!("this is {found}")))
    }

    /// Reports that the text `found` is not `wanted`; never a value.
    pub fn not<T>(&self, found: &str, wanted: impl Display) -> Option<T> {
        let message = format!("`{}` has to be {wanted}", self.key);
        self.fail(Diagnostic::new(message).label(format!("`{found}` is not")))
    }

    /// A table.
    pub fn section(&self, title: impl Into<String>) -> Option<Section<'a>> {
        match self.item() {
            DeValue::Table(table) => Some(Section::new(self.cx, title, table, self.span())),
            _ => self.wrong("a table"),
        }
    }

    /// The elements of an array.
    pub fn list(&self) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.item() else { return self.wrong("an array") };
        let element = |item| Value {
            cx: self.cx,
            key: self.key.clone(),
            key_span: self.key_span.clone(),
            item,
        };
        Some(array.iter().map(element).collect())
    }

    /// What `read` makes of each element of an array; `None` if one of them makes no sense.
    pub fn each<T>(&self, read: impl Fn(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        let read: Vec<Option<T>> = self.list()?.iter().map(read).collect();
        read.into_iter().collect()
    }

    /// A string in which `${…}` means nothing: programs, queries, patterns.
    pub fn raw(&self) -> Option<&'a str> {
        match self.item().as_str() {
            Some(text) => Some(text),
            None => self.wrong("a string"),
        }
    }

    /// A string, with the values of variables in it.
    pub fn text(&self) -> Option<String> {
        let raw = self.raw()?;
        let Some(variables) = self.cx.variables else { return Some(raw.to_owned()) };
        match variables.expand(raw) {
            Ok(text) => Some(text.into_owned()),
            Err(error) => self.not_expanded(variables, error),
        }
    }

    /// A string that nobody gets to see: one with a secret variable in it. Never empty.
    pub fn secret(&self) -> Option<SecretString> {
        let raw = self.raw()?;
        let nothing = Variables::default();
        let variables = self.cx.variables.unwrap_or(&nothing);
        match variables.expand_secret(raw) {
            Ok(secret) if secret.expose_secret().is_empty() => {
                self.fail(Diagnostic::new(format!("`{}` is empty", self.key)))
            }
            Ok(secret) => Some(secret),
            Err(error) => self.not_expanded(variables, error),
        }
    }

    fn not_expanded<T>(&self, variables: &Variables, error: ExpandError) -> Option<T> {
        let (place, message, help) = match error {
            ExpandError::Broken => return None,
            ExpandError::Unknown(name, place) => {
                let help = units::hint(&name, &variables.names())
                    .unwrap_or_else(|| "declare it under [vars]".to_owned());
                (place, format!("unknown variable `{name}`"), help)
            }
            ExpandError::Unclosed(place) => {
                let help = "write `$${` for the characters themselves".to_owned();
                (place, "`${` without `}`".to_owned(), help)
            }
            ExpandError::Secret(name, place) => {
                let help = "secrets go into keys that are never shown, such as `password`";
                (place, format!("variable `{name}` is secret, `{}` is not", self.key), help.into())
            }
            ExpandError::NoSecret => return self.not_secret(),
        };
        self.fail(Diagnostic::new(message).at(self.inside(place)).help(help))
    }

    /// Without a place: that would show the line, and what is in it is meant to be secret.
    fn not_secret<T>(&self) -> Option<T> {
        let message = format!("`{}` has to come from a secret variable", self.key);
        let help = "declare it under [vars] with `type = \"secret\"`, and write `${name}`";
        let help = help.to_owned();
        self.cx.report.push(Diagnostic::new(message).help(help));
        None
    }

    /// A string that is not empty.
    pub fn word(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            return self.fail(Diagnostic::new(format!("`{}` is empty", self.key)));
        }
        Some(text)
    }

    /// A string or a date, as text.
    pub fn text_or_datetime(&self) -> Option<String> {
        match self.item() {
            DeValue::Datetime(datetime) => Some(datetime.to_string()),
            _ => self.text(),
        }
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        match self.item() {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(_) if self.has_variable() => match self.text()?.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                other => self.not(other, "true or false"),
            },
            _ => self.wrong("true or false"),
        }
    }

    /// An integer within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let (digits, radix) = match self.item() {
            DeValue::Integer(number) => (number.as_str(), number.radix()),
            DeValue::String(_) if self.has_variable() => {
                let text = self.text()?;
                return match text.parse::<i64>() {
                    Ok(number) if range.contains(&number) => Some(number),
                    _ => self.not(&text, between(&range)),
                };
            }
            _ => return self.wrong(&between(&range)),
        };
        match i64::from_str_radix(digits, radix) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.not(digits, between(&range)),
        }
    }

    /// A number of things, at least `least` and at most 10^9.
    pub fn count(&self, least: u32) -> Option<usize> {
        usize::try_from(self.integer(i64::from(least)..=1_000_000_000)?).ok()
    }

    /// A number that is not infinite.
    pub fn float(&self) -> Option<f64> {
        let number = match self.item() {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(_) => return self.integer(i64::MIN..=i64::MAX).map(|n| n as f64),
            _ => return self.wrong("a number"),
        };
        match number.filter(|number| number.is_finite()) {
            Some(number) => Some(number),
            None => self.fail(Diagnostic::new(format!("`{}` has to be finite", self.key))),
        }
    }

    /// A size in bytes, such as "150 MiB"; never zero.
    pub fn size(&self) -> Option<u64> {
        let wanted = "a size such as \"64 KiB\" or \"150 MiB\"";
        match self.item() {
            DeValue::Integer(_) => u64::try_from(self.integer(1..=i64::MAX)?).ok(),
            DeValue::String(_) => {
                let text = self.text()?;
                let size = units::size(&text).filter(|size| *size > 0);
                size.or_else(|| self.not(&text, wanted))
            }
            _ => self.wrong(wanted),
        }
    }

    /// A time such as "24h"; never zero.
    pub fn duration(&self) -> Option<Duration> {
        let wanted = "a time such as \"500ms\", \"30s\" or \"24h\"";
        if !self.item().is_str() {
            return self.wrong(wanted);
        }
        let text = self.text()?;
        let time = units::duration(&text).filter(|time| !time.is_zero());
        time.or_else(|| self.not(&text, wanted))
    }

    /// One of the `known` words.
    pub fn choice<T: Clone>(&self, known: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Some(value.clone());
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let message = format!("`{text}` is not known as `{}`", self.key);
        self.fail(Diagnostic::new(message).help(units::hint(&text, &names)))
    }

    /// Where the characters of a string stand, if the file spells it exactly as it is; a string
    /// with escapes does not.
    pub fn verbatim(&self) -> Option<Range<usize>> {
        let decoded = self.item().as_str()?;
        let literal = self.cx.text.get(self.span())?;
        let is_long = literal.starts_with("'''") || literal.starts_with("\"\"\"");
        let quotes = if is_long { 3 } else { 1 };
        let inner = literal.get(quotes..literal.len().checked_sub(quotes)?)?;
        // TOML drops a newline right after the opening quotes of a long string.
        let newline = if !is_long {
            0
        } else if inner.starts_with("\r\n") {
            2
        } else {
            usize::from(inner.starts_with('\n'))
        };
        let inner = &inner[newline..];
        let start = self.span().start + quotes + newline;
        (inner == decoded).then(|| start..start + inner.len())
    }

    /// Where a part of a string stands in the file; the whole string if that cannot be told.
    pub fn inside(&self, part: Range<usize>) -> Range<usize> {
        match self.verbatim() {
            Some(whole) => {
                let end = (whole.start + part.end).min(whole.end);
                (whole.start + part.start).min(end)..end
            }
            None => self.span(),
        }
    }

    fn has_variable(&self) -> bool {
        let text = self.item().as_str();
        self.cx.variables.is_some() && text.is_some_and(|text| text.contains("${"))
    }
}

fn between(range: &RangeInclusive<i64>) -> String {
    match (*range.start(), *range.end()) {
        (i64::MIN, i64::MAX) => "an integer".to_owned(),
        (least, i64::MAX) => format!("an integer, {least} or more"),
        (least, most) => format!("an integer from {least} to {most}"),
    }
}

#[cfg(test)]
mod tests;
