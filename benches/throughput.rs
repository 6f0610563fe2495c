//! Benchmarks: every line of the budget in `docs/performance.md` that the tree has, each against
//! its baseline in the same run.
//!
//! Responsible for: choosing rows, and printing one line for each.
//! Not responsible for: passing or failing on figures: they belong to the machine and to what
//! else runs on it. A person reads the ratio beside its goal.
//!
//! `cargo bench` runs the rows that need no server and names the others;
//! `scripts/test --services-only cargo bench` runs them all, beside other programs where a person
//! has installed those;
//! `cargo bench --bench throughput -- hop csv` runs those whose names contain one of the words.
#![expect(
    clippy::disallowed_methods,
    reason = "addresses of servers come from the environment, as they do in the tests"
)]

mod harness;

/// One file per path of the budget.
mod rows {
    pub mod aggregate;
    pub mod csv;
    pub mod dispatch;
    pub mod hop;
    pub mod latency;
    pub mod mapping;
    pub mod produce;
    pub mod table;
    pub mod transactions;
}

use std::process::ExitCode;

use clap::Parser;

use harness::runs::{HEADER, measure, print_sample};
use harness::{Row, Setting, Side, Tried};
use rows::csv::{CsvToParquet, Peer};
use rows::dispatch::Dispatch;
use rows::mapping::Mapping;
use rows::transactions::{Store, Transactions};

/// Measures the engine against what could be written by hand.
#[derive(Parser)]
struct Arguments {
    /// Rows to run: those whose name contains one of these words; all of them without.
    rows: Vec<String>,
    /// Runs of each side of a row; the figures are medians.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// A twentieth of the work: shows that the rows run, not how fast.
    #[arg(long)]
    quick: bool,
    /// Names the rows and ends.
    #[arg(long)]
    list: bool,
    /// Said by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs one side of this row once, in this process, and prints the sample.
    #[arg(long, hide = true, requires = "side", requires = "fixture")]
    row: Option<String>,
    #[arg(long, hide = true)]
    side: Option<Side>,
    #[arg(long, hide = true)]
    fixture: Option<String>,
}

/// Shards that complete manifests at the same time.
const CALLERS: [u64; 3] = [10, 50, 200];

fn all_rows() -> Vec<Box<dyn Row>> {
    let mut all: Vec<Box<dyn Row>> = vec![
        Box::new(Dispatch::Kafka),
        Box::new(Dispatch::Embedded),
        Box::new(Mapping::Kafka),
        Box::new(Mapping::Memory),
        Box::new(rows::hop::Hop),
        Box::new(rows::produce::Produce),
        Box::new(rows::latency::Latency),
        Box::new(CsvToParquet { beside: None }),
    ];
    for peer in [Peer::Pandas, Peer::Polars, Peer::DuckDb] {
        all.push(Box::new(CsvToParquet { beside: Some(peer) }));
    }
    for store in [Store::Sqlite, Store::Postgres] {
        for callers in CALLERS {
            all.push(Box::new(Transactions { store, callers }));
        }
    }
    all.push(Box::new(rows::table::TableRows));
    all.push(Box::new(rows::aggregate::Aggregate));
    all
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let setting = Setting {
        quick: arguments.quick,
        kafka: std::env::var("TIDEMILL_TEST_KAFKA").ok(),
        postgres: std::env::var("TIDEMILL_TEST_POSTGRES").ok(),
        python: std::env::var("TIDEMILL_TEST_PYTHON").ok(),
    };
    let ran = match (&arguments.row, arguments.side, &arguments.fixture) {
        (Some(row), Some(side), Some(fixture)) => run_once(row, side, fixture, &setting),
        _ => run_all(&arguments, &setting),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_once(name: &str, side: Side, fixture: &str, setting: &Setting) -> Tried {
    let row = all_rows().into_iter().find(|row| row.about().name == name);
    let row = row.ok_or_else(|| format!("there is no row {name}"))?;
    print_sample(&row.run(side, setting, fixture)?)
}

fn run_all(arguments: &Arguments, setting: &Setting) -> Tried {
    if arguments.list {
        all_rows().iter().for_each(|row| println!("{:20} {}", row.about().name, row.about().path));
        return Ok(());
    }
    if !arguments.bench {
        // `cargo test --all-targets` runs this binary too.
        println!("benchmarks run with `cargo bench`");
        return Ok(());
    }
    let chosen = |name: &str| {
        arguments.rows.is_empty() || arguments.rows.iter().any(|word| name.contains(word.as_str()))
    };
    let mut failed = Vec::new();
    println!("{HEADER}");
    for row in all_rows().iter().filter(|row| chosen(&row.about().name)) {
        let about = row.about();
        if let Some(missing) = about.needs.and_then(|need| need.missing(setting)) {
            eprintln!("{}: {missing}", about.name);
            if missing.is_failure() && !arguments.rows.is_empty() {
                failed.push(about.name);
            }
            continue;
        }
        match measure(&**row, setting, arguments.pairs.max(1)) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{}: {error}", about.name);
                failed.push(about.name);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed or not run: {}", failed.join(", ")).into())
    }
}
