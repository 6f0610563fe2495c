//! CSV to Parquet with other programs.
//!
//! Responsible for: running the script of each, and what it says it cost.
//! Not responsible for: the conversion and its measuring (`benches/peers`), or installing anything.
//!
//! A script measures itself as rows measure themselves: the clock starts when its library is
//! loaded, and CPU time and peak memory are those of its process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::harness::needs::Need;
use crate::harness::process::Sample;
use crate::harness::{Setting, Tried};

/// Where the scripts lie.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");

/// Another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// pandas and pyarrow.
    Pandas,
    /// Polars.
    Polars,
    /// DuckDB.
    DuckDb,
}

/// What a script prints.
#[derive(Deserialize)]
struct Cost {
    rows: u64,
    /// Seconds.
    wall: f64,
    /// Seconds.
    cpu: f64,
    /// Bytes.
    peak: u64,
}

impl Peer {
    /// The word in the name of the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pandas => "pandas",
            Self::Polars => "polars",
            Self::DuckDb => "duckdb",
        }
    }

    /// What has to be installed.
    pub fn need(self) -> Need {
        Need::Python(match self {
            Self::Pandas => &["pandas", "pyarrow"],
            Self::Polars => &["polars"],
            Self::DuckDb => &["duckdb"],
        })
    }

    /// Converts the report.
    pub(super) fn convert(
        self,
        setting: &Setting,
        report: &Path,
        object: &Path,
        bytes: u64,
    ) -> Tried<Sample> {
        let python = setting.python.as_deref().ok_or("TIDEMILL_TEST_PYTHON is not set")?;
        let script = Path::new(SCRIPTS).join(format!("with_{}.py", self.as_str()));
        let mut command = Command::new(python);
        // Without leaving compiled modules beside the scripts.
        command.arg("-B").arg(script).arg(report).arg(object);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("{} ended with {}", self.as_str(), output.status).into());
        }
        let Cost { rows, wall, cpu, peak } = serde_json::from_slice(&output.stdout)?;
        Ok(Sample {
            items: rows,
            bytes,
            wall: Duration::try_from_secs_f64(wall)?,
            cpu: Duration::try_from_secs_f64(cpu)?,
            peak,
            note: String::new(),
            latency: None,
        })
    }
}
