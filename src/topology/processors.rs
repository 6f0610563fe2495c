//! `[processors.NAME]`, all types but `csv`.
//!
//! Responsible for: what a processor of each type needs.
//! Not responsible for: whether its columns exist (`columns`), or processing (`processor`).

use std::time::Duration;

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::expr::Purpose;
use crate::model::NodeName;
use crate::processor::config::{
    Aggregate, AggregateColumn, AggregateFunction, Allow, ArchiveIndex, ArchiveLimits, Config,
    Fetch, Filter, Remap, Rest, Unarchive,
};
use crate::topology::{names, programs};

/// Largest body where the topology does not say.
const DEFAULT_MAX_BYTES: u64 = 100 << 20;

/// Time for one attempt where the topology does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Fetches at once where the topology does not say.
const DEFAULT_CONCURRENCY: usize = 8;

/// Attempts where the topology does not say.
const DEFAULT_ATTEMPTS: i64 = 3;

/// Largest index of an archive where the topology does not say.
const DEFAULT_INDEX_BYTES: u64 = 10 << 20;

/// Groups in memory where the topology does not say.
const DEFAULT_MAX_GROUPS: usize = 100_000;

/// `type = "filter"`.
pub(super) fn filter(section: &Section<'_>) -> Option<Config> {
    let condition = section.need("condition", |value| programs::program(value, Purpose::Filter));
    let rest = section.or("rest", Rest::default(), |value| {
        value.choice(&[
            ("drop", Rest::Drop),
            ("dead_letter", Rest::DeadLetter),
            ("port", Rest::Port),
        ])
    });
    Some(Config::Filter(Filter { condition: condition?, rest: rest? }))
}

/// `type = "remap"`.
pub(super) fn remap(section: &Section<'_>) -> Option<Config> {
    let program = section.need("program", programs::map);
    Some(Config::Remap(Remap { program: program? }))
}

/// `type = "fetch"`.
pub(super) fn fetch(section: &Section<'_>) -> Option<Config> {
    let url = section.need("url", programs::key);
    let allow = section.need("allow", |value| {
        let allow = value.each(allow)?;
        if allow.is_empty() {
            let help = "such as \"ingress:NAME\" or \"https://host\"".to_owned();
            let message = "`allow` is empty, so nothing may be fetched";
            return value.fail(Diagnostic::new(message).help(help));
        }
        Some(allow)
    });
    let max_bytes = section.or("max_bytes", DEFAULT_MAX_BYTES, Value::size);
    let timeout = section.or("timeout", DEFAULT_TIMEOUT, Value::duration);
    let concurrency = section.or("concurrency", DEFAULT_CONCURRENCY, |value| value.count(1));
    let attempts = section.or("attempts", DEFAULT_ATTEMPTS, |value| value.integer(1..=100));
    Some(Config::Fetch(Fetch {
        url: url?,
        allow: allow?,
        max_bytes: max_bytes?,
        timeout: timeout?,
        concurrency: concurrency?,
        attempts: u32::try_from(attempts?).ok()?,
    }))
}

/// `"ingress:NAME"`, `"https://host"`, or `{ origin = "http://host:port", private = true }`.
fn allow(value: &Value<'_>) -> Option<Allow> {
    if !value.item().is_table() {
        let text = value.word()?;
        return match text.strip_prefix("ingress:") {
            Some(name) => Some(Allow::Ingress(NodeName::from(name))),
            None => origin(value, &text, false),
        };
    }
    let section = value.section("an element of `allow`")?;
    let private = section.or("private", false, Value::boolean);
    let origin = section.need("origin", |value| {
        let text = value.word()?;
        origin(value, &text, private.unwrap_or(false))
    });
    section.finish();
    private.and(origin)
}

fn origin(value: &Value<'_>, text: &str, private: bool) -> Option<Allow> {
    let wrong = || {
        let message = format!("`{text}` is no origin");
        let help = "\"https://host\", \"http://host:port\", \"https://*.suffix\" or \
                    \"ingress:NAME\"";
        value.fail(Diagnostic::new(message).help(help.to_owned()))
    };
    let Some((scheme, rest)) = text.split_once("://") else { return wrong() };
    let (wildcard, bare) = match rest.strip_prefix("*.") {
        Some(bare) => ("*.", bare),
        None => ("", rest),
    };
    let Ok(url) = reqwest::Url::parse(&format!("{scheme}://{bare}")) else { return wrong() };
    let is_bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let is_known = scheme == "http" || scheme == "https";
    match url.host_str() {
        Some(host) if is_known && is_bare => Some(Allow::Origin {
            scheme: scheme.to_owned(),
            host: format!("{wildcard}{host}"),
            port: url.port(),
            private,
        }),
        _ => wrong(),
    }
}

/// `type = "unarchive"`.
pub(super) fn unarchive(section: &Section<'_>) -> Option<Config> {
    let limits = section.or("limits", ArchiveLimits::default(), limits);
    let index = section.maybe("index", index);
    let members = section.maybe("members", programs::key);
    let prepare = section.maybe("prepare", programs::map);
    let has_index = section.value("index").is_some();
    if let Some(prepare) = section.value("prepare").filter(|_| !has_index) {
        let message = "`prepare` completes an index, and there is no `index`";
        section.report(Diagnostic::new(message).at(prepare.key_span()));
        return None;
    }
    Some(Config::Unarchive(Unarchive {
        limits: limits?,
        index: index?,
        members: members?,
        prepare: prepare?,
    }))
}

fn limits(value: &Value<'_>) -> Option<ArchiveLimits> {
    let section = value.section("`limits`")?;
    let or = ArchiveLimits::default();
    let whole = |value: &Value<'_>| u64::try_from(value.integer(1..=i64::MAX)?).ok();
    let entries = section.or("entries", or.entries, whole);
    let entry = section.or("entry", or.entry, Value::size);
    let total = section.or("total", or.total, Value::size);
    let ratio = section.or("ratio", or.ratio, whole);
    let time = section.or("time", or.time, Value::duration);
    section.finish();
    Some(ArchiveLimits {
        entries: entries?,
        entry: entry?,
        total: total?,
        ratio: ratio?,
        time: time?,
    })
}

fn index(value: &Value<'_>) -> Option<ArchiveIndex> {
    let section = value.section("`index`")?;
    let name = section.need("name", Value::word);
    let max_bytes = section.or("max_bytes", DEFAULT_INDEX_BYTES, Value::size);
    let field = section.need("as", names::identifier_in);
    section.finish();
    Some(ArchiveIndex { name: name?, max_bytes: max_bytes?, field: field? })
}

/// `type = "aggregate"`.
pub(super) fn aggregate(section: &Section<'_>) -> Option<Config> {
    let by = section.or("by", Vec::new(), |value| value.each(Value::word));
    let columns = section.need("columns", |value| {
        let section = value.section("`columns`")?;
        let read: Vec<Option<AggregateColumn>> =
            section.entries().iter().map(aggregate_column).collect();
        if read.is_empty() {
            return value.fail(Diagnostic::new("`columns` is empty"));
        }
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let max_groups = section.or("max_groups", DEFAULT_MAX_GROUPS, |value| value.count(1));
    let (by, columns) = (by?, columns?);
    if let Some(twice) = columns.iter().find(|column| by.contains(&column.name)) {
        let message = format!("`{}` is a group column and a result column", twice.name);
        section.report(Diagnostic::new(message));
        return None;
    }
    Some(Config::Aggregate(Aggregate { by, columns, max_groups: max_groups? }))
}

/// `name = { sum = "column" }`.
fn aggregate_column(entry: &Value<'_>) -> Option<AggregateColumn> {
    const FUNCTIONS: [(&str, AggregateFunction); 5] = [
        ("sum", AggregateFunction::Sum),
        ("min", AggregateFunction::Min),
        ("max", AggregateFunction::Max),
        ("count", AggregateFunction::Count),
        ("distinct", AggregateFunction::Distinct),
    ];
    let section = entry.section(format!("`{}`", entry.key()))?;
    let given: Vec<(AggregateFunction, Value<'_>)> = FUNCTIONS
        .iter()
        .filter_map(|&(name, function)| Some((function, section.value(name)?)))
        .collect();
    section.finish();
    let [(function, value)] = given.as_slice() else {
        let message = format!("`{}` needs one function", entry.key());
        let help = "one of sum, min, max, count and distinct: { sum = \"column\" }".to_owned();
        return entry.fail(Diagnostic::new(message).help(help));
    };
    let column = value.word()?;
    let column = match (function, column.as_str()) {
        (AggregateFunction::Count, "*") => None,
        (AggregateFunction::Count, _) => {
            let message = "`count` counts rows: write { count = \"*\" }";
            return value.fail(Diagnostic::new(message));
        }
        _ => Some(column),
    };
    Some(AggregateColumn { name: entry.key().to_owned(), function: *function, column })
}
