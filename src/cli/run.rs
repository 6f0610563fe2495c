//! `tidemill run`.
//!
//! Responsible for: running one topology until a signal or an error ends it.
//! Not responsible for: how it runs and drains (`engine`).

use std::path::PathBuf;

use super::{Exit, load};
use crate::config::Config;
use crate::engine::{self, Ended, EngineError};
use crate::runtime::shutdown::Shutdown;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topology.
    #[arg(value_name = "TOPOLOGY")]
    topology: PathBuf,
    /// Brokers to use instead of those that the topology names, as `host:port,…`.
    #[arg(long, value_name = "HOSTS")]
    bootstrap: Option<String>,
}

/// Runs the topology.
pub fn run(arguments: Arguments, config: Config) -> Exit {
    let mut topology = match load(&arguments.topology) {
        Ok(topology) => topology,
        Err(exit) => return exit,
    };
    if arguments.bootstrap.is_some() {
        topology.broker.bootstrap = arguments.bootstrap;
    }
    let ended = actix::System::new().block_on(async move {
        let shutdown = Shutdown::new();
        shutdown.on_signals();
        engine::run(topology, config, shutdown).await
    });
    match ended {
        Ok(Ended { complete: true }) => Exit::Ok,
        Ok(Ended { complete: false }) => {
            eprintln!("stopped before everything in flight was done: it will be processed again");
            Exit::Ok
        }
        Err(EngineError { ending, why }) => {
            eprintln!("error: {why}");
            ending.into()
        }
    }
}
