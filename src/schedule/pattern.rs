//! The civil times of a cron expression.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::{civil::CivilRule, month::DaysTable};

/// How many months are searched: the Gregorian calendar repeats after 400 years.
const MONTHS_MAX: usize = 400 * 12;

/// The days of a month as bits 1 to 31.
const DAYS: u32 = u32::MAX << 1;

/// The value sets of the fields, bit n for the value n.
///
/// `cron-parser` and, for `L`, `W` and `#`, `croner` read the fields; the search is ours, because the crates
/// walk value by value: `cron-parser` takes 1.4 µs for the next minute of `* * * * *`, against 0.1 µs with
/// bits, zone included, and `croner` gives a pattern up after 31 million steps only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) months: u16,
    pub(super) days: DaySet,
    pub(super) years: Option<Box<Years>>,
}

/// The days that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DaySet {
    /// By the two day fields.
    Fields { days: u32, weekdays: u8, rule: DayRule },
    /// By a table, for each length of a month and each weekday of its first day: `L`, `W` and `#`.
    Table(Box<DaysTable>),
}

/// Which of the two day fields has to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DayRule {
    /// Both: at least one of them starts with `*`, so that it restricts nothing, or every nth day.
    Both,
    /// Either one: both are restricted.
    Either,
}

impl DayRule {
    pub(super) fn of(self, days: u32, weekdays: u32) -> u32 {
        match self {
            Self::Both => days & weekdays,
            Self::Either => days | weekdays,
        }
    }
}

/// The years of the seventh field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Years([u64; 3]);

impl Years {
    pub(super) const FIRST: u32 = 1970;
    pub(super) const LAST: u32 = 2099;

    pub(super) fn of(years: impl IntoIterator<Item = u32>) -> Self {
        let mut set = [0; 3];
        for nth in years.into_iter().filter_map(|year| year.checked_sub(Self::FIRST)) {
            set[nth as usize / 64] |= 1 << (nth % 64);
        }
        Self(set)
    }

    pub(super) fn contain(&self, year: i32) -> bool {
        let nth = i64::from(year) - i64::from(Self::FIRST);
        let word = usize::try_from(nth / 64).ok().filter(|_| nth >= 0).and_then(|word| self.0.get(word));
        word.is_some_and(|word| word >> (nth % 64) & 1 == 1)
    }

    /// In order.
    pub(super) fn list(&self) -> Vec<u32> {
        (Self::FIRST..=Self::LAST).filter(|year| self.contain(*year as i32)).collect()
    }
}

impl Pattern {
    /// Whether there is any day that matches.
    pub(super) fn can_fire(&self) -> bool {
        let start = match self.years {
            Some(_) => NaiveDate::from_ymd_opt(Years::FIRST as i32, 1, 1),
            None => NaiveDate::from_ymd_opt(2000, 1, 1),
        };
        self.first_date_from(start.expect("invariant: this date exists")).is_some()
    }

    fn first_date_from(&self, from: NaiveDate) -> Option<NaiveDate> {
        let (mut year, mut month, mut not_before) = (from.year(), from.month(), from.day());
        if self.years.is_some() && year < Years::FIRST as i32 {
            (year, month, not_before) = (Years::FIRST as i32, 1, 1);
        }
        for _ in 0..MONTHS_MAX {
            let days = self.days_of(year, month)? & (u32::MAX << not_before);
            if days != 0 {
                return NaiveDate::from_ymd_opt(year, month, days.trailing_zeros());
            }
            not_before = 1;
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        None
    }

    fn last_date_until(&self, until: NaiveDate) -> Option<NaiveDate> {
        let (mut year, mut month, mut not_after) = (until.year(), until.month(), until.day());
        if self.years.is_some() && year > Years::LAST as i32 {
            (year, month, not_after) = (Years::LAST as i32, 12, 31);
        }
        for _ in 0..MONTHS_MAX {
            let days = self.days_of(year, month)? & (u32::MAX >> (31 - not_after));
            if days != 0 {
                return NaiveDate::from_ymd_opt(year, month, days.ilog2());
            }
            not_after = 31;
            (year, month) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
        }
        None
    }

    /// The matching days of a month, as bits; `None` for a month outside chrono's range.
    fn days_of(&self, year: i32, month: u32) -> Option<u32> {
        if self.months >> month & 1 == 0 || self.years.as_ref().is_some_and(|years| !years.contain(year)) {
            return Some(0);
        }
        let first = NaiveDate::from_ymd_opt(year, month, 1)?;
        let length = u32::from(first.num_days_in_month());
        let weekday = first.weekday().num_days_from_sunday();
        Some(match &self.days {
            DaySet::Fields { days, weekdays, rule } => {
                rule.of(*days, days_on_weekdays(*weekdays, weekday)) & DAYS & (u32::MAX >> (31 - length))
            }
            DaySet::Table(table) => table.days(length, weekday),
        })
    }

    fn matches(&self, date: NaiveDate) -> bool {
        self.days_of(date.year(), date.month()).is_some_and(|days| days >> date.day() & 1 == 1)
    }

    /// The first time of a day that is not before the given one.
    fn first_time_from(&self, hour: u32, minute: u32, second: u32) -> Option<NaiveTime> {
        if self.hours >> hour & 1 == 1 {
            let seconds = self.seconds & (u64::MAX << second);
            if self.minutes >> minute & 1 == 1 && seconds != 0 {
                return NaiveTime::from_hms_opt(hour, minute, seconds.trailing_zeros());
            }
            let minutes = self.minutes & (u64::MAX << (minute + 1));
            if minutes != 0 {
                return NaiveTime::from_hms_opt(
                    hour,
                    minutes.trailing_zeros(),
                    self.seconds.trailing_zeros(),
                );
            }
        }
        let hours = self.hours & (u32::MAX << (hour + 1));
        if hours == 0 {
            return None;
        }
        let (minute, second) = (self.minutes.trailing_zeros(), self.seconds.trailing_zeros());
        NaiveTime::from_hms_opt(hours.trailing_zeros(), minute, second)
    }

    /// The last time of a day that is not after the given one.
    fn last_time_until(&self, hour: u32, minute: u32, second: u32) -> Option<NaiveTime> {
        if self.hours >> hour & 1 == 1 {
            let seconds = self.seconds & (u64::MAX >> (63 - second));
            if self.minutes >> minute & 1 == 1 && seconds != 0 {
                return NaiveTime::from_hms_opt(hour, minute, seconds.ilog2());
            }
            let minutes = self.minutes & !(u64::MAX << minute);
            if minutes != 0 {
                return NaiveTime::from_hms_opt(hour, minutes.ilog2(), self.seconds.ilog2());
            }
        }
        let hours = self.hours & !(u32::MAX << hour);
        if hours == 0 {
            return None;
        }
        NaiveTime::from_hms_opt(hours.ilog2(), self.minutes.ilog2(), self.seconds.ilog2())
    }
}

/// The days of a month that fall on some weekdays, given the weekday of its first day.
pub(super) fn days_on_weekdays(weekdays: u8, first: u32) -> u32 {
    // Bit n: whether the nth day after the first has a matching weekday.
    let week = u64::from(weekdays);
    let week = (week >> first | week << (7 - first)) & 0x7f;
    // Five weeks, shifted so that the first day is bit 1; 36 bits, of which those of a month are kept.
    let weeks = week | week << 7 | week << 14 | week << 21 | week << 28;
    (weeks << 1) as u32
}

impl CivilRule for Pattern {
    fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        // The second that has begun is over.
        let from =
            if from.nanosecond() == 0 { from } else { from.checked_add_signed(TimeDelta::seconds(1))? };
        if self.matches(from.date())
            && let Some(time) = self.first_time_from(from.hour(), from.minute(), from.second())
        {
            return Some(from.date().and_time(time));
        }
        let date = self.first_date_from(from.date().succ_opt()?)?;
        Some(date.and_time(self.first_time_from(0, 0, 0)?))
    }

    fn last_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
        if self.matches(until.date())
            && let Some(time) = self.last_time_until(until.hour(), until.minute(), until.second())
        {
            return Some(until.date().and_time(time));
        }
        let date = self.last_date_until(until.date().pred_opt()?)?;
        Some(date.and_time(self.last_time_until(23, 59, 59)?))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::schedule::{expression::Expression, source::Source};

    fn pattern(text: &str) -> Pattern {
        Expression::read(Source(text)).pattern().expect("a good expression")
    }

    fn time(text: &str) -> NaiveDateTime {
        text.parse().expect("a time")
    }

    #[test]
    fn a_restricted_day_of_month_or_weekday_is_enough() {
        let friday_or_thirteenth = pattern("0 0 13 * FRI");

        assert_eq!(
            friday_or_thirteenth.first_from(time("2026-02-07T00:00:00")),
            Some(time("2026-02-13T00:00:00"))
        );
        assert_eq!(
            friday_or_thirteenth.first_from(time("2026-02-14T00:00:00")),
            Some(time("2026-02-20T00:00:00"))
        );
        assert_eq!(
            friday_or_thirteenth.first_from(time("2026-04-11T00:00:00")),
            Some(time("2026-04-13T00:00:00"))
        );
    }

    #[test]
    fn a_day_field_that_starts_with_a_star_has_to_match_as_well() {
        let odd_fridays = pattern("0 0 */2 * FRI");

        assert_eq!(odd_fridays.first_from(time("2026-02-01T00:00:00")), Some(time("2026-02-13T00:00:00")));
    }

    #[test]
    fn a_february_thirtieth_leaves_the_weekdays() {
        assert_eq!(
            pattern("0 0 30 2 MON").first_from(time("2026-01-01T00:00:00")),
            Some(time("2026-02-02T00:00:00"))
        );
    }

    #[test]
    fn the_rarest_day_is_found_in_both_directions() {
        // 29 February on a Monday: 2100 is no leap year.
        let mut rare = pattern("0 0 29 2 MON");
        rare.days = DaySet::Fields { days: 1 << 29, weekdays: 1 << 1, rule: DayRule::Both };

        assert_eq!(rare.first_from(time("2072-03-01T00:00:00")), Some(time("2112-02-29T00:00:00")));
        assert_eq!(rare.last_until(time("2112-02-28T00:00:00")), Some(time("2072-02-29T00:00:00")));
    }

    /// The crate that reads our fields also has a search of its own.
    #[test]
    fn the_search_agrees_with_cron_parsers() {
        for text in [
            "* * * * *",
            "*/7 * * * *",
            "5,55 */5 * * *",
            "0 9 * * 1-5",
            "59 23 31 12 *",
            "0 0 29 2 *",
            "*/15 9-17 * * 1-5",
            "0 0 */2 * 5",
            "30 4 1-7 */3 *",
        ] {
            let ours = pattern(text);
            let theirs = cron_parser::Schedule::parse(text).expect("a good expression");
            for (start, days) in [("2023-12-31T23:58:30Z", 800), ("1896-02-28T12:00:00Z", 400)] {
                let start: DateTime<Utc> = start.parse().expect("a time");
                let mut after = start;
                while after < start + TimeDelta::days(days) {
                    let next = theirs.next_after(&after).expect("there is one");
                    let first = ours.first_from(after.naive_utc() + TimeDelta::milliseconds(1));
                    assert_eq!(first, Some(next.naive_utc()), "{text} after {after}");
                    let last = ours.last_until(next.naive_utc() - TimeDelta::milliseconds(1));
                    let previous = theirs.previous_before(&next).expect("there is one");
                    assert_eq!(last, Some(previous.naive_utc()), "{text} before {next}");
                    // Dense patterns are sampled: not every minute of two years.
                    after = next + TimeDelta::minutes(377);
                }
            }
        }
    }
}
