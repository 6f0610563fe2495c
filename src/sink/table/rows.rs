//! Records as rows of declared columns.
//!
//! Responsible for: values of fields as the declared types want them, where that loses nothing;
//! projecting columns; columns that programs set.
//! Not responsible for: what a store makes of the columns of a batch: it casts what can be cast
//! without loss, and refuses the rest.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder,
    RecordBatchOptions, StringBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use vrl::value::Value;

use crate::columnar::instant::day_of;
use crate::columnar::layout::UTC;
use crate::expr::fields;
use crate::state::ColumnType;

/// Bytes that a value without text takes, roughly.
const VALUE_BYTES: usize = 16;
/// Whole doubles up to this size are integers without loss.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Collects the values of one column.
#[derive(Debug)]
enum ColumnBuilder {
    Text(StringBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Date(Date32Builder),
    Instant(TimestampMillisecondBuilder),
    Json(StringBuilder),
}

impl ColumnBuilder {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Int => Self::Int(Int64Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Instant => {
                Self::Instant(TimestampMillisecondBuilder::new().with_timezone(UTC))
            }
            ColumnType::Json => Self::Json(StringBuilder::new()),
        }
    }

    /// Adds a value; returns the bytes of its text. An error says what the column wants.
    fn append(&mut self, value: &Value) -> Result<usize, &'static str> {
        match self {
            Self::Text(column) => return Ok(append_text(column, text(value))),
            Self::Json(column) => return Ok(append_text(column, json(value))),
            Self::Int(column) => column.append_option(typed(value, int, "an integer")?),
            Self::Double(column) => column.append_option(typed(value, double, "a number")?),
            Self::Bool(column) => column.append_option(typed(value, boolean, "true or false")?),
            Self::Date(column) => {
                column.append_option(typed(value, date, "a day such as 2025-03-10")?);
            }
            Self::Instant(column) => {
                let wanted = "an instant such as 2025-03-10T00:00:00Z";
                column.append_option(typed(value, instant, wanted)?);
            }
        }
        Ok(0)
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(column) | Self::Json(column) => Arc::new(column.finish()),
            Self::Int(column) => Arc::new(column.finish()),
            Self::Double(column) => Arc::new(column.finish()),
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Date(column) => Arc::new(column.finish()),
            Self::Instant(column) => Arc::new(column.finish()),
        }
    }
}

fn append_text(column: &mut StringBuilder, text: Option<String>) -> usize {
    let bytes = text.as_ref().map_or(0, String::len);
    column.append_option(text);
    bytes
}

/// Null stays null; a value that `read` does not take is an error.
fn typed<T>(
    value: &Value,
    read: impl Fn(&Value) -> Option<T>,
    wanted: &'static str,
) -> Result<Option<T>, &'static str> {
    if value.is_null() {
        return Ok(None);
    }
    read(value).map(Some).ok_or(wanted)
}

/// Any value has a text; that of an object or an array is JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Timestamp(at) => Some(instant_text(at.timestamp_millis())),
        other => match other.to_str_lossy() {
            Some(text) => Some(text.into_owned()),
            None => json(other),
        },
    }
}

fn instant_text(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| at.to_string())
}

fn json(value: &Value) -> Option<String> {
    let some = !value.is_null();
    some.then(|| String::from_utf8_lossy(&fields::to_json(value)).into_owned())
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Float(number) => {
            let number = number.into_inner();
            (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
        }
        _ => None,
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(number.into_inner()),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(value) => Some(*value),
        _ => None,
    }
}

fn date(value: &Value) -> Option<i32> {
    let millis = match value {
        Value::Timestamp(at) => at.timestamp_millis(),
        other => {
            let day: Date = other.to_str()?.parse().ok()?;
            day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()
        }
    };
    Some(day_of(millis))
}

fn instant(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(at) => Some(at.timestamp_millis()),
        other => {
            let at: Timestamp = other.to_str()?.parse().ok()?;
            Some(at.as_millisecond())
        }
    }
}

/// The rows of one scope.
#[derive(Debug, Default)]
pub(super) struct RowBuffer {
    columns: Vec<(String, ColumnType)>,
    builders: Vec<ColumnBuilder>,
    /// Rows in the builders.
    building: usize,
    batches: Vec<RecordBatch>,
}

impl RowBuffer {
    /// An empty one for these columns.
    pub(super) fn new(columns: &[(String, ColumnType)]) -> Self {
        let builders = columns.iter().map(|(_, kind)| ColumnBuilder::new(*kind)).collect();
        Self { columns: columns.to_vec(), builders, building: 0, batches: Vec::new() }
    }

    /// Adds the fields of a record as one row; returns the bytes it takes, roughly. `set` holds
    /// values by column that take the place of the record's. After an error the buffer is of no
    /// use any more.
    pub(super) fn push(&mut self, fields: &Value, set: &[(usize, Value)]) -> Result<usize, String> {
        let Some(object) = fields.as_object() else {
            return Err("the record is no object with a field for each column".to_owned());
        };
        let mut bytes = 0;
        for (index, (name, _)) in self.columns.iter().enumerate() {
            let value = set_value(set, index).or_else(|| object.get(name.as_str()));
            let added = self.builders[index].append(value.unwrap_or(&Value::Null));
            bytes += VALUE_BYTES + added.map_err(|wanted| unfit(name, wanted))?;
        }
        self.building += 1;
        Ok(bytes)
    }

    /// Adds the rows of a batch; returns the bytes they take, roughly. Columns that are not
    /// declared are left out, those that the batch lacks are null.
    pub(super) fn push_columns(
        &mut self,
        rows: &RecordBatch,
        set: &[(usize, Value)],
    ) -> Result<usize, String> {
        if rows.num_rows() == 0 {
            return Ok(0);
        }
        self.close_batch()?;
        let mut taken = Vec::with_capacity(self.columns.len());
        let mut bytes = 0;
        for (index, (name, kind)) in self.columns.iter().enumerate() {
            let column = match set_value(set, index) {
                Some(value) => Some(constant(*kind, value, rows.num_rows(), name)?),
                None => rows.column_by_name(name).cloned(),
            };
            if let Some(column) = column {
                bytes += slice_bytes(&column);
                taken.push((name.as_str(), column));
            }
        }
        let batch = batch_of(taken, rows.num_rows()).map_err(|error| error.to_string())?;
        self.batches.push(batch);
        Ok(bytes)
    }

    /// All rows, in order; no batch is empty.
    pub(super) fn finish(mut self) -> Result<Vec<RecordBatch>, String> {
        self.close_batch()?;
        Ok(self.batches)
    }

    fn close_batch(&mut self) -> Result<(), String> {
        if self.building == 0 {
            return Ok(());
        }
        let names = self.columns.iter().map(|(name, _)| name.as_str());
        let columns = names.zip(self.builders.iter_mut().map(ColumnBuilder::finish)).collect();
        let batch = batch_of(columns, self.building).map_err(|error| error.to_string())?;
        self.batches.push(batch);
        self.building = 0;
        Ok(())
    }
}

fn set_value(set: &[(usize, Value)], column: usize) -> Option<&Value> {
    set.iter().find(|(index, _)| *index == column).map(|(_, value)| value)
}

fn unfit(column: &str, wanted: &str) -> String {
    format!("the value of column {column} is not {wanted}")
}

/// A column with the same value in every row.
fn constant(kind: ColumnType, value: &Value, rows: usize, name: &str) -> Result<ArrayRef, String> {
    let mut column = ColumnBuilder::new(kind);
    for _ in 0..rows {
        column.append(value).map_err(|wanted| unfit(name, wanted))?;
    }
    Ok(column.finish())
}

fn batch_of(columns: Vec<(&str, ArrayRef)>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}

/// Bytes of the values that a column shows, however large what it is a slice of.
fn slice_bytes(column: &ArrayRef) -> usize {
    let whole = column.get_array_memory_size();
    column.to_data().get_slice_memory_size().unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{Date32Type, Int64Type, TimestampMillisecondType};

    use super::*;

    fn columns(columns: &[(&str, ColumnType)]) -> RowBuffer {
        let columns: Vec<_> =
            columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        RowBuffer::new(&columns)
    }

    fn tree(json: &str) -> Value {
        fields::parse(json.as_bytes()).unwrap()
    }

    fn only(buffer: RowBuffer) -> RecordBatch {
        let mut batches = buffer.finish().unwrap();
        assert_eq!(batches.len(), 1);
        batches.remove(0)
    }

    #[test]
    fn each_type_takes_what_it_holds_without_loss() {
        let mut buffer = columns(&[
            ("t", ColumnType::Text),
            ("i", ColumnType::Int),
            ("d", ColumnType::Date),
            ("at", ColumnType::Instant),
            ("j", ColumnType::Json),
        ]);
        let row = r#"{"t":7,"i":3.0,"d":"1970-01-03","at":"1970-01-01T01:00:00+01:00","j":[1]}"#;
        buffer.push(&tree(row), &[]).unwrap();
        buffer.push(&tree("{}"), &[]).unwrap();
        let batch = only(buffer);
        assert_eq!(batch.column(0).as_string::<i32>().value(0), "7");
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), 3);
        assert_eq!(batch.column(2).as_primitive::<Date32Type>().value(0), 2);
        assert_eq!(batch.column(3).as_primitive::<TimestampMillisecondType>().value(0), 0);
        assert_eq!(batch.column(4).as_string::<i32>().value(0), "[1]");
        assert!(batch.columns().iter().all(|column| column.is_null(1)), "missing is null");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_column() {
        let table = [
            (ColumnType::Int, "0.5"),
            (ColumnType::Int, "\"3\""),
            (ColumnType::Double, "\"x\""),
            (ColumnType::Bool, "1"),
            (ColumnType::Date, "\"yesterday\""),
            (ColumnType::Instant, "5"),
        ];
        for (kind, value) in table {
            let row = tree(&format!("{{\"c\":{value}}}"));
            let error = columns(&[("c", kind)]).push(&row, &[]).unwrap_err();
            assert!(error.contains("column c"), "{error}");
        }
        assert!(columns(&[("c", ColumnType::Int)]).push(&tree("[1]"), &[]).is_err());
    }

    #[test]
    fn columns_are_found_by_name_and_what_is_set_takes_their_place() {
        let mut buffer = columns(&[
            ("kind", ColumnType::Text),
            ("hours", ColumnType::Int),
            ("missing", ColumnType::Int),
        ]);
        let hours: ArrayRef = Arc::new(Int64Array::from(vec![4, 5]));
        let other: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let rows = RecordBatch::try_from_iter([("hours", hours), ("other", other)]).unwrap();
        buffer.push_columns(&rows, &[(0, Value::from("pod"))]).unwrap();
        let batch = only(buffer);
        let names: Vec<_> =
            batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["kind", "hours"]);
        assert_eq!(batch.column(0).as_string::<i32>().value(1), "pod");
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().values(), &[4, 5]);
    }

    #[test]
    fn rows_and_batches_keep_their_order() {
        let mut buffer = columns(&[("n", ColumnType::Int)]);
        buffer.push(&tree(r#"{"n":1}"#), &[]).unwrap();
        let two: ArrayRef = Arc::new(Int64Array::from(vec![2]));
        buffer.push_columns(&RecordBatch::try_from_iter([("n", two)]).unwrap(), &[]).unwrap();
        buffer.push(&tree(r#"{"n":3}"#), &[]).unwrap();
        let numbers: Vec<i64> = buffer
            .finish()
            .unwrap()
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
}
