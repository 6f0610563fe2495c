//! What a row needs beside this program.
//!
//! Responsible for: looking whether it is there, and saying what a person can do where it is not.
//! Not responsible for: starting servers, which `scripts/test --services-only` does.

use std::fmt;
use std::process::{Command, Stdio};

use super::Setting;

/// Something that is not in this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A Kafka broker.
    Kafka,
    /// A Postgres server.
    Postgres,
    /// A Python that has these packages.
    Python(&'static [&'static str]),
}

/// Why a row cannot run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A server.
    Server,
    /// Packages of other programs, which nobody has to install.
    Packages(&'static [&'static str]),
}

impl Need {
    /// What is missing here, if anything.
    pub fn missing(self, setting: &Setting) -> Option<Missing> {
        match self {
            Self::Kafka => setting.kafka.is_none().then_some(Missing::Server),
            Self::Postgres => setting.postgres.is_none().then_some(Missing::Server),
            Self::Python(packages) => {
                let is_there =
                    setting.python.as_deref().is_some_and(|python| has(python, packages));
                (!is_there).then_some(Missing::Packages(packages))
            }
        }
    }
}

impl Missing {
    /// Whether a row that was asked for by name must not pass for run.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Server)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("not run, it needs `scripts/test --services-only`"),
            Self::Packages(packages) => write!(
                f,
                "not installed: `$TIDEMILL_TEST_PYTHON -m pip install {}`",
                packages.join(" ")
            ),
        }
    }
}

fn has(python: &str, packages: &[&str]) -> bool {
    let mut import = Command::new(python);
    import.args(["-c", &format!("import {}", packages.join(", "))]);
    import.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    import.status().is_ok_and(|status| status.success())
}
