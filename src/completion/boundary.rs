//! Borders at which records become members of a manifest, announce one, or are owed a receipt.
//!
//! Responsible for: the programs of a declaration, run where a record crosses; the digest that
//! makes two attempts at a member the same; and what a closed scope says to the world.
//! Not responsible for: which border lies on which output (`engine`), or sending (`publisher`).
//!
//! A manifest is an outcome boundary: how a member ended goes into its manifest, and towards its
//! source it counts as delivered once the broker has acked that. Everything that a program may
//! refuse is refused at the crossing, while the record can still be dead-lettered; when a scope
//! closes it is too late for that.

mod announce;
mod appointment;
mod member;
mod receipt;

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use vrl::value::Value;

use crate::completion::config::Manifest;
use crate::completion::publisher::{ProgressTopic, Publisher};
use crate::expr::{Evaluator, Program, fields};
use crate::model::identity::DigestBuilder;
use crate::model::{
    Body, Digest, Failure, FailureClass, ManifestKey, MemberId, NodeName, PipelineName, Record,
};
use crate::runtime::clock::SharedClock;

pub use announce::AnnounceBoundary;
pub use member::MemberBoundary;
pub use receipt::ReceiptBoundary;

/// Longest key of a manifest or shard and longest id of a member, in bytes: they are keys of
/// indexes in the state store, which have their limits.
const MAX_ID: usize = 1024;
/// Bytes of a blob that are hashed at a time.
const CHUNK: usize = 64 << 10;

/// What borders need beside their declaration; the same for all of a pipeline.
#[derive(Clone)]
pub struct BoundaryContext {
    /// `%pipeline` of the programs.
    pub pipeline: PipelineName,
    /// Where events go.
    pub progress: Arc<ProgressTopic>,
    /// Takes them there.
    pub publisher: Publisher,
    /// Stamps them.
    pub clock: SharedClock,
}

/// Finds out which manifest a record is about, and which shard owns it.
struct Naming {
    kind: NodeName,
    key: Program,
    shard_by: Option<Program>,
    evaluator: Evaluator,
}

/// What [`Naming`] found out.
struct Named {
    manifest: ManifestKey,
    shard_key: String,
}

impl Naming {
    fn new(kind: NodeName, declared: &Manifest, pipeline: PipelineName) -> Self {
        Self {
            kind,
            key: declared.key.clone(),
            shard_by: declared.shard_by.clone(),
            evaluator: Evaluator::new(pipeline),
        }
    }

    fn name(&mut self, record: &mut Record) -> Result<Named, Failure> {
        let key = self.evaluator.run(&self.key, record)?;
        let manifest = self.id("key", &key)?;
        let shard_key = match &self.shard_by {
            None => manifest.clone(),
            Some(program) => {
                let value = self.evaluator.run(program, record)?;
                self.id("shard_by", &value)?
            }
        };
        Ok(Named { manifest: ManifestKey::from(manifest), shard_key })
    }

    fn member(&mut self, program: &Program, record: &mut Record) -> Result<MemberId, Failure> {
        let value = self.evaluator.run(program, record)?;
        self.id("member", &value).map(MemberId::from)
    }

    /// The ids of an expected set, each once, in their order.
    fn expected(
        &mut self,
        program: &Program,
        record: &mut Record,
    ) -> Result<Vec<MemberId>, Failure> {
        let value = self.evaluator.run(program, record)?;
        let Some(values) = value.as_array() else {
            return Err(self.refusal("expected", "is not an array of strings"));
        };
        let mut seen = HashSet::with_capacity(values.len());
        let mut ids = Vec::with_capacity(values.len());
        for value in values {
            let id = MemberId::from(self.id("expected", value)?);
            if seen.insert(id.clone()) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// The version of an expected set; null is none.
    fn version(&mut self, program: &Program, record: &mut Record) -> Result<Option<i64>, Failure> {
        let value = self.evaluator.run(program, record)?;
        match value.as_integer() {
            Some(version) => Ok(Some(version)),
            None if value.is_null() => Ok(None),
            None => Err(self.refusal("version", "is not an integer")),
        }
    }

    fn fact(
        &mut self,
        name: &str,
        program: &Program,
        record: &mut Record,
    ) -> Result<serde_json::Value, Failure> {
        let value = self.evaluator.run(program, record)?;
        let fact: serde_json::Value = serde_json::from_slice(&fields::to_json(&value))
            .map_err(|error| self.refusal(name, &format!("cannot be kept as JSON: {error}")))?;
        if has_nul(&fact) {
            return Err(self.refusal(name, "has a NUL character, which no database keeps"));
        }
        Ok(fact)
    }

    /// A text that can be a key.
    fn id(&self, what: &str, value: &Value) -> Result<String, Failure> {
        let Some(text) = value.to_str() else {
            return Err(self.refusal(what, "is not a string"));
        };
        match text {
            "" => Err(self.refusal(what, "is empty")),
            text if text.len() > MAX_ID => {
                Err(self.refusal(what, &format!("is longer than {MAX_ID} bytes")))
            }
            text if text.contains('\0') => {
                Err(self.refusal(what, "has a NUL character, which no database keeps"))
            }
            text => Ok(text.to_owned()),
        }
    }

    fn refusal(&self, what: &str, why: &str) -> Failure {
        let why = format!("`{what}` of manifest {} {why}", self.kind);
        Failure::poison(FailureClass::PROGRAM, why)
    }
}

fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(values) => values.iter().any(has_nul),
        serde_json::Value::Object(object) => {
            object.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
        }
        _ => false,
    }
}

/// Hash of what a record carries, under the definition of the nodes behind it, and how many bytes
/// that is.
fn content_digest(definition: &Digest, record: &Record) -> Result<(Digest, u64), Failure> {
    match &record.body {
        Body::Empty => {
            let raw = fields::raw(record);
            Ok((Digest::of(definition, &raw), raw.len() as u64))
        }
        Body::Bytes(bytes) => Ok((Digest::of(definition, bytes), bytes.len() as u64)),
        Body::Blob(blob) => {
            let content = match blob.digest() {
                Some(content) => content,
                None => read_digest(blob.open()).map_err(|error| {
                    Failure::unavailable(format!("cannot read a spooled member: {error}"))
                })?,
            };
            Ok((Digest::of(definition, content.as_bytes()), blob.len()))
        }
        Body::Columns(_) => Err(Failure::poison(
            FailureClass::REJECTED,
            "columns cannot be a member, declare the node before them as `members`",
        )),
    }
}

fn read_digest(mut blob: impl Read) -> std::io::Result<Digest> {
    let mut digest = DigestBuilder::new(&Digest::from_bytes([0; 16]));
    let mut chunk = vec![0; CHUNK];
    loop {
        match blob.read(&mut chunk)? {
            0 => return Ok(digest.finish()),
            read => digest.update(&chunk[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
