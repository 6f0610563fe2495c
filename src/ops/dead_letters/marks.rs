//! What was done with dead letters, as the audit says.
//!
//! Responsible for: the latest mark of each letter.
//! Not responsible for: writing marks (`dead_letters`), or the form of the audit (`audit`).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::broker::{Broker, BrokerError};
use crate::model::Topic;
use crate::ops::audit::{AuditRecord, DISCARD, DONE, REPLAY};
use crate::ops::dead_letters::LetterState;
use crate::ops::dead_letters::letter::{LetterId, Mark};
use crate::ops::dead_letters::scan::{Ranges, scan};
use crate::ops::time::Time;

/// The mark of one letter. Many letters are changed by the same person for the same reason, so
/// those texts are shared.
struct Made {
    state: LetterState,
    at: Time,
    who: Arc<str>,
    why: Arc<str>,
}

/// The latest mark of each letter that has one.
#[derive(Default)]
pub(super) struct Marks {
    made: HashMap<LetterId, Made>,
    texts: HashSet<Arc<str>>,
}

impl Marks {
    /// Reads the audit; there are no marks while there is no audit.
    pub(super) fn read(broker: &dyn Broker, audit: &Topic) -> Result<Self, BrokerError> {
        let mut marks = Self::default();
        scan(broker, audit, &Ranges::all(), &mut |_, record| {
            let value = record.value.as_deref().unwrap_or_default();
            // Whatever else lies there marks nothing.
            if let Ok(record) = serde_json::from_slice(value) {
                marks.add(&record);
            }
            ControlFlow::Continue(())
        })?;
        Ok(marks)
    }

    /// Remembers a change that was made to a letter; later ones win.
    fn add(&mut self, record: &AuditRecord) {
        let state = match record.what.as_str() {
            REPLAY => LetterState::Replayed,
            DISCARD => LetterState::Discarded,
            _ => return,
        };
        let Ok(id) = record.target.parse() else { return };
        if record.result == DONE {
            let (who, why) = (self.shared(&record.who), self.shared(&record.why));
            self.made.insert(id, Made { state, at: record.at, who, why });
        }
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = Arc::from(text);
        self.texts.insert(text.clone());
        text
    }

    /// What has become of a letter.
    pub(super) fn of(&self, id: LetterId) -> (LetterState, Option<Mark>) {
        let Some(made) = self.made.get(&id) else { return (LetterState::Waiting, None) };
        let (who, why) = (made.who.as_ref().to_owned(), made.why.as_ref().to_owned());
        (made.state, Some(Mark { who, why, at: made.at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(what: &str, target: &str, result: &str, who: &str) -> AuditRecord {
        AuditRecord {
            at: Time(5),
            who: who.to_owned(),
            why: "mended".to_owned(),
            what: what.to_owned(),
            target: target.to_owned(),
            result: result.to_owned(),
        }
    }

    #[test]
    fn only_what_was_done_to_a_letter_marks_it_and_the_latest_wins() {
        let mut marks = Marks::default();
        for record in [
            record(REPLAY, "0-1", "asked", "ann"),
            record(REPLAY, "0-2", DONE, "ann"),
            record(DISCARD, "0-2", DONE, "bob"),
            record("manifest.force", "0-3", DONE, "ann"),
            record(REPLAY, "m-1", DONE, "ann"),
        ] {
            marks.add(&record);
        }
        let of = |offset| marks.of(LetterId { partition: 0, offset });
        assert_eq!(of(1), (LetterState::Waiting, None), "asked for, and not done");
        let (state, mark) = of(2);
        assert_eq!((state, mark.unwrap().who.as_str()), (LetterState::Discarded, "bob"));
        assert_eq!(of(3).0, LetterState::Waiting);
    }
}
