//! `[ingress.NAME]`.
//!
//! Responsible for: what an upload endpoint needs.
//! Not responsible for: taking uploads (`source`).

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::model::NodeName;
use crate::source::config::Ingress;
use crate::spool::objects::ObjectPlace;
use crate::topology::{names, nodes, objects, programs};

/// Largest upload where the topology does not say.
const DEFAULT_MAX_BYTES: u64 = 100 << 20;

/// Paths that the engine serves itself.
const RESERVED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// An ingress, and where the file speaks of it.
pub(super) struct Draft {
    pub name: NodeName,
    pub ingress: Option<Ingress>,
    pub path_span: std::ops::Range<usize>,
}

/// Reads all ingresses.
pub(super) fn read(root: &Section<'_>) -> Vec<Draft> {
    let section = root.value("ingress").and_then(|value| value.section("[ingress]"));
    let entries = section.map_or_else(Vec::new, |section| section.entries());
    entries.iter().map(draft).collect()
}

fn draft(entry: &Value<'_>) -> Draft {
    nodes::names_or_report(entry);
    let mut path_span = entry.key_span();
    let section = entry.section(format!("[ingress.{}]", entry.key()));
    let ingress = section.and_then(|section| {
        if let Some(path) = section.value("path") {
            path_span = path.span();
        }
        let ingress = ingress(&section);
        section.finish();
        ingress
    });
    Draft { name: NodeName::from(entry.key()), ingress, path_span }
}

fn ingress(section: &Section<'_>) -> Option<Ingress> {
    let path = section.need("path", path);
    let parts = section.or("parts", vec!["file".to_owned()], |value| value.each(Value::word));
    let max_bytes = section.or("max_bytes", DEFAULT_MAX_BYTES, Value::size);
    let content_type = section.maybe("content_type", pattern);
    let topic = section.need("topic", names::topic);
    let headers = section.or("headers", Vec::new(), |value| {
        programs::named_keys(&value.section("`headers`")?, |_| Ok(()))
    });
    let announce = section.need("announce", programs::map);
    let reply = section.maybe("reply", programs::map);
    let spool = section.maybe("spool", |value| spool(value, section.title()));
    Some(Ingress {
        path: path?,
        parts: parts?,
        max_bytes: max_bytes?,
        content_type: content_type?,
        topic: topic?,
        headers: headers?,
        announce: announce?,
        reply: reply?,
        spool: spool?.flatten(),
    })
}

/// The spool that replicas share. `None` within if its URL is empty: the variable for it was left
/// so, and there is one replica.
fn spool(value: &Value<'_>, ingress: &str) -> Option<Option<ObjectPlace>> {
    let section = value.section(format!("`spool` of {ingress}"))?;
    let url = section.need("url", |value| match value.text()? {
        text if text.is_empty() => Some(None),
        _ => objects::place(value).map(Some),
    });
    let place = url.as_ref().and_then(|url| url.as_ref()).map(|(_, place)| place);
    let s3 = objects::s3(&section, place);
    section.finish();
    let Some((url, _)) = url? else { return Some(None) };
    Some(Some(ObjectPlace { url, s3: s3? }))
}

fn path(value: &Value<'_>) -> Option<String> {
    let path = value.text()?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    if !path.starts_with('/') || !path.chars().all(is_fit) {
        let message = format!("`{path}` is no path: it starts with `/`, without query");
        return value.fail(Diagnostic::new(message));
    }
    if RESERVED.contains(&path.as_str()) {
        return value.fail(Diagnostic::new(format!("the engine serves `{path}` itself")));
    }
    Some(path)
}

/// A regular expression, as it stands: `${…}` means nothing in it.
fn pattern(value: &Value<'_>) -> Option<String> {
    let pattern = value.raw()?;
    match regex::Regex::new(pattern) {
        Ok(_) => Some(pattern.to_owned()),
        Err(error) => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default().trim();
            let message = format!("`{}` is not a regular expression", value.key());
            value.fail(Diagnostic::new(message).label(last.trim_start_matches("error: ")))
        }
    }
}
