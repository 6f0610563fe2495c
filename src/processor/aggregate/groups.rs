//! Groups of rows and what is computed of each.
//!
//! Responsible for: finding the group of a row without an allocation per row, putting values
//! together, and the resulting columns in the order in which groups first appeared.
//! Not responsible for: whose rows they are, or when groups leave.
//!
//! As in SQL, empty values take no part in a sum, a minimum, a maximum or a count of different
//! values, and a group without any has none of them. Rows without a value in a group column are a
//! group too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columnar::cell::{Cell, CellColumn, column, read_key};
use crate::processor::config::{Aggregate, AggregateColumn, AggregateFunction};

/// Bytes of group keys and different values held, beside the limit on their number: each may be as
/// long as a row.
const MAX_KEY_BYTES: usize = 32 << 20;

/// Why rows cannot be grouped.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A column that the settings name is not there.
    #[error("there is no column {column} to aggregate")]
    NoColumn {
        /// The column.
        column: String,
    },
    /// A column that is to be put together holds no numbers.
    #[error("column {column} holds no numbers to put together")]
    NoNumber {
        /// The column.
        column: String,
    },
    /// A column has a type that cannot be compared.
    #[error("column {column} cannot be grouped by or counted")]
    NoKey {
        /// The column.
        column: String,
    },
    /// Too many different values to count.
    #[error("more than {limit} different values to count, raise max_groups")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// The result cannot be put together, which is a fault of this module.
    #[error("building the columns of groups failed: {0}")]
    Batch(#[from] ArrowError),
}

/// What is computed, by group number.
enum State {
    Sum(Vec<Option<f64>>),
    Min(Vec<Option<f64>>),
    Max(Vec<Option<f64>>),
    Count(Vec<i64>),
    Distinct { counts: Vec<i64>, seen: HashSet<Box<[u8]>> },
}

/// Groups of rows of one schema.
pub struct Groups {
    by: Vec<String>,
    columns: Vec<AggregateColumn>,
    max_groups: usize,
    /// Types of the group columns.
    kinds: Vec<DataType>,
    result: SchemaRef,
    numbers: HashMap<Arc<[u8]>, u32>,
    /// By group number.
    keys: Vec<Arc<[u8]>>,
    states: Vec<State>,
    /// Bytes of keys and different values.
    key_bytes: usize,
    /// Reused: the group of each row of a batch, and the key of one row.
    row_groups: Vec<u32>,
    key: Vec<u8>,
}

impl Groups {
    /// No groups yet, of rows like those of `batch`.
    pub fn new(config: &Aggregate, batch: &RecordBatch) -> Result<Self, GroupError> {
        let mut kinds = Vec::with_capacity(config.by.len());
        let mut fields = Vec::with_capacity(config.by.len() + config.columns.len());
        for name in &config.by {
            let array = array(batch, name)?;
            kinds.push(array.data_type().clone());
            fields.push(Field::new(name, array.data_type().clone(), true));
        }
        for result in &config.columns {
            fields.push(match result.function {
                AggregateFunction::Sum | AggregateFunction::Min | AggregateFunction::Max => {
                    Field::new(&result.name, DataType::Float64, true)
                }
                AggregateFunction::Count | AggregateFunction::Distinct => {
                    Field::new(&result.name, DataType::Int64, false)
                }
            });
        }
        Ok(Self {
            by: config.by.clone(),
            columns: config.columns.clone(),
            max_groups: config.max_groups.max(1),
            kinds,
            result: Arc::new(Schema::new(fields)),
            numbers: HashMap::new(),
            keys: Vec::new(),
            states: config.columns.iter().map(|result| State::new(result.function)).collect(),
            key_bytes: 0,
            row_groups: Vec::new(),
            key: Vec::new(),
        })
    }

    /// Whether rows of this batch can be added: the group columns have the same types.
    pub fn fit(&self, batch: &RecordBatch) -> bool {
        self.by.iter().zip(&self.kinds).all(|(name, kind)| {
            batch.column_by_name(name).is_some_and(|array| array.data_type() == kind)
        })
    }

    /// Adds the rows of `batch` from row `start` on. Returns the first row that was not added,
    /// for which there is no room: the number of rows if there was for all.
    pub fn add(&mut self, batch: &RecordBatch, start: usize) -> Result<usize, GroupError> {
        let by = self.by.iter().map(|name| key_column(batch, name));
        let by: Vec<CellColumn<'_>> = by.collect::<Result<_, _>>()?;
        let end = self.number_rows(&by, start, batch.num_rows());
        let groups = self.keys.len();
        for (state, settings) in self.states.iter_mut().zip(&self.columns) {
            let input = Input { settings, batch, start, row_groups: &self.row_groups };
            let room = (self.max_groups, MAX_KEY_BYTES.saturating_sub(self.key_bytes));
            self.key_bytes += state.add(&input, groups, room, &mut self.key)?;
        }
        Ok(end)
    }

    /// Finds the groups of rows, as far as there is room for new ones.
    fn number_rows(&mut self, by: &[CellColumn<'_>], start: usize, end: usize) -> usize {
        self.row_groups.clear();
        let mut last = None;
        for row in start..end {
            self.key.clear();
            by.iter().for_each(|column| column.cell(row).write_key(&mut self.key));
            let number = match last {
                // Neighbours are often of one group.
                Some(number) if *self.keys[number as usize] == *self.key => number,
                _ => match self.number_of_key() {
                    Some(number) => number,
                    None => return row,
                },
            };
            last = Some(number);
            self.row_groups.push(number);
        }
        end
    }

    fn number_of_key(&mut self) -> Option<u32> {
        if let Some(number) = self.numbers.get(self.key.as_slice()) {
            return Some(*number);
        }
        let full =
            self.keys.len() >= self.max_groups || self.key_bytes + self.key.len() > MAX_KEY_BYTES;
        if full && !self.keys.is_empty() {
            return None;
        }
        let number = u32::try_from(self.keys.len()).ok()?;
        let key: Arc<[u8]> = self.key.as_slice().into();
        self.key_bytes += key.len();
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        Some(number)
    }

    /// The groups so far as columns; there are none afterwards. `None` if there were none.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, GroupError> {
        let keys = std::mem::take(&mut self.keys);
        self.numbers.clear();
        self.key_bytes = 0;
        let fresh = self.columns.iter().map(|result| State::new(result.function)).collect();
        let states = std::mem::replace(&mut self.states, fresh);
        if keys.is_empty() {
            return Ok(None);
        }
        let mut rests: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.result.fields().len());
        for (kind, name) in self.kinds.iter().zip(&self.by) {
            let cells = rests.iter_mut().map(|rest| read_key(kind, rest).unwrap_or(Cell::Null));
            let array = column(kind, cells);
            arrays.push(array.ok_or_else(|| GroupError::NoKey { column: name.clone() })?);
        }
        arrays.extend(states.into_iter().map(State::into_array));
        Ok(Some(RecordBatch::try_new(self.result.clone(), arrays)?))
    }
}

fn array<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, GroupError> {
    batch.column_by_name(name).ok_or_else(|| GroupError::NoColumn { column: name.to_owned() })
}

fn key_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<CellColumn<'a>, GroupError> {
    let array = array(batch, name)?;
    CellColumn::of(array).ok_or_else(|| GroupError::NoKey { column: name.to_owned() })
}

/// The rows that are added.
struct Input<'a> {
    settings: &'a AggregateColumn,
    batch: &'a RecordBatch,
    /// Row of the batch to which the first of `row_groups` belongs.
    start: usize,
    row_groups: &'a [u32],
}

impl<'a> Input<'a> {
    /// The input column.
    fn column(&self) -> Result<CellColumn<'a>, GroupError> {
        let name = self.settings.column.as_deref().unwrap_or_default();
        key_column(self.batch, name)
    }

    /// Calls `with` for each number of the input column and the group it belongs to.
    fn numbers(&self, mut with: impl FnMut(usize, f64)) -> Result<(), GroupError> {
        let column = self.column()?;
        if !matches!(column, CellColumn::Double(_) | CellColumn::Int(_)) {
            let column = self.settings.column.clone().unwrap_or_default();
            return Err(GroupError::NoNumber { column });
        }
        for (offset, group) in self.row_groups.iter().enumerate() {
            match column.cell(self.start + offset) {
                Cell::Double(number) => with(*group as usize, number),
                Cell::Int(number) => with(*group as usize, number as f64),
                _ => {}
            }
        }
        Ok(())
    }
}

impl State {
    fn new(function: AggregateFunction) -> Self {
        match function {
            AggregateFunction::Sum => Self::Sum(Vec::new()),
            AggregateFunction::Min => Self::Min(Vec::new()),
            AggregateFunction::Max => Self::Max(Vec::new()),
            AggregateFunction::Count => Self::Count(Vec::new()),
            AggregateFunction::Distinct => {
                Self::Distinct { counts: Vec::new(), seen: HashSet::new() }
            }
        }
    }

    /// Adds rows; there are `groups` groups now. `room` is the number and the bytes of different
    /// values that there is room for, `key` is scratch. Returns the bytes of new values held.
    fn add(
        &mut self,
        input: &Input<'_>,
        groups: usize,
        room: (usize, usize),
        key: &mut Vec<u8>,
    ) -> Result<usize, GroupError> {
        match self {
            Self::Sum(sums) => fold(sums, input, groups, |sum, number| sum + number)?,
            Self::Min(least) => fold(least, input, groups, f64::min)?,
            Self::Max(most) => fold(most, input, groups, f64::max)?,
            Self::Count(counts) => {
                counts.resize(groups, 0);
                count(counts, input)?;
            }
            Self::Distinct { counts, seen } => {
                counts.resize(groups, 0);
                return count_distinct(counts, seen, input, room, key);
            }
        }
        Ok(0)
    }

    fn into_array(self) -> ArrayRef {
        match self {
            Self::Sum(numbers) | Self::Min(numbers) | Self::Max(numbers) => {
                Arc::new(Float64Array::from(numbers))
            }
            Self::Count(counts) | Self::Distinct { counts, .. } => {
                Arc::new(Int64Array::from(counts))
            }
        }
    }
}

fn fold(
    values: &mut Vec<Option<f64>>,
    input: &Input<'_>,
    groups: usize,
    put: impl Fn(f64, f64) -> f64,
) -> Result<(), GroupError> {
    values.resize(groups, None);
    input.numbers(|group, number| {
        let value = &mut values[group];
        *value = Some(value.map_or(number, |so_far| put(so_far, number)));
    })
}

/// Counts rows, or the values of a column if one is named.
fn count(counts: &mut [i64], input: &Input<'_>) -> Result<(), GroupError> {
    let column = match &input.settings.column {
        Some(_) => Some(input.column()?),
        None => None,
    };
    for (offset, group) in input.row_groups.iter().enumerate() {
        let counts_here =
            column.is_none_or(|column| column.cell(input.start + offset) != Cell::Null);
        counts[*group as usize] += i64::from(counts_here);
    }
    Ok(())
}

fn count_distinct(
    counts: &mut [i64],
    seen: &mut HashSet<Box<[u8]>>,
    input: &Input<'_>,
    (max_values, max_bytes): (usize, usize),
    key: &mut Vec<u8>,
) -> Result<usize, GroupError> {
    let column = input.column()?;
    let mut bytes = 0;
    for (offset, group) in input.row_groups.iter().enumerate() {
        let cell = column.cell(input.start + offset);
        if cell == Cell::Null {
            continue;
        }
        key.clear();
        key.extend_from_slice(&group.to_le_bytes());
        cell.write_key(key);
        if seen.contains(key.as_slice()) {
            continue;
        }
        bytes += key.len();
        if seen.len() >= max_values || bytes > max_bytes {
            return Err(GroupError::TooManyValues { limit: max_values });
        }
        seen.insert(key.as_slice().into());
        counts[*group as usize] += 1;
    }
    Ok(bytes)
}
