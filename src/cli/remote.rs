//! A client of a running engine's API.
//!
//! Responsible for: requests, and errors that say what to do.
//! Not responsible for: what the API does (`ops`), or when it is used (`reach`).

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::secret::Secret;
use crate::model::ManifestKey;
use crate::model::event::CommandAction;
use crate::ops::commands::word;
use crate::ops::dead_letters::{DeadLetterFilter, LetterDetails, LetterLine, LetterListing};
use crate::ops::text::printable;
use crate::ops::{Asked, Commanded};

/// Time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer, beside what the engine was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    /// No HTTP client can be made here.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// Nobody answers.
    #[error(
        "no engine answers at {url} ({why}): start it with `tidemill run`, or name the API of \
         another one with --api URL; a pipeline with Kafka brokers needs none, name its topology \
         with --topology FILE"
    )]
    Unreachable {
        /// The API.
        url: String,
        /// What happened.
        why: String,
    },
    /// The engine said no.
    #[error("{why}")]
    Refused {
        /// Its words.
        why: String,
    },
    /// The engine could not do it.
    #[error("the engine at {url} cannot do that now: {why}")]
    Failed {
        /// The API.
        url: String,
        /// Its words.
        why: String,
    },
    /// The answer makes no sense: it is no engine, or one of another version.
    #[error("{url} does not answer like an engine of this version: {why}")]
    Answer {
        /// The API.
        url: String,
        /// What is wrong.
        why: String,
    },
}

/// A running engine, as its API shows it.
#[derive(Debug)]
pub(super) struct Remote {
    http: Client,
    base: String,
    token: Option<SecretString>,
}

impl Remote {
    /// The engine whose API has this URL.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub(super) fn new(url: &str, token: Option<&Secret>) -> Result<Self, RemoteError> {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT);
        if !url.starts_with("https:") {
            // No certificate will be looked at, so a system without any must not matter.
            builder = builder.tls_certs_only(std::iter::empty::<reqwest::Certificate>());
        }
        let http = builder.build().map_err(|error| RemoteError::Client(root_cause(&error)))?;
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { http, base, token: token.map(|token| token.reveal().clone()) })
    }

    /// The engine that listens there.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub(super) fn at(listen: SocketAddr, token: Option<&Secret>) -> Result<Self, RemoteError> {
        // An engine that listens everywhere listens on loopback too.
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self::new(&format!("http://{}", SocketAddr::new(ip, listen.port())), token)
    }

    /// Sends a command to a manifest.
    ///
    /// # Errors
    /// The engine refuses, or does not answer.
    pub(super) async fn command(
        &self,
        key: &ManifestKey,
        action: CommandAction,
        asked: &Asked,
        wait: Duration,
    ) -> Result<Commanded, RemoteError> {
        let path = format!("/manifests/{}/{}", encoded(key.as_str()), word(action));
        let mut body = json!({"who": asked.who, "why": asked.why, "wait_ms": millis(wait)});
        if let CommandAction::Extend { by_seconds } = action {
            body["by_seconds"] = Value::from(by_seconds);
        }
        self.ask(self.post(&path, &body).timeout(wait.saturating_add(TIMEOUT))).await
    }

    /// Lists dead letters.
    ///
    /// # Errors
    /// The engine refuses, or does not answer.
    pub(super) async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<LetterListing, RemoteError> {
        let path = format!("/dead-letters?{}", query(filter));
        self.ask(self.http.get(self.url(&path)).timeout(TIMEOUT)).await
    }

    /// Shows one dead letter.
    ///
    /// # Errors
    /// The engine refuses, or does not answer.
    pub(super) async fn dead_letter(&self, id: &str) -> Result<LetterDetails, RemoteError> {
        let path = format!("/dead-letters/{}", encoded(id));
        self.ask(self.http.get(self.url(&path)).timeout(TIMEOUT)).await
    }

    /// Replays or discards dead letters.
    ///
    /// # Errors
    /// The engine refuses, or does not answer.
    pub(super) async fn change(
        &self,
        what: &str,
        filter: &DeadLetterFilter,
        asked: &Asked,
        dry_run: bool,
    ) -> Result<Vec<LetterLine>, RemoteError> {
        let mut body = json!(filter);
        body["who"] = Value::from(asked.who.as_str());
        body["why"] = Value::from(asked.why.as_str());
        body["dry_run"] = Value::from(dry_run);
        self.ask(self.post(&format!("/dead-letters/{what}"), &body).timeout(TIMEOUT)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self.http.post(self.url(path));
        request.header("content-type", "application/json").body(body.to_string())
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, RemoteError> {
        let url = self.base.clone();
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        let unreachable = |error: &reqwest::Error| RemoteError::Unreachable {
            url: url.clone(),
            why: root_cause(error),
        };
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| RemoteError::Answer { url, why: error.to_string() });
        }
        let why = why(&body).unwrap_or_else(|| format!("it answers {status}"));
        if status.is_client_error() {
            return Err(RemoteError::Refused { why });
        }
        Err(RemoteError::Failed { url, why })
    }
}

/// The words of an answer that is no success.
fn why(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(printable(answer.get("error")?.as_str()?))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A filter as a query: what is not given is left out, ids are separated by commas.
fn query(filter: &DeadLetterFilter) -> String {
    let ids = (!filter.ids.is_empty()).then(|| filter.ids.join(","));
    let pairs = [
        ("ids", ids),
        ("node", filter.node.clone()),
        ("class", filter.class.clone()),
        ("manifest", filter.manifest.clone()),
        ("member", filter.member.clone()),
        ("since", filter.since.map(|since| since.to_string())),
        ("state", filter.state.map(|state| state.as_str().to_owned())),
        ("limit", Some(filter.limit.to_string())),
    ];
    let given = pairs.iter().filter_map(|(name, value)| {
        let value = value.as_deref()?;
        Some(format!("{name}={}", encoded(value)))
    });
    given.collect::<Vec<_>>().join("&")
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::stub::{Answer, Stub};
    use crate::ops::dead_letters::LetterState;

    fn asked() -> Asked {
        Asked { who: "ann".to_owned(), why: "mended".to_owned() }
    }

    #[test]
    fn a_filter_becomes_a_query_without_what_is_not_given() {
        let filter = DeadLetterFilter {
            ids: vec!["0-1".to_owned(), "2-3".to_owned()],
            member: Some("a b&c.csv".to_owned()),
            state: Some(LetterState::Waiting),
            limit: 5,
            ..DeadLetterFilter::default()
        };
        let wanted = "ids=0%2D1%2C2%2D3&member=a%20b%26c%2Ecsv&state=waiting&limit=5";
        assert_eq!(query(&filter), wanted);
        assert_eq!(query(&DeadLetterFilter::default()), "limit=0");
    }

    #[tokio::test]
    async fn an_answer_is_read_and_a_refusal_is_told_in_the_engines_words() {
        let stub = Stub::serve(|head| {
            if head.starts_with("POST /api/v1/manifests/a%2Fb/force ") {
                Answer::body(
                    br#"{"manifest":"a/b","action":"force","applied":true,"phase":"complete",
                        "revision":2,"note":null}"#,
                )
            } else {
                Answer::status(409, "", br#"{"error":"it is cancelled"}"#)
            }
        })
        .await;
        let remote = Remote::new(&stub.url(""), None).unwrap();
        let wait = Duration::from_secs(1);
        let key = ManifestKey::from("a/b");
        let commanded = remote.command(&key, CommandAction::Force, &asked(), wait).await.unwrap();
        assert_eq!((commanded.applied, commanded.revision), (true, 2));
        let refused = remote.command(&"c".into(), CommandAction::Force, &asked(), wait).await;
        assert!(matches!(refused, Err(RemoteError::Refused { why }) if why == "it is cancelled"));
    }

    #[tokio::test]
    async fn a_refused_connection_says_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let remote = Remote::at(address, None).unwrap();
        let told = remote.dead_letter("0-1").await.unwrap_err().to_string();
        for part in ["no engine answers at http://127.0.0.1:", "tidemill run", "--api URL"] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn an_engine_that_listens_everywhere_is_asked_on_loopback() {
        let base = |listen: &str| Remote::at(listen.parse().unwrap(), None).unwrap().base;
        assert_eq!(base("0.0.0.0:7410"), "http://127.0.0.1:7410");
        assert_eq!(base("[::]:7410"), "http://[::1]:7410");
        assert_eq!(base("10.1.2.3:80"), "http://10.1.2.3:80");
    }
}
