//! Downloads what the policy permits.
//!
//! Responsible for: requests without anything that could leak (no proxy of the environment, no
//! referer, no cookies, no credentials), redirects by hand with the policy asked at every hop, caps
//! of size and time while the body streams, and sorting what went wrong.
//! Not responsible for: retrying, and where the bytes go.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use tokio::time::{Sleep, sleep};

use crate::net::resolver::{AddressRefused, GuardedResolver, LookUp, SystemLookUp};
use crate::net::{Allow, NetError, Permitted, Policy};

/// Hops after the first request.
const MAX_REDIRECTS: usize = 5;

/// Time to establish one connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest silence of a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest total time: a deadline that is further away than this is none.
const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

const USER_AGENT: &str = concat!("tidemill/", env!("CARGO_PKG_VERSION"));

/// What a client may do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins that may be fetched from.
    pub allow: Vec<Allow>,
    /// Largest body in bytes.
    pub max_bytes: u64,
    /// Time from the first connection to the last byte, redirects included.
    pub timeout: Duration,
}

/// An HTTP client that fetches only what its settings allow. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    policy: Policy,
    /// Connects to public addresses only.
    public: Client,
    /// For origins that may lie inside, if there are any. Connections are not shared between the
    /// two, so one that was opened under looser rules is not used under stricter ones.
    private: Option<Client>,
    max_bytes: u64,
    timeout: Duration,
}

impl GuardedClient {
    /// A client under `settings`. Opens no connection.
    ///
    /// # Errors
    /// [`NetError::Unavailable`] if https is allowed and the system has no CA certificates.
    pub fn new(settings: Settings) -> Result<Self, NetError> {
        Self::looking_up(settings, Arc::new(SystemLookUp))
    }

    /// The same with names looked up elsewhere.
    pub(super) fn looking_up(
        settings: Settings,
        look_up: Arc<dyn LookUp>,
    ) -> Result<Self, NetError> {
        let policy = Policy::new(settings.allow);
        let tls = policy.needs_tls();
        let resolver = |private| GuardedResolver { private, look_up: look_up.clone() };
        let private = policy.needs_private().then(|| build(resolver(true), tls)).transpose()?;
        Ok(Self {
            public: build(resolver(false), tls)?,
            private,
            policy,
            max_bytes: settings.max_bytes,
            timeout: settings.timeout.min(MAX_TIMEOUT),
        })
    }

    /// Decides about a URL without touching the network.
    ///
    /// # Errors
    /// [`NetError::Forbidden`] with the rule that was broken.
    pub fn check(&self, url: &str) -> Result<Permitted, NetError> {
        self.policy.check(url)
    }

    /// Requests `permitted`, follows redirects, and returns when the headers of the body are here.
    ///
    /// # Errors
    /// Everything that [`NetError`] says; nothing is retried.
    pub async fn open(&self, permitted: Permitted) -> Result<Download, NetError> {
        let mut deadline = Box::pin(sleep(self.timeout));
        let mut target = permitted;
        for _hop in 0..=MAX_REDIRECTS {
            let response = self.send(&target, deadline.as_mut()).await?;
            if !redirects(response.status()) {
                return self.accept(response, target, deadline);
            }
            target = self.policy.follow(&target, location(&response, &target)?)?;
        }
        let why = format!("more than {MAX_REDIRECTS} redirects");
        Err(NetError::Forbidden { url: target.shown(), why })
    }

    async fn send(
        &self,
        target: &Permitted,
        deadline: Pin<&mut Sleep>,
    ) -> Result<Response, NetError> {
        let client = match &self.private {
            Some(private) if target.private => private,
            _ => &self.public,
        };
        tokio::select! {
            biased;
            () = deadline => Err(timed_out(target)),
            answer = client.get(target.url.clone()).send() => {
                answer.map_err(|error| explain(error, target))
            }
        }
    }

    /// Sorts the answer by its status, and refuses a body that announces itself as too large.
    fn accept(
        &self,
        response: Response,
        target: Permitted,
        deadline: Pin<Box<Sleep>>,
    ) -> Result<Download, NetError> {
        sort(response.status(), &target)?;
        let length = response.content_length();
        if length.is_some_and(|length| length > self.max_bytes) {
            return Err(NetError::TooLarge { url: target.shown(), cap: self.max_bytes });
        }
        Ok(Download { response, target, length, received: 0, cap: self.max_bytes, deadline })
    }
}

fn build(resolver: GuardedResolver, tls: bool) -> Result<Client, NetError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .dns_resolver(resolver);
    if !tls {
        // No certificate will be looked at, so a system without any must not matter.
        builder = builder.tls_certs_only(std::iter::empty::<reqwest::Certificate>());
    }
    builder.build().map_err(|error| NetError::Unavailable {
        url: "the HTTP client".to_owned(),
        why: root_cause(&error),
    })
}

fn redirects(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn location<'r>(response: &'r Response, target: &Permitted) -> Result<&'r str, NetError> {
    response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(|| {
        NetError::Rejected { url: target.shown(), status: response.status().as_u16() }
    })
}

/// Which statuses are whose fault; success means that there is a body.
fn sort(status: StatusCode, target: &Permitted) -> Result<(), NetError> {
    let url = target.shown();
    match status.as_u16() {
        // Above: no body (204, 205), a part that nobody asked for (206), several answers (207).
        200..=203 => Ok(()),
        status @ (404 | 410) => Err(NetError::NotFound { url, status }),
        status @ (408 | 425 | 429 | 500..=599) => {
            Err(NetError::Unavailable { url, why: format!("it answers {status}") })
        }
        status => Err(NetError::Rejected { url, status }),
    }
}

/// Says what a failed request or transfer means.
fn explain(error: reqwest::Error, target: &Permitted) -> NetError {
    // The library's text repeats the whole URL, query included.
    let error = error.without_url();
    let url = target.shown();
    if let Some(refused) = caused_by::<AddressRefused>(&error) {
        return NetError::Forbidden { url, why: refused.to_string() };
    }
    let why = root_cause(&error);
    if error.is_dns() && target.wildcard && !passing(&why) {
        return NetError::NoSuchHost { url };
    }
    NetError::Unavailable { url, why }
}

/// Whether a failed look-up may go better the next time. The system's resolver says so in words
/// only (`EAI_AGAIN`: glibc "Temporary failure in name resolution", musl "Try again").
fn passing(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    why.contains("temporary") || why.contains("try again")
}

fn timed_out(target: &Permitted) -> NetError {
    NetError::Unavailable { url: target.shown(), why: "it took too long".to_owned() }
}

fn caused_by<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A body on its way.
pub struct Download {
    response: Response,
    target: Permitted,
    length: Option<u64>,
    received: u64,
    cap: u64,
    deadline: Pin<Box<Sleep>>,
}

impl fmt::Debug for Download {
    /// Without the response, which would show the whole URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("target", &self.target)
            .field("length", &self.length)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Download {
    /// Bytes that the server announced, at most the cap.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes, or `None` at the end of the body. A body that ends before the length that
    /// was announced is an error, not an end.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] beyond the cap, [`NetError::Unavailable`] when the connection fails
    /// or the time is over.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, NetError> {
        // The deadline comes first: a body that never pauses must not outrun it.
        let next = tokio::select! {
            biased;
            () = self.deadline.as_mut() => Err(timed_out(&self.target)),
            next = self.response.chunk() => next.map_err(|error| explain(error, &self.target)),
        };
        let Some(chunk) = next? else { return Ok(None) };
        self.received += chunk.len() as u64;
        if self.received > self.cap {
            return Err(NetError::TooLarge { url: self.target.shown(), cap: self.cap });
        }
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests;
