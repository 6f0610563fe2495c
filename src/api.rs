//! The HTTP API: health, metrics, and everything that the command line can ask and do.
//!
//! Responsible for: the server, and what its handlers share.
//! Not responsible for: the answers (`ops`, `engine::health`, `telemetry`), or encryption, which
//! belongs in front of it.
//!
//! The server listens before the engine starts, so that a taken port keeps everything from
//! starting, and stops after it, so that a drain can be watched. [`routes`] lists what it serves;
//! the description in OpenAPI is made from the same list.

mod body;
mod dead_letters;
mod description;
mod gate;
mod health;
mod manifests;
mod refusal;
pub mod routes;
mod tables;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use secrecy::SecretString;
use tokio::task::JoinHandle;

use crate::api::gate::Gate;
use crate::api::refusal::Refusal;
use crate::config::Api as Settings;
use crate::engine::health::Health;
use crate::model::PipelineName;
use crate::ops::Operator;
use crate::ops::time::Time;
use crate::state::StateStore;
use crate::telemetry::Metrics;

/// Threads that serve requests: there are few, and answers wait for others.
const WORKERS: usize = 1;
/// Connections at once; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 256;
/// How long clients may take.
const PATIENCE: Patience =
    Patience { head: Duration::from_secs(10), body: Duration::from_secs(10) };
/// How long a stop waits for answers under way, in seconds.
const STOP_TIMEOUT: u64 = 5;
/// Most lines of any listing.
const MOST_LINES: u32 = 10_000;

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For the head of a request.
    head: Duration,
    /// For the body, from its first byte to its last.
    body: Duration,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is taken, or not one of this machine.
    #[error("the API cannot listen on {address}: {source}; api.listen sets another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The description of the API cannot be written.
    #[error("the API cannot describe itself: {0}")]
    Description(#[from] serde_json::Error),
}

/// The running pipeline, as the API sees it.
#[derive(Clone)]
pub struct ApiContext {
    /// Asks and changes.
    pub operator: Operator,
    /// Whether it lives and can do its work.
    pub health: Health,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// What the handlers share.
struct Shared {
    pipeline: PipelineName,
    gate: Gate,
    /// The API in OpenAPI.
    description: String,
    /// Set once the pipeline runs.
    attached: OnceLock<ApiContext>,
}

impl Shared {
    fn new(pipeline: PipelineName, token: Option<&SecretString>) -> Result<Self, ApiError> {
        let description = description::of(routes::ROUTES).to_json()?;
        Ok(Self { pipeline, gate: Gate::new(token), description, attached: OnceLock::new() })
    }

    fn attached(&self) -> Option<&ApiContext> {
        self.attached.get()
    }

    fn context(&self) -> Result<&ApiContext, Refusal> {
        self.attached().ok_or_else(|| {
            Refusal::unavailable(format!("pipeline {} is being started", self.pipeline))
        })
    }

    fn store(&self) -> Result<(&dyn StateStore, &PipelineName), Refusal> {
        let operator = &self.context()?.operator;
        let store = operator.store.as_deref().ok_or_else(|| {
            Refusal::unknown(format!(
                "pipeline {} declares no manifests and no tables",
                self.pipeline
            ))
        })?;
        Ok((store, &operator.pipeline))
    }

    fn now(&self) -> Result<Time, Refusal> {
        Ok(Time(self.context()?.operator.clock.unix_millis()))
    }
}

/// So many lines as are wanted, but never without a limit; 0 is as many as there can be.
fn most(wanted: Option<u32>, otherwise: u32) -> u32 {
    match wanted.unwrap_or(otherwise) {
        0 => MOST_LINES,
        wanted => wanted.min(MOST_LINES),
    }
}

/// A running server.
pub struct ApiServer {
    address: SocketAddr,
    handle: ServerHandle,
    server: JoinHandle<io::Result<()>>,
    shared: web::Data<Shared>,
}

impl ApiServer {
    /// Serves the API of a pipeline that is about to start: it lives, and is not ready. Has to be
    /// called within an actix system.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn start(settings: &Settings, pipeline: &PipelineName) -> Result<Self, ApiError> {
        Self::start_with(settings, pipeline, PATIENCE)
    }

    fn start_with(
        settings: &Settings,
        pipeline: &PipelineName,
        patience: Patience,
    ) -> Result<Self, ApiError> {
        let failed = |source| ApiError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let token = settings.token.as_ref().map(|token| token.reveal());
        let shared = web::Data::new(Shared::new(pipeline.clone(), token)?);
        let server = serve(listener, &shared, patience).map_err(failed)?;
        let handle = server.handle();
        tracing::info!(%address, "api answers");
        Ok(Self { address, handle, server: actix::spawn(server), shared })
    }

    /// The pipeline runs from now on. A second one is not served.
    pub fn attach(&self, context: ApiContext) {
        if self.shared.attached.set(context).is_err() {
            tracing::error!("the API serves a pipeline already");
        }
    }

    /// Address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits a moment for answers under way.
    pub async fn stop(self) {
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.server.await {
            tracing::warn!(%error, "the api server ended with an error");
        }
    }
}

fn serve(
    listener: TcpListener,
    shared: &web::Data<Shared>,
    patience: Patience,
) -> io::Result<actix_web::dev::Server> {
    let shared = shared.clone();
    let app = move || {
        App::new()
            .app_data(shared.clone())
            .app_data(patience)
            .app_data(web::QueryConfig::default().error_handler(|error, _| {
                Refusal::bad(format!("the parameters are wrong: {error}")).into()
            }))
            .app_data(web::PathConfig::default().error_handler(|error, _| {
                Refusal::bad(format!("the path is wrong: {error}")).into()
            }))
            .wrap(from_fn(gate::guard))
            .configure(routes::configure)
            .default_service(web::to(refusal::nothing_here))
    };
    let server = HttpServer::new(app)
        .workers(WORKERS)
        .max_connections(MOST_CONNECTIONS)
        .client_request_timeout(patience.head)
        .shutdown_timeout(STOP_TIMEOUT)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

#[cfg(test)]
mod tests;
