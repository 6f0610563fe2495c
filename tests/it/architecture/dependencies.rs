//! What is linked in is allowed: licences and bans of deny.toml.
//!
//! Responsible for: holding the dependency graph to deny.toml where cargo-deny is not installed.
//! Not responsible for: advisories, which need a database that changes from day to day.
//!
//! The lock file names more than is built: a weak feature (`ring?/alloc`) locks an optional crate
//! that nothing activates. So edges to optional dependencies count only if a feature that is on
//! activates them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

/// What deny.toml says of licences and bans.
struct Allowed {
    licences: BTreeSet<String>,
    /// Further licences of single crates.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    banned: BTreeSet<String>,
}

impl Allowed {
    fn parse(deny: &str) -> Self {
        let deny: Value = toml::from_str(deny).unwrap();
        let exceptions = entries(&deny, "/licenses/exceptions");
        let exceptions =
            exceptions.map(|entry| (crate_name(entry), strings(entry, "/allow").collect()));
        Self {
            licences: strings(&deny, "/licenses/allow").collect(),
            exceptions: exceptions.collect(),
            banned: entries(&deny, "/bans/deny").map(crate_name).collect(),
        }
    }

    fn licence_is_allowed(&self, name: &str, licence: &str) -> bool {
        let exceptions = self.exceptions.get(name);
        let allowed = |id: &str| {
            self.licences.contains(id) || exceptions.is_some_and(|more| more.contains(id))
        };
        satisfied(licence, &allowed)
    }

    /// What is linked in and not allowed.
    fn findings(&self, metadata: &Value) -> Vec<String> {
        let mut found = vec![];
        for package in Graph::new(metadata).reachable() {
            let name = text(package, "name");
            if self.banned.contains(name) {
                found.push(format!("{name}: banned by deny.toml, which says why"));
            }
            match package["license"].as_str() {
                Some(licence) if self.licence_is_allowed(name, licence) => {}
                Some(licence) => found.push(format!("{name}: licence {licence} is not allowed")),
                None => found.push(format!("{name}: names no licence")),
            }
        }
        found
    }
}

fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn strings(value: &Value, pointer: &str) -> impl Iterator<Item = String> {
    entries(value, pointer).filter_map(Value::as_str).map(str::to_owned)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The crate that an entry of deny.toml is about: `"x"`, `{ crate = "x@1" }`, `{ name = "x" }`.
fn crate_name(entry: &Value) -> String {
    let named = entry.as_str().or_else(|| entry["crate"].as_str());
    let spec = named.or_else(|| entry["name"].as_str()).unwrap();
    spec.split(['@', ':']).next().unwrap_or(spec).to_owned()
}

/// Whether a licence expression can be satisfied with what is allowed: one side of `OR` (or of
/// the old slash), both sides of `AND`, which binds closer.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let holds = any(&mut words, allowed);
    holds && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut holds = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        holds |= all(words, allowed);
    }
    holds
}

fn all(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut holds = single(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= single(words, allowed);
    }
    holds
}

fn single(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> bool {
    match words.next() {
        Some("(") => {
            let holds = any(words, allowed);
            holds & words.next_if_eq(&")").is_some()
        }
        Some(id) if words.next_if_eq(&"WITH").is_some() => {
            words.next().is_some_and(|exception| allowed(&format!("{id} WITH {exception}")))
        }
        Some(id) => allowed(id),
        None => false,
    }
}

/// The dependency graph, as `cargo metadata` prints it.
struct Graph<'a> {
    root: &'a str,
    packages: BTreeMap<&'a str, &'a Value>,
    nodes: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Graph<'a> {
    fn new(metadata: &'a Value) -> Self {
        let by_id = |pointer| entries(metadata, pointer).map(|value| (text(value, "id"), value));
        Self {
            root: text(&metadata["resolve"], "root"),
            packages: by_id("/packages").collect(),
            nodes: by_id("/resolve/nodes").collect(),
        }
    }

    /// The packages that are linked in, the root included.
    fn reachable(&self) -> Vec<&'a Value> {
        let mut seen = BTreeSet::from([self.root]);
        let mut open = vec![self.root];
        let mut reachable = vec![];
        while let Some(id) = open.pop() {
            let (package, node) = (self.packages[id], self.nodes[id]);
            reachable.push(package);
            for dependency in entries(node, "/deps").map(|dependency| text(dependency, "pkg")) {
                let name = text(self.packages[dependency], "name");
                if is_active(package, node, name) && seen.insert(dependency) {
                    open.push(dependency);
                }
            }
        }
        reachable
    }
}

/// Whether the package really depends on `name`, with the features that are on.
fn is_active(package: &Value, node: &Value, name: &str) -> bool {
    let declared = entries(package, "/dependencies").filter(|declared| {
        // Dev dependencies count for the root only; others never get an edge for them.
        text(declared, "name") == name
    });
    let mut declared = declared.peekable();
    if declared.peek().is_none() {
        return true;
    }
    declared.any(|declared| {
        let key = declared["rename"].as_str().unwrap_or(name);
        !declared["optional"].as_bool().unwrap_or(false)
            || strings(node, "/features").any(|feature| activates(package, &feature, key))
    })
}

fn activates(package: &Value, feature: &str, key: &str) -> bool {
    let Some(activated) = package["features"][feature].as_array() else { return false };
    activated.iter().filter_map(Value::as_str).any(|activated| {
        activated.strip_prefix("dep:") == Some(key)
            || activated.split_once('/').is_some_and(|(dependency, _)| dependency == key)
    })
}

#[test]
fn licences_and_crates_are_those_that_deny_toml_allows() {
    let top = super::top();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(top)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let deny = std::fs::read_to_string(top.join("deny.toml")).unwrap();
    let found = Allowed::parse(&deny).findings(&metadata);
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
}

const DENY: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
exceptions = [{ crate = "odd", allow = ["MPL-2.0"] }]

[bans]
deny = ["bad", { crate = "worse@1", reason = "why" }, { name = "worst" }]
"#;

#[test]
fn licence_expressions_are_read_as_spdx_reads_them() {
    let allowed = Allowed::parse(DENY);
    let table = [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/AGPL-3.0", false),
        ("MIT AND Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Apache-2.0", true),
        ("(GPL-3.0 OR MIT) AND ISC", false),
        ("MIT OR GPL-3.0 AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("MPL-2.0", false),
        ("", false),
        ("MIT MIT", false),
        ("(MIT", false),
    ];
    for (licence, wanted) in table {
        assert_eq!(allowed.licence_is_allowed("any", licence), wanted, "{licence}");
    }
    assert!(allowed.licence_is_allowed("odd", "MPL-2.0 AND MIT"));
}

/// Metadata of a crate `root` that depends on `name`, optionally, with these features on.
fn metadata(name: &str, licence: Value, optional: bool, features: &[&str]) -> Value {
    let dependency = json!({ "name": name, "optional": optional, "rename": null });
    let declared = json!({ "tls": ["dep:bad"], "weak": ["bad?/alloc"], "strong": ["bad/alloc"] });
    json!({
        "packages": [
            { "id": "r", "name": "root", "license": "MIT", "dependencies": [dependency],
              "features": declared },
            { "id": "d", "name": name, "license": licence, "dependencies": [], "features": {} },
        ],
        "resolve": { "root": "r", "nodes": [
            { "id": "r", "deps": [{ "pkg": "d" }], "features": features },
            { "id": "d", "deps": [], "features": [] },
        ] },
    })
}

#[test]
fn what_is_not_allowed_is_found() {
    let allowed = Allowed::parse(DENY);
    let table = [
        (metadata("good", json!("MIT"), false, &[]), 0),
        (metadata("good", json!("GPL-3.0"), false, &[]), 1),
        (metadata("good", Value::Null, false, &[]), 1),
        (metadata("odd", json!("MPL-2.0"), false, &[]), 0),
        (metadata("bad", json!("MIT"), false, &[]), 1),
        (metadata("worse", json!("MIT"), false, &[]), 1),
        (metadata("worst", json!("GPL-3.0"), false, &[]), 2),
        (metadata("bad", json!("MIT"), true, &[]), 0),
        (metadata("bad", json!("MIT"), true, &["weak"]), 0),
        (metadata("bad", json!("MIT"), true, &["tls"]), 1),
        (metadata("bad", json!("MIT"), true, &["strong"]), 1),
    ];
    for (metadata, wanted) in table {
        let found = allowed.findings(&metadata);
        assert_eq!(found.len(), wanted, "{found:?} in {metadata}");
    }
}
