//! Which nodes wait for something that is away.
//!
//! Responsible for: remembering of each such node since when it waits and why, for as long as
//! somebody waits there.
//! Not responsible for: deciding what counts as away, or waiting.
//!
//! Many workers of a node may wait at once; the node is away until the last of them goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::telemetry::Kind;

/// What the broker is called among the nodes.
pub const BROKER: &str = "broker";
/// What the state store is called among the nodes.
pub const STATE_STORE: &str = "state store";
/// Longest reason that is kept, in characters.
const LONGEST_WHY: usize = 500;

/// Tells the time in milliseconds since the Unix epoch.
pub type UnixMillis = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A node whose dependency is away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAway {
    /// Name of the node, or of what the whole pipeline depends on.
    pub node: Arc<str>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: i64,
    /// What the first attempt that waited had failed with.
    pub why: String,
}

/// All nodes whose dependency is away. Clones are handles of the same.
#[derive(Clone, Default)]
pub struct Unavailable(Arc<Shared>);

#[derive(Default)]
struct Shared {
    nodes: Mutex<BTreeMap<Arc<str>, Waiting>>,
    clock: OnceLock<UnixMillis>,
}

/// Who waits at one node.
struct Waiting {
    count: usize,
    since: i64,
    why: String,
}

impl Unavailable {
    /// What sort of instrument it is.
    pub(super) const KIND: Kind = Kind::Gauge;

    /// Tells it the time from now on; before, all is as in 1970. Only the first call counts.
    pub fn tell_time(&self, clock: UnixMillis) {
        // A second clock would be the same one, from the same engine.
        let _ = self.0.clock.set(clock);
    }

    /// Somebody at `node` waits from now on, until the guard is dropped.
    pub fn enter(&self, node: &str, why: impl fmt::Display) -> Away {
        let now = self.0.clock.get().map_or(0, |clock| clock());
        let node: Arc<str> = Arc::from(node);
        let mut nodes = self.lock();
        let waiting = nodes.entry(node.clone()).or_insert_with(|| {
            let why = why.to_string().chars().take(LONGEST_WHY).collect();
            Waiting { count: 0, since: now, why }
        });
        waiting.count += 1;
        drop(nodes);
        Away { of: self.clone(), node }
    }

    /// Number of nodes whose dependency is away.
    pub fn get(&self) -> u64 {
        self.lock().len() as u64
    }

    /// Whether a node is away that `concerns` whoever asks.
    pub fn any(&self, concerns: impl Fn(&str) -> bool) -> bool {
        self.lock().keys().any(|node| concerns(node))
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> Vec<NodeAway> {
        let nodes = self.lock();
        let away = nodes.iter().map(|(node, waiting)| NodeAway {
            node: node.clone(),
            since: waiting.since,
            why: waiting.why.clone(),
        });
        away.collect()
    }

    fn leave(&self, node: &Arc<str>) {
        let mut nodes = self.lock();
        if let Some(waiting) = nodes.get_mut(node) {
            waiting.count -= 1;
            if waiting.count == 0 {
                nodes.remove(node);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Waiting>> {
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes()).finish()
    }
}

/// Somebody waits at a node while this lives, however its owner ends.
#[must_use = "the node is available again when the guard is dropped"]
pub struct Away {
    of: Unavailable,
    node: Arc<str>,
}

impl Drop for Away {
    fn drop(&mut self) {
        self.of.leave(&self.node);
    }
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Away").field(&self.node).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn names(unavailable: &Unavailable) -> Vec<String> {
        unavailable.nodes().iter().map(|away| away.node.to_string()).collect()
    }

    #[test]
    fn a_node_is_away_from_the_first_who_waits_to_the_last() {
        let (unavailable, now) = (Unavailable::default(), Arc::new(AtomicI64::new(5_000)));
        let clock = now.clone();
        unavailable.tell_time(Arc::new(move || clock.load(Ordering::Relaxed)));
        let first = unavailable.enter("fetch", "refused");
        now.store(9_000, Ordering::Relaxed);
        let second = unavailable.enter("fetch", "timed out");
        let other = unavailable.enter("lake", "disk full");
        assert_eq!(unavailable.get(), 2);
        drop(first);
        let fetch = NodeAway { node: "fetch".into(), since: 5_000, why: "refused".to_owned() };
        assert_eq!(unavailable.nodes()[0], fetch);
        drop(second);
        assert_eq!(names(&unavailable), ["lake"]);
        drop(other);
        assert_eq!(unavailable.get(), 0);
    }

    #[test]
    fn whoever_asks_hears_only_of_what_concerns_them() {
        let unavailable = Unavailable::default();
        assert!(!unavailable.any(|_| true));
        let _away = unavailable.enter("orders", "its topic is missing");
        assert!(unavailable.any(|node| node == "orders"));
        assert!(!unavailable.any(|node| node != "orders"));
    }

    #[test]
    fn a_node_that_is_away_again_says_the_new_reason() {
        let unavailable = Unavailable::default();
        drop(unavailable.enter("fetch", "refused"));
        let _away = unavailable.enter("fetch", "x".repeat(10_000));
        assert_eq!(unavailable.nodes()[0].why, "x".repeat(LONGEST_WHY));
    }
}
