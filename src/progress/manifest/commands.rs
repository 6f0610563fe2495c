//! What an operator's command would do to a manifest, as far as that can be said beforehand.
//!
//! Responsible for: a clear answer before a command is sent: it changes something, it is so
//! already, or it will be refused and why.
//! Not responsible for: carrying it out: the owner of the shard decides when the command arrives,
//! by [`ManifestState::apply`](super::ManifestState::apply), and a test holds this table to it.

use super::Phase;
use crate::model::event::CommandAction;

/// What a command would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// It changes the manifest, unless something else does first.
    Change,
    /// There is nothing to change.
    AlreadySo(&'static str),
    /// It is refused.
    Refusal(&'static str),
}

/// What `action` would do to a manifest that stands in `phase`. `blocked` says whether an action
/// has refused its completion.
pub fn foresee(action: CommandAction, phase: Phase, revision: u32, blocked: bool) -> Foreseen {
    let has_completed = phase == Phase::Complete || revision > 1;
    match (action, phase) {
        (CommandAction::Force, Phase::Open | Phase::Failed)
        | (CommandAction::Cancel, Phase::Open | Phase::Failed)
        | (CommandAction::Reopen, Phase::Complete | Phase::Cancelled | Phase::Failed)
        | (CommandAction::Extend { .. }, Phase::Open) => Foreseen::Change,
        (CommandAction::Force, Phase::Complete) => Foreseen::AlreadySo("it is complete"),
        (CommandAction::Cancel, Phase::Cancelled) => Foreseen::AlreadySo("it is cancelled"),
        (CommandAction::Reopen, Phase::Open) => Foreseen::AlreadySo("it is open"),
        (CommandAction::Force, Phase::Cancelled) => {
            Foreseen::Refusal("it is cancelled: reopen it first")
        }
        (CommandAction::Cancel, Phase::Complete) => {
            Foreseen::Refusal("it has completed: only an open manifest can be cancelled")
        }
        (CommandAction::Extend { .. }, _) => {
            Foreseen::Refusal("it is not open: reopen it, which gives it its whole time")
        }
        (CommandAction::Retry, _) if has_completed || (blocked && phase == Phase::Open) => {
            Foreseen::Change
        }
        (CommandAction::Retry, _) => {
            Foreseen::Refusal("it has not completed: there are no actions to retry")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Command, ProgressEvent};
    use crate::progress::deadline::Moment;
    use crate::progress::manifest::{Head, ManifestState, Rules};

    const PHASES: [Phase; 4] = [Phase::Open, Phase::Complete, Phase::Cancelled, Phase::Failed];
    const ACTIONS: [CommandAction; 5] = [
        CommandAction::Force,
        CommandAction::Cancel,
        CommandAction::Reopen,
        CommandAction::Retry,
        CommandAction::Extend { by_seconds: 60 },
    ];

    /// What really happens to a manifest that nobody announced.
    fn happens(action: CommandAction, phase: Phase, revision: u32) -> Foreseen {
        let now = Moment::default();
        let head = ManifestState::new(now).head().clone();
        let mut state = ManifestState::load(Head { phase, revision, ..head }, []);
        let command = ProgressEvent::Command(Command {
            manifest: "m".into(),
            action,
            who: "ops".to_owned(),
            why: "a test".to_owned(),
            at: 0,
        });
        let applied = state.apply(&command, &Rules::default(), now);
        match applied.refused {
            Some(why) => Foreseen::Refusal(why),
            None if applied.duplicate => Foreseen::AlreadySo(""),
            None => Foreseen::Change,
        }
    }

    #[test]
    fn what_is_foreseen_happens() {
        for (action, phase) in ACTIONS.into_iter().flat_map(|a| PHASES.map(|phase| (a, phase))) {
            // Whether there are deadlines to extend is for the declaration to say.
            if matches!(action, CommandAction::Extend { .. }) && phase == Phase::Open {
                continue;
            }
            for revision in [1, 2] {
                let foreseen = match foresee(action, phase, revision, false) {
                    Foreseen::AlreadySo(_) => Foreseen::AlreadySo(""),
                    other => other,
                };
                let place = format!("{action:?} {phase:?} revision {revision}");
                assert_eq!(foreseen, happens(action, phase, revision), "{place}");
            }
        }
    }

    #[test]
    fn a_blocked_completion_can_be_retried_before_the_first_one_has_happened() {
        let retry = |phase, blocked| foresee(CommandAction::Retry, phase, 1, blocked);
        assert_eq!(retry(Phase::Open, true), Foreseen::Change);
        assert!(matches!(retry(Phase::Open, false), Foreseen::Refusal(_)));
        assert!(matches!(retry(Phase::Failed, true), Foreseen::Refusal(_)));
    }
}
