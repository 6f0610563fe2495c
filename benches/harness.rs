//! What the rows of the benchmark share.
//!
//! Responsible for: what a row is, and what it has to say about itself.
//! Not responsible for: any row.

pub mod logs;
pub mod needs;
pub mod pipeline;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod records;
pub mod runs;

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use self::needs::Need;
use self::process::Sample;

/// A result that nobody branches on.
pub type Tried<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long anything may take before its row is given up.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The engine.
    Engine,
    /// The same by hand.
    Baseline,
}

impl Side {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Baseline => "baseline",
        }
    }
}

/// What all rows are told.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Whether to do a small part of the work only.
    pub quick: bool,
    /// Address of a Kafka broker, if there is one.
    pub kafka: Option<String>,
    /// Address of a Postgres server, if there is one.
    pub postgres: Option<String>,
    /// A Python, if there is one.
    pub python: Option<String>,
}

impl Setting {
    /// How much of `count` to do.
    pub fn scaled(&self, count: u64) -> u64 {
        if self.quick { count / 20 } else { count }
    }
}

/// How the speed of a row is shown.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Items in a second, and what they are.
    PerSecond(&'static str),
    /// Nanoseconds for one item, and what it is.
    Nanoseconds(&'static str),
    /// Megabytes in a second.
    Megabytes,
    /// How long an item takes, at a rate that is given.
    Latency,
}

/// What a row says about itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name on the command line and in the table.
    pub name: String,
    /// What the engine does.
    pub path: &'static str,
    /// What the budget asks for.
    pub goal: &'static str,
    /// How its speed is shown.
    pub unit: Unit,
    /// What it needs beside this program.
    pub needs: Option<Need>,
}

/// Something to read that both sides share, made once per row.
pub struct Fixture {
    /// How a run finds it: a topic, a folder.
    pub handle: String,
    /// Goes with the fixture.
    _folder: Option<TempDir>,
}

impl Fixture {
    /// Nothing is needed.
    pub fn none() -> Self {
        Self::named("none".to_owned())
    }

    /// Something that lies elsewhere.
    pub fn named(handle: String) -> Self {
        Self { handle, _folder: None }
    }

    /// A folder.
    pub fn folder(folder: TempDir) -> Tried<Self> {
        Ok(Self { handle: text(folder.path())?.to_owned(), _folder: Some(folder) })
    }
}

/// One line of the table.
pub trait Row {
    /// What it is.
    fn about(&self) -> About;

    /// Makes what both sides read.
    fn prepare(&self, _setting: &Setting) -> Tried<Fixture> {
        Ok(Fixture::none())
    }

    /// Runs one side once. What is not part of the path is done before its meter starts.
    fn run(&self, side: Side, setting: &Setting, fixture: &str) -> Tried<Sample>;
}

/// A folder on the disk that the build uses, since a temporary one may lie in memory.
pub fn folder() -> io::Result<TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

/// A path as text.
pub fn text(path: &Path) -> Tried<&str> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}
