//! Commands to manifests.
//!
//! Responsible for: sending what an operator wants through the progress topic, like everything
//! else that changes a manifest, and waiting until its owner has applied it; a clear answer where
//! there is nothing to change or the command is refused.
//! Not responsible for: what a command does (`progress::manifest`).
//!
//! A command may be sent through any replica, or past them all: it travels to the shard that owns
//! the manifest. What has been applied is known from the position that the shard's owner keeps in
//! the state store.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::broker::{Broker, Producer};
use crate::completion::ProgressTopic;
use crate::model::event::{Command, CommandAction};
use crate::model::{ManifestKey, NodeName, Offset, PipelineName, Topic};
use crate::ops::audit::{ASKED, DONE};
use crate::ops::manifests::{blocked, find};
use crate::ops::text::printable;
use crate::ops::{OpsError, acked};
use crate::progress::manifest::{Foreseen, Phase, foresee};
use crate::progress::restart::Backoff;
use crate::runtime::clock::SharedClock;
use crate::runtime::jitter::jitter;
use crate::state::{ManifestPhase, ManifestRow, ShardKey, StateError, StateStore};

/// Longest name and longest reason of whoever asks, in bytes.
const LONGEST: usize = 1_000;
/// Looks at whether a command was applied, and how far apart they are.
const LOOK_AGAIN: Backoff =
    Backoff { first: Duration::from_millis(20), max: Duration::from_millis(500), factor: 1.5 };
/// What the audit says of a command that its shard's owner has yet to apply.
const SENT: &str = "sent";

/// Who asks for a change, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
}

impl Asked {
    /// Whether both are said.
    pub(super) fn check(&self) -> Result<(), OpsError> {
        for (name, text) in [("who", &self.who), ("why", &self.why)] {
            let wrong = match text.trim() {
                "" => "is empty: a change has to say who asked for it and why",
                text if text.len() > LONGEST => "is too long: a sentence is enough",
                text if text.contains('\0') => "has a NUL character, which no database keeps",
                _ => continue,
            };
            return Err(OpsError::Invalid(format!("`{name}` {wrong}")));
        }
        Ok(())
    }
}

/// Topics that operators read and write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorTopics {
    /// Dead letters.
    pub dead_letters: Topic,
    /// Dead letters that are tried again.
    pub replay: Topic,
    /// What operators changed.
    pub audit: Topic,
}

/// What is needed to change things of one pipeline.
#[derive(Clone)]
pub struct Operator {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Produces commands, replays and the audit.
    pub producer: Arc<dyn Producer>,
    /// The log that they lie in.
    pub broker: Arc<dyn Broker>,
    /// The state store; `None` for a pipeline without manifests and tables.
    pub store: Option<Arc<dyn StateStore>>,
    /// The progress topic; `None` for a pipeline without manifests.
    pub progress: Option<ProgressTopic>,
    /// The other topics.
    pub topics: OperatorTopics,
    /// Names of the sources that can take replays.
    pub sources: Vec<NodeName>,
    /// Stamps what is sent.
    pub clock: SharedClock,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Commanded {
    /// The manifest.
    pub manifest: String,
    /// The command: `force`, `cancel`, `reopen`, `retry` or `extend`.
    pub action: String,
    /// Whether it has been applied; if not, it will be.
    pub applied: bool,
    /// Phase of the manifest as it is stored now.
    pub phase: String,
    /// Its revision.
    pub revision: u32,
    /// What there is to add for people.
    pub note: Option<String>,
}

impl Commanded {
    fn new(row: &ManifestRow, action: CommandAction, applied: bool, note: Option<String>) -> Self {
        Self {
            manifest: row.manifest.to_string(),
            action: word(action).to_owned(),
            applied,
            phase: row.phase.as_str().to_owned(),
            revision: row.revision,
            note,
        }
    }
}

/// The word for a command.
pub fn word(action: CommandAction) -> &'static str {
    match action {
        CommandAction::Force => "force",
        CommandAction::Cancel => "cancel",
        CommandAction::Reopen => "reopen",
        CommandAction::Retry => "retry",
        CommandAction::Extend { .. } => "extend",
    }
}

/// What a command would do to a manifest as it is stored, without sending anything.
///
/// # Errors
/// [`OpsError::Unknown`] if there is no such manifest, [`OpsError::Refused`] if the command would
/// be refused.
pub async fn rehearse(
    store: &dyn StateStore,
    pipeline: &PipelineName,
    key: &ManifestKey,
    action: CommandAction,
) -> Result<Commanded, OpsError> {
    let (found, _) = find(store, pipeline, key).await?;
    let note = match foreseen(&found.row, action)? {
        Some(so) => format!("nothing would change: {so}"),
        None => format!("{} would be sent", word(action)),
    };
    Ok(Commanded::new(&found.row, action, false, Some(note)))
}

/// Why there is nothing to change, if that is so.
fn foreseen(row: &ManifestRow, action: CommandAction) -> Result<Option<&'static str>, OpsError> {
    let phase = match row.phase {
        ManifestPhase::Open => Phase::Open,
        ManifestPhase::Complete => Phase::Complete,
        ManifestPhase::Cancelled => Phase::Cancelled,
        ManifestPhase::Failed => Phase::Failed,
    };
    match foresee(action, phase, row.revision, blocked(row).is_some()) {
        Foreseen::Change => Ok(None),
        Foreseen::AlreadySo(why) => Ok(Some(why)),
        Foreseen::Refusal(why) => Err(refused(row, action, why)),
    }
}

/// Whether the owner has left the row as it was, apart from the shard's time that it keeps there.
/// Whatever it applies is seen there, but for a retry, which may leave everything as it is.
fn is_untouched(before: &ManifestRow, after: &ManifestRow) -> bool {
    let timing = |row: &ManifestRow| row.extra.get("timing").cloned();
    let same = ManifestRow { extra: before.extra.clone(), ..after.clone() };
    same == *before && timing(before) == timing(after)
}

fn refused(row: &ManifestRow, action: CommandAction, why: &str) -> OpsError {
    let key = printable(row.manifest.as_str());
    OpsError::Refused(format!("{} of manifest {key} is refused: {why}", word(action)))
}

impl Operator {
    /// Sends a command to a manifest, and waits at most `wait` until it was applied. One that is
    /// not applied by then is no error: it will be.
    ///
    /// # Errors
    /// [`OpsError::Unknown`] if there is no such manifest, [`OpsError::Refused`] if the command is
    /// refused, and if the log or the store do not answer.
    pub async fn command(
        &self,
        key: &ManifestKey,
        action: CommandAction,
        asked: &Asked,
        wait: Duration,
    ) -> Result<Commanded, OpsError> {
        asked.check()?;
        let (store, progress) = self.manifests()?;
        let (before, _) = find(store, &self.pipeline, key).await?;
        let before = before.row;
        if let Some(so) = foreseen(&before, action)? {
            let note = Some(format!("{so}: nothing was sent"));
            return Ok(Commanded::new(&before, action, true, note));
        }
        let what = format!("manifest.{}", word(action));
        let entry = |result: &str| vec![self.entry(asked, &what, key.as_str(), result)];
        self.write_audit(entry(ASKED)).await?;
        let command = Command {
            manifest: key.clone(),
            action,
            who: asked.who.clone(),
            why: asked.why.clone(),
            at: self.clock.unix_millis(),
        };
        let record = progress.command(before.shard, command);
        let (_, offset) = acked::one(&*self.producer, record).await?;
        if !self.is_applied(store, before.shard, offset, wait).await? {
            self.write_audit(entry(SENT)).await?;
            let note = "sent, but not applied yet: it will be once the owner of its shard gets \
                        there";
            return Ok(Commanded::new(&before, action, false, Some(note.to_owned())));
        }
        let (after, _) = find(store, &self.pipeline, key).await?;
        if action != CommandAction::Retry && is_untouched(&before, &after.row) {
            let refusal = refused(&before, action, "its owner has skipped it, its log says why");
            self.write_audit(entry(&refusal.to_string())).await?;
            return Err(refusal);
        }
        self.write_audit(entry(DONE)).await?;
        let note = after.row.note.clone();
        Ok(Commanded::new(&after.row, action, true, note))
    }

    /// The state store.
    pub(super) fn store(&self) -> Result<&dyn StateStore, OpsError> {
        let without = || format!("pipeline {} declares no manifests", self.pipeline);
        self.store.as_deref().ok_or_else(|| OpsError::Unknown(without()))
    }

    fn manifests(&self) -> Result<(&dyn StateStore, &ProgressTopic), OpsError> {
        let without = || format!("pipeline {} declares no manifests", self.pipeline);
        let progress = self.progress.as_ref().ok_or_else(|| OpsError::Unknown(without()))?;
        Ok((self.store()?, progress))
    }

    /// Whether the shard's owner gets past `offset` within `wait`. A store that is away for a
    /// while is waited for: the command lies in its topic.
    async fn is_applied(
        &self,
        store: &dyn StateStore,
        shard: i32,
        offset: Offset,
        wait: Duration,
    ) -> Result<bool, StateError> {
        let shard = ShardKey { pipeline: self.pipeline.clone(), shard };
        let looking = async {
            let mut looks = 0;
            loop {
                match store.position(&shard).await {
                    Ok(Some(next)) if next > offset => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.is_transient() => {
                        tracing::debug!(%error, "cannot look whether a command was applied");
                    }
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(LOOK_AGAIN.delay(looks, jitter())).await;
                looks = looks.saturating_add(1);
            }
        };
        match tokio::time::timeout(wait, looking).await {
            Ok(looked) => looked.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
