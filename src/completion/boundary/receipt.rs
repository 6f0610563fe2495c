//! The border below which a record is owed a receipt.
//!
//! Responsible for: one message for each record that crosses, once all below it has settled and
//! before its offset is committed.
//! Not responsible for: which records get there.
//!
//! The program runs when the scope closes, since only then `%outcome` and `%error` are known. It
//! is too late for a dead letter then: a program that fails is reported, the record keeps its
//! outcome.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use vrl::value::Value;

use crate::broker::ProducerRecord;
use crate::completion::boundary::BoundaryContext;
use crate::completion::config::Receipt;
use crate::completion::publisher::{LARGEST_MESSAGE, Publication};
use crate::expr::{Program, Scratch, Target, fields};
use crate::model::event::MemberFacts;
use crate::model::{Failure, NodeName, Outcome, Record, SourceRef, Topic};
use crate::progress::obligation::{Obligation, OnClose};
use crate::runtime::fault::{Point, crash_point};
use crate::runtime::node::{Boundary, Crossing};

/// Owes each record that crosses it a receipt.
pub struct ReceiptBoundary {
    name: NodeName,
    topic: Topic,
    payload: Program,
    context: BoundaryContext,
}

impl ReceiptBoundary {
    /// The border of `[receipts.NAME]`.
    pub fn new(name: NodeName, declared: &Receipt, context: BoundaryContext) -> Self {
        Self { name, topic: declared.topic.clone(), payload: declared.payload.clone(), context }
    }
}

impl Boundary for ReceiptBoundary {
    fn cross(&mut self, record: &mut Record) -> Result<Crossing, Failure> {
        // Parsed here, so that fields that cannot be read fail while that is still possible.
        fields::into_tree(record)?;
        let metadata = self.payload.metadata_use().read(record, &self.context.pipeline);
        let on_close = ReceiptClose {
            name: self.name.clone(),
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            fields: fields::raw(record),
            metadata,
            source: record.source.clone(),
            context: self.context.clone(),
        };
        // It collects, since the failure is among the facts; they go further up on closing.
        Ok(Crossing { on_close: Box::new(on_close), collects: true })
    }
}

/// What is left of the crossing until the scope closes.
struct ReceiptClose {
    name: NodeName,
    topic: Topic,
    payload: Program,
    fields: Bytes,
    metadata: Value,
    source: SourceRef,
    context: BoundaryContext,
}

impl ReceiptClose {
    /// The message, or `None` if the program wants none.
    fn message(&self, outcome: Outcome, error: Option<&str>) -> Result<Option<Vec<u8>>, String> {
        let mut metadata = self.metadata.clone();
        metadata.insert(vrl::path!("outcome"), outcome.as_str());
        metadata.insert(vrl::path!("error"), error);
        let fields = fields::parse(&self.fields).map_err(|error| error.to_string())?;
        let mut target = Target::new(fields, metadata);
        let value = self
            .payload
            .run(&mut Scratch::new(), &mut target)
            .map_err(|failure| failure.why().to_owned())?;
        if value.is_null() {
            return Ok(None);
        }
        let message = fields::to_json(&value);
        if message.len() > LARGEST_MESSAGE {
            return Err(format!("it takes {} bytes, more than {LARGEST_MESSAGE}", message.len()));
        }
        Ok(Some(message))
    }

    fn report(&self, why: &str) {
        tracing::error!(
            receipt = %self.name,
            partition = %self.source.origin(),
            offset = %self.source.offset(),
            %why,
            "a receipt cannot be made and is not sent"
        );
    }
}

impl OnClose for ReceiptClose {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, facts: MemberFacts) {
        if outcome == Outcome::Abandoned {
            return drop(parent);
        }
        let error = facts.failure.as_ref().map(|failure| failure.why.clone());
        parent.note(facts);
        // This may be the producer's thread, which a program's panic must not end.
        let made = catch_unwind(AssertUnwindSafe(|| self.message(outcome, error.as_deref())));
        let message = match made.unwrap_or_else(|_| Err("its program panicked".to_owned())) {
            Ok(Some(message)) => message,
            Ok(None) => return parent.settle(outcome),
            Err(why) => {
                self.report(&why);
                return parent.settle(outcome);
            }
        };
        crash_point(Point::ReceiptSend);
        let mut record = ProducerRecord::new(self.topic.clone(), message);
        record.key.clone_from(&self.source.record().key);
        self.context.publisher.publish(Publication { record, duty: parent, outcome });
    }
}
