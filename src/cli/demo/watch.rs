//! Uploads payloads and watches what becomes of them.
//!
//! Responsible for: a few uploads at a time, remembering each that was answered, asking the state
//! store how far the engine has come, and collecting what came out.
//! Not responsible for: showing it (`display`, `report`).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::cli::demo::Failed;
use crate::cli::demo::client::Client;
use crate::cli::demo::display::{Display, Progress};
use crate::cli::demo::generator::{Counts, Payload, Plan};
use crate::cli::demo::journal::Journal;
use crate::cli::demo::report::{Came, totals};
use crate::cli::demo::samples::Samples;
use crate::model::PipelineName;
use crate::runtime::clock::SharedClock;
use crate::state::{ManifestFilter, ManifestPhase, ManifestSummary, StateError, StateStore};
use crate::telemetry::Instruments;

/// Uploads under way at once, which also bounds the payloads in memory.
const UPLOADS: usize = 4;
/// How often the state store is asked.
const TICK: Duration = Duration::from_millis(300);
/// How long nothing may change, once everything is uploaded, before the wait is given up.
const STILL: Duration = Duration::from_secs(120);
/// The same for samples, some of which are there because they never become anything.
const STILL_SAMPLES: Duration = Duration::from_secs(15);
/// The table that the topology keeps its summary in.
const SUMMARY: &str = "ocp_usage_summary";

/// Where payloads come from.
#[derive(Debug)]
pub(super) enum Input {
    /// They are generated.
    Generated(Plan),
    /// They lie in a folder.
    Samples(Samples),
}

impl Input {
    /// Number of payloads.
    pub(super) fn payloads(&self) -> u64 {
        match self {
            Self::Generated(plan) => plan.payloads(),
            Self::Samples(samples) => samples.payloads(),
        }
    }

    /// How far it goes; rows of samples are not known beforehand.
    pub(super) fn goal(&self) -> Progress {
        let (uploads, bytes) = (self.payloads(), 0);
        match self {
            Self::Generated(plan) => {
                let (reports, rows) = (plan.reports(), plan.rows());
                Progress { uploads, files: uploads, reports, rows, bytes }
            }
            Self::Samples(samples) => {
                let (files, reports) = (samples.files(), samples.reports().len() as u64);
                Progress { uploads, files, reports, rows: 0, bytes }
            }
        }
    }

    /// Keys of the manifests that have to become complete.
    fn reports(&self) -> BTreeSet<String> {
        match self {
            Self::Generated(plan) => {
                (0..plan.reports()).map(|report| plan.manifest(report).to_string()).collect()
            }
            Self::Samples(samples) => samples.reports().clone(),
        }
    }

    fn payload(&self, number: u64) -> io::Result<Payload> {
        match self {
            Self::Generated(plan) => plan.payload(number),
            Self::Samples(samples) => samples.payload(number),
        }
    }

    fn still(&self) -> Duration {
        match self {
            Self::Generated(_) => STILL,
            Self::Samples(_) => STILL_SAMPLES,
        }
    }
}

/// A demo whose engine runs.
pub(super) struct Watch {
    pub(super) input: Arc<Input>,
    pub(super) client: Client,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) pipeline: PipelineName,
    pub(super) instruments: Arc<Instruments>,
    pub(super) clock: SharedClock,
}

impl Watch {
    /// Uploads what was not uploaded before, and waits until every report is complete; false if
    /// nothing changed any more before that.
    pub(super) async fn run(
        &self,
        journal: &mut Journal,
        display: &mut Display,
    ) -> Result<bool, Failed> {
        let (wanted, uploads) = (self.input.reports(), Cell::new(journal.posted()));
        let posting = self.post(journal, &uploads);
        tokio::pin!(posting);
        let (mut posted, mut last) = (false, None);
        loop {
            tokio::select! {
                done = &mut posting, if !posted => {
                    done?;
                    posted = true;
                }
                () = tokio::time::sleep(TICK) => {}
            }
            let now = self.clock.now();
            let (progress, complete) = match self.look(uploads.get()).await {
                Ok(seen) => seen,
                Err(error) if error.is_transient() => continue,
                Err(error) => return Err(error.into()),
            };
            display.update(progress, now);
            if posted && wanted.is_subset(&complete) {
                return Ok(true);
            }
            match last {
                Some((shown, since)) if shown == progress => {
                    if posted && now - since > self.input.still() {
                        return Ok(false);
                    }
                }
                _ => last = Some((progress, now)),
            }
        }
    }

    async fn post(&self, journal: &mut Journal, uploads: &Cell<u64>) -> Result<(), Failed> {
        let left: Vec<u64> =
            (0..self.input.payloads()).filter(|number| !journal.has_posted(*number)).collect();
        let posts = stream::iter(left).map(|number| self.post_one(number));
        let mut posts = posts.buffer_unordered(UPLOADS);
        while let Some(posted) = posts.next().await {
            let (number, counts) = posted?;
            journal.add(number, counts).map_err(|error| Failed::disk(&error))?;
            uploads.set(journal.posted());
        }
        Ok(())
    }

    async fn post_one(&self, number: u64) -> Result<(u64, Option<Counts>), Failed> {
        let input = self.input.clone();
        let made = tokio::task::spawn_blocking(move || input.payload(number)).await;
        let made = made.map_err(io::Error::other).flatten();
        let Payload { name, archive, counts } = made.map_err(|error| Failed::disk(&error))?;
        self.client.post(&name, &archive).await?;
        Ok((number, counts))
    }

    /// How far the engine has come, and which manifests are complete.
    async fn look(&self, uploads: u64) -> Result<(Progress, BTreeSet<String>), StateError> {
        let mut progress = Progress { uploads, ..Progress::default() };
        progress.bytes = self.instruments.member_bytes.get();
        let mut complete = BTreeSet::new();
        for ManifestSummary { row, done, dead_lettered, rows, .. } in self.manifests().await? {
            progress.files += done + dead_lettered;
            progress.rows += rows;
            if row.phase == ManifestPhase::Complete {
                complete.insert(row.manifest.as_str().to_owned());
            }
        }
        progress.reports = complete.len() as u64;
        Ok((progress, complete))
    }

    /// What has come out.
    pub(super) async fn results(&self) -> Result<Came, StateError> {
        let mut came = Came::default();
        for summary in self.manifests().await? {
            let complete = summary.row.phase == ManifestPhase::Complete;
            came.reports.0 += u64::from(complete);
            came.reports.1 += u64::from(!complete);
            came.files.0 += summary.done;
            came.files.1 += summary.dead_lettered;
            let stored = self.store.manifest(&self.pipeline, &summary.row.manifest).await?;
            for member in stored.into_iter().flat_map(|(manifest, _)| manifest.members) {
                for object in &member.facts.objects {
                    came.rows += object.rows;
                    came.objects.0 += 1;
                    came.objects.1 += object.bytes;
                }
                for (reason, count) in member.facts.rejected {
                    *came.rejected.entry(reason).or_default() += count;
                }
            }
        }
        came.totals = totals(&self.store.table(SUMMARY).await?);
        Ok(came)
    }

    async fn manifests(&self) -> Result<Vec<ManifestSummary>, StateError> {
        self.store.manifests(&self.pipeline, &ManifestFilter::default()).await
    }
}
