//! Answers that are no success.
//!
//! Responsible for: one form of all errors, `{"error": "…"}`.
//! Not responsible for: when to refuse.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;

/// Seconds after which it is worth trying again.
const LATER: &str = "10";

/// A request that is not served, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    /// Answers `status`, with a text for people.
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// The request itself is wrong.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// It may work later; nothing was kept.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// The answer.
    pub(super) fn answer(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.insert_header((RETRY_AFTER, LATER));
        }
        answer.json(serde_json::json!({ "error": self.why }))
    }
}

/// Answers paths that nothing is served under.
pub(super) async fn nothing_here() -> HttpResponse {
    Refusal::new(StatusCode::NOT_FOUND, "nothing is served under this path").answer()
}

/// Answers methods that a path does not serve.
pub(super) async fn wrong_method() -> HttpResponse {
    let why = "uploads are POSTed, payloads are read with GET";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why).answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_come_again_is_told_when() {
        let table = [
            (Refusal::unavailable("later"), Some(LATER)),
            (Refusal::bad("never"), None),
            (Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "never"), None),
        ];
        for (refusal, after) in table {
            let answer = refusal.answer();
            let header = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(header, after, "{refusal:?}");
        }
    }
}
