//! `tidemill manifests`.
//!
//! Responsible for: asking the state store of a pipeline, also while an engine writes it, which
//! manifests there are, what is in them, and why they are where they are.
//! Not responsible for: the answers (`ops`).

pub(super) mod output;
pub(super) mod stored;
mod views;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{Exit, load};
use crate::config::Config;
use crate::model::{ManifestKey, PipelineName, Topic};
use crate::ops::text::counted;
use crate::ops::time::Time;
use crate::ops::{self, OpsError};
use crate::state::{ManifestFilter, ManifestPhase, StateStore};
use output::Format;

/// Arguments of `manifests`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists manifests, those with the newest event first.
    #[command(after_help = "Examples:\n  tidemill manifests list\n  \
                            tidemill manifests list --phase open --prefix 3f2a\n  \
                            tidemill manifests list --limit 0 --output json")]
    List(List),
    /// Shows what is stored of a manifest: its members, facts and deliveries.
    #[command(after_help = "Examples:\n  tidemill manifests show 3f2a\n  \
                            tidemill manifests show 3f2a --output json")]
    Show(One),
    /// Lists the members that a manifest waits for, one id per line.
    #[command(after_help = "Examples:\n  tidemill manifests missing 3f2a")]
    Missing(One),
    /// Says why a manifest is not complete, or why it is.
    #[command(after_help = "Examples:\n  tidemill manifests explain 3f2a\n  \
                            tidemill manifests explain 3f2a --output json")]
    Explain(One),
}

/// Which pipeline a question is about.
#[derive(Debug, clap::Args)]
struct Which {
    /// The pipeline; may be left out where only one has state.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// The topology of the pipeline, instead of its name.
    #[arg(long, value_name = "FILE", conflicts_with = "pipeline")]
    topology: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    which: Which,
    /// Only manifests in this phase.
    #[arg(long, value_enum)]
    phase: Option<Phase>,
    /// Only manifests whose key begins like this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// At most so many; 0 is all.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Key of the manifest.
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    which: Which,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Waiting for members, or blocked.
    Open,
    /// Complete.
    Complete,
    /// Given up by an operator.
    Cancelled,
    /// Given up by a deadline.
    Failed,
}

impl From<Phase> for ManifestPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Open => Self::Open,
            Phase::Complete => Self::Complete,
            Phase::Cancelled => Self::Cancelled,
            Phase::Failed => Self::Failed,
        }
    }
}

impl Which {
    /// The name that was given, itself or by a topology.
    fn name(&self) -> Result<Option<String>, Exit> {
        match (&self.pipeline, &self.topology) {
            (Some(name), _) => Ok(Some(name.clone())),
            (None, Some(path)) => Ok(Some(load(path)?.name.to_string())),
            (None, None) => Ok(None),
        }
    }
}

impl Command {
    fn which(&self) -> &Which {
        match self {
            Self::List(list) => &list.which,
            Self::Show(one) | Self::Missing(one) | Self::Explain(one) => &one.which,
        }
    }
}

/// What a command prints.
struct Answer {
    /// To standard output.
    text: String,
    /// To standard error: what is not part of the answer itself.
    remark: Option<String>,
}

impl Answer {
    fn new(text: String) -> Self {
        Self { text, remark: None }
    }
}

/// Answers a question about manifests.
pub fn manifests(arguments: &Arguments, config: &Config) -> Exit {
    let name = match arguments.command.which().name() {
        Ok(name) => name,
        Err(exit) => return exit,
    };
    let now = stored::now();
    let answer = stored::ask(config, async |store| {
        let pipeline = ops::pipeline(store, name.as_deref()).await?;
        answer(&arguments.command, store, &pipeline, config, now).await
    });
    match answer {
        Ok(Answer { text, remark }) => {
            if let Some(remark) = remark {
                eprintln!("{remark}");
            }
            output::print(&text)
        }
        Err(exit) => exit,
    }
}

async fn answer(
    command: &Command,
    store: &dyn StateStore,
    pipeline: &PipelineName,
    config: &Config,
    now: Time,
) -> Result<Answer, OpsError> {
    match command {
        Command::List(list) => listed(list, store, pipeline, now).await,
        Command::Show(one) => {
            let details = ops::manifests::show(store, pipeline, &key(one)).await?;
            Ok(Answer::new(match one.output {
                Format::Table => views::details(&details, now),
                Format::Json => output::json(&details),
            }))
        }
        Command::Missing(one) => missing(one, store, pipeline).await,
        Command::Explain(one) => {
            let dead_letters =
                Topic::from(format!("{pipeline}{}", config.dead_letters.topic_suffix));
            let explanation =
                ops::explanation::explain(store, pipeline, &key(one), &dead_letters, now).await?;
            Ok(Answer::new(match one.output {
                Format::Table => explanation.to_string(),
                Format::Json => output::json(&explanation),
            }))
        }
    }
}

fn key(one: &One) -> ManifestKey {
    ManifestKey::from(one.key.as_str())
}

async fn listed(
    list: &List,
    store: &dyn StateStore,
    pipeline: &PipelineName,
    now: Time,
) -> Result<Answer, OpsError> {
    let filter = ManifestFilter {
        phase: list.phase.map(ManifestPhase::from),
        prefix: list.prefix.clone(),
        limit: list.limit,
    };
    let listing = ops::manifests::list(store, pipeline, &filter).await?;
    let remark = if listing.more {
        let shown = counted(u64::from(list.limit), "manifest");
        Some(format!("only the newest {shown} shown: --limit 0 shows all"))
    } else if listing.manifests.is_empty() && list.output == Format::Table {
        Some(format!("pipeline {pipeline} has no such manifest"))
    } else {
        None
    };
    let text = match list.output {
        Format::Table if listing.manifests.is_empty() => String::new(),
        Format::Table => views::listing(&listing.manifests, now),
        Format::Json => output::json(&listing.manifests),
    };
    Ok(Answer { text, remark })
}

async fn missing(
    one: &One,
    store: &dyn StateStore,
    pipeline: &PipelineName,
) -> Result<Answer, OpsError> {
    let missing = ops::manifests::missing(store, pipeline, &key(one)).await?;
    if one.output == Format::Json {
        return Ok(Answer::new(output::json(&missing)));
    }
    let remark = if !missing.announced {
        Some("it was never announced, so it is not known which members it needs".to_owned())
    } else if missing.missing.is_empty() {
        Some(format!("none of its {} is missing", counted(missing.expected, "member")))
    } else {
        None
    };
    Ok(Answer { text: views::missing(&missing), remark })
}

#[cfg(test)]
mod tests;
