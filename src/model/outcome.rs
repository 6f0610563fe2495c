//! How a record ends.
//!
//! Responsible for: the order of outcomes, and the description of a failure.
//! Not responsible for: what a failure leads to (retry, dead letter): `progress::retry`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The end of a record, from worst to best: of the parts of a record the worst wins.
///
/// `Abandoned` is no outcome to the world: no event, no dead letter, no receipt, no commit. It
/// says that somebody let the record go without finishing it, so it has to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// Let go unfinished.
    Abandoned = 0,
    /// Failed for good; the source record lies in the dead-letter topic, acked by the broker.
    DeadLettered = 1,
    /// Everything it led to is durable.
    Delivered = 2,
    /// A program decided that nothing comes of it.
    Filtered = 3,
}

impl Outcome {
    /// The word that users see in `%outcome`, metrics and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::DeadLettered => "dead_lettered",
            Self::Delivered => "delivered",
            Self::Filtered => "filtered",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many records ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; 4]);

impl Tally {
    /// Counts `count` more records with this outcome.
    pub fn add(&mut self, outcome: Outcome, count: u64) {
        self.0[outcome as usize] += count;
    }

    /// Counts what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, count)| *own += count);
    }

    /// Records with this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Records that did not fail: delivered, or left out by a program.
    pub fn good(&self) -> u64 {
        self.of(Outcome::Delivered) + self.of(Outcome::Filtered)
    }

    /// All records.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl FromIterator<Outcome> for Tally {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut tally = Self::default();
        outcomes.into_iter().for_each(|outcome| tally.add(outcome, 1));
        tally
    }
}

/// Short machine-readable name of what went wrong with a record, as it appears in the headers of
/// a dead letter and in `accept` of a topology: `undecodable`, `unmatched`, `too_large`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureClass(Cow<'static, str>);

impl FailureClass {
    /// The bytes are not what `decode` says they are.
    pub const UNDECODABLE: Self = Self::new("undecodable");
    /// A program of the topology failed on the record.
    pub const PROGRAM: Self = Self::new("program");
    /// User code panicked.
    pub const PANICKED: Self = Self::new("panicked");
    /// User code did not come back within the record's time limit.
    pub const HUNG: Self = Self::new("hung");
    /// Larger than a limit allows.
    pub const TOO_LARGE: Self = Self::new("too_large");
    /// The receiver said no to this very record.
    pub const REJECTED: Self = Self::new("rejected");
    /// An archive that is cut short, malformed or hostile.
    pub const BAD_ARCHIVE: Self = Self::new("bad_archive");
    /// A file whose columns fit no declared schema.
    pub const UNMATCHED: Self = Self::new("unmatched");
    /// What the record points at is not there.
    pub const NOT_FOUND: Self = Self::new("not_found");
    /// The record points somewhere that the topology does not allow.
    pub const FORBIDDEN: Self = Self::new("forbidden");

    /// A class of that name; lowercase words joined by underscores.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a record, or what it depends on, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The *dependency* failed (refused, timed out, 5xx, disk full): it uses up no attempt, the
    /// node is unavailable and tries again without end.
    Unavailable {
        /// What failed and on what.
        why: String,
    },
    /// *This record* failed, in a way that another attempt can mend.
    Retriable {
        /// What kind of failure it is.
        class: FailureClass,
        /// What failed and on what.
        why: String,
        /// How long the other side asked to wait, if it did.
        after: Option<Duration>,
    },
    /// *This record* failed and always will.
    Poison {
        /// What kind of failure it is.
        class: FailureClass,
        /// What failed and on what.
        why: String,
    },
}

impl Failure {
    /// A failure of this record that no further attempt can mend.
    pub fn poison(class: FailureClass, why: impl Into<String>) -> Self {
        Self::Poison { class, why: why.into() }
    }

    /// A failure of what the node depends on.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into() }
    }

    /// The text for people.
    pub fn why(&self) -> &str {
        match self {
            Self::Unavailable { why } | Self::Retriable { why, .. } | Self::Poison { why, .. } => {
                why
            }
        }
    }

    /// The class, where the failure is the record's own.
    pub fn class(&self) -> Option<&FailureClass> {
        match self {
            Self::Unavailable { .. } => None,
            Self::Retriable { class, .. } | Self::Poison { class, .. } => Some(class),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}
