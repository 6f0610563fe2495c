//! What a CSV file is read as: declared schemas and rules, checked once.
//!
//! Responsible for: the settings of the reader and the errors of settings that contradict
//! themselves.
//! Not responsible for: the columns of a real file (`layout`).

use std::sync::Arc;

use crate::columnar::derive::InstantFormat;

/// Type of a declared column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// 64-bit float.
    Double,
    /// UTC timestamp in milliseconds.
    Instant,
}

/// A declared column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// Leaves out rows in which one of the columns is above the bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The bound; equal to it is not above.
    pub above: f64,
    /// Double columns that are looked at.
    pub columns: Vec<String>,
}

/// A declared schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Its name.
    pub name: Arc<str>,
    /// Columns that have to be there.
    pub columns: Vec<Column>,
    /// Which rows to leave out.
    pub bound: Option<Bound>,
}

/// How a derived column is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// The UTC day of an instant column.
    Date {
        /// The instant column.
        column: String,
    },
    /// An instant column in a strftime format, in UTC.
    Format {
        /// The instant column.
        column: String,
        /// The format.
        format: String,
    },
}

impl Derivation {
    /// The column that it is computed from.
    pub fn column(&self) -> &str {
        match self {
            Self::Date { column } | Self::Format { column, .. } => column,
        }
    }
}

/// A column that is added to every schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its name.
    pub name: String,
    /// How it is computed.
    pub from: Derivation,
}

/// What the reader is told.
#[derive(Clone, Debug)]
pub struct CsvSettings {
    /// Schemas in the order in which they are tried.
    pub schemas: Vec<Schema>,
    /// Field separator.
    pub delimiter: u8,
    /// Whether fields beyond the header are cut off; otherwise the row is left out.
    pub cut_long_rows: bool,
    /// Takes the place of a double that is none; without it the row is left out.
    pub bad_double: Option<f64>,
    /// `strptime` format of instants.
    pub instant_format: String,
    /// Columns added to every schema.
    pub derive: Vec<Derived>,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Longest row in bytes.
    pub max_row_bytes: usize,
}

/// Settings that contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A schema declares a column twice.
    #[error("schema {schema} declares column {column} twice")]
    Repeated {
        /// The schema.
        schema: Arc<str>,
        /// The column.
        column: String,
    },
    /// A bound names something that is no double column.
    #[error("schema {schema} has no double column {column}, which its bound on rows names")]
    NoDouble {
        /// The schema.
        schema: Arc<str>,
        /// The column.
        column: String,
    },
    /// A derived column has the name of a declared or of another derived one.
    #[error("the derived column {column} has the name of another column of schema {schema}")]
    Taken {
        /// The schema.
        schema: Arc<str>,
        /// The column.
        column: String,
    },
    /// A derived column is computed from something that is no instant column.
    #[error("schema {schema} has no instant column {column}, from which {derived} is computed")]
    NoInstant {
        /// The schema.
        schema: Arc<str>,
        /// The column that is missing.
        column: String,
        /// The derived column.
        derived: String,
    },
    /// A strftime format that cannot be printed.
    #[error("the format {format:?} of the derived column {column} cannot be used: {why}")]
    Format {
        /// The derived column.
        column: String,
        /// The format.
        format: String,
        /// What is wrong with it.
        why: String,
    },
    /// A number that has to be at least one.
    #[error("{0} has to be at least 1")]
    Zero(&'static str),
    /// A separator that cannot separate.
    #[error("a quote or a line end cannot separate fields")]
    Delimiter,
}

/// Checked settings; shared by all readers of a node.
#[derive(Clone, Debug)]
pub struct CsvPlan(CsvSettings);

impl CsvPlan {
    /// Checks the settings.
    pub fn new(settings: CsvSettings) -> Result<Self, PlanError> {
        if settings.batch_rows == 0 {
            return Err(PlanError::Zero("batch_rows"));
        }
        if settings.max_row_bytes == 0 {
            return Err(PlanError::Zero("max_row_bytes"));
        }
        if matches!(settings.delimiter, b'"' | b'\r' | b'\n') {
            return Err(PlanError::Delimiter);
        }
        for derived in &settings.derive {
            check_format(derived)?;
        }
        for schema in &settings.schemas {
            check_columns(schema)?;
            check_derived(schema, &settings.derive)?;
        }
        Ok(Self(settings))
    }

    /// The settings.
    pub fn settings(&self) -> &CsvSettings {
        &self.0
    }
}

fn check_format(derived: &Derived) -> Result<(), PlanError> {
    let Derivation::Format { format, .. } = &derived.from else { return Ok(()) };
    InstantFormat::new(format).map(|_| ()).map_err(|why| PlanError::Format {
        column: derived.name.clone(),
        format: format.clone(),
        why: why.to_string(),
    })
}

fn check_columns(schema: &Schema) -> Result<(), PlanError> {
    for (index, column) in schema.columns.iter().enumerate() {
        if schema.columns[..index].iter().any(|earlier| earlier.name == column.name) {
            let column = column.name.clone();
            return Err(PlanError::Repeated { schema: schema.name.clone(), column });
        }
    }
    let bounded = schema.bound.iter().flat_map(|bound| &bound.columns);
    for column in bounded {
        if !has(schema, column, Kind::Double) {
            let column = column.clone();
            return Err(PlanError::NoDouble { schema: schema.name.clone(), column });
        }
    }
    Ok(())
}

fn check_derived(schema: &Schema, derive: &[Derived]) -> Result<(), PlanError> {
    for (index, derived) in derive.iter().enumerate() {
        let declared = schema.columns.iter().any(|column| column.name == derived.name);
        let repeated = derive[..index].iter().any(|earlier| earlier.name == derived.name);
        if declared || repeated {
            let column = derived.name.clone();
            return Err(PlanError::Taken { schema: schema.name.clone(), column });
        }
        if !has(schema, derived.from.column(), Kind::Instant) {
            return Err(PlanError::NoInstant {
                schema: schema.name.clone(),
                column: derived.from.column().to_owned(),
                derived: derived.name.clone(),
            });
        }
    }
    Ok(())
}

fn has(schema: &Schema, name: &str, kind: Kind) -> bool {
    schema.columns.iter().any(|column| column.name == name && column.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CsvSettings {
        let columns = vec![
            Column { name: "at".into(), kind: Kind::Instant },
            Column { name: "cost".into(), kind: Kind::Double },
        ];
        let bound = Some(Bound { above: 1.0, columns: vec!["cost".into()] });
        CsvSettings {
            schemas: vec![Schema { name: "s".into(), columns, bound }],
            delimiter: b',',
            cut_long_rows: false,
            bad_double: Some(0.0),
            instant_format: crate::columnar::instant::GO_FORMAT.into(),
            derive: vec![Derived {
                name: "day".into(),
                from: Derivation::Date { column: "at".into() },
            }],
            batch_rows: 10,
            max_row_bytes: 100,
        }
    }

    fn error(change: impl FnOnce(&mut CsvSettings)) -> PlanError {
        let mut settings = settings();
        change(&mut settings);
        CsvPlan::new(settings).unwrap_err()
    }

    #[test]
    fn settings_that_contradict_themselves_are_refused_by_name() {
        assert!(CsvPlan::new(settings()).is_ok());
        let schema: Arc<str> = "s".into();
        assert_eq!(error(|s| s.batch_rows = 0), PlanError::Zero("batch_rows"));
        assert_eq!(error(|s| s.max_row_bytes = 0), PlanError::Zero("max_row_bytes"));
        assert_eq!(error(|s| s.delimiter = b'"'), PlanError::Delimiter);
        let again = settings().schemas[0].columns[0].clone();
        assert_eq!(
            error(|s| s.schemas[0].columns.push(again)),
            PlanError::Repeated { schema: schema.clone(), column: "at".into() }
        );
        assert_eq!(
            error(|s| s.schemas[0].bound = Some(Bound { above: 1.0, columns: vec!["at".into()] })),
            PlanError::NoDouble { schema: schema.clone(), column: "at".into() }
        );
        assert_eq!(
            error(|s| s.derive[0].name = "cost".into()),
            PlanError::Taken { schema: schema.clone(), column: "cost".into() }
        );
        assert_eq!(
            error(|s| s.derive.push(s.derive[0].clone())),
            PlanError::Taken { schema: schema.clone(), column: "day".into() }
        );
        assert_eq!(
            error(|s| s.derive[0].from = Derivation::Date { column: "cost".into() }),
            PlanError::NoInstant { schema, column: "cost".into(), derived: "day".into() }
        );
    }

    #[test]
    fn a_format_that_cannot_be_printed_is_refused() {
        let format = Derivation::Format { column: "at".into(), format: "%Y-%".into() };
        let error = error(|s| s.derive[0].from = format);
        assert!(matches!(error, PlanError::Format { .. }), "{error}");
    }
}
