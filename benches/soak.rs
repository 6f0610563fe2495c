//! The fault suite for as long as somebody likes: the modules of `tests/it/faults`, in release.
//!
//! Responsible for: arguments, and an exit code that says whether anything was lost or doubled.
//! Not responsible for: load, faults and audit.
//!
//! `just soak` runs it for half an hour; a run that failed is repeated with its `--seed`.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what it is made of are tests: they wait by the clock, and may panic"
)]

#[path = "../tests/it/faults/audit.rs"]
mod audit;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/database.rs"]
mod database;
#[path = "../tests/it/faults/evidence.rs"]
mod evidence;
#[path = "../tests/it/faults/feeder.rs"]
mod feeder;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/harness.rs"]
mod harness;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/faults/plan.rs"]
mod plan;
#[path = "../tests/it/faults/proxy.rs"]
mod proxy;
#[path = "../tests/it/faults/receiver.rs"]
mod receiver;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/faults/rig.rs"]
mod rig;
#[path = "../tests/it/faults/run.rs"]
mod run;
#[path = "../tests/it/faults/servers.rs"]
mod servers;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use run::{Profile, Until, run};

/// Runs the fault suite for long.
#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Ends after so many faults instead.
    #[arg(long)]
    faults: Option<usize>,
    /// Decides about load and faults; without it every run is another one.
    #[arg(long)]
    seed: Option<u64>,
    /// Replicas of the pipeline.
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// Records a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Said by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let Arguments { minutes, faults, seed, replicas, rate, bench: _ } = Arguments::parse();
    let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let until = match faults {
        Some(faults) => Until { faults, elapsed: Duration::MAX },
        None => Until { faults: usize::MAX, elapsed: Duration::from_secs(minutes * 60) },
    };
    let report = run(&Profile { seed, replicas, rate, until });
    println!("{report}");
    if report.findings.is_clean() {
        return ExitCode::SUCCESS;
    }
    println!("{}repeat with: just soak --seed {seed}", report.findings);
    ExitCode::FAILURE
}
