//! `tidemill run`.
//!
//! Responsible for: running one topology until a signal or an error ends it, and serving its API
//! meanwhile.
//! Not responsible for: how it runs and drains (`engine`), or what the API answers (`api`).

use std::path::PathBuf;

use super::{Exit, load};
use crate::api::{ApiContext, ApiServer};
use crate::config::Config;
use crate::engine::{self, Ended, EngineError, Running};
use crate::model::PipelineName;
use crate::runtime::escalation::Ending;
use crate::runtime::shutdown::Shutdown;
use crate::topology::Topology;

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
        work(topology, config, &shutdown).await
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

async fn work(
    topology: Topology,
    config: Config,
    shutdown: &Shutdown,
) -> Result<Ended, EngineError> {
    let api = api(&config, &topology.name)?;
    let ended = match engine::start(topology, config, shutdown).await {
        Ok(running) => {
            attach(api.as_ref(), &running);
            running.ended().await
        }
        Err(error) => Err(error),
    };
    if let Some(api) = api {
        api.stop().await;
    }
    ended
}

/// Serves the API of a pipeline that is about to start, unless the settings say not to.
pub(super) fn api(
    config: &Config,
    pipeline: &PipelineName,
) -> Result<Option<ApiServer>, EngineError> {
    if !config.api.enabled {
        return Ok(None);
    }
    let server = ApiServer::start(&config.api, pipeline);
    let unusable = |why: String| EngineError { ending: Ending::Dependency, why };
    server.map(Some).map_err(|error| unusable(error.to_string()))
}

/// From now on the API serves this pipeline.
pub(super) fn attach(api: Option<&ApiServer>, running: &Running) {
    if let Some(api) = api {
        api.attach(ApiContext {
            operator: running.operator(),
            health: running.health(),
            metrics: running.metrics(),
        });
    }
}
