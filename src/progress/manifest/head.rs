//! What is persisted of a manifest beside its members.
//!
//! Responsible for: the values, and the words that listings show.
//! Not responsible for: how they change (`manifest`), or the form in which they are stored.

use serde::{Deserialize, Serialize};

use crate::progress::deadline::Timing;

/// Where a manifest stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for members.
    #[default]
    Open,
    /// Its present revision has completed.
    Complete,
    /// An operator gave it up.
    Cancelled,
    /// A deadline gave it up.
    Failed,
}

impl Phase {
    /// The word that listings show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Events of a manifest that changed none of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventCounts {
    /// Said again what was known.
    pub duplicates: u64,
    /// Said something else of a member that had settled.
    pub conflicts: u64,
    /// Came after the manifest was complete, cancelled or failed.
    pub late: u64,
    /// Listed members under an older version than the one known.
    pub outdated: u64,
}

/// What is persisted of a manifest beside its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Where it stands.
    pub phase: Phase,
    /// The revision it completes under, or has completed under; from 1.
    pub revision: u32,
    /// Whether any *expected* event has arrived.
    pub announced: bool,
    /// The highest version of its list; a list without one is the lowest.
    pub version: Option<i64>,
    /// When its deadlines count from.
    pub timing: Timing,
    /// Events that changed nothing.
    pub counts: EventCounts,
}
