//! From a completion to what has to be done.
//!
//! Responsible for: binding the statements of `sql` actions and the queries of `retire` actions,
//! running payload programs, one delivery for each element of an array, and the keys by which
//! receivers tell repeats apart.
//! Not responsible for: executing statements (`state`), or delivering (`dispatcher`).
//!
//! Targets and payloads are resolved when the manifest completes and stored with it, so a delivery
//! that is tried again carries the same bytes, whatever the topology says by then.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::completion::config::{Action, ActionKind};
use crate::expr::{Program, Scratch, Target, fields};
use crate::model::{ManifestKey, NodeName, PipelineName};
use crate::progress::manifest::Tally;
use crate::state::{OutboxRow, OutboxTarget, Parameters};

/// Namespace of idempotency keys. Fixed for ever: another one would make every receiver take a
/// repeated delivery for a new one.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f5a_1d0e_3c52_4b1e_9d57_0a8b_6a1f_7c24);

/// The key of one delivery: UUIDv5 over the length-prefixed parts of its identity, so that no two
/// identities run into each other.
pub(super) fn idempotency_key(
    pipeline: &PipelineName,
    manifest: &ManifestKey,
    revision: u32,
    action: &str,
    part: u32,
) -> Uuid {
    let (revision, part) = (revision.to_string(), part.to_string());
    let mut name = Vec::new();
    for component in [pipeline.as_str(), manifest.as_str(), &revision, action, &part] {
        name.extend_from_slice(&(component.len() as u64).to_be_bytes());
        name.extend_from_slice(component.as_bytes());
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

/// What programs and statements see of a completion.
pub(super) struct Completed<'a> {
    /// The manifest.
    pub(super) manifest: &'a ManifestKey,
    /// Name of its declaration.
    pub(super) kind: &'a NodeName,
    /// Which completion of it.
    pub(super) revision: u32,
    /// When, milliseconds since the Unix epoch.
    pub(super) completed_at: i64,
    /// Why.
    pub(super) why: &'a str,
    /// Its attributes.
    pub(super) facts: &'a Map<String, Value>,
    /// Its members.
    pub(super) tally: Tally,
    /// Ids of the dead-lettered ones.
    pub(super) failed: Vec<&'a str>,
}

/// What has to be done for a completion.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resolved {
    /// Statements with their action's name, in order.
    pub(super) statements: Vec<(String, String)>,
    /// What `:name` stands for.
    pub(super) parameters: Parameters,
    /// Deliveries.
    pub(super) outbox: Vec<OutboxRow>,
    /// Queries that name objects to be retired, with their action's name, in order.
    pub(super) retire: Vec<(String, String)>,
}

impl Completed<'_> {
    fn at(&self) -> String {
        jiff::Timestamp::from_millisecond(self.completed_at)
            .map_or_else(|_| self.completed_at.to_string(), |at| at.to_string())
    }

    /// The fields that payload programs see.
    fn document(&self) -> Value {
        let tally = &self.tally;
        json!({
            "manifest": self.manifest.as_str(),
            "kind": self.kind.as_str(),
            "revision": self.revision,
            "completed_at": self.at(),
            "why": self.why,
            "facts": self.facts,
            "members": {
                "expected": tally.expected,
                "done": tally.done,
                "empty": tally.empty,
                "dead_lettered": tally.dead_lettered,
                "pending": tally.pending,
                "unexpected": tally.unexpected,
            },
            "failed": self.failed,
        })
    }

    /// What statements are bound to. A declared fact that the manifest lacks is null.
    fn parameters(&self, declared: &[String]) -> Parameters {
        let mut parameters: Parameters =
            declared.iter().map(|name| (name.clone(), Value::Null)).collect();
        let facts = self.facts.iter().map(|(name, value)| (name.clone(), value.clone()));
        parameters.extend(facts);
        parameters.insert("manifest".to_owned(), self.manifest.as_str().into());
        parameters.insert("revision".to_owned(), self.revision.into());
        parameters.insert("completed_at".to_owned(), self.at().into());
        parameters
    }
}

/// Resolves the actions of completions.
pub(super) struct Resolver {
    pipeline: PipelineName,
    scratch: Scratch,
}

impl Resolver {
    /// For a pipeline, which is `%pipeline` in its programs.
    pub(super) fn new(pipeline: PipelineName) -> Self {
        Self { pipeline, scratch: Scratch::new() }
    }

    /// What `actions` come to for a completion, or why one of them cannot be resolved.
    pub(super) fn resolve(
        &mut self,
        actions: &[Action],
        facts: &[String],
        completed: &Completed<'_>,
    ) -> Result<Resolved, String> {
        let document = vrl::value::Value::from(completed.document());
        let mut resolved =
            Resolved { parameters: completed.parameters(facts), ..Resolved::default() };
        resolved.parameters.insert("pipeline".to_owned(), self.pipeline.as_str().into());
        for action in actions {
            let named = |why: String| format!("{}: {why}", action.name);
            match &action.kind {
                ActionKind::Sql { statements } => {
                    let own = statements.iter().map(|text| (action.name.clone(), text.clone()));
                    resolved.statements.extend(own);
                }
                ActionKind::Retire { query } => {
                    resolved.retire.push((action.name.clone(), query.clone()));
                }
                ActionKind::Kafka { topic, payload, key } => {
                    let key = match key {
                        Some(key) => text(&self.run(key, &document, completed).map_err(named)?),
                        None => None,
                    };
                    let payload = self.payload(payload, &document, completed).map_err(named)?;
                    let target = |payload| OutboxTarget::Kafka {
                        topic: topic.to_string(),
                        key: key.clone(),
                        payload,
                    };
                    resolved.outbox.extend(self.rows(action, completed, payload, target));
                }
                ActionKind::Http { url, payload } => {
                    let payload = self.payload(payload, &document, completed).map_err(named)?;
                    let target = |payload| OutboxTarget::Http { url: url.clone(), payload };
                    resolved.outbox.extend(self.rows(action, completed, payload, target));
                }
            }
        }
        Ok(resolved)
    }

    /// The payloads of an action: none for null, one for each element of an array.
    fn payload(
        &mut self,
        program: &Program,
        document: &vrl::value::Value,
        completed: &Completed<'_>,
    ) -> Result<Vec<Value>, String> {
        let value = self.run(program, document, completed)?;
        let value = serde_json::from_slice(&fields::to_json(&value))
            .map_err(|error| format!("its payload cannot be kept as JSON: {error}"))?;
        Ok(match value {
            Value::Null => Vec::new(),
            Value::Array(elements) => elements,
            one => vec![one],
        })
    }

    fn run(
        &mut self,
        program: &Program,
        document: &vrl::value::Value,
        completed: &Completed<'_>,
    ) -> Result<vrl::value::Value, String> {
        let metadata = json!({
            "pipeline": self.pipeline.as_str(),
            "manifest": completed.manifest.as_str(),
        });
        let mut target = Target::new(document.clone(), metadata.into());
        program.run(&mut self.scratch, &mut target).map_err(|failure| failure.why().to_owned())
    }

    fn rows(
        &self,
        action: &Action,
        completed: &Completed<'_>,
        payloads: Vec<Value>,
        target: impl Fn(Value) -> OutboxTarget,
    ) -> Vec<OutboxRow> {
        let (manifest, revision) = (completed.manifest, completed.revision);
        let numbered = (0u32..).zip(payloads);
        let rows = numbered.map(|(part, payload)| OutboxRow {
            manifest: manifest.clone(),
            revision,
            action: action.name.clone(),
            part,
            idempotency_key: idempotency_key(
                &self.pipeline,
                manifest,
                revision,
                &action.name,
                part,
            ),
            target: target(payload),
        });
        rows.collect()
    }
}

/// A key is text as it stands, and anything else as JSON; null is no key.
fn text(value: &vrl::value::Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let text = value.to_str().map(str::to_owned);
    Some(text.unwrap_or_else(|| String::from_utf8_lossy(&fields::to_json(value)).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Purpose;

    fn program(source: &str) -> Program {
        Program::compile(source, Purpose::Map).unwrap()
    }

    fn kafka(name: &str, payload: &str, key: Option<&str>) -> Action {
        let (payload, key) = (program(payload), key.map(program));
        let kind = ActionKind::Kafka { topic: "done".into(), payload, key };
        Action { name: name.to_owned(), kind }
    }

    fn resolve(actions: &[Action]) -> Result<Resolved, String> {
        let facts = Map::from_iter([("cluster".to_owned(), Value::from("c"))]);
        let completed = Completed {
            manifest: &"m-1".into(),
            kind: &"report".into(),
            revision: 1,
            completed_at: 1_741_842_000_000,
            why: "tolerated",
            facts: &facts,
            tally: Tally { expected: 3, done: 2, dead_lettered: 1, ..Tally::default() },
            failed: vec!["b.csv"],
        };
        let declared = ["cluster".to_owned(), "made".to_owned()];
        Resolver::new("sales".into()).resolve(actions, &declared, &completed)
    }

    #[test]
    fn the_key_of_a_delivery_never_changes() {
        let key = |manifest: &str, revision, action: &str, part| {
            idempotency_key(&"sales".into(), &manifest.into(), revision, action, part).to_string()
        };
        assert_eq!(key("m-1", 1, "notify", 0), "b0673735-dec4-5e5a-b991-9e26b927f59a");
        assert_ne!(key("m-1", 1, "notify", 0), key("m-1", 1, "notify", 1));
        assert_ne!(key("m-1", 1, "notify", 0), key("m-1", 2, "notify", 0));
        assert_ne!(key("m-11", 1, "notify", 0), key("m-1", 11, "notify", 0));
        assert_ne!(key("m", 1, "ab", 0), key("m", 1, "a", 0));
    }

    #[test]
    fn a_payload_sees_the_whole_completion() {
        let actions = [kafka("notify", ".", Some(".facts.cluster"))];
        let resolved = resolve(&actions).unwrap();
        let OutboxTarget::Kafka { topic, key, payload } = &resolved.outbox[0].target else {
            panic!("not for kafka")
        };
        assert_eq!((topic.as_str(), key.as_deref()), ("done", Some("c")));
        assert_eq!(
            payload,
            &json!({
                "manifest": "m-1", "kind": "report", "revision": 1, "why": "tolerated",
                "completed_at": "2025-03-13T05:00:00Z", "facts": {"cluster": "c"},
                "members": {
                    "expected": 3, "done": 2, "empty": 0, "dead_lettered": 1, "pending": 0,
                    "unexpected": 0,
                },
                "failed": ["b.csv"],
            })
        );
    }

    #[test]
    fn an_array_makes_a_delivery_of_each_element_and_null_makes_none() {
        let actions = [
            kafka("each", "[{\"n\": 1}, {\"n\": 2}]", None),
            kafka("none", "null", None),
            kafka("empty", "[]", None),
        ];
        let resolved = resolve(&actions).unwrap();
        let rows: Vec<_> =
            resolved.outbox.iter().map(|row| (row.action.as_str(), row.part)).collect();
        assert_eq!(rows, [("each", 0), ("each", 1)]);
        let keys: Vec<_> = resolved.outbox.iter().map(|row| row.idempotency_key).collect();
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn statements_are_bound_to_facts_and_to_the_completion() {
        let kind = ActionKind::Sql { statements: vec!["DELETE".into(), "INSERT".into()] };
        let resolved = resolve(&[Action { name: "sum".into(), kind }]).unwrap();
        let statements = [("sum", "DELETE"), ("sum", "INSERT")]
            .map(|(action, text)| (action.to_owned(), text.to_owned()));
        assert_eq!(resolved.statements, statements);
        let expected = [
            ("cluster", json!("c")),
            ("completed_at", json!("2025-03-13T05:00:00Z")),
            ("made", Value::Null),
            ("manifest", json!("m-1")),
            ("pipeline", json!("sales")),
            ("revision", json!(1)),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(resolved.parameters, Parameters::from(expected));
    }

    #[test]
    fn queries_of_what_to_retire_keep_their_order_and_their_action() {
        let retire = |name: &str, query: &str| {
            let kind = ActionKind::Retire { query: query.to_owned() };
            Action { name: name.to_owned(), kind }
        };
        let actions =
            [retire("old", "SELECT 1"), kafka("tell", ".", None), retire("b", "SELECT 2")];
        let resolved = resolve(&actions).unwrap();
        let queries = [("old", "SELECT 1"), ("b", "SELECT 2")]
            .map(|(action, text)| (action.to_owned(), text.to_owned()));
        assert_eq!(resolved.retire, queries);
        assert_eq!(resolved.outbox.len(), 1);
    }

    #[test]
    fn a_program_that_fails_names_its_action() {
        let error = resolve(&[kafka("notify", "int!(.manifest)", None)]).unwrap_err();
        assert!(error.starts_with("notify: "), "{error}");
    }
}
