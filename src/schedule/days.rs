//! Days that recur, and times on them.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime};

use super::civil::CivilRule;

/// How many steps of some months are searched: the Gregorian calendar repeats after 400 years, which is a
/// whole number of weeks.
const MONTHS_MAX: usize = 400 * 12;

/// Every nth day, week or month. Days are counted from the first day of the year 1, months from its January.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Days {
    /// Every `step` days, of which `anchor` is one.
    Daily { step: i64, anchor: i64 },
    /// In every `step`th week, of which the one that starts with the day `anchor` is one; bit n of `days` is
    /// the day n days after the week's first.
    Weekly { step: i64, anchor: i64, days: u8 },
    /// In every `step`th month, of which `anchor` is one; bits 1 to 31 count from the month's start, and from
    /// its end.
    Monthly { step: i64, anchor: i64, days: u32, days_from_end: u32 },
}

impl Days {
    /// The first day that is not before `from`.
    fn first_from(&self, from: NaiveDate) -> Option<NaiveDate> {
        let day = number_of(from);
        match *self {
            Self::Daily { step, anchor } => date(day + (anchor - day).rem_euclid(step)),
            Self::Weekly { step, anchor, days } => {
                let week = (day - anchor).div_euclid(7);
                let wait = (-week).rem_euclid(step);
                let over = (day - anchor).rem_euclid(7);
                let rest = u32::from(days) >> over;
                if wait == 0 && rest != 0 {
                    return date(day + i64::from(rest.trailing_zeros()));
                }
                let week = if wait == 0 { week + step } else { week + wait };
                date(anchor + week * 7 + i64::from(days.trailing_zeros()))
            }
            Self::Monthly { step, anchor, .. } => {
                let month = month_of(from);
                let wait = (anchor - month).rem_euclid(step);
                let mut not_before = if wait == 0 { from.day() } else { 1 };
                for nth in 0..MONTHS_MAX as i64 {
                    let month = month + wait + nth * step;
                    let days = self.days_of(month)? & (u32::MAX << not_before);
                    if days != 0 {
                        return date_in(month, days.trailing_zeros());
                    }
                    not_before = 1;
                }
                None
            }
        }
    }

    /// The last day that is not after `until`.
    fn last_until(&self, until: NaiveDate) -> Option<NaiveDate> {
        let day = number_of(until);
        match *self {
            Self::Daily { step, anchor } => date(day - (day - anchor).rem_euclid(step)),
            Self::Weekly { step, anchor, days } => {
                let week = (day - anchor).div_euclid(7);
                let back = week.rem_euclid(step);
                let over = (day - anchor).rem_euclid(7) as u32;
                let past = u32::from(days) & (u32::MAX >> (31 - over));
                if back == 0 && past != 0 {
                    return date(day - i64::from(over - past.ilog2()));
                }
                let week = if back == 0 { week - step } else { week - back };
                date(anchor + week * 7 + i64::from(days.ilog2()))
            }
            Self::Monthly { step, anchor, .. } => {
                let month = month_of(until);
                let back = (month - anchor).rem_euclid(step);
                let mut not_after = if back == 0 { until.day() } else { 31 };
                for nth in 0..MONTHS_MAX as i64 {
                    let month = month - back - nth * step;
                    let days = self.days_of(month)? & (u32::MAX >> (31 - not_after));
                    if days != 0 {
                        return date_in(month, days.ilog2());
                    }
                    not_after = 31;
                }
                None
            }
        }
    }

    /// The days of a month, as bits 1 to 31; `None` for a month outside chrono's range.
    fn days_of(&self, month: i64) -> Option<u32> {
        let length = date_in(month, 1)?.num_days_in_month();
        match *self {
            Self::Monthly { days, days_from_end, .. } => {
                let existing = (u32::MAX << 1) & (u32::MAX >> (31 - u32::from(length)));
                // Bit n becomes bit length + 1 - n.
                let from_end = (u64::from(days_from_end.reverse_bits()) << 1) >> (31 - length);
                // No loss: the months have at most 31 days.
                Some((days | from_end as u32) & existing)
            }
            Self::Daily { .. } | Self::Weekly { .. } => Some(0),
        }
    }

    /// Whether it matters from where on days, weeks or months are counted.
    pub(super) fn is_counted(&self) -> bool {
        match *self {
            Self::Daily { step, .. } | Self::Weekly { step, .. } | Self::Monthly { step, .. } => step > 1,
        }
    }

    /// Whether there is any such day.
    pub(super) fn exist(&self) -> bool {
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).expect("invariant: this date exists");
        self.first_from(start).is_some()
    }
}

/// Counts days; the first day of the year 1 is 1.
pub(super) fn number_of(date: NaiveDate) -> i64 {
    date.num_days_from_ce().into()
}

/// Counts months; the January of the year 0 is 0.
pub(super) fn month_of(date: NaiveDate) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month0())
}

/// The number of a month in its year, from 1 on.
pub(super) fn month_in_year(month: i64) -> u32 {
    // No loss: the remainder is below 12.
    month.rem_euclid(12) as u32 + 1
}

fn date(number: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(number.try_into().ok()?)
}

fn date_in(month: i64, day: u32) -> Option<NaiveDate> {
    let year = month.div_euclid(12).try_into().ok()?;
    NaiveDate::from_ymd_opt(year, month_in_year(month), day)
}

/// Some times, on some days.
#[derive(Debug, Clone)]
pub(super) struct DaysAt {
    days: Days,
    /// Whole seconds, ascending, each once, at least one.
    times: Box<[NaiveTime]>,
}

impl DaysAt {
    pub(super) fn new(days: Days, mut times: Vec<NaiveTime>) -> Self {
        debug_assert!(!times.is_empty(), "there is at least one time");
        times.sort_unstable();
        times.dedup();
        Self { days, times: times.into() }
    }

    pub(super) fn days(&self) -> &Days {
        &self.days
    }

    pub(super) fn times(&self) -> &[NaiveTime] {
        &self.times
    }
}

impl CivilRule for DaysAt {
    fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let day = self.days.first_from(from.date())?;
        if day > from.date() {
            return Some(day.and_time(self.times[0]));
        }
        let later = self.times.partition_point(|time| *time < from.time());
        if let Some(time) = self.times.get(later) {
            return Some(day.and_time(*time));
        }
        let day = self.days.first_from(day.succ_opt()?)?;
        Some(day.and_time(self.times[0]))
    }

    fn last_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
        let last = self.times[self.times.len() - 1];
        let day = self.days.last_until(until.date())?;
        if day < until.date() {
            return Some(day.and_time(last));
        }
        let later = self.times.partition_point(|time| *time <= until.time());
        if let Some(nth) = later.checked_sub(1) {
            return Some(day.and_time(self.times[nth]));
        }
        let day = self.days.last_until(day.pred_opt()?)?;
        Some(day.and_time(last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    /// Whether a day is one of them, told in another way.
    fn contains(days: &Days, date: NaiveDate) -> bool {
        match *days {
            Days::Daily { step, anchor } => (number_of(date) - anchor) % step == 0,
            Days::Weekly { step, anchor, days } => {
                let over = (number_of(date) - anchor).rem_euclid(7);
                (number_of(date) - over - anchor) % (7 * step) == 0 && days >> over & 1 == 1
            }
            Days::Monthly { step, anchor, days, days_from_end } => {
                let from_end = u32::from(date.num_days_in_month()) + 1 - date.day();
                (month_of(date) - anchor) % step == 0
                    && (days >> date.day() & 1 == 1 || days_from_end >> from_end & 1 == 1)
            }
        }
    }

    fn days() -> impl Strategy<Value = Days> {
        let anchor = number_of(day("2020-01-01"));
        prop_oneof![
            (1_i64..50, -400_i64..400).prop_map(move |(step, by)| Days::Daily { step, anchor: anchor + by }),
            (1_i64..9, -400_i64..400, 1_u8..128).prop_map(move |(step, by, days)| Days::Weekly {
                step,
                anchor: anchor + by,
                days
            }),
            (1_i64..9, -40_i64..40, 0_u32.., 0_u32..).prop_map(|(step, by, days, days_from_end)| {
                // The 15th, so that there is always one.
                let (days, days_from_end) = (days & !1 | 1 << 15, days_from_end & !1);
                Days::Monthly { step, anchor: 2020 * 12 + by, days, days_from_end }
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_walk_day_by_day_agrees(days in days(), from in -3_000_i64..3_000) {
            let from = date(number_of(day("2020-01-01")) + from).expect("a date");

            let first = from.iter_days().find(|date| contains(&days, *date));
            let mut back = from;
            while !contains(&days, back) {
                back = back.pred_opt().expect("a date");
            }

            prop_assert_eq!(days.first_from(from), first);
            prop_assert_eq!(days.last_until(from), Some(back));
        }
    }

    #[test]
    fn there_may_be_no_such_day() {
        let february =
            |year: i64, step, days| Days::Monthly { step, anchor: year * 12 + 1, days, days_from_end: 0 };

        assert!(!february(2024, 12, 1 << 30).exist());
        assert!(february(2024, 12, 1 << 29).exist());
        assert!(!february(2023, 48, 1 << 29).exist(), "never in a leap year");
        assert!(february(2024, 4, 1 << 31).exist(), "October");
    }

    #[test]
    fn the_limits_of_time_do_not_panic() {
        for days in [
            Days::Daily { step: 36_525, anchor: 1 },
            Days::Weekly { step: 5_218, anchor: 1, days: 1 },
            Days::Monthly { step: 1_200, anchor: 0, days: 2, days_from_end: 0 },
        ] {
            assert!(days.first_from(NaiveDate::MIN).is_some());
            assert!(days.last_until(NaiveDate::MAX).is_some());
            assert!(days.first_from(NaiveDate::MAX).is_none_or(|date| date == NaiveDate::MAX));
            assert!(days.last_until(NaiveDate::MIN).is_none_or(|date| date == NaiveDate::MIN));
        }
    }
}
