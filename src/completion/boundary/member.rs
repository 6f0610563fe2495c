//! The border at which a record becomes a member of a manifest.
//!
//! Responsible for: the member's identity and digest, and the *settled* event once everything
//! below the border is durable or dead-lettered; leaving out, when a dead letter is replayed that
//! names its member, the other members of the record.
//! Not responsible for: what the event does to the manifest (`progress::manifest`).

use std::sync::Arc;

use crate::completion::boundary::{BoundaryContext, Naming, content_digest};
use crate::completion::config::Manifest;
use crate::completion::publisher::{Publication, encode};
use crate::expr::Program;
use crate::model::event::{MemberFacts, MemberState, ProgressEvent, Settled};
use crate::model::{
    Digest, Failure, FailureClass, ManifestKey, MemberId, Metadata, NodeName, Outcome, Record,
};
use crate::progress::obligation::{Obligation, OnClose};
use crate::runtime::node::{Boundary, Crossing};

/// Makes each record that crosses it a member.
pub struct MemberBoundary {
    naming: Naming,
    member: Program,
    accept: Arc<[FailureClass]>,
    definition: Digest,
    context: BoundaryContext,
}

impl MemberBoundary {
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
            member: declared.member.clone(),
            accept: declared.accept.as_slice().into(),
            definition,
            context,
        }
    }
}

impl Boundary for MemberBoundary {
    fn cross(&mut self, record: &mut Record) -> Result<Crossing, Failure> {
        let named = self.naming.name(record)?;
        let member = self.naming.member(&self.member, record)?;
        let (digest, bytes) = content_digest(&self.definition, record)?;
        record.meta = Arc::new(Metadata {
            manifest: Some(named.manifest.clone()),
            member: Some(member.clone()),
            digest: Some(digest),
            ..(*record.meta).clone()
        });
        let on_close = MemberClose {
            kind: self.naming.kind.clone(),
            manifest: named.manifest,
            shard_key: named.shard_key,
            member,
            digest,
            bytes,
            accept: self.accept.clone(),
            context: self.context.clone(),
        };
        Ok(Crossing { on_close: Box::new(on_close), collects: true })
    }

    fn is_meant(&mut self, record: &mut Record) -> Result<bool, Failure> {
        let Some(replay) = record.meta.replay.clone() else { return Ok(true) };
        let (Some(manifest), Some(member)) = (&replay.manifest, &replay.member) else {
            return Ok(true);
        };
        let named = self.naming.name(record)?;
        let found = self.naming.member(&self.member, record)?;
        Ok(named.manifest == *manifest && found == *member)
    }
}

/// What is left of the crossing until the scope closes.
struct MemberClose {
    kind: NodeName,
    manifest: ManifestKey,
    shard_key: String,
    member: MemberId,
    digest: Digest,
    bytes: u64,
    accept: Arc<[FailureClass]>,
    context: BoundaryContext,
}

impl MemberClose {
    /// What a member's outcome is to its manifest; an accepted failure stays as a remark.
    fn state(&self, outcome: Outcome, facts: &MemberFacts) -> MemberState {
        let accepted = |class: &str| self.accept.iter().any(|accepted| accepted.as_str() == class);
        match outcome {
            Outcome::Delivered => MemberState::Done,
            Outcome::Filtered => MemberState::Empty,
            Outcome::DeadLettered | Outcome::Abandoned => match &facts.failure {
                Some(failure) if accepted(&failure.class) => MemberState::Done,
                _ => MemberState::DeadLettered,
            },
        }
    }

    fn event(&self, outcome: Outcome, mut facts: MemberFacts) -> Vec<u8> {
        facts.bytes += self.bytes;
        if let Some(failure) = &mut facts.failure {
            // It may quote the record, and no database keeps a NUL.
            failure.why.retain(|letter| letter != '\0');
        }
        let state = self.state(outcome, &facts);
        let mut settled = Settled {
            kind: self.kind.clone(),
            manifest: self.manifest.clone(),
            member: self.member.clone(),
            state,
            digest: self.digest,
            facts,
            at: self.context.clock.unix_millis(),
        };
        let encoded = encode(&ProgressEvent::Settled(settled.clone()));
        if encoded.len() <= self.context.progress.max_bytes {
            return encoded;
        }
        // What became of the member must arrive; what was found out on the way may not fit.
        tracing::error!(
            manifest = %self.manifest,
            member = %self.member,
            bytes = encoded.len(),
            objects = settled.facts.objects.len(),
            "facts of a member are too large for an event, its objects are not listed"
        );
        settled.facts.objects.clear();
        settled.facts.rejected.clear();
        settled.facts.mended.clear();
        encode(&ProgressEvent::Settled(settled))
    }
}

impl OnClose for MemberClose {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, facts: MemberFacts) {
        if outcome == Outcome::Abandoned {
            // No outcome to the world: somebody has to read it again.
            drop(parent);
            return;
        }
        let event = self.event(outcome, facts);
        let record = self.context.progress.record(&self.shard_key, event);
        let outcome = Outcome::Delivered;
        self.context.publisher.publish(Publication { record, duty: parent, outcome });
    }
}
