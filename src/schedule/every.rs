//! Fixed periods, counted from an anchor.

use std::{fmt, sync::Arc, time::Duration};

use callsheet_actors::{
    Fault, Faults,
    port::{IntoSchedule, Schedule},
};
use chrono::{DateTime, Utc};

use super::{duration::Written, instant};

/// The longest period: a hundred years of 365.25 days.
const PERIOD_MAX: Duration = Duration::from_secs(36_525 * 86_400);

/// Fires once in every `period`.
///
/// The fire times are the multiples of the period counted from an anchor, by default the Unix epoch
/// (1970-01-01T00:00:00Z), and not from the start of the process: so they are the same on every node and after every
/// restart. `every` hour is therefore on the hour in UTC. The period is a whole number of milliseconds, from 1 ms to
/// a hundred years; it is elapsed time, which no change of the clocks affects. Wrong values are reported when the
/// schedule is used, see [`Every::check`].
///
/// ```
/// use std::time::Duration;
///
/// use callsheet::schedule::{IntoSchedule, every};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = every(Duration::from_secs(5 * 60)).into_schedule()?;
///
/// // Not five minutes after the question, but at the next full five minutes.
/// let next = schedule.next_after("2026-01-01T10:03:20Z".parse()?).ok_or("none")?;
/// assert_eq!(next.to_rfc3339(), "2026-01-01T10:05:00+00:00");
/// assert_eq!(schedule.to_string(), "every 5m");
/// # Ok(())
/// # }
/// ```
pub fn every(period: Duration) -> Every {
    Every { period, starts_at: None, anchor: None }
}

/// A fixed period; made by [`every`].
#[derive(Debug, Clone)]
#[must_use = "a schedule does nothing until a job has it"]
pub struct Every {
    period: Duration,
    starts_at: Option<DateTime<Utc>>,
    anchor: Option<DateTime<Utc>>,
}

impl Every {
    /// Counts from `instant`, which is itself a fire time, and never fires before it.
    ///
    /// An instant between two milliseconds counts as the later one. Use a constant, not the time at which the
    /// process starts: that differs from node to node, and so would the fire times.
    pub fn starting_at(mut self, instant: DateTime<Utc>) -> Self {
        self.starts_at = Some(instant);
        self
    }

    /// Sets the phase: fire times lie whole periods before and after `instant`.
    ///
    /// An instant between two milliseconds counts as the later one.
    pub fn anchored_at(mut self, instant: DateTime<Utc>) -> Self {
        self.anchor = Some(instant);
        self
    }

    /// Reports what is wrong, as adding the job would.
    ///
    /// # Errors
    ///
    /// A period of zero, with a fraction of a millisecond, or above a hundred years; both a start and an anchor.
    pub fn check(&self) -> Result<(), Faults> {
        self.compile().map(drop)
    }

    pub(super) fn compile(&self) -> Result<Interval, Faults> {
        let mut faults = Vec::new();
        faults.extend(fault_in(self.period));
        if let (Some(start), Some(anchor)) = (self.starts_at, self.anchor) {
            faults.push(Fault::new(
                "every",
                format!("starting_at({}), anchored_at({})", instant::text(start), instant::text(anchor)),
                "the start already sets the phase",
                "keep one of the two",
            ));
        }
        Faults::check(faults)?;

        // No overflow: at most a hundred years.
        let period = self.period.as_millis() as i64;
        let starts_at = self.starts_at.map(instant::ceiling);
        let anchor = starts_at.or_else(|| self.anchor.map(instant::ceiling)).unwrap_or(0);
        Ok(Interval { period, anchor, starts_at })
    }
}

impl IntoSchedule for Every {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        Ok(Arc::new(self.compile()?))
    }
}

/// What is wrong with a period, if anything.
fn fault_in(period: Duration) -> Option<Fault> {
    let (rule, cure) = if period.is_zero() {
        ("a period is not zero", "write a period of at least 1 ms")
    } else if period < Duration::from_millis(1) {
        ("a period is at least 1 ms", "write a period of at least 1 ms")
    } else if period > PERIOD_MAX {
        ("a period is at most a hundred years (36525 days)", "use `at` for single instants in a far future")
    } else if !period.subsec_nanos().is_multiple_of(1_000_000) {
        ("a period is a whole number of milliseconds", "round it to milliseconds")
    } else {
        return None;
    };
    Some(Fault::new("every", format!("{period:?}"), rule, cure))
}

/// The compiled rule: milliseconds only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interval {
    period: i64,
    anchor: i64,
    /// The first fire time, if there is one: equal to the anchor then.
    starts_at: Option<i64>,
}

impl Schedule for Interval {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let earliest = match self.starts_at {
            Some(start) => instant::following(after).max(start),
            None => instant::following(after),
        };
        // No overflow: chrono's instants are below 2⁵³ ms, periods below 2⁴².
        let phase = (earliest - self.anchor).rem_euclid(self.period);
        let next = if phase == 0 { earliest } else { earliest - phase + self.period };
        instant::from_millis(next)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let latest = instant::preceding(before);
        let previous = latest - (latest - self.anchor).rem_euclid(self.period);
        if self.starts_at.is_some_and(|start| previous < start) {
            return None;
        }
        instant::from_millis(previous)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", Written(self.period))?;
        let phase = self.anchor.rem_euclid(self.period);
        match (self.starts_at.and_then(instant::from_millis), instant::from_millis(self.anchor)) {
            (Some(start), _) => write!(f, " from {}", instant::text(start)),
            (None, Some(anchor)) if phase != 0 => write!(f, " anchored at {}", instant::text(anchor)),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn compiled(every: Every) -> Interval {
        every.compile().expect("a good definition")
    }

    #[test]
    fn the_anchor_is_the_epoch_unless_given() {
        let hourly = compiled(every(Duration::from_secs(3_600)));

        assert_eq!(hourly.next_after(time("2026-05-05T05:05:05.5Z")), Some(time("2026-05-05T06:00:00Z")));
        assert_eq!(hourly.previous_before(time("2026-05-05T05:00:00Z")), Some(time("2026-05-05T04:00:00Z")));
        assert_eq!(hourly.next_after(time("1912-05-05T05:05:05.5Z")), Some(time("1912-05-05T06:00:00Z")));
    }

    #[test]
    fn the_start_is_a_fire_time_and_nothing_is_before_it() {
        let start = time("2026-05-05T05:05:05Z");
        let schedule = compiled(every(Duration::from_secs(7_200)).starting_at(start));

        assert_eq!(schedule.next_after(DateTime::<Utc>::MIN_UTC), Some(start));
        assert_eq!(schedule.next_after(start), Some(time("2026-05-05T07:05:05Z")));
        assert_eq!(schedule.previous_before(time("2026-05-05T05:05:05.001Z")), Some(start));
        assert_eq!(schedule.previous_before(start), None);
        assert_eq!(schedule.to_string(), "every 2h from 2026-05-05T05:05:05Z");
    }

    #[test]
    fn the_anchor_sets_the_phase_only() {
        let schedule =
            compiled(every(Duration::from_secs(60)).anchored_at(time("2026-05-05T05:05:05.0001Z")));

        assert_eq!(schedule.next_after(time("2020-01-01T00:00:00Z")), Some(time("2020-01-01T00:00:05.001Z")));
        assert_eq!(schedule.to_string(), "every 1m anchored at 2026-05-05T05:05:05.001Z");
    }

    #[test]
    fn an_instant_below_a_millisecond_gets_a_later_whole_millisecond() {
        let schedule = compiled(every(Duration::from_millis(1)));

        let next = schedule.next_after(time("2026-01-01T00:00:00.000000001Z"));

        assert_eq!(next, Some(time("2026-01-01T00:00:00.001Z")));
        assert_eq!(
            schedule.previous_before(time("2026-01-01T00:00:00.000000001Z")),
            Some(time("2026-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn the_limits_of_time_answer_none() {
        for period in [Duration::from_millis(1), PERIOD_MAX] {
            let schedule = compiled(every(period));

            assert_eq!(schedule.next_after(DateTime::<Utc>::MAX_UTC), None);
            assert_eq!(schedule.previous_before(DateTime::<Utc>::MIN_UTC), None);
            assert!(schedule.next_after(DateTime::<Utc>::MIN_UTC).is_some());
            assert!(schedule.previous_before(DateTime::<Utc>::MAX_UTC).is_some());
        }
    }
}
