//! The columns of one file: its header under a plan.
//!
//! Responsible for: finding the schema that fits, giving every column a name of its own, and the
//! Arrow schema of the batches.
//! Not responsible for: values (`batch`).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};

use crate::columnar::plan::{CsvSettings, Derivation, Kind, Schema};

/// Most columns of a file: each costs buffers, whether or not it holds anything.
pub const MAX_COLUMNS: usize = 1000;
/// The zone of every instant.
pub const UTC: &str = "UTC";

/// A column of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FileColumn {
    /// Its type.
    pub kind: Kind,
    /// Rows whose value is above it are left out.
    pub above: Option<f64>,
}

/// A header under a plan. Batches have the columns of the file in their order, then the derived
/// ones.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Which of the plan's schemas fits.
    pub schema: usize,
    /// The columns of the file.
    pub columns: Vec<FileColumn>,
    /// Of each derived column of the plan, the file column that it is computed from.
    pub sources: Vec<usize>,
    /// Schema of the batches.
    pub arrow: SchemaRef,
}

impl Layout {
    /// The layout of a file with this header, or `None` if no schema fits.
    pub fn of(settings: &CsvSettings, header: &[String]) -> Option<Self> {
        let (index, schema) = settings.schemas.iter().enumerate().find(|(_, schema)| {
            schema.columns.iter().all(|column| header.contains(&column.name))
        })?;
        let names = names(settings, schema, header);
        let columns: Vec<_> = names.iter().map(|name| file_column(schema, name)).collect();
        let position = |name: &str| names.iter().position(|candidate| candidate == name);
        let sources =
            settings.derive.iter().map(|d| position(d.from.column())).collect::<Option<_>>()?;
        let of_file = names.iter().zip(&columns).map(|(name, column)| match column.kind {
            Kind::Text => Field::new(name, DataType::Utf8, false),
            Kind::Double => Field::new(name, DataType::Float64, false),
            Kind::Instant => Field::new(name, instant_type(), true),
        });
        let derived = settings.derive.iter().map(|derived| match derived.from {
            Derivation::Date { .. } => Field::new(&derived.name, DataType::Date32, true),
            Derivation::Format { .. } => Field::new(&derived.name, DataType::Utf8, true),
        });
        let fields: Vec<Field> = of_file.chain(derived).collect();
        Some(Self { schema: index, columns, sources, arrow: Arc::new(ArrowSchema::new(fields)) })
    }

    /// Number of fields of the header.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Name of a file column in the batches.
    pub fn name(&self, column: usize) -> &str {
        self.arrow.field(column).name()
    }
}

/// The Arrow type of an instant.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()))
}

/// Gives each column a name of its own: a name that was there before, or that a derived column
/// has, gets a number behind it, a column without a name is called by its place.
fn names(settings: &CsvSettings, schema: &Schema, header: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> =
        settings.derive.iter().map(|derived| derived.name.clone()).collect();
    // A made-up name must not stand in the way of a declared column further right.
    let reserved: HashSet<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let mut names = Vec::with_capacity(header.len());
    for (index, given) in header.iter().enumerate() {
        let plain = if given.is_empty() { format!("column_{}", index + 1) } else { given.clone() };
        let mut name = plain.clone();
        let mut number = 0u32;
        while taken.contains(&name) || (name != *given && reserved.contains(name.as_str())) {
            number += 1;
            name = format!("{plain}.{number}");
        }
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

fn file_column(schema: &Schema, name: &str) -> FileColumn {
    let declared = schema.columns.iter().find(|column| column.name == name);
    let bound = schema.bound.as_ref().filter(|bound| bound.columns.iter().any(|c| c == name));
    FileColumn {
        kind: declared.map_or(Kind::Text, |column| column.kind),
        above: bound.map(|bound| bound.above),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columnar::plan::{Bound, Column, Derived};

    fn settings() -> CsvSettings {
        let schema = |name: &str, columns: &[(&str, Kind)]| Schema {
            name: name.into(),
            columns: columns
                .iter()
                .map(|(name, kind)| Column { name: (*name).into(), kind: *kind })
                .collect(),
            bound: Some(Bound { above: 9.0, columns: vec!["cost".into()] }),
        };
        CsvSettings {
            schemas: vec![
                schema(
                    "narrow",
                    &[("at", Kind::Instant), ("cost", Kind::Double), ("x", Kind::Text)],
                ),
                schema("wide", &[("at", Kind::Instant), ("cost", Kind::Double)]),
            ],
            delimiter: b',',
            cut_long_rows: false,
            bad_double: None,
            instant_format: "%s".into(),
            derive: vec![Derived {
                name: "day".into(),
                from: Derivation::Date { column: "at".into() },
            }],
            batch_rows: 1,
            max_row_bytes: 1,
        }
    }

    fn layout(header: &[&str]) -> Option<Layout> {
        let header: Vec<_> = header.iter().map(|name| (*name).to_owned()).collect();
        Layout::of(&settings(), &header)
    }

    fn names_of(layout: &Layout) -> Vec<&str> {
        layout.arrow.fields().iter().map(|field| field.name().as_str()).collect()
    }

    #[test]
    fn the_first_schema_whose_columns_are_all_there_fits() {
        assert_eq!(layout(&["cost", "at", "x"]).unwrap().schema, 0);
        assert_eq!(layout(&["cost", "at", "y"]).unwrap().schema, 1);
        assert!(layout(&["cost", "y"]).is_none());
        assert!(layout(&["Cost", "at "]).is_none(), "names are compared as they stand");
    }

    #[test]
    fn further_columns_stay_text_in_the_order_of_the_file() {
        let layout = layout(&["y", "cost", "at"]).unwrap();
        assert_eq!(names_of(&layout), ["y", "cost", "at", "day"]);
        let types: Vec<_> = layout.arrow.fields().iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Float64, instant_type(), DataType::Date32]);
        assert_eq!(layout.sources, [2]);
        assert_eq!(layout.columns[1].above, Some(9.0));
        assert_eq!(layout.columns[0].above, None);
    }

    #[test]
    fn every_column_gets_a_name_of_its_own() {
        let layout = layout(&["cost", "at", "cost", "", "day", "cost.1"]).unwrap();
        assert_eq!(
            names_of(&layout),
            ["cost", "at", "cost.1", "column_4", "day.1", "cost.1.1", "day"]
        );
        let texts = layout.columns.iter().filter(|column| column.kind == Kind::Text).count();
        assert_eq!(texts, 4, "the second column of a name is further text");
    }
}
