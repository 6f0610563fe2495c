//! Faults on purpose: places where a process dies or freezes, and guards that can be taken away.
//!
//! Responsible for: the lists of crash points and of guards, and doing at a point what the
//! environment of a test process has ordered. Without the feature `fault-injection` nothing of
//! that is compiled in: a point is no code, and every guard holds.
//! Not responsible for: what has to hold after a fault (`tests/it/faults`).
//!
//! A point lies directly before or directly after a step that makes something durable. A guard is
//! asked about in one place each, so that a test can show that nothing else does its work. Records
//! can break the node that works on them, which stands for a fault in the node's own code.
//!
//! ```text
//! TIDEMILL_CRASH_POINT=rows.written:3          the process aborts at the third time
//! TIDEMILL_CRASH_POINT=apply.begin:1:freeze    it stops, until somebody lets it go on
//! TIDEMILL_FAULT_DISABLE=lease,row_registry    these guards are off
//! tidemill-fault: panic:slim                   header of a record: node slim panics over it
//! tidemill-fault: hang                         the first node does not come back from it
//! ```

use crate::model::Outcome;
use crate::progress::obligation::Obligation;

#[cfg(feature = "fault-injection")]
pub use injected::{arm, crash_point, is_off, sabotage};

/// An enum whose variants have names that the environment and the documents use.
macro_rules! named {
    (
        $(#[$about:meta])*
        $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

named! {
    /// A place directly before or after a durable step, in the order of the data path.
    Point {
        /// The first positions of a new group are about to be committed.
        StartCommit = "start.commit",
        /// They are committed, and no record was read yet.
        StartCommitted = "start.committed",
        /// An upload is on disk, without its announcement and its name.
        IngressSynced = "ingress.synced",
        /// Upload and announcement are durable, nobody was answered.
        IngressKept = "ingress.kept",
        /// An announcement is about to be sent.
        IngressAnnounce = "ingress.announce",
        /// The broker has it, the spool does not know.
        IngressAnnounced = "ingress.announced",
        /// A record of a Kafka sink is about to be sent.
        SinkSend = "sink.send",
        /// The broker has it, it is not settled.
        SinkAcked = "sink.acked",
        /// An object is about to be put.
        ObjectPut = "object.put",
        /// It is durable under its name, and not settled.
        ObjectRenamed = "object.renamed",
        /// Rows are about to be written.
        RowsWrite = "rows.write",
        /// They are committed, and not settled.
        RowsWritten = "rows.written",
        /// A dead letter is about to be sent.
        LetterSend = "letter.send",
        /// The broker has it, its record is not settled.
        LetterAcked = "letter.acked",
        /// A receipt is about to be handed to the publisher.
        ReceiptSend = "receipt.send",
        /// A progress event or a receipt is about to be sent.
        EventSend = "event.send",
        /// The broker has it, its record is not settled.
        EventAcked = "event.acked",
        /// Offsets of a source or of the progress topic are about to be committed.
        OffsetsCommit = "offsets.commit",
        /// The client has them.
        OffsetsCommitted = "offsets.committed",
        /// A shard is about to be taken over.
        TakeoverBegin = "takeover.begin",
        /// It was taken over, and nothing of it was read yet.
        TakeoverDone = "takeover.done",
        /// A change of a shard is about to be applied.
        ApplyBegin = "apply.begin",
        /// It is durable, and nobody has heard of it.
        ApplyDone = "apply.done",
        /// A change that completes a manifest is about to be applied.
        CompletionBegin = "completion.begin",
        /// All requests of such a change are about to be sent to Postgres at once.
        CompletionSend = "completion.send",
        /// It is durable, and nobody has heard of it.
        CompletionDone = "completion.done",
        /// A delivery was claimed, and not made.
        OutboxClaimed = "outbox.claimed",
        /// It was made, and not marked.
        OutboxDelivered = "outbox.delivered",
        /// It was marked.
        OutboxMarked = "outbox.marked",
        /// A retired object is about to be deleted.
        RetireDelete = "retire.delete",
        /// It is gone, and not marked.
        RetireDeleted = "retire.deleted",
    }
}

named! {
    /// What a promise rests on.
    Guard {
        /// A change of a shard applies only under the shard's lease, where the last one ended.
        Lease = "lease",
        /// Offsets are committed up to the first record without an outcome, and no further.
        ContiguousOffsets = "contiguous_offsets",
        /// An outcome waits until what it stands for is durable.
        EffectsBeforeCommit = "effects_before_commit",
        /// Rows of one (manifest, member, digest) are written once.
        RowRegistry = "row_registry",
        /// A delivery carries the same key however often it is made.
        StableKeys = "stable_keys",
    }
}

/// Whether this build can be told to fail.
pub fn is_compiled_in() -> bool {
    cfg!(feature = "fault-injection")
}

/// Nothing, in a build without faults.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn crash_point(_point: Point) {}

/// Whether a guard was taken away: never, in a build without faults.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn is_off(_guard: Guard) -> bool {
    false
}

/// Header of a source record that orders what becomes of the node that works on it.
pub const SABOTAGE: &str = "tidemill-fault";

/// Nothing, in a build without faults, whatever the record orders.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub fn sabotage(_node: &crate::model::NodeName, _source: &crate::model::SourceRef) {}

/// The duty of an effect that is not durable yet: to be settled once it is. With
/// [`Guard::EffectsBeforeCommit`] off it is settled now, and nobody waits for the effect.
#[must_use]
pub fn until_durable(duty: Obligation) -> Obligation {
    if is_off(Guard::EffectsBeforeCommit) {
        duty.settle(Outcome::Delivered);
        return Obligation::detached();
    }
    duty
}

#[cfg(feature = "fault-injection")]
mod injected {
    use std::process::{self, Command};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::{Guard, Point, SABOTAGE};
    use crate::model::{Headers, NodeName, SourceRef};

    /// What a record does to a node.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Harm {
        /// The node panics.
        Panic,
        /// The node never comes back.
        Hang,
    }

    /// What happens at a point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Deed {
        /// The process ends at once.
        Abort,
        /// All of its threads stop, until it gets SIGCONT.
        Freeze,
    }

    /// What was ordered.
    #[derive(Debug)]
    pub(super) struct Order {
        pub(super) point: Point,
        pub(super) deed: Deed,
        /// How often the point has to be reached.
        pub(super) left: AtomicU32,
    }

    static ORDER: OnceLock<Order> = OnceLock::new();
    static OFF: OnceLock<Vec<Guard>> = OnceLock::new();

    /// Reads from the environment what is to go wrong; to be called once, before anything runs.
    ///
    /// # Errors
    /// A point or guard that does not exist, or an order that cannot be read.
    pub fn arm(env: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        if let Some(text) = env("TIDEMILL_CRASH_POINT").filter(|text| !text.is_empty()) {
            // Set before: this process was armed already.
            let _ = ORDER.set(order(&text)?);
        }
        if let Some(text) = env("TIDEMILL_FAULT_DISABLE").filter(|text| !text.is_empty()) {
            let guards = text.split(',').map(guard).collect::<Result<Vec<_>, _>>()?;
            tracing::warn!(guards = text, "guards are off, nothing that is promised holds");
            let _ = OFF.set(guards);
        }
        Ok(())
    }

    /// Does what was ordered for this point.
    pub fn crash_point(point: Point) {
        let Some(order) = ORDER.get().filter(|order| order.point == point) else { return };
        if order.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        tracing::error!(point = point.name(), deed = ?order.deed, "crash point reached");
        match order.deed {
            Deed::Abort => process::abort(),
            Deed::Freeze => freeze(),
        }
    }

    /// Whether a guard was taken away.
    pub fn is_off(guard: Guard) -> bool {
        OFF.get().is_some_and(|off| off.contains(&guard))
    }

    /// Does to `node` what the record that it works on orders.
    ///
    /// # Panics
    /// If that is the order.
    pub fn sabotage(node: &NodeName, source: &SourceRef) {
        match harm(node, &source.record().headers) {
            None => {}
            Some(Harm::Panic) => panic!("the record orders node {node} to panic"),
            Some(Harm::Hang) => loop {
                thread::park();
            },
        }
    }

    /// `panic` and `hang` are for the first node that a record comes to, `panic:slim` for `slim`.
    pub(super) fn harm(node: &NodeName, headers: &Headers) -> Option<Harm> {
        let (_, order) = headers.iter().find(|(name, _)| name == SABOTAGE)?;
        let order = std::str::from_utf8(order).ok()?;
        let (what, at) = order.split_once(':').unwrap_or((order, node.as_str()));
        match what {
            "panic" if at == node.as_str() => Some(Harm::Panic),
            "hang" if at == node.as_str() => Some(Harm::Hang),
            _ => None,
        }
    }

    /// Returns once somebody lets the process go on.
    fn freeze() {
        let stopped = Command::new("kill").args(["-STOP", &process::id().to_string()]).status();
        if let Err(error) = stopped {
            tracing::error!(%error, "this process cannot stop itself");
        }
    }

    /// `name`, `name:count` or `name:count:freeze`.
    pub(super) fn order(text: &str) -> Result<Order, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let point = Point::ALL.iter().find(|point| point.name() == name);
        let point = *point.ok_or_else(|| format!("TIDEMILL_CRASH_POINT: no point `{name}`"))?;
        let count = parts.next().map_or(Ok(1), str::parse::<u32>);
        let deed = match parts.next() {
            None => Some(Deed::Abort),
            Some("freeze") => Some(Deed::Freeze),
            Some(_) => None,
        };
        let (Ok(count @ 1..), Some(deed), None) = (count, deed, parts.next()) else {
            return Err(format!("TIDEMILL_CRASH_POINT: `{text}` is not name:count or :freeze"));
        };
        Ok(Order { point, deed, left: AtomicU32::new(count) })
    }

    fn guard(name: &str) -> Result<Guard, String> {
        let found = Guard::ALL.iter().find(|guard| guard.name() == name.trim());
        found.copied().ok_or_else(|| format!("TIDEMILL_FAULT_DISABLE: no guard `{name}`"))
    }
}

#[cfg(all(test, feature = "fault-injection"))]
mod tests {
    use std::sync::atomic::Ordering;

    use bytes::Bytes;

    use super::injected::{Deed, Harm, harm, order};
    use super::*;

    #[test]
    fn an_order_names_a_point_and_may_say_when_and_what() {
        let table = [
            ("rows.written", Point::RowsWritten, 1, Deed::Abort),
            ("rows.written:3", Point::RowsWritten, 3, Deed::Abort),
            ("apply.begin:2:freeze", Point::ApplyBegin, 2, Deed::Freeze),
        ];
        for (text, point, count, deed) in table {
            let order = order(text).unwrap();
            let left = order.left.load(Ordering::Relaxed);
            assert_eq!((order.point, left, order.deed), (point, count, deed), "{text}");
        }
        let wrong = ["", "rows", "rows.written:0", "rows.written:x", "rows.written:1:melt"];
        for text in wrong.into_iter().chain(["rows.written:1:freeze:2"]) {
            assert!(order(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_record_harms_the_first_node_or_the_one_that_it_names() {
        let table = [
            ("panic", Some(Harm::Panic)),
            ("hang", Some(Harm::Hang)),
            ("panic:slim", Some(Harm::Panic)),
            ("hang:slim", Some(Harm::Hang)),
            ("panic:out", None),
            ("melt", None),
            ("", None),
        ];
        for (order, wanted) in table {
            let headers = vec![(SABOTAGE.to_owned(), Bytes::from_static(order.as_bytes()))];
            assert_eq!(harm(&"slim".into(), &headers), wanted, "{order}");
        }
        let other = vec![("trace".to_owned(), Bytes::from_static(b"panic"))];
        assert_eq!(harm(&"slim".into(), &other), None);
    }

    #[test]
    fn a_guard_holds_unless_it_was_taken_away() {
        assert!(Guard::ALL.iter().all(|guard| !is_off(*guard)), "no test may take one away");
        assert!(arm(&|name| (name == "TIDEMILL_FAULT_DISABLE").then(|| "leash".into())).is_err());
    }
}
