//! Which of the ticks that are due may still run.

use std::time::Duration;

use chrono::{DateTime, Utc};
use smallvec::SmallVec;

use crate::{
    core::{
        contract::{Breach, MILLISECOND, confirm, next_after, previous_before},
        policy::{MISFIRE_WITHIN_MAX, MISFIRE_WITHIN_MIN, Misfire},
        time::FireTime,
    },
    port::Schedule,
};

/// Missed ticks are counted one by one up to this number; beyond it the count means "at least".
pub(crate) const MISSED_COUNT_MAX: u64 = 10_000;

/// The ticks that are due at one instant: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
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
    pub(crate) fn collect(
        schedule: &dyn Schedule,
        first: FireTime,
        now: DateTime<Utc>,
        keep: usize,
    ) -> Result<Self, Breach> {
        let mut due = Self::only(first);
        let beyond = loop {
            match next_after(schedule, due.last().instant())? {
                Some(tick) if tick.instant() <= now && due.count() < MISSED_COUNT_MAX => {
                    if due.count() == 1
                        && let Some(due) = Self::evenly_spaced(schedule, [first, tick], now, keep)?
                    {
                        return Ok(due);
                    }
                    due.push(tick, keep);
                }
                Some(tick) if tick.instant() <= now => break tick,
                following => return Ok(Self { following, ..due }),
            }
        };

        // There are too many to count. The newest are found from the other end.
        let mut newest = SmallVec::<[FireTime; 1]>::new();
        let mut before = first_after(now);
        while newest.len() < keep.max(1)
            && let Some(asked) = before
            && let Some(tick) = previous_before(schedule, asked)?
            && tick > due.last()
        {
            confirm(schedule, tick, asked)?;
            newest.push(tick);
            before = Some(tick.instant());
        }
        if newest.is_empty() {
            // It may have given up its search. It knows a tick right before the instant that it is asked
            // with, though.
            known(schedule, beyond)?;
            due.following = next_after(schedule, now)?;
        } else {
            newest.reverse();
            let (last, first) = (due.last(), newest[0]);
            let older = previous_before(schedule, first.instant())?;
            let newest_older = older.filter(|older| (last..first).contains(older)).unwrap_or(last);
            due = Self { newest_older: Some(newest_older), older: due.count(), newest, ..due };
            due.following = next_after(schedule, due.last().instant())?;
            if let Some(newer) = due.following.filter(|following| following.instant() <= now) {
                known(schedule, newer)?;
                due.following = next_after(schedule, now)?;
            }
        }
        Ok(Self { at_least: true, ..due })
    }

    /// As [`collect`](Self::collect), of a schedule that counts from the end of runs: the first tick that is
    /// admitted is the only one. Each before it counts from the one before that. `admits` gets a tick and the
    /// one that would follow it.
    pub(crate) fn first_admitted(
        schedule: &dyn Schedule,
        first: FireTime,
        now: DateTime<Utc>,
        admits: impl Fn(FireTime, Option<FireTime>) -> bool,
    ) -> Result<Self, Breach> {
        let mut due = Self::only(first);
        loop {
            let following = next_after(schedule, due.last().instant())?;
            if admits(due.last(), following) {
                return Ok(due);
            }
            match following {
                Some(tick) if tick.instant() <= now && due.count() < MISSED_COUNT_MAX => due.push(tick, 1),
                // There are too many to count: it goes on from here.
                Some(tick) if tick.instant() <= now => {
                    let following = next_after(schedule, now)?;
                    return Ok(Self { following, at_least: true, ..due });
                }
                following => return Ok(Self { following, ..due }),
            }
        }
    }

    /// As [`collect`](Self::collect), of a schedule whose ticks are evenly spaced: whatever their number, it is
    /// found by a division. `None` if they are to be counted one by one.
    ///
    /// Each tick that may run is asked for, and so is the one before them: a schedule that is wrong about its period
    /// has no tick run that it does not have. Only how many were skipped is then wrong.
    fn evenly_spaced(
        schedule: &dyn Schedule,
        [first, second]: [FireTime; 2],
        now: DateTime<Utc>,
        keep: usize,
    ) -> Result<Option<Self>, Breach> {
        let Some(period) = schedule.period().filter(|period| second.instant() - first.instant() == *period)
        else {
            return Ok(None);
        };
        let Some(asked) = first_after(now) else { return Ok(None) };
        let Some(newest) = previous_before(schedule, asked)? else { return Ok(None) };
        let millis = (newest.instant() - first.instant()).num_milliseconds();
        let steps = u64::try_from(millis / period.num_milliseconds()).unwrap_or_default();
        let is_even = newest > first && millis % period.num_milliseconds() == 0;
        // Beyond the bound the count is one that is reached one by one.
        if !is_even || steps >= MISSED_COUNT_MAX {
            return Ok(None);
        }
        confirm(schedule, newest, asked)?;
        let mut due = Self::only(newest);
        while due.count() <= steps {
            let known = due.newest[0].instant();
            let earlier = FireTime::new(known - period);
            if previous_before(schedule, known)? != Some(earlier) {
                return Ok(None);
            }
            if due.newest.len() >= keep.max(1) {
                due.newest_older = Some(earlier);
                break;
            }
            due.newest.insert(0, earlier);
        }
        due.older = steps + 1 - due.newest.len() as u64;
        due.following = next_after(schedule, newest.instant())?;
        Ok(Some(due))
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

/// The first instant after `now` that a tick can be at: what is before it is due. A whole millisecond later may be
/// beyond a tick that is still to come.
fn first_after(now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    FireTime::new(now).instant().checked_add_signed(MILLISECOND)
}

/// Refuses a tick that `next_after` named, unless `previous_before` names it as well.
fn known(schedule: &dyn Schedule, tick: FireTime) -> Result<(), Breach> {
    let Some(before) = tick.instant().checked_add_signed(MILLISECOND) else { return Ok(()) };
    let previous = previous_before(schedule, before)?;
    if previous == Some(tick) {
        return Ok(());
    }
    let (after, next) = (tick.instant() - MILLISECOND, Some(tick.instant()));
    Err(Breach::Contradiction { after, next, before, previous: previous.map(FireTime::instant) })
}

impl Misfire {
    /// The greatest lateness at which a tick may run, beside `misfire_after`. `following` is the tick after
    /// it.
    pub fn window(self, tick: FireTime, following: Option<FireTime>) -> Duration {
        match self {
            Self::Auto => following.map_or(MISFIRE_WITHIN_MAX, |following| {
                let half = tick.lateness(following.instant()) / 2;
                half.clamp(MISFIRE_WITHIN_MIN, MISFIRE_WITHIN_MAX)
            }),
            Self::Latest { within } | Self::All { within, .. } => within,
            Self::Skip => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        core::job::tests::{Stuck, at},
        testkit::fakes::Period,
    };

    fn hours(hours: &[&str]) -> Vec<FireTime> {
        hours.iter().map(|hour| FireTime::new(at(hour))).collect()
    }

    #[test]
    fn one_due_tick_is_the_newest() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("01:30"), 1).unwrap();

        assert_eq!((due.newest.to_vec(), due.older, due.at_least), (hours(&["01:00"]), 0, false));
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00")));
    }

    #[test]
    fn a_tick_is_due_at_its_own_instant() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("03:00"), 1).unwrap();

        assert_eq!((due.newest.to_vec(), due.older), (hours(&["03:00"]), 2));
        assert_eq!(due.newest_older, Some(FireTime::new(at("02:00"))));
    }

    #[test]
    fn as_many_of_the_newest_as_wanted_are_named() {
        let due = Due::collect(&Period::hours(1), FireTime::new(at("01:00")), at("05:30"), 3).unwrap();

        assert_eq!((due.newest.to_vec(), due.older), (hours(&["03:00", "04:00", "05:00"]), 2));
        assert_eq!(due.following.map(FireTime::instant), Some(at("06:00")));
    }

    /// With a period, right or wrong, that it says it has.
    #[derive(Debug)]
    struct Says(Period, TimeDelta);

    impl std::fmt::Display for Says {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }

    impl Schedule for Says {
        fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.0.next_after(after)
        }

        fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.0.previous_before(before)
        }

        fn period(&self) -> Option<TimeDelta> {
            Some(self.1)
        }
    }

    #[test]
    fn ticks_that_are_evenly_spaced_are_counted_as_if_one_by_one() {
        let first = FireTime::new(at("01:00"));
        let hour = TimeDelta::hours(1);
        for keep in [1, 2, 3, 5, 100] {
            let minutes = [0, 59, 60, 61, 119, 120, 180, 299, 300, 2_000].map(TimeDelta::minutes);
            let shortly = [0, 1, -1, 1_000_000, -999_999, -1_000_000].map(TimeDelta::nanoseconds);
            let times = minutes
                .iter()
                .flat_map(|minutes| shortly.map(|shortly| first.instant() + *minutes + shortly));
            for now in times.filter(|now| *now >= first.instant()) {
                let one_by_one = Due::collect(&Period::hours(1), first, now, keep).unwrap();

                for period in [hour, hour / 2, TimeDelta::zero(), TimeDelta::nanoseconds(1)] {
                    let due = Due::collect(&Says(Period::hours(1), period), first, now, keep).unwrap();

                    assert_eq!(due, one_by_one, "{keep} until {now}, {period}");
                }
            }
        }
    }

    /// Says that it fires once an hour, and fires at other times as well.
    #[derive(Debug)]
    struct Irregular(&'static [&'static str]);

    impl std::fmt::Display for Irregular {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("every hour, it says")
        }
    }

    impl Schedule for Irregular {
        fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.0.iter().map(|tick| at(tick)).find(|tick| *tick > after)
        }

        fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.0.iter().rev().map(|tick| at(tick)).find(|tick| *tick < before)
        }

        fn period(&self) -> Option<TimeDelta> {
            Some(TimeDelta::hours(1))
        }
    }

    #[test]
    fn a_schedule_that_is_wrong_about_its_period_has_no_tick_run_that_it_does_not_have() {
        for ticks in [
            &["01:00", "02:00", "03:20", "05:00"][..],
            &["01:00", "02:00", "02:10", "04:00", "05:00"],
            &["01:00", "02:00", "03:00", "04:40", "05:00"],
        ] {
            let schedule = Irregular(ticks);
            for keep in 1..=6 {
                let due = Due::collect(&schedule, FireTime::new(at("01:00")), at("05:30"), keep).unwrap();

                let kept = hours(&ticks[ticks.len().saturating_sub(keep)..]);
                assert_eq!(due.newest.to_vec(), kept, "{ticks:?}, {keep} of them");
                let older = ticks.len().checked_sub(keep + 1).map(|nth| FireTime::new(at(ticks[nth])));
                assert_eq!(due.newest_older, older, "{ticks:?}, {keep} of them");
            }
        }
    }

    #[test]
    fn ticks_that_are_evenly_spaced_are_not_asked_for_one_by_one() {
        /// Every millisecond; counts how often it is asked.
        #[derive(Debug)]
        struct Counts(Says, std::sync::atomic::AtomicU32);

        impl std::fmt::Display for Counts {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Schedule for Counts {
            fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
                self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.0.next_after(after)
            }

            fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
                self.0.previous_before(before)
            }

            fn period(&self) -> Option<TimeDelta> {
                self.0.period()
            }
        }

        let schedule = Counts(Says(Period::millis(1), MILLISECOND), 0.into());
        let first = FireTime::new(at("01:00"));

        let due = Due::collect(&schedule, first, at("01:00") + TimeDelta::seconds(9), 1).unwrap();

        assert_eq!((due.older, due.at_least), (9_000, false));
        assert!(schedule.1.into_inner() <= 3);
    }

    #[test]
    fn counting_stops_at_the_bound_and_still_finds_the_newest() {
        let schedule = Period::millis(1);

        let due = Due::collect(&schedule, FireTime::new(at("01:00")), at("02:00"), 2).unwrap();

        let newest = [at("02:00") - TimeDelta::milliseconds(1), at("02:00")].map(FireTime::new);
        assert_eq!((due.newest.to_vec(), due.older, due.at_least), (newest.to_vec(), MISSED_COUNT_MAX, true));
        let newest_older = FireTime::new(at("02:00") - TimeDelta::milliseconds(2));
        assert_eq!(due.newest_older, Some(newest_older), "nothing is between them");
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00") + TimeDelta::milliseconds(1)));
    }

    #[test]
    fn no_tick_is_due_before_its_millisecond_has_come() {
        let first = FireTime::new(at("01:00"));
        for nanos in [1, 500_000, 999_999] {
            let now = at("02:00") + TimeDelta::nanoseconds(nanos);
            for schedule in [&Period::millis(1) as &dyn Schedule, &Says(Period::millis(1), MILLISECOND)] {
                for first in [first, FireTime::new(at("02:00") - TimeDelta::seconds(1))] {
                    let due = Due::collect(schedule, first, now, 1).unwrap();

                    assert_eq!(due.last(), FireTime::new(at("02:00")), "{nanos}");
                    let following = at("02:00") + MILLISECOND;
                    assert_eq!(due.following.map(FireTime::instant), Some(following), "{nanos}");
                }
            }
        }
    }

    #[test]
    fn a_schedule_from_completion_has_one_admitted_tick_at_a_time() {
        let first = FireTime::new(at("01:00"));
        let collect = |now: &str, since: &str| {
            let since = FireTime::new(at(since));
            Due::first_admitted(&Period::hours(1), first, at(now), |tick, _| tick >= since).unwrap()
        };

        let due = collect("05:30", "03:00");
        assert_eq!((due.newest.to_vec(), due.older), (hours(&["03:00"]), 2));
        assert_eq!((due.newest_older, due.following), (hours(&["02:00"]).pop(), None));

        let due = collect("05:30", "06:00");
        assert_eq!((due.newest.to_vec(), due.older), (hours(&["05:00"]), 4), "none is admitted");
        assert_eq!(due.following, hours(&["06:00"]).pop());

        let due = Due::first_admitted(&Period::millis(1), first, at("02:00"), |_, _| false).unwrap();
        assert_eq!((due.older, due.at_least), (MISSED_COUNT_MAX - 1, true));
        assert_eq!(due.following.map(FireTime::instant), Some(at("02:00") + TimeDelta::milliseconds(1)));
    }

    /// Every millisecond; `previous_before` answers something else.
    #[derive(Debug)]
    struct Liar(fn(DateTime<Utc>) -> Option<DateTime<Utc>>);

    impl std::fmt::Display for Liar {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("every millisecond")
        }
    }

    impl Schedule for Liar {
        fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
            Period::millis(1).next_after(after)
        }

        fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
            (self.0)(before)
        }
    }

    #[test]
    fn a_schedule_that_breaks_its_contract_has_no_due_ticks() {
        let first = FireTime::new(at("01:00"));

        let stuck = Due::collect(&Stuck(at("01:00")), first, at("02:00"), 1);
        assert_eq!(stuck, Err(Breach::NotLater { after: at("01:00"), answer: at("01:00") }));
        let stuck = Due::first_admitted(&Stuck(at("01:00")), first, at("02:00"), |_, _| true);
        assert!(stuck.is_err());

        let late = Due::collect(&Liar(Some), first, at("02:00"), 1);
        assert!(matches!(late, Err(Breach::NotEarlier { .. })), "{late:?}");
        let far = Due::collect(&Liar(|before| Some(before - TimeDelta::days(1))), first, at("02:00"), 1);
        assert!(matches!(far, Err(Breach::Contradiction { .. })), "{far:?}");
        let none = Due::collect(&Liar(|_| None), first, at("02:00"), 1);
        assert!(matches!(none, Err(Breach::Contradiction { previous: None, .. })), "{none:?}");
    }

    #[test]
    fn the_default_window_is_half_the_distance_to_the_next_tick() {
        let window = |from: &str, to: &str| {
            let instant = |text: &str| FireTime::new(text.parse().unwrap());
            Misfire::default().window(instant(from), Some(instant(to))).as_secs()
        };
        let (minute, hour) = (60, 3_600);
        let cases = [
            ("every second", "2026-01-05T01:00:00Z", "2026-01-05T01:00:01Z", 5 * minute),
            ("every ten minutes", "2026-01-05T01:00:00Z", "2026-01-05T01:10:00Z", 5 * minute),
            ("every quarter", "2026-01-05T01:00:00Z", "2026-01-05T01:15:00Z", 7 * minute + 30),
            ("hourly", "2026-01-05T01:00:00Z", "2026-01-05T02:00:00Z", 30 * minute),
            ("nightly", "2026-01-05T02:00:00Z", "2026-01-06T02:00:00Z", 12 * hour),
            (
                "nightly, the clocks go forward",
                "2026-03-28T01:00:00Z",
                "2026-03-29T00:00:00Z",
                11 * hour + 1_800,
            ),
            ("nightly, the clocks go back", "2026-10-24T00:00:00Z", "2026-10-25T01:00:00Z", 12 * hour),
            ("monthly", "2026-01-31T02:00:00Z", "2026-02-28T02:00:00Z", 12 * hour),
        ];
        for (what, from, to, expected) in cases {
            assert_eq!(window(from, to), expected, "{what}");
        }
        let last = Misfire::default().window(FireTime::new(at("01:00")), None);
        assert_eq!(last, Duration::from_hours(12), "a last tick");
    }

    #[test]
    fn a_window_that_was_given_is_the_same_for_every_tick() {
        let within = Duration::from_mins(3);
        let (tick, following) = (FireTime::new(at("01:00")), Some(FireTime::new(at("02:00"))));
        let cases = [
            (Misfire::Latest { within }, within),
            (Misfire::All { max: 3, within }, within),
            (Misfire::Skip, Duration::ZERO),
        ];
        for (misfire, window) in cases {
            assert_eq!(misfire.window(tick, following), window, "{misfire:?}");
            assert_eq!(misfire.window(tick, None), window, "{misfire:?}");
        }
    }
}
