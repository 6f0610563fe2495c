//! Calls of the state store that are made again until it answers.
//!
//! Responsible for: backing off while the store is away, and showing that it is.
//! Not responsible for: deciding which errors pass (`state`), or what an answer means.

use crate::progress::restart::Backoff;
use crate::runtime::jitter::jitter;
use crate::state::StateError;
use crate::telemetry::Instruments;
use crate::telemetry::unavailable::STATE_STORE;

/// What came of a call.
pub(super) struct Answered<T> {
    /// The answer, or an error that another attempt does not mend.
    pub(super) answer: Result<T, StateError>,
    /// Whether the store was away in between, so that nobody knows what the first attempt did.
    pub(super) was_away: bool,
}

/// Makes `call` until the store answers; `what` says in logs what is waiting.
pub(super) async fn until_answered<T>(
    what: &str,
    backoff: &Backoff,
    instruments: &Instruments,
    mut call: impl AsyncFnMut() -> Result<T, StateError>,
) -> Answered<T> {
    let mut away = None;
    let mut attempt = 0u32;
    loop {
        match call().await {
            Err(error) if error.is_transient() => {
                if away.is_none() {
                    tracing::warn!(%error, waiting = what, "the state store is away");
                    let why = format!("{what}: {error}");
                    away = Some(instruments.unavailable.enter(STATE_STORE, why));
                }
                tokio::time::sleep(backoff.delay(attempt, jitter())).await;
                attempt = attempt.saturating_add(1);
            }
            answer => {
                if away.is_some() {
                    tracing::info!(waiting = what, attempts = attempt, "the state store is back");
                }
                return Answered { answer, was_away: away.is_some() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn backoff() -> Backoff {
        Backoff { first: Duration::ZERO, max: Duration::ZERO, factor: 1.0 }
    }

    #[tokio::test]
    async fn an_outage_is_waited_out_and_shown_while_it_lasts() {
        let instruments = Instruments::default();
        let mut shown = Vec::new();
        let answered = until_answered("test", &backoff(), &instruments, async || {
            shown.push(instruments.unavailable.get());
            if shown.len() < 3 { Err(StateError::Unavailable("away".into())) } else { Ok(7) }
        })
        .await;
        assert_eq!(answered.answer, Ok(7));
        assert!(answered.was_away);
        assert_eq!(shown, [0, 1, 1]);
        assert_eq!(instruments.unavailable.get(), 0);
    }

    #[tokio::test]
    async fn an_error_that_stays_is_an_answer() {
        let instruments = Instruments::default();
        let answered = until_answered("test", &backoff(), &instruments, async || {
            Err::<(), _>(StateError::Fatal("broken".into()))
        })
        .await;
        assert_eq!(answered.answer, Err(StateError::Fatal("broken".into())));
        assert!(!answered.was_away);
    }
}
