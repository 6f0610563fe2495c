//! What commands that look at the state store print.
//!
//! Responsible for: the choice of format, tables, JSON, and standard output that may be closed
//! before everything was written.
//! Not responsible for: what is printed.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::cli::Exit;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// Text for people.
    Table,
    /// JSON with stable names.
    Json,
}

/// A table with this header. Its lines are as long as they need to be, on a terminal as in a pipe.
pub(in crate::cli) fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).force_no_tty();
    table.set_header(header.into_iter().collect::<Vec<_>>());
    table
}

/// Indented JSON.
pub(in crate::cli) fn json(value: &impl Serialize) -> String {
    // Nothing that is printed has keys that are no strings, the only way in which this fails.
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
}

/// Prints a text and a line end; nothing if there is no text.
pub(in crate::cli) fn print(text: &str) -> Exit {
    write(|out| if text.is_empty() { Ok(()) } else { writeln!(out, "{text}") })
}

/// Writes to standard output. A reader that has gone (`| head`) has seen all it wanted.
pub(in crate::cli) fn write(work: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Exit {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match work(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            eprintln!("error: cannot write to standard output: {error}");
            Exit::Dependency
        }
    }
}
