//! Dead letters: which there are, trying them again, letting them go.
//!
//! Responsible for: paths, parameters and bodies.
//! Not responsible for: the letters (`ops::dead_letters`).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::api::refusal::Refusal;
use crate::api::{Shared, most};
use crate::ops::Asked;
use crate::ops::dead_letters::{DeadLetterFilter, LetterState};

/// Letters of a listing if nobody says how many.
const LISTED: u32 = 50;

/// Which letters a listing shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LettersQuery {
    /// Separated by commas.
    ids: Option<String>,
    node: Option<String>,
    class: Option<String>,
    manifest: Option<String>,
    member: Option<String>,
    since: Option<i64>,
    state: Option<LetterState>,
    limit: Option<u32>,
}

impl From<LettersQuery> for DeadLetterFilter {
    fn from(query: LettersQuery) -> Self {
        let LettersQuery { ids, node, class, manifest, member, since, state, limit } = query;
        let ids = ids.as_deref().unwrap_or_default().split(',').filter(|id| !id.is_empty());
        let ids = ids.map(str::to_owned).collect();
        Self { ids, node, class, manifest, member, since, state, limit: most(limit, LISTED) }
    }
}

/// Which letters are to be changed, who wants it, and why. Whatever is given of a letter has to
/// fit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LettersBody {
    /// Only these, by id: `PARTITION-OFFSET`.
    #[serde(default)]
    ids: Vec<String>,
    /// Only those that this node gave up.
    node: Option<String>,
    /// Only those of this failure class.
    class: Option<String>,
    /// Only those of members of this manifest.
    manifest: Option<String>,
    /// Only those of members with this id.
    member: Option<String>,
    /// Only those that failed at this time or later, milliseconds since the Unix epoch.
    since: Option<i64>,
    /// Only those in this state.
    state: Option<LetterState>,
    /// At most so many; 0 is as many as there can be (10,000).
    #[serde(default)]
    limit: u32,
    /// Who.
    who: String,
    /// Why.
    why: String,
    /// Whether to say only what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// A change of dead letters.
struct Wanted {
    filter: DeadLetterFilter,
    asked: Asked,
    dry_run: bool,
}

impl Wanted {
    /// What a body says, told to the log.
    fn of(body: LettersBody, what: &str, request: &HttpRequest) -> Self {
        let LettersBody { ids, node, class, manifest, member, since, state, limit, .. } = body;
        let filter = DeadLetterFilter { ids, node, class, manifest, member, since, state, limit };
        let (asked, dry_run) = (Asked { who: body.who, why: body.why }, body.dry_run);
        tracing::info!(
            what, ?filter, who = ?asked.who, why = ?asked.why, dry_run,
            peer = ?request.peer_addr(), "an operator changes dead letters"
        );
        Self { filter, asked, dry_run }
    }
}

/// Dead letters, newest failure first.
pub(super) async fn list(
    shared: web::Data<Shared>,
    query: web::Query<LettersQuery>,
) -> Result<HttpResponse, Refusal> {
    let filter = DeadLetterFilter::from(query.into_inner());
    Ok(HttpResponse::Ok().json(shared.context()?.operator.dead_letters(&filter).await?))
}

/// One dead letter with everything that it holds.
pub(super) async fn show(
    shared: web::Data<Shared>,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(shared.context()?.operator.dead_letter(&id).await?))
}

/// Tries dead letters again.
pub(super) async fn replay(
    shared: web::Data<Shared>,
    request: HttpRequest,
    Body(body): Body<LettersBody>,
) -> Result<HttpResponse, Refusal> {
    let operator = &shared.context()?.operator;
    let Wanted { filter, asked, dry_run } = Wanted::of(body, "replay", &request);
    Ok(HttpResponse::Ok().json(operator.replay(&filter, &asked, dry_run).await?))
}

/// Lets dead letters go.
pub(super) async fn discard(
    shared: web::Data<Shared>,
    request: HttpRequest,
    Body(body): Body<LettersBody>,
) -> Result<HttpResponse, Refusal> {
    let operator = &shared.context()?.operator;
    let Wanted { filter, asked, dry_run } = Wanted::of(body, "discard", &request);
    Ok(HttpResponse::Ok().json(operator.discard(&filter, &asked, dry_run).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_query_are_separated_by_commas() {
        let filter = |query: &str| {
            let query = web::Query::<LettersQuery>::from_query(query).unwrap();
            DeadLetterFilter::from(query.into_inner())
        };
        let found = filter("ids=0-1,2-3&state=waiting&member=a%20b&limit=0");
        assert_eq!(found.ids, ["0-1", "2-3"]);
        assert_eq!(found.state, Some(LetterState::Waiting));
        assert_eq!(found.member.as_deref(), Some("a b"));
        assert_eq!(found.limit, 10_000);
        assert_eq!(filter("").limit, LISTED);
        assert!(filter("").ids.is_empty());
    }

    #[test]
    fn a_body_with_a_misspelt_condition_is_refused_instead_of_meaning_more() {
        let body = |text: &str| serde_json::from_str::<LettersBody>(text);
        assert!(body(r#"{"node": "fetch", "who": "ann", "why": "mended"}"#).is_ok());
        assert!(body(r#"{"nod": "fetch", "who": "ann", "why": "mended"}"#).is_err());
        assert!(body(r#"{"node": "fetch", "who": "ann"}"#).is_err());
    }
}
