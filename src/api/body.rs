//! Bodies of requests.
//!
//! Responsible for: reading JSON within a limit of bytes and of time.
//! Not responsible for: what it says.
//!
//! Only `application/json` is taken: no form of a page in a browser can send that to this server
//! without asking first.

use std::pin::pin;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use crate::api::refusal::Refusal;
use crate::api::{PATIENCE, Patience};

/// Most bytes of a body.
const MOST_BYTES: usize = 64 << 10;

/// The JSON of a request's body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Refusal;
    type Future = LocalBoxFuture<'static, Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let checked = check(request);
        let patience = request.app_data::<Patience>().copied().unwrap_or(PATIENCE);
        let payload = payload.take();
        Box::pin(async move {
            checked?;
            let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly");
            let body = tokio::time::timeout(patience.body, read(payload)).await.map_err(late)??;
            let parsed = serde_json::from_slice(&body);
            parsed.map(Self).map_err(|error| Refusal::bad(format!("the body is wrong: {error}")))
        })
    }
}

/// What the head says of the body.
fn check(request: &HttpRequest) -> Result<(), Refusal> {
    if !request.content_type().eq_ignore_ascii_case("application/json") {
        let why = "the body has to be JSON, sent as `Content-Type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MOST_BYTES) { Err(too_large()) } else { Ok(()) }
}

async fn read(payload: Payload) -> Result<Vec<u8>, Refusal> {
    let mut payload = pin!(payload);
    let mut body = Vec::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|error| Refusal::bad(format!("the body broke off: {error}")))?;
        if body.len() + piece.len() > MOST_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn too_large() -> Refusal {
    let why = format!("the body is larger than {MOST_BYTES} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::test::TestRequest;

    use super::*;

    async fn read_as_json(body: Vec<u8>, content_type: &str) -> Result<serde_json::Value, u16> {
        let request = TestRequest::post().insert_header(("content-type", content_type));
        let (request, mut payload) = request.set_payload(body).to_http_parts();
        let read = Body::<serde_json::Value>::from_request(&request, &mut payload).await;
        read.map(|Body(value)| value).map_err(|refusal| refusal.status_code().as_u16())
    }

    #[actix_web::test]
    async fn json_is_read_and_anything_else_refused() {
        let json = "application/json; charset=utf-8";
        assert_eq!(read_as_json(b"{}".to_vec(), json).await, Ok(serde_json::json!({})));
        assert_eq!(read_as_json(b"{".to_vec(), json).await, Err(400));
        assert_eq!(read_as_json(b"{}".to_vec(), "text/plain").await, Err(415));
        let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2)).into_bytes();
        assert!(read_as_json(text(MOST_BYTES), json).await.is_ok());
        assert_eq!(read_as_json(text(MOST_BYTES + 1), json).await, Err(413));
    }
}
