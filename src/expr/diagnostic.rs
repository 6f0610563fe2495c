//! What is wrong with a program or a template, and where.
//!
//! Responsible for: the error type, and turning the compiler's diagnostics into it: one span that
//! lies within the source, one label, the rest as help.
//! Not responsible for: file, line and caret (`topology` knows where the source lies in the file).

use std::fmt;
use std::ops::Range;

use vrl::compiler::codes::{ExprCode, ValueCode};
use vrl::diagnostic::{Diagnostic, Note};

use crate::expr::{Purpose, functions};

/// One error of a program or a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Bytes of the source that it is about, on character boundaries.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write under the span, where it says more than the message.
    pub label: Option<String>,
    /// How to put it right; may have several lines.
    pub help: Option<String>,
}

impl CompileError {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: None, help: None }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The compiler's diagnostic about `source`, which was compiled for `purpose`.
    pub(crate) fn from_vrl(source: &str, purpose: Purpose, diagnostic: &Diagnostic) -> Self {
        let labels = &diagnostic.labels;
        let primary = labels.iter().position(|label| label.primary).unwrap_or(0);
        let span =
            labels.get(primary).map_or(0..source.len(), |label| within(source, label.span.range()));

        if diagnostic.code == ExprCode::UndefinedFunction as usize {
            let name = &source[span.clone()];
            if let Some(reason) = functions::refusal(name, purpose) {
                let message = format!("`{name}` must not be called here");
                return Self::new(span, message).with_help(reason);
            }
        }

        let label = labels
            .get(primary)
            .map(|label| label.message.clone())
            .filter(|text| *text != diagnostic.message);
        let others = labels.iter().enumerate().filter(|(index, _)| *index != primary);
        let mut help: Vec<String> = others.map(|(_, label)| label.message.clone()).collect();
        help.extend(diagnostic.notes.iter().filter_map(advice));
        if diagnostic.code == ValueCode::ReadOnlyMutation as usize {
            help.push(read_only(purpose).to_owned());
        }
        let help = (!help.is_empty()).then(|| help.join("\n"));
        Self { span, message: diagnostic.message.clone(), label, help }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(label) = &self.label {
            write!(f, ": {label}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// What may not be written, for a program that tried.
fn read_only(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Map => "a program writes fields (`.name`), never metadata (`%name`)",
        Purpose::Filter => "a condition only looks at the record; change it in a `remap`",
        Purpose::Predicate => "a predicate only looks at its manifest",
        Purpose::Key => "this program only looks at the record; change it in a `remap`",
    }
}

/// The part of a range that lies within `source`, widened to whole characters: spans that the
/// compiler derives from the lengths of path segments may miss them.
fn within(source: &str, range: Range<usize>) -> Range<usize> {
    let start = source.floor_char_boundary(range.start.min(source.len()));
    let end = source.ceil_char_boundary(range.end.clamp(start, source.len()));
    start..end
}

/// What a note says beyond links to the language's own documentation.
fn advice(note: &Note) -> Option<String> {
    let text = match note {
        Note::Hint(text) | Note::Basic(text) | Note::UserErrorMessage(text) => text.clone(),
        Note::Example(text) => format!("example: {text}"),
        _ => return None,
    };
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}
