//! Points in time and how long ago they are.
//!
//! Responsible for: RFC 3339 in UTC, and "3 h 12 min".
//! Not responsible for: what time it is; that is an argument.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A point in time, in milliseconds since the Unix epoch. It is serialized as RFC 3339 in UTC
/// with milliseconds, so that texts sort like the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String)]
pub struct Time(pub i64);

impl Time {
    /// RFC 3339 in UTC without fractions of seconds.
    pub fn to_seconds(self) -> String {
        Timestamp::from_millisecond(self.0)
            .map_or_else(|_| format!("{} ms", self.0), |at| format!("{at:.0}"))
    }

    /// How much later `later` is; nothing if it is earlier, as clocks may jump.
    pub fn until(self, later: Self) -> Age {
        Age(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds. A time that no calendar has is told in milliseconds.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time that no calendar has comes back as it was told.
impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self(at.as_millisecond()));
        }
        let millis = text.strip_suffix(" ms").and_then(|millis| millis.parse().ok());
        millis.map(Self).ok_or_else(|| de::Error::custom(format!("{text:?} is no time")))
    }
}

/// A length of time in milliseconds. For people it is told in its two largest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Age(pub u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((large, large_unit), (small, small_unit)) = match self.0 {
            ms if ms < SECOND => return f.write_str("less than 1 s"),
            ms if ms < MINUTE => return write!(f, "{} s", ms / SECOND),
            ms if ms < HOUR => ((ms / MINUTE, "min"), (ms % MINUTE / SECOND, "s")),
            ms if ms < DAY => ((ms / HOUR, "h"), (ms % HOUR / MINUTE, "min")),
            ms => ((ms / DAY, "d"), (ms % DAY / HOUR, "h")),
        };
        write!(f, "{large} {large_unit}")?;
        if small > 0 {
            write!(f, " {small} {small_unit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_their_two_largest_units() {
        let table = [
            (0, "less than 1 s"),
            (999, "less than 1 s"),
            (1_000, "1 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (65_000, "1 min 5 s"),
            (3_600_000, "1 h"),
            (3 * HOUR + 12 * MINUTE + 59 * SECOND, "3 h 12 min"),
            (DAY, "1 d"),
            (40 * DAY + 5 * HOUR + MINUTE, "40 d 5 h"),
        ];
        for (millis, wanted) in table {
            assert_eq!(Age(millis).to_string(), wanted, "{millis}");
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let at = Time(1_741_842_000_250);
        assert_eq!(at.to_string(), "2025-03-13T05:00:00.250Z");
        assert_eq!(at.to_seconds(), "2025-03-13T05:00:00Z");
        assert_eq!(serde_json::to_value(at).unwrap(), "2025-03-13T05:00:00.250Z");
        assert_eq!(Time(i64::MAX).to_string(), format!("{} ms", i64::MAX));
    }

    #[test]
    fn what_is_told_of_a_time_is_read_back_as_the_same() {
        for at in [Time(0), Time(1_741_842_000_250), Time(-1), Time(i64::MAX)] {
            let told = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<Time>(&told).unwrap(), at, "{told}");
        }
        assert!(serde_json::from_str::<Time>("\"soon\"").is_err());
    }

    #[test]
    fn a_clock_that_jumped_back_makes_no_negative_age() {
        assert_eq!(Time(10_000).until(Time(4_000)), Age(0));
        assert_eq!(Time(4_000).until(Time(10_000)), Age(6_000));
        assert_eq!(Time(i64::MIN).until(Time(i64::MAX)), Age(i64::MAX.cast_unsigned()));
    }
}
