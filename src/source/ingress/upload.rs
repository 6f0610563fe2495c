//! POST: takes an upload.
//!
//! Responsible for: reading multipart bodies in bounded memory and time, choosing the part, the
//! caps, and answering 202 only when payload and announcement are durable.
//! Not responsible for: how they become durable (`spool`, `shared`), or what the announcement says
//! (`announcement`).
//!
//! The multipart reader buffers whatever lies between parts, headers of a part included, until it
//! finds their end. A meter on the request's stream ends the request when that gets out of hand.

use std::cell::Cell;
use std::fs::File as StdFile;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use regex::Regex;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use vrl::value::{ObjectMap, Value};

use crate::source::config::Ingress;
use crate::source::ingress::announcement::{self, Made, Unannounced, Upload};
use crate::source::ingress::answer::Refusal;
use crate::source::ingress::spool::{Part, blocking};
use crate::source::ingress::storage::IngressPayloads;
use crate::telemetry::Instruments;

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(30);
/// How long an upload may take from its first byte to its last.
const WHOLE: Duration = Duration::from_secs(30 * 60);
/// Uploads that are received at once; further ones are asked to come back.
const MOST_UPLOADS: usize = 64;
/// Bytes of a body that are not the file: boundaries, headers of parts, other parts.
const BESIDE_THE_FILE: u64 = 1 << 20;
/// Shortest boundary: the multipart reader does not cope with shorter ones, and no client sends
/// them.
const SHORTEST_BOUNDARY: usize = 4;

/// One ingress, as its handlers see it.
pub(super) struct Endpoint {
    config: Ingress,
    content_type: Option<Regex>,
    pub(super) payloads: IngressPayloads,
    slots: Semaphore,
    instruments: Arc<Instruments>,
}

impl Endpoint {
    /// An endpoint that keeps uploads among `payloads`.
    ///
    /// # Errors
    /// A regular expression that is none.
    pub(super) fn new(
        config: Ingress,
        payloads: IngressPayloads,
        instruments: Arc<Instruments>,
    ) -> Result<Self, regex::Error> {
        let pattern = config.content_type.as_ref();
        let whole = pattern.map(|pattern| Regex::new(&format!("^(?:{pattern})$"))).transpose()?;
        let slots = Semaphore::new(MOST_UPLOADS);
        Ok(Self { config, content_type: whole, payloads, slots, instruments })
    }

    /// Path of the endpoint.
    pub(super) fn path(&self) -> &str {
        &self.config.path
    }

    async fn take(&self, request: &HttpRequest, payload: web::Payload) -> Result<Vec<u8>, Refusal> {
        let _slot = self.slots.try_acquire().map_err(|_| {
            Refusal::unavailable(format!("{MOST_UPLOADS} uploads are under way, try again later"))
        })?;
        check_form(request)?;
        self.check_length(request)?;
        let meter = Meter::default();
        let mut form = Multipart::new(request.headers(), meter.watch(payload));
        let received = self.receive(&mut form, &meter).await?;
        let url = self.payloads.folder().url_of(received.part.id);
        let upload = Upload {
            id: received.part.id,
            url: &url,
            size: received.size,
            headers: announcement::headers_of(request.headers()),
            matched: received.matched.clone(),
        };
        let made = announcement::make(&self.config, upload).map_err(unannounced)?;
        self.keep(received, made).await
    }

    /// A body whose declared length cannot fit is refused before it is read.
    fn check_length(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let declared = request.headers().get("content-length");
        let length = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let most = self.config.max_bytes.saturating_add(BESIDE_THE_FILE);
        if length.is_some_and(|length| length > most) { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Refusal {
        let why = format!("the upload is larger than {} bytes", self.config.max_bytes);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    }

    /// Reads the body to its end. The first part that carries the file is kept.
    async fn receive(&self, form: &mut Multipart, meter: &Meter) -> Result<Received, Refusal> {
        let mut received = None;
        while let Some(mut field) = next(form).await? {
            if received.is_none() && self.carries_the_file(&field) {
                let matched = self.matched(&field)?;
                received = Some(self.store(&mut field, matched, meter).await?);
            } else {
                // Not counted as read, so that the meter bounds what lies beside the file.
                while next(&mut field).await?.is_some() {}
            }
        }
        received.ok_or_else(|| {
            let names = self.config.parts.join("` or `");
            Refusal::bad(format!("the body has no part `{names}`"))
        })
    }

    fn carries_the_file(&self, field: &Field) -> bool {
        field.name().is_some_and(|name| self.config.parts.iter().any(|part| part == name))
    }

    /// What the content type of the file says, or 415.
    fn matched(&self, field: &Field) -> Result<Value, Refusal> {
        let Some(pattern) = &self.content_type else { return Ok(Value::Object(ObjectMap::new())) };
        let header = field.headers().get(CONTENT_TYPE);
        let content_type = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
        announcement::matched(pattern, content_type).ok_or_else(|| {
            let shown: String = content_type.chars().take(200).collect();
            let why = format!("content type `{shown}` of the file is not served here");
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
        })
    }

    /// Writes a part to the spool as it comes.
    async fn store(
        &self,
        field: &mut Field,
        matched: Value,
        meter: &Meter,
    ) -> Result<Received, Refusal> {
        let spool = self.payloads.folder().clone();
        let created = blocking(move || spool.create()).await;
        let (part, file) = created.map_err(|error| self.cannot(&error))?;
        let (mut file, mut size) = (File::from_std(file), 0_u64);
        while let Some(chunk) = next(field).await? {
            meter.delivered(chunk.len());
            size += chunk.len() as u64;
            if size > self.config.max_bytes {
                return Err(self.too_large());
            }
            file.write_all(&chunk).await.map_err(|error| self.cannot(&error))?;
        }
        // A failed write shows at the latest here.
        file.flush().await.map_err(|error| self.cannot(&error))?;
        Ok(Received { part, file: file.into_std().await, size, matched })
    }

    /// Makes everything durable. Runs to its end even if the client has gone: then nobody has the
    /// answer, and the upload is announced all the same.
    async fn keep(&self, received: Received, made: Made) -> Result<Vec<u8>, Refusal> {
        let Received { part, file, size, .. } = received;
        let Made { announcement, reply } = made;
        let instruments = self.instruments.clone();
        let count = move || {
            instruments.uploads.add(1);
            instruments.upload_bytes.add(size);
        };
        let kept = match self.payloads.shared().cloned() {
            None => {
                let spool = self.payloads.folder().clone();
                blocking(move || spool.keep(part, &file, &announcement).map(|()| count())).await
            }
            Some(shared) => {
                let keeping = tokio::spawn(async move {
                    let kept = shared.keep(part.id, (file, size), &announcement).await;
                    // It has been read, and its name goes with it.
                    drop(part);
                    kept.map(|()| count())
                });
                keeping.await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
        };
        kept.map_err(|error| self.cannot(&error))?;
        Ok(reply)
    }

    fn cannot(&self, error: &io::Error) -> Refusal {
        tracing::error!(ingress = %self.payloads.name(), %error, "cannot keep an upload");
        Refusal::unavailable("the upload cannot be kept at the moment, try again later")
    }
}

/// A file that was received.
struct Received {
    part: Part,
    file: StdFile,
    size: u64,
    matched: Value,
}

/// Counts bytes of a body against those that came out of it as the file.
#[derive(Clone, Default)]
struct Meter {
    read: Rc<Cell<u64>>,
    delivered: Rc<Cell<u64>>,
}

impl Meter {
    /// The body, cut off when too much of it is not the file.
    fn watch<S>(&self, payload: S) -> impl Stream<Item = Result<Bytes, PayloadError>> + use<S>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + 'static,
    {
        let meter = self.clone();
        payload.map(move |chunk| {
            let chunk = chunk?;
            meter.read.set(meter.read.get() + chunk.len() as u64);
            let beside = meter.read.get().saturating_sub(meter.delivered.get());
            if beside > BESIDE_THE_FILE { Err(PayloadError::Overflow) } else { Ok(chunk) }
        })
    }

    /// So many bytes were of the file.
    fn delivered(&self, bytes: usize) {
        self.delivered.set(self.delivered.get() + bytes as u64);
    }
}

/// Handles POST.
pub(super) async fn upload(
    endpoint: web::Data<Endpoint>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    match tokio::time::timeout(WHOLE, endpoint.take(&request, payload)).await {
        Ok(Ok(reply)) => HttpResponse::Accepted().content_type("application/json").body(reply),
        Ok(Err(refusal)) => refusal.answer(),
        Err(_) => too_slow(WHOLE).answer(),
    }
}

/// Only multipart/form-data, with a boundary that the reader can work with.
fn check_form(request: &HttpRequest) -> Result<(), Refusal> {
    let mime = request.mime_type().ok().flatten();
    let form = mime.filter(|mime| mime.type_() == "multipart" && mime.subtype() == "form-data");
    let Some(form) = form else {
        return Err(Refusal::bad("the body is not multipart/form-data"));
    };
    match form.get_param("boundary") {
        Some(boundary) if boundary.as_str().len() >= SHORTEST_BOUNDARY => Ok(()),
        _ => Err(Refusal::bad("the content type of the body has no usable boundary")),
    }
}

/// The next item of a body whose client may be slow, but not silent.
async fn next<S, T>(stream: &mut S) -> Result<Option<T>, Refusal>
where
    S: Stream<Item = Result<T, MultipartError>> + Unpin,
{
    match tokio::time::timeout(IDLE, stream.next()).await {
        Ok(item) => item.transpose().map_err(broken),
        Err(_) => Err(too_slow(IDLE)),
    }
}

fn too_slow(limit: Duration) -> Refusal {
    let why = format!("the body did not come within {} s", limit.as_secs());
    Refusal::new(StatusCode::REQUEST_TIMEOUT, why)
}

fn broken(error: MultipartError) -> Refusal {
    match error {
        MultipartError::Payload(PayloadError::Overflow) => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("more than {BESIDE_THE_FILE} bytes of the body are not the file"),
        ),
        error => Refusal::bad(format!("the multipart body is broken: {error}")),
    }
}

fn unannounced(why: Unannounced) -> Refusal {
    match why {
        Unannounced::Refused(why) => Refusal::bad(why),
        Unannounced::Reply(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}
