//! Reads a whole topology.
//!
//! Responsible for: the top level of the file, and the order in which its parts are read and
//! checked.
//! Not responsible for: any part itself.

use toml::de::DeTable;

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Context, Section, Value};
use crate::model::{NodeName, PipelineName};
use crate::topology::broker::{self, BrokerSection};
use crate::topology::checks::{self, Parts};
use crate::topology::manifests::{self, Draft};
use crate::topology::{Progress, Topology, columns, ingress, names, nodes, tables, wiring};

/// The version of the language.
const VERSION: i64 = 1;

/// Most partitions of a progress topic.
const MOST_PARTITIONS: i64 = 10_000;

/// Reads the document; `None` if anything in it is wrong, which has been reported.
pub(super) fn topology<'a>(cx: Context<'a>, document: &'a DeTable<'a>) -> Option<Topology> {
    let root = Section::new(cx, "the topology", document, 0..0);
    let version = root.need("version", version);
    // Read before everything else, by `vars`.
    root.value("vars");
    let name = root.need("name", name);
    let broker = match root.value("broker") {
        Some(value) => value.section("[broker]").and_then(broker::read),
        None => Some(BrokerSection::default()),
    };
    let progress = root.or("progress", Progress::default(), progress);
    let ingresses = ingress::read(&root);
    let drafts = nodes::read(&root, name.as_deref().unwrap_or_default());
    let receipts = manifests::receipts(&root);
    let manifests = manifests::manifests(&root);
    let tables = tables::tables(&root);
    let views = tables::views(&root, &tables);
    checks::has_input(&root, &drafts, &ingresses);
    root.finish();

    let known = checks::Known::of(&drafts);
    known.check(cx.report, &receipts);
    known.check(cx.report, &manifests);
    let uses: Vec<_> = manifests.iter().flat_map(|draft| draft.uses.clone()).collect();
    let wired = wiring::wire(cx.report, drafts, &uses);
    let parts = Parts {
        report: cx.report,
        pipeline: name.as_deref().unwrap_or_default(),
        ingresses: &ingresses,
        receipts: &receipts,
        manifests: &manifests,
        tables: &tables,
    };
    parts.check_alone();
    if let Some(wired) = &wired {
        parts.check_with(wired);
        columns::check(cx.report, wired, &tables);
    }

    version?;
    Some(Topology {
        name: PipelineName::from(name?),
        broker: broker?,
        progress: progress?,
        ingresses: ingresses
            .into_iter()
            .map(|draft| Some((draft.name, draft.ingress?)))
            .collect::<Option<_>>()?,
        graph: wired?.graph,
        receipts: declared(receipts)?,
        manifests: declared(manifests)?,
        tables: tables.into_iter().collect::<Option<_>>()?,
        views: views?,
    })
}

fn declared<T>(drafts: Vec<Draft<T>>) -> Option<Vec<(NodeName, T)>> {
    drafts.into_iter().map(|draft| Some((draft.name, draft.declared?))).collect()
}

fn version(value: &Value<'_>) -> Option<()> {
    let version = value.integer(i64::MIN..=i64::MAX)?;
    if version == VERSION {
        return Some(());
    }
    let message = format!("version {version} of the language is not known");
    let help = format!("this program reads version {VERSION}");
    value.fail(Diagnostic::new(message).help(help))
}

fn name(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    match names::node(&name) {
        Ok(()) => Some(name),
        Err(why) => {
            let message = format!("`{name}` cannot name a topology");
            value.fail(Diagnostic::new(message).label(why))
        }
    }
}

fn progress(value: &Value<'_>) -> Option<Progress> {
    let section = value.section("[progress]")?;
    let default = i64::from(Progress::default().partitions);
    let partitions = section.or("partitions", default, |value| value.integer(1..=MOST_PARTITIONS));
    section.finish();
    Some(Progress { partitions: i32::try_from(partitions?).ok()? })
}
