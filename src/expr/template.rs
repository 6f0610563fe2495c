//! Paths with placeholders: `{.field}`, `{%metadata}`, `{column}`.
//!
//! Responsible for: parsing a template, and rendering it so that each value is exactly one
//! percent-encoded piece of one path component, whatever the value.
//! Not responsible for: where columns get their values (sinks cut rows by them), the root that the
//! path lies under, or names being unique beyond what the template says.
//!
//! Everything outside of `A-Z a-z 0-9 _ . -` in a value is percent-encoded, `%` too, so different
//! values render differently and no value can leave its component. Values that are empty, `.` or
//! `..` fail the record, and so does a component that file systems would refuse for its length:
//! otherwise a record could make its sink look unavailable. A literal brace is doubled.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix, parse_target_path};
use vrl::value::Value;

use crate::expr::diagnostic::CompileError;
use crate::expr::metadata;
use crate::model::{Failure, FailureClass};

/// Class of a record whose values do not make a path.
pub const BAD_PATH: FailureClass = FailureClass::new("bad_path");

/// Longest component in bytes, encoded. File systems take 255; what is left is for the digest and
/// the temporary suffix that sinks add.
pub const MAX_COMPONENT: usize = 200;

/// What is encoded within a component.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-');

/// A parsed path template.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    pieces: Vec<Piece>,
    columns: Arc<[String]>,
}

#[derive(Clone, Debug)]
enum Piece {
    /// Stands as it is.
    Literal(String),
    /// A field or metadata, with the placeholder's text for errors.
    Value(OwnedTargetPath, String),
    /// Index into the columns.
    Column(usize),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A brace without its partner, a placeholder that names nothing, metadata that does not
    /// exist, or a component that would be empty, `.` or `..`.
    pub fn parse(source: &str) -> Result<Self, CompileError> {
        let mut parser = Parser { source, at: 0, pieces: Vec::new(), columns: Vec::new() };
        parser.run()?;
        check_components(source, &parser.pieces)?;
        let Parser { pieces, columns, .. } = parser;
        Ok(Self { source: source.to_owned(), pieces, columns: columns.into() })
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Names of the columns it needs, each once, in the order of their first appearance.
    pub fn columns(&self) -> Vec<String> {
        self.columns.to_vec()
    }

    /// Whether it needs metadata at all.
    pub fn uses_metadata(&self) -> bool {
        self.pieces.iter().any(
            |piece| matches!(piece, Piece::Value(path, _) if path.prefix == PathPrefix::Metadata),
        )
    }

    /// Renders the path. `column` gives the value of a column, `None` where it has none.
    ///
    /// # Errors
    /// Poison of class `bad_path`, naming the placeholder: no value, an array or an object, empty,
    /// `.`, `..`, or a component of more than [`MAX_COMPONENT`] bytes.
    pub fn render(
        &self,
        fields: &Value,
        metadata: &Value,
        column: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<String, Failure> {
        let bound = self.bind(fields, metadata)?;
        let mut values = Vec::with_capacity(self.columns.len());
        for name in self.columns.iter() {
            let value = column(name).ok_or_else(|| bad(name, "has no value"))?;
            values.push(value);
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        bound.render(&values)
    }

    /// Fills in fields and metadata, for many renderings that differ in columns only.
    ///
    /// # Errors
    /// As for [`Template::render`].
    pub fn bind(&self, fields: &Value, metadata: &Value) -> Result<BoundTemplate, Failure> {
        let mut literal = String::new();
        let mut columns = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => literal.push_str(text),
                Piece::Value(path, name) => {
                    let tree = match path.prefix {
                        PathPrefix::Event => fields,
                        PathPrefix::Metadata => metadata,
                    };
                    push_encoded(&mut literal, name, &text_of(name, tree.get(&path.path))?)?;
                }
                Piece::Column(index) => columns.push((std::mem::take(&mut literal), *index)),
            }
        }
        Ok(BoundTemplate { columns, tail: literal, names: Arc::clone(&self.columns) })
    }
}

/// A template whose fields and metadata are filled in.
#[derive(Clone, Debug)]
pub struct BoundTemplate {
    /// Text, and the index of the column that follows it.
    columns: Vec<(String, usize)>,
    /// Text after the last column.
    tail: String,
    names: Arc<[String]>,
}

impl BoundTemplate {
    /// Renders the path with the values of the columns, in the order of [`Template::columns`].
    ///
    /// # Errors
    /// As for [`Template::render`].
    pub fn render(&self, columns: &[&str]) -> Result<String, Failure> {
        let mut path = String::with_capacity(self.tail.len() + 32 * (1 + self.columns.len()));
        for (text, index) in &self.columns {
            path.push_str(text);
            let name = self.names.get(*index).map_or("", String::as_str);
            let value = columns.get(*index).ok_or_else(|| bad(name, "has no value"))?;
            push_encoded(&mut path, name, value.as_bytes())?;
        }
        path.push_str(&self.tail);
        if let Some(long) = path.split('/').find(|component| component.len() > MAX_COMPONENT) {
            let start = &long[..long.floor_char_boundary(40)];
            let len = long.len();
            let why =
                format!("path component `{start}…` has {len} bytes, {MAX_COMPONENT} are allowed");
            return Err(Failure::poison(BAD_PATH, why));
        }
        Ok(path)
    }
}

fn bad(placeholder: &str, what: &str) -> Failure {
    Failure::poison(BAD_PATH, format!("placeholder `{{{placeholder}}}` of the path {what}"))
}

/// Appends one value to the path.
fn push_encoded(path: &mut String, placeholder: &str, value: &[u8]) -> Result<(), Failure> {
    match value {
        b"" => return Err(bad(placeholder, "is empty")),
        b"." | b".." => return Err(bad(placeholder, "is `.` or `..`, which a path cannot have")),
        _ => path.extend(percent_encode(value, ENCODED)),
    }
    Ok(())
}

/// The text of a single value.
fn text_of<'a>(placeholder: &str, value: Option<&'a Value>) -> Result<Cow<'a, [u8]>, Failure> {
    let what = match value {
        Some(Value::Bytes(bytes)) => return Ok(Cow::Borrowed(bytes.as_ref())),
        Some(Value::String(text)) => return Ok(Cow::Borrowed(text.as_bytes().as_ref())),
        Some(
            value @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Timestamp(_)),
        ) => return Ok(Cow::Owned(value.to_string_lossy().into_owned().into_bytes())),
        Some(Value::Array(_)) => "is an array, it has to be a single value",
        Some(Value::Object(_)) => "is an object, it has to be a single value",
        Some(Value::Regex(_)) => "is a regular expression",
        Some(Value::Null) | None => "has no value",
    };
    Err(bad(placeholder, what))
}

/// Reads a template from left to right.
struct Parser<'a> {
    source: &'a str,
    at: usize,
    pieces: Vec<Piece>,
    columns: Vec<String>,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), CompileError> {
        while let Some(found) = self.source[self.at..].find(['{', '}']) {
            let brace = self.at + found;
            self.literal(self.at..brace);
            let rest = &self.source[brace..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                self.literal(brace..brace + 1);
                self.at = brace + 2;
            } else if rest.starts_with('}') {
                return Err(CompileError::new(brace..brace + 1, "a `}` without its `{`")
                    .with_help("write `}}` for a brace that is meant literally"));
            } else {
                self.at = self.placeholder(brace)?;
            }
        }
        self.literal(self.at..self.source.len());
        Ok(())
    }

    fn literal(&mut self, range: Range<usize>) {
        let text = &self.source[range];
        if let Some(Piece::Literal(before)) = self.pieces.last_mut() {
            before.push_str(text);
        } else if !text.is_empty() {
            self.pieces.push(Piece::Literal(text.to_owned()));
        }
    }

    /// Takes the placeholder that `open` begins; returns where it ends.
    fn placeholder(&mut self, open: usize) -> Result<usize, CompileError> {
        let inner = open + 1;
        let Some(len) = placeholder_len(&self.source[inner..]) else {
            return Err(CompileError::new(open..open + 1, "a `{` without its `}`")
                .with_help("write `{{` for a brace that is meant literally"));
        };
        let end = inner + len + 1;
        let name = &self.source[inner..inner + len];
        let piece = match name.chars().next() {
            Some('.' | '%') => value_piece(name, inner..inner + len)?,
            Some(_) if name.trim() == name && !name.contains('{') => self.column(name),
            Some(_) => {
                return Err(CompileError::new(open..end, "not a column name")
                    .with_help("a placeholder is `{.field}`, `{%metadata}` or `{column}`"));
            }
            None => {
                return Err(CompileError::new(open..end, "an empty placeholder")
                    .with_help("a placeholder is `{.field}`, `{%metadata}` or `{column}`"));
            }
        };
        self.pieces.push(piece);
        Ok(end)
    }

    fn column(&mut self, name: &str) -> Piece {
        let known = self.columns.iter().position(|column| column == name);
        Piece::Column(known.unwrap_or_else(|| {
            self.columns.push(name.to_owned());
            self.columns.len() - 1
        }))
    }
}

/// Length of a placeholder up to its closing brace; a brace within quotes does not close it.
fn placeholder_len(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// A placeholder for a field or for metadata.
fn value_piece(name: &str, span: Range<usize>) -> Result<Piece, CompileError> {
    let Ok(path) = parse_target_path(name) else {
        return Err(CompileError::new(span, format!("`{name}` is not a path"))
            .with_help("a path is `.name`, `.a.b`, `.list[0]` or `.\"odd name\"`"));
    };
    let Some(first) = path.path.segments.first() else {
        return Err(CompileError::new(span, "the whole record is no path component")
            .with_help("name a field, as in `{.name}`"));
    };
    let known = match first {
        OwnedSegment::Field(field) => metadata::names().any(|name| name == field.as_str()),
        OwnedSegment::Index(_) => false,
    };
    if path.prefix == PathPrefix::Metadata && !known {
        let names: Vec<String> = metadata::names().map(|name| format!("%{name}")).collect();
        return Err(CompileError::new(span, format!("there is no metadata `{name}`"))
            .with_help(format!("there are {}", names.join(", "))));
    }
    Ok(Piece::Value(path, name.to_owned()))
}

/// Refuses what no store would take, before the first record does.
fn check_components(source: &str, pieces: &[Piece]) -> Result<(), CompileError> {
    let skeleton: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => text.as_str(),
            // Values are never empty and never dots, so any letter stands for them.
            Piece::Value(..) | Piece::Column(_) => "x",
        })
        .collect();
    if skeleton.contains(char::is_control) {
        return Err(CompileError::new(0..source.len(), "a control character in a path"));
    }
    if skeleton.split('/').any(|component| matches!(component, "" | "." | "..")) {
        let error = CompileError::new(0..source.len(), "a component is empty, `.` or `..`");
        return Err(error.with_help("neither begin nor end with `/`, and do not double it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
