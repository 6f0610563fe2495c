//! An explanation in words.
//!
//! Responsible for: sentences and lists that a person reads from top to bottom: where it stands,
//! its members, what went wrong, what is owed, what to do.
//! Not responsible for: what is true (`explanation`).

use std::fmt;

use crate::ops::Delivery;
use crate::ops::explanation::{Explanation, FailedMember, Standing};
use crate::ops::text::{Excerpt, counted, printable};
use crate::ops::time::Time;
use crate::progress::manifest::CompletedBy;

/// The whole text, without a line end.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![self.where_it_stands(), self.members_in_numbers()];
        lines.extend(self.reason());
        lines.push(self.since_when());
        lines.extend(self.oddities());
        self.named_members(&mut lines);
        self.owed(&mut lines);
        lines.push(String::new());
        lines.push(format!("Next: {}", self.next_step));
        f.write_str(&lines.join("\n"))
    }
}

impl Explanation {
    fn where_it_stands(&self) -> String {
        let what = format!(
            "Manifest {} ({}) of pipeline {}",
            printable(&self.manifest),
            printable(&self.kind),
            printable(&self.pipeline)
        );
        let since = format!("first event {}", self.ago(self.first_at));
        let again = match self.revision {
            0 | 1 => String::new(),
            revision => {
                let before = revision - 1;
                format!(" again: revision {before} has completed, {revision} comes next")
            }
        };
        match self.standing {
            Standing::Complete => {
                let when = self.completed_at.map_or_else(
                    || "at a time that is not known".to_owned(),
                    |at| format!("since {}", self.ago(at)),
                );
                let took = self.completed_at.map_or_else(String::new, |at| {
                    format!(", {} after its first event", self.first_at.until(at))
                });
                format!("{what} is complete {when}{took}, revision {}.", self.revision)
            }
            Standing::Cancelled => format!("{what} is cancelled, {since}."),
            Standing::Failed => format!("{what} was given up by a deadline, {since}."),
            Standing::Blocked => {
                format!("{what} is open{again}, {since}: its completion is blocked.")
            }
            _ => format!("{what} is open{again}, {since}."),
        }
    }

    fn members_in_numbers(&self) -> String {
        let members = &self.members;
        if !self.announced {
            let settled = counted(members.unexpected, "member");
            return format!(
                "It was never announced: no expected event has arrived, so it is not known which \
                 members it needs; {settled} settled so far."
            );
        }
        if members.expected == 0 {
            return "It expects no members.".to_owned();
        }
        let done = members.done + members.empty;
        let mut text = format!("{done} of {} done", counted(members.expected, "member"));
        if members.empty > 0 {
            text.push_str(&format!(" ({} of them empty)", members.empty));
        }
        if members.dead_lettered > 0 {
            text.push_str(&format!(", {} failed", members.dead_lettered));
        }
        if members.missing > 0 {
            text.push_str(&format!(", {} missing", members.missing));
        }
        text.push('.');
        text
    }

    /// Why it stands there.
    fn reason(&self) -> Option<String> {
        let note = self.note.as_deref().map(printable);
        match self.standing {
            Standing::TooManyFailures => {
                Some("All have settled, but more failed than its policy tolerates.".to_owned())
            }
            Standing::Blocked => self.blocked.as_ref().map(|blocked| {
                format!(
                    "It was to complete because {}, but an action failed for good: {}.",
                    because(blocked.would_complete_by),
                    printable(&blocked.error)
                )
            }),
            Standing::Due => Some(match note {
                Some(note) => format!("Nothing is missing, but {note}."),
                None => "Nothing is missing.".to_owned(),
            }),
            Standing::Complete => {
                let why = self.completed_by.map(|by| because(by).to_owned()).or(note)?;
                Some(format!("It completed because {why}."))
            }
            Standing::Cancelled | Standing::Unannounced | Standing::WaitingForMembers => {
                note.map(|note| format!("Note: {note}."))
            }
            Standing::Failed => None,
        }
    }

    fn since_when(&self) -> String {
        let open = matches!(
            self.standing,
            Standing::Unannounced | Standing::WaitingForMembers | Standing::TooManyFailures
        );
        if !open {
            return format!("Its last event came {}.", self.ago(self.last_at));
        }
        let alert = if self.deadline_passed { " One of its deadlines has passed." } else { "" };
        let at = self.last_at.to_seconds();
        format!("Nothing has arrived for {} (since {at}).{alert}", self.quiet_ms)
    }

    /// Events that did not do what events do.
    fn oddities(&self) -> Option<String> {
        let counts = [
            (self.duplicates, "duplicate"),
            (self.conflicts, "conflict"),
            (self.late, "late event"),
            (self.outdated, "outdated list"),
        ];
        let there = counts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = there.map(|(count, noun)| counted(count, noun)).collect();
        let meaning = if self.conflicts > 0 {
            " (other content for a member that had settled: the first was kept)"
        } else {
            ""
        };
        (!parts.is_empty()).then(|| format!("Also counted: {}{meaning}.", parts.join(", ")))
    }

    fn named_members(&self, lines: &mut Vec<String>) {
        let id = |id: &String| printable(id);
        section(lines, "Missing", &self.missing, id);
        let dead_letters = self.dead_letters.as_deref().map(printable).unwrap_or_default();
        let title = format!("Failed; their records are in topic {dead_letters}");
        section(lines, &title, &self.failed, failure);
        let title = format!(
            "Failed, but accepted by its declaration; their records are in topic {dead_letters}"
        );
        section(lines, &title, &self.accepted, failure);
        section(lines, "Settled, but not expected", &self.unexpected, id);
    }

    fn owed(&self, lines: &mut Vec<String>) {
        if self.deliveries.is_empty() {
            return;
        }
        lines.push(String::new());
        lines.push("Deliveries".to_owned());
        lines.extend(self.deliveries.iter().map(|delivery| self.delivery(delivery)));
    }

    fn delivery(&self, delivery: &Delivery) -> String {
        let Delivery { revision, part, attempts, .. } = delivery;
        let part = if *part == 0 { String::new() } else { format!(" part {part}") };
        let what = format!(
            "  {} revision {revision}{part} to {}",
            printable(&delivery.action),
            printable(&delivery.to)
        );
        let tried = counted(u64::from(*attempts), "attempt");
        match (delivery.delivered_at, &delivery.last_error, delivery.waits_for_revision) {
            (Some(at), ..) => format!("{what}: delivered {}, {tried}", self.ago(at)),
            (None, Some(error), _) => {
                format!("{what}: pending after {tried}, last error: {}", printable(error))
            }
            (None, None, Some(earlier)) => {
                format!("{what}: waits until revision {earlier} of it has arrived")
            }
            (None, None, None) => format!("{what}: pending, {tried}"),
        }
    }

    /// "2025-03-13T05:00:00Z (3 h 12 min ago)".
    fn ago(&self, at: Time) -> String {
        format!("{} ({} ago)", at.to_seconds(), at.until(self.now))
    }
}

fn because(by: CompletedBy) -> &'static str {
    match by {
        CompletedBy::AllDone => "all its members are done",
        CompletedBy::Tolerated => {
            "all its members have settled, and its policy tolerates those that failed"
        }
        CompletedBy::Quorum => "enough of its members are done",
        CompletedBy::Predicate => "the condition that its policy names holds",
        CompletedBy::Deadline => "a deadline completed it with what had settled",
        CompletedBy::Forced => "an operator forced it with what had settled",
    }
}

fn failure(member: &FailedMember) -> String {
    let mut text = printable(&member.member);
    match (&member.class, &member.node, &member.why) {
        (Some(class), Some(node), Some(why)) => {
            let (class, node, why) = (printable(class), printable(node), printable(why));
            text.push_str(&format!(": {class} at {node}: {why}"));
        }
        _ => text.push_str(": why was not kept, the headers of its dead letter say it"),
    }
    if !member.expected {
        text.push_str(" (not expected)");
    }
    match member.dead_letters.as_slice() {
        [] => {}
        [only] => text.push_str(&format!("; dead letter {}", printable(only))),
        several => text.push_str(&format!("; dead letters {}", printable(&several.join(", ")))),
    }
    text
}

fn section<T>(
    lines: &mut Vec<String>,
    title: &str,
    excerpt: &Excerpt<T>,
    line: impl Fn(&T) -> String,
) {
    if excerpt.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!("{title} ({})", excerpt.total));
    lines.extend(excerpt.first.iter().map(|item| format!("  {}", line(item))));
    if excerpt.left_out() > 0 {
        lines.push(format!("  … and {} more", excerpt.left_out()));
    }
}
