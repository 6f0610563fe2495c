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
        let dead_letters = self.dead_letters.as_deref().unwrap_or("the dead-letter topic");
        match self.standing {
            Standing::Unannounced => {
                "Find out why the node that announces it has sent no expected \
                 event: its source record may still be unread, on its way, or a dead letter."
                    .to_owned()
            }
            Standing::WaitingForMembers if self.members.dead_lettered > 0 => format!(
                "Mend what made members fail and replay their records from {dead_letters}, and \
                 find out why the others were not sent: `tidemill manifests missing {key}` lists \
                 them."
            ),
            Standing::WaitingForMembers => format!(
                "Wait, or find out at the sender why they were not sent: `tidemill manifests \
                 missing {key}` lists them all."
            ),
            Standing::TooManyFailures => format!(
                "Mend what made them fail and replay their records from {dead_letters}, or \
                 complete it without them by the command force."
            ),
            Standing::Blocked => "Mend the action that failed, or the table that it writes, then \
                 send the command retry for this manifest."
                .to_owned(),
            Standing::Due => {
                "Wait for its next event, or complete it now by the command force.".to_owned()
            }
            Standing::Complete => self.after_completion(),
            Standing::Cancelled => {
                "Nothing; the command reopen opens it again if it was given up too early."
                    .to_owned()
            }
            Standing::Failed => "Complete it with what has settled by the command force, or let \
                 it wait again by the command reopen."
                .to_owned(),
        }
    }

    fn after_completion(&self) -> String {
        let owed: Vec<&Delivery> =
            self.deliveries.iter().filter(|delivery| !delivery.is_delivered()).collect();
        let failing = owed.iter().find(|delivery| delivery.last_error.is_some());
        let without = self.members.missing + self.members.dead_lettered;
        let incomplete =
            matches!(self.completed_by, Some(CompletedBy::Forced | CompletedBy::Deadline));
        match failing {
            Some(failing) => format!(
                "Mend {}, which refuses action {}: deliveries are tried again until they arrive.",
                printable(&failing.to),
                printable(&failing.action)
            ),
            None if !owed.is_empty() => {
                "Wait for its deliveries: they are tried until they arrive.".to_owned()
            }
            None if incomplete && without > 0 => format!(
                "Nothing, or send the command reopen if the {} that it did without still matter.",
                counted(without, "member")
            ),
            None => "Nothing: it is complete and all that it owed was delivered.".to_owned(),
        }
    }
}
