//! One dead letter, as people see it.
//!
//! Responsible for: its id, what its headers say of the failure, and previews of bytes.
//! Not responsible for: which letters are shown (`selection`), or what was done with them
//! (`marks`).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{LogRecord, letter};
use crate::ops::OpsError;
use crate::ops::dead_letters::LetterState;
use crate::ops::text::{beginning, printable};
use crate::ops::time::Time;

/// Characters of a text that a preview shows.
const PREVIEWED_TEXT: usize = 2_000;
/// Bytes of anything else that a preview shows.
const PREVIEWED_BYTES: usize = 1_200;

/// Place of a letter in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LetterId {
    /// The partition.
    pub(super) partition: i32,
    /// The offset.
    pub(super) offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = OpsError;

    fn from_str(text: &str) -> Result<Self, OpsError> {
        let parsed = text.split_once('-').and_then(|(partition, offset)| {
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        let valid = parsed.filter(|id| id.partition >= 0 && id.offset >= 0);
        valid.ok_or_else(|| {
            let text = printable(text);
            OpsError::Invalid(format!("{text} is no id of a dead letter: PARTITION-OFFSET is one"))
        })
    }
}

/// Who replayed or discarded a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mark {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Time,
}

/// One dead letter in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterLine {
    /// Its id: `PARTITION-OFFSET` in the dead-letter topic.
    pub id: String,
    /// What has become of it.
    pub state: LetterState,
    /// Who replayed or discarded it last.
    pub mark: Option<Mark>,
    /// When its record failed.
    pub failed_at: Option<Time>,
    /// When it failed the first time, if it was replayed since.
    pub first_failed_at: Option<Time>,
    /// Node that gave it up.
    pub node: Option<String>,
    /// Failure class.
    pub class: Option<String>,
    /// What failed.
    pub error: Option<String>,
    /// Attempts made, over all replays.
    pub attempts: u32,
    /// The source that its record came from.
    pub source: Option<String>,
    /// The manifest that it was part of.
    pub manifest: Option<String>,
    /// The member of that manifest.
    pub member: Option<String>,
    /// Topic of the source record.
    pub topic: Option<String>,
    /// Its partition.
    pub partition: Option<i32>,
    /// Its offset.
    pub offset: Option<i64>,
    /// The letter whose replay this is.
    pub replay_of: Option<String>,
    /// Bytes of key and value.
    pub bytes: u64,
}

impl LetterLine {
    /// What a record of the dead-letter topic says, and what was done with it.
    pub(super) fn of(
        id: LetterId,
        record: &LogRecord,
        (state, mark): (LetterState, Option<Mark>),
    ) -> Self {
        let (_, added) = letter::split(&record.headers, letter::PIPELINE);
        let text = |name: &str| letter::text(added, name).map(str::to_owned);
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        Self {
            id: id.to_string(),
            state,
            mark,
            failed_at: letter::number(added, letter::FAILED_AT).map(Time),
            first_failed_at: letter::number(added, letter::FIRST_FAILED_AT).map(Time),
            node: text(letter::NODE),
            class: text(letter::CLASS),
            error: text(letter::ERROR),
            attempts: letter::number(added, letter::ATTEMPTS).unwrap_or(0),
            source: text(letter::SOURCE),
            manifest: text(letter::MANIFEST),
            member: text(letter::MEMBER),
            topic: text(letter::TOPIC),
            partition: letter::number(added, letter::PARTITION),
            offset: letter::number(added, letter::OFFSET),
            replay_of: text(letter::REPLAY_OF),
            bytes: (size(&record.key) + size(&record.value)) as u64,
        }
    }
}

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// They are text, and shown as such, with control characters escaped.
    Text,
    /// They are not, and shown as base64.
    Base64,
}

/// The beginning of some bytes, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// How they are shown.
    pub encoding: Encoding,
    /// What is shown.
    pub shown: String,
    /// Whether that is not all.
    pub is_cut: bool,
    /// How many bytes there are.
    pub bytes: u64,
}

impl Preview {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (encoding, shown, is_cut) = match std::str::from_utf8(bytes) {
            Ok(text) => {
                let (shown, is_cut) = beginning(text, PREVIEWED_TEXT);
                (Encoding::Text, shown, is_cut)
            }
            Err(_) => {
                let first = &bytes[..bytes.len().min(PREVIEWED_BYTES)];
                (Encoding::Base64, STANDARD.encode(first), first.len() < bytes.len())
            }
        };
        Self { encoding, shown, is_cut, bytes: bytes.len() as u64 }
    }
}

/// A header of the source record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Preview,
}

/// One dead letter with everything that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LetterDetails {
    /// What a listing shows of it.
    pub letter: LetterLine,
    /// Key of the source record.
    pub key: Option<Preview>,
    /// Value of the source record; `None` is a tombstone.
    pub value: Option<Preview>,
    /// Headers of the source record.
    pub headers: Vec<LetterHeader>,
    /// The whole key, as base64.
    pub key_base64: Option<String>,
    /// The whole value, as base64.
    pub value_base64: Option<String>,
}

impl LetterDetails {
    pub(super) fn of(letter: LetterLine, record: &LogRecord) -> Self {
        let (own, _) = letter::split(&record.headers, letter::PIPELINE);
        let header = |(name, value): &(String, Bytes)| LetterHeader {
            name: name.clone(),
            value: Preview::of(value),
        };
        let whole = |bytes: &Bytes| STANDARD.encode(bytes);
        Self {
            letter,
            key: record.key.as_deref().map(Preview::of),
            value: record.value.as_deref().map(Preview::of),
            headers: own.iter().map(header).collect(),
            key_base64: record.key.as_ref().map(whole),
            value_base64: record.value.as_ref().map(whole),
        }
    }

    /// The whole value of the source record; nothing for a tombstone.
    ///
    /// # Errors
    /// [`OpsError::Internal`] if it did not arrive as base64.
    pub fn value_bytes(&self) -> Result<Vec<u8>, OpsError> {
        let text = self.value_base64.as_deref().unwrap_or_default();
        STANDARD.decode(text).map_err(|error| OpsError::Internal(format!("no base64: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_place() {
        let id: LetterId = "3-42".parse().unwrap();
        assert_eq!((id.partition, id.offset, id.to_string().as_str()), (3, 42, "3-42"));
        for text in ["", "3", "3-", "-3", "3-4-5", "-1-2", "a-1", "1--2"] {
            assert!(matches!(text.parse::<LetterId>(), Err(OpsError::Invalid(_))), "{text:?}");
        }
    }

    #[test]
    fn text_is_previewed_as_text_and_anything_else_as_base64() {
        let text = Preview::of("{\"a\":\u{1b}1}".as_bytes());
        assert_eq!((text.encoding, text.is_cut), (Encoding::Text, false));
        assert_eq!(text.shown, "{\"a\":\\u{1b}1}");
        let bytes = Preview::of(b"\xff\x00");
        assert_eq!((bytes.encoding, bytes.shown.as_str()), (Encoding::Base64, "/wA="));
    }

    #[test]
    fn a_preview_says_that_it_is_cut() {
        let long = "ü".repeat(PREVIEWED_TEXT + 1);
        let text = Preview::of(long.as_bytes());
        assert_eq!((text.shown.chars().count(), text.is_cut), (PREVIEWED_TEXT, true));
        assert_eq!(text.bytes, long.len() as u64);
        let bytes = Preview::of(&[0xff; PREVIEWED_BYTES + 1]);
        assert!(bytes.is_cut && bytes.bytes == PREVIEWED_BYTES as u64 + 1);
        assert!(!Preview::of(&[0xff; PREVIEWED_BYTES]).is_cut);
    }
}
