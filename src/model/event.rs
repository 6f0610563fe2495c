//! The events of the progress topic, and the facts that a member brings with it.
//!
//! Responsible for: the wire form (JSON) of *expected*, *settled* and *command*.
//! Not responsible for: what they do to a manifest (`progress::manifest`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Digest, ManifestKey, MemberId, NodeName};

/// What a sink or a node found out about a member, collected until the member settles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberFacts {
    /// Rows that became part of an object or a table.
    #[serde(skip_serializing_if = "is_zero")]
    pub rows: u64,
    /// Bytes of the member as it arrived, unpacked.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Rows that were left out, by reason: `long_row`, `over_cap`.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub rejected: std::collections::BTreeMap<String, u64>,
    /// Values that were replaced because they could not be read, by column.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub mended: std::collections::BTreeMap<String, u64>,
    /// Objects that hold its rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectFact>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureFact>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl MemberFacts {
    /// Adds what another part of the same attempt found out. Numbers add up, the first failure
    /// stays.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        for (reason, count) in other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
        for (column, count) in other.mended {
            *self.mended.entry(column).or_default() += count;
        }
        self.objects.extend(other.objects);
        if self.failure.is_none() {
            self.failure = other.failure;
        }
    }
}

/// One object that holds rows of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectFact {
    /// Sink that wrote it.
    pub sink: NodeName,
    /// Its full URL.
    pub url: String,
    /// Declared schema of its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Values of the columns in its path (`year`, `month`, `usage_date`), for the catalogue.
    #[serde(default, alias = "columns", skip_serializing_if = "serde_json::Map::is_empty")]
    pub partition_values: serde_json::Map<String, Value>,
}

/// Why a member failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureFact {
    /// Node that gave up.
    pub node: NodeName,
    /// Failure class.
    pub class: String,
    /// What failed, for people.
    pub why: String,
}

/// State of a member once it is settled; across attempts the best wins, never downward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum MemberState {
    /// Expected, nothing settled yet.
    Pending = 0,
    /// Failed for good, its source record is a dead letter.
    DeadLettered = 1,
    /// Processed, and there was nothing in it.
    Empty = 2,
    /// Everything it led to is durable.
    Done = 3,
}

impl MemberState {
    /// The word that listings show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::DeadLettered => "dead_lettered",
            Self::Empty => "empty",
            Self::Done => "done",
        }
    }
}

/// One event of the progress topic. Idempotent: applying it again changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ProgressEvent {
    /// A manifest expects these members.
    Expected(Expected),
    /// A member has an outcome.
    Settled(Settled),
    /// An operator wants something.
    Command(Command),
}

impl ProgressEvent {
    /// The manifest it is about.
    pub fn manifest(&self) -> &ManifestKey {
        match self {
            Self::Expected(event) => &event.manifest,
            Self::Settled(event) => &event.manifest,
            Self::Command(event) => &event.manifest,
        }
    }
}

/// Which members a manifest expects, and its attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Name of the `[manifests.x]` declaration.
    pub kind: NodeName,
    /// The manifest.
    pub manifest: ManifestKey,
    /// Ids of the members; sets only add, unless a higher version replaces them.
    pub members: Vec<MemberId>,
    /// Version of the list, where the declaration has one; a list without is the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Points in time that the declared deadlines of that number wait for, in milliseconds since
    /// the Unix epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub due: Vec<Option<i64>>,
    /// Attributes that actions and queries use.
    #[serde(default)]
    pub facts: serde_json::Map<String, Value>,
    /// When the event was made, milliseconds since the Unix epoch; a label, never a decision.
    pub at: i64,
}

/// A member's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Name of the `[manifests.x]` declaration.
    pub kind: NodeName,
    /// The manifest.
    pub manifest: ManifestKey,
    /// The member.
    pub member: MemberId,
    /// How it ended.
    pub state: MemberState,
    /// What makes two attempts the same.
    pub digest: Digest,
    /// What was found out on the way.
    #[serde(default)]
    pub facts: MemberFacts,
    /// When the event was made, milliseconds since the Unix epoch; a label, never a decision.
    pub at: i64,
}

/// An operator's command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The manifest.
    pub manifest: ManifestKey,
    /// What to do.
    pub action: CommandAction,
    /// Who asked.
    pub who: String,
    /// Why.
    pub why: String,
    /// When, milliseconds since the Unix epoch.
    pub at: i64,
}

/// What an operator can ask of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandAction {
    /// Complete it with what has settled.
    Force,
    /// Never complete it.
    Cancel,
    /// Open it again under the next revision.
    Reopen,
    /// Try its blocked actions again.
    Retry,
    /// Let none of an open manifest's deadlines act for so long from now on.
    Extend {
        /// How long.
        by_seconds: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_its_action_in_a_word_or_with_how_much() {
        let table = [
            (r#""force""#, CommandAction::Force),
            (r#""cancel""#, CommandAction::Cancel),
            (r#""reopen""#, CommandAction::Reopen),
            (r#""retry""#, CommandAction::Retry),
            (r#"{"extend":{"by_seconds":3600}}"#, CommandAction::Extend { by_seconds: 3_600 }),
        ];
        for (text, action) in table {
            assert_eq!(serde_json::to_string(&action).unwrap(), text);
            let event = format!(
                r#"{{"event":"command","manifest":"m","action":{text},"who":"a","why":"b","at":1}}"#
            );
            let ProgressEvent::Command(command) = serde_json::from_str(&event).unwrap() else {
                panic!("no command: {event}")
            };
            assert_eq!(command.action, action);
        }
    }

    #[test]
    fn a_list_that_says_nothing_of_versions_is_read_and_written_as_ever() {
        let text = concat!(
            r#"{"event":"expected","kind":"report","manifest":"m","members":["a"],"facts":{},"#,
            r#""at":1}"#
        );
        let event: ProgressEvent = serde_json::from_str(text).unwrap();
        let ProgressEvent::Expected(expected) = &event else { panic!("no list") };
        assert_eq!((expected.version, expected.due.len()), (None, 0));
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
    }
}
