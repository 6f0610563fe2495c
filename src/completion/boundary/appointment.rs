//! Points in time that a manifest names for its deadlines.
//!
//! Responsible for: the programs of absolute deadlines, run over the facts of an announcement.
//! Not responsible for: when such a deadline acts (`progress::deadline`).
//!
//! They are found out where the record still is: one that names no point in time is refused there
//! and can be dead-lettered, mended and replayed, instead of a deadline that silently never acts.

use serde_json::{Map, Value};

use crate::completion::config::{Deadline, DeadlineDue};
use crate::expr::{Program, Scratch, Target};

/// The programs of a declaration's absolute deadlines.
pub(super) struct Appointments {
    /// One for each deadline of the declaration; empty if none of them is absolute.
    programs: Vec<Option<Program>>,
    scratch: Scratch,
}

impl Appointments {
    /// The points in time that these deadlines wait for.
    pub(super) fn new(deadlines: &[Deadline]) -> Self {
        let program = |deadline: &Deadline| match &deadline.due {
            DeadlineDue::At(program) => Some(program.clone()),
            DeadlineDue::Inactivity(_) | DeadlineDue::First(_) => None,
        };
        let mut programs: Vec<Option<Program>> = deadlines.iter().map(program).collect();
        if programs.iter().all(Option::is_none) {
            programs.clear();
        }
        Self { programs, scratch: Scratch::new() }
    }

    /// What facts name, in milliseconds since the Unix epoch, by the number of the deadline.
    ///
    /// # Errors
    /// A program fails, or yields neither null nor a point in time.
    pub(super) fn of(&mut self, facts: &Map<String, Value>) -> Result<Vec<Option<i64>>, String> {
        let mut due = Vec::with_capacity(self.programs.len());
        for program in &self.programs {
            let Some(program) = program else {
                due.push(None);
                continue;
            };
            let fields = Value::Object(facts.clone()).into();
            let mut target = Target::new(fields, Value::Object(Map::new()).into());
            let value = program
                .run(&mut self.scratch, &mut target)
                .map_err(|failure| failure.why().to_owned())?;
            due.push(point_in_time(&value)?);
        }
        Ok(due)
    }
}

fn point_in_time(value: &vrl::value::Value) -> Result<Option<i64>, String> {
    if value.is_null() {
        return Ok(None);
    }
    if let Some(at) = value.as_timestamp() {
        return Ok(Some(at.timestamp_millis()));
    }
    let Some(text) = value.to_str() else {
        return Err("is neither a timestamp nor a string".to_owned());
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(Some(at.as_millisecond())),
        Err(_) => {
            Err(format!("is `{text}`, which is no point in time such as 2026-01-31T00:00:00Z"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::expr::Purpose;
    use crate::progress::deadline::DeadlineAction;

    const DAY: &str = r#"parse_timestamp!(.day, "%F %T %z")"#;

    fn deadline(due: DeadlineDue) -> Deadline {
        Deadline { due, action: DeadlineAction::Alert, extension: None }
    }

    fn at(source: &str) -> Deadline {
        deadline(DeadlineDue::At(Program::compile(source, Purpose::Key).unwrap()))
    }

    fn due(deadlines: &[Deadline], facts: Value) -> Result<Vec<Option<i64>>, String> {
        let facts = facts.as_object().cloned().unwrap_or_default();
        Appointments::new(deadlines).of(&facts)
    }

    #[test]
    fn a_point_in_time_is_a_timestamp_or_its_text_or_none() {
        let table = [
            (".due", json!({"due": "1970-01-01T00:00:01.5Z"}), Some(1_500)),
            (".due", json!({"due": "1970-01-01T01:00:01+01:00"}), Some(1_000)),
            (".due", json!({"due": null}), None),
            (".due", json!({}), None),
            (DAY, json!({"day": "1970-01-02 00:00:00 +0000"}), Some(86_400_000)),
        ];
        for (source, facts, wanted) in table {
            assert_eq!(due(&[at(source)], facts.clone()), Ok(vec![wanted]), "{source} {facts}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let table = [
            (".due", json!({"due": 7}), "is neither"),
            (".due", json!({"due": "soon"}), "is `soon`, which is no point in time"),
            ("parse_timestamp!(.due, \"%F\")", json!({"due": 7}), "program failed: "),
        ];
        for (source, facts, why) in table {
            let error = due(&[at(source)], facts).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn points_in_time_have_the_number_of_their_deadline() {
        let relative = || deadline(DeadlineDue::First(Duration::from_secs(1)));
        let facts = json!({"due": "1970-01-01T00:00:01Z"});
        let found = due(&[relative(), at(".due"), relative()], facts.clone());
        assert_eq!(found, Ok(vec![None, Some(1_000), None]));
        assert_eq!(due(&[relative()], facts), Ok(Vec::new()), "nobody asks");
    }
}
