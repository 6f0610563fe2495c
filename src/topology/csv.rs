//! `[processors.NAME]` of type `csv`: a closed declarative set, because a program per row is too
//! slow.
//!
//! Responsible for: schemas, columns of every schema, derived columns and rows to be dropped.
//! Not responsible for: reading CSV (`processor`, `columnar`).

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::config::units;
use crate::processor::config::{
    ColumnKind, Config, Csv, CsvColumn, CsvSchema, Derived, DerivedFrom, DropRow, LongRows,
};
use crate::topology::ports::MOST_SCHEMAS;
use crate::topology::{names, nodes};

/// Format of instants where the topology does not say: RFC 3339 with a numeric offset.
const DEFAULT_INSTANT_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.f%:z";

/// Rows of a batch where the topology does not say.
const DEFAULT_BATCH_ROWS: usize = 8_192;

/// Longest row where the topology does not say.
const DEFAULT_MAX_ROW_BYTES: u64 = 1 << 20;

const KINDS: [(&str, ColumnKind); 3] =
    [("text", ColumnKind::Text), ("double", ColumnKind::Double), ("instant", ColumnKind::Instant)];

/// `type = "csv"`.
pub(super) fn read(section: &Section<'_>) -> Option<Config> {
    let every = section.or("every", Vec::new(), |value| {
        let section = value.section("`every`")?;
        let columns = typed(&section);
        section.finish();
        columns
    });
    let schemas =
        section.need("schemas", |value| schemas(value, every.as_deref().unwrap_or_default()));
    let delimiter = section.or("delimiter", b',', delimiter);
    let long_rows = section.or("long_rows", LongRows::default(), |value| {
        value.choice(&[("reject", LongRows::Reject), ("cut", LongRows::Cut)])
    });
    // One way each so far; named, so that a topology says what happens.
    let short_rows = section.or("short_rows", (), |value| value.choice(&[("fill", ())]));
    let unmatched = section.or("unmatched", (), |value| value.choice(&[("dead_letter", ())]));
    let bad_double = section.maybe("bad_double", Value::float);
    let instant_format =
        section.or("instant_format", DEFAULT_INSTANT_FORMAT.to_owned(), instant_format);
    let derive = section.or("derive", Vec::new(), |value| {
        let section = value.section("`derive`")?;
        let read: Vec<Option<Derived>> = section.entries().iter().map(derived).collect();
        read.into_iter().collect()
    });
    let batch_rows = section.or("batch_rows", DEFAULT_BATCH_ROWS, |value| value.count(1));
    let max_row_bytes = section.or("max_row_bytes", DEFAULT_MAX_ROW_BYTES, Value::size);
    short_rows.and(unmatched).and(every)?;
    let (schemas, derive) = (schemas?, derive?);
    check_derived(section, &schemas, &derive)?;
    Some(Config::Csv(Csv {
        schemas,
        delimiter: delimiter?,
        long_rows: long_rows?,
        bad_double: bad_double?,
        instant_format: instant_format?,
        derive,
        batch_rows: batch_rows?,
        max_row_bytes: usize::try_from(max_row_bytes?).ok()?,
    }))
}

/// Columns given as `text = […]`, `double = […]`, `instant = […]`.
fn typed(section: &Section<'_>) -> Option<Vec<CsvColumn>> {
    let mut columns: Vec<CsvColumn> = Vec::new();
    let mut is_sound = true;
    for (key, kind) in KINDS {
        let Some(value) = section.value(key) else { continue };
        let Some(names) = value.list() else {
            is_sound = false;
            continue;
        };
        for element in names {
            let Some(name) = element.word() else {
                is_sound = false;
                continue;
            };
            if columns.iter().any(|column| column.name == name) {
                element.fail::<()>(Diagnostic::new(format!("column `{name}` stands here twice")));
                is_sound = false;
            }
            columns.push(CsvColumn { name, kind });
        }
    }
    is_sound.then_some(columns)
}

fn schemas(value: &Value<'_>, every: &[CsvColumn]) -> Option<Vec<CsvSchema>> {
    let list = value.list()?;
    if list.is_empty() || list.len() > MOST_SCHEMAS {
        let message = format!("`schemas` has to have from 1 to {MOST_SCHEMAS} elements");
        return value.fail(Diagnostic::new(message));
    }
    let read: Vec<Option<CsvSchema>> = list.iter().map(|value| schema(value, every)).collect();
    let mut schemas: Vec<CsvSchema> = Vec::new();
    for (schema, value) in read.into_iter().zip(&list) {
        let schema = schema?;
        if let Some(earlier) = schemas.iter().find(|earlier| earlier.name == schema.name) {
            let message = format!("there are two schemas called `{}`", earlier.name);
            return value.fail(Diagnostic::new(message));
        }
        schemas.push(schema);
    }
    Some(schemas)
}

fn schema(value: &Value<'_>, every: &[CsvColumn]) -> Option<CsvSchema> {
    let section = value.section("a schema")?;
    let name = section.need("name", schema_name);
    let own = typed(&section);
    let columns = own.and_then(|own| with_every(&section, every, own));
    let doubles: Vec<&str> = columns
        .iter()
        .flatten()
        .filter(|column| column.kind == ColumnKind::Double)
        .map(|column| column.name.as_str())
        .collect();
    let drop_row = section.maybe("drop_row", |value| drop_row(value, &doubles));
    section.finish();
    Some(CsvSchema { name: name?, drop_row: drop_row?, columns: columns? })
}

/// A schema's name is a port and a part of paths; `rejected` is a port already.
fn schema_name(value: &Value<'_>) -> Option<String> {
    let name = value.word()?;
    let why = match names::node(&name) {
        Ok(()) if name != "rejected" => return Some(name),
        Ok(()) => "it is the port of rejected rows".to_owned(),
        Err(why) => why,
    };
    let message = format!("`{name}` cannot name a schema");
    value.fail(Diagnostic::new(message).label(why))
}

fn with_every(
    section: &Section<'_>,
    every: &[CsvColumn],
    own: Vec<CsvColumn>,
) -> Option<Vec<CsvColumn>> {
    if let Some(twice) = own.iter().find(|own| every.iter().any(|each| each.name == own.name)) {
        let message = format!("column `{}` is in `every` already", twice.name);
        section.report(Diagnostic::new(message));
        return None;
    }
    let columns: Vec<CsvColumn> = every.iter().cloned().chain(own).collect();
    if columns.is_empty() {
        section.report(Diagnostic::new("a schema without columns fits every file"));
        return None;
    }
    Some(columns)
}

/// `{ above = 1e18, in = ["*"], except = ["a"] }`; `*` stands for all doubles of the schema.
fn drop_row(value: &Value<'_>, doubles: &[&str]) -> Option<DropRow> {
    let section = value.section("`drop_row`")?;
    let above = section.need("above", Value::float);
    let column = |value: &Value<'_>| {
        let name = value.word()?;
        if name == "*" || doubles.contains(&name.as_str()) {
            return Some(name);
        }
        let message = format!("`{name}` is not a double of this schema");
        value.fail(Diagnostic::new(message).help(units::hint(&name, doubles)))
    };
    let within = section.need("in", |value| value.each(column));
    let except = section.or("except", Vec::new(), |value| value.each(column));
    section.finish();
    let (within, except) = (within?, except?);
    let is_named = |name: &str| within.iter().any(|named| named == "*" || named == name);
    let is_left_out = |name: &str| except.iter().any(|left_out| left_out == name);
    let columns = doubles.iter().filter(|name| is_named(name) && !is_left_out(name));
    Some(DropRow { above: above?, columns: columns.map(|name| (*name).to_owned()).collect() })
}

fn delimiter(value: &Value<'_>) -> Option<u8> {
    let text = value.text()?;
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Some(*byte),
        _ => value.not(&text, "one ASCII character, not a quote or a newline"),
    }
}

/// Tries the format on an instant: what it writes it has to read back.
fn instant_format(value: &Value<'_>) -> Option<String> {
    let format = value.text()?;
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let round = strtime::format(&format, &epoch).and_then(|text| strtime::parse(&format, &text));
    match round {
        Ok(_) => Some(format),
        Err(error) => {
            let message = format!("`{format}` is not a format of instants");
            value.fail(Diagnostic::new(message).label(error.to_string()))
        }
    }
}

/// `name = { date = "column" }` or `name = { format = "%Y", of = "column" }`.
fn derived(entry: &Value<'_>) -> Option<Derived> {
    nodes::names_or_report(entry);
    let section = entry.section(format!("`{}`", entry.key()))?;
    let date = section.maybe("date", Value::word);
    let format = section.maybe("format", output_format);
    let of = section.maybe("of", Value::word);
    section.finish();
    let from = match (date?, format?, of?) {
        (Some(column), None, None) => DerivedFrom::Date { column },
        (None, Some(format), Some(column)) => DerivedFrom::Format { column, format },
        _ => {
            let message = format!("`{}` is no derived column", entry.key());
            let help = "{ date = \"column\" }, or { format = \"%Y\", of = \"column\" }";
            return entry.fail(Diagnostic::new(message).help(help.to_owned()));
        }
    };
    Some(Derived { name: entry.key().to_owned(), from })
}

fn output_format(value: &Value<'_>) -> Option<String> {
    let format = value.text()?;
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    match strtime::format(&format, &epoch) {
        Ok(_) => Some(format),
        Err(error) => {
            let message = format!("`{format}` is not a format of instants");
            value.fail(Diagnostic::new(message).label(error.to_string()))
        }
    }
}

/// Derived columns are added to every schema, so every schema needs what they are made of.
fn check_derived(section: &Section<'_>, schemas: &[CsvSchema], derive: &[Derived]) -> Option<()> {
    let mut is_sound = Some(());
    for derived in derive {
        let (DerivedFrom::Date { column } | DerivedFrom::Format { column, .. }) = &derived.from;
        for schema in schemas {
            let why = match schema.columns.iter().find(|known| known.name == *column) {
                _ if schema.columns.iter().any(|known| known.name == derived.name) => {
                    format!("it has a column `{}` of its own", derived.name)
                }
                Some(known) if known.kind == ColumnKind::Instant => continue,
                Some(_) => format!("`{column}` is not an instant"),
                None => format!("it has no column `{column}`"),
            };
            let message =
                format!("`{}` cannot be derived in schema `{}`: {why}", derived.name, schema.name);
            let place = section.value("derive").map_or_else(|| section.span(), |v| v.span());
            section.report(Diagnostic::new(message).at(place));
            is_sound = None;
        }
    }
    is_sound
}
