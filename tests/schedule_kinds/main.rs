//! Every kind of schedule and every combinator: what fires, what people are told about it, and what is
//! refused.

use std::{fmt, sync::Arc, time::Duration};

use callsheet::{
    Job,
    schedule::{
        Definition, EXCLUDED_MAX, Fold, Gap, IntoSchedule, Note, Schedule, Warning, Weekday::*, any, at,
        calendar, cron, custom, daily, every, monthly, random, weekly,
    },
};
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

mod calendars;
mod descriptions;
mod lints;
mod unions;
mod windows;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn good(definition: impl IntoSchedule) -> Arc<dyn Schedule> {
    definition.into_schedule().unwrap_or_else(|faults| panic!("{faults}"))
}

/// The fire times strictly between two instants, as `day hour:minute`; the same backwards.
fn between(definition: impl IntoSchedule, from: &str, to: &str) -> Vec<String> {
    let schedule = good(definition);
    let (from, to) = (time(from), time(to));
    let mut forwards = Vec::new();
    let mut now = from;
    while let Some(next) = schedule.next_after(now).filter(|next| *next < to) {
        assert!(next > now);
        forwards.push(next);
        now = next;
    }
    let mut backwards = Vec::new();
    let mut now = to;
    while let Some(previous) = schedule.previous_before(now).filter(|previous| *previous > from) {
        assert!(previous < now);
        backwards.push(previous);
        now = previous;
    }
    backwards.reverse();
    assert_eq!(forwards, backwards, "{schedule}");
    forwards.iter().map(|time| time.format("%d %H:%M").to_string()).collect()
}

/// Fires at every full hour, and breaks the contract if it is told to.
#[derive(Debug)]
struct Hours {
    stands_still: bool,
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every full hour")
    }
}

impl Schedule for Hours {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.stands_still { Some(after) } else { good(every("1h")).next_after(after) }
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.stands_still { Some(before) } else { good(every("1h")).previous_before(before) }
    }
}

/// Its job is broken then, and says so.
#[test]
fn a_schedule_around_one_that_breaks_the_contract_breaks_it_as_well() {
    let definition = || custom(Hours { stands_still: true });

    for schedule in [
        good(definition().jitter("5m")),
        good(definition().or(at("2020-01-01T00:00:00Z"))),
        good(
            definition().or(every("1s").until("2020-01-01T00:00:00Z")).except(calendar("x").weekdays([Sun])),
        ),
    ] {
        let asked = time("2026-01-01T00:00:00Z");
        assert_eq!(schedule.next_after(asked), Some(asked), "{schedule}");
    }
}

#[test]
fn all_civil_kinds_obey_the_policies_alike() {
    let of = |gap, fold| -> Vec<Definition> {
        let zone = "America/New_York";
        vec![
            cron("30 1,2 * * *").timezone(zone).gap(gap).fold(fold).into(),
            cron("0 30 1,2 * * *").timezone(zone).gap(gap).fold(fold).into(),
            daily().at(["01:30", "02:30"]).timezone(zone).gap(gap).fold(fold).into(),
            weekly().on([Sun, Mon, Sat]).at(["01:30", "02:30"]).timezone(zone).gap(gap).fold(fold).into(),
            monthly().on([1, 8]).at(["01:30", "02:30"]).timezone(zone).gap(gap).fold(fold).into(),
        ]
    };
    let spring = |gap| {
        let of = of(gap, Fold::First);
        let mut all = of
            .into_iter()
            .map(|definition| between(definition, "2026-03-08T05:00:00Z", "2026-03-08T12:00:00Z"));
        let first = all.next().expect("there are some");
        assert!(all.all(|other| other == first));
        first
    };
    let autumn = |fold| {
        let of = of(Gap::Shift, fold);
        let mut all = of
            .into_iter()
            .map(|definition| between(definition, "2026-11-01T04:00:00Z", "2026-11-01T12:00:00Z"));
        let first = all.next().expect("there are some");
        assert!(all.all(|other| other == first));
        first
    };

    assert_eq!(spring(Gap::Shift), ["08 06:30", "08 07:30"]);
    assert_eq!(spring(Gap::AfterGap), ["08 06:30", "08 07:00"]);
    assert_eq!(spring(Gap::Skip), ["08 06:30"]);
    assert_eq!(autumn(Fold::First), ["01 05:30", "01 07:30"]);
    assert_eq!(autumn(Fold::Second), ["01 06:30", "01 07:30"]);
    assert_eq!(autumn(Fold::Both), ["01 05:30", "01 06:30", "01 07:30"]);
}

#[test]
fn cron_knows_seconds_years_last_days_nearest_weekdays_and_nth_weekdays() {
    let days = |expression: &str, from: &str, count: usize| -> Vec<String> {
        let preview = cron(expression).preview(time(from), count).unwrap_or_else(|faults| panic!("{faults}"));
        preview.fire_times().map(|time| time.format("%m-%d %H:%M:%S").to_string()).collect()
    };
    let from = "2026-01-15T00:00:00Z";

    assert_eq!(days("0 0 L * *", from, 2), ["01-31 00:00:00", "02-28 00:00:00"]);
    assert_eq!(days("0 0 L 12 *", from, 1), ["12-31 00:00:00"], "other crates lose this one");
    assert_eq!(days("0 0 l,15 * ?", from, 2), ["01-31 00:00:00", "02-15 00:00:00"]);
    // Saturday the 31st: Friday. Sunday the 1st: Monday. Sunday 31 May: Friday the 29th, as June is another
    // month.
    assert_eq!(days("0 0 LW * *", from, 2), ["01-30 00:00:00", "02-27 00:00:00"]);
    assert_eq!(days("0 0 1W * *", from, 2), ["02-02 00:00:00", "03-02 00:00:00"]);
    assert_eq!(days("0 0 31W 5 *", from, 1), ["05-29 00:00:00"]);
    assert_eq!(days("0 0 31W * *", "2026-04-01T00:00:00Z", 1), ["05-29 00:00:00"], "April has no 31st");
    assert_eq!(days("0 0 15W,L * *", from, 3), ["01-31 00:00:00", "02-16 00:00:00", "02-28 00:00:00"]);
    assert_eq!(days("0 0 * * MON#2", from, 2), ["02-09 00:00:00", "03-09 00:00:00"]);
    assert_eq!(days("0 0 * * 4#5", from, 2), ["01-29 00:00:00", "04-30 00:00:00"]);
    assert_eq!(days("0 0 * * FRIL,sun#1", from, 3), ["01-30 00:00:00", "02-01 00:00:00", "02-27 00:00:00"]);
    assert_eq!(days("0 0 * * 7L", from, 1), ["01-25 00:00:00"]);
    assert_eq!(days("0 0 13 * FRI#3", from, 3), ["01-16 00:00:00", "02-13 00:00:00", "02-20 00:00:00"]);
    assert_eq!(days("0 0 */2 * FRIL", from, 2), ["02-27 00:00:00", "03-27 00:00:00"], "both have to match");
    assert_eq!(
        days("*/20 59 23 14 1 *", "2026-01-01T00:00:00Z", 3),
        ["01-14 23:59:00", "01-14 23:59:20", "01-14 23:59:40"]
    );
    assert_eq!(days("0 0 0 1 1 * 2027-2028", from, 9), ["01-01 00:00:00", "01-01 00:00:00"]);
    assert_eq!(days("0 0 0 29 2 ? 2026,2028,2099", from, 9), ["02-29 00:00:00"]);
    assert_eq!(days("0 0 0 1 1 * */10", from, 8).len(), 7);
}
