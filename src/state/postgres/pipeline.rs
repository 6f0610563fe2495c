//! Requests that are sent without waiting for each other.
//!
//! Responsible for: sending all requests of a transaction at once, in order, and collecting their
//! answers; and never its end without everything before it.
//! Not responsible for: what the requests are, or what their answers mean.
//!
//! A request of the driver is sent when it is polled first, and answers come in the order of
//! requests. After an error the server refuses everything up to the end of the transaction, and
//! its COMMIT rolls back. A request that could not even be written is another matter: the server
//! does not know of it and would commit the rest. So the end is sent only if all before it was,
//! and otherwise a ROLLBACK, at the same moment: nobody who stops waiting in between leaves a
//! transaction open.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{MaybeDone, maybe_done};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use crate::runtime::node::BoxFuture;

/// A request, and how many rows it will have changed.
pub(super) type Request<'a> = BoxFuture<'a, Result<u64, Error>>;

/// Runs a prepared statement.
pub(super) fn execute<'a>(
    client: &'a Client,
    statement: &'a Statement,
    parameters: Vec<&'a (dyn ToSql + Sync)>,
) -> Request<'a> {
    Box::pin(async move { client.execute(statement, &parameters).await })
}

/// Runs a statement without parameters.
pub(super) fn simple<'a>(client: &'a Client, text: &'a str) -> Request<'a> {
    Box::pin(async move { client.batch_execute(text).await.map(|()| 0) })
}

/// How requests were answered.
pub(super) struct Answered {
    /// The first error, and the number of its request.
    pub(super) error: Option<(usize, Error)>,
    /// Whether the last request was sent, too.
    pub(super) was_complete: bool,
}

/// Sends all requests, then waits for all answers. Sends `undo` in the place of what is left if one
/// of them cannot be sent.
pub(super) async fn in_order<'a>(
    requests: Vec<Request<'a>>,
    undo: Option<Request<'a>>,
) -> Answered {
    let mut waiting: Vec<MaybeDone<Request<'a>>> = Vec::with_capacity(requests.len() + 1);
    let (mut unsent, mut undo) = (requests.into_iter(), undo);
    let was_complete = poll_fn(|context| {
        for request in unsent.by_ref() {
            if !send(&mut waiting, request, context) {
                if let Some(undo) = undo.take() {
                    send(&mut waiting, undo, context);
                }
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    })
    .await;
    let mut error = None;
    for (number, request) in waiting.iter_mut().enumerate() {
        (&mut *request).await;
        if let Some(Err(failed)) = Pin::new(request).take_output()
            && error.is_none()
        {
            error = Some((number, failed));
        }
    }
    Answered { error, was_complete }
}

/// Sends a request; false if it has failed already.
fn send<'a>(
    waiting: &mut Vec<MaybeDone<Request<'a>>>,
    request: Request<'a>,
    context: &mut Context<'_>,
) -> bool {
    let mut request = maybe_done(request);
    let is_answered = Pin::new(&mut request).poll(context).is_ready();
    let has_failed =
        is_answered && Pin::new(&mut request).output_mut().is_some_and(|answer| answer.is_err());
    waiting.push(request);
    !has_failed
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio_postgres::Config;

    use super::*;

    /// An error of the driver; any will do.
    fn broken() -> Error {
        "no url".parse::<Config>().unwrap_err()
    }

    /// A request that notes when it is sent, and is answered later, if at all well.
    fn request<'a>(log: &'a Mutex<Vec<u32>>, number: u32, is_good: bool) -> Request<'a> {
        Box::pin(async move {
            log.lock().unwrap().push(number);
            tokio::task::yield_now().await;
            log.lock().unwrap().push(number + 100);
            if is_good { Ok(1) } else { Err(broken()) }
        })
    }

    fn unsendable<'a>() -> Request<'a> {
        Box::pin(async { Err(broken()) })
    }

    #[tokio::test]
    async fn everything_is_sent_before_anything_is_waited_for() {
        let log = Mutex::new(Vec::new());
        let requests = (0..40).map(|number| request(&log, number, true)).collect();
        let answered = in_order(requests, None).await;
        assert!(answered.was_complete && answered.error.is_none());
        let sent: Vec<u32> = (0..40).collect();
        assert_eq!(log.lock().unwrap()[..40], sent);
    }

    #[tokio::test]
    async fn the_first_error_is_told() {
        let log = Mutex::new(Vec::new());
        let good = [true, true, false, true, false];
        let requests = (0..).zip(good).map(|(number, good)| request(&log, number, good)).collect();
        let answered = in_order(requests, Some(unsendable())).await;
        assert_eq!(answered.error.map(|(number, _)| number), Some(2));
        assert!(answered.was_complete, "the server ends it");
    }

    #[tokio::test]
    async fn the_end_is_not_sent_behind_a_gap() {
        let log = Mutex::new(Vec::new());
        let requests = vec![request(&log, 0, true), unsendable(), request(&log, 2, true)];
        let answered = in_order(requests, Some(request(&log, 9, true))).await;
        assert_eq!(answered.error.map(|(number, _)| number), Some(1));
        assert!(!answered.was_complete);
        assert_eq!(*log.lock().unwrap(), [0, 9, 100, 109]);
    }
}
