//! Questions about manifests, and commands to them.
//!
//! Responsible for: paths, parameters and bodies.
//! Not responsible for: the answers (`ops`).

use std::time::Duration;

use actix_web::http::header::{ACCEPT, ContentType};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::api::refusal::Refusal;
use crate::api::{Shared, most};
use crate::model::ManifestKey;
use crate::model::event::CommandAction;
use crate::ops::explanation::explain_with_letters;
use crate::ops::{self, Asked};
use crate::state::{ManifestFilter, ManifestPhase};

/// Manifests of a listing if nobody says how many.
const LISTED: u32 = 50;
/// How long a command waits to be applied if nobody says how long, in milliseconds.
const WAIT_MS: u64 = 10_000;
/// How long it may wait at most.
const LONGEST_WAIT_MS: u64 = 300_000;

/// Which manifests a listing shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    phase: Option<Phase>,
    prefix: Option<String>,
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Open,
    Complete,
    Cancelled,
    Failed,
}

impl From<Phase> for ManifestPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Open => Self::Open,
            Phase::Complete => Self::Complete,
            Phase::Cancelled => Self::Cancelled,
            Phase::Failed => Self::Failed,
        }
    }
}

/// Who wants a command, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandBody {
    /// Who.
    who: String,
    /// Why.
    why: String,
    /// How long to wait until it is applied, in milliseconds; 10,000 if not given, at most
    /// 300,000.
    wait_ms: Option<u64>,
    /// For how long no deadline acts, in seconds; for `extend`, and for no other command.
    by_seconds: Option<u64>,
}

/// Manifests, newest event first.
pub(super) async fn list(
    shared: web::Data<Shared>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, Refusal> {
    let ListQuery { phase, prefix, limit } = query.into_inner();
    let filter = ManifestFilter {
        phase: phase.map(ManifestPhase::from),
        prefix,
        limit: most(limit, LISTED),
    };
    let (store, pipeline) = shared.store()?;
    Ok(HttpResponse::Ok().json(ops::manifests::list(store, pipeline, &filter).await?))
}

/// Everything that is stored of a manifest.
pub(super) async fn show(
    shared: web::Data<Shared>,
    key: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    let (store, pipeline) = shared.store()?;
    Ok(HttpResponse::Ok().json(ops::manifests::show(store, pipeline, &named(&key)).await?))
}

/// The members that a manifest waits for.
pub(super) async fn missing(
    shared: web::Data<Shared>,
    key: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    let (store, pipeline) = shared.store()?;
    Ok(HttpResponse::Ok().json(ops::manifests::missing(store, pipeline, &named(&key)).await?))
}

/// Why a manifest is where it is; as text for whoever would rather have that.
pub(super) async fn explain(
    shared: web::Data<Shared>,
    request: HttpRequest,
    key: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    let (operator, now) = (&shared.context()?.operator, shared.now()?);
    let explained = explain_with_letters(operator, &named(&key), now).await?;
    if prefers_text(&request) {
        let text = explained.to_string();
        return Ok(HttpResponse::Ok().content_type(ContentType::plaintext()).body(text));
    }
    Ok(HttpResponse::Ok().json(explained))
}

/// Sends a command to a manifest, and waits for it to be applied.
pub(super) async fn command(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    Body(body): Body<CommandBody>,
) -> Result<HttpResponse, Refusal> {
    let (key, word) = path.into_inner();
    let CommandBody { who, why, wait_ms, by_seconds } = body;
    let action = action(&word, by_seconds)?;
    let wait = Duration::from_millis(wait_ms.unwrap_or(WAIT_MS).min(LONGEST_WAIT_MS));
    let asked = Asked { who, why };
    tracing::info!(
        manifest = ?key, command = word, who = ?asked.who, why = ?asked.why,
        peer = ?request.peer_addr(), "an operator sends a command"
    );
    let operator = &shared.context()?.operator;
    let commanded = operator.command(&named(&key), action, &asked, wait).await?;
    Ok(HttpResponse::Ok().json(commanded))
}

fn named(key: &str) -> ManifestKey {
    ManifestKey::from(key)
}

fn action(word: &str, by_seconds: Option<u64>) -> Result<CommandAction, Refusal> {
    let action = match (word, by_seconds) {
        ("extend", Some(by_seconds)) => return Ok(CommandAction::Extend { by_seconds }),
        ("extend", None) => return Err(Refusal::bad("extend needs `by_seconds`")),
        ("force", _) => CommandAction::Force,
        ("cancel", _) => CommandAction::Cancel,
        ("reopen", _) => CommandAction::Reopen,
        ("retry", _) => CommandAction::Retry,
        _ => {
            let why = "there is no such command; there are force, cancel, reopen, retry and extend";
            return Err(Refusal::unknown(why));
        }
    };
    match by_seconds {
        None => Ok(action),
        Some(_) => Err(Refusal::bad(format!("{word} takes no `by_seconds`"))),
    }
}

/// Whether text comes before JSON in what the client accepts.
fn prefers_text(request: &HttpRequest) -> bool {
    let accepted = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let kinds = accepted.unwrap_or_default().split(',');
    let mut known = kinds.filter_map(|kind| match kind.split(';').next()?.trim() {
        "text/plain" | "text/*" => Some(true),
        "application/json" | "application/*" | "*/*" => Some(false),
        _ => None,
    });
    known.next().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn text_is_for_those_who_name_it_first() {
        let table = [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some("text/plain"), true),
            (Some("text/plain; charset=utf-8, application/json"), true),
            (Some("application/json, text/plain"), false),
            (Some("text/html, text/plain;q=0.5"), true),
        ];
        for (accept, wanted) in table {
            let mut request = TestRequest::get();
            if let Some(accept) = accept {
                request = request.insert_header((ACCEPT, accept));
            }
            assert_eq!(prefers_text(&request.to_http_request()), wanted, "{accept:?}");
        }
    }

    #[test]
    fn commands_are_words_and_only_one_takes_a_time() {
        let table = [
            ("force", None, Ok(CommandAction::Force)),
            ("cancel", None, Ok(CommandAction::Cancel)),
            ("reopen", None, Ok(CommandAction::Reopen)),
            ("retry", None, Ok(CommandAction::Retry)),
            ("extend", Some(60), Ok(CommandAction::Extend { by_seconds: 60 })),
            ("extend", None, Err(400)),
            ("force", Some(60), Err(400)),
            ("delete", None, Err(404)),
        ];
        for (word, by_seconds, wanted) in table {
            let found = action(word, by_seconds);
            assert_eq!(found.map_err(|error| error.status_code().as_u16()), wanted, "{word}");
        }
    }
}
