//! The border at which a record announces a manifest.
//!
//! Responsible for: the *expected* event with the version of its list and the points in time that
//! deadlines wait for, emitted once everything below the border has settled.
//! Not responsible for: the members, which have a border of their own.
//!
//! The event is made at the crossing, where the record still is, and kept until the scope closes.
//! It is sent even if the record was dead-lettered below: the manifest exists and waits for its
//! members, and nobody should have to guess why it is not complete.

use std::sync::Arc;

use serde_json::Map;

use crate::broker::ProducerRecord;
use crate::completion::boundary::appointment::Appointments;
use crate::completion::boundary::{BoundaryContext, Naming};
use crate::completion::config::Manifest;
use crate::completion::publisher::{Publication, Publisher, encode};
use crate::expr::{Program, fields};
use crate::model::event::{Expected, MemberFacts, ProgressEvent};
use crate::model::{Digest, Failure, FailureClass, Metadata, NodeName, Outcome, Record};
use crate::progress::obligation::{Obligation, OnClose};
use crate::runtime::node::{Boundary, Crossing};

/// Makes each record that crosses it an announcement.
pub struct AnnounceBoundary {
    naming: Naming,
    expected: Program,
    version: Option<Program>,
    facts: Vec<(String, Program)>,
    appointments: Appointments,
    definition: Digest,
    context: BoundaryContext,
}

impl AnnounceBoundary {
    /// The border of the manifests that `[manifests.KIND]` declares. `definition` is the hash of
    /// the definition of everything between the border and the sinks.
    pub fn new(
        kind: NodeName,
        declared: &Manifest,
        definition: Digest,
        context: BoundaryContext,
    ) -> Self {
        Self {
            naming: Naming::new(kind, declared, context.pipeline.clone()),
            expected: declared.expected.clone(),
            version: declared.version.clone(),
            facts: declared.facts.clone(),
            appointments: Appointments::new(&declared.deadlines),
            definition,
            context,
        }
    }

    fn event(&mut self, record: &mut Record) -> Result<(Expected, String), Failure> {
        let named = self.naming.name(record)?;
        let members = self.naming.expected(&self.expected, record)?;
        let version = match &self.version {
            Some(program) => self.naming.version(program, record)?,
            None => None,
        };
        let mut facts = Map::new();
        for (name, program) in &self.facts {
            facts.insert(name.clone(), self.naming.fact(name, program, record)?);
        }
        let due = self.appointments.of(&facts);
        let due = due.map_err(|why| self.naming.refusal("at", &why))?;
        let event = Expected {
            kind: self.naming.kind.clone(),
            manifest: named.manifest,
            members,
            version,
            due,
            facts,
            at: self.context.clock.unix_millis(),
        };
        Ok((event, named.shard_key))
    }
}

impl Boundary for AnnounceBoundary {
    fn cross(&mut self, record: &mut Record) -> Result<Crossing, Failure> {
        let (event, shard_key) = self.event(record)?;
        let manifest = event.manifest.clone();
        let encoded = encode(&ProgressEvent::Expected(event));
        let limit = self.context.progress.max_bytes;
        if encoded.len() > limit {
            // An expected set cannot be split: the first part would complete on its own.
            let why = format!(
                "the expected set of manifest {manifest} takes {} bytes, and an event at most \
                 {limit}",
                encoded.len()
            );
            return Err(Failure::poison(FailureClass::TOO_LARGE, why));
        }
        record.meta = Arc::new(Metadata {
            manifest: Some(manifest),
            member: None,
            digest: Some(Digest::of(&self.definition, &fields::raw(record))),
            ..(*record.meta).clone()
        });
        let event = self.context.progress.record(&shard_key, encoded);
        let on_close = AnnounceClose { event, publisher: self.context.publisher.clone() };
        Ok(Crossing { on_close: Box::new(on_close), collects: false })
    }
}

/// What is left of the crossing until the scope closes.
struct AnnounceClose {
    event: ProducerRecord,
    publisher: Publisher,
}

impl OnClose for AnnounceClose {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, _facts: MemberFacts) {
        let outcome = match outcome {
            Outcome::Abandoned => return drop(parent),
            Outcome::DeadLettered => Outcome::DeadLettered,
            Outcome::Delivered | Outcome::Filtered => Outcome::Delivered,
        };
        self.publisher.publish(Publication { record: self.event, duty: parent, outcome });
    }
}
