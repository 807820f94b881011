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

mod properties;

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
        serde_json::from_str(include_str!("../vectors/fire_times.json")).expect("the file is a JSON list");

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
    let transcript = include_str!("../transcripts/bad_cron.txt");
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
