//! The audit: who changed what, and why.
//!
//! Responsible for: one record for each change, written before it is acted on, and one for how
//! that ended; in a topic of the pipeline that is kept for ever, so that all replicas and all
//! operators see the same.
//! Not responsible for: the changes (`commands`, `dead_letters`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::broker::ProducerRecord;
use crate::ops::commands::{Asked, Operator};
use crate::ops::time::Time;
use crate::ops::{OpsError, acked};

/// A dead letter was replayed.
pub(super) const REPLAY: &str = "dead_letter.replay";
/// A dead letter was discarded.
pub(super) const DISCARD: &str = "dead_letter.discard";
/// The change was asked for, and is about to be acted on.
pub(super) const ASKED: &str = "asked";
/// It was made.
pub(super) const DONE: &str = "done";

/// One change, as the audit topic keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// When.
    pub at: Time,
    /// Who asked for it.
    pub who: String,
    /// Why.
    pub why: String,
    /// What was changed: `manifest.force`, `manifest.cancel`, `manifest.reopen`,
    /// `manifest.retry`, `manifest.extend`, `dead_letter.replay` or `dead_letter.discard`.
    pub what: String,
    /// The manifest, or the dead letter.
    pub target: String,
    /// `asked` before it is acted on, then `done`, `sent` or why it was refused.
    pub result: String,
}

impl Operator {
    /// The record of a change that `asked` wants.
    pub(super) fn entry(
        &self,
        asked: &Asked,
        what: &str,
        target: &str,
        result: &str,
    ) -> AuditRecord {
        AuditRecord {
            at: Time(self.clock.unix_millis()),
            who: asked.who.clone(),
            why: asked.why.clone(),
            what: what.to_owned(),
            target: target.to_owned(),
            result: result.to_owned(),
        }
    }

    /// Writes records into the audit; they are there when this returns.
    pub(super) async fn write_audit(&self, records: Vec<AuditRecord>) -> Result<(), OpsError> {
        let produced = records.into_iter().map(|record| {
            let value = serde_json::to_vec(&record).map_err(|error| {
                OpsError::Internal(format!("the audit cannot be kept: {error}"))
            })?;
            let mut produced = ProducerRecord::new(self.topics.audit.clone(), value);
            produced.key = Some(Bytes::from(record.target));
            Ok(produced)
        });
        acked::all(&*self.producer, produced.collect::<Result<_, OpsError>>()?).await
    }
}
