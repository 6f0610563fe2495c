//! Errors of the database, by what they mean.
//!
//! Responsible for: which errors may pass, which ones end a connection, and what is said of them.
//! Not responsible for: naming the database they come from (`pool`).

use std::error::Error as _;
use std::io::{Error as IoError, ErrorKind};

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Classes of SQLSTATE that say nothing against the statement: lost connections, transactions that
/// met another one, exhausted resources, locks, an operator at work, a failing system.
const PASSING_CLASSES: [&str; 6] = ["08", "40", "53", "55", "57", "58"];

/// Whether another attempt may succeed without anybody changing anything.
pub(super) fn may_pass(error: &Error) -> bool {
    match error.code() {
        // The connection leads to a standby, as for a moment after a failover.
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => true,
        // Of the class of locks, and yet about the statement: a view that cannot be written to.
        Some(code) if *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => false,
        Some(code) => PASSING_CLASSES.iter().any(|class| code.code().starts_with(class)),
        None => is_of_connection(error),
    }
}

/// An error that does not come from the server is one of the connection, or of a value that could
/// not be written or read.
fn is_of_connection(error: &Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<IoError>());
    error.is_closed() || io.is_some_and(|io| io.kind() != ErrorKind::InvalidInput)
}

/// Whether the server answered, and the connection goes on: then a transaction that met the error
/// has changed nothing.
pub(super) fn is_answer(error: &Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        !matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
    })
}

/// Whether the server refuses everybody who comes like this: a wrong password, no such database.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        code.code().starts_with("28") || *code == SqlState::INVALID_CATALOG_NAME
    })
}

/// Whether a division by zero was met, which is how statements of the engine say no.
pub(super) fn says_no(error: &Error) -> bool {
    error.code() == Some(&SqlState::DIVISION_BY_ZERO)
}

/// Whether the server refused a value.
pub(super) fn is_of_value(error: &Error) -> bool {
    let class = error.code().map(|code| code.code().get(..2).unwrap_or_default());
    matches!(class, Some("22" | "23"))
}

/// What the server or the connection said.
pub(super) fn message(error: &Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return answered(answer);
    }
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn answered(answer: &DbError) -> String {
    match answer.detail() {
        Some(detail) => format!("{} ({})", answer.message(), detail.trim_end_matches('.')),
        None => answer.message().to_owned(),
    }
}
