//! Who may ask.
//!
//! Responsible for: the bearer token, the rule of loopback where there is none, and which paths
//! are open.
//! Not responsible for: encryption, which belongs in front of the API, or what is answered.
//!
//! | path | without a token set | with a token set |
//! |---|---|---|
//! | `/livez`, `/readyz` | anybody | anybody |
//! | `/metrics` | this machine | this machine, or the token |
//! | all others | this machine | the token |
//!
//! "This machine" means a loopback peer that also names the server by a loopback name: a page in a
//! browser that points a name of its own at 127.0.0.1 is a stranger.

use std::net::{IpAddr, SocketAddr};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, ResponseError, web};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::api::Shared;
use crate::api::refusal::Refusal;

/// What is said of a request that has to be admitted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Visit<'a> {
    /// Path that is asked for.
    pub(super) path: &'a str,
    /// Who asks, as the connection says.
    pub(super) peer: Option<IpAddr>,
    /// The header `Host`.
    pub(super) host: Option<&'a str>,
    /// The header `Authorization`.
    pub(super) authorization: Option<&'a str>,
}

impl<'a> Visit<'a> {
    fn new(path: &'a str, peer: Option<SocketAddr>, headers: &'a HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            path,
            peer: peer.map(|peer| peer.ip()),
            host: text(HOST),
            authorization: text(AUTHORIZATION),
        }
    }

    fn is_local(&self) -> bool {
        let is_loopback = self.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
        is_loopback && self.host.is_none_or(is_loopback_name)
    }

    fn token(&self) -> Option<&'a str> {
        let (scheme, token) = self.authorization?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// Admits requests. The token itself is not kept.
pub(super) struct Gate {
    token: Option<blake3::Hash>,
}

impl Gate {
    /// A gate that asks for this token.
    pub(super) fn new(token: Option<&SecretString>) -> Self {
        Self { token: token.map(|token| blake3::hash(token.expose_secret().as_bytes())) }
    }

    /// Whether a request may be served.
    pub(super) fn judge(&self, visit: &Visit<'_>) -> Result<(), Refusal> {
        match visit.path {
            "/livez" | "/readyz" => Ok(()),
            "/metrics" if visit.is_local() => Ok(()),
            _ => self.ask(visit),
        }
    }

    /// Whether a request that is served to anybody may be told details.
    pub(super) fn trusts(&self, request: &HttpRequest) -> bool {
        let visit = Visit::new(request.path(), request.peer_addr(), request.headers());
        visit.is_local() || self.ask(&visit).is_ok()
    }

    fn ask(&self, visit: &Visit<'_>) -> Result<(), Refusal> {
        let Some(wanted) = &self.token else {
            if visit.is_local() {
                return Ok(());
            }
            let why = "only clients on this machine are served, under localhost or a loopback \
                       address; to serve others set a token and an address that they can reach";
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        };
        let Some(token) = visit.token() else {
            let why = "a token is needed: send `Authorization: Bearer TOKEN`";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
        };
        // Hashes are of one length, so the time that this takes says nothing of either token.
        let sent = blake3::hash(token.as_bytes());
        if bool::from(sent.as_bytes().as_slice().ct_eq(wanted.as_bytes().as_slice())) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "the token is not the one that is set"))
    }
}

/// A name of this machine, with a port or without one, and nothing else.
fn is_loopback_name(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[') {
        Some(inside) => inside.split_once(']').unwrap_or_default(),
        None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let is_port = |rest: &str| {
        let digits = rest.strip_prefix(':');
        digits.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_here = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    is_here && (rest.is_empty() || is_port(rest))
}

/// Lets requests through, or answers them.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let visit = Visit::new(request.path(), request.peer_addr(), request.headers());
    let judged = match request.app_data::<web::Data<Shared>>() {
        Some(shared) => shared.gate.judge(&visit),
        None => Err(Refusal::internal("the API has no gate")),
    };
    if let Err(refusal) = judged {
        tracing::debug!(peer = ?visit.peer, path = visit.path, %refusal, "request refused");
        return Ok(request.into_response(refusal.error_response()));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn status(gate: &Gate, visit: Visit<'_>) -> u16 {
        gate.judge(&visit).map_or_else(|refusal| refusal.status_code().as_u16(), |()| 200)
    }

    fn from<'a>(peer: &str, path: &'a str, authorization: Option<&'a str>) -> Visit<'a> {
        Visit { path, peer: peer.parse().ok(), host: Some("localhost:7410"), authorization }
    }

    #[test]
    fn requests_are_admitted_as_the_table_says() {
        let (open, closed) = (Gate::new(None), Gate::new(Some(&SecretString::from(TOKEN))));
        let right = format!("Bearer {TOKEN}");
        let (right, wrong) = (Some(right.as_str()), Some("Bearer incorrect-horse-bat"));
        let (here, there) = ("127.0.0.1", "192.0.2.7");
        let table = [
            // without a token set
            (&open, from(here, "/api/v1/manifests", None), 200),
            (&open, from("::1", "/api/v1/manifests", None), 200),
            (&open, from("::ffff:127.0.0.1", "/api/v1/manifests", None), 200),
            (&open, from(there, "/api/v1/manifests", None), 403),
            (&open, from(there, "/api/v1/manifests", right), 403),
            (&open, from("", "/api/v1/manifests", None), 403),
            (&open, from(here, "/metrics", None), 200),
            (&open, from(there, "/metrics", None), 403),
            (&open, from(there, "/livez", None), 200),
            (&open, from(there, "/readyz", None), 200),
            // with a token set
            (&closed, from(here, "/api/v1/manifests", None), 401),
            (&closed, from(here, "/api/v1/manifests", wrong), 403),
            (&closed, from(here, "/api/v1/manifests", right), 200),
            (&closed, from(there, "/api/v1/manifests", right), 200),
            (&closed, from(there, "/api/v1/manifests", Some("bearer correct-horse-battery")), 200),
            (&closed, from(there, "/api/v1/manifests", Some("Basic Zm9v")), 401),
            (&closed, from(there, "/api/v1/manifests", Some("Bearer")), 401),
            (&closed, from(there, "/api/v1/manifests", Some("Bearer ")), 403),
            (&closed, from(here, "/metrics", None), 200),
            (&closed, from(there, "/metrics", None), 401),
            (&closed, from(there, "/metrics", right), 200),
            (&closed, from(there, "/livez", None), 200),
            (&closed, from(there, "/livez/", None), 401),
            (&closed, from(there, "/readyz", wrong), 200),
            (&closed, from(there, "/nothing", None), 401),
        ];
        for (gate, visit, wanted) in table {
            let has_token = gate.token.is_some();
            assert_eq!(status(gate, visit), wanted, "{visit:?}, token set: {has_token}");
        }
    }

    #[test]
    fn a_name_that_somebody_points_at_loopback_is_not_this_machine() {
        let table = [
            ("localhost", true),
            ("LOCALHOST:7410", true),
            ("127.0.0.1:7410", true),
            ("[::1]:7410", true),
            ("evil.example:7410", false),
            ("localhost.evil.example", false),
            ("192.0.2.7", false),
            ("localhost:7410@evil.example", false),
            ("127.0.0.1:7410.evil.example", false),
            ("[::1]evil.example", false),
            ("localhost, evil.example", false),
            ("[", false),
            ("", false),
        ];
        for (host, wanted) in table {
            assert_eq!(is_loopback_name(host), wanted, "{host}");
            let visit = Visit { host: Some(host), ..from("127.0.0.1", "/api/v1/tables", None) };
            assert_eq!(status(&Gate::new(None), visit), if wanted { 200 } else { 403 }, "{host}");
        }
    }
}
