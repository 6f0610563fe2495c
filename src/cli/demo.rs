//! `tidemill demo`.
//!
//! Responsible for: the main job of the engine in one command that needs no server: clusters
//! upload cost reports, the engine turns them into Parquet and a summary on its embedded log and
//! store, and the result is compared with what was uploaded. Killed and called again it goes on;
//! finished and called again it shows the same result.
//! Not responsible for: the pipeline, which is the topology that ships (`engine` runs it).
//!
//! ```text
//! generator ─▶ client ─ HTTP ─▶ ingress ─▶ engine ─▶ lake, summary
//!     │           └▶ journal                              │
//!     └──────────▶ counts ─────────▶ report ◀─────────────┘
//! ```

mod client;
mod display;
mod generator;
mod journal;
mod random;
mod report;
mod rows;
mod samples;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::demo::client::{Client, PostError};
use crate::cli::demo::display::Display;
use crate::cli::demo::generator::{Plan, Scale};
use crate::cli::demo::journal::{Journal, JournalError, Subject};
use crate::cli::demo::report::Went;
use crate::cli::demo::samples::Samples;
use crate::cli::demo::watch::{Input, Watch};
use crate::cli::{Exit, run};
use crate::config::{Config, env};
use crate::engine::{self, EngineError, Running};
use crate::runtime::clock::SystemClock;
use crate::runtime::shutdown::{Level, Shutdown};
use crate::state::StateError;
use crate::topology::{self, Topology};

/// The topology that the demo runs, as it ships.
const TOPOLOGY: &str = include_str!("../../topologies/cost-management.toml");
/// What error messages call it.
const TOPOLOGY_NAME: &str = "topologies/cost-management.toml";
/// The result of a finished demo, in its folder.
const RESULT: &str = "summary.txt";
/// Most reports of a demo: their listing is read again and again.
const MOST_REPORTS: u64 = 10_000;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Clusters that upload cost reports.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    clusters: u32,
    /// Days that they report; a report is about one day.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
    /// Rows of each report, about.
    #[arg(long, value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    rows: u64,
    /// What the reports are generated from: the same number gives the same bytes.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Uploads the *.tar.gz below a folder instead of generated reports.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["clusters", "days", "rows", "seed"])]
    samples: Option<PathBuf>,
    /// Goes on running when the demo is done, until it is stopped.
    #[arg(long)]
    serve: bool,
    /// Removes what an earlier demo has left, and begins anew.
    #[arg(long)]
    fresh: bool,
    /// Folder of the demo; `demo` in the data folder if it is not given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Why a demo ended without its result.
#[derive(Debug)]
struct Failed {
    exit: Exit,
    why: String,
}

impl Failed {
    fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }

    fn disk(error: &std::io::Error) -> Self {
        Self::new(Exit::Dependency, format!("demo: {error}"))
    }
}

impl From<EngineError> for Failed {
    fn from(EngineError { ending, why }: EngineError) -> Self {
        Self::new(ending.into(), why)
    }
}

impl From<StateError> for Failed {
    fn from(error: StateError) -> Self {
        Self::new(Exit::Dependency, error.to_string())
    }
}

impl From<PostError> for Failed {
    fn from(error: PostError) -> Self {
        Self::new(Exit::Dependency, error.to_string())
    }
}

impl From<JournalError> for Failed {
    fn from(error: JournalError) -> Self {
        let exit = match error {
            JournalError::Disk { .. } => Exit::Dependency,
            JournalError::OtherDemo(_) | JournalError::NoDemo(_) => Exit::Usage,
        };
        Self::new(exit, error.to_string())
    }
}

/// Runs the demo.
pub fn demo(arguments: Arguments, config: Config) -> Exit {
    let done = Demo::prepare(arguments, config).and_then(|demo| match demo.earlier_result()? {
        Some(result) if !demo.serve => {
            println!("This demo is finished; --fresh begins anew.\n\n{result}");
            Ok(())
        }
        earlier => actix::System::new().block_on(demo.run(earlier)),
    });
    match done {
        Ok(()) => Exit::Ok,
        Err(Failed { exit, why }) => {
            eprintln!("error: {why}");
            exit
        }
    }
}

/// A demo that could begin.
struct Demo {
    folder: PathBuf,
    subject: Subject,
    input: Arc<Input>,
    topology: Topology,
    config: Config,
    serve: bool,
}

impl Demo {
    fn prepare(arguments: Arguments, mut config: Config) -> Result<Self, Failed> {
        let folder = arguments.data.clone().unwrap_or_else(|| config.data.dir.join("demo"));
        let folder = std::path::absolute(&folder).map_err(|error| Failed::disk(&error))?;
        let (subject, input) = subject(&arguments)?;
        if arguments.fresh {
            Journal::wipe(&folder)?;
        }
        let topology = topology(&folder)?;
        config.data.dir.clone_from(&folder);
        // It needs no server, whatever the settings say of those of other pipelines.
        config.state.url = None;
        if !arguments.serve {
            // Nobody is told this port, so it must not be in anybody's way.
            config.ingress.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        }
        let (input, serve) = (Arc::new(input), arguments.serve);
        Ok(Self { folder, subject, input, topology, config, serve })
    }

    /// The result, if this demo has been finished before.
    fn earlier_result(&self) -> Result<Option<String>, Failed> {
        if !Journal::is_finished(&self.folder, &self.subject)? {
            return Ok(None);
        }
        // A result that somebody has removed is made again.
        Ok(std::fs::read_to_string(self.folder.join(RESULT)).ok())
    }

    async fn run(self, earlier: Option<String>) -> Result<(), Failed> {
        let shutdown = Shutdown::new();
        shutdown.on_signals();
        let state = self.config.state_path();
        let api = if self.serve { run::api(&self.config, &self.topology.name)? } else { None };
        let running = engine::start(self.topology.clone(), self.config.clone(), &shutdown).await?;
        run::attach(api.as_ref(), &running);
        let (watch, address) = self.watch(&running)?;
        let ended = running.ended();
        tokio::pin!(ended);
        let worked = tokio::select! {
            worked = self.work(&watch, earlier, &state) => worked,
            ended = &mut ended => {
                ended?;
                return interrupted();
            }
        };
        if shutdown.level() != Level::Running {
            ended.await?;
            return interrupted();
        }
        if worked.is_ok() && self.serve {
            println!("uploads are taken at {address}; ctrl-c ends it");
        } else {
            shutdown.drain();
        }
        let ended = ended.await;
        if let Some(api) = api {
            api.stop().await;
        }
        ended?;
        worked
    }

    /// What is needed to upload to a running engine and to look into it.
    fn watch(&self, running: &Running) -> Result<(Watch, String), Failed> {
        let missing = |what: &str| {
            Failed::new(Exit::Internal, format!("{TOPOLOGY_NAME} runs without {what}"))
        };
        let ingress = self.topology.ingresses.first().map(|(_name, ingress)| ingress);
        let ingress = ingress.ok_or_else(|| missing("an ingress"))?;
        let listening = running.ingress_addr().ok_or_else(|| missing("an ingress"))?;
        let url = format!("http://{listening}{}", ingress.path);
        let part = ingress.parts.first().cloned().unwrap_or_else(|| "file".to_owned());
        let watch = Watch {
            input: self.input.clone(),
            client: Client::new(url.clone(), part)?,
            store: running.store().ok_or_else(|| missing("a state store"))?,
            pipeline: self.topology.name.clone(),
            instruments: running.instruments(),
            clock: SystemClock::shared(),
        };
        Ok((watch, url))
    }

    /// Everything that people see of it.
    async fn work(
        &self,
        watch: &Watch,
        earlier: Option<String>,
        state: &Path,
    ) -> Result<(), Failed> {
        if let Some(result) = earlier {
            println!("This demo is finished; --fresh begins anew.\n\n{result}");
            return Ok(());
        }
        // The engine holds the lock on the folder by now, so there is one journal.
        let mut journal = Journal::open(&self.folder, &self.subject)?;
        if journal.posted() > 0 {
            eprintln!("going on after {} of {} uploads", journal.posted(), self.input.payloads());
        }
        let mut display = Display::new(self.input.goal(), watch.clock.now());
        let complete = watch.run(&mut journal, &mut display).await;
        display.close();
        let (complete, came) = (complete?, watch.results().await?);
        let went = match &*self.input {
            Input::Generated(_) => Went::generated(journal.posted(), journal.counts()),
            Input::Samples(_) => Went { payloads: journal.posted(), ..Went::default() },
        };
        let result = format!("{}\n\n{}", report::render(&went, &came), self.next_steps(state));
        println!("{result}");
        let differences = report::differences(&went, &came);
        if !complete {
            let why = "not all reports became complete, and nothing changed any more; the same \
                       command waits again";
            return Err(Failed::new(Exit::Internal, why));
        }
        if !differences.is_empty() {
            let why = format!("the result differs from the input: {}", differences.join("; "));
            return Err(Failed::new(Exit::Internal, why));
        }
        std::fs::write(self.folder.join(RESULT), &result).map_err(|error| Failed::disk(&error))?;
        journal.finish().map_err(|error| Failed::disk(&error))
    }

    fn next_steps(&self, state: &Path) -> String {
        let lake = self.folder.join(LAKE);
        let program = env::program();
        format!(
            "Parquet files lie in {}\nthe summary is the table ocp_usage_summary of {}\n\n\
             What next?\n  \
             {program} describe {TOPOLOGY_NAME}    draws what just ran\n  \
             TIDEMILL_DATA_DIR={} {program} manifests list    what is known of the reports\n  \
             {program} demo --fresh --rows 200000    more data; kill -9 it half-way, run it again \
             without --fresh, and it goes on\n  \
             {program} demo --serve    keeps running and takes uploads",
            lake.display(),
            state.display(),
            self.folder.display(),
        )
    }
}

/// Folder of the Parquet files, in that of the demo.
const LAKE: &str = "lake";

fn interrupted() -> Result<(), Failed> {
    eprintln!("stopped; the same command goes on from here");
    Ok(())
}

fn subject(arguments: &Arguments) -> Result<(Subject, Input), Failed> {
    let Arguments { clusters, days, rows, seed, .. } = *arguments;
    if let Some(folder) = &arguments.samples {
        let unusable = |error: std::io::Error| {
            Failed::new(Exit::Usage, format!("no samples in {}: {error}", folder.display()))
        };
        let folder = folder.canonicalize().map_err(unusable)?;
        let samples = Samples::find(&folder).map_err(unusable)?;
        let payloads = samples.payloads();
        return Ok((Subject::Samples { folder, payloads }, Input::Samples(samples)));
    }
    if u64::from(clusters) * u64::from(days) > MOST_REPORTS {
        let why =
            format!("{clusters} clusters on {days} days are more than {MOST_REPORTS} reports");
        return Err(Failed::new(Exit::Usage, why));
    }
    let scale = Scale { clusters, days, rows, seed };
    Ok((Subject::Generated(scale), Input::Generated(Plan::new(scale))))
}

/// The topology that ships, on the embedded log, with its lake in the demo's folder. Nothing else
/// of the environment counts: a demo is the same everywhere.
fn topology(folder: &Path) -> Result<Topology, Failed> {
    let lake = folder.join(LAKE);
    let Some(lake) = lake.to_str().map(|lake| format!("file://{lake}")) else {
        let why = format!("the path of the folder {} is not UTF-8", folder.display());
        return Err(Failed::new(Exit::Usage, why));
    };
    let environment = |name: &str| (name == "LAKE_URL").then(|| lake.clone());
    let mut topology = topology::parse(TOPOLOGY_NAME, TOPOLOGY, &environment)
        .map_err(|diagnostics| Failed::new(Exit::Internal, diagnostics.render(false)))?;
    topology.broker.bootstrap = None;
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology_that_ships_runs_embedded_with_its_lake_in_the_folder() {
        let topology = topology(Path::new("/tmp/demo")).unwrap();
        assert_eq!(topology.broker.bootstrap, None);
        let (_name, ingress) = &topology.ingresses[0];
        assert_eq!(ingress.path, "/api/ingress/v1/upload");
        assert!(format!("{:?}", topology.graph).contains("file:///tmp/demo/lake"));
    }

    #[test]
    fn too_many_reports_are_refused_before_anything_starts() {
        let arguments = Arguments {
            clusters: 1000,
            days: 366,
            rows: 100,
            seed: 1,
            samples: None,
            serve: false,
            fresh: false,
            data: None,
        };
        let refused = subject(&arguments).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
    }
}
