//! Fixed periods, counted from an anchor.

use std::{fmt, time::Duration};

use callsheet_actors::Fault;
use chrono::{DateTime, Utc};

use super::{
    definition::{Anchored, Definition},
    duration::Written,
    input::Given,
    instant,
};

/// The longest period: a hundred years of 365.25 days.
pub(super) const PERIOD_MAX: Duration = Duration::from_secs(36_525 * 86_400);

/// Fires once in every `period`.
///
/// The fire times are the multiples of the period counted from an anchor:
/// [`anchored_at`](Definition::anchored_at), or [`starting_at`](Definition::starting_at), or else the Unix
/// epoch (1970-01-01T00:00:00Z). They do not depend on the start of the process, so they are the same on
/// every node and after every restart: `every` hour is on the hour in UTC. The period is a whole number of
/// milliseconds, from 1 ms to a hundred years; it is elapsed time, which no change of the clocks affects.
///
/// Source: ISO 8601-1, section 5.6, a repeating interval (`R/start/duration`) whose start is the anchor,
/// without a last one.
///
/// | surprising case | what happens |
/// |---|---|
/// | a restart in the middle of a period | nothing moves |
/// | `every("24h")` over a change of the clocks | the time on the clock changes by an hour; [`daily`](super::daily()) keeps it |
/// | `every("7m")` | not aligned with the hours: 7 minutes do not divide an hour |
/// | `starting_at` an instant | that instant is a fire time; nothing fires before it |
/// | `anchored_at` an instant, future or past | sets the phase only; fires before it, too |
/// | [`from_completion`](Definition::from_completion) | a period after the end of the last run, whenever that is |
///
/// ```
/// use std::time::Duration;
///
/// use callsheet::schedule::{IntoSchedule, every};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = every(Duration::from_mins(5)).into_schedule()?;
///
/// // Not five minutes after the question, but at the next full five minutes.
/// let next = schedule.next_after("2026-01-01T10:03:20Z".parse()?).ok_or("none")?;
/// assert_eq!(next.to_rfc3339(), "2026-01-01T10:05:00+00:00");
/// assert_eq!(schedule.to_string(), "every 5m");
///
/// // A day of 24 hours is not a day on the calendar.
/// let schedule = every("24h").anchored_at("2026-03-28T09:00:00Z").timezone("Europe/Lisbon");
/// let preview = schedule.preview("2026-03-28T00:00:00Z".parse()?, 2)?;
/// assert_eq!(preview.to_string(), "Sat 2026-03-28 09:00:00 +00:00\nSun 2026-03-29 10:00:00 +01:00\n");
/// # Ok(())
/// # }
/// ```
pub fn every(period: impl Into<Given<Duration>>) -> Definition<Every> {
    Definition::new(Every { period: period.into(), from_completion: false })
}

/// A fixed period; made by [`every`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Every {
    pub(super) period: Given<Duration>,
    pub(super) from_completion: bool,
}

impl Anchored for Every {}

impl Definition<Every> {
    /// Counts the period from the end of the job's last run, however it ended and on whichever node; the
    /// first one from the moment at which the job is first known. So there is always a full period between
    /// two runs, and no tick during a run.
    ///
    /// The end is kept with the job's cursor, in the store's time, so that it survives the node; of a run
    /// whose node died, it is the moment at which that was found out. A manual run counts as well. A tick
    /// that is missed (the job is paused, or no node fires it) and that the misfire policy does not make up
    /// for counts as a run that took no time: the next one is a period later. So after downtime one run
    /// starts, not many. [`starting_at`](Definition::starting_at) is the first fire time at the earliest. An
    /// end between two milliseconds counts as the later one.
    ///
    /// No fire time but the next one is known ahead. So `anchored_at`, `except` and `jitter` are refused
    /// beside it, and so is being part of a union or of a calendar.
    ///
    /// ```
    /// use callsheet::schedule::{IntoSchedule, every};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let schedule = every("5m").from_completion().into_schedule()?;
    ///
    /// // Asked with the end of a run: not the next full five minutes.
    /// let next = schedule.next_after("2026-01-01T10:03:20Z".parse()?).ok_or("none")?;
    /// assert_eq!(next.to_rfc3339(), "2026-01-01T10:08:20+00:00");
    /// assert_eq!(schedule.to_string(), "every 5m from completion");
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_completion(mut self) -> Self {
        self.kind.from_completion = true;
        self
    }
}

impl Every {
    pub(super) fn compile(&self, anchor: Option<i64>) -> Result<Interval, Fault> {
        let period = millis_of(&self.period, "every")?;
        Ok(Interval { period, anchor: anchor.unwrap_or(0) })
    }
}

/// A pause after the end of the last run, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterCompletion {
    period: i64,
    /// What no fire time is before; `i64::MIN` if there is none.
    from: i64,
}

impl AfterCompletion {
    pub(super) fn new(period: i64, from: Option<i64>) -> Self {
        Self { period, from: from.unwrap_or(i64::MIN) }
    }

    /// `earliest` is the first millisecond after the end.
    pub(super) fn first_from(&self, earliest: i64) -> Option<i64> {
        // No overflow: see [`Interval::first_from`].
        Some((earliest - 1 + self.period).max(self.from))
    }
}

/// The milliseconds of a period, from 1 to those of a hundred years.
pub(super) fn millis_of(given: &Given<Duration>, subject: &str) -> Result<i64, Fault> {
    let period = given.read(subject)?;
    match fault_in(period) {
        Some((rule, cure)) => Err(Fault::new(subject, given.shown(), rule, cure)),
        // No loss: at most a hundred years.
        None => Ok(period.as_millis() as i64),
    }
}

/// What is wrong with a period, if anything.
fn fault_in(period: Duration) -> Option<(&'static str, &'static str)> {
    Some(if period.is_zero() {
        ("a period is not zero", "write a period of at least 1 ms")
    } else if period < Duration::from_millis(1) {
        ("a period is at least 1 ms", "write a period of at least 1 ms")
    } else if period > PERIOD_MAX {
        ("a period is at most a hundred years (36525 days)", "use `at` for single instants in a far future")
    } else if !period.subsec_nanos().is_multiple_of(1_000_000) {
        ("a period is a whole number of milliseconds", "round it to milliseconds")
    } else {
        return None;
    })
}

/// The compiled rule: milliseconds only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) period: i64,
    anchor: i64,
}

impl Interval {
    pub(super) fn first_from(&self, earliest: i64) -> Option<i64> {
        // No overflow: chrono's instants are below 2⁵³ ms, periods below 2⁴².
        Some(earliest + (self.anchor - earliest).rem_euclid(self.period))
    }

    pub(super) fn last_until(&self, latest: i64) -> Option<i64> {
        Some(latest - (latest - self.anchor).rem_euclid(self.period))
    }

    /// The anchor, where it is not a multiple of the period.
    pub(super) fn odd_anchor(&self) -> Option<DateTime<Utc>> {
        let is_odd = self.anchor.rem_euclid(self.period) != 0;
        instant::from_millis(self.anchor).filter(|_| is_odd)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", Written(self.period))?;
        match self.odd_anchor() {
            Some(anchor) => write!(f, " anchored at {}", instant::text(anchor)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callsheet_actors::port::{IntoSchedule, Schedule};

    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn compiled(every: Definition<Every>) -> Arc<dyn Schedule> {
        every.into_schedule().expect("a good definition")
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
        let schedule = compiled(every("2h").starting_at(start));

        assert_eq!(schedule.next_after(DateTime::<Utc>::MIN_UTC), Some(start));
        assert_eq!(schedule.next_after(start), Some(time("2026-05-05T07:05:05Z")));
        assert_eq!(schedule.previous_before(time("2026-05-05T05:05:05.001Z")), Some(start));
        assert_eq!(schedule.previous_before(start), None);
        assert_eq!(schedule.to_string(), "every 2h from 2026-05-05T05:05:05Z");
    }

    #[test]
    fn an_anchor_beside_a_start_sets_the_phase() {
        let schedule =
            compiled(every("2h").starting_at("2026-05-05T05:05:05Z").anchored_at("2030-01-01T00:30:00Z"));

        assert_eq!(schedule.next_after(DateTime::<Utc>::MIN_UTC), Some(time("2026-05-05T06:30:00Z")));
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
