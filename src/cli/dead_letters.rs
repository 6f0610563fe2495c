//! `tidemill dead-letters`.
//!
//! Responsible for: arguments, and what is printed of letters that were found, replayed or
//! discarded.
//! Not responsible for: the letters (`ops::dead_letters`), or the way to them (`reach`).

mod views;

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;

use super::Exit;
use crate::cli::manifests::output::{self, Format};
use crate::cli::manifests::stored::now;
use crate::cli::reach::{Asking, Fault, Reach, block_on};
use crate::config::{Config, units};
use crate::ops::dead_letters::{DeadLetterFilter, LetterLine, LetterState};
use crate::ops::text::counted;
use crate::ops::time::Time;

/// Arguments of `dead-letters`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists dead letters, those that failed last first.
    #[command(after_help = "Examples:\n  tidemill dead-letters list\n  \
                            tidemill dead-letters list --state waiting --since 24h\n  \
                            tidemill dead-letters list --manifest 3f2a --output json\n  \
                            tidemill dead-letters list --topology orders.toml   # Kafka brokers")]
    List(List),
    /// Shows a dead letter: why it failed, where it came from, and the beginning of its bytes.
    #[command(after_help = "Examples:\n  tidemill dead-letters show 0-17\n  \
                            tidemill dead-letters show 0-17 --raw > record.bin")]
    Show(Show),
    /// Tries dead letters again: their records go to the source that they came from, and to
    /// nobody else.
    #[command(after_help = "Examples:\n  \
                            tidemill dead-letters replay --id 0-17 --why 'schema is mended'\n  \
                            tidemill dead-letters replay --manifest 3f2a --why 'see #12'\n  \
                            tidemill dead-letters replay --class unmatched --why test --dry-run")]
    Replay(Change),
    /// Lets dead letters go: they no longer count as waiting, and stay where they are.
    #[command(after_help = "Examples:\n  \
                            tidemill dead-letters discard --id 0-17 --why 'a test upload'\n  \
                            tidemill dead-letters discard --node slim --since 2026-01-01T00:00:00Z \
                            --why 'all of them are noise'")]
    Discard(Change),
}

/// Which letters, by what they are.
#[derive(Debug, clap::Args)]
struct Like {
    /// Only those that this node gave up.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only those of this failure class.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only those of members of this manifest.
    #[arg(long, value_name = "KEY")]
    manifest: Option<String>,
    /// Only those of members with this id.
    #[arg(long, value_name = "ID")]
    member: Option<String>,
    /// Only those that failed since then: an instant, or how long ago.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    like: Like,
    #[command(flatten)]
    reach: Reach,
    /// At most so many; 0 is 10,000.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The letter, as a listing names it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    reach: Reach,
    /// Prints the value of its record alone, byte for byte.
    #[arg(long, conflicts_with = "output")]
    raw: bool,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct Change {
    /// This letter; may be given several times.
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    like: Like,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    reach: Reach,
    /// At most so many; 0 is 10,000.
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    /// Only says which letters are meant.
    #[arg(long)]
    dry_run: bool,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// Nothing was done with it yet.
    Waiting,
    /// It was tried again.
    Replayed,
    /// Somebody let it go.
    Discarded,
}

impl From<State> for LetterState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Replayed => Self::Replayed,
            State::Discarded => Self::Discarded,
        }
    }
}

impl Like {
    fn filter(&self, ids: &[String], limit: u32, now: Time) -> Result<DeadLetterFilter, Fault> {
        let since = self.since.as_deref().map(|text| since(text, now)).transpose()?;
        Ok(DeadLetterFilter {
            ids: ids.to_vec(),
            node: self.node.clone(),
            class: self.class.clone(),
            manifest: self.manifest.clone(),
            member: self.member.clone(),
            since,
            state: self.state.map(LetterState::from),
            limit,
        })
    }
}

/// An instant, or how long ago that was.
fn since(text: &str, now: Time) -> Result<i64, Fault> {
    if let Some(ago) = units::duration(text) {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(now.0.saturating_sub(ago));
    }
    let instant = text.parse::<Timestamp>();
    instant.map(|instant| instant.as_millisecond()).map_err(|_| {
        Fault::usage(format!(
            "--since {text}: an instant or a length of time is needed, such as 24h"
        ))
    })
}

/// Which change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Replay,
    Discard,
}

/// Looks at dead letters, or changes what becomes of them.
pub fn dead_letters(arguments: &Arguments, config: &Config) -> Exit {
    let now = now();
    let done = block_on(async {
        match &arguments.command {
            Command::List(arguments) => list(arguments, config, now).await,
            Command::Show(arguments) => show(arguments, config, now).await,
            Command::Replay(change) => carry_out(Deed::Replay, change, config, now).await,
            Command::Discard(change) => carry_out(Deed::Discard, change, config, now).await,
        }
    });
    done.unwrap_or_else(|exit| exit)
}

async fn list(arguments: &List, config: &Config, now: Time) -> Result<Exit, Fault> {
    let filter = arguments.like.filter(&[], arguments.limit, now)?;
    let listing = arguments.reach.hand(config).await?.dead_letters(&filter).await?;
    if listing.more {
        let (shown, total) = (listing.letters.len(), counted(listing.total, "letter"));
        eprintln!("only {shown} of {total} shown: --limit says how many");
    }
    Ok(match arguments.output {
        Format::Json => output::print(&output::json(&listing.letters)),
        Format::Table => print_table(&listing.letters, "there is no such dead letter"),
    })
}

async fn show(arguments: &Show, config: &Config, now: Time) -> Result<Exit, Fault> {
    let details = arguments.reach.hand(config).await?.dead_letter(&arguments.id).await?;
    if arguments.raw {
        let bytes = details.value_bytes()?;
        return Ok(output::write(|out| out.write_all(&bytes)));
    }
    Ok(output::print(&match arguments.output {
        Format::Table => views::details(&details, now),
        Format::Json => output::json(&details),
    }))
}

async fn carry_out(deed: Deed, change: &Change, config: &Config, now: Time) -> Result<Exit, Fault> {
    let filter = change.like.filter(&change.ids, change.limit, now)?;
    let asked = change.asking.asked()?;
    let hand = change.reach.hand(config).await?;
    let letters = match deed {
        Deed::Replay => hand.replay(&filter, &asked, change.dry_run).await?,
        Deed::Discard => hand.discard(&filter, &asked, change.dry_run).await?,
    };
    eprintln!("{}", remark(deed, letters.len(), change.dry_run));
    Ok(match change.output {
        Format::Json => output::print(&output::json(&letters)),
        Format::Table => print_table(&letters, "none fits what was asked for"),
    })
}

fn remark(deed: Deed, letters: usize, dry_run: bool) -> String {
    let what = match deed {
        Deed::Replay => "replayed",
        Deed::Discard => "discarded",
    };
    let letters = counted(letters as u64, "dead letter");
    if dry_run { format!("{letters} would be {what}") } else { format!("{letters} {what}") }
}

fn print_table(letters: &[LetterLine], without: &str) -> Exit {
    if letters.is_empty() {
        eprintln!("{without}");
        return Exit::Ok;
    }
    output::print(&views::listing(letters))
}

#[cfg(test)]
mod tests;
