//! The deadlines of a job by the monotonic clock, in one small table.
//!
//! Those of a run in progress stand with the run. What waits for an instant of the wall clock (the next tick,
//! the end of a pause) is no deadline: the clock may be set, so it is read anew at every step.

use std::time::Duration;

/// A deadline that a job may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// When to ask the store once more what it did not answer.
    AskAgain,
    /// When to have the store move its cursor over skipped ticks.
    Flush,
    /// When to ask the store for a tick that it found not to be due, or whose key somebody else had.
    Hold,
    /// When to start the next late tick, at the earliest.
    Pace,
    /// When to let a tick ask the store whether the job is paused still.
    CheckPause,
}

impl Timer {
    const COUNT: usize = 5;
}

/// When each timer is due, in nanoseconds of the monotonic clock.
#[derive(Debug, Clone)]
pub(super) struct Timers([u64; Timer::COUNT]);

/// A timer is not set: 584 years from the start of the process.
const NEVER: u64 = u64::MAX;

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Duration) {
        self.0[timer as usize] = u64::try_from(at.as_nanos()).unwrap_or(NEVER);
    }

    /// Sets it, unless it is set already.
    pub(super) fn set_once(&mut self, timer: Timer, at: Duration) {
        if !self.is_set(timer) {
            self.set(timer, at);
        }
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Duration> {
        Some(self.0[timer as usize]).filter(|at| *at != NEVER).map(Duration::from_nanos)
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != NEVER
    }

    /// It is set, and due.
    pub(super) fn is_due(&self, timer: Timer, now: Duration) -> bool {
        self.get(timer).is_some_and(|at| at <= now)
    }

    /// As [`is_due`](Self::is_due), and stops it if so.
    pub(super) fn take_due(&mut self, timer: Timer, now: Duration) -> bool {
        let is_due = self.is_due(timer, now);
        if is_due {
            self.stop(timer);
        }
        is_due
    }

    /// When it is due, if that is still to come.
    pub(super) fn still_to_come(&self, timer: Timer, now: Duration) -> Option<Duration> {
        self.get(timer).filter(|at| *at > now)
    }

    /// When the first of these is due.
    pub(super) fn next(&self, timers: &[Timer]) -> Option<Duration> {
        timers.iter().filter_map(|timer| self.get(*timer)).min()
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self([NEVER; Timer::COUNT])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Timer; Timer::COUNT] =
        [Timer::AskAgain, Timer::Flush, Timer::Hold, Timer::Pace, Timer::CheckPause];

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_timer_has_a_place_of_its_own() {
        let mut timers = Timers::default();

        for (at, timer) in (1..).zip(ALL) {
            timers.set(timer, seconds(at));
        }

        assert_eq!(ALL.map(|timer| timers.get(timer)), [1, 2, 3, 4, 5].map(|at| Some(seconds(at))));
        assert_eq!(size_of::<Timers>(), 8 * Timer::COUNT);
    }

    #[test]
    fn a_timer_is_due_from_its_instant_on_until_it_is_stopped() {
        for (at, now, is_due) in [(5, 4, false), (5, 5, true), (5, 6, true)] {
            let mut timers = Timers::default();
            timers.set(Timer::Hold, seconds(at));
            let (at, now) = (seconds(at), seconds(now));

            assert_eq!(timers.is_due(Timer::Hold, now), is_due);
            assert_eq!(timers.still_to_come(Timer::Hold, now), Some(at).filter(|_| !is_due));
            assert_eq!(timers.take_due(Timer::Hold, now), is_due);
            assert_eq!(timers.is_set(Timer::Hold), !is_due);
        }
    }

    #[test]
    fn the_next_is_the_first_of_those_that_are_asked_for() {
        let mut timers = Timers::default();
        timers.set(Timer::Flush, seconds(3));
        timers.set(Timer::Pace, seconds(1));
        timers.set(Timer::AskAgain, seconds(2));

        for (of, next) in [
            (&ALL[..], Some(1)),
            (&[Timer::Flush, Timer::AskAgain], Some(2)),
            (&[Timer::Flush, Timer::Hold], Some(3)),
            (&[Timer::Hold, Timer::CheckPause], None),
            (&[], None),
        ] {
            assert_eq!(timers.next(of), next.map(seconds), "{of:?}");
        }
    }

    #[test]
    fn a_timer_that_is_set_once_keeps_its_instant() {
        let mut timers = Timers::default();
        timers.set_once(Timer::Flush, seconds(1));
        timers.set_once(Timer::Flush, seconds(2));
        assert_eq!(timers.get(Timer::Flush), Some(seconds(1)));

        timers.stop(Timer::Flush);
        timers.set_once(Timer::Flush, seconds(2));

        assert_eq!(timers.get(Timer::Flush), Some(seconds(2)));
    }

    #[test]
    fn a_deadline_beyond_all_time_is_none() {
        let mut timers = Timers::default();

        timers.set(Timer::Hold, Duration::MAX);

        assert_eq!(timers.get(Timer::Hold), None);
    }
}
