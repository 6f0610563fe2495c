//! The environment of the process.
//!
//! Responsible for: being the only place that reads it. Everything else takes a function from a
//! name to a value, so that tests bring their own.
//! Not responsible for: which names are read (`[vars]` of a topology, `TIDEMILL_…` of the
//! settings).

/// The value of the environment variable `name`, if it is set. Bytes that are no UTF-8 become
/// replacement characters, so that the value is refused where it is used and not taken for unset.
#[expect(
    clippy::disallowed_methods,
    reason = "the one reader of the environment; all others take it as an argument"
)]
pub fn process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// How this program was called, so that a hint can name a command that works as it stands.
pub fn program() -> String {
    let called = std::env::args_os().next();
    called.map_or_else(|| "tidemill".to_owned(), |called| called.to_string_lossy().into_owned())
}
