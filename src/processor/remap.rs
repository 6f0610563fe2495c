//! `type = "remap"`: rewrites fields with a program.
//!
//! Responsible for: what becomes of a record whose fields a program rewrote. What counts is `.`
//! when the program has ended, not the value of its last expression: an array makes one record of
//! each element, null makes none (also as an element), anything else makes one.
//! Not responsible for: the program itself (`expr`).

use vrl::value::Value;

use crate::expr::{Evaluator, Program};
use crate::model::{Failure, Fields, PipelineName, Record};
use crate::processor::config::Remap;
use crate::runtime::node::{Emit, Port, Transform};

/// The remap as a node of a stage.
#[derive(Debug)]
pub struct RemapNode {
    program: Program,
    evaluator: Evaluator,
}

impl RemapNode {
    /// A remap in `pipeline`, whose name its program may read.
    pub fn new(config: Remap, pipeline: PipelineName) -> Self {
        Self { program: config.program, evaluator: Evaluator::new(pipeline) }
    }
}

impl Transform for RemapNode {
    fn apply(&mut self, mut record: Record, out: &mut dyn Emit) -> Result<(), Failure> {
        self.evaluator.run(&self.program, &mut record)?;
        match std::mem::replace(&mut record.fields, Fields::Tree(Value::Null)) {
            Fields::Tree(Value::Null) => Ok(()),
            Fields::Tree(Value::Array(elements)) => fan_out(&record, elements, out),
            fields => {
                record.fields = fields;
                out.emit(Port::FIRST, record)
            }
        }
    }
}

/// One child of `parent` for each element: source, membership and body are the parent's.
fn fan_out(parent: &Record, elements: Vec<Value>, out: &mut dyn Emit) -> Result<(), Failure> {
    for element in elements.into_iter().filter(|element| !element.is_null()) {
        let child = Record {
            source: parent.source.clone(),
            meta: parent.meta.clone(),
            fields: Fields::Tree(element),
            body: parent.body.clone(),
        };
        out.emit(Port::FIRST, child)?;
        out.progress();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::expr::Purpose;
    use crate::expr::fixtures::{self, fields_of};
    use crate::model::event::MemberFacts;
    use crate::model::{Body, FailureClass, Metadata};

    /// Takes so many records, then fails like a node further down.
    struct Emitted {
        records: Vec<Record>,
        room: usize,
    }

    impl Emit for Emitted {
        fn emit(&mut self, port: Port, record: Record) -> Result<(), Failure> {
            assert_eq!(port, Port::FIRST);
            if self.records.len() == self.room {
                return Err(Failure::poison(FailureClass::REJECTED, "downstream said no"));
            }
            self.records.push(record);
            Ok(())
        }

        fn note(&mut self, _facts: MemberFacts) {}

        fn progress(&mut self) {}
    }

    fn remap(program: &str) -> RemapNode {
        let program = Program::compile(program, Purpose::Map).unwrap();
        RemapNode::new(Remap { program }, "sales".into())
    }

    fn run(program: &str, json: &str) -> Vec<String> {
        let mut out = Emitted { records: Vec::new(), room: usize::MAX };
        remap(program).apply(fixtures::record(json), &mut out).unwrap();
        out.records.iter().map(fields_of).collect()
    }

    #[test]
    fn an_object_makes_one_record() {
        let program = r#". = {"id": .id, "total": (to_int(.qty) ?? 0) * 3}"#;
        assert_eq!(run(program, r#"{"id":7,"qty":"2"}"#), vec![r#"{"id":7,"total":6}"#]);
    }

    #[test]
    fn the_target_counts_and_not_the_last_value() {
        assert_eq!(run(".a = 1\nfalse", r#"{"b":2}"#), vec![r#"{"a":1,"b":2}"#]);
    }

    #[test]
    fn an_array_makes_one_record_of_each_element_but_null() {
        let program = ". = [{\"n\": 1}, null, {\"n\": .last}]";
        assert_eq!(run(program, r#"{"last":9}"#), vec![r#"{"n":1}"#, r#"{"n":9}"#]);
        assert_eq!(run(". = []", "{}"), Vec::<String>::new());
    }

    #[test]
    fn null_makes_no_record() {
        assert_eq!(run(". = null", r#"{"a":1}"#), Vec::<String>::new());
    }

    #[test]
    fn children_inherit_source_membership_and_body() {
        let mut parent = fixtures::record(r#"{"rows":[{"n":1},{"n":2}]}"#);
        let meta = Metadata { manifest: Some("m-1".into()), ..Metadata::default() };
        parent.meta = Arc::new(meta);
        parent.body = Body::Bytes(Bytes::from_static(b"body"));
        let mut out = Emitted { records: Vec::new(), room: usize::MAX };
        remap(". = array!(.rows)").apply(parent.clone(), &mut out).unwrap();
        assert_eq!(out.records.len(), 2);
        for child in out.records {
            assert!(Arc::ptr_eq(&child.meta, &parent.meta));
            assert_eq!(child.source.offset(), parent.source.offset());
            assert!(matches!(child.body, Body::Bytes(bytes) if bytes == "body"));
        }
    }

    #[test]
    fn metadata_can_be_copied_into_fields() {
        assert_eq!(run(". = {\"from\": %pipeline}", "{}"), vec![r#"{"from":"sales"}"#]);
    }

    #[test]
    fn an_error_from_further_down_ends_the_record() {
        let mut out = Emitted { records: Vec::new(), room: 1 };
        let record = fixtures::record("{}");
        let failure = remap(". = [1, 2, 3]").apply(record, &mut out).unwrap_err();
        assert_eq!(failure.why(), "downstream said no");
        assert_eq!(out.records.len(), 1);
    }

    #[test]
    fn an_abort_fails_the_record() {
        let mut out = Emitted { records: Vec::new(), room: 1 };
        let record = fixtures::record("{}");
        let failure = remap("abort \"no id\"").apply(record, &mut out).unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::PROGRAM));
        assert_eq!(failure.why(), "program aborted: no id, in `abort \"no id\"`");
        assert!(out.records.is_empty());
    }
}
