//! What is worth knowing of a topology that is fine.
//!
//! Responsible for: notes, for whoever checks or starts it.
//! Not responsible for: errors (`checks`).

use crate::topology::Topology;

/// What is fine with one replica and may surprise with more.
pub fn notes(topology: &Topology) -> Vec<String> {
    if topology.broker.bootstrap.is_none() {
        return Vec::new();
    }
    let own = topology.ingresses.iter().filter(|(_, ingress)| ingress.spool.is_none());
    own.map(|(name, _)| {
        format!(
            "uploads to [ingress.{name}] stay with the replica that takes them, and wait while it \
             is away: more than one replica needs `spool = {{ url = \"s3://…\" }}`"
        )
    })
    .collect()
}
