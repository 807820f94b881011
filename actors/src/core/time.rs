//! Planned times and readings of the clocks.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
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
    // Each run asks this ten times, and subtracting dates costs three times as much as subtracting numbers.
    let micros = now.timestamp_micros().saturating_sub(then.timestamp_micros());
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
