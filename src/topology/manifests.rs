//! `[manifests.NAME]` and `[receipts.NAME]`.
//!
//! Responsible for: what declares a manifest or a receipt.
//! Not responsible for: when a manifest is complete (`rules`), its actions (`actions`), whether
//! the nodes it names exist (`checks`), or completing anything (`completion`).

mod rules;

use crate::completion::config::{Manifest, Receipt};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::config::units;
use crate::model::{FailureClass, NodeName};
use crate::topology::marks::Marks;
use crate::topology::{actions, names, nodes, programs};

/// Failure classes that nodes report.
static CLASSES: [FailureClass; 10] = [
    FailureClass::UNDECODABLE,
    FailureClass::PROGRAM,
    FailureClass::PANICKED,
    FailureClass::HUNG,
    FailureClass::TOO_LARGE,
    FailureClass::REJECTED,
    FailureClass::BAD_ARCHIVE,
    FailureClass::UNMATCHED,
    FailureClass::NOT_FOUND,
    FailureClass::FORBIDDEN,
];

/// Names that are bound in SQL beside the facts.
const BOUND: [&str; 4] = ["pipeline", "manifest", "revision", "completed_at"];

/// A declaration that names nodes, and where it does.
pub(super) struct Draft<T> {
    pub name: NodeName,
    pub marks: Marks,
    /// What it names, also where the rest of the declaration has errors.
    pub uses: Vec<Use>,
    pub declared: Option<T>,
}

/// A node that a manifest or a receipt names.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// The key that names it.
    pub key: &'static str,
    pub node: String,
    pub port: Option<String>,
}

/// Reads all manifests.
pub(super) fn manifests(root: &Section<'_>) -> Vec<Draft<Manifest>> {
    let section = root.value("manifests").and_then(|value| value.section("[manifests]"));
    let entries = section.map_or_else(Vec::new, |section| section.entries());
    let naming = ["announced_by", "members"];
    entries.iter().map(|entry| draft(entry, "manifests", &naming, manifest)).collect()
}

/// Reads all receipts.
pub(super) fn receipts(root: &Section<'_>) -> Vec<Draft<Receipt>> {
    let section = root.value("receipts").and_then(|value| value.section("[receipts]"));
    let entries = section.map_or_else(Vec::new, |section| section.entries());
    entries.iter().map(|entry| draft(entry, "receipts", &["of"], receipt)).collect()
}

fn draft<T>(
    entry: &Value<'_>,
    title: &str,
    naming: &[&'static str],
    read: impl Fn(&Section<'_>) -> Option<T>,
) -> Draft<T> {
    nodes::names_or_report(entry);
    let section = entry.section(format!("[{title}.{}]", entry.key()));
    let mut uses = Vec::new();
    let declared = section.and_then(|section| {
        uses.extend(naming.iter().filter_map(|&key| use_of(&section, key)));
        let declared = read(&section);
        section.finish();
        declared
    });
    Draft { name: NodeName::from(entry.key()), marks: Marks::of(entry), uses, declared }
}

fn use_of(section: &Section<'_>, key: &'static str) -> Option<Use> {
    let (node, port) = names::node_and_port(section.need(key, Value::raw)?);
    Some(Use { key, node: node.to_owned(), port: port.map(str::to_owned) })
}

fn receipt(section: &Section<'_>) -> Option<Receipt> {
    let of = section.value("of").and_then(|value| value.item().as_str().map(NodeName::from));
    let topic = section.need("topic", names::topic);
    let payload = section.need("payload", programs::map);
    Some(Receipt { of: of?, topic: topic?, payload: payload? })
}

fn manifest(section: &Section<'_>) -> Option<Manifest> {
    let named = |key| section.value(key).and_then(|value| value.item().as_str());
    let announced = named("announced_by").map(names::node_and_port);
    let members = named("members").map(NodeName::from);
    let key = section.need("key", programs::key);
    let shard_by = section.maybe("shard_by", programs::key);
    let member = section.need("member", programs::key);
    let expected = section.need("expected", programs::key);
    let version = section.maybe("version", programs::key);
    let facts = section.or("facts", Vec::new(), |value| {
        programs::named_keys(&value.section("`facts`")?, fact_name)
    });
    let policy = rules::policy(section);
    let accept = section.or("accept", Vec::new(), |value| value.each(class));
    let late = rules::late(section);
    let conflict = rules::conflict(section);
    let deadlines = rules::deadlines(section, facts.as_deref());
    let bound = facts.as_ref().map(|facts| {
        let facts = facts.iter().map(|(name, _)| name.as_str());
        BOUND.into_iter().chain(facts).collect::<Vec<&str>>()
    });
    let on_complete =
        section.or("on_complete", Vec::new(), |value| actions::read(value, bound.as_deref()));
    conflict?;
    let (announced_by, announced_port) = announced?;
    Some(Manifest {
        announced_by: NodeName::from(announced_by),
        announced_port: announced_port.map(str::to_owned),
        members: members?,
        key: key?,
        shard_by: shard_by?,
        member: member?,
        expected: expected?,
        version: version?,
        facts: facts?,
        policy: policy?,
        accept: accept?,
        late: late?,
        deadlines: deadlines?,
        on_complete: on_complete?,
    })
}

fn fact_name(name: &str) -> Result<(), String> {
    if BOUND.contains(&name) {
        return Err(format!("`:{name}` is bound in SQL already"));
    }
    names::identifier(name)
}

fn class(value: &Value<'_>) -> Option<FailureClass> {
    let name = value.text()?;
    if let Some(class) = CLASSES.iter().find(|class| class.as_str() == name) {
        return Some(class.clone());
    }
    let known: Vec<&str> = CLASSES.iter().map(FailureClass::as_str).collect();
    let message = format!("unknown failure class `{name}`");
    value.fail(Diagnostic::new(message).help(units::hint(&name, &known)))
}
