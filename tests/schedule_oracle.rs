//! Five-field cron beside two others: a scan of every minute with the manual pages in hand, and croner. When
//! the clocks change both know from vectors of a second source, and not from the data that they judge.
//!
//! By default each zone is looked at around the changes of its clocks in two years. `CALLSHEET_ORACLE=full`
//! takes all changes of 1970 to 2037, and whole runs from 1970 to 2037 in every zone: some minutes with
//! `--release`.

use std::{collections::BTreeSet, env};

use callsheet::schedule::{Cron, Definition, Fold, Gap, IntoSchedule, Schedule, cron};
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};

use self::zones::{Zone, zone, zones};

#[path = "common/zones.rs"]
mod zones;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn is_full() -> bool {
    env::var("CALLSHEET_ORACLE").is_ok_and(|value| value == "full")
}

/// The fire times strictly between two instants; the same forwards and backwards.
fn between(schedule: &dyn Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut forwards = Vec::new();
    let mut now = from;
    while let Some(next) = schedule.next_after(now).filter(|next| *next < to) {
        assert!(next > now, "{schedule}: {next} after {now}");
        forwards.push(next);
        now = next;
    }
    let mut backwards = Vec::new();
    let mut now = to;
    while let Some(previous) = schedule.previous_before(now).filter(|previous| *previous > from) {
        assert!(previous < now, "{schedule}: {previous} before {now}");
        backwards.push(previous);
        now = previous;
    }
    backwards.reverse();
    assert_eq!(forwards, backwards, "{schedule} between {from} and {to}");
    forwards
}

/// Random numbers that are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[expect(clippy::print_stdout, reason = "shown when a test fails")]
fn seeded(seed: u64) -> Random {
    println!("seed {seed}");
    Random(seed)
}

/// A field that was written by the model together with its values, so that nothing has to be parsed.
struct ModelField {
    text: String,
    values: BTreeSet<u32>,
}

impl ModelField {
    fn random(random: &mut Random, min: u32, max: u32, wraps: bool) -> Self {
        let count = u64::from(max - min + 1);
        let mut value = || min + random.below(count) as u32;
        let (one, other) = (value(), value());
        let step = 1 + random.below(count - 1) as u32;
        match random.below(6) {
            0 | 1 => Self { text: "*".into(), values: (min..=max).collect() },
            2 => Self { text: format!("*/{step}"), values: (min..=max).step_by(step as usize).collect() },
            3 => Self { text: one.to_string(), values: BTreeSet::from([one]) },
            4 => Self { text: format!("{one},{other}"), values: BTreeSet::from([one, other]) },
            _ if one <= other || wraps => {
                let values = (0..count as u32).map(|nth| min + (one - min + nth) % count as u32);
                let upto_other = values.take_while(|value| *value != other).chain([other]);
                Self {
                    text: format!("{one}-{other}/{step}"),
                    values: upto_other.step_by(step as usize).collect(),
                }
            }
            _ => Self { text: format!("{other}-{one}"), values: (other..=one).collect() },
        }
    }

    fn has_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

/// Cron as the manual pages tell it, without any cleverness.
struct Model {
    fields: [ModelField; 5],
    gap: Gap,
    fold: Fold,
}

impl Model {
    fn random(random: &mut Random) -> (Self, Definition<Cron>) {
        let fields = [(0, 59, false), (0, 23, true), (1, 31, false), (1, 12, true), (0, 6, true)]
            .map(|(min, max, wraps)| ModelField::random(random, min, max, wraps));
        let text = fields.each_ref().map(|field| field.text.as_str()).join(" ");
        let all_day = fields[0].has_star() || fields[1].has_star();
        let definition = cron(text);
        let (gap, definition) = match random.below(6) {
            0 => (Gap::Shift, definition.gap(Gap::Shift)),
            1 => (Gap::AfterGap, definition.gap(Gap::AfterGap)),
            2 => (Gap::Skip, definition.gap(Gap::Skip)),
            _ => (if all_day { Gap::Skip } else { Gap::Shift }, definition),
        };
        let (fold, definition) = match random.below(6) {
            0 => (Fold::First, definition.fold(Fold::First)),
            1 => (Fold::Second, definition.fold(Fold::Second)),
            2 => (Fold::Both, definition.fold(Fold::Both)),
            _ => (if all_day { Fold::Both } else { Fold::First }, definition),
        };
        (Self { fields, gap, fold }, definition)
    }

    fn matches(&self, civil: NaiveDateTime) -> bool {
        let [minutes, hours, days, months, weekdays] = &self.fields;
        let day = days.values.contains(&civil.day());
        let weekday = weekdays.values.contains(&civil.weekday().num_days_from_sunday());
        let either = !days.has_star() && !weekdays.has_star();
        minutes.values.contains(&civil.minute())
            && hours.values.contains(&civil.hour())
            && months.values.contains(&civil.month())
            && if either { day || weekday } else { day && weekday }
    }

    /// The instants of a civil time.
    fn instants(&self, tz: Zone, civil: NaiveDateTime) -> Vec<DateTime<Utc>> {
        let resolved = tz.from_local_datetime(&civil);
        match (resolved.earliest(), resolved.latest()) {
            (Some(first), Some(second)) if first == second => vec![first.to_utc()],
            (Some(first), Some(second)) => match self.fold {
                Fold::First => vec![first.to_utc()],
                Fold::Second => vec![second.to_utc()],
                Fold::Both => vec![first.to_utc(), second.to_utc()],
                other => panic!("unknown policy {other:?}"),
            },
            _ => {
                // The changes of these years are on half a minute at worst.
                let minutes = |sign: i32| {
                    (1..=3_000)
                        .map(move |n| TimeDelta::seconds(30 * n * i64::from(sign)))
                        .map(move |by| civil + by)
                };
                let before = minutes(-1).find_map(|civil| tz.from_local_datetime(&civil).latest());
                let after = minutes(1).find_map(|civil| tz.from_local_datetime(&civil).earliest());
                let offset = before.expect("gaps begin").offset().fix();
                match self.gap {
                    Gap::Shift => vec![offset.from_local_datetime(&civil).single().expect("fixed").to_utc()],
                    Gap::AfterGap => vec![after.expect("gaps end").to_utc()],
                    Gap::Skip => vec![],
                    other => panic!("unknown policy {other:?}"),
                }
            }
        }
    }

    /// The fire times strictly between two instants, where no change of the clocks is longer than `margin`.
    fn between(
        &self,
        tz: Zone,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        margin: TimeDelta,
    ) -> Vec<DateTime<Utc>> {
        let mut instants = BTreeSet::new();
        let start = from.with_timezone(&tz).naive_local() - margin;
        // Some offsets have seconds, cron has none.
        let mut civil = start - TimeDelta::seconds(start.second().into());
        let end = to.with_timezone(&tz).naive_local() + margin;
        while civil < end {
            if self.matches(civil) {
                instants.extend(self.instants(tz, civil));
            }
            civil += TimeDelta::minutes(1);
        }
        instants.into_iter().filter(|instant| from < *instant && *instant < to).collect()
    }
}

fn offset_at(tz: Zone, instant: DateTime<Utc>) -> i64 {
    tz.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc().into()
}

/// Days on which the clocks of the zone change: all from 1970 to 2037 in a full run, or those of two random
/// years; and a day on which they may not.
fn days_to_look_at(tz: Zone, random: &mut Random) -> Vec<DateTime<Utc>> {
    let first = time("1970-01-02T00:00:00Z");
    let (start, count) = if is_full() { (0, 68 * 365 + 16) } else { (random.below(66 * 365) as i64, 730) };
    let days = (start..start + count).map(|nth| first + TimeDelta::days(nth));
    let mut days: Vec<_> =
        days.filter(|day| offset_at(tz, *day) != offset_at(tz, *day + TimeDelta::days(1))).collect();
    days.push(first + TimeDelta::days(random.below(24_000) as i64));
    days
}

/// Whether the model matches on any day at all.
fn matches_ever(model: &Model) -> bool {
    (0..366 * 28).any(|nth| {
        let day = time("2000-01-01T00:00:00Z").naive_utc() + TimeDelta::days(nth);
        let minute = *model.fields[0].values.first().expect("a field has values");
        let hour = *model.fields[1].values.first().expect("a field has values");
        model.matches(day.date().and_hms_opt(hour, minute, 0).expect("a time"))
    })
}

/// Every zone, at changes of its clocks and on other days, with random expressions and policies.
#[test]
fn a_scan_of_every_minute_agrees_in_every_zone() {
    const SEED: u64 = 20_260_328;
    let mut random = seeded(SEED);
    let (mut ticks, mut expressions) = (0, 0);

    for tz in zones() {
        for day in days_to_look_at(tz, &mut random) {
            let (from, to) = (day - TimeDelta::hours(4), day + TimeDelta::hours(28));
            let change = offset_at(tz, day).abs_diff(offset_at(tz, day + TimeDelta::days(1)));
            let margin = TimeDelta::hours(1) + TimeDelta::seconds(change as i64);
            let (model, definition) = Model::random(&mut random);
            let definition = definition.timezone(tz.name);
            let Ok(schedule) = definition.clone().into_schedule() else {
                assert!(!matches_ever(&model), "{definition:?}");
                continue;
            };

            let expected = model.between(tz, from, to, margin);

            assert_eq!(between(&*schedule, from, to), expected, "{schedule} between {from} and {to}");
            ticks += expected.len();
            expressions += 1;
        }
    }

    println!("{expressions} expressions, {ticks} fire times");
    assert!(ticks > 10_000, "the scan has seen {ticks} ticks only");
}

/// All of 1970 to 2037 in one go: one expression in each zone, with at most 24 fire times a day.
#[test]
fn a_scan_of_all_years_agrees() {
    const SEED: u64 = 19_702_037;
    let mut random = seeded(SEED);
    let (from, to) = (time("1970-01-02T00:00:00Z"), time("2037-12-31T00:00:00Z"));
    let mut ticks = 0;

    for tz in zones().filter(|_| is_full() || random_one_in(200)) {
        let (model, schedule) = loop {
            let (model, definition) = Model::random(&mut random);
            let per_day = model.fields[0].values.len() * model.fields[1].values.len();
            let definition = definition.timezone(tz.name);
            if let (1..=24, Ok(schedule)) = (per_day, definition.into_schedule()) {
                break (model, schedule);
            }
        };
        let mut instants = BTreeSet::new();
        let mut day = from.naive_utc().date() - TimeDelta::days(3);
        while day <= to.naive_utc().date() + TimeDelta::days(3) {
            for hour in &model.fields[1].values {
                for minute in &model.fields[0].values {
                    let civil = day.and_hms_opt(*hour, *minute, 0).expect("a time");
                    if model.matches(civil) {
                        instants.extend(model.instants(tz, civil));
                    }
                }
            }
            day = day.succ_opt().expect("a date");
        }
        let expected: Vec<_> = instants.into_iter().filter(|time| from < *time && *time < to).collect();

        let actual = between(&*schedule, from, to);

        assert!(actual == expected, "{schedule}: {:?}", first_difference(&actual, &expected));
        ticks += expected.len();
    }

    println!("{ticks} fire times");
    assert!(ticks > 1_000, "the scan has seen {ticks} ticks only");
}

/// A choice that is the same in every run.
fn random_one_in(count: u64) -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NTH: AtomicU64 = AtomicU64::new(0);
    NTH.fetch_add(1, Ordering::Relaxed).is_multiple_of(count)
}

fn first_difference(actual: &[DateTime<Utc>], expected: &[DateTime<Utc>]) -> Option<String> {
    let nth = (0..actual.len().max(expected.len())).find(|nth| actual.get(*nth) != expected.get(*nth))?;
    Some(format!("{:?}, expected {:?}", actual.get(nth), expected.get(nth)))
}

/// croner's rules: a fixed time in a gap comes right after it, a pattern skips it and repeats in a fold.
#[test]
fn croner_agrees_on_what_both_know() {
    const SEED: u64 = 403;
    let mut random = seeded(SEED);
    let (mut ticks, mut given_up) = (0, 0);

    for tz in zones() {
        for day in days_to_look_at(tz, &mut random) {
            let (model, _) = Model::random(&mut random);
            let [minute, hour, day_of_month, month, weekday] =
                model.fields.each_ref().map(|field| field.text.as_str());
            // croner takes no ranges over the end, and calls a day field open if it is `*` alone.
            let is_open = |field: &str| field.starts_with('*');
            let differs = is_open(day_of_month) != is_open(weekday)
                && (day_of_month.starts_with("*/") || weekday.starts_with("*/"));
            let both_by_step =
                is_open(day_of_month) && is_open(weekday) && day_of_month != "*" && weekday != "*";
            let text = [minute, hour, day_of_month, month, weekday].join(" ");
            let (Ok(theirs), false) = (text.parse::<croner::Cron>(), differs || both_by_step) else {
                continue;
            };
            // A list of hours is a pattern for croner, and fixed times for Vixie.
            let (gap, fold) = match theirs.determine_job_type() {
                croner::JobType::FixedTime => (Gap::AfterGap, Fold::First),
                croner::JobType::IntervalWildcard => (Gap::Skip, Fold::Both),
            };
            let ours = cron(&text).gap(gap).fold(fold).timezone(tz.name);
            let Ok(ours) = ours.into_schedule() else { continue };

            let mut now = day - TimeDelta::hours(4);
            for _ in 0..40 {
                let next = match theirs.find_next_occurrence(&now.with_timezone(&tz), false) {
                    Ok(next) => next.to_utc(),
                    // It looks for the end of a gap for two hours.
                    Err(_) => {
                        given_up += 1;
                        break;
                    }
                };
                // The vectors end here.
                if next >= time("2037-12-31T00:00:00Z") {
                    break;
                }
                assert_eq!(ours.next_after(now), Some(next), "{text} in {tz:?} after {now}");
                ticks += 1;
                now = next;
            }
        }
    }

    println!("{ticks} fire times; croner gave up {given_up} times");
    assert!(ticks > 10_000, "{ticks} fire times only");
}

/// The lost day of Samoa, the half hour of Lord Howe, midnight gaps, a gap of two hours, a change of standard
/// time without daylight saving time, and the two changes of Ramadan.
#[test]
fn a_scan_of_every_minute_agrees_at_odd_changes_of_the_clocks() {
    const SEED: u64 = 7;
    let mut random = seeded(SEED);
    for (name, day) in [
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("Asia/Beirut", "2026-03-28T22:00:00Z"),
        ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
        ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
        ("America/Caracas", "2016-05-01T07:00:00Z"),
        ("Asia/Pyongyang", "2018-05-04T15:00:00Z"),
        ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
        ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
        ("Asia/Gaza", "2036-10-17T23:00:00Z"),
        ("Pacific/Kiritimati", "1994-12-31T10:00:00Z"),
    ] {
        let tz = zone(name);
        let (from, to) = (time(day) - TimeDelta::hours(30), time(day) + TimeDelta::hours(30));
        for _ in 0..10 {
            let (model, definition) = Model::random(&mut random);
            let Ok(schedule) = definition.timezone(name).into_schedule() else { continue };

            let expected = model.between(tz, from, to, TimeDelta::hours(25));

            assert_eq!(between(&*schedule, from, to), expected, "{schedule} around {day}");
        }
    }
}
