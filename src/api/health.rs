//! Health and metrics.
//!
//! Responsible for: `/livez`, `/readyz`, `/metrics`, and the description of the API.
//! Not responsible for: what is healthy (`engine::health`), or what is counted (`telemetry`).
//!
//! Health is told to anybody, the reasons only to whoever may ask for more: they name nodes, hosts
//! and files.

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Shared;
use crate::api::refusal::Refusal;
use crate::engine::health::Readiness;
use crate::runtime::heartbeat::Stalled;

/// Whether the process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Liveness {
    /// Whether it does.
    alive: bool,
    /// Threads that are busy and show no progress; left out for strangers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stalled: Vec<StalledThread>,
}

/// A thread that is busy and shows no progress.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StalledThread {
    /// Its name.
    name: String,
    /// For how many seconds it has shown none.
    silent_seconds: u64,
}

impl From<Stalled> for StalledThread {
    fn from(stalled: Stalled) -> Self {
        Self { name: stalled.name.to_string(), silent_seconds: stalled.silent.as_secs() }
    }
}

/// All that a stranger is told.
#[derive(Serialize)]
struct Ready {
    ready: bool,
}

fn status(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Whether all threads show progress; a process that is starting lives.
pub(super) async fn livez(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    let stalled = shared.attached().map_or_else(Vec::new, |context| context.health.stalled());
    let alive = stalled.is_empty();
    let shown = if shared.gate.trusts(&request) { stalled } else { Vec::new() };
    let stalled = shown.into_iter().map(StalledThread::from).collect();
    HttpResponse::build(status(alive)).json(Liveness { alive, stalled })
}

/// Whether the pipeline can do its work.
pub(super) async fn readyz(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    let readiness = match shared.attached() {
        Some(context) => context.health.readiness(),
        None => Readiness::starting(&shared.pipeline),
    };
    let mut response = HttpResponse::build(status(readiness.ready));
    if shared.gate.trusts(&request) {
        response.json(readiness)
    } else {
        response.json(Ready { ready: readiness.ready })
    }
}

/// All metrics, as Prometheus reads them.
pub(super) async fn metrics(shared: web::Data<Shared>) -> Result<HttpResponse, Refusal> {
    let text = shared.context()?.metrics.text();
    let text = text.map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type(prometheus::TEXT_FORMAT).body(text))
}

/// The description of the API.
pub(super) async fn openapi(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(shared.description.clone())
}
