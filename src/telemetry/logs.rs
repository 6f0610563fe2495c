//! Logs.
//!
//! Responsible for: setting up `tracing` once per process: text or JSON lines on standard error.
//! Not responsible for: what is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Starts logging to standard error, at `level` (a level name, or a filter as `tracing` reads it).
/// Later calls do nothing: a process has one log.
///
/// # Errors
/// If `level` is neither.
pub fn start(level: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| format!("log level {level:?} is neither a level nor a filter: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging has been started before");
    }
    Ok(())
}
