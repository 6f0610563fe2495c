//! Rows of text to typed batches.
//!
//! Responsible for: deciding for each row whether it stays, casting its fields, mending what
//! cannot be cast, and counting both.
//! Not responsible for: splitting text into rows (`rows`), or which types columns have
//! (`layout`).

use std::collections::BTreeMap;
use std::mem::replace;
use std::sync::Arc;

use arrow::array::TimestampMillisecondBuilder;
use arrow::array::{ArrayRef, Date32Builder, Float64Array, StringBuilder};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columnar::Parsed;
use crate::columnar::derive::InstantFormat;
use crate::columnar::double;
use crate::columnar::instant::{InstantParser, day_of};
use crate::columnar::layout::{Layout, UTC};
use crate::columnar::plan::{CsvPlan, CsvSettings, Derivation, Kind};
use crate::columnar::rows::Row;
use crate::columnar::text::TextBuilder;
use crate::model::event::MemberFacts;

/// A batch is cut when its fields have this many bytes, however few rows they are.
pub const BATCH_BYTES: usize = 8 << 20;

/// Reason for leaving out a row with more fields than the header.
pub const LONG_ROW: &str = "long_row";
/// Note on a row with fewer fields than the header, whose missing fields were taken as empty.
pub const SHORT_ROW: &str = "short_row";
/// Reason for leaving out a row with a value above its bound.
pub const OVER_CAP: &str = "over_cap";
/// Reason for leaving out a row with a double that is none, where nothing takes its place.
pub const BAD_DOUBLE: &str = "bad_double";

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the batch.
    Kept,
    /// It is in the batch, with fields filled in or cut off.
    Mended(&'static str),
    /// It was left out.
    Rejected(&'static str),
}

/// Counts of what was left out and mended.
#[derive(Debug, Default)]
struct Tally {
    rejected: BTreeMap<&'static str, u64>,
    /// Rows that were mended as such.
    mended_rows: BTreeMap<&'static str, u64>,
    /// Values that were mended, by column.
    mended: Vec<u64>,
}

/// Collects the values of one file column.
#[derive(Debug)]
enum FieldBuilder {
    Text(TextBuilder),
    Double { values: Vec<f64>, slot: usize },
    Instant { values: TimestampMillisecondBuilder, parser: InstantParser, slot: usize },
}

/// Collects the values of one derived column.
#[derive(Debug)]
enum DerivedBuilder {
    Date(Date32Builder),
    Format(StringBuilder, InstantFormat),
}

/// A double column, which has to be read before it is known whether the row stays.
#[derive(Debug)]
struct DoubleField {
    column: usize,
    above: Option<f64>,
    value: f64,
    bad: bool,
}

/// Builds the batches of one file.
#[derive(Debug)]
pub struct BatchBuilder {
    plan: Arc<CsvPlan>,
    layout: Layout,
    fields: Vec<FieldBuilder>,
    derived: Vec<DerivedBuilder>,
    doubles: Vec<DoubleField>,
    /// Of each instant column, its value in the current row.
    instants: Vec<Option<i64>>,
    /// Of each derived column, the slot in `instants` that it is computed from.
    sources: Vec<usize>,
    tally: Tally,
    rows: usize,
    bytes: usize,
}

impl BatchBuilder {
    /// A builder for a file of this layout. Fails if a derived format cannot be printed, which a
    /// plan rules out.
    pub fn new(plan: Arc<CsvPlan>, layout: Layout) -> Result<Self, ArrowError> {
        let settings = plan.settings();
        let rows = settings.batch_rows;
        let mut doubles = Vec::new();
        let mut instant_slots = vec![None; layout.width()];
        let mut instants = Vec::new();
        let mut fields = Vec::with_capacity(layout.width());
        for (column, file_column) in layout.columns.iter().enumerate() {
            fields.push(match file_column.kind {
                Kind::Text => FieldBuilder::Text(TextBuilder::with_rows(rows)),
                Kind::Double => {
                    let above = file_column.above;
                    doubles.push(DoubleField { column, above, value: 0.0, bad: false });
                    let slot = doubles.len() - 1;
                    FieldBuilder::Double { values: Vec::with_capacity(rows), slot }
                }
                Kind::Instant => {
                    instant_slots[column] = Some(instants.len());
                    instants.push(None);
                    let parser = InstantParser::new(&settings.instant_format);
                    let slot = instants.len() - 1;
                    FieldBuilder::Instant { values: instant_builder(rows), parser, slot }
                }
            });
        }
        let derived = derived_builders(settings)?;
        let sources = layout.sources.iter().filter_map(|column| instant_slots[*column]).collect();
        let tally = Tally { mended: vec![0; layout.width()], ..Tally::default() };
        let (rows, bytes) = (0, 0);
        Ok(Self { plan, layout, fields, derived, doubles, instants, sources, tally, rows, bytes })
    }

    /// The layout of the file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Rows in the batch so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the batch is due.
    pub fn is_full(&self) -> bool {
        self.rows >= self.plan.settings().batch_rows || self.bytes >= BATCH_BYTES
    }

    /// Adds a row, unless it has to be left out.
    pub fn push(&mut self, row: Row<'_>) -> Verdict {
        let verdict = self.judge(row);
        match verdict {
            Verdict::Rejected(reason) => {
                *self.tally.rejected.entry(reason).or_default() += 1;
                return verdict;
            }
            Verdict::Mended(what) => *self.tally.mended_rows.entry(what).or_default() += 1,
            Verdict::Kept => {}
        }
        self.append(row);
        verdict
    }

    /// Decides about a row, and reads its doubles for that.
    fn judge(&mut self, row: Row<'_>) -> Verdict {
        let settings = self.plan.settings();
        let width = self.layout.width();
        if row.len() > width && !settings.cut_long_rows {
            return Verdict::Rejected(LONG_ROW);
        }
        for double in &mut self.doubles {
            let parsed = double::parse(row.field(double.column));
            double.bad = parsed == Parsed::Bad;
            double.value = match (parsed, settings.bad_double) {
                (Parsed::Value(value), _) => value,
                (Parsed::Empty | Parsed::Bad, Some(substitute)) => substitute,
                (Parsed::Empty | Parsed::Bad, None) => return Verdict::Rejected(BAD_DOUBLE),
            };
            if double.above.is_some_and(|above| double.value > above) {
                return Verdict::Rejected(OVER_CAP);
            }
        }
        match row.len().cmp(&width) {
            std::cmp::Ordering::Less => Verdict::Mended(SHORT_ROW),
            std::cmp::Ordering::Equal => Verdict::Kept,
            std::cmp::Ordering::Greater => Verdict::Mended(LONG_ROW),
        }
    }

    fn append(&mut self, row: Row<'_>) {
        for (column, builder) in self.fields.iter_mut().enumerate() {
            match builder {
                FieldBuilder::Text(values) => values.push(row.field(column)),
                FieldBuilder::Double { values, slot } => {
                    let double = &self.doubles[*slot];
                    values.push(double.value);
                    self.tally.mended[column] += u64::from(double.bad);
                }
                FieldBuilder::Instant { values, parser, slot } => {
                    let value = match parser.parse(row.field(column)) {
                        Parsed::Value(millis) => Some(millis),
                        Parsed::Empty => None,
                        Parsed::Bad => {
                            self.tally.mended[column] += 1;
                            None
                        }
                    };
                    values.append_option(value);
                    self.instants[*slot] = value;
                }
            }
        }
        for (builder, slot) in self.derived.iter_mut().zip(&self.sources) {
            let instant = self.instants[*slot];
            match builder {
                DerivedBuilder::Date(days) => days.append_option(instant.map(day_of)),
                DerivedBuilder::Format(texts, format) => {
                    texts.append_option(instant.and_then(|millis| format.text(millis)));
                }
            }
        }
        self.rows += 1;
        // Fields that were cut off count too, which only makes the batch smaller.
        self.bytes += row.bytes();
    }

    /// The batch; the builder goes on with the next one.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = self.plan.settings().batch_rows;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.layout.arrow.fields().len());
        for (column, builder) in self.fields.iter_mut().enumerate() {
            arrays.push(match builder {
                FieldBuilder::Text(values) => {
                    let (array, mended) = values.finish()?;
                    self.tally.mended[column] += mended;
                    Arc::new(array)
                }
                FieldBuilder::Double { values, .. } => {
                    Arc::new(Float64Array::from(replace(values, Vec::with_capacity(rows))))
                }
                FieldBuilder::Instant { values, .. } => {
                    Arc::new(replace(values, instant_builder(rows)).finish())
                }
            });
        }
        for builder in &mut self.derived {
            arrays.push(match builder {
                DerivedBuilder::Date(days) => Arc::new(days.finish()),
                DerivedBuilder::Format(texts, _) => Arc::new(texts.finish()),
            });
        }
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new(self.layout.arrow.clone(), arrays)
    }

    /// What was left out and mended so far. Bytes that are no UTF-8 count once their batch is
    /// finished.
    pub fn facts(&self) -> MemberFacts {
        let owned = |(reason, count): (&&str, &u64)| ((*reason).to_owned(), *count);
        let mut mended: BTreeMap<String, u64> = self.tally.mended_rows.iter().map(owned).collect();
        for (column, count) in self.tally.mended.iter().enumerate() {
            if *count > 0 {
                *mended.entry(self.layout.name(column).to_owned()).or_default() += count;
            }
        }
        let rejected = self.tally.rejected.iter().map(owned).collect();
        MemberFacts { rejected, mended, ..MemberFacts::default() }
    }
}

fn instant_builder(rows: usize) -> TimestampMillisecondBuilder {
    TimestampMillisecondBuilder::with_capacity(rows).with_timezone(UTC)
}

fn derived_builders(settings: &CsvSettings) -> Result<Vec<DerivedBuilder>, ArrowError> {
    let builder = |derived: &Derivation| match derived {
        Derivation::Date { .. } => Ok(DerivedBuilder::Date(Date32Builder::new())),
        Derivation::Format { format, .. } => InstantFormat::new(format)
            .map(|format| DerivedBuilder::Format(StringBuilder::new(), format))
            .map_err(|error| ArrowError::ExternalError(Box::new(error))),
    };
    settings.derive.iter().map(|derived| builder(&derived.from)).collect()
}
