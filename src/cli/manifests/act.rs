//! Commands to manifests: force, cancel, reopen, retry, extend.
//!
//! Responsible for: arguments, and what is printed of the answer.
//! Not responsible for: the commands (`ops::commands`), or the way to the pipeline (`reach`).

use std::time::Duration;

use crate::cli::Exit;
use crate::cli::manifests::output::{self, Format};
use crate::cli::manifests::stored;
use crate::cli::reach::{Asking, Fault, Reach, block_on, duration};
use crate::config::Config;
use crate::model::ManifestKey;
use crate::model::event::CommandAction;
use crate::ops::text::printable;
use crate::ops::{self, Commanded, OpsError};

/// Arguments of a command to a manifest.
#[derive(Debug, clap::Args)]
pub(super) struct Act {
    /// Key of the manifest.
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    reach: Reach,
    /// How long to wait until the command is applied.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    wait: Duration,
    /// Only says what the command would do, from what is stored.
    #[arg(long)]
    dry_run: bool,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Arguments of `extend`.
#[derive(Debug, clap::Args)]
pub(super) struct Extend {
    #[command(flatten)]
    act: Act,
    /// How long no deadline of the manifest acts, from now on.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    by: Duration,
}

impl Extend {
    /// As a command.
    pub(super) fn parts(&self) -> (&Act, CommandAction) {
        (&self.act, CommandAction::Extend { by_seconds: self.by.as_secs() })
    }
}

/// Sends a command, or says what it would do.
pub(super) fn act(arguments: &Act, action: CommandAction, config: &Config) -> Exit {
    let done = block_on(async {
        let commanded = if arguments.dry_run {
            rehearse(arguments, action, config).await?
        } else {
            send(arguments, action, config).await?
        };
        Ok(match arguments.output {
            Format::Table => output::print(&told(&commanded)),
            Format::Json => output::print(&output::json(&commanded)),
        })
    });
    done.unwrap_or_else(|exit| exit)
}

async fn send(arguments: &Act, action: CommandAction, config: &Config) -> Result<Commanded, Fault> {
    let asked = arguments.asking.asked()?;
    let key = ManifestKey::from(arguments.key.as_str());
    let hand = arguments.reach.hand(config).await?;
    hand.command(&key, action, &asked, arguments.wait).await
}

async fn rehearse(
    arguments: &Act,
    action: CommandAction,
    config: &Config,
) -> Result<Commanded, Fault> {
    let name = arguments.reach.name()?;
    let store = stored::open_store_read_only(config).await.map_err(OpsError::from)?;
    let pipeline = ops::pipeline(&*store, name.as_deref()).await?;
    let key = ManifestKey::from(arguments.key.as_str());
    Ok(ops::commands::rehearse(&*store, &pipeline, &key, action).await?)
}

/// The answer in a line.
fn told(commanded: &Commanded) -> String {
    let Commanded { manifest, action, applied, phase, revision, note } = commanded;
    let done = if *applied { "" } else { "not " };
    let note = note.as_deref().map(|note| format!("; {}", printable(note))).unwrap_or_default();
    format!(
        "{action} of manifest {} {done}applied: it is {phase}, revision {revision}{note}",
        printable(manifest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_it_was_applied() {
        let commanded = |applied, note: Option<&str>| Commanded {
            manifest: "m".to_owned(),
            action: "force".to_owned(),
            applied,
            phase: "complete".to_owned(),
            revision: 2,
            note: note.map(str::to_owned),
        };
        assert_eq!(
            told(&commanded(true, Some("forced"))),
            "force of manifest m applied: it is complete, revision 2; forced"
        );
        assert_eq!(
            told(&commanded(false, None)),
            "force of manifest m not applied: it is complete, revision 2"
        );
    }
}
