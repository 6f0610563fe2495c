//! How far the shutdown has come.
//!
//! Responsible for: the levels of a shutdown, telling everyone of them, and raising them on
//! SIGTERM and SIGINT.
//! Not responsible for: what is done at each level, and in which order (`engine`).

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How far the shutdown has come. It only goes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Business as usual.
    #[default]
    Running,
    /// Take no new work, finish what is in flight.
    Draining,
    /// Now: let go of what is in flight; it will be read again.
    Stopping,
}

/// The one that is asked to shut down, and tells everyone. Clones are handles of the same; when
/// the last one is dropped, the level is [`Level::Stopping`], since nobody could raise it later.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Issuer>);

#[derive(Debug)]
struct Issuer(watch::Sender<Level>);

impl Issuer {
    fn raise(&self, to: Level) {
        self.0.send_if_modified(|level| {
            let higher = to > *level;
            if higher {
                *level = to;
            }
            higher
        });
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.raise(Level::Stopping);
    }
}

impl Shutdown {
    /// Everything runs.
    pub fn new() -> Self {
        Self(Arc::new(Issuer(watch::Sender::new(Level::Running))))
    }

    /// Asks everyone to take no new work and to finish what is in flight.
    pub fn drain(&self) {
        self.0.raise(Level::Draining);
    }

    /// Asks everyone to stop now.
    pub fn stop(&self) {
        self.0.raise(Level::Stopping);
    }

    /// Raises the level by one, and returns what it is then: the first request drains, the second
    /// stops.
    pub fn escalate(&self) -> Level {
        match self.level() {
            Level::Running => self.drain(),
            Level::Draining | Level::Stopping => self.stop(),
        }
        self.level()
    }

    /// How far it has come.
    pub fn level(&self) -> Level {
        *self.0.0.borrow()
    }

    /// Obeys SIGTERM and SIGINT from now on, as [`Signals::obey`] does, in a task on the current
    /// arbiter. Where the operating system refuses, that is logged, and signals keep their default.
    ///
    /// # Panics
    /// Outside an arbiter.
    pub fn on_signals(&self) {
        match Signals::listen() {
            Ok(signals) => {
                actix::spawn(signals.obey(self.clone()));
            }
            Err(error) => {
                tracing::error!(%error, "cannot listen to signals, they end the process undrained");
            }
        }
    }

    /// A listener.
    pub fn token(&self) -> ShutdownToken {
        ShutdownToken(self.0.0.subscribe())
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Hears how far the shutdown has come.
#[derive(Clone, Debug)]
pub struct ShutdownToken(watch::Receiver<Level>);

impl ShutdownToken {
    /// How far it has come.
    pub fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// Waits until no new work may be taken: at [`Level::Draining`] or above.
    pub async fn draining(&self) {
        self.reached(Level::Draining).await;
    }

    /// Waits until everything has to stop.
    pub async fn stopping(&self) {
        self.reached(Level::Stopping).await;
    }

    async fn reached(&self, wanted: Level) {
        let mut levels = self.0.clone();
        // An error would mean that the issuer is gone; it has raised the level to the top before.
        let _ = levels.wait_for(|level| *level >= wanted).await;
    }
}

/// SIGTERM and SIGINT, from the moment of [`Signals::listen`] on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the two signals away from their default, which is to end the process at once.
    ///
    /// # Errors
    /// The operating system refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime (an actix `System` has one).
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Obeys: the first signal drains, the second stops. Returns when everything has to stop, be
    /// it for another reason. Does not count as a handle of `shutdown`.
    pub async fn obey(mut self, shutdown: Shutdown) {
        let token = shutdown.token();
        let issuer = Arc::downgrade(&shutdown.0);
        drop(shutdown);
        loop {
            let received = tokio::select! {
                () = token.stopping() => return,
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
            };
            let Some(issuer) = issuer.upgrade() else { return };
            let level = Shutdown(issuer).escalate();
            tracing::info!(signal = received, ?level, "shutdown requested");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn listeners_wait_for_their_level_and_no_longer() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        assert_eq!(token.level(), Level::Running);
        assert!(token.draining().now_or_never().is_none());

        shutdown.drain();
        token.draining().await;
        assert_eq!(token.level(), Level::Draining);
        assert!(token.stopping().now_or_never().is_none());

        shutdown.stop();
        token.clone().draining().await;
        token.stopping().await;
    }

    #[tokio::test]
    async fn a_stop_is_a_drain_for_those_who_wait_for_one() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        let mut draining = Box::pin(token.draining());
        assert!((&mut draining).now_or_never().is_none());
        shutdown.stop();
        draining.await;
    }

    #[test]
    fn the_level_never_goes_down() {
        let shutdown = Shutdown::new();
        shutdown.stop();
        shutdown.drain();
        assert_eq!(shutdown.level(), Level::Stopping);
    }

    #[test]
    fn the_first_request_drains_and_the_second_stops() {
        let shutdown = Shutdown::new();
        let levels: Vec<Level> = (0..3).map(|_| shutdown.escalate()).collect();
        assert_eq!(levels, [Level::Draining, Level::Stopping, Level::Stopping]);
    }

    #[tokio::test]
    async fn when_nobody_is_left_to_ask_everything_stops() {
        let shutdown = Shutdown::new();
        let token = shutdown.clone().token();
        assert_eq!(token.level(), Level::Running, "one handle is left");
        drop(shutdown);
        token.stopping().await;
        assert_eq!(token.level(), Level::Stopping);
    }
}
