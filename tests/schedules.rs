//! Schedules answer what the standards and an independent model say, in every time zone, and refuse what is
//! wrong with a message that says where and what to do.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use callsheet::schedule::{
    Anchored, Calendar, Civil, Cron, Definition, Fold, Gap, IntoSchedule, Schedule, Weekday, at, calendar,
    cron, daily, every, monthly, parse_duration, random, weekly,
};
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::Value;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn good(definition: impl IntoSchedule) -> Arc<dyn Schedule> {
    definition.into_schedule().unwrap_or_else(|faults| panic!("{faults}"))
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

/// All rows of `tests/vectors/fire_times.json`, forwards and backwards.
///
/// What gocron's tests expect, where they are right.
#[test]
fn the_vectors_are_met() {
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("vectors/fire_times.json")).expect("the file is a JSON list");

    for row in &rows {
        let id = row["id"].as_str().expect("every row has an id");
        let schedule = of_row(row).into_schedule();

        if row["expect"] == "rejected" {
            let faults = schedule.expect_err(id);
            let is_cron = row["schedule"]["kind"] == "cron";
            assert!(!is_cron || faults.as_slice()[0].rule.starts_with("column "), "{id}: {faults}");
            continue;
        }
        let schedule = schedule.unwrap_or_else(|faults| panic!("{id}: {faults}"));
        let mut now = time(row["after"].as_str().expect("a time"));
        for expected in row["expect"].as_array().expect("a list of times") {
            let next = schedule.next_after(now);
            assert_eq!(next, expected.as_str().map(time), "{id}");
            let Some(next) = next else { break };
            assert_eq!(schedule.previous_before(next + TimeDelta::milliseconds(1)), Some(next), "{id}");
            now = next;
        }
    }

    assert_eq!(rows.len(), 113);
}

/// The definition of a row.
fn of_row(row: &Value) -> Definition {
    let definition = &row["schedule"];
    let text = |key: &str| definition[key].as_str().unwrap_or_default().to_owned();
    let texts = |key: &str| -> Vec<String> {
        let list = definition[key].as_array().expect("a list");
        list.iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
    };
    let zone = row["zone"].as_str().expect("every row has a zone");
    let every = definition["interval"].as_u64().unwrap_or(1) as u32;

    /// The options that all civil kinds have.
    fn civil<K: Civil>(definition: Definition<K>, row: &Value) -> Definition<K> {
        match row["gap"].as_str() {
            None => definition,
            Some("skip") => definition.gap(Gap::Skip),
            Some("shift") => definition.gap(Gap::Shift),
            Some(other) => panic!("unknown policy {other}"),
        }
    }
    fn anchored<K: Anchored>(definition: Definition<K>, row: &Value) -> Definition<K> {
        match row["schedule"]["anchored_at"].as_str() {
            None => definition,
            Some(anchor) => definition.anchored_at(anchor),
        }
    }

    match definition["kind"].as_str().expect("every row has a kind") {
        "every" => anchored(callsheet::schedule::every(text("duration")), row).timezone(zone).into(),
        // The zone of a prefix goes before the zone of the row, which is only the scheduler's default.
        "cron" if text("cron").contains("TZ=") => civil(cron(text("cron")), row).into(),
        "cron" => civil(cron(text("cron")), row).timezone(zone).into(),
        "daily" => {
            let daily = daily().every(every).at(texts("at_times"));
            anchored(civil(daily, row), row).timezone(zone).into()
        }
        "weekly" => {
            let mut weekly = weekly().every(every).on(texts("weekdays")).at(texts("at_times"));
            if let Some(start) = definition["week_start"].as_str() {
                weekly = weekly.week_start(start);
            }
            anchored(civil(weekly, row), row).timezone(zone).into()
        }
        "monthly" => {
            let days = definition["days"].as_array().expect("a list");
            let days = days.iter().map(|day| day.as_i64().expect("a number") as i32);
            let monthly = monthly().every(every).on(days).at(texts("at_times"));
            anchored(civil(monthly, row), row).timezone(zone).into()
        }
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn bad_definitions_are_refused_with_the_place_and_the_cure() {
    const FIVE: &str =
        "write minute, hour, day of the month, month and day of the week, for example `0 9 * * 1-5`";
    let table: Vec<(Definition<Cron>, String)> = vec![
        (
            cron("0 25 * * *"),
            "cron \"0 25 * * *\": column 3: `25` is not an hour\n    0 25 * * *\n      ^^ expected a number from 0 to \
             23; write for example `9`, `9,17`, `9-17` or `*/2`"
                .into(),
        ),
        (
            cron("0 9 * * 1,FRIDAY"),
            "cron \"0 9 * * 1,FRIDAY\": column 11: `FRIDAY` is not a day of the week\n    0 9 * * 1,FRIDAY\n          \
             \u{20}   ^^^^^^ expected a number from 0 to 7 (both are Sunday) or a name from SUN to SAT; write `FRI`"
                .into(),
        ),
        (
            cron("0 0 30 2 *"),
            "cron \"0 0 30 2 *\": column 5: there is no such day in any year, so the schedule would never fire\n    0 \
             0 30 2 *\n        ^^^^ expected a day of the month that one of the months has; correct the day or the \
             month"
                .into(),
        ),
        (
            cron(""),
            "cron \"\": column 1: an expression is not empty\n    \n    ^ expected minute, hour, day of the month, \
             month and day of the week; write five fields, for example `0 9 * * 1-5`"
                .into(),
        ),
        (
            cron("TZ=UTC"),
            "cron \"TZ=UTC\": column 7: there is no expression after the zone\n    TZ=UTC\n          ^ expected \
             minute, hour, day of the month, month and day of the week; write five fields, for example `0 9 * * 1-5`"
                .into(),
        ),
        (
            cron("0 9 * *"),
            format!(
                "cron \"0 9 * *\": column 8: an expression has five fields, this one has 4 fields\n    0 9 * *\n       \
                 \u{20}   ^ expected the day of the week; {FIVE}"
            ),
        ),
        (
            cron("@reboot"),
            "cron \"@reboot\": column 1: `@reboot` is not supported: a schedule does not depend on when a process \
             starts\n    @reboot\n    ^^^^^^^ expected a macro for times, or five fields; trigger the job once after \
             the start instead"
                .into(),
        ),
        (
            cron("@daly"),
            "cron \"@daly\": column 1: `@daly` is not a macro\n    @daly\n    ^^^^^ expected @hourly, @daily, \
             @midnight, @weekly, @monthly, @yearly, @annually or @every; write one of these, or five fields"
                .into(),
        ),
        (
            cron("H 3 * * *"),
            "cron \"H 3 * * *\": column 1: `H` (a hashed value) is not supported\n    H 3 * * *\n    ^ expected a \
             number from 0 to 59; write a number, and spread the jobs with `jitter`, which differs from job to job"
                .into(),
        ),
        (
            cron("@every -5s"),
            "cron \"@every -5s\": column 8: a duration is not negative\n    @every -5s\n           ^^^ expected a \
             duration such as `5m`; write whole numbers with the units w, d, h, m, s and ms, largest first, for \
             example `1h30m`"
                .into(),
        ),
        (
            cron("@every 0s"),
            "cron \"@every 0s\": column 8: a period is not zero\n    @every 0s\n           ^^ expected a duration \
             such as `5m`; write a period of at least 1 ms"
                .into(),
        ),
        (
            cron("TZ=Europe/Lisboa 0 9 * * *"),
            "cron \"TZ=Europe/Lisboa 0 9 * * *\": column 4: `Europe/Lisboa` is not the IANA name of a time zone\n    \
             TZ=Europe/Lisboa 0 9 * * *\n       ^^^^^^^^^^^^^ expected an IANA name, region and city; write \
             `Europe/Lisbon`"
                .into(),
        ),
        (
            cron("0 9 * * *").timezone("UTC+1"),
            "timezone \"UTC+1\": `UTC+1` is an offset from UTC, not the IANA name of a time zone; write `Etc/GMT-1`, a \
             name with the opposite sign for UTC+1, or a city, whose clocks may change"
                .into(),
        ),
        (
            cron("TZ=UTC 0 9 * * *").timezone("Europe/Lisbon"),
            "timezone \"Europe/Lisbon\": the expression itself names another zone, `UTC`; keep one of the two"
                .into(),
        ),
        (
            cron("60 9 * 13 *").timezone("lisbon"),
            "cron \"60 9 * 13 *\": column 1: `60` is not a minute\n    60 9 * 13 *\n    ^^ expected a number from 0 to \
             59; write for example `0`, `0,30`, `0-29` or `*/15`\ncron \"60 9 * 13 *\": column 8: `13` is not a \
             month\n    60 9 * 13 *\n           ^^ expected a number from 1 to 12 or a name from JAN to DEC; write \
             for example `1`, `JAN,JUL`, `6-8` or `*`\ntimezone \"lisbon\": `lisbon` is not the IANA name of a \
             time zone; write `Europe/Lisbon`"
                .into(),
        ),
    ];
    for (definition, expected) in table {
        let faults = definition.check().expect_err(&expected);

        assert_eq!(faults.to_string(), expected);
        assert_eq!(definition.into_schedule().map(|schedule| schedule.to_string()), Err(faults));
    }
}

/// More of them: after each line `== expression`, the whole message.
#[test]
fn bad_expressions_get_the_messages_of_the_transcript() {
    let transcript = include_str!("transcripts/bad_cron.txt");
    let mut count = 0;

    for block in transcript.split("== ").skip(1) {
        let (expression, expected) = block.split_once('\n').expect("a message");

        let refused = cron(expression).check().expect_err(expression).to_string();

        assert_eq!(refused, expected.trim_end());
        count += 1;
    }

    assert!(count > 35, "{count} expressions only");
}

#[test]
fn bad_periods_and_instants_are_refused() {
    let period = |period| every(period).check().expect_err("a fault").to_string();
    assert_eq!(period(Duration::ZERO), "every \"0s\": a period is not zero; write a period of at least 1 ms");
    assert_eq!(
        period(Duration::from_nanos(999_999)),
        "every \"999us999ns\": a period is at least 1 ms; write a period of at least 1 ms"
    );
    assert_eq!(
        period(Duration::from_micros(1_500)),
        "every \"1ms500us\": a period is a whole number of milliseconds; round it to milliseconds"
    );
    assert_eq!(
        period(Duration::MAX),
        "every \"213503982334601d7h15s999ms999us999ns\": a period is at most a hundred years (36525 days); use `at` for \
         single instants in a far future"
    );
    let none: [&str; 0] = [];
    assert_eq!(
        at(none).check().expect_err("a fault").to_string(),
        "at \"\": the list of instants is empty, so the schedule would never fire; give at least one instant"
    );
    assert_eq!(
        at(["2026-12-24T18:00:00", "2026-12-24T18:00:00Z", "tomorrow"])
            .check()
            .expect_err("faults")
            .to_string(),
        "at[0] \"2026-12-24T18:00:00\": a time has an offset from UTC; add the offset, for example \
         `2026-12-24T18:00:00Z` for UTC\nat[2] \"tomorrow\": this is not an RFC 3339 time; write date, time and offset, \
         for example `2026-12-24T18:00:00Z`"
    );
}

#[test]
fn fire_times_stay_in_order_and_number_at_a_turn_of_the_century() {
    for zone in ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"] {
        for expression in ["30 2 * * *", "*/30 * * * *"] {
            let schedule = good(cron(expression).timezone(zone));

            let ticks = between(&*schedule, time("2098-12-01T00:00:00Z"), time("2101-02-01T00:00:00Z"));

            // 792 days, with at most one more or less for each gap that is skipped or fold that is doubled.
            let a_day = if expression.starts_with('*') { 48 } else { 1 };
            assert!(ticks.len().abs_diff(792 * a_day) <= 4, "{schedule}: {}", ticks.len());
        }
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Any instant that chrono can name, mostly of our time, with nanoseconds.
    fn instant() -> impl Strategy<Value = DateTime<Utc>> {
        let limits = (DateTime::<Utc>::MIN_UTC.timestamp(), DateTime::<Utc>::MAX_UTC.timestamp());
        let seconds = prop_oneof![
            6 => 0_i64..4_200_000_000,
            2 => -6_000_000_000_i64..0,
            1 => limits.0..=limits.1,
            1 => prop_oneof![limits.0..limits.0 + 200_000, limits.1 - 200_000..=limits.1],
        ];
        let nanos = prop_oneof![Just(0), 0_u32..1_000_000_000, (0_u32..1_000).prop_map(|ms| ms * 1_000_000)];
        (seconds, nanos).prop_map(|(seconds, nanos)| {
            DateTime::from_timestamp(seconds, nanos).unwrap_or(DateTime::<Utc>::MAX_UTC)
        })
    }

    fn zone() -> impl Strategy<Value = Tz> {
        prop::sample::select(&TZ_VARIANTS[..])
    }

    fn gap() -> impl Strategy<Value = Gap> {
        prop_oneof![Just(Gap::Shift), Just(Gap::AfterGap), Just(Gap::Skip)]
    }

    fn fold() -> impl Strategy<Value = Fold> {
        prop_oneof![Just(Fold::First), Just(Fold::Second), Just(Fold::Both)]
    }

    /// A civil kind with its options.
    fn civil<K>(definition: impl Strategy<Value = Definition<K>>) -> impl Strategy<Value = Definition>
    where
        Definition<K>: Into<Definition>,
        K: Civil + fmt::Debug,
    {
        (definition, zone(), gap(), fold())
            .prop_map(|(definition, zone, gap, fold)| definition.timezone(zone).gap(gap).fold(fold).into())
    }

    fn at_times() -> impl Strategy<Value = Vec<NaiveTime>> {
        let time = (0_u32..86_400).prop_map(|second| {
            NaiveTime::from_num_seconds_from_midnight_opt(second, 0).expect("a time of day")
        });
        prop::collection::vec(time, 0..4)
    }

    fn weekday() -> impl Strategy<Value = Weekday> {
        (0_u8..7).prop_map(|day| Weekday::try_from(day).expect("a weekday"))
    }

    /// Of the kinds, each alone.
    fn kind() -> BoxedStrategy<Definition> {
        let expression = prop::sample::select(&[
            "* * * * *",
            "*/7 */5 * * *",
            "30 2 * * *",
            "0 0 * * *",
            "0 0 29 2 *",
            "0 0 13 * FRI",
            "59 23 31 12 *",
            "15,45 22-2 * NOV-MAR MON-FRI",
            "*/20 * * * * *",
            "15 30 2 LW * *",
            "0 0 15W,L * MON#2,FRIL",
            "59 59 23 31 12 * 2000-2050/3",
        ]);
        let millis = || (1_u64..100_000_000_000).prop_map(Duration::from_millis);
        prop_oneof![
            4 => civil(expression.prop_map(cron)),
            2 => (millis(), instant()).prop_map(|(period, anchor)| every(period).anchored_at(anchor).into()),
            1 => (millis(), millis(), ".{0,5}").prop_map(|(one, other, seed)| {
                random(one.min(other), one.max(other)).seed(seed).into()
            }),
            2 => civil((1_u32..100, at_times(), instant()).prop_map(|(every, at, anchor)| {
                daily().every(every).at(at).anchored_at(anchor)
            })),
            2 => civil((1_u32..100, at_times(), instant(), prop::collection::vec(weekday(), 1..4), weekday()).prop_map(
                |(every, at, anchor, on, start)| {
                    weekly().every(every).at(at).anchored_at(anchor).on(on).week_start(start)
                }
            )),
            2 => civil((1_u32..100, at_times(), instant(), prop::collection::vec(1..32, 0..3)).prop_map(
                |(every, at, anchor, on)| {
                    // The first or last day is in every month: there is always a fire time.
                    let on = on.into_iter().enumerate().map(|(nth, day)| if nth == 0 { -1 } else { day });
                    monthly().every(every).at(at).anchored_at(anchor).on([1]).on(on)
                }
            )),
            1 => prop::collection::vec(instant(), 1..20).prop_map(|instants| at(instants).into()),
        ]
        .boxed()
    }

    /// What leaves some of every schedule in most cases, and is dense or sparse.
    fn calendar_of_some() -> BoxedStrategy<Calendar> {
        let weekdays = prop::collection::vec(weekday(), 0..4);
        let minutes = (0_u32..24, 0_u32..24).prop_filter("not empty", |(from, to)| from != to);
        (weekdays, prop::option::of(minutes), prop::option::of(zone()), kind())
            .prop_map(|(weekdays, minutes, zone, kind)| {
                let mut calendar = calendar("some").dates("2026-03-29").weekdays(weekdays).fire_times(kind);
                if let Some((from, to)) = minutes {
                    calendar = calendar.times(format!("{from}:00"), format!("{to}:00"));
                }
                match zone {
                    Some(zone) => calendar.timezone(zone.name()),
                    None => calendar,
                }
            })
            .boxed()
    }

    /// Any definition that is right.
    fn definition() -> BoxedStrategy<Definition> {
        let combined = prop_oneof![
            3 => kind(),
            1 => prop::collection::vec(kind(), 1..4).prop_map(|members| callsheet::schedule::any(members).into()),
        ];
        let jitter = prop::option::of((1_u64..1_000_000_000).prop_map(Duration::from_millis));
        let window = prop::option::of((instant(), 1_i64..2_000_000_000));
        let except = prop::option::of(calendar_of_some());
        (combined, jitter, window, except)
            .prop_filter_map("a definition may never fire", |(mut definition, jitter, window, except)| {
                if let Some(max) = jitter {
                    definition = definition.jitter(max);
                }
                if let Some((start, seconds)) = window {
                    let until = start.checked_add_signed(TimeDelta::seconds(seconds))?;
                    definition = definition.starting_at(start).until(until);
                }
                if let Some(calendar) = except {
                    definition = definition.except(calendar);
                }
                definition.check().is_ok().then_some(definition)
            })
            .boxed()
    }

    /// How many cases are tried: `PROPTEST_CASES`, or so many.
    fn cases(default: u32) -> u32 {
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
    }

    /// No answer may take longer, on a machine that is busy with other things and without optimisations.
    const LONGEST: Duration = Duration::from_secs(20);

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fire_times_are_later_whole_milliseconds_and_nothing_lies_between(
            definition in definition(),
            after in instant(),
            part in 0_u64..1_000,
        ) {
            let started = Instant::now();
            let schedule = good(definition.clone());
            if let Some(next) = schedule.next_after(after) {
                prop_assert!(next > after);
                prop_assert_eq!(next.timestamp_subsec_nanos() % 1_000_000, 0);

                // Any instant in between has the same next one.
                let part = (next - after).num_milliseconds() as i128 * i128::from(part) / 1_000;
                let between = after + TimeDelta::milliseconds(part as i64);
                prop_assert_eq!(schedule.next_after(between), Some(next));

                if let Some(previous) = schedule.previous_before(next) {
                    prop_assert!(previous <= after);
                    prop_assert_eq!(schedule.next_after(previous), Some(next));
                }
                if let Some(second) = schedule.next_after(next) {
                    prop_assert!(second > next);
                    prop_assert_eq!(schedule.previous_before(second), Some(next));
                }
                // Another node, and one that has been asked other things before.
                let elsewhere = good(definition);
                elsewhere.previous_before(between);
                prop_assert_eq!(elsewhere.next_after(after), Some(next));
                prop_assert_eq!(elsewhere.to_string(), schedule.to_string());
            }
            if let Some(previous) = schedule.previous_before(after) {
                prop_assert!(previous < after);
            }
            prop_assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
        }

        #[test]
        fn what_is_written_as_data_is_read_back(definition in definition(), after in instant()) {
            let json = serde_json::to_string(&definition).expect("it is right");
            let toml = toml::to_string(&definition).expect("it is right");

            let from_json: Definition = serde_json::from_str(&json).expect("it was written");
            let from_toml: Definition = toml::from_str(&toml).expect("it was written");

            prop_assert_eq!(serde_json::to_string(&from_json).expect("it is right"), &json[..]);
            prop_assert_eq!(serde_json::to_string(&from_toml).expect("it is right"), &json[..]);
            prop_assert_eq!(good(from_json).next_after(after), good(definition.clone()).next_after(after));
            prop_assert_eq!(from_toml.describe(), definition.describe());
        }

        #[test]
        fn people_can_ask_about_any_definition(definition in definition(), after in instant()) {
            let preview = definition.preview(after, 5).expect("it is right");
            let schedule = good(definition.clone());

            let mut now = after;
            for time in preview.fire_times() {
                prop_assert_eq!(schedule.next_after(now), Some(time));
                now = time;
            }
            prop_assert!(!definition.describe().expect("it is right").is_empty());
            for warning in definition.lint(after).expect("it is right") {
                prop_assert!(!warning.to_string().is_empty());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}", zone in "\\PC{0,20}") {
            let _ = cron(&text).timezone(zone).check().map_err(|faults| faults.to_string());
            let _ = parse_duration(&text).map_err(|fault| fault.to_string());
            let _ = at(text.as_str()).check();
            let _ = text.parse::<Definition>();
        }

        #[test]
        fn no_text_that_looks_like_cron_makes_it_panic(
            text in "(TZ=[A-Z/]{0,4} )?[-*/,?#0-9LWHFRIJANMO@é]{0,6}( [-*/,?#0-9LWHFRIJANMO@é]{1,6}){0,6}",
            after in instant(),
        ) {
            match cron(&text).into_schedule() {
                Ok(schedule) => {
                    let _ = (schedule.next_after(after), schedule.previous_before(after));
                    let _ = (cron(&text).describe(), cron(&text).lint(after));
                }
                Err(faults) => prop_assert!(!faults.to_string().is_empty()),
            }
        }
    }
}
