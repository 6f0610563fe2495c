//! Errors in files that people write: file, line, column, the line itself with a caret, a hint.
//!
//! Responsible for: collecting all errors of a file, in any order, and showing them together in
//! the order of the file.
//! Not responsible for: finding them (`config::document`, `topology`), or the exit code (`cli`).

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str,
};

/// One error: what is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    message: String,
    span: Option<Range<usize>>,
    label: Option<String>,
    context: Option<(Range<usize>, String)>,
    help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, label: None, context: None, help: None }
    }

    /// The bytes of the file that are wrong.
    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    /// The bytes of the file that are wrong, unless a place is known already.
    #[must_use]
    pub fn or_at(mut self, span: Range<usize>) -> Self {
        self.span.get_or_insert(span);
        self
    }

    /// A few words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// A second place that has to do with it, and why.
    #[must_use]
    pub fn context(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.context = Some((span, label.into()));
        self
    }

    /// What to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// Takes errors while a file is read, so that one error does not hide the next.
#[derive(Debug, Default)]
pub struct Report {
    found: RefCell<Vec<Diagnostic>>,
}

impl Report {
    /// Adds an error.
    pub fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// Number of errors so far.
    pub fn len(&self) -> usize {
        self.found.borrow().len()
    }

    /// Whether there is no error so far.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// What was read, if there was no error; otherwise all errors of the file.
    pub fn conclude<T>(self, file: &str, text: &str, read: Option<T>) -> Result<T, Diagnostics> {
        let mut found = self.found.into_inner();
        match read {
            Some(read) if found.is_empty() => return Ok(read),
            None if found.is_empty() => found.push(Diagnostic::new(
                "the file was refused without a reason, which is a fault of this program",
            )),
            _ => {}
        }
        Err(Diagnostics::new(file, text, found))
    }
}

/// All errors of one file. `Display` shows them without colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    text: String,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The errors `found` in `file`, whose content is `text`.
    pub fn new(file: &str, text: &str, mut found: Vec<Diagnostic>) -> Self {
        found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
        found.dedup();
        Self { file: file.to_owned(), text: text.to_owned(), found }
    }

    /// An error that concerns a file as a whole, such as one that cannot be read.
    pub fn whole_file(file: &str, message: impl Into<String>) -> Self {
        Self::new(file, "", vec![Diagnostic::new(message)])
    }

    /// Number of errors.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is no error; never so in an `Err`.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The place of each error, for tests.
    #[cfg(test)]
    pub(crate) fn places(&self) -> Vec<Option<Range<usize>>> {
        self.found.iter().map(|diagnostic| diagnostic.span.clone()).collect()
    }

    /// One block per error in the order of the file, and their number at the end.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut blocks: Vec<String> =
            self.found.iter().map(|diagnostic| self.block(diagnostic, &renderer)).collect();
        let noun = if self.found.len() == 1 { "error" } else { "errors" };
        blocks.push(format!("{} {noun} in {}", self.found.len(), self.file));
        blocks.join("\n\n")
    }

    fn block(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(diagnostic.message.as_str()));
        if let Some(span) = &diagnostic.span {
            let mut marks = vec![self.mark(AnnotationKind::Primary, span, &diagnostic.label)];
            if let Some((span, label)) = &diagnostic.context {
                marks.push(self.mark(AnnotationKind::Context, span, &Some(label.clone())));
            }
            let snippet = Snippet::source(self.text.as_str()).path(self.file.as_str());
            group = group.element(snippet.annotations(marks));
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        renderer.render(&[group])
    }

    fn mark(
        &self,
        kind: AnnotationKind,
        span: &Range<usize>,
        label: &Option<String>,
    ) -> Annotation<'static> {
        let label = label.as_deref().map(|label| one_line(&normalize_untrusted_str(label)));
        kind.span(self.within(span)).label(label)
    }

    /// The span, cut to what the renderer accepts: inside the text, on character boundaries.
    fn within(&self, span: &Range<usize>) -> Range<usize> {
        let floor = |index: usize| {
            let mut index = index.min(self.text.len());
            while !self.text.is_char_boundary(index) {
                index -= 1;
            }
            index
        };
        let start = floor(span.start);
        start..floor(span.end).max(start)
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests;
