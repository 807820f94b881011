//! Whether a clock has been set, or the machine has slept.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that moves further than this against the monotonic one is taken as set: 100 ms. Timers are off by
/// no more.
pub(crate) const CLOCK_STEP_MIN: TimeDelta = TimeDelta::milliseconds(100);

/// Notices that a clock and the monotonic one move apart: at once, when somebody sets it or the machine
/// sleeps, or little by little.
///
/// ```text
/// clock       0    1    2         9   10   11     it is set from 3 to 9, or the machine sleeps
/// monotonic   0    1    2         3    4    5
/// look        -    -    -        +6s   -    -
/// ```
#[derive(Debug, Clone)]
pub(crate) struct ClockWatch {
    /// What the clock read when the monotonic one read zero, as it stood when timers were right.
    origin: DateTime<Utc>,
}

impl ClockWatch {
    /// A watch to which `clock` and `elapsed`, read at one instant, belong together.
    pub(crate) fn new(clock: DateTime<Utc>, elapsed: Duration) -> Self {
        Self { origin: clock_origin(clock, elapsed) }
    }

    /// By how much the clock has moved since it was seen to move last, if by more than [`CLOCK_STEP_MIN`]:
    /// every timer that follows it has to be set again.
    pub(crate) fn look(&mut self, clock: DateTime<Utc>, elapsed: Duration) -> Option<TimeDelta> {
        let origin = clock_origin(clock, elapsed);
        let by = origin - self.origin;
        if by.abs() <= CLOCK_STEP_MIN {
            return None;
        }
        self.origin = origin;
        Some(by)
    }
}

/// What a clock read, or would have read, when the monotonic one read zero.
pub fn clock_origin(clock: DateTime<Utc>, elapsed: Duration) -> DateTime<Utc> {
    let elapsed = TimeDelta::from_std(elapsed).unwrap_or(TimeDelta::MAX);
    clock.checked_sub_signed(elapsed).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_clock_that_keeps_time_is_never_seen_to_move() {
        let mut watch = ClockWatch::new(at("00:00"), secs(5));

        assert_eq!(watch.look(at("00:01"), secs(65)), None);
        assert_eq!(watch.look(at("12:00"), secs(12 * 3600 + 5)), None);
    }

    #[test]
    fn a_step_is_seen_once_by_its_size_and_direction() {
        let mut watch = ClockWatch::new(at("00:00"), secs(0));

        assert_eq!(watch.look(at("01:00"), secs(1)), Some(TimeDelta::seconds(3599)));
        assert_eq!(watch.look(at("01:01"), secs(61)), None);
        assert_eq!(watch.look(at("00:01"), secs(61)), Some(TimeDelta::hours(-1)));
        assert_eq!(watch.look(at("00:02"), secs(121)), None);
    }

    #[test]
    fn drift_adds_up_until_it_is_seen() {
        let mut watch = ClockWatch::new(at("00:00"), secs(0));
        let drifting = |second: i64| at("00:00") + TimeDelta::milliseconds(second * 1_030);

        let seen: Vec<_> =
            (1..=10).filter_map(|second| watch.look(drifting(second), secs(second as u64))).collect();

        assert_eq!(seen, [TimeDelta::milliseconds(120), TimeDelta::milliseconds(120)], "of 300 ms in all");
    }

    #[test]
    fn what_is_within_the_bound_is_borne() {
        let mut watch = ClockWatch::new(at("00:00"), secs(0));

        assert_eq!(watch.look(at("00:00") + CLOCK_STEP_MIN, secs(0)), None);
        assert_eq!(watch.look(at("00:00") - CLOCK_STEP_MIN, secs(0)), None);
        let beyond = CLOCK_STEP_MIN + TimeDelta::milliseconds(1);
        assert_eq!(watch.look(at("00:00") - beyond, secs(0)), Some(-beyond));
    }
}
