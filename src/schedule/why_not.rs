//! Why a rule does not fire at an instant that it names.

use callsheet_actors::port::NotDue;

use super::{
    dst::Gap,
    instant,
    tree::{Budget, CivilTimes, Custom, Jitter, Tree, Window},
};

impl Tree {
    /// Why `millis` is not a fire time, though the rule, or a part of it, names it.
    pub(super) fn why_not(&self, millis: i64) -> Option<NotDue> {
        match self {
            Self::Civil(civil) => civil.why_not(millis),
            Self::Interval(_) | Self::AfterCompletion(_) | Self::Random(_) | Self::At(_) => None,
            Self::Any(members) => members.iter().find_map(|member| member.why_not(millis)),
            Self::Custom(Custom(schedule)) => schedule.why_not(instant::from_millis(millis)?),
            Self::Except(except) if except.of.contains(millis, &mut Budget::default()) => {
                let name = except.left_out_by(millis)?.to_owned();
                Some(NotDue::Calendar { name })
            }
            Self::Except(except) => except.of.why_not(millis),
            Self::Window(window) => window.why_not(millis),
            Self::Jitter(jitter) => jitter.why_not(millis),
        }
    }
}

impl Window {
    fn why_not(&self, millis: i64) -> Option<NotDue> {
        let is_named = self.of.contains(millis, &mut Budget::default());
        if is_named && millis < self.from {
            return Some(NotDue::NotStarted { starting_at: instant::from_millis(self.from)? });
        }
        if is_named && millis >= self.until {
            return Some(NotDue::Ended { until: instant::from_millis(self.until)? });
        }
        self.of.why_not(millis)
    }
}

impl Jitter {
    fn why_not(&self, millis: i64) -> Option<NotDue> {
        let mut budget = Budget::default();
        if !self.of.contains(millis, &mut budget) {
            return self.of.why_not(millis);
        }
        let to = self.delayed(millis, &mut budget);
        Some(NotDue::Jitter { to: instant::from_millis(to).filter(|_| to != millis)? })
    }
}

impl CivilTimes {
    fn why_not(&self, millis: i64) -> Option<NotDue> {
        let (resolver, zone) = (&self.resolver, self.resolver.zone());
        let timezone = || zone.name().to_owned();
        let span = zone.span_at(millis);
        let changes =
            [(span.start, span.offset_before, span.offset), (span.end, span.offset, span.offset_after)];
        // An instant can be meant by the clocks before the change or by those after it.
        let skipped = changes.into_iter().filter(|(_, before, after)| after > before);
        for (start, before, after) in skipped {
            for civil in [millis.saturating_add(before), millis.saturating_add(after)] {
                let gap = start.saturating_add(before)..start.saturating_add(after);
                let meant = gap.contains(&civil).then(|| self.meant_in(civil, civil + 1)).flatten();
                let Some(meant) = meant else { continue };
                let instead = match resolver.gap() {
                    Gap::Shift => Some(civil - before),
                    Gap::AfterGap => Some(start),
                    Gap::Skip => None,
                };
                if instead != Some(millis) {
                    let instead = instead.and_then(instant::from_millis);
                    return Some(NotDue::Gap { meant, timezone: timezone(), instead });
                }
            }
        }
        let civil = millis + span.offset;
        let meant = self.meant_in(civil, civil + 1)?;
        // The rule names it, and it is no fire time: the policy for what the clocks repeat drops it.
        let other = [span.offset_before, span.offset_after].into_iter().map(|offset| civil - offset);
        let instead = other
            .filter(|other| *other != millis)
            .find(|other| resolver.first_from(&self.rule, *other) == Some(*other))?;
        let instead = instant::from_millis(instead)
            .filter(|_| resolver.first_from(&self.rule, millis) != Some(millis))?;
        Some(NotDue::Fold { meant, timezone: timezone(), instead })
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use crate::schedule::{Fold, Gap, IntoSchedule, calendar, cron, daily, every};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    /// What is said of an instant; `-` if nothing is.
    fn of(schedule: impl IntoSchedule, instant: &str) -> String {
        let schedule = schedule.into_schedule().expect("it is right");
        schedule.why_not(at(instant)).map_or_else(|| "-".to_owned(), |why| why.to_string())
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_said_to_be_so_by_either_clock() {
        let nightly = |gap| daily().at("02:30").timezone("America/New_York").gap(gap);
        let gap = "02:30:00 does not exist in America/New_York on 2026-03-08: the clocks skip it";
        let (by_winter, by_summer) = ("2026-03-08T07:30:00Z", "2026-03-08T06:30:00Z");

        for instant in [by_winter, by_summer] {
            assert_eq!(of(nightly(Gap::Skip), instant), format!("{gap}, and the schedule leaves it out"));
            let instead = format!("{gap}, and the schedule fires at 2026-03-08T07:00:00Z instead");
            assert_eq!(of(nightly(Gap::AfterGap), instant), instead);
        }
        let instead = format!("{gap}, and the schedule fires at 2026-03-08T07:30:00Z instead");
        assert_eq!(of(nightly(Gap::Shift), by_summer), instead);
        assert_eq!(of(nightly(Gap::Shift), by_winter), "-", "it fires");
        assert_eq!(of(nightly(Gap::Skip), "2026-03-09T07:30:00Z"), "-", "03:30 on another day");
    }

    #[test]
    fn of_a_time_that_the_clocks_show_twice_the_other_one_is_named() {
        let nightly = |fold| daily().at("01:30").timezone("America/New_York").fold(fold);
        let (first, second) = ("2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z");
        let twice = "the clocks of America/New_York show 01:30:00 twice on 2026-11-01, and the schedule means the other one";

        assert_eq!(of(nightly(Fold::First), second), format!("{twice}: {first}"));
        assert_eq!(of(nightly(Fold::Second), first), format!("{twice}: {second}"));
        for (fold, instant) in
            [(Fold::First, first), (Fold::Second, second), (Fold::Both, first), (Fold::Both, second)]
        {
            assert_eq!(of(nightly(fold), instant), "-", "{fold:?} {instant}");
        }
    }

    #[test]
    fn calendars_windows_and_jitter_say_what_they_did() {
        let hourly = || cron("0 * * * *");
        let holiday = calendar("holidays").dates("2026-12-25");
        assert_eq!(
            of(hourly().except(&holiday), "2026-12-25T09:00:00Z"),
            "the calendar \"holidays\" leaves it out"
        );
        assert_eq!(of(hourly().except(&holiday), "2026-12-25T09:01:00Z"), "-", "the rule does not name it");

        let window = || hourly().starting_at("2026-01-01T00:00:00Z").until("2026-02-01T00:00:00Z");
        assert_eq!(of(window(), "2025-12-31T23:00:00Z"), "the schedule starts at 2026-01-01T00:00:00Z");
        assert_eq!(of(window(), "2026-02-01T00:00:00Z"), "the schedule ended at 2026-02-01T00:00:00Z");
        assert_eq!(of(window(), "2026-01-31T23:00:00Z"), "-", "it fires");

        let jitter = of(hourly().jitter("30m"), "2026-01-05T09:00:00Z");
        assert!(jitter.starts_with("its jitter delays it until 2026-01-05T09:"), "{jitter}");
        assert_eq!(of(every("5m"), "2026-01-05T09:01:00Z"), "-", "no period names it");
    }
}
