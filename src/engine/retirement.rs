//! Starting the retirer.
//!
//! Responsible for: the roots of all sinks as one place to delete objects from, and the retirer on
//! top of it.
//! Not responsible for: what the retirer does (`completion`), or how a root deletes (`spool`).

use std::sync::Arc;

use actix::ArbiterHandle;
use tokio::sync::Notify;

use crate::completion::{DeleteError, ObjectDeleter, Retirer, RetirerContext, RetirerSettings};
use crate::engine::Context;
use crate::engine::sinks::Roots;
use crate::runtime::node::BoxFuture;
use crate::runtime::supervisor::{Child, ChildSpec, supervise};
use crate::spool::objects::{ObjectRoot, RootError};
use crate::state::StateStore;

/// Everywhere that sinks write objects.
struct Lake(Vec<ObjectRoot>);

impl ObjectDeleter for Lake {
    fn delete<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<bool, DeleteError>> {
        Box::pin(async move {
            for root in &self.0 {
                match root.delete(url).await {
                    Ok(was_there) => return Ok(was_there),
                    Err(RootError::Foreign { .. }) => {}
                    Err(error) => return Err(DeleteError::Unavailable(error.to_string())),
                }
            }
            Err(DeleteError::Foreign(format!("no sink of this topology writes to {url}")))
        })
    }
}

/// Starts the retirer; nothing where no sink writes objects. `retired` is signalled when there may
/// be something to delete.
pub fn start(
    context: &Context,
    roots: &Roots,
    store: Arc<dyn StateStore>,
    retired: Arc<Notify>,
    arbiter: ArbiterHandle,
) -> Option<Child> {
    if roots.is_empty() {
        return None;
    }
    let shared = RetirerContext {
        pipeline: context.pipeline.clone(),
        settings: RetirerSettings::default(),
        store,
        objects: Arc::new(Lake(roots.values().cloned().collect())),
        clock: context.clock.clone(),
        instruments: context.instruments.clone(),
        retired,
    };
    let child = supervise(ChildSpec {
        name: "retirer".to_owned(),
        policy: context.restart_policy(),
        clock: context.clock.clone(),
        arbiter,
        factory: move |lifeline| Retirer::new(shared.clone(), lifeline),
    });
    context.watch(&child);
    Some(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_deleted_wherever_one_of_the_sinks_has_put_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let root = folder.path().join(name);
            ObjectRoot::open(root.to_str().unwrap(), None).unwrap()
        };
        let (one, other) = (open("one"), open("other"));
        let url = other.url_of("day/a.parquet");
        std::fs::create_dir(folder.path().join("other/day")).unwrap();
        std::fs::write(folder.path().join("other/day/a.parquet"), b"PAR1").unwrap();
        let lake = Lake(vec![one, other]);
        assert_eq!(lake.delete(&url).await, Ok(true));
        assert!(!folder.path().join("other/day").exists(), "the empty folder went with it");
        assert_eq!(lake.delete(&url).await, Ok(false));
        let elsewhere = lake.delete("file:///elsewhere/a.parquet").await;
        assert!(matches!(elsewhere, Err(DeleteError::Foreign(_))), "{elsewhere:?}");
    }
}
