//! Reaching a pipeline, to look at its dead letters or to change something.
//!
//! Responsible for: the way there: with Kafka brokers a command talks to them and to the state
//! store itself; the embedded log is in the hands of the engine that runs, so there the command
//! talks to that engine's API. And for exit codes where that fails.
//! Not responsible for: what is done there (`ops`), or requests (`remote`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Exit, load};
use crate::cli::manifests::stored;
use crate::cli::remote::{Remote, RemoteError};
use crate::config::{Config, env, units};
use crate::engine::{self, EngineError};
use crate::model::ManifestKey;
use crate::model::event::CommandAction;
use crate::ops::dead_letters::{DeadLetterFilter, LetterDetails, LetterLine, LetterListing};
use crate::ops::{Asked, Commanded, Operator, OpsError};
use crate::state::StateError;
use crate::topology::Topology;

/// Why a command ends without doing what it was told.
#[derive(Debug)]
pub(super) struct Fault {
    exit: Exit,
    why: String,
}

impl Fault {
    /// Called in a way that makes no sense.
    pub(super) fn usage(why: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, why: why.into() }
    }
}

impl From<OpsError> for Fault {
    fn from(error: OpsError) -> Self {
        let exit = match &error {
            OpsError::Unknown(_)
            | OpsError::Invalid(_)
            | OpsError::Refused(_)
            | OpsError::State(StateError::Mismatch(_)) => Exit::Usage,
            OpsError::State(_) | OpsError::Broker(_) => Exit::Dependency,
            OpsError::Internal(_) => Exit::Internal,
        };
        Self { exit, why: error.to_string() }
    }
}

impl From<EngineError> for Fault {
    fn from(EngineError { ending, why }: EngineError) -> Self {
        Self { exit: ending.into(), why }
    }
}

impl From<RemoteError> for Fault {
    fn from(error: RemoteError) -> Self {
        let exit = match &error {
            RemoteError::Refused { .. } => Exit::Usage,
            RemoteError::Unreachable { .. } | RemoteError::Failed { .. } => Exit::Dependency,
            RemoteError::Client(_) | RemoteError::Answer { .. } => Exit::Internal,
        };
        Self { exit, why: error.to_string() }
    }
}

/// Carries something out; says on standard error why it could not.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        eprintln!("error: cannot start a runtime: {error}");
        Exit::Internal
    })?;
    runtime.block_on(work).map_err(|Fault { exit, why }| {
        eprintln!("error: {why}");
        exit
    })
}

/// The way to a pipeline.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// The topology of the pipeline. With Kafka brokers the command talks to them directly.
    #[arg(long, value_name = "FILE")]
    pub(super) topology: Option<PathBuf>,
    /// Brokers to use instead of those that the topology names, as `host:port,…`.
    #[arg(long, value_name = "HOSTS", requires = "topology")]
    pub(super) bootstrap: Option<String>,
    /// The API of a running engine, as `http://host:port`. Without it and without brokers the
    /// address in the settings is taken.
    #[arg(long, value_name = "URL", conflicts_with_all = ["topology", "bootstrap"])]
    api: Option<String>,
}

/// Who asks for a change, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Asking {
    /// Why; kept in the audit.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who asks; without it the name in USER.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
}

impl Asking {
    /// Both, as `ops` takes them.
    pub(super) fn asked(&self) -> Result<Asked, Fault> {
        let who = self.who.clone().or_else(|| env::process("USER"));
        let who = who.filter(|who| !who.trim().is_empty());
        let who = who.ok_or_else(|| Fault::usage("nobody is named in USER: say who with --who"))?;
        Ok(Asked { who, why: self.why.clone() })
    }
}

/// A length of time on the command line.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| "a length of time is needed, such as 30s or 24h".to_owned())
}

impl Reach {
    /// Name of the pipeline, if its topology is given.
    pub(super) fn name(&self) -> Result<Option<String>, Fault> {
        let topology = self.topology.as_ref().map(|path| loaded(path)).transpose()?;
        Ok(topology.map(|topology| topology.name.to_string()))
    }

    /// Whoever does what is asked.
    pub(super) async fn hand(&self, config: &Config) -> Result<Hand, Fault> {
        if let Some(url) = &self.api {
            return Ok(Hand::Remote(Remote::new(url, config.api.token.as_ref())?));
        }
        if let Some(operator) = direct(self.topology.as_ref(), &self.bootstrap, config).await? {
            return Ok(Hand::Direct(Box::new(operator)));
        }
        let listen = config.api.listen;
        if !config.api.enabled || listen.port() == 0 {
            return Err(Fault::usage(
                "the settings name no address of a running engine: name one with --api URL, or \
                 the topology of a pipeline with Kafka brokers with --topology FILE",
            ));
        }
        Ok(Hand::Remote(Remote::at(listen, config.api.token.as_ref())?))
    }
}

/// The topology; what is wrong with it is said at once.
fn loaded(path: &Path) -> Result<Topology, Fault> {
    load(path).map_err(|exit| Fault { exit, why: "the topology cannot be used".to_owned() })
}

/// An operator beside whoever runs the topology, if that has Kafka brokers.
pub(super) async fn direct(
    path: Option<&PathBuf>,
    bootstrap: &Option<String>,
    config: &Config,
) -> Result<Option<Operator>, Fault> {
    let Some(path) = path else { return Ok(None) };
    let mut topology = loaded(path)?;
    if bootstrap.is_some() {
        topology.broker.bootstrap.clone_from(bootstrap);
    }
    if topology.broker.bootstrap.is_none() {
        return Ok(None);
    }
    let stateful = !(topology.manifests.is_empty() && topology.tables.is_empty());
    let store = if stateful {
        Some(stored::open_store_read_only(config).await.map_err(OpsError::from)?)
    } else {
        None
    };
    Ok(Some(engine::operator::connect(&topology, config.clone(), store).await?))
}

/// Does what is asked: by itself, or through the engine that runs.
pub(super) enum Hand {
    /// Talks to brokers and store.
    Direct(Box<Operator>),
    /// Talks to an engine.
    Remote(Remote),
}

impl Hand {
    pub(super) async fn command(
        &self,
        key: &ManifestKey,
        action: CommandAction,
        asked: &Asked,
        wait: Duration,
    ) -> Result<Commanded, Fault> {
        match self {
            Self::Direct(operator) => Ok(operator.command(key, action, asked, wait).await?),
            Self::Remote(remote) => Ok(remote.command(key, action, asked, wait).await?),
        }
    }

    pub(super) async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<LetterListing, Fault> {
        match self {
            Self::Direct(operator) => Ok(operator.dead_letters(filter).await?),
            Self::Remote(remote) => Ok(remote.dead_letters(filter).await?),
        }
    }

    pub(super) async fn dead_letter(&self, id: &str) -> Result<LetterDetails, Fault> {
        match self {
            Self::Direct(operator) => Ok(operator.dead_letter(id).await?),
            Self::Remote(remote) => Ok(remote.dead_letter(id).await?),
        }
    }

    pub(super) async fn replay(
        &self,
        filter: &DeadLetterFilter,
        asked: &Asked,
        dry_run: bool,
    ) -> Result<Vec<LetterLine>, Fault> {
        match self {
            Self::Direct(operator) => Ok(operator.replay(filter, asked, dry_run).await?),
            Self::Remote(remote) => Ok(remote.change("replay", filter, asked, dry_run).await?),
        }
    }

    pub(super) async fn discard(
        &self,
        filter: &DeadLetterFilter,
        asked: &Asked,
        dry_run: bool,
    ) -> Result<Vec<LetterLine>, Fault> {
        match self {
            Self::Direct(operator) => Ok(operator.discard(filter, asked, dry_run).await?),
            Self::Remote(remote) => Ok(remote.change("discard", filter, asked, dry_run).await?),
        }
    }
}
