//! Deliveries over HTTP.
//!
//! Responsible for: one POST with the payload as JSON, and what its answer means.
//! Not responsible for: where requests may go: the operator wrote the URL into the topology, so
//! its host is allowed, wherever it lies. No redirect is followed, since nobody wrote that one.
//!
//! As with everything that is requested: no proxy of the environment, no cookies, no referer, and
//! no error text that holds a query, where secrets are.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, redirect};
use serde_json::Value;

use crate::state::OutboxRow;

/// Time to establish one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const USER_AGENT: &str = concat!("tidemill/", env!("CARGO_PKG_VERSION"));

/// No HTTP client can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no HTTP client for actions can be made: {0}")]
pub struct UnusableClient(String);

/// Sends requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpSender(Client);

impl HttpSender {
    /// A sender whose requests may take `timeout` each. Opens no connection.
    ///
    /// # Errors
    /// `tls` is wanted, and the system has no CA certificates.
    pub fn new(tls: bool, timeout: Duration) -> Result<Self, UnusableClient> {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout);
        if !tls {
            // No certificate will be looked at, so a system without any must not matter.
            builder = builder.tls_certs_only(std::iter::empty::<reqwest::Certificate>());
        }
        builder.build().map(Self).map_err(|error| UnusableClient(root_cause(&error)))
    }

    /// Posts the payload; anything but a success is an error for people to read.
    pub(super) async fn post(
        &self,
        row: &OutboxRow,
        url: &str,
        payload: &Value,
    ) -> Result<(), String> {
        let mut request = self
            .0
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", row.idempotency_key.to_string())
            .header("tidemill-revision", row.revision.to_string())
            .body(payload.to_string());
        // A key with control characters is in the payload only.
        if let Ok(manifest) = HeaderValue::from_bytes(row.manifest.as_str().as_bytes()) {
            request = request.header("tidemill-manifest", manifest);
        }
        let answer = request.send().await.map_err(|error| root_cause(&error.without_url()))?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("the receiver answers {status}")) }
    }
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
