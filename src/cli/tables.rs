//! `tidemill tables`.
//!
//! Responsible for: printing rows of a declared table or view, also while an engine writes it.
//! Not responsible for: reading them (`ops::tables`).

use std::io::{self, Write};

use clap::{Subcommand, ValueEnum};

use super::Exit;
use crate::cli::manifests::{output, stored};
use crate::config::Config;
use crate::ops::tables::{Rows, plain, rows, write_csv};
use crate::ops::text::{counted, printable};
use crate::state::TablePage;

/// Rows that a table for people shows if nobody says how many.
const SHOWN: u32 = 100;

/// Arguments of `tables`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the rows of a declared table or view.
    #[command(after_help = "Examples:\n  tidemill tables show ocp_usage_summary\n  \
                            tidemill tables show ocp_usage_summary --output csv > summary.csv")]
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The table or view, as the topology declares it.
    #[arg(value_name = "NAME")]
    name: String,
    /// At most so many rows; 0 is all. Without it a table shows 100, JSON and CSV show all.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people.
    Table,
    /// An array of objects.
    Json,
    /// Comma-separated values with a header, quoted as RFC 4180 says.
    Csv,
}

impl Show {
    fn most(&self) -> u32 {
        let all = if self.output == Format::Table { SHOWN } else { 0 };
        self.limit.unwrap_or(all)
    }
}

/// Prints rows.
pub fn tables(arguments: &Arguments, config: &Config) -> Exit {
    let Command::Show(show) = &arguments.command;
    let most = show.most();
    let found = stored::ask(config, async |store| rows(store, &show.name, most).await);
    let Rows { page, more } = match found {
        Ok(rows) => rows,
        Err(exit) => return exit,
    };
    if more {
        let shown = counted(u64::from(most), "row");
        eprintln!("only the first {shown} shown: --limit 0 shows all");
    }
    output::write(|out| write(&page, show.output, out))
}

fn write(page: &TablePage, format: Format, mut out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Table => writeln!(out, "{}", table(page)),
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &page.rows)?;
            writeln!(out)
        }
        Format::Csv => write_csv(page, &mut out),
    }
}

fn table(page: &TablePage) -> String {
    let header: Vec<String> = page.columns.iter().map(|name| printable(name)).collect();
    let mut table = output::table(header.iter().map(String::as_str));
    for row in &page.rows {
        let cell = |name: &String| row.get(name).map(|value| printable(&plain(value)));
        table.add_row(page.columns.iter().map(|name| cell(name).unwrap_or_default()));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(format: Format) -> String {
        let rows = [json!({"id": 1, "note": "a, b"}), json!({"id": 2, "note": "\u{1b}[2J"})];
        let page = TablePage {
            columns: vec!["id".to_owned(), "note".to_owned()],
            rows: rows.iter().map(|row| row.as_object().unwrap().clone()).collect(),
        };
        let mut out = Vec::new();
        write(&page, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_are_printed_as_csv_as_json_and_harmless_for_a_terminal() {
        assert_eq!(printed(Format::Csv), "id,note\n1,\"a, b\"\n2,\u{1b}[2J\n");
        let json: serde_json::Value = serde_json::from_str(&printed(Format::Json)).unwrap();
        assert_eq!(json, json!([{"id": 1, "note": "a, b"}, {"id": 2, "note": "\u{1b}[2J"}]));
        let table = printed(Format::Table);
        assert!(table.contains("a, b") && table.contains("\\u{1b}[2J"), "{table}");
        assert!(!table.contains('\u{1b}'), "{table:?}");
    }

    #[test]
    fn only_tables_for_people_are_cut_unasked() {
        let show = |output, limit| Show { name: "sums".to_owned(), limit, output };
        let most = [
            show(Format::Table, None),
            show(Format::Json, None),
            show(Format::Csv, None),
            show(Format::Csv, Some(5)),
            show(Format::Table, Some(0)),
        ]
        .map(|show| show.most());
        assert_eq!(most, [SHOWN, 0, 0, 5, 0]);
    }
}
