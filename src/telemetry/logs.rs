//! Logs.
//!
//! Responsible for: setting up `tracing` once per process: text or JSON lines on standard error.
//! Not responsible for: what is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What other crates log only where a directive names them: this one writes every value that goes
/// into a statement, which is data of records, and targets of deliveries with their queries.
const TALKATIVE: &str = "tokio_postgres::query";

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
    let filter = EnvFilter::try_new(directives(level))
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

/// The directives of a level, or what was asked for by name.
fn directives(level: &str) -> String {
    if level.contains(TALKATIVE) { level.to_owned() } else { format!("{level},{TALKATIVE}=off") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_statements_are_logged_only_for_whoever_names_the_crate_that_does() {
        for level in ["trace", "info,tidemill::source=debug", "debug,tokio_postgres=trace"] {
            let filter = EnvFilter::try_new(directives(level)).unwrap().to_string();
            assert!(filter.contains("tokio_postgres::query=off"), "{level}: {filter}");
        }
        let named = "info,tokio_postgres::query=debug";
        assert_eq!(directives(named), named);
        assert!(EnvFilter::try_new(directives("loud=very")).is_err());
    }
}
