//! Dead letters: which there are, what is in one, trying them again, letting them go.
//!
//! Responsible for: listing and showing what lies in the dead-letter topic, replaying letters to
//! the topic of replays, discarding them, and saying of each what was done with it.
//! Not responsible for: making letters (`sink::dead_letter`), or taking replays in
//! (`source::replay`).
//!
//! A letter is known by its place, `PARTITION-OFFSET`, and never changes. What became of it is in
//! the audit: the marks of its replay and of its discarding are read back from there, so every
//! replica and every operator sees the same. The topic is read from its beginning each time,
//! beside all groups; what is kept in memory is bounded by how many letters are asked for.

mod letter;
mod marks;
mod replay;
mod scan;
mod selection;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::LogRecord;
use crate::ops::OpsError;
use crate::ops::audit::{DISCARD, DONE};
use crate::ops::commands::{Asked, Operator};
use crate::ops::time::Time;
use letter::LetterId;
use marks::Marks;
use scan::{blocking, scan};
use selection::{Keep, Kept, Selection};

pub use letter::{Encoding, LetterDetails, LetterHeader, LetterLine, Mark, Preview};

/// Records of the audit that are on their way at once.
const AUDIT_AT_ONCE: usize = 256;

/// Which dead letters are meant. Whatever is given has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeadLetterFilter {
    /// Only these, by id: `PARTITION-OFFSET`.
    pub ids: Vec<String>,
    /// Only those that this node gave up.
    pub node: Option<String>,
    /// Only those of this failure class.
    pub class: Option<String>,
    /// Only those of members of this manifest.
    pub manifest: Option<String>,
    /// Only those of members with this id.
    pub member: Option<String>,
    /// Only those that failed at this time or later, milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Only those in this state. To be replayed or discarded, letters that are not named by id
    /// have to be waiting where nothing else is said.
    pub state: Option<LetterState>,
    /// At most so many; 0 is as many as there can be (10,000).
    pub limit: u32,
}

/// What has become of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// Nothing yet.
    Waiting,
    /// It was tried again. If that failed, there is a new letter.
    Replayed,
    /// Somebody let it go.
    Discarded,
}

impl LetterState {
    /// The word that listings show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Dead letters that a filter lets through, newest failure first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterListing {
    /// The letters.
    pub letters: Vec<LetterLine>,
    /// How many the filter lets through, with those that the limit left out.
    pub total: u64,
    /// Whether the limit left some out.
    pub more: bool,
}

impl Operator {
    /// Dead letters that `filter` lets through, newest failure first.
    ///
    /// # Errors
    /// [`OpsError::Invalid`] for ids that are none; if the log does not answer.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<LetterListing, OpsError> {
        let kept = self.select(Selection::new(filter)?, Keep::Newest).await?;
        let (total, more) = (kept.total(), kept.left_out() > 0);
        Ok(LetterListing { letters: kept.into_newest_first(), total, more })
    }

    /// One dead letter with everything that it holds.
    ///
    /// # Errors
    /// [`OpsError::Unknown`] if there is none of that id.
    pub async fn dead_letter(&self, id: &str) -> Result<LetterDetails, OpsError> {
        let wanted: LetterId = id.parse()?;
        let selection = Selection::one(wanted);
        let (broker, topics) = (self.broker.clone(), self.topics.clone());
        let found = blocking(move || {
            let marks = Marks::read(&*broker, &topics.audit)?;
            let mut found = None;
            let letters = &topics.dead_letters;
            scan(&*broker, letters, &selection.ranges(), &mut |id, record| {
                let line = LetterLine::of(id, &record, marks.of(id));
                found = Some(LetterDetails::of(line, &record));
                ControlFlow::Break(())
            })?;
            Ok(found)
        });
        found.await?.ok_or_else(|| unknown(&[wanted]))
    }

    /// Tries dead letters again: their records go to the sources that they came from, and to
    /// nobody else. With `dry_run` nothing is done; the answer says what would be.
    ///
    /// # Errors
    /// [`OpsError::Invalid`] for a filter that would let everything through, or asks badly;
    /// [`OpsError::Unknown`] for letters that there are not; [`OpsError::Refused`] for letters
    /// whose source is not known.
    pub async fn replay(
        &self,
        filter: &DeadLetterFilter,
        asked: &Asked,
        dry_run: bool,
    ) -> Result<Vec<LetterLine>, OpsError> {
        let lines = self.chosen(filter, asked).await?;
        let sources = self.sources_of(&lines)?;
        if dry_run {
            return Ok(lines);
        }
        self.send_again(lines, &sources, asked).await
    }

    /// Lets dead letters go: they are no longer listed as waiting. With `dry_run` nothing is done.
    ///
    /// # Errors
    /// As those of [`Operator::replay`].
    pub async fn discard(
        &self,
        filter: &DeadLetterFilter,
        asked: &Asked,
        dry_run: bool,
    ) -> Result<Vec<LetterLine>, OpsError> {
        let mut lines = self.chosen(filter, asked).await?;
        if dry_run {
            return Ok(lines);
        }
        for part in lines.chunks_mut(AUDIT_AT_ONCE) {
            let entries = part.iter().map(|line| self.entry(asked, DISCARD, &line.id, DONE));
            self.write_audit(entries.collect()).await?;
            part.iter_mut().for_each(|line| self.mark(line, LetterState::Discarded, asked));
        }
        Ok(lines)
    }

    /// Letters that are to be changed, oldest failure first.
    async fn chosen(
        &self,
        filter: &DeadLetterFilter,
        asked: &Asked,
    ) -> Result<Vec<LetterLine>, OpsError> {
        asked.check()?;
        let selection = Selection::to_change(filter)?;
        let named = selection.named();
        let lines = self.select(selection, Keep::Oldest).await?.into_oldest_first();
        let found = |id: &LetterId| lines.iter().any(|line| line.id == id.to_string());
        let missing: Vec<_> = named.into_iter().filter(|id| !found(id)).collect();
        if missing.is_empty() { Ok(lines) } else { Err(unknown(&missing)) }
    }

    /// Reads all letters and keeps some of those that are selected.
    async fn select(&self, selection: Selection, keep: Keep) -> Result<Kept, OpsError> {
        let (broker, topics) = (self.broker.clone(), self.topics.clone());
        let reading = blocking(move || {
            let marks = Marks::read(&*broker, &topics.audit)?;
            let mut kept = Kept::new(keep, selection.most());
            let mut look = |id: LetterId, record: LogRecord| -> ControlFlow<()> {
                if selection.names(id) {
                    let line = LetterLine::of(id, &record, marks.of(id));
                    if selection.lets_through(&line) {
                        kept.put(id, line);
                    }
                }
                ControlFlow::Continue(())
            };
            scan(&*broker, &topics.dead_letters, &selection.ranges(), &mut look)?;
            Ok(kept)
        });
        reading.await
    }

    /// What a line says once its change is in the audit.
    fn mark(&self, line: &mut LetterLine, state: LetterState, asked: &Asked) {
        line.state = state;
        line.mark = Some(Mark {
            who: asked.who.clone(),
            why: asked.why.clone(),
            at: Time(self.clock.unix_millis()),
        });
    }
}

fn unknown(ids: &[LetterId]) -> OpsError {
    let ids: Vec<String> = ids.iter().map(LetterId::to_string).collect();
    OpsError::Unknown(format!(
        "no dead letter {} fits; `tidemill dead-letters list` shows those that there are",
        ids.join(", ")
    ))
}

#[cfg(test)]
mod tests;
