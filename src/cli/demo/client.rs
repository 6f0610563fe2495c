//! Uploads payloads as a cluster does.
//!
//! Responsible for: multipart requests with an identity header, and trying again while the ingress
//! cannot be reached or is busy. An upload that arrived twice does no harm.
//! Not responsible for: which payloads there are (`generator`, `samples`).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::progress::restart::Backoff;
use crate::runtime::jitter::jitter;

/// Content type of the archives of OpenShift cost reports.
const CONTENT_TYPE: &str = "application/vnd.redhat.hccm.tar+tgz";
/// Time for one attempt.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Attempts at one upload.
const ATTEMPTS: u32 = 8;
/// Pauses between them.
const PAUSE: Backoff =
    Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5), factor: 2.0 };

/// An upload that did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// The client cannot work here at all.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// The ingress said no to this upload.
    #[error("the ingress refused {name} with {status}: {why}")]
    Refused {
        /// The archive.
        name: String,
        /// The answer.
        status: StatusCode,
        /// What it said.
        why: String,
    },
    /// The ingress did not take it, however often it was asked.
    #[error("cannot upload {name} to {url}: {why}")]
    Unavailable {
        /// The archive.
        name: String,
        /// The endpoint.
        url: String,
        /// What happened the last time.
        why: String,
    },
}

/// Uploads to one endpoint.
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    part: String,
    identity: String,
}

impl Client {
    /// A client for the endpoint at `url`, which takes files in the part `part`.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub(super) fn new(url: String, part: String) -> Result<Self, PostError> {
        // The endpoint is on loopback and speaks plain HTTP: neither a proxy nor a certificate
        // comes into it.
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .tls_certs_only(std::iter::empty::<reqwest::Certificate>())
            .build()
            .map_err(|error| PostError::Client(error.to_string()))?;
        Ok(Self { http, url, part, identity: identity() })
    }

    /// Uploads an archive.
    ///
    /// # Errors
    /// It was refused, or could not be delivered after several attempts.
    pub(super) async fn post(&self, name: &str, archive: &[u8]) -> Result<(), PostError> {
        let boundary = Uuid::new_v4().simple().to_string();
        let body = Bytes::from(form(&boundary, &self.part, name, archive));
        let mut attempt = 0;
        loop {
            let why = match self.attempt(&boundary, body.clone()).await {
                Ok((status, _)) if status.is_success() => return Ok(()),
                Ok((status, why)) if status.is_client_error() && status != BUSY => {
                    return Err(PostError::Refused { name: name.to_owned(), status, why });
                }
                Ok((status, why)) => format!("{status}: {why}"),
                Err(error) => error.to_string(),
            };
            attempt += 1;
            if attempt == ATTEMPTS {
                let url = self.url.clone();
                return Err(PostError::Unavailable { name: name.to_owned(), url, why });
            }
            tracing::debug!(archive = name, %why, attempt, "upload failed and is tried again");
            tokio::time::sleep(PAUSE.delay(attempt - 1, jitter())).await;
        }
    }

    async fn attempt(
        &self,
        boundary: &str,
        body: Bytes,
    ) -> Result<(StatusCode, String), reqwest::Error> {
        let request = self
            .http
            .post(&self.url)
            .header("content-type", format!("multipart/form-data; boundary={boundary}"))
            .header("x-rh-identity", &self.identity)
            .body(body);
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}

/// The client was too slow: that passes.
const BUSY: StatusCode = StatusCode::REQUEST_TIMEOUT;

/// Who uploads: base64 of JSON, as the platform's gateway sets it.
fn identity() -> String {
    let identity = json!({
        "identity": {
            "account_number": "10001",
            "org_id": "1234567",
            "internal": { "org_id": "1234567" },
            "type": "User",
            "user": { "username": "demo", "email": "demo@example.net", "is_org_admin": true },
        },
    });
    STANDARD.encode(identity.to_string())
}

/// The body of a form with one file. A boundary that is random does not occur in it.
fn form(boundary: &str, part: &str, name: &str, archive: &[u8]) -> Vec<u8> {
    // Names of samples come from the disk, and must not end the header.
    let shown: String =
        name.chars().map(|c| if c.is_ascii_graphic() && c != '"' { c } else { '_' }).collect();
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"{shown}\"\r\n\
         Content-Type: {CONTENT_TYPE}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    [head.as_bytes(), archive, tail.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_ingress_reads() {
        let body = form("limit", "file", "a b\"\r\n.tar.gz", b"\x1f\x8b");
        let expected = b"--limit\r\nContent-Disposition: form-data; name=\"file\"; \
            filename=\"a_b___.tar.gz\"\r\nContent-Type: application/vnd.redhat.hccm.tar+tgz\r\n\
            \r\n\x1f\x8b\r\n--limit--\r\n";
        assert_eq!(body, expected);
    }

    #[test]
    fn the_identity_says_who_uploads() {
        let json = STANDARD.decode(identity()).unwrap();
        let identity: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(identity["identity"]["org_id"], "1234567");
        assert_eq!(identity["identity"]["account_number"], "10001");
    }
}
