//! `type = "filter"`: keeps the records for which a condition holds.
//!
//! Responsible for: deciding, and where the others go: nowhere, to the dead letters, or out of the
//! port `rest`.
//! Not responsible for: the condition itself (`expr`), or counting what was filtered (the stage).

use vrl::value::Value;

use crate::expr::{Evaluator, Program};
use crate::model::{Failure, FailureClass, PipelineName, Record};
use crate::processor::config::{Filter, Rest};
use crate::runtime::node::{Emit, Port, PortSpec, Transform};

/// Class of a record that a filter with `rest = "dead_letter"` does not keep.
pub const FILTERED_OUT: FailureClass = FailureClass::new("filtered_out");

/// Output of the records that are kept.
pub const MAIN: Port = Port::FIRST;
/// Output of the others, where they are wanted.
pub const REST: Port = Port(1);

/// The filter as a node of a stage.
#[derive(Debug)]
pub struct FilterNode {
    condition: Program,
    rest: Rest,
    evaluator: Evaluator,
}

impl FilterNode {
    /// A filter in `pipeline`, whose name its condition may read.
    pub fn new(config: Filter, pipeline: PipelineName) -> Self {
        let Filter { condition, rest } = config;
        Self { condition, rest, evaluator: Evaluator::new(pipeline) }
    }

    /// Its outputs: the main one, and `rest` if the others leave through it.
    pub fn ports(rest: Rest) -> Vec<PortSpec> {
        let mut ports = vec![PortSpec { name: String::new(), main: true }];
        if rest == Rest::Port {
            ports.push(PortSpec { name: "rest".to_owned(), main: false });
        }
        ports
    }
}

impl Transform for FilterNode {
    fn apply(&mut self, mut record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        let verdict = self.evaluator.run(&self.condition, &mut record)?;
        match (verdict, self.rest) {
            (Value::Boolean(true), _) => out.emit(MAIN, record),
            (Value::Boolean(false), Rest::Drop) => Ok(()),
            (Value::Boolean(false), Rest::Port) => out.emit(REST, record),
            (Value::Boolean(false), Rest::DeadLetter) => {
                let condition = self.condition.source().trim();
                let why = format!("the record does not meet the condition `{condition}`");
                Err(Failure::poison(FILTERED_OUT, why))
            }
            (other, _) => {
                let why = format!("the condition yields {}, not a boolean", other.kind_str());
                Err(Failure::poison(FailureClass::PROGRAM, why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Purpose;
    use crate::expr::fixtures::{self, fields_of};
    use crate::model::event::MemberFacts;

    #[derive(Default)]
    struct Emitted(Vec<(Port, Record)>);

    impl Emit for Emitted {
        fn emit(&mut self, port: Port, record: Record) -> Result<(), Failure> {
            self.0.push((port, record));
            Ok(())
        }

        fn note(&mut self, _facts: MemberFacts) {}

        fn progress(&mut self) {}
    }

    fn filter(condition: &str, rest: Rest) -> FilterNode {
        let condition = Program::compile(condition, Purpose::Filter).unwrap();
        FilterNode::new(Filter { condition, rest }, "sales".into())
    }

    fn run(node: &mut FilterNode, json: &str) -> Result<Vec<(Port, String)>, Failure> {
        let mut out = Emitted::default();
        node.apply(fixtures::record(json), &mut out)?;
        Ok(out.0.into_iter().map(|(port, record)| (port, fields_of(&record))).collect())
    }

    #[test]
    fn records_that_meet_the_condition_leave_unchanged_through_the_main_port() {
        let mut node = filter(r#".status == "paid""#, Rest::Drop);
        let json = r#"{"status":"paid","total":3}"#;
        assert_eq!(run(&mut node, json).unwrap(), vec![(MAIN, json.to_owned())]);
        for other in [r#"{"status":"open"}"#, r#"{"status":["paid"]}"#, "{}", "null"] {
            assert!(run(&mut node, other).unwrap().is_empty(), "{other}");
        }
    }

    #[test]
    fn the_condition_sees_headers_and_the_pipeline() {
        let condition = r#"%headers.service == "hccm" && %pipeline == "sales""#;
        let mut node = filter(condition, Rest::Drop);
        assert_eq!(run(&mut node, "{}").unwrap().len(), 1);
        let mut other = filter(r#"%headers.service == "advisor""#, Rest::Drop);
        assert!(run(&mut other, "{}").unwrap().is_empty());
    }

    #[test]
    fn the_others_leave_through_the_rest_port_where_it_is_wanted() {
        let mut node = filter("(.total > 2) ?? false", Rest::Port);
        let small = r#"{"total":1}"#;
        assert_eq!(run(&mut node, small).unwrap(), vec![(REST, small.to_owned())]);
        let large = r#"{"total":5}"#;
        assert_eq!(run(&mut node, large).unwrap(), vec![(MAIN, large.to_owned())]);
    }

    #[test]
    fn the_others_are_poison_where_they_are_dead_lettered() {
        let mut node = filter(".ok == true", Rest::DeadLetter);
        let failure = run(&mut node, "{}").unwrap_err();
        assert_eq!(failure.class(), Some(&FILTERED_OUT));
        assert_eq!(failure.why(), "the record does not meet the condition `.ok == true`");
    }

    #[test]
    fn a_condition_that_fails_on_a_record_fails_the_record() {
        let mut node = filter("to_bool!(.ok)", Rest::Drop);
        let failure = run(&mut node, r#"{"ok":"perhaps"}"#).unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::PROGRAM));
        assert_eq!(run(&mut node, r#"{"ok":true}"#).unwrap().len(), 1, "the next one is not");
    }

    #[test]
    fn fields_that_do_not_parse_are_undecodable() {
        let mut node = filter(".ok == true", Rest::Drop);
        let failure = run(&mut node, r#"{"ok":"#).unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::UNDECODABLE));
    }

    #[test]
    fn the_rest_port_exists_only_where_it_is_wanted() {
        let names = |rest| -> Vec<(String, bool)> {
            FilterNode::ports(rest).into_iter().map(|port| (port.name, port.main)).collect()
        };
        let main = (String::new(), true);
        assert_eq!(names(Rest::Drop), vec![main.clone()]);
        assert_eq!(names(Rest::DeadLetter), vec![main.clone()]);
        assert_eq!(names(Rest::Port), vec![main, ("rest".to_owned(), false)]);
    }
}
