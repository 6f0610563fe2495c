//! A compiled program of a topology.
//!
//! Responsible for: compiling VRL for a purpose, saying what the program reads and writes, and
//! running it over a target.
//! Not responsible for: moving a record's fields into the target and back (`expr::evaluator`),
//! which functions there are (`expr::functions`), what `%` holds (`expr::metadata`).

use std::fmt;
use std::sync::Arc;

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::ExternalEnv;
use vrl::compiler::{self, CompileConfig, Function, TargetValue, TimeZone};
use vrl::diagnostic::DiagnosticList;
use vrl::path::{OwnedSegment, OwnedTargetPath, PathPrefix};
use vrl::value::kind::{Collection, Field};
use vrl::value::{Kind, ObjectMap, Secrets, Value};

use crate::expr::diagnostic::CompileError;
use crate::expr::functions;
use crate::expr::metadata::MetadataUse;
use crate::model::{Failure, FailureClass};

/// Longest text of a runtime error that goes into a failure, in characters: it may quote the
/// record, and a dead letter carries it in a header.
const MAX_ERROR: usize = 500;
/// Longest part of the program that goes into a failure, in characters.
const MAX_EXCERPT: usize = 80;

/// What a program is for; decides what it may call, what it may write and what it must yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A condition: provably boolean, no clock or randomness, changes nothing.
    Filter,
    /// A condition over the counts and facts of a manifest, whose types are known; otherwise as a
    /// filter.
    Predicate,
    /// Yields a key, a member, an expected set, a fact, a URL: no clock or randomness, changes
    /// nothing.
    Key,
    /// Rewrites fields or makes a payload.
    Map,
}

/// The fields that a predicate sees: counts of members, and the facts of the manifest.
pub const PREDICATE_FIELDS: [&str; 6] =
    ["expected", "done", "empty", "dead_lettered", "pending", FACTS];

/// The one field of a predicate that is no count.
const FACTS: &str = "facts";

/// A compiled program. Cheap to clone: clones share the compiled form.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    purpose: Purpose,
    compiled: compiler::Program,
    metadata: MetadataUse,
    writes_fields: bool,
    /// First line of the source, for failures.
    excerpt: String,
}

impl Program {
    /// Compiles `source`.
    ///
    /// # Errors
    /// Everything that is wrong with it: syntax, types, unhandled errors, functions that the
    /// purpose refuses, writes to metadata, a condition that is not provably boolean.
    pub fn compile(source: &str, purpose: Purpose) -> Result<Self, Vec<CompileError>> {
        if source.trim().is_empty() {
            let error = CompileError::new(0..source.len(), "the program is empty");
            return Err(vec![error.with_help("`true` keeps everything, `.` is the whole record")]);
        }
        let functions = functions::allowed(purpose);
        // A program that compiles while fields are read-only does not write them; the list of
        // assignments that the compiler keeps would miss `del(.field)`.
        let environment = environment(purpose);
        let built = |frozen| build(source, &functions, &environment, frozen);
        let (compiled, writes_fields) = match built(true) {
            Ok(compiled) => (compiled, false),
            Err(_) if purpose == Purpose::Map => match built(false) {
                Ok(compiled) => (compiled, true),
                Err(list) => return Err(errors(source, purpose, &list)),
            },
            Err(list) => return Err(errors(source, purpose, &list)),
        };
        if matches!(purpose, Purpose::Filter | Purpose::Predicate) {
            check_boolean(source, &compiled).map_err(|error| vec![error])?;
        }
        let metadata = MetadataUse::of(&compiled.info().target_queries);
        let excerpt = first_line(source);
        let source = source.to_owned();
        Ok(Self {
            inner: Arc::new(Inner { source, purpose, compiled, metadata, writes_fields, excerpt }),
        })
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// What it was compiled for.
    pub fn purpose(&self) -> Purpose {
        self.inner.purpose
    }

    /// Whether it reads metadata at all: if not, the target needs none.
    pub fn uses_metadata(&self) -> bool {
        !self.inner.metadata.is_empty()
    }

    /// Which metadata it reads.
    pub fn metadata_use(&self) -> MetadataUse {
        self.inner.metadata
    }

    /// The fields that it reads by name, as far as they can be told.
    pub fn fields_read(&self) -> impl Iterator<Item = &str> {
        let queries = self.inner.compiled.info().target_queries.iter();
        let fields = queries.filter(|query| query.prefix == PathPrefix::Event);
        fields.filter_map(|query| match query.path.segments.first() {
            Some(OwnedSegment::Field(name)) => Some(name.as_str()),
            Some(OwnedSegment::Index(_)) | None => None,
        })
    }

    /// Whether it may change the fields it runs over. Filters and keys never do.
    pub fn writes_fields(&self) -> bool {
        self.inner.writes_fields
    }

    /// Runs it over `target`, which holds the changed fields afterwards, also after an error.
    ///
    /// # Errors
    /// Poison of class `program`: a runtime error, a failed assertion or an `abort`.
    pub fn run(&self, scratch: &mut Scratch, target: &mut Target) -> Result<Value, Failure> {
        // A record that panicked half-way has left its variables behind.
        scratch.runtime.clear();
        let outcome =
            scratch.runtime.resolve(&mut target.inner, &self.inner.compiled, &scratch.timezone);
        scratch.runtime.clear();
        outcome.map_err(|terminate| self.failure(&terminate))
    }

    fn failure(&self, terminate: &Terminate) -> Failure {
        let ended = match terminate {
            Terminate::Abort(_) => "aborted",
            Terminate::Error(_) | Terminate::Interrupted => "failed",
        };
        let what = clip(&terminate.to_string(), MAX_ERROR);
        let excerpt = &self.inner.excerpt;
        Failure::poison(FailureClass::PROGRAM, format!("program {ended}: {what}, in `{excerpt}`"))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("purpose", &self.inner.purpose)
            .field("source", &self.inner.source)
            .finish_non_exhaustive()
    }
}

/// What running a program needs and may be used again for the next record. One per node and
/// thread.
#[derive(Debug)]
pub struct Scratch {
    runtime: Runtime,
    timezone: TimeZone,
}

impl Scratch {
    /// Scratch space whose time zone is UTC, whatever the machine's.
    pub fn new() -> Self {
        // The table of zones is compiled in and has UTC, so the default (local) is never taken.
        let timezone = TimeZone::parse("UTC").unwrap_or_default();
        Self { runtime: Runtime::default(), timezone }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// What a program runs over: `.` and `%`.
#[derive(Debug)]
pub struct Target {
    inner: TargetValue,
}

impl Target {
    /// A target with these fields (`.`) and this metadata (`%`, an object).
    pub fn new(fields: Value, metadata: Value) -> Self {
        Self { inner: TargetValue { value: fields, metadata, secrets: Secrets::new() } }
    }

    /// Puts the next record's fields and metadata in place.
    pub fn load(&mut self, fields: Value, metadata: Value) {
        self.inner.value = fields;
        self.inner.metadata = metadata;
    }

    /// Takes the fields out and forgets the metadata, which shares memory with the source batch.
    pub fn unload(&mut self) -> Value {
        self.inner.metadata = Value::Object(ObjectMap::new());
        std::mem::replace(&mut self.inner.value, Value::Null)
    }

    /// The fields.
    pub fn fields(&self) -> &Value {
        &self.inner.value
    }

    /// The metadata.
    pub fn metadata(&self) -> &Value {
        &self.inner.metadata
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::new(Value::Null, Value::Object(ObjectMap::new()))
    }
}

/// What is known of the fields before the program runs: only those of a manifest have types.
fn environment(purpose: Purpose) -> ExternalEnv {
    if purpose != Purpose::Predicate {
        return ExternalEnv::default();
    }
    let fields = PREDICATE_FIELDS.map(|name| {
        let kind = if name == FACTS { Kind::any_object() } else { Kind::integer() };
        (Field::from(name), kind)
    });
    let fields = Collection::from_parts(fields.into(), Kind::undefined());
    ExternalEnv::new_with_kind(Kind::object(fields), Kind::any_object())
}

/// Compiles with metadata read-only and, if `frozen`, fields as well.
fn build(
    source: &str,
    functions: &[Box<dyn Function>],
    environment: &ExternalEnv,
    frozen: bool,
) -> Result<compiler::Program, DiagnosticList> {
    let mut config = CompileConfig::default();
    config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
    if frozen {
        config.set_read_only_path(OwnedTargetPath::event_root(), true);
    }
    let result = compiler::compile_with_external(source, functions, environment, config)?;
    Ok(result.program)
}

fn errors(source: &str, purpose: Purpose, list: &DiagnosticList) -> Vec<CompileError> {
    list.iter().map(|diagnostic| CompileError::from_vrl(source, purpose, diagnostic)).collect()
}

fn check_boolean(source: &str, compiled: &compiler::Program) -> Result<(), CompileError> {
    let result = compiled.final_type_info().result;
    let kind = if result.is_boolean() { result.returns() } else { result.kind() };
    if kind.is_boolean() {
        return Ok(());
    }
    let last = vrl::parser::parse(source)
        .ok()
        .and_then(|tree| tree.last().map(|expression| expression.span().range()));
    let mut error = CompileError::new(
        last.unwrap_or(0..source.len()),
        format!("a condition must be true or false, this may be {kind}"),
    );
    error.label = Some("not provably boolean".to_owned());
    Err(error.with_help("compare it (`.a == true`) or coerce it (`to_bool(.a) ?? false`)"))
}

/// The first line of a program that is neither empty nor a comment.
fn first_line(source: &str) -> String {
    let mut lines = source.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    clip(line.unwrap_or_default(), MAX_EXCERPT)
}

/// At most `limit` characters of `text`, without line breaks and other control characters.
fn clip(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let mut clipped: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        clipped.push('…');
    }
    clipped
}
