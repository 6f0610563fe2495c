//! How actors end, and how their supervisor hears of it.
//!
//! Responsible for: [`Exit`], the exit code of an actor, and [`Lifeline`], the field that reports
//! it whatever the way the actor goes.
//! Not responsible for: what is done about it (`runtime::supervisor`).
//!
//! actix tells nobody that an actor panicked: tokio catches the unwind and drops the actor, fields
//! and all, while the thread is still unwinding. A field whose `Drop` asks the thread whether it is
//! panicking is therefore the whole death watch.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// How one incarnation of an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Its work is done: it said so with [`Lifeline::finish`]. Never restarted.
    Finished,
    /// It was stopped, by its supervisor, by itself or with its arbiter, and said nothing about
    /// why. Never restarted: whoever stopped it meant it.
    Stopped,
    /// It could not go on and said why with [`Lifeline::fail`]. Restarted under its policy.
    Failed(String),
    /// It, or the factory that was building it, panicked. The message at hand is gone with it; its
    /// duty was abandoned by its `Drop`. Restarted under its policy.
    Panicked,
}

impl Exit {
    /// Whether another incarnation should take over.
    pub fn calls_for_restart(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Panicked => f.write_str("panicked"),
        }
    }
}

/// Ties an actor to its supervisor. The actor keeps it as a field for as long as it lives: when it
/// is dropped, the supervisor takes the actor for ended.
#[derive(Debug)]
pub struct Lifeline {
    /// What the actor said about its end; the first failure stays, whatever it leads to.
    said: Mutex<Option<Exit>>,
    /// To the supervisor.
    report: Option<oneshot::Sender<Exit>>,
}

impl Lifeline {
    /// A lifeline and the end of it that hears how the actor went.
    pub fn watched() -> (Self, oneshot::Receiver<Exit>) {
        let (report, ended) = oneshot::channel();
        (Self { said: Mutex::default(), report: Some(report) }, ended)
    }

    /// A lifeline that nobody holds the other end of, for an actor without a supervisor.
    pub fn detached() -> Self {
        Self { said: Mutex::default(), report: None }
    }

    /// The actor cannot go on, and `why`; to be followed by `ctx.stop()`. A later call, also of
    /// [`Lifeline::finish`], does not cover up the first failure.
    pub fn fail(&self, why: impl Into<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*said, Some(Exit::Failed(_))) {
            *said = Some(Exit::Failed(why.into()));
        }
    }

    /// The actor's work is done; to be followed by `ctx.stop()`.
    pub fn finish(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get_or_insert(Exit::Finished);
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        let said = self.said.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let exit =
            if std::thread::panicking() { Exit::Panicked } else { said.unwrap_or(Exit::Stopped) };
        if let Some(report) = self.report.take() {
            // A supervisor that went first has nobody left to restart.
            let _ = report.send(exit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    /// How a lifeline reports an actor that goes as `life` says.
    fn exit_of(life: impl FnOnce(&Lifeline)) -> Exit {
        let (lifeline, mut ended) = Lifeline::watched();
        // The panic is wanted, and what it leaves behind is looked at through `ended` only.
        let _ = catch_unwind(AssertUnwindSafe(move || {
            let lifeline = lifeline;
            life(&lifeline);
        }));
        ended.try_recv().unwrap()
    }

    #[test]
    fn reports_what_was_said_and_stopped_otherwise() {
        let failed = Exit::Failed("no disk".into());
        assert_eq!(exit_of(|_| ()), Exit::Stopped);
        assert_eq!(exit_of(Lifeline::finish), Exit::Finished);
        assert_eq!(exit_of(|lifeline| lifeline.fail("no disk")), failed);
    }

    #[test]
    fn a_failure_is_not_covered_up_by_what_follows_from_it() {
        let exit = exit_of(|lifeline| {
            lifeline.finish();
            lifeline.fail("first");
            lifeline.fail("second");
            lifeline.finish();
        });
        assert_eq!(exit, Exit::Failed("first".into()));
    }

    #[test]
    fn a_panic_outweighs_everything_that_was_said() {
        let exit = exit_of(|lifeline| {
            lifeline.finish();
            resume_unwind(Box::new("wanted"));
        });
        assert_eq!(exit, Exit::Panicked);
    }

    #[test]
    fn only_deaths_call_for_a_restart() {
        let table = [
            (Exit::Finished, false),
            (Exit::Stopped, false),
            (Exit::Failed("no disk".into()), true),
            (Exit::Panicked, true),
        ];
        for (exit, expected) in table {
            assert_eq!(exit.calls_for_restart(), expected, "{exit}");
        }
    }
}
