//! Starting the ingress, and reading its payloads where they lie.
//!
//! Responsible for: the HTTP endpoints that a topology declares, the spools that replicas share, and
//! handing payloads to the nodes that fetch them.
//! Not responsible for: taking uploads (`source::ingress`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Context, EngineError};
use crate::model::{Failure, FailureClass, NodeName};
use crate::processor::fetch::{LocalPayload, LocalPayloads, Pieces};
use crate::runtime::escalation::Ending;
use crate::runtime::node::BoxFuture;
use crate::source::ingress::{IngressPayloads, IngressServer, IngressSettings, Payload};
use crate::spool::objects::{ObjectReader, ObjectRoot, RootError};
use crate::topology::{self, Topology};

/// Spools that replicas share, by ingress.
pub type SharedSpools = BTreeMap<NodeName, ObjectRoot>;

/// Opens the spools that replicas share, and says where uploads stay with one of them.
///
/// # Errors
/// The first that cannot be used, and what to do about it.
pub async fn shared(topology: &Topology) -> Result<SharedSpools, EngineError> {
    topology::notes(topology).iter().for_each(|note| tracing::warn!("{note}"));
    let mut spools = SharedSpools::new();
    for (name, ingress) in &topology.ingresses {
        let Some(place) = &ingress.spool else { continue };
        let unusable =
            |error: RootError| EngineError::dependency(format!("ingress {name}: {error}"));
        let root = ObjectRoot::open(&place.url, place.s3.as_ref()).map_err(unusable)?;
        root.probe().await.map_err(unusable)?;
        spools.insert(name.clone(), root);
    }
    Ok(spools)
}

/// Starts the endpoints; nothing where none is declared.
pub fn start(
    context: &Context,
    topology: &Topology,
    shared: SharedSpools,
) -> Result<Option<IngressServer>, EngineError> {
    if topology.ingresses.is_empty() {
        return Ok(None);
    }
    let declared = &context.config.ingress;
    let settings = IngressSettings {
        listen: declared.listen,
        public_url: declared.public_url.clone(),
        dir: context.config.data.dir.join("ingress"),
        retain: declared.retain,
        adopt_after: declared.adopt_after,
        shared,
    };
    IngressServer::start(
        topology.ingresses.clone(),
        settings,
        context.producer.clone(),
        context.clock.clone(),
        context.instruments.clone(),
    )
    .map(Some)
    .map_err(|error| EngineError { ending: Ending::Dependency, why: error.to_string() })
}

/// The payloads of an ingress, for the nodes that fetch them.
pub fn payloads(server: &IngressServer) -> Arc<dyn LocalPayloads> {
    Arc::new(Payloads(server.payloads().to_vec()))
}

struct Payloads(Vec<IngressPayloads>);

impl LocalPayloads for Payloads {
    fn find<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Option<Result<LocalPayload, Failure>>> {
        Box::pin(async move {
            for payloads in &self.0 {
                if let Some(found) = payloads.find(url).await {
                    return Some(found.map(ready).map_err(|error| failed(url, &error)));
                }
            }
            None
        })
    }
}

fn ready(payload: Payload) -> LocalPayload {
    match payload {
        Payload::File(file) => LocalPayload::File(file),
        Payload::Object(object) => LocalPayload::Remote(Box::new(Object(object))),
    }
}

fn failed(url: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::Retriable {
            class: FailureClass::NOT_FOUND,
            why: format!("the payload of {url} is no longer kept"),
            after: None,
        },
        _ => Failure::unavailable(format!("the payload of {url} cannot be read: {error}")),
    }
}

/// A payload in a shared spool.
struct Object(ObjectReader);

impl Pieces for Object {
    fn length(&self) -> Option<u64> {
        Some(self.0.bytes())
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async move {
            let piece = self.0.next().await;
            piece.map_err(|error| Failure::unavailable(format!("cannot read a payload: {error}")))
        })
    }
}
