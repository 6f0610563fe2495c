//! What is owed to uploads that lie where all replicas can see them.
//!
//! Responsible for: when an announcement that nobody has sent is anybody's to send, and when an
//! object is of no more use.
//! Not responsible for: looking at the store, or doing what is owed (`source::ingress`).
//!
//! An object's age is all that replicas know of each other here. One that is alive sends what it
//! has taken at once, so an announcement that waits for long is that of a dead one, or of one that
//! does not reach the broker; then it may be sent twice. Ages compare the store's clock with this
//! machine's, so the times have to be long against what clocks differ by.

use std::time::Duration;

/// The shortest age at which an object may be taken for a leftover, however short the retention:
/// longer than anybody takes to put one payload and its announcement.
const LEFTOVER_AFTER: Duration = Duration::from_secs(60 * 60);

/// What lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The uploads themselves.
    Payload,
    /// Announcements that are to be sent.
    Waiting,
    /// Marks of those that were.
    Sent,
}

/// What anybody who sees an object is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Send the announcement.
    Announce,
    /// Remove the payload and the mark.
    Remove,
    /// Remove the payload if no announcement of it waits or was sent: whoever put it died before
    /// the upload was answered.
    RemoveIfUnknown,
}

/// How long things lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long an announcement is its own replica's.
    pub adopt_after: Duration,
    /// How long a payload is kept after it was announced.
    pub retain: Duration,
}

impl Times {
    /// What is owed to an object that was put at `put_at`, in milliseconds since the Unix epoch.
    pub fn duty(&self, place: Place, put_at: i64, now: i64) -> Option<Duty> {
        let (after, duty) = match place {
            Place::Waiting => (self.adopt_after, Duty::Announce),
            Place::Sent => (self.retain, Duty::Remove),
            Place::Payload => (self.retain.max(LEFTOVER_AFTER), Duty::RemoveIfUnknown),
        };
        let age = u64::try_from(now.saturating_sub(put_at)).unwrap_or(0);
        (Duration::from_millis(age) > after).then_some(duty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600 * SECOND;
    const DAY: i64 = 24 * HOUR;

    fn times(adopt_after: u64, retain: u64) -> Times {
        Times { adopt_after: Duration::from_secs(adopt_after), retain: Duration::from_secs(retain) }
    }

    #[test]
    fn each_object_is_owed_something_from_a_certain_age_on() {
        let usual = times(180, 7 * 86_400);
        let short = times(1, 1);
        let table = [
            (usual, Place::Waiting, 180 * SECOND, None),
            (usual, Place::Waiting, 180 * SECOND + 1, Some(Duty::Announce)),
            (usual, Place::Waiting, 30 * DAY, Some(Duty::Announce)),
            (usual, Place::Sent, 7 * DAY, None),
            (usual, Place::Sent, 7 * DAY + 1, Some(Duty::Remove)),
            (usual, Place::Payload, 7 * DAY, None),
            (usual, Place::Payload, 7 * DAY + 1, Some(Duty::RemoveIfUnknown)),
            (short, Place::Waiting, SECOND + 1, Some(Duty::Announce)),
            (short, Place::Sent, SECOND + 1, Some(Duty::Remove)),
            (short, Place::Payload, HOUR, None),
            (short, Place::Payload, HOUR + 1, Some(Duty::RemoveIfUnknown)),
        ];
        for (times, place, age, duty) in table {
            let now = 1_741_564_800_123;
            assert_eq!(times.duty(place, now - age, now), duty, "{place:?} of {age} ms");
        }
    }

    #[test]
    fn an_object_of_the_future_is_young() {
        for place in [Place::Payload, Place::Waiting, Place::Sent] {
            assert_eq!(times(0, 0).duty(place, 5_000, 4_000), None, "{place:?}");
            assert_eq!(times(0, 0).duty(place, i64::MAX, i64::MIN), None, "{place:?}");
        }
    }
}
