//! What can be asked of a pipeline while it runs, and when it does not; and what operators can do.
//!
//! Responsible for: questions about manifests, their members, deliveries, dead letters and tables,
//! answered as data that serializes and, where people read it, as text; commands to manifests,
//! replaying and discarding dead letters, and the audit of both. The command line and the HTTP
//! API show and do the same.
//! Not responsible for: arguments, output formats and exit codes (`cli`), or storing (`state`).
//!
//! Questions only read. Changes go through topics, so that each manifest keeps its single writer:
//! commands through the progress topic, replays through the topic of replays, and that a dead
//! letter was replayed or discarded is read back from the audit. Start reading at
//! [`explanation::explain`] and [`commands::Operator`].

mod acked;
pub mod audit;
pub mod commands;
pub mod dead_letters;
mod deliveries;
pub mod explanation;
pub mod manifests;
pub mod tables;
pub mod text;
pub mod time;

pub use commands::{Asked, Commanded, Operator, OperatorTopics};
pub use deliveries::Delivery;

use crate::broker::BrokerError;
use crate::model::PipelineName;
use crate::state::{StateError, StateStore};

/// Why a question has no answer, or a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpsError {
    /// It names something that there is not; the text says what there is instead.
    #[error("{0}")]
    Unknown(String),
    /// It makes no sense as it was asked.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be done as things stand; the text says why.
    #[error("{0}")]
    Refused(String),
    /// The store did not answer.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A fault of the engine.
    #[error("{0}")]
    Internal(String),
}

/// The pipeline that a question is about: the one called `wanted`, or the only one in the store.
///
/// # Errors
/// [`OpsError::Unknown`], with the names of those that have state, if there is no such pipeline,
/// or if there are several and none was named.
pub async fn pipeline(
    store: &dyn StateStore,
    wanted: Option<&str>,
) -> Result<PipelineName, OpsError> {
    let known = store.pipelines().await?;
    let names: Vec<&str> = known.iter().map(PipelineName::as_str).collect();
    let names = names.join(", ");
    match (wanted, known.as_slice()) {
        (_, []) => Err(OpsError::Unknown(
            "no pipeline has state in this store yet: start one with `tidemill run`".to_owned(),
        )),
        (Some(wanted), known) => {
            let found = known.iter().find(|name| name.as_str() == wanted).cloned();
            found.ok_or_else(|| {
                let wanted = text::printable(wanted);
                OpsError::Unknown(format!(
                    "no pipeline called {wanted} has state in this store; there are: {names}"
                ))
            })
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(OpsError::Unknown(format!(
            "several pipelines have state in this store, name one with --pipeline: {names}"
        ))),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
