//! Outputs of processors.
//!
//! Responsible for: their names and order, which builders of nodes and stages rely on.
//! Not responsible for: what leaves through them (`processor`).

use crate::processor::config::{Config, Rest};
use crate::runtime::node::PortSpec;

/// Schemas that one `csv` node may declare: each is a port, and ports are numbered by a byte.
pub(super) const MOST_SCHEMAS: usize = 200;

/// Outputs of a processor, in order: a `Port` is an index into them. Main outputs come first, and
/// the only one that has no name is the first of a node that has a single main output.
pub fn ports(config: &Config) -> Vec<PortSpec> {
    match config {
        Config::Filter(filter) if filter.rest == Rest::Port => vec![main(""), aside("rest")],
        Config::Filter(_) | Config::Remap(_) | Config::Fetch(_) | Config::Aggregate(_) => {
            vec![main("")]
        }
        Config::Unarchive(_) => vec![main(""), aside("index")],
        Config::Csv(csv) => {
            let schemas = csv.schemas.iter().map(|schema| main(&schema.name));
            schemas.chain([aside("rejected")]).collect()
        }
    }
}

fn main(name: &str) -> PortSpec {
    PortSpec { name: name.to_owned(), main: true }
}

fn aside(name: &str) -> PortSpec {
    PortSpec { name: name.to_owned(), main: false }
}
