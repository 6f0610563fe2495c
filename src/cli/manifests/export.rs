//! `tidemill manifests export`.
//!
//! Responsible for: one line of JSON for each manifest, with members, facts and deliveries; one
//! manifest is in memory at a time.
//! Not responsible for: what is in a line (`ops::manifests`).

use std::io::{self, BufWriter, ErrorKind, Write};

use crate::cli::Exit;
use crate::cli::manifests::{Phase, Which, stored};
use crate::cli::reach::{Fault, block_on};
use crate::config::Config;
use crate::model::{ManifestKey, PipelineName};
use crate::ops::{self, OpsError};
use crate::state::{ManifestFilter, ManifestPhase, StateStore};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Key of a manifest; without it all that the filters let through.
    #[arg(value_name = "KEY", conflicts_with_all = ["phase", "prefix"])]
    key: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Only manifests in this phase.
    #[arg(long, value_enum)]
    phase: Option<Phase>,
    /// Only manifests whose key begins like this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

/// Prints manifests, each on a line of its own.
pub(super) fn export(arguments: &Export, config: &Config) -> Exit {
    let name = match arguments.which.name() {
        Ok(name) => name,
        Err(exit) => return exit,
    };
    let exported = block_on(async {
        let store = stored::open_store_read_only(config).await.map_err(OpsError::from)?;
        let pipeline = ops::pipeline(&*store, name.as_deref()).await?;
        let mut out = BufWriter::new(io::stdout().lock());
        write(arguments, &*store, &pipeline, &mut out).await
    });
    match exported {
        Ok(Ok(())) => Exit::Ok,
        // A reader that has gone (`| head`) has seen all it wanted.
        Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Ok,
        Ok(Err(error)) => {
            eprintln!("error: cannot write to standard output: {error}");
            Exit::Dependency
        }
        Err(exit) => exit,
    }
}

async fn write(
    arguments: &Export,
    store: &dyn StateStore,
    pipeline: &PipelineName,
    out: &mut dyn Write,
) -> Result<io::Result<()>, Fault> {
    for key in keys(arguments, store, pipeline).await? {
        let details = ops::manifests::show(store, pipeline, &key).await?;
        let line = serde_json::to_string(&details)
            .map_err(|error| OpsError::Internal(format!("manifest {key} is no JSON: {error}")))?;
        if let Err(error) = writeln!(out, "{line}") {
            return Ok(Err(error));
        }
    }
    Ok(out.flush())
}

async fn keys(
    arguments: &Export,
    store: &dyn StateStore,
    pipeline: &PipelineName,
) -> Result<Vec<ManifestKey>, OpsError> {
    if let Some(key) = &arguments.key {
        return Ok(vec![ManifestKey::from(key.as_str())]);
    }
    let filter = ManifestFilter {
        phase: arguments.phase.map(ManifestPhase::from),
        prefix: arguments.prefix.clone(),
        limit: 0,
    };
    let found = store.manifests(pipeline, &filter).await?;
    Ok(found.into_iter().map(|summary| summary.row.manifest).collect())
}
