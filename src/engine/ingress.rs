//! Starting the ingress, and reading its payloads where they lie.
//!
//! Responsible for: the HTTP endpoints that a topology declares, and handing their spools to the
//! nodes that fetch from them.
//! Not responsible for: taking uploads (`source::ingress`).

use std::fs::File;
use std::sync::Arc;

use crate::engine::{Context, EngineError};
use crate::model::Failure;
use crate::processor::fetch::LocalPayloads;
use crate::runtime::escalation::Ending;
use crate::source::ingress::{IngressServer, IngressSettings, IngressSpool};
use crate::topology::Topology;

/// Starts the endpoints; nothing where none is declared.
pub fn start(context: &Context, topology: &Topology) -> Result<Option<IngressServer>, EngineError> {
    if topology.ingresses.is_empty() {
        return Ok(None);
    }
    let settings = IngressSettings {
        listen: context.config.ingress.listen,
        public_url: context.config.ingress.public_url.clone(),
        dir: context.config.data.dir.join("ingress"),
        retain: context.config.ingress.retain,
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
    Arc::new(Spools(server.spools().to_vec()))
}

struct Spools(Vec<Arc<IngressSpool>>);

impl LocalPayloads for Spools {
    fn open(&self, url: &str) -> Option<Result<File, Failure>> {
        let opened = self.0.iter().find_map(|spool| spool.open(url))?;
        Some(opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::Retriable {
                class: crate::model::FailureClass::NOT_FOUND,
                why: format!("the payload of {url} is no longer kept"),
                after: None,
            },
            _ => Failure::unavailable(format!("the payload of {url} cannot be read: {error}")),
        }))
    }
}
