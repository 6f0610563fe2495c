//! Trying dead letters again.
//!
//! Responsible for: which source takes each letter, and sending the records of letters to the
//! topic of replays in small batches: the audit first, then the records, then the audit that it
//! is done.
//! Not responsible for: choosing letters (`selection`), or the headers of a replay
//! (`model::letter`).
//!
//! A letter counts as replayed once its record is acked and the audit says so. Should this end in
//! between, it still counts as waiting, and replaying it once more does no harm: what was done is
//! not done again.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use tokio::sync::mpsc;

use crate::broker::ProducerRecord;
use crate::model::{LogRecord, NodeName, letter};
use crate::ops::audit::{ASKED, DONE, REPLAY};
use crate::ops::commands::{Asked, Operator};
use crate::ops::dead_letters::LetterState;
use crate::ops::dead_letters::letter::{LetterId, LetterLine};
use crate::ops::dead_letters::scan::{Ranges, scan};
use crate::ops::text::printable;
use crate::ops::{OpsError, acked};

/// Letters that are on their way at once,
const BATCH: usize = 64;
/// and bytes of them, as far as letters are no larger.
const BATCH_BYTES: usize = 8 << 20;
/// Letters that were read and wait for their batch.
const READ_AHEAD: usize = 8;

/// Which source takes which letter.
pub(super) type Sources = BTreeMap<LetterId, NodeName>;

/// Letters that are sent together.
#[derive(Default)]
struct Batch {
    letters: Vec<(LetterId, LogRecord)>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.letters.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

impl Operator {
    /// The source of each letter. A letter that does not name it goes to the only one there is.
    pub(super) fn sources_of(&self, lines: &[LetterLine]) -> Result<Sources, OpsError> {
        let mut sources = Sources::new();
        for line in lines {
            let named = line.source.as_deref().map(NodeName::from);
            let source = match (named, self.sources.as_slice()) {
                (Some(named), known) if known.contains(&named) => named,
                (None, [only]) => only.clone(),
                (Some(named), _) => {
                    let named = printable(named.as_str());
                    return Err(OpsError::Refused(format!(
                        "dead letter {} came from source {named}, which pipeline {} does not have",
                        line.id, self.pipeline
                    )));
                }
                (None, _) => {
                    return Err(OpsError::Refused(format!(
                        "dead letter {} does not say which source it came from, and pipeline {} \
                         has several",
                        line.id, self.pipeline
                    )));
                }
            };
            sources.insert(line.id.parse::<LetterId>()?, source);
        }
        Ok(sources)
    }

    /// Sends the records of these letters again; returns the lines as they are afterwards.
    pub(super) async fn send_again(
        &self,
        mut lines: Vec<LetterLine>,
        sources: &Sources,
        asked: &Asked,
    ) -> Result<Vec<LetterLine>, OpsError> {
        let places: HashMap<LetterId, usize> = lines
            .iter()
            .enumerate()
            .map(|(place, line)| Ok((line.id.parse::<LetterId>()?, place)))
            .collect::<Result<_, OpsError>>()?;
        let (letters, mut read) = mpsc::channel(READ_AHEAD);
        let (broker, topic) = (self.broker.clone(), self.topics.dead_letters.clone());
        let wanted = sources.clone();
        let reading = tokio::task::spawn_blocking(move || {
            scan(&*broker, &topic, &Ranges::around(wanted.keys()), &mut |id, record| {
                if wanted.contains_key(&id) && letters.blocking_send((id, record)).is_err() {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
        });
        let mut batch = Batch::default();
        while let Some((id, record)) = read.recv().await {
            batch.bytes += record.size();
            batch.letters.push((id, record));
            if batch.is_full() {
                let sent = self.send_batch(std::mem::take(&mut batch), sources, asked).await?;
                self.mark_replayed(&mut lines, &places, &sent, asked);
            }
        }
        let sent = self.send_batch(batch, sources, asked).await?;
        self.mark_replayed(&mut lines, &places, &sent, asked);
        reading.await.map_err(|error| OpsError::Internal(error.to_string()))??;
        Ok(lines)
    }

    async fn send_batch(
        &self,
        batch: Batch,
        sources: &Sources,
        asked: &Asked,
    ) -> Result<Vec<LetterId>, OpsError> {
        let ids: Vec<LetterId> = batch.letters.iter().map(|(id, _)| *id).collect();
        let entries = |result: &str| {
            let entry = |id: &LetterId| self.entry(asked, REPLAY, &id.to_string(), result);
            ids.iter().map(entry).collect::<Vec<_>>()
        };
        self.write_audit(entries(ASKED)).await?;
        let records = batch.letters.into_iter().filter_map(|(id, record)| {
            let source = sources.get(&id)?;
            Some(self.replay_of(id, record, source))
        });
        acked::all(&*self.producer, records.collect()).await?;
        self.write_audit(entries(DONE)).await?;
        Ok(ids)
    }

    fn replay_of(&self, id: LetterId, record: LogRecord, source: &NodeName) -> ProducerRecord {
        ProducerRecord {
            topic: self.topics.replay.clone(),
            partition: None,
            headers: letter::replay_headers(&record.headers, &id.to_string(), source),
            key: record.key,
            value: record.value,
            timestamp: record.timestamp,
        }
    }

    fn mark_replayed(
        &self,
        lines: &mut [LetterLine],
        places: &HashMap<LetterId, usize>,
        sent: &[LetterId],
        asked: &Asked,
    ) {
        for line in sent.iter().filter_map(|id| places.get(id)) {
            self.mark(&mut lines[*line], LetterState::Replayed, asked);
        }
    }
}
