//! Fetches the body that a URL of the record names.
//!
//! Responsible for: asking the record for its URL, reading payloads of this process's own ingress
//! where they lie, downloading everything else (those of other replicas among it) through the
//! guarded client, and keeping the bytes in the spool under its budget.
//! Not responsible for: what may be fetched (`net::policy`), how many calls run at once and what
//! a failure leads to (the stage that runs this node), or what the bytes mean.
//!
//! Room is reserved by the cap before the request is made and given back as soon as the size is
//! known, so any number of downloads together stay within the budget, whatever servers send. The
//! disk is written by a blocking thread behind a short channel: a slow disk slows the download.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinError;

use crate::model::body::SpooledFile;
use crate::model::{Blob, Body, Failure, FailureClass, Record};
use crate::net::{self, Download, GuardedClient, NetError};
use crate::processor::config::Allow;
use crate::runtime::node::{BoxFuture, Call};
use crate::spool::{DiskPermit, Spool, SpoolError};

/// Pieces of a body that wait in memory for the disk.
const PIECES_IN_MEMORY: usize = 4;

/// Yields the URL of a record; the failure is the record's.
pub type UrlOf = Box<dyn Fn(&Record) -> Result<String, Failure> + Send + Sync>;

/// Payloads that this process itself keeps, so that it need not ask itself over HTTP.
pub trait LocalPayloads: Send + Sync {
    /// Opens the payload that `url` names, or `None` if the URL is not one that this pipeline's
    /// ingress announced. Blocks on the disk. The file stays readable when its name is removed.
    fn open(&self, url: &str) -> Option<Result<File, Failure>>;
}

/// What a fetch may do.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// What may be fetched.
    pub allow: Vec<Allow>,
    /// Largest body in bytes; reserved in the disk budget per fetch.
    pub max_bytes: u64,
    /// Time for one attempt, from connecting to the last byte.
    pub timeout: Duration,
}

/// Gets bodies into the spool.
pub struct Fetcher {
    client: GuardedClient,
    /// Only where the allow-list names an ingress.
    local: Option<Arc<dyn LocalPayloads>>,
    spool: Spool,
    max_bytes: u64,
}

impl Fetcher {
    /// A fetcher that keeps bodies in `spool`. `local` is asked first, if the allow-list names an
    /// ingress.
    ///
    /// # Errors
    /// If no HTTP client can be made, because the system has no CA certificates.
    pub fn new(
        settings: FetchSettings,
        spool: Spool,
        local: Option<Arc<dyn LocalPayloads>>,
    ) -> Result<Self, NetError> {
        let ingress = settings.allow.iter().any(|allow| matches!(allow, Allow::Ingress(_)));
        let client = GuardedClient::new(net::Settings {
            allow: origins(&settings.allow),
            max_bytes: settings.max_bytes,
            timeout: settings.timeout,
        })?;
        Ok(Self { client, local: local.filter(|_| ingress), spool, max_bytes: settings.max_bytes })
    }

    /// The body that `url` names.
    ///
    /// # Errors
    /// Forbidden, rejected and too large are poison; not found may be retried; everything else is
    /// an unavailable dependency.
    pub async fn fetch(&self, url: &str) -> Result<Blob, Failure> {
        if let Some(file) = self.open_local(url).await? {
            return self.share(&file.shown, file.file);
        }
        let permitted = self.client.check(url).map_err(failure)?;
        let permit = self.spool.budget().reserve(self.max_bytes).await;
        let download = self.client.open(permitted).await.map_err(failure)?;
        self.store(download, permit).await
    }

    async fn open_local(&self, url: &str) -> Result<Option<LocalFile>, Failure> {
        let Some(local) = self.local.clone() else { return Ok(None) };
        let wanted = url.to_owned();
        let opening = tokio::task::spawn_blocking(move || {
            let file = local.open(&wanted)?;
            Some(file.map(|file| LocalFile { file, shown: without_query(&wanted).to_owned() }))
        });
        match opening.await.map_err(|error| interrupted(&error))? {
            // Another replica took it: where its origin is allowed, it can be asked.
            Some(Err(failure)) if is_missing(&failure) && self.client.check(url).is_ok() => {
                Ok(None)
            }
            opened => opened.transpose(),
        }
    }

    /// The file of the ingress itself is the blob: nothing is copied, and the ingress accounts for
    /// its bytes.
    fn share(&self, url: &str, file: File) -> Result<Blob, Failure> {
        let len = file
            .metadata()
            .map_err(|error| Failure::unavailable(format!("cannot read payload {url}: {error}")))?
            .len();
        if len > self.max_bytes {
            let why = format!("{url} is larger than {} bytes", self.max_bytes);
            return Err(Failure::poison(FailureClass::TOO_LARGE, why));
        }
        Ok(Blob::new(SpooledFile::new(file, Box::new(())), 0, len))
    }

    async fn store(&self, mut download: Download, mut permit: DiskPermit) -> Result<Blob, Failure> {
        if let Some(length) = download.length() {
            permit.shrink(length);
        }
        let (pieces, incoming) = mpsc::channel(PIECES_IN_MEMORY);
        let spool = self.spool.clone();
        let writing = tokio::task::spawn_blocking(move || write(&spool, permit, incoming));
        while let Some(piece) = download.chunk().await.map_err(failure)? {
            if pieces.send(piece).await.is_err() {
                // The writer gave up; its result says why.
                break;
            }
        }
        drop(pieces);
        writing.await.map_err(|error| interrupted(&error))?.map_err(Failure::from)
    }
}

/// A payload that the ingress of this process keeps.
struct LocalFile {
    file: File,
    /// For error texts.
    shown: String,
}

/// Writes pieces until their sender is gone. If that is because the download failed, nobody waits
/// for the result, and file and permit go with it.
fn write(
    spool: &Spool,
    permit: DiskPermit,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<Blob, SpoolError> {
    let mut writer = spool.create(permit)?;
    while let Some(piece) = pieces.blocking_recv() {
        writer.append(&piece)?;
    }
    Ok(writer.finish_blob())
}

/// The entries of the allow-list that are reached over HTTP.
fn origins(allow: &[Allow]) -> Vec<net::Allow> {
    allow
        .iter()
        .filter_map(|allow| match allow {
            Allow::Ingress(_) => None,
            Allow::Origin { scheme, host, port, private } => Some(net::Allow {
                scheme: scheme.clone(),
                host: host.clone(),
                port: *port,
                private: *private,
            }),
        })
        .collect()
}

/// Whose fault it is that there is no body.
fn failure(error: NetError) -> Failure {
    let why = error.to_string();
    match error {
        NetError::Forbidden { .. } => Failure::poison(FailureClass::FORBIDDEN, why),
        NetError::Rejected { .. } => Failure::poison(FailureClass::REJECTED, why),
        NetError::TooLarge { .. } => Failure::poison(FailureClass::TOO_LARGE, why),
        NetError::NotFound { .. } | NetError::NoSuchHost { .. } => {
            Failure::Retriable { class: FailureClass::NOT_FOUND, why, after: None }
        }
        NetError::Unavailable { .. } => Failure::unavailable(why),
    }
}

fn is_missing(failure: &Failure) -> bool {
    failure.class() == Some(&FailureClass::NOT_FOUND)
}

fn interrupted(error: &JoinError) -> Failure {
    Failure::unavailable(format!("work on the spool was interrupted: {error}"))
}

/// A URL up to where secrets may begin.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// `type = "fetch"`: the record goes on with the body that its URL names.
pub struct FetchNode {
    url_of: UrlOf,
    fetcher: Fetcher,
}

impl FetchNode {
    /// A node that fetches what `url_of` yields.
    pub fn new(url_of: UrlOf, fetcher: Fetcher) -> Self {
        Self { url_of, fetcher }
    }
}

impl Call for FetchNode {
    fn call(&self, mut record: Record) -> BoxFuture<'_, Result<Record, Failure>> {
        Box::pin(async move {
            let url = (self.url_of)(&record)?;
            // A body of an earlier fetch must not hold room that this one waits for.
            record.body = Body::Empty;
            record.body = Body::Blob(self.fetcher.fetch(&url).await?);
            Ok(record)
        })
    }
}

#[cfg(test)]
mod tests;
