//! Asks the predicate of a manifest whether it is complete.
//!
//! Responsible for: what the program sees (counts and facts, no clock), and what its answer or its
//! failure means.
//! Not responsible for: when it is asked, or what a completion does (`progress::manifest`).
//!
//! The state machine keeps no facts and runs no programs: the answer goes in as a value.

use serde_json::{Map, Value, json};

use crate::completion::aggregator::held::Held;
use crate::expr::{Program, Scratch, Target};
use crate::model::{ManifestKey, PipelineName};
use crate::progress::manifest::{Completion, Tally};

/// Runs predicates.
pub(super) struct Judge {
    pipeline: PipelineName,
    scratch: Scratch,
}

impl Judge {
    /// For a pipeline, which is `%pipeline` in its programs.
    pub(super) fn new(pipeline: PipelineName) -> Self {
        Self { pipeline, scratch: Scratch::new() }
    }

    /// The completion of a manifest if its predicate holds. A predicate that fails holds nothing
    /// up for good: it is asked again with the next event, and the manifest says why it is open.
    pub(super) fn decide(
        &mut self,
        predicate: &Program,
        key: &ManifestKey,
        held: &mut Held,
    ) -> Option<Completion> {
        let answer = self.ask(predicate, key, held.state.members().tally(), &held.facts);
        let failure = answer.as_ref().err().map(String::as_str);
        if held.asked(failure) {
            tracing::warn!(
                manifest = %key, kind = %held.kind, error = failure.unwrap_or_default(),
                "the predicate of a manifest failed, it stays open"
            );
        }
        held.state.decide(answer.unwrap_or(false))
    }

    fn ask(
        &mut self,
        predicate: &Program,
        key: &ManifestKey,
        tally: Tally,
        facts: &Map<String, Value>,
    ) -> Result<bool, String> {
        let fields = json!({
            "expected": tally.expected,
            "done": tally.done,
            "empty": tally.empty,
            "dead_lettered": tally.dead_lettered,
            "pending": tally.pending,
            "facts": facts,
        });
        let metadata = json!({"pipeline": self.pipeline.as_str(), "manifest": key.as_str()});
        let mut target = Target::new(fields.into(), metadata.into());
        let answer = predicate
            .run(&mut self.scratch, &mut target)
            .map_err(|failure| failure.why().to_owned())?;
        answer.as_boolean().ok_or_else(|| "it is neither true nor false".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Purpose;

    fn ask(source: &str) -> Result<bool, String> {
        let tally = Tally {
            expected: 10,
            done: 6,
            empty: 1,
            dead_lettered: 1,
            pending: 2,
            ..Tally::default()
        };
        let facts = Map::from_iter([("closed".to_owned(), Value::from("yes"))]);
        let program = Program::compile(source, Purpose::Predicate).unwrap();
        Judge::new("sales".into()).ask(&program, &"m-1".into(), tally, &facts)
    }

    #[test]
    fn a_predicate_sees_counts_and_facts() {
        let table = [
            (".done + .empty >= 7", true),
            (".done * 10 > .expected * 9", false),
            (".pending == 2 && .dead_lettered < 2", true),
            (".facts.closed == \"yes\"", true),
            (".facts.reopened == true", false),
            ("%manifest == \"m-1\" && %pipeline == \"sales\"", true),
        ];
        for (source, wanted) in table {
            assert_eq!(ask(source), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn a_predicate_that_fails_says_why() {
        let error = ask("int!(.facts.closed) > 3").unwrap_err();
        assert!(error.starts_with("program failed: "), "{error}");
    }
}
