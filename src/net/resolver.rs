//! Looks names up and keeps only addresses that may be connected to.
//!
//! Responsible for: the check at the one place where it cannot be passed by, between the look-up
//! and the connection: what is returned here is what is connected to, so a name that resolves to
//! something else the next time gains nothing.
//! Not responsible for: address literals, which are never looked up (`policy`).

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::net::address::reach;
use crate::runtime::node::BoxFuture;

/// All addresses of a name were refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host resolves to {kind}")]
pub(super) struct AddressRefused {
    /// Kind of the first address refused.
    pub(super) kind: &'static str,
}

/// Says which addresses a name has, whatever they are.
pub(super) trait LookUp: fmt::Debug + Send + Sync {
    /// The addresses of `name`, in the order in which they are to be tried.
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Asks the system.
#[derive(Debug)]
pub(super) struct SystemLookUp;

impl LookUp for SystemLookUp {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A resolver that checks what a look-up says.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    /// Whether private addresses may be returned.
    pub(super) private: bool,
    /// Who is asked.
    pub(super) look_up: Arc<dyn LookUp>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (private, asking) = (self.private, self.look_up.addresses(name.as_str()));
        Box::pin(async move { permitted(asking.await?, private) })
    }
}

/// The addresses that may be connected to, or why there are none.
fn permitted(found: Vec<IpAddr>, private: bool) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
    let refused = found.iter().find_map(|address| reach(*address).refusal(private));
    let kept: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| reach(*address).refusal(private).is_none())
        // Port 0 is replaced by the one of the URL.
        .map(|address| SocketAddr::new(address, 0))
        .collect();
    match (kept.is_empty(), refused) {
        (false, _) => Ok(Box::new(kept.into_iter())),
        (true, Some(kind)) => Err(Box::new(AddressRefused { kind })),
        (true, None) => Err("the host has no address".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(addresses: &[&str], private: bool) -> Result<Vec<String>, String> {
        let found = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
        permitted(found.collect(), private)
            .map(|kept| kept.map(|address| address.ip().to_string()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_with_addresses_inside_and_outside_keeps_those_outside() {
        let answer = ["10.0.0.1", "8.8.8.8", "::1", "2600::1", "169.254.169.254"];
        assert_eq!(kept(&answer, false), Ok(vec!["8.8.8.8".to_owned(), "2600::1".to_owned()]));
    }

    #[test]
    fn a_name_that_lies_inside_is_refused_by_the_kind_of_its_address() {
        assert_eq!(
            kept(&["127.0.0.1"], false),
            Err("the host resolves to a loopback address".to_owned())
        );
        assert_eq!(kept(&["127.0.0.1"], true), Ok(vec!["127.0.0.1".to_owned()]));
        assert_eq!(
            kept(&["0.0.0.0"], true),
            Err("the host resolves to an unspecified address".to_owned())
        );
        assert_eq!(kept(&[], true), Err("the host has no address".to_owned()));
    }

    #[tokio::test]
    async fn localhost_is_refused_after_a_real_look_up() {
        let name = || "localhost".parse::<Name>().unwrap();
        let resolver = |private| GuardedResolver { private, look_up: Arc::new(SystemLookUp) };
        let Err(error) = resolver(false).resolve(name()).await else {
            panic!("localhost was accepted")
        };
        assert!(error.downcast_ref::<AddressRefused>().is_some(), "{error}");
        assert!(resolver(true).resolve(name()).await.is_ok());
    }
}
