//! `tidemill manifests`.
//!
//! Responsible for: asking the state store of a pipeline, also while an engine writes it, which
//! manifests there are, what is in them, and why they are where they are; commands to them.
//! Not responsible for: the answers (`ops`).

mod act;
mod export;
pub(super) mod output;
pub(super) mod stored;
mod views;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{Exit, load};
use crate::cli::reach::{block_on, direct};
use crate::config::Config;
use crate::model::event::CommandAction;
use crate::model::{ManifestKey, PipelineName, Topic};
use crate::ops::explanation::{Explanation, explain_with_letters};
use crate::ops::text::counted;
use crate::ops::time::Time;
use crate::ops::{self, OpsError};
use crate::state::{ManifestFilter, ManifestPhase, StateStore};
use act::{Act, Extend};
use export::Export;
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
    /// Prints manifests with everything that is stored of them, as lines of JSON.
    #[command(after_help = "Examples:\n  tidemill manifests export 3f2a\n  \
                            tidemill manifests export --phase complete > complete.jsonl")]
    Export(Export),
    /// Completes a manifest with what has settled.
    #[command(after_help = "Examples:\n  \
                            tidemill manifests force 3f2a --why 'the last file will not come'\n  \
                            tidemill manifests force 3f2a --why 'see #12' --topology cost.toml")]
    Force(Act),
    /// Gives a manifest up: it will not complete.
    #[command(after_help = "Examples:\n  \
                            tidemill manifests cancel 3f2a --why 'the cluster is gone'")]
    Cancel(Act),
    /// Opens a manifest again that is complete, cancelled or given up.
    #[command(after_help = "Examples:\n  \
                            tidemill manifests reopen 3f2a --why 'cancelled by mistake'")]
    Reopen(Act),
    /// Tries the actions of a manifest again that failed for good.
    #[command(after_help = "Examples:\n  \
                            tidemill manifests retry 3f2a --why 'the table is mended'")]
    Retry(Act),
    /// Keeps the deadlines of an open manifest from acting for a while.
    #[command(after_help = "Examples:\n  \
                            tidemill manifests extend 3f2a --by 24h --why 'the sender is down'")]
    Extend(Extend),
}

/// Which pipeline a question is about.
#[derive(Debug, clap::Args)]
struct Which {
    /// The pipeline; may be left out where only one has state.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// The topology of the pipeline, instead of its name. With Kafka brokers, `explain` names the
    /// dead letters of members too.
    #[arg(long, value_name = "FILE", conflicts_with = "pipeline")]
    topology: Option<PathBuf>,
    /// Brokers to use instead of those that the topology names, as `host:port,…`.
    #[arg(long, value_name = "HOSTS", requires = "topology")]
    bootstrap: Option<String>,
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

/// A question that the store answers.
#[derive(Clone, Copy, Debug)]
enum Question<'a> {
    List(&'a List),
    Show(&'a One),
    Missing(&'a One),
    Explain(&'a One),
}

impl<'a> Question<'a> {
    fn which(self) -> &'a Which {
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

/// Answers a question about manifests, or sends a command to one.
pub fn manifests(arguments: &Arguments, config: &Config) -> Exit {
    let question = match &arguments.command {
        Command::List(list) => Question::List(list),
        Command::Show(one) => Question::Show(one),
        Command::Missing(one) => Question::Missing(one),
        Command::Explain(one) => match beside_brokers(one, config) {
            Ok(None) => Question::Explain(one),
            Ok(Some(explanation)) => return output::print(&explained(one, &explanation)),
            Err(exit) => return exit,
        },
        Command::Export(export) => return export::export(export, config),
        Command::Force(act) => return act::act(act, CommandAction::Force, config),
        Command::Cancel(act) => return act::act(act, CommandAction::Cancel, config),
        Command::Reopen(act) => return act::act(act, CommandAction::Reopen, config),
        Command::Retry(act) => return act::act(act, CommandAction::Retry, config),
        Command::Extend(extend) => {
            let (act, action) = extend.parts();
            return act::act(act, action, config);
        }
    };
    let name = match question.which().name() {
        Ok(name) => name,
        Err(exit) => return exit,
    };
    let now = stored::now();
    let answer = stored::ask(config, async |store| {
        let pipeline = ops::pipeline(store, name.as_deref()).await?;
        answer(question, store, &pipeline, config, now).await
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

/// An explanation that names dead letters, if the brokers can be asked for them.
fn beside_brokers(one: &One, config: &Config) -> Result<Option<Explanation>, Exit> {
    if one.which.topology.is_none() {
        return Ok(None);
    }
    block_on(async {
        let Which { topology, bootstrap, .. } = &one.which;
        let Some(operator) = direct(topology.as_ref(), bootstrap, config).await? else {
            return Ok(None);
        };
        let now = stored::now();
        Ok(Some(explain_with_letters(&operator, &key(one), now).await?))
    })
}

fn explained(one: &One, explanation: &Explanation) -> String {
    match one.output {
        Format::Table => explanation.to_string(),
        Format::Json => output::json(explanation),
    }
}

async fn answer(
    question: Question<'_>,
    store: &dyn StateStore,
    pipeline: &PipelineName,
    config: &Config,
    now: Time,
) -> Result<Answer, OpsError> {
    match question {
        Question::List(list) => listed(list, store, pipeline, now).await,
        Question::Show(one) => {
            let details = ops::manifests::show(store, pipeline, &key(one)).await?;
            Ok(Answer::new(match one.output {
                Format::Table => views::details(&details, now),
                Format::Json => output::json(&details),
            }))
        }
        Question::Missing(one) => missing(one, store, pipeline).await,
        Question::Explain(one) => {
            let dead_letters =
                Topic::from(format!("{pipeline}{}", config.dead_letters.topic_suffix));
            let explanation =
                ops::explanation::explain(store, pipeline, &key(one), &dead_letters, now).await?;
            Ok(Answer::new(explained(one, &explanation)))
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
