//! The house holds: layers, sizes, module docs, actor docs, the top level.
//!
//! Responsible for: failing with a list of files when one of the rules of the house is broken.
//! Each guard has a negative control: a snippet that it must flag.
//! Not responsible for: what clippy.toml forbids; clippy finds that.

mod dependencies;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use text::{code_only, imports, module_doc};

/// Modules of `src/` and the layers they lie in. Imports point downward.
const LAYERS: &[(&str, u8)] = &[
    ("model", 0),
    ("progress", 1),
    ("telemetry", 1),
    ("runtime", 2),
    ("broker", 2),
    ("state", 2),
    ("expr", 2),
    ("spool", 2),
    ("columnar", 2),
    ("net", 2),
    ("sql", 2),
    ("source", 3),
    ("processor", 3),
    ("sink", 3),
    ("completion", 3),
    ("topology", 4),
    ("config", 4),
    ("ops", 4),
    ("engine", 5),
    ("cli", 6),
    ("api", 6),
    ("testing", 7),
];

/// Imports within a layer that are meant: who imports whom. Layer 3 has none and gets none, its
/// modules meet in the engine; nor do progress and telemetry know each other.
const SIBLINGS: &[(&str, &str)] = &[
    // The kit for actors and threads (clock, mailboxes, boxed futures) is under everything that
    // runs, and itself knows neither Kafka nor SQL.
    ("broker", "runtime"),
    ("state", "runtime"),
    ("spool", "runtime"),
    ("net", "runtime"),
    // The store speaks the dialects and creates the declared tables.
    ("state", "sql"),
    // Reading a topology needs the reader, units and diagnostics that engine settings use.
    ("topology", "config"),
    // `tidemill run` starts the API, and the other commands are its clients.
    ("cli", "api"),
];

/// What may lie at the top.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "rust-toolchain.toml",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "justfile",
    ".gitignore",
    ".ci",
    ".git",
    "target",
    "data",
    "config",
    "topologies",
    "benches",
    "tests",
    "deploy",
    "docs",
    "src",
    "scripts",
    "samples",
];

/// Most lines of a file, tests included.
const MOST_LINES: usize = 500;
/// Most lines of `src/main.rs`.
const MOST_LINES_OF_MAIN: usize = 120;

/// What the module doc of an actor says.
const ACTOR_GRAMMAR: [&str; 5] = ["Role", "Owns", "Receives", "Sends", "On failure"];

/// One Rust file of the crate.
struct SourceFile {
    /// Path from the top of the repository, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The module below `src/` that it belongs to; none for the roots of library and binary.
    fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let module = below.split(['/', '.']).next()?;
        (!matches!(below, "lib.rs" | "main.rs")).then_some(module)
    }

    /// Whether it holds nothing but tests.
    fn is_test(&self) -> bool {
        !self.path.starts_with("src/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Its code without and with the tests within, comments and strings left out.
    fn code(&self) -> (String, String) {
        let all = code_only(&self.text);
        let tests = if self.is_test() { Some(0) } else { all.find("#[cfg(test)]\nmod tests {") };
        let production = tests.map_or(all.as_str(), |at| &all[..at]).to_owned();
        (production, all)
    }

    fn too_long(&self) -> Vec<String> {
        let most = if self.path == "src/main.rs" { MOST_LINES_OF_MAIN } else { MOST_LINES };
        let lines = self.text.lines().count();
        let found = (lines > most).then(|| format!("{}: {lines} lines, {most} may be", self.path));
        found.into_iter().collect()
    }

    fn undocumented(&self) -> Vec<String> {
        let doc = module_doc(&self.text);
        let mut wanted = vec![];
        if doc.is_empty() {
            wanted.push("a module doc");
        }
        if self.module().is_some() && !self.is_test() {
            let phrases = ["Responsible for", "Not responsible for"];
            wanted.extend(phrases.into_iter().filter(|phrase| !doc.contains(phrase)));
        }
        wanted.iter().map(|what| format!("{}: says nothing of: {what}", self.path)).collect()
    }

    fn actor_without_grammar(&self) -> Vec<String> {
        if self.is_test() || !self.code().0.contains("impl Actor for") {
            return vec![];
        }
        let doc = module_doc(&self.text);
        let missing = ACTOR_GRAMMAR.into_iter().filter(|word| !doc.contains(&format!("**{word}")));
        missing.map(|word| format!("{}: an actor without **{word}**", self.path)).collect()
    }

    fn forbidden_imports(&self) -> Vec<String> {
        let (production, all) = self.code();
        let mut found = vec![];
        if all.contains("super::super") {
            found.push(format!("{}: super::super, write the path from crate::", self.path));
        }
        let Some(module) = self.module() else { return found };
        let production = imports(&production);
        for imported in imports(&all) {
            let in_tests = self.is_test() || !production.contains(&imported);
            if let Some(why) = forbidden(module, &imported, in_tests) {
                found.push(format!("{}: imports crate::{imported}, {why}", self.path));
            }
        }
        found
    }
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// Why `module` must not import `imported`.
fn forbidden(module: &str, imported: &str, in_tests: bool) -> Option<&'static str> {
    let (Some(own), Some(other)) = (layer(module), layer(imported)) else {
        return Some("which is in no layer: LAYERS in tests/it/architecture.rs lists them");
    };
    let harness_in_tests = imported == "testing" && in_tests;
    if module == imported || other < own || harness_in_tests {
        None
    } else if other > own {
        Some("which lies above it")
    } else if SIBLINGS.contains(&(module, imported)) {
        None
    } else {
        Some("which lies beside it: SIBLINGS in tests/it/architecture.rs lists what may")
    }
}

fn strangers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let unknown = names.filter(|name| !TOP.contains(name));
    unknown.map(|name| format!("{name}: not agreed for the top level")).collect()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below the folders.
fn files(folders: &[&str]) -> Vec<SourceFile> {
    let mut found = vec![];
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| top().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(top()).unwrap().to_str().unwrap();
                found.push(SourceFile { path: path.to_owned(), text });
            }
        }
    }
    assert!(!found.is_empty(), "no files to look at");
    found
}

/// Looks at every file below the folders.
fn hold(folders: &[&str], guard: impl Fn(&SourceFile) -> Vec<String>) {
    let mut found: Vec<String> = files(folders).iter().flat_map(guard).collect();
    found.sort();
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
}

/// How many findings a guard has in a file of that path and text.
fn findings(guard: impl Fn(&SourceFile) -> Vec<String>, path: &str, text: &str) -> usize {
    guard(&SourceFile::new(path, text)).len()
}

#[test]
fn files_are_short() {
    hold(&["src", "tests"], SourceFile::too_long);
}

#[test]
fn a_long_file_is_found() {
    let lines = |count| "//\n".repeat(count);
    let found = |path, count| findings(SourceFile::too_long, path, &lines(count));
    assert_eq!([found("src/sink.rs", 500), found("src/sink.rs", 501)], [0, 1]);
    assert_eq!([found("src/main.rs", 120), found("src/main.rs", 121)], [0, 1]);
    assert_eq!(found("tests/it/main.rs", 501), 1);
}

#[test]
fn every_module_says_what_it_is_responsible_for_and_what_not() {
    hold(&["src"], SourceFile::undocumented);
}

#[test]
fn a_module_that_does_not_say_so_is_found() {
    let found = |path, text| findings(SourceFile::undocumented, path, text);
    let doc = "//! A sink.\n//!\n//! Responsible for: x.\n//! Not\n//! responsible for: y.\n";
    assert_eq!(found("src/sink/a.rs", doc), 0);
    assert_eq!(found("src/sink/a.rs", "//! Responsible for: x.\n"), 1);
    assert_eq!(found("src/sink/a.rs", "use x;\n//! Responsible for. Not responsible for.\n"), 3);
    assert_eq!(found("src/sink/a/tests.rs", "//! Tests.\n"), 0);
    assert_eq!(found("src/sink/a/tests.rs", "use x;\n"), 1);
    assert_eq!(found("src/lib.rs", "//! Crate map.\n"), 0);
}

#[test]
fn actors_follow_the_grammar() {
    hold(&["src"], SourceFile::actor_without_grammar);
}

#[test]
fn an_actor_without_grammar_is_found() {
    let found = |path, text: &str| findings(SourceFile::actor_without_grammar, path, text);
    let actor = "impl Actor for Sink {}\n";
    let doc = "//! **Role** r\n//! **Owns** o\n//! **Receives** r\n//! **Sends** s\n";
    assert_eq!(found("src/sink/a.rs", actor), 5);
    assert_eq!(found("src/sink/a.rs", &format!("{doc}{actor}")), 1);
    assert_eq!(found("src/sink/a.rs", &format!("{doc}//! **On failure** f\n{actor}")), 0);
    assert_eq!(found("src/sink/a.rs", "// not an impl Actor for anything\n"), 0);
    assert_eq!(found("src/sink/a/tests.rs", actor), 0);
}

#[test]
fn imports_point_downward() {
    hold(&["src"], SourceFile::forbidden_imports);
}

#[test]
fn an_import_that_points_up_or_sideways_is_found() {
    let found = |path, text| findings(SourceFile::forbidden_imports, path, text);
    let table = [
        ("src/progress/tracker.rs", "use crate::model::Offset;", 0),
        ("src/progress/tracker.rs", "use crate::progress::retry::X;", 0),
        ("src/progress.rs", "use crate::telemetry::X;", 1),
        ("src/model/body.rs", "use crate::progress::X;", 1),
        ("src/broker/kafka.rs", "use crate::runtime::clock::Clock;", 0),
        ("src/runtime/clock.rs", "use crate::broker::Broker;", 1),
        ("src/sink/kafka.rs", "use crate::{model::Offset, source::{Config, poll}};", 1),
        ("src/sink/kafka.rs", "use crate::completion::config::Table;", 1),
        ("src/sink/kafka.rs", "fn f() -> crate::engine::Engine {}", 1),
        ("src/sink/kafka.rs", "macro_rules! m { () => { $crate::cli::run() } }", 1),
        ("src/sink/kafka.rs", "//! See [`crate::engine`].\nconst X: &str = \"crate::cli\";", 0),
        ("src/sink/kafka.rs", "use crate::utilities::X;", 1),
        ("src/utilities.rs", "use crate::model::Offset;", 1),
        ("src/sink/kafka.rs", "use super::super::X;", 1),
        ("src/sink/kafka.rs", "use crate::testing::Probe;", 1),
        ("src/sink/kafka.rs", "#[cfg(test)]\nmod tests {\n use crate::testing::Probe;\n}", 0),
        ("src/sink/kafka/tests.rs", "use crate::testing::Probe;", 0),
        ("src/sink/kafka/tests.rs", "use crate::source::Config;", 1),
        ("src/testing/probe.rs", "use crate::{api::X, sink::Y};", 0),
        ("src/cli/run.rs", "use crate::api::X;", 0),
        ("src/lib.rs", "pub use crate::engine::Engine;", 0),
    ];
    for (path, text, wanted) in table {
        assert_eq!(found(path, text), wanted, "{path}: {text}");
    }
}

#[test]
fn the_table_of_layers_has_no_exceptions_where_none_may_be() {
    let names: BTreeSet<_> = LAYERS.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), LAYERS.len());
    for (importer, imported) in SIBLINGS {
        assert_eq!(layer(importer), layer(imported), "{importer} {imported}");
        assert!(!matches!(layer(importer), None | Some(1 | 3)), "{importer} {imported}");
        assert!(!SIBLINGS.contains(&(*imported, *importer)), "{importer} and {imported}: a cycle");
    }
}

#[test]
fn nothing_else_lies_at_the_top() {
    let entries = fs::read_dir(top()).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    let found = strangers(names.iter().map(|name| name.to_str().unwrap()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_stranger_at_the_top_is_found() {
    assert_eq!(strangers(["src", "notes.md", "Cargo.toml", "tools"].into_iter()).len(), 2);
}
