//! The days that cron's `L`, `W` and `#` name.

use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use croner::Cron;

use super::pattern::{DayRule, days_on_weekdays};

/// The lengths of months, the shortest first.
const LENGTHS: [u32; 4] = [28, 29, 30, 31];

/// For each length of a month and each weekday of its first day (0 is Sunday), a month that is so.
///
/// These two decide which days `L`, `W` and `#` name, so that 28 months stand for all.
static MONTHS: LazyLock<[[(i32, u32); 7]; 4]> = LazyLock::new(|| {
    let mut months = [[(0, 0); 7]; 4];
    // All of them come within 28 years.
    let firsts = (2000..2028).flat_map(|year| (1..=12).map(move |month| (year, month)));
    for (year, month) in firsts {
        let first = NaiveDate::from_ymd_opt(year, month, 1).expect("invariant: every month has a first");
        let length = usize::from(first.num_days_in_month()) - LENGTHS[0] as usize;
        months[length][first.weekday().num_days_from_sunday() as usize] = (year, month);
    }
    months
});

/// One day field: what `cron-parser` read, and the elements that `croner` reads.
#[derive(Debug)]
pub(super) struct DayField<S> {
    pub(super) set: S,
    pub(super) special: Vec<Cron>,
}

/// The matching days of every kind of month, as bits 1 to 31.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DaysTable([[u32; 7]; 4]);

impl DaysTable {
    pub(super) fn new(days: &DayField<u32>, weekdays: &DayField<u8>, rule: DayRule) -> Self {
        let mut table = [[0; 7]; 4];
        for (length, row) in LENGTHS.iter().zip(&mut table) {
            for (first, cell) in row.iter_mut().enumerate() {
                let (year, month) = MONTHS[(length - LENGTHS[0]) as usize][first];
                // No loss: there are seven.
                let first = first as u32;
                let existing = (u32::MAX << 1) & (u32::MAX >> (31 - length));
                let days = days.set | named(&days.special, year, month, *length);
                let weekdays =
                    days_on_weekdays(weekdays.set, first) | named(&weekdays.special, year, month, *length);
                *cell = rule.of(days, weekdays) & existing;
            }
        }
        Self(table)
    }

    /// The days of a month of this length, whose first day falls on the weekday `first`.
    pub(super) fn days(&self, length: u32, first: u32) -> u32 {
        self.0[(length - LENGTHS[0]) as usize][first as usize]
    }
}

/// The days of a month that any of the patterns matches. They restrict one day field each.
fn named(patterns: &[Cron], year: i32, month: u32, length: u32) -> u32 {
    let mut days = 0;
    for day in 1..=length {
        let Some(date) = NaiveDate::from_ymd_opt(year, month, day) else { continue };
        let weekday = croner::Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
        let matches = |cron: &Cron| cron.pattern.day_match(year, month, day, weekday).unwrap_or(false);
        days |= u32::from(patterns.iter().any(matches)) << day;
    }
    days
}
