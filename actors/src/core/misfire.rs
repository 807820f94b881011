//! Which of the ticks that are due may still run.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{policy::Misfire, time::FireTime},
    port::Schedule,
};

/// Missed ticks are counted one by one up to this number; beyond it the count means "at least".
pub const OVERDUE_MAX: u64 = 10_000;

/// The ticks that are due at one instant: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The newest of them.
    pub newest: FireTime,
    /// How many there are, `newest` included.
    pub count: u64,
    /// There may be more than `count`.
    pub at_least: bool,
    /// The first tick that is not due yet.
    pub following: Option<FireTime>,
}

impl Due {
    /// The ticks from `first`, which is due, up to and including `now`.
    ///
    /// A schedule whose answers do not move forward is taken as exhausted, so that no loop can spin.
    pub fn collect(schedule: &dyn Schedule, first: FireTime, now: DateTime<Utc>) -> Self {
        let mut newest = first;
        let mut count = 1;
        loop {
            match next_after(schedule, newest.instant()) {
                Some(tick) if tick.instant() <= now && count < OVERDUE_MAX => {
                    newest = tick;
                    count += 1;
                }
                Some(tick) if tick.instant() <= now => break,
                following => return Self { newest, count, at_least: false, following },
            }
        }

        let last = now
            .checked_add_signed(TimeDelta::milliseconds(1))
            .and_then(|after_now| schedule.previous_before(after_now))
            .map(FireTime::new)
            .filter(|tick| *tick > newest && tick.instant() <= now);
        let newest = last.unwrap_or(newest);
        // Between `newest` and now there may be ticks only if `previous_before` contradicts `next_after`.
        let following = next_after(schedule, newest.instant().max(now));
        Self { newest, count, at_least: true, following }
    }
}

/// The first tick after `instant`; `None` as well for an answer that does not move forward.
pub fn next_after(schedule: &dyn Schedule, instant: DateTime<Utc>) -> Option<FireTime> {
    schedule.next_after(instant).map(FireTime::new).filter(|next| next.instant() > instant)
}

impl Misfire {
    /// Whether a tick that is late by `lateness` may run.
    pub fn admits(self, lateness: Duration, grace: Duration) -> bool {
        match self {
            Self::Latest { within } => lateness <= within.max(grace),
            Self::Skip => lateness <= grace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::job::tests::{Never, Stuck, at},
        testkit::fakes::Period,
    };

    #[test]
    fn one_due_tick_is_the_newest() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("01:30"));

        assert_eq!((due.newest.instant(), due.count, due.at_least), (at("01:00"), 1, false));
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00")));
    }

    #[test]
    fn a_tick_is_due_at_its_own_instant() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("03:00"));

        assert_eq!((due.newest.instant(), due.count), (at("03:00"), 3));
    }

    #[test]
    fn counting_stops_at_the_bound_and_still_finds_the_newest() {
        let schedule = Period::millis(1);

        let due = Due::collect(&schedule, FireTime::new(at("01:00")), at("02:00"));

        assert_eq!((due.newest.instant(), due.count, due.at_least), (at("02:00"), OVERDUE_MAX, true));
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00") + TimeDelta::milliseconds(1)));
    }

    #[test]
    fn a_schedule_that_does_not_move_forward_is_exhausted() {
        let due = Due::collect(&Stuck(at("01:00")), FireTime::new(at("01:00")), at("02:00"));

        assert_eq!((due.count, due.following), (1, None));
        assert_eq!(next_after(&Never, at("01:00")), None);
    }

    #[test]
    fn the_truth_table_of_misfire() {
        let [second, minute, hour] = [1, 60, 3_600].map(Duration::from_secs);
        let latest = Misfire::Latest { within: minute };
        let cases = [
            (latest, second, true),
            (latest, minute, true),
            (latest, hour, false),
            (Misfire::Skip, second, true),
            (Misfire::Skip, minute, false),
            (Misfire::Latest { within: Duration::ZERO }, second, true),
        ];
        for (misfire, lateness, admitted) in cases {
            assert_eq!(misfire.admits(lateness, second), admitted, "{misfire:?} {lateness:?}");
        }
    }
}
