//! Fetches the body that a URL of the record names.
//!
//! Responsible for: asking the record for its URL, reading payloads of the pipeline's own ingresses
//! where they lie (in a folder of this process, or in a store that replicas share), downloading
//! everything else through the guarded client, and keeping the bytes in the spool under its budget.
//! Not responsible for: what may be fetched (`net::policy`), how many calls run at once and what
//! a failure leads to (the stage that runs this node), or what the bytes mean.
//!
//! Room is reserved by the cap before the request is made and given back as soon as the size is
//! known, so any number of downloads together stay within the budget, whatever servers send. Of what
//! lies in a shared store the size is known before, so that much is reserved. The disk is written by a blocking thread behind a short channel: a slow disk slows the download.

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

/// Payloads of the pipeline's own ingresses, for which nobody has to be asked over HTTP.
pub trait LocalPayloads: Send + Sync {
    /// Finds the payload that `url` names, or `None` if the URL is not one that an ingress of this
    /// pipeline announced.
    fn find<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Option<Result<LocalPayload, Failure>>>;
}

/// A payload of the pipeline's own.
pub enum LocalPayload {
    /// A file of this machine, whose bytes somebody else accounts for. It stays readable when its
    /// name is removed.
    File(File),
    /// Something that lies elsewhere, and is copied into the spool. Nothing of it was sent yet.
    Remote(Box<dyn Pieces>),
}

/// A body that comes in pieces.
pub trait Pieces: Send {
    /// Its length in bytes, if it is known.
    fn length(&self) -> Option<u64>;

    /// The next piece, or `None` after the last. After an error there is nothing more.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>>;
}

impl Pieces for Download {
    fn length(&self) -> Option<u64> {
        Download::length(self)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async move { self.chunk().await.map_err(failure) })
    }
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
    timeout: Duration,
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
        let FetchSettings { allow, max_bytes, timeout } = settings;
        let client =
            GuardedClient::new(net::Settings { allow: origins(&allow), max_bytes, timeout })?;
        Ok(Self { client, local: local.filter(|_| ingress), spool, max_bytes, timeout })
    }

    /// The body that `url` names.
    ///
    /// # Errors
    /// Forbidden, rejected and too large are poison; not found may be retried; everything else is
    /// an unavailable dependency.
    pub async fn fetch(&self, url: &str) -> Result<Blob, Failure> {
        match self.find_local(url).await? {
            Some(LocalPayload::File(file)) => return self.share(without_query(url), file),
            Some(LocalPayload::Remote(pieces)) => {
                return self.copy(without_query(url), pieces).await;
            }
            None => {}
        }
        let permitted = self.client.check(url).map_err(failure)?;
        let permit = self.spool.budget().reserve(self.max_bytes).await;
        let mut download = self.client.open(permitted).await.map_err(failure)?;
        self.store(&mut download, permit).await
    }

    async fn find_local(&self, url: &str) -> Result<Option<LocalPayload>, Failure> {
        let Some(local) = &self.local else { return Ok(None) };
        match local.find(url).await {
            // Another replica took it: where its origin is allowed, it can be asked.
            Some(Err(failure)) if is_missing(&failure) && self.client.check(url).is_ok() => {
                Ok(None)
            }
            found => found.transpose(),
        }
    }

    /// The file of the ingress itself is the blob: nothing is copied, and the ingress accounts for
    /// its bytes.
    fn share(&self, url: &str, file: File) -> Result<Blob, Failure> {
        let len = file
            .metadata()
            .map_err(|error| Failure::unavailable(format!("cannot read payload {url}: {error}")))?
            .len();
        self.check_length(url, len)?;
        Ok(Blob::new(SpooledFile::new(file, Box::new(())), 0, len))
    }

    /// Copies a payload into the spool, within the time that a download may take.
    async fn copy(&self, url: &str, mut pieces: Box<dyn Pieces>) -> Result<Blob, Failure> {
        let most = pieces.length().unwrap_or(self.max_bytes);
        self.check_length(url, most)?;
        let permit = self.spool.budget().reserve(most).await;
        match tokio::time::timeout(self.timeout, self.store(&mut *pieces, permit)).await {
            Ok(stored) => stored,
            Err(_) => Err(Failure::unavailable(format!("{url} took too long"))),
        }
    }

    fn check_length(&self, url: &str, length: u64) -> Result<(), Failure> {
        if length <= self.max_bytes {
            return Ok(());
        }
        let why = format!("{url} is larger than {} bytes", self.max_bytes);
        Err(Failure::poison(FailureClass::TOO_LARGE, why))
    }

    async fn store(&self, body: &mut dyn Pieces, mut permit: DiskPermit) -> Result<Blob, Failure> {
        if let Some(length) = body.length() {
            permit.shrink(length);
        }
        let (pieces, incoming) = mpsc::channel(PIECES_IN_MEMORY);
        let spool = self.spool.clone();
        let writing = tokio::task::spawn_blocking(move || write(&spool, permit, incoming));
        while let Some(piece) = body.next().await? {
            if pieces.send(piece).await.is_err() {
                // The writer gave up; its result says why.
                break;
            }
        }
        drop(pieces);
        writing.await.map_err(|error| interrupted(&error))?.map_err(Failure::from)
    }
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
