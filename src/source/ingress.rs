//! The HTTP ingress: takes uploads, keeps them, announces them on a topic.
//!
//! Responsible for: the server, its endpoints, and the announcers of each ingress. `202` means that
//! payload and announcement are durable, on a disk or in a store of objects: they are not lost as
//! long as that lives, whether or not the broker can be reached.
//! Not responsible for: what is fetched later (`processor::fetch` reads [`IngressPayloads`] through
//! the engine), or TLS and authentication, which belong in front of it.
//!
//! ```text
//! POST {path} ─▶ ID.part ─▶ announce program ─▶ ID.json + ID, synced ─▶ 202
//!                                          (or: payloads/ID, waiting/ID, put)
//!                                                  │
//!                                 backlog ─▶ announcer ─▶ topic ─ acked ─▶ ID.sent ─▶ retention
//! GET {path}/payloads/ID ◀── ID
//! ```
//!
//! A folder belongs to one process on one machine. Other replicas fetch from it over HTTP, if their
//! topology allows that origin, and for as long as the machine is there. A spool that replicas share
//! (`shared`) is there whichever of them lives: any of them hands its payloads out, and announces
//! what a dead one has left.

mod announcement;
mod announcer;
mod answer;
mod backlog;
mod download;
mod shared;
mod spool;
mod storage;
mod upload;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;

use crate::broker::Producer;
use crate::model::NodeName;
use crate::progress::restart::RestartPolicy;
use crate::progress::shared_spool::Times;
use crate::runtime::clock::SharedClock;
use crate::runtime::supervisor::{Child, ChildEnd, ChildSpec, supervise};
use crate::source::config::Ingress;
use crate::source::ingress::announcer::{Announcer, AnnouncerContext};
use crate::source::ingress::shared::SharedSpool;
use crate::source::ingress::spool::IngressSpool;
use crate::source::ingress::upload::Endpoint;
use crate::spool::objects::ObjectRoot;
use crate::telemetry::Instruments;

pub use crate::source::ingress::storage::{IngressPayloads, Payload};

/// Threads that serve requests; they hardly do more than move bytes.
const WORKERS: usize = 2;
/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for uploads under way, in seconds.
const STOP_TIMEOUT: u64 = 10;

/// Where and how uploads are taken.
#[derive(Clone, Debug)]
pub struct IngressSettings {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others find the payloads, if that is not the address itself.
    pub public_url: Option<String>,
    /// Folder of the spools; each ingress has one of its name in it.
    pub dir: PathBuf,
    /// How long a payload is kept after it was announced. It has to be at least as long as the
    /// topic keeps the announcement.
    pub retain: Duration,
    /// How old an announcement in a shared spool is before any replica sends it.
    pub adopt_after: Duration,
    /// Spools that replicas share, by ingress.
    pub shared: BTreeMap<NodeName, ObjectRoot>,
}

impl IngressSettings {
    /// How long payloads are kept where nobody says otherwise: as long as Kafka keeps records.
    pub const RETAIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// How old announcements of others are where nobody says otherwise: a replica that lives, and
    /// reaches the broker, has sent its own long before.
    pub const ADOPT_AFTER: Duration = Duration::from_secs(3 * 60);
}

/// Why the ingress cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// The address is taken, or not one of this machine.
    #[error("ingress cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The spool cannot be opened.
    #[error("ingress {name} cannot use its spool {}: {source}", .dir.display())]
    Spool {
        /// The ingress.
        name: NodeName,
        /// Its folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pattern of content types is no regular expression.
    #[error("ingress {name} has a content type that is no regular expression: {source}")]
    ContentType {
        /// The ingress.
        name: NodeName,
        /// What is wrong with it.
        source: regex::Error,
    },
}

/// A running ingress server. Its parts end with the system that it was started in; to end them
/// earlier, [stop](Self::stop) it.
pub struct IngressServer {
    address: SocketAddr,
    handle: ServerHandle,
    server: JoinHandle<io::Result<()>>,
    payloads: Vec<IngressPayloads>,
    announcers: Vec<Child>,
}

impl IngressServer {
    /// Starts the endpoints of `configs` on one address, and announces what former processes have
    /// left unannounced. Blocks on the disk for a moment. Has to be called within an actix system.
    ///
    /// # Errors
    /// The address or a spool cannot be used.
    pub fn start(
        configs: Vec<(NodeName, Ingress)>,
        settings: IngressSettings,
        producer: Arc<dyn Producer>,
        clock: SharedClock,
        instruments: Arc<Instruments>,
    ) -> Result<Self, IngressError> {
        let listen = settings.listen;
        let failed = |source| IngressError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut endpoints = Vec::new();
        for (name, config) in configs {
            let (settings, clock, instruments) = (&settings, clock.clone(), instruments.clone());
            endpoints.push(endpoint(name, config, settings, address, clock, instruments)?);
        }
        let payloads: Vec<_> = endpoints.iter().map(|endpoint| endpoint.payloads.clone()).collect();
        let server = serve(listener, endpoints).map_err(failed)?;
        let handle = server.handle();
        let retain = settings.retain;
        let announcers = payloads.iter().flat_map(IngressPayloads::storages).map(|storage| {
            let (producer, clock) = (producer.clone(), clock.clone());
            announce(AnnouncerContext { storage, producer, clock, retain })
        });
        let announcers = announcers.collect();
        tracing::info!(%address, "ingress takes uploads");
        Ok(Self { address, handle, server: actix::spawn(server), payloads, announcers })
    }

    /// Address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The payloads of each ingress, for those that read them where they lie.
    pub fn payloads(&self) -> &[IngressPayloads] {
        &self.payloads
    }

    /// Waits until an announcer has died too often, and says what happened. Uploads are still
    /// kept, but nobody announces them before the next start.
    pub async fn failed(&self) -> String {
        let mut running: FuturesUnordered<_> =
            self.announcers.iter().map(|child| child.clone().ended()).collect();
        while let Some(end) = running.next().await {
            if let ChildEnd::Escalated { name, reason, restarts } = end {
                return format!("{name} died after {restarts} restarts: {reason}");
            }
        }
        std::future::pending().await
    }

    /// Takes no more uploads, waits a moment for those under way, and stops announcing. What is
    /// not announced yet is announced after the next start.
    pub async fn stop(self) {
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.server.await {
            tracing::warn!(%error, "the ingress server ended with an error");
        }
        for announcer in self.announcers {
            announcer.stop();
            announcer.ended().await;
        }
    }
}

fn endpoint(
    name: NodeName,
    config: Ingress,
    settings: &IngressSettings,
    address: SocketAddr,
    clock: SharedClock,
    instruments: Arc<Instruments>,
) -> Result<web::Data<Endpoint>, IngressError> {
    let dir = settings.dir.join(name.as_str());
    let announced = settings.public_url.clone();
    let base = announced.unwrap_or_else(|| format!("http://{}", reachable(address)));
    let shared = settings.shared.get(&name).map(|root| {
        let times = Times { adopt_after: settings.adopt_after, retain: settings.retain };
        SharedSpool::new(name.clone(), root.clone(), times, clock.clone())
    });
    let folder = IngressSpool::open_folder(name.clone(), dir.clone(), &config.path, base, clock)
        .map_err(|source| IngressError::Spool { name: name.clone(), dir, source })?;
    let payloads = IngressPayloads::new(folder, shared);
    let endpoint = Endpoint::new(config, payloads, instruments)
        .map_err(|source| IngressError::ContentType { name, source })?;
    Ok(web::Data::new(endpoint))
}

/// The address to fetch from: where all addresses of the machine are listened on, loopback is one
/// of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn serve(
    listener: TcpListener,
    endpoints: Vec<web::Data<Endpoint>>,
) -> io::Result<actix_web::dev::Server> {
    let app = move || {
        App::new()
            .configure(|config| routes(config, &endpoints))
            .default_service(web::to(answer::nothing_here))
    };
    let server = HttpServer::new(app)
        .workers(WORKERS)
        .client_request_timeout(HEAD_TIMEOUT)
        .shutdown_timeout(STOP_TIMEOUT)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

fn routes(config: &mut web::ServiceConfig, endpoints: &[web::Data<Endpoint>]) {
    for endpoint in endpoints {
        let payload = format!("{}{{id}}", spool::payloads_of(endpoint.path()));
        let payloads = web::resource(payload)
            .app_data(endpoint.clone())
            .route(web::get().to(download::download))
            .default_service(web::to(answer::wrong_method));
        let uploads = web::resource(endpoint.path())
            .app_data(endpoint.clone())
            .route(web::post().to(upload::upload))
            .default_service(web::to(answer::wrong_method));
        config.service(payloads).service(uploads);
    }
}

fn announce(context: AnnouncerContext) -> Child {
    supervise(ChildSpec {
        name: format!(
            "announcer of ingress {}, {}",
            context.storage.name(),
            context.storage.kind()
        ),
        policy: RestartPolicy::default(),
        clock: context.clock.clone(),
        arbiter: Arbiter::current(),
        factory: move |lifeline| Announcer::new(context.clone(), lifeline),
    })
}

#[cfg(test)]
mod tests;
