//! What to do next about a manifest.
//!
//! Responsible for: one sentence that names the next thing to look at or to do.
//! Not responsible for: doing it.

use crate::ops::Delivery;
use crate::ops::explanation::{Explanation, Standing};
use crate::ops::text::{counted, printable};
use crate::progress::manifest::CompletedBy;

impl Explanation {
    /// The sentence.
    pub(super) fn advice(&self) -> String {
        let key = printable(&self.manifest);
        let replay = format!("`tidemill dead-letters replay --manifest {key} --why TEXT`");
        let command = |action: &str| format!("`tidemill manifests {action} {key} --why TEXT`");
        match self.standing {
            Standing::Unannounced => {
                "Find out why the node that announces it has sent no expected event: its source \
                 record may still be unread, on its way, or a dead letter: `tidemill dead-letters \
                 list` shows those."
                    .to_owned()
            }
            Standing::WaitingForMembers if self.members.dead_lettered > 0 => format!(
                "Mend what made members fail and replay their records: {replay}; and find out why \
                 the others were not sent: `tidemill manifests missing {key}` lists them."
            ),
            Standing::WaitingForMembers => format!(
                "Wait, or find out at the sender why they were not sent: `tidemill manifests \
                 missing {key}` lists them all."
            ),
            Standing::TooManyFailures => format!(
                "Mend what made them fail and replay their records: {replay}; or complete it \
                 without them: {}.",
                command("force")
            ),
            Standing::Blocked => format!(
                "Mend the action that failed, or the table that it writes, then: {}.",
                command("retry")
            ),
            Standing::Due => {
                format!("Wait for its next event, or complete it now: {}.", command("force"))
            }
            Standing::Complete => self.after_completion(),
            Standing::Cancelled => {
                format!("Nothing; if it was given up too early: {}.", command("reopen"))
            }
            Standing::Failed => format!(
                "Complete it with what has settled: {}; or let it wait again: {}.",
                command("force"),
                command("reopen")
            ),
        }
    }

    fn after_completion(&self) -> String {
        let owed: Vec<&Delivery> =
            self.deliveries.iter().filter(|delivery| !delivery.is_delivered()).collect();
        let failing = owed.iter().find(|delivery| delivery.last_error.is_some());
        let without = self.members.missing + self.members.dead_lettered;
        let incomplete = matches!(
            self.completed_by,
            Some(
                CompletedBy::Forced
                    | CompletedBy::Deadline
                    | CompletedBy::Quorum
                    | CompletedBy::Predicate
            )
        );
        match failing {
            Some(failing) => format!(
                "Mend {}, which refuses action {}: deliveries are tried again until they arrive.",
                printable(&failing.to),
                printable(&failing.action)
            ),
            None if !owed.is_empty() => {
                "Wait for its deliveries: they are tried until they arrive.".to_owned()
            }
            None if self.members.dead_lettered > 0 => format!(
                "Nothing; or mend what made {} fail and replay their records: `tidemill \
                 dead-letters replay --manifest {} --why TEXT`. What then is done opens the next \
                 revision.",
                counted(self.members.dead_lettered, "member"),
                printable(&self.manifest)
            ),
            None if incomplete && without > 0 => format!(
                "Nothing, or `tidemill manifests reopen {} --why TEXT` if the {} that it did \
                 without still matter.",
                printable(&self.manifest),
                counted(without, "member")
            ),
            None => "Nothing: it is complete and all that it owed was delivered.".to_owned(),
        }
    }
}
