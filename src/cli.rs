//! The command line.
//!
//! Responsible for: arguments, output on the terminal, and exit codes.
//! Not responsible for: doing the work; each command hands over to the engine or to `ops`.
//!
//! Exit codes: 0 fine, 2 wrong usage or topology, 3 a dependency cannot be reached or refuses,
//! 4 stopped by a limit that was set, 5 a fault of the engine.

mod check;
mod dead_letters;
mod demo;
mod describe;
mod manifests;
mod reach;
mod remote;
mod run;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, Telemetry, env};
use crate::runtime::escalation::Ending;
use crate::telemetry::logs::{self, LogFormat};
use crate::topology::{self, Topology};

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Fine.
    Ok,
    /// Wrong usage, topology or settings.
    Usage,
    /// A dependency cannot be reached, or refuses.
    Dependency,
    /// Stopped by a limit that was set.
    Policy,
    /// A fault of the engine.
    Internal,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Usage => 2,
            Exit::Dependency => 3,
            Exit::Policy => 4,
            Exit::Internal => 5,
        })
    }
}

impl From<Ending> for Exit {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Misconfigured => Self::Usage,
            Ending::Dependency => Self::Dependency,
            Ending::Policy => Self::Policy,
            Ending::Internal => Self::Internal,
        }
    }
}

/// Runs declared stream topologies over Kafka; remembers which parts of which whole are done.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about, arg_required_else_help = true)]
struct Arguments {
    /// Engine settings; without it `config/tidemill.toml`'s defaults hold.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a topology until it is told to stop.
    #[command(after_help = "Examples:\n  tidemill run topologies/passthrough.toml\n  \
                            tidemill run topologies/passthrough.toml --bootstrap localhost:9092")]
    Run(run::Arguments),
    /// Checks a topology and says everything that is wrong with it.
    #[command(after_help = "Examples:\n  tidemill check topologies/passthrough.toml")]
    Check(check::Arguments),
    /// Draws a topology with its stages and the capacities of its queues.
    #[command(after_help = "Examples:\n  tidemill describe topologies/passthrough.toml\n  \
                            tidemill describe topologies/passthrough.toml --format mermaid")]
    Describe(describe::Arguments),
    /// Answers what is known of manifests, also while a pipeline runs, and sends commands to them.
    #[command(after_help = "Examples:\n  tidemill manifests list --phase open\n  \
                            tidemill manifests explain 3e1f6af5-e156-4863-a7a2-8dd7858f596d\n  \
                            tidemill manifests force 3e1f6af5 --why 'the last file will not come'")]
    Manifests(manifests::Arguments),
    /// Looks at records that failed for good, tries them again, lets them go.
    #[command(after_help = "Examples:\n  tidemill dead-letters list --state waiting\n  \
                            tidemill dead-letters replay --id 0-17 --why 'schema is mended'")]
    DeadLetters(dead_letters::Arguments),
    /// Prints rows of declared tables and views.
    #[command(after_help = "Examples:\n  tidemill tables show ocp_usage_summary --output csv")]
    Tables(tables::Arguments),
    /// Runs the cost-management topology on generated payloads; needs no server.
    #[command(after_help = "Examples:\n  tidemill demo\n  tidemill demo --clusters 3 --days 5 \
                            --rows 100000\n  tidemill demo --serve")]
    Demo(demo::Arguments),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // A closed terminal is the only way in which this fails, and nobody is left to tell.
            let _ = error.print();
            return code.into();
        }
    };
    dispatch(arguments).into()
}

fn dispatch(arguments: Arguments) -> Exit {
    let config = match Config::load(arguments.config.as_deref(), &env::process) {
        Ok(config) => config,
        Err(diagnostics) => return refuse(&diagnostics.render(colour())),
    };
    let format = match config.telemetry.log_format {
        config::LogFormat::Text => LogFormat::Text,
        config::LogFormat::Json => LogFormat::Json,
    };
    // Log lines would break the demo's progress bars, so only what needs a look is shown there,
    // unless somebody asked for more.
    let quiet =
        matches!(arguments.command, Command::Demo(_)) && config.telemetry == Telemetry::default();
    let level = if quiet { "error" } else { &config.telemetry.log_level };
    if let Err(error) = logs::start(level, format) {
        return refuse(&error);
    }
    #[cfg(feature = "fault-injection")]
    if let Err(why) = crate::runtime::fault::arm(&env::process) {
        return refuse(&why);
    }
    match arguments.command {
        Command::Run(arguments) => run::run(arguments, config),
        Command::Check(arguments) => check::check(&arguments),
        Command::Manifests(arguments) => manifests::manifests(&arguments, &config),
        Command::DeadLetters(arguments) => dead_letters::dead_letters(&arguments, &config),
        Command::Tables(arguments) => tables::tables(&arguments, &config),
        Command::Demo(arguments) => demo::demo(arguments, config),
        Command::Describe(arguments) => describe::describe(&arguments, &config),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "tidemill", &mut std::io::stdout());
            Exit::Ok
        }
    }
}

/// Reads a topology, or says what is wrong with it.
fn load(path: &std::path::Path) -> Result<Topology, Exit> {
    topology::load(path, &env::process).map_err(|diagnostics| refuse(&diagnostics.render(colour())))
}

fn refuse(why: &str) -> Exit {
    eprintln!("{why}");
    Exit::Usage
}

fn colour() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}
