//! Typed columns: from delimited text to Arrow batches, and what others need to know of a batch.
//!
//! Responsible for: reading CSV into typed columns with rules that survive bad input, cutting
//! streams of batches into blocks that depend on row order alone, and reading single cells.
//! Not responsible for: what happens to the rows (`processor`, `sink`), or where the text comes
//! from.
//!
//! The reader stands on `csv-core` with builders and casts of its own. Arrow's own CSV reader was
//! rejected: it fails a whole batch over one bad value, and cannot leave out a row that is too
//! long.

pub mod batch;
pub mod blocks;
pub mod cell;
pub mod csv;
pub mod derive;
pub mod double;
pub mod instant;
pub mod layout;
pub mod plan;
pub mod rows;
pub mod text;

pub use csv::{CsvReader, Inspected, ReadError, Step};
pub use plan::{Bound, Column, CsvPlan, CsvSettings, Derivation, Derived, Kind, PlanError, Schema};

/// What came of reading one field as a typed value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parsed<T> {
    /// It is such a value.
    Value(T),
    /// There is nothing but white space in it.
    Empty,
    /// There is something else in it.
    Bad,
}
