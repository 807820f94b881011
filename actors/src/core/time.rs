//! Planned times and readings of the clocks.

use std::{fmt, time::Duration};

use chrono::{DateTime, NaiveTime, SecondsFormat, SubsecRound, Timelike, Utc};
use serde::{Deserialize, Serialize};

use crate::name::{RunId, Term};

/// A planned instant, in whole milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "DateTime<Utc>", into = "DateTime<Utc>")]
pub struct FireTime(DateTime<Utc>);

impl FireTime {
    /// The instant, cut to whole milliseconds.
    pub fn new(instant: DateTime<Utc>) -> Self {
        Self(instant.trunc_subsecs(3))
    }

    /// The instant.
    pub fn instant(self) -> DateTime<Utc> {
        self.0
    }

    /// How long before `now` this was; zero if it is still to come.
    pub fn lateness(self, now: DateTime<Utc>) -> Duration {
        since(self.0, now)
    }
}

/// The instant, cut to whole milliseconds.
impl From<DateTime<Utc>> for FireTime {
    fn from(instant: DateTime<Utc>) -> Self {
        Self::new(instant)
    }
}

impl From<FireTime> for DateTime<Utc> {
    fn from(fire_time: FireTime) -> Self {
        fire_time.0
    }
}

impl fmt::Display for FireTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl fmt::Debug for FireTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The time from `then` to `now`, in whole microseconds; zero if `then` is later.
pub(crate) fn since(then: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    // Each run asks this ten times, mostly within a day: dates are turned into numbers only if they differ.
    let (then, now) = (then.naive_utc(), now.naive_utc());
    let micros = if then.date() == now.date() {
        let of_day = |time: NaiveTime| {
            i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000)
        };
        of_day(now.time()) - of_day(then.time())
    } else {
        now.and_utc().timestamp_micros().saturating_sub(then.and_utc().timestamp_micros())
    };
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// What the shell knows at the start of a step. Machines read no clock and make no ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The wall clock: what planned times are compared with.
    pub wall: DateTime<Utc>,
    /// The monotonic clock, since any fixed instant of this process: what spans are measured with.
    pub elapsed: Duration,
    /// The term in which this node leads at this instant, if it does.
    pub term: Option<Term>,
    /// An id that no run has yet.
    pub spare: RunId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_instants_is_the_same_within_a_day_and_over_midnight() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (then, now, micros) in [
            ("2026-03-01T10:00:00.0000019Z", "2026-03-01T10:00:01.000003Z", 1_000_002),
            ("2026-02-28T23:59:59.5Z", "2026-03-01T00:00:00.25Z", 750_000),
            ("2026-03-01T10:00:01Z", "2026-03-01T10:00:00Z", 0),
            ("2026-03-02T00:00:00Z", "2026-03-01T23:59:59Z", 0),
            ("2026-06-30T23:59:60.5Z", "2026-06-30T23:59:60.75Z", 250_000),
        ] {
            assert_eq!(since(at(then), at(now)), Duration::from_micros(micros), "{then} {now}");
        }
    }
}
