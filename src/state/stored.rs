//! Values as rows of a store hold them.
//!
//! Responsible for: the words, numbers and JSON texts that stand for values, the same in every
//! store. A value that cannot have been written by this program is an error, never a default.
//! Not responsible for: the types of a database; each store has its own.

use serde::Serialize;

use crate::model::event::MemberState;
use crate::state::{ManifestPhase, StateError};

/// A count as databases store it.
pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A value as JSON text. `what` names it in the error.
pub(super) fn json_text(what: &str, value: &impl Serialize) -> Result<String, StateError> {
    serde_json::to_string(value)
        .map_err(|error| StateError::Fatal(format!("{what} cannot be stored as JSON: {error}")))
}

/// The state of a member, by its word.
pub(super) fn member_state(word: &str) -> Result<MemberState, String> {
    let states =
        [MemberState::Pending, MemberState::DeadLettered, MemberState::Empty, MemberState::Done];
    let found = states.into_iter().find(|state| state.as_str() == word);
    found.ok_or_else(|| format!("no state of a member is called {word}"))
}

/// The phase of a manifest, by its word.
pub(super) fn phase(word: &str) -> Result<ManifestPhase, String> {
    let phases = [
        ManifestPhase::Open,
        ManifestPhase::Complete,
        ManifestPhase::Cancelled,
        ManifestPhase::Failed,
    ];
    let found = phases.into_iter().find(|phase| phase.as_str() == word);
    found.ok_or_else(|| format!("no phase of a manifest is called {word}"))
}

/// Bytes as people and JSON see them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
