//! Answers that are no success.
//!
//! Responsible for: one form of all errors, `{"error": "…"}`, and the status of each.
//! Not responsible for: when to refuse.

use actix_web::http::StatusCode;
use actix_web::http::header::WWW_AUTHENTICATE;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ops::OpsError;
use crate::state::StateError;

/// A request that is not served, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
}

/// What an error looks like.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorAnswer {
    /// What is wrong, and what to do.
    error: String,
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

    /// There is nothing of that name.
    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    /// It may work later.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// A fault of the engine.
    pub(super) fn internal(why: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(ErrorAnswer { error: self.why.clone() })
    }
}

impl From<OpsError> for Refusal {
    fn from(error: OpsError) -> Self {
        let status = match &error {
            OpsError::Unknown(_) => StatusCode::NOT_FOUND,
            OpsError::Invalid(_) => StatusCode::BAD_REQUEST,
            OpsError::Refused(_) | OpsError::State(StateError::Mismatch(_)) => StatusCode::CONFLICT,
            OpsError::State(StateError::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            OpsError::Broker(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            OpsError::State(StateError::Fatal(_)) | OpsError::Broker(_) | OpsError::Internal(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a request cannot be answered");
        }
        Self::new(status, error.to_string())
    }
}

/// Answers paths that nothing is served under.
pub(super) async fn nothing_here() -> HttpResponse {
    let why = "nothing is served under this path; /api/v1/openapi.json lists what is";
    Refusal::unknown(why).error_response()
}

/// Answers methods that a path does not serve.
pub(super) async fn wrong_method() -> HttpResponse {
    let why = "questions are asked with GET, changes are POSTed";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why).error_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerError;
    use crate::model::Topic;

    #[test]
    fn each_error_has_its_status() {
        let table = [
            (OpsError::Unknown("m".into()), 404),
            (OpsError::Invalid("m".into()), 400),
            (OpsError::Refused("m".into()), 409),
            (OpsError::State(StateError::Unavailable("m".into())), 503),
            (OpsError::State(StateError::Mismatch("m".into())), 409),
            (OpsError::State(StateError::Fatal("m".into())), 500),
            (OpsError::Broker(BrokerError::Unavailable("m".into())), 503),
            (OpsError::Broker(BrokerError::UnknownTopic(Topic::from("m"))), 500),
            (OpsError::Internal("m".into()), 500),
        ];
        for (error, status) in table {
            let refusal = Refusal::from(error.clone());
            assert_eq!(refusal.status_code().as_u16(), status, "{error:?}");
            assert_eq!(refusal.error_response().status().as_u16(), status);
        }
    }
}
