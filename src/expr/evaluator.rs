//! Runs programs over records.
//!
//! Responsible for: moving a record's fields into the target and back without copying them, and
//! building metadata only for programs that read it.
//! Not responsible for: what the result means.

use vrl::value::{ObjectMap, Value};

use crate::expr::fields;
use crate::expr::program::{Program, Scratch, Target};
use crate::model::{Failure, PipelineName, Record};

/// Runs any number of programs over one record after the other. One per node and thread.
#[derive(Debug)]
pub struct Evaluator {
    pipeline: PipelineName,
    scratch: Scratch,
    target: Target,
}

impl Evaluator {
    /// An evaluator for a node of `pipeline`, which is `%pipeline` in its programs.
    pub fn new(pipeline: PipelineName) -> Self {
        Self { pipeline, scratch: Scratch::new(), target: Target::default() }
    }

    /// Runs `program` over `record`. What the program wrote is in the record's fields afterwards,
    /// also after an error.
    ///
    /// # Errors
    /// Poison: the fields do not parse (`undecodable`), or the program failed (`program`).
    pub fn run(&mut self, program: &Program, record: &mut Record) -> Result<Value, Failure> {
        let metadata = if program.uses_metadata() {
            program.metadata_use().read(record, &self.pipeline)
        } else {
            Value::Object(ObjectMap::new())
        };
        let tree = fields::into_tree(record)?;
        self.target.load(std::mem::replace(tree, Value::Null), metadata);
        let result = program.run(&mut self.scratch, &mut self.target);
        *tree = self.target.unload();
        result
    }
}
