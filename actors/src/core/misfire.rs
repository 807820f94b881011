//! Which of the ticks that are due may still run.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use smallvec::SmallVec;

use crate::{
    core::{policy::Misfire, time::FireTime},
    port::Schedule,
};

/// Missed ticks are counted one by one up to this number; beyond it the count means "at least".
pub const OVERDUE_MAX: u64 = 10_000;

/// The ticks that are due at one instant: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The newest of them, at least one, in their order.
    pub newest: SmallVec<[FireTime; 1]>,
    /// How many there are before these.
    pub older: u64,
    /// The newest of the older ones.
    pub newest_older: Option<FireTime>,
    /// There may be more than `older`.
    pub at_least: bool,
    /// The first tick that is not due yet.
    pub following: Option<FireTime>,
}

impl Due {
    /// The ticks from `first`, which is due, up to and including `now`; up to `keep` of them one by one.
    ///
    /// A schedule whose answers do not move forward is taken as exhausted, so that no loop can spin.
    pub fn collect(schedule: &dyn Schedule, first: FireTime, now: DateTime<Utc>, keep: usize) -> Self {
        let mut due = Self::only(first);
        loop {
            match next_after(schedule, due.last().instant()) {
                Some(tick) if tick.instant() <= now && due.count() < OVERDUE_MAX => due.push(tick, keep),
                Some(tick) if tick.instant() <= now => break,
                following => return Self { following, ..due },
            }
        }

        // There are too many to count. The newest are found from the other end.
        let mut newest = SmallVec::<[FireTime; 1]>::new();
        let mut before = now.checked_add_signed(TimeDelta::milliseconds(1));
        while newest.len() < keep.max(1)
            && let Some(tick) = before.and_then(|before| schedule.previous_before(before)).map(FireTime::new)
            && tick > due.last()
            && before.is_some_and(|before| tick.instant() < before)
        {
            newest.push(tick);
            before = Some(tick.instant());
        }
        if !newest.is_empty() {
            newest.reverse();
            let (last, first) = (due.last(), newest[0]);
            let older = schedule.previous_before(first.instant()).map(FireTime::new);
            let newest_older = older.filter(|older| (last..first).contains(older)).unwrap_or(last);
            due = Self { newest_older: Some(newest_older), older: due.count(), newest, ..due };
        }
        // Between the newest and now there may be ticks only if `previous_before` contradicts `next_after`.
        due.following = next_after(schedule, due.last().instant().max(now));
        Self { at_least: true, ..due }
    }

    /// As [`collect`](Self::collect), of a schedule that counts from the end of runs: the first tick that is admitted is the only
    /// one. Each before it counts from the one before that.
    pub fn first_admitted(
        schedule: &dyn Schedule,
        first: FireTime,
        now: DateTime<Utc>,
        admits: impl Fn(FireTime) -> bool,
    ) -> Self {
        let mut due = Self::only(first);
        while !admits(due.last()) {
            match next_after(schedule, due.last().instant()) {
                Some(tick) if tick.instant() <= now && due.count() < OVERDUE_MAX => due.push(tick, 1),
                // There are too many to count: it goes on from here.
                Some(tick) if tick.instant() <= now => {
                    let following = next_after(schedule, now);
                    return Self { following, at_least: true, ..due };
                }
                following => return Self { following, ..due },
            }
        }
        due
    }

    /// One tick, after which none follows by itself.
    fn only(tick: FireTime) -> Self {
        let newest = SmallVec::from_buf([tick]);
        Self { newest, older: 0, newest_older: None, at_least: false, following: None }
    }

    fn last(&self) -> FireTime {
        *self.newest.last().expect("invariant: at least one tick is due")
    }

    fn count(&self) -> u64 {
        self.older + self.newest.len() as u64
    }

    fn push(&mut self, tick: FireTime, keep: usize) {
        if self.newest.len() >= keep.max(1) {
            self.newest_older = Some(self.newest.remove(0));
            self.older += 1;
        }
        self.newest.push(tick);
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
            Self::Latest { within } | Self::All { within, .. } => lateness <= within.max(grace),
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

    fn hours(hours: &[&str]) -> Vec<FireTime> {
        hours.iter().map(|hour| FireTime::new(at(hour))).collect()
    }

    #[test]
    fn one_due_tick_is_the_newest() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("01:30"), 1);

        assert_eq!((due.newest.to_vec(), due.older, due.at_least), (hours(&["01:00"]), 0, false));
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00")));
    }

    #[test]
    fn a_tick_is_due_at_its_own_instant() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("03:00"), 1);

        assert_eq!((due.newest.to_vec(), due.older), (hours(&["03:00"]), 2));
        assert_eq!(due.newest_older, Some(FireTime::new(at("02:00"))));
    }

    #[test]
    fn as_many_of_the_newest_as_wanted_are_named() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("05:30"), 3);

        assert_eq!((due.newest.to_vec(), due.older), (hours(&["03:00", "04:00", "05:00"]), 2));
        assert_eq!(due.following.map(FireTime::instant), Some(at("06:00")));
    }

    #[test]
    fn counting_stops_at_the_bound_and_still_finds_the_newest() {
        let schedule = Period::millis(1);

        let due = Due::collect(&schedule, FireTime::new(at("01:00")), at("02:00"), 2);

        let newest = [at("02:00") - TimeDelta::milliseconds(1), at("02:00")].map(FireTime::new);
        assert_eq!((due.newest.to_vec(), due.older, due.at_least), (newest.to_vec(), OVERDUE_MAX, true));
        let newest_older = FireTime::new(at("02:00") - TimeDelta::milliseconds(2));
        assert_eq!(due.newest_older, Some(newest_older), "nothing is between them");
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00") + TimeDelta::milliseconds(1)));
    }

    #[test]
    fn of_a_schedule_that_counts_from_the_end_of_runs_the_first_admitted_tick_is_the_only_one() {
        let first = FireTime::new(at("01:00"));
        let collect = |now: &str, since: &str| {
            let since = FireTime::new(at(since));
            Due::first_admitted(&Period::hours(1), first, at(now), |tick| tick >= since)
        };

        let due = collect("05:30", "03:00");
        assert_eq!((due.newest.to_vec(), due.older), (hours(&["03:00"]), 2));
        assert_eq!((due.newest_older, due.following), (hours(&["02:00"]).pop(), None));

        let due = collect("05:30", "06:00");
        assert_eq!((due.newest.to_vec(), due.older), (hours(&["05:00"]), 4), "none is admitted");
        assert_eq!(due.following, hours(&["06:00"]).pop());

        let due = Due::first_admitted(&Period::millis(1), first, at("02:00"), |_| false);
        assert_eq!((due.older, due.at_least), (OVERDUE_MAX - 1, true));
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00") + TimeDelta::milliseconds(1)));
    }

    #[test]
    fn a_schedule_that_does_not_move_forward_is_exhausted() {
        let due = Due::collect(&Stuck(at("01:00")), FireTime::new(at("01:00")), at("02:00"), 1);

        assert_eq!((due.newest.len(), due.older, due.following), (1, 0, None));
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
            (Misfire::All { max: 3, within: minute }, minute, true),
            (Misfire::All { max: 3, within: minute }, hour, false),
            (Misfire::Skip, second, true),
            (Misfire::Skip, minute, false),
            (Misfire::Latest { within: Duration::ZERO }, second, true),
        ];
        for (misfire, lateness, admitted) in cases {
            assert_eq!(misfire.admits(lateness, second), admitted, "{misfire:?} {lateness:?}");
        }
    }
}
