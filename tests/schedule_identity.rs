//! What is one schedule, and what is another one: the identity of definitions.

use std::{fmt, sync::Arc, time::Duration};

use callsheet::schedule::{
    Definition, Fold, Gap, IntoSchedule, Schedule, ScheduleIdentity, Weekday::*, any, at, calendar, cron,
    custom, daily, every, monthly, random, weekly,
};
use chrono::{DateTime, Utc};

fn identity(schedule: impl IntoSchedule) -> ScheduleIdentity {
    schedule.into_schedule().expect("it is right").identity()
}

fn json(text: &str) -> Definition {
    text.parse().expect("it is right")
}

/// A schedule of an application.
#[derive(Debug, Clone)]
struct Own {
    text: &'static str,
    identity: Option<&'static str>,
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl Schedule for Own {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        after.checked_add_signed(chrono::TimeDelta::hours(1))
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        before.checked_sub_signed(chrono::TimeDelta::hours(1))
    }

    fn identity(&self) -> ScheduleIdentity {
        ScheduleIdentity::of_text(self.identity.unwrap_or(self.text))
    }
}

const OWN: Own = Own { text: "hourly", identity: None };

fn table() -> Vec<(Definition, &'static str)> {
    let holidays =
        || calendar("holidays").dates(["2026-12-25", "2026-01-01"]).range("2026-12-31", "2027-01-01");
    vec![
        (cron("0 9 * * 1-5").into(), "v1:b95813b8d4ccc0ea111622044c170502"),
        (
            cron("0 9 * * 1-5").timezone("Europe/Lisbon").gap(Gap::Skip).into(),
            "v1:15d2a61330950c998aeff0d00166cc6f",
        ),
        (cron("15 0 9 L * MON#2 2026-2030").fold(Fold::Both).into(), "v1:a25172975e73720144016e5384a96a8e"),
        (cron("@daily").into(), "v1:6c340131652039af1e168a98caf5b8d6"),
        (cron("@every 90s").into(), "v1:cf78cc099554e2de2740df327ea2abcd"),
        (every("5m").into(), "v1:a5157bb7bd3012988d29122ed51f5e3c"),
        (
            every("5m").anchored_at("2026-01-01T00:01:00Z").jitter("30s").into(),
            "v1:588d23f5bf2113c0e753ed2ef0e2c973",
        ),
        (
            every("5m").from_completion().starting_at("2026-01-01T00:00:00Z").into(),
            "v1:5bebcb760371de9baa961cc7e201af2a",
        ),
        (random("1m", "5m").into(), "v1:2d2e61ae6b207a90affce9ce2fbc0efb"),
        (random("1m", "5m").seed("mail").into(), "v1:f4fd359e810be013ca2c2753d281d497"),
        (daily().into(), "v1:0bda06dc48cd6c7f26d54187bc77b760"),
        (
            daily().every(2).at(["09:30", "18:00:15"]).anchored_at("2026-01-01T00:00:00Z").into(),
            "v1:fc9be51a7e6334998ee1bdd82589c8fc",
        ),
        (
            weekly().on([Mon, Thu]).at("09:30").timezone("America/New_York").into(),
            "v1:f1485ff36915f9c7c9804c90a396c378",
        ),
        (
            weekly().on([Sat, Sun]).every(2).week_start(Sun).fold(Fold::Second).into(),
            "v1:88d6318889880daf21cac7d853396c47",
        ),
        (monthly().on([1, -1]).gap(Gap::AfterGap).into(), "v1:b2bbabe6887ba6c5ebe83caf8714fe21"),
        (
            monthly()
                .on([15])
                .every(3)
                .starting_at("2026-02-01T00:00:00Z")
                .until("2030-01-01T00:00:00Z")
                .into(),
            "v1:e8adc5e98f5d2a6bba11764da1501a62",
        ),
        (at("2026-12-24T18:00:00Z").into(), "v1:c0cc5ec5c7d6d35b1c74f2f157203be0"),
        (
            at(["2026-12-24T18:00:00.5+01:00", "2026-12-31T23:59:00Z"]).into(),
            "v1:394bd38d3c243679359f4892a4b9ca9a",
        ),
        (
            any([every("7m").into(), cron("0 12 * * *").timezone("Asia/Tokyo").into()]).into(),
            "v1:8f1429c87b9b265af197f28a045e0246",
        ),
        (
            daily().at("09:00").timezone("Europe/Lisbon").except(holidays()).into(),
            "v1:6028e7c438e59bb32bb8228411fa6ac7",
        ),
        (
            every("1h")
                .except(
                    calendar("nights")
                        .times("22:00", "06:00")
                        .weekdays([Sun])
                        .fire_times(cron("0 12 * * *"))
                        .timezone("Asia/Tokyo"),
                )
                .into(),
            "v1:fa7459a0c28c51a23b94f9c86b3cbe70",
        ),
        (custom(OWN).into(), "v1:01f01b0fcbf992b132bfcd95767f5c7e"),
        (custom(OWN).until("2030-01-01T00:00:00Z").into(), "v1:dd54d1397e88d775e36724be2dcdebd6"),
    ]
}

/// What is stored was made by an earlier build.
#[test]
fn identities_never_change_within_a_version() {
    let wrong: Vec<_> = table()
        .into_iter()
        .map(|(definition, expected)| (definition.clone(), identity(definition), expected))
        .filter(|(_, identity, expected)| identity.to_string() != *expected)
        .map(|(definition, identity, _)| {
            format!("{identity} {}", definition.into_schedule().expect("it is right"))
        })
        .collect();

    assert!(
        wrong.is_empty(),
        "these schedules have another identity than before: every job that has one would lose the ticks that it missed during \
         the deployment. Take the change of the form back; or, if it has to be, raise `ScheduleIdentity::VERSION` and write \
         these into the table:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn all_these_schedules_differ() {
    let table = table();

    for (nth, (one, _)) in table.iter().enumerate() {
        for (other, _) in &table[..nth] {
            assert!(identity(one.clone()).differs_from(identity(other.clone())), "{one:?} and {other:?}");
        }
    }
}

#[track_caller]
fn same(one: impl Into<Definition>, other: impl Into<Definition>) {
    let (one, other) = (one.into(), other.into());
    assert_eq!(identity(one.clone()), identity(other.clone()), "{one:?}\nand {other:?}");
}

#[track_caller]
fn differ(one: impl Into<Definition>, other: impl Into<Definition>) {
    let (one, other) = (one.into(), other.into());
    assert!(identity(one.clone()).differs_from(identity(other.clone())), "{one:?}\nand {other:?}");
}

#[test]
fn a_value_is_the_same_however_it_is_written() {
    same(every("90s"), every(Duration::from_secs(90)));
    same(every("1m30s"), json(r#"{"every": "90s"}"#));
    same(daily().at("9:05"), daily().at("09:05:00"));
    same(weekly().on("Monday"), weekly().on([Mon]));
    same(at("2026-12-24T18:00:00+01:00"), at("2026-12-24T17:00:00Z"));
    same(cron(" 0  9 * * mon-fri"), cron("0 9 * * MON-FRI"));
    same(cron("0 9 * * *").timezone(chrono_tz::Europe::Lisbon), cron("0 9 * * *").timezone("Europe/Lisbon"));
}

#[test]
fn order_and_repetition_in_lists_change_nothing() {
    same(daily().at(["09:00", "18:00"]), daily().at(["18:00", "9:00", "09:00"]));
    same(weekly().on([Thu, Mon]), weekly().on([Mon, Thu, Mon]));
    same(monthly().on([-1, 1]), monthly().on([1, -1, 1]));
    same(
        at(["2026-12-31T23:59:00Z", "2026-12-24T18:00:00Z"]),
        at(["2026-12-24T19:00:00+01:00", "2026-12-24T18:00:00Z", "2026-12-31T23:59:00Z"]),
    );
    same(every("7m").or(daily()), daily().or(every("7m")));
    let (dates, days) =
        (calendar("a").dates(["2026-01-01", "2026-12-25"]), calendar("b").weekdays([Sun, Sat]));
    let turned = calendar("a").dates(["2026-12-25", "2026-01-01"]);
    same(
        daily().except(&dates).except(&days),
        daily().except(calendar("b").weekdays([Sat, Sun])).except(&turned).except(&turned),
    );
}

#[test]
fn defaults_that_are_written_out_change_nothing() {
    same(daily(), daily().every(1).at("00:00").timezone("UTC").gap(Gap::Shift).fold(Fold::First));
    same(cron("0 9 * * *"), cron("0 9 * * *").gap(Gap::Shift).fold(Fold::First));
    same(cron("0 * * * *"), cron("0 * * * *").gap(Gap::Skip).fold(Fold::Both));
    differ(cron("0 * * * *"), cron("0 * * * *").gap(Gap::Shift));
    same(weekly().on([Mon]), weekly().on([Mon]).week_start(Sun).anchored_at("2026-01-08T00:00:00Z"));
    same(weekly().on([Mon]).every(2), weekly().on([Mon]).every(2).week_start(Mon));
    differ(weekly().on([Mon]).every(2), weekly().on([Mon]).every(2).week_start(Sun));
    same(every("1h"), every("1h").anchored_at("1970-01-01T00:00:00Z"));
    let start = "2026-01-01T00:30:00Z";
    same(every("1h").starting_at(start), every("1h").starting_at(start).anchored_at(start));
    same(
        monthly().on([1]).every(2).starting_at(start),
        monthly().on([1]).every(2).starting_at(start).anchored_at(start),
    );
    // The day of the epoch is another one in the west.
    let odd_days = || daily().every(2).timezone("America/New_York");
    differ(odd_days(), odd_days().anchored_at("1970-01-01T00:00:00Z"));
    // Where a zone is inherited, that is the default.
    let noon = || cron("0 12 * * *");
    same(
        noon().or(every("7m")).timezone("Asia/Tokyo"),
        noon().timezone("Asia/Tokyo").or(every("7m")).timezone("Asia/Tokyo"),
    );
    differ(
        noon().or(every("7m")).timezone("Asia/Tokyo"),
        noon().timezone("UTC").or(every("7m")).timezone("Asia/Tokyo"),
    );
    let nights = || calendar("nights").times("22:00", "06:00");
    same(
        daily().at("09:00").timezone("Asia/Tokyo").except(nights()),
        daily().at("09:00").timezone("Asia/Tokyo").except(nights().timezone("Asia/Tokyo")),
    );
}

#[test]
fn the_zone_of_a_prefix_and_a_macro_are_what_they_stand_for() {
    same(cron("CRON_TZ=Asia/Tokyo 0 9 * * *"), cron("0 9 * * *").timezone("Asia/Tokyo"));
    same(cron("tz=Asia/Tokyo 0 9 * * *").timezone("Asia/Tokyo"), cron("0 9 * * *").timezone("Asia/Tokyo"));
    same(cron("@midnight"), cron("0 0 * * *"));
    same(cron("TZ=Asia/Tokyo @Daily"), cron("@midnight").timezone("Asia/Tokyo"));
    // For the calendars as well.
    let nights = || calendar("nights").times("22:00", "06:00");
    same(
        cron("TZ=Asia/Tokyo 0 * * * *").except(nights()),
        cron("0 * * * *").timezone("Asia/Tokyo").except(nights()),
    );
}

#[test]
fn what_a_text_hides_is_part_of_it() {
    let days = |last| at(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", last]);
    let unnamed = |day: &str| json(&format!(r#"{{"daily": {{}}, "except": [{{"dates": ["{day}"]}}]}}"#));
    let seeded = |seed| random("1m", "5m").seed(seed);
    let pairs: [[Definition; 2]; 4] = [
        [days("2026-01-04T00:00:00Z").into(), days("2026-01-05T00:00:00Z").into()],
        [unnamed("2026-12-25"), unnamed("2026-12-26")],
        [seeded("a").into(), seeded("b").into()],
        [seeded("a").into(), random("1m", "5m").into()],
    ];

    for [one, other] in pairs {
        let text =
            |definition: &Definition| definition.clone().into_schedule().expect("it is right").to_string();
        assert_eq!(text(&one), text(&other));
        differ(one, other);
    }
}

#[test]
fn the_name_of_a_calendar_is_for_people_and_no_part_of_it() {
    let without = |name| daily().except(calendar(name).dates("2026-12-25"));

    same(without("holidays"), without("Christmas"));
}

#[test]
fn a_rule_that_is_told_by_another_kind_is_another_one() {
    differ(cron("0 9 * * *"), daily().at("09:00"));
    differ(cron("@every 5m"), every("5m"));
    differ(cron("0 9 * * 1"), cron("0 9 * * MON"));
    differ(every("1h"), every("60m").anchored_at("2026-01-01T00:00:00Z"));
    differ(daily().timezone("Europe/Lisbon"), daily().timezone("Portugal"));
}

#[test]
fn the_job_is_no_part_of_it() {
    let schedule = random("1m", "5m").jitter("1s").into_schedule().expect("it is right");

    let of_job = schedule.for_job("mail").expect("its name is the seed");

    assert_eq!(of_job.identity(), schedule.identity());
}

#[test]
fn a_schedule_of_the_application_is_its_text_or_what_it_says() {
    let as_text = ScheduleIdentity::of_text("hourly");
    assert_eq!(OWN.identity(), as_text);
    assert_eq!(identity(custom(OWN)), as_text, "wrapped, it is the same");
    assert_eq!(identity(custom(every("5m"))), identity(every("5m")));

    let other_words = Own { text: "each hour", identity: Some("hourly") };
    let other_rule = Own { text: "hourly", identity: Some("hourly, table of 2027") };
    for around in [
        |own| custom(own).into(),
        |own| any([custom(own).into(), daily().into()]).into(),
        |own| custom(own).until("2030-01-01T00:00:00Z").into(),
    ] as [fn(Own) -> Definition; 3]
    {
        assert_eq!(identity(around(other_words.clone())), identity(around(OWN)));
        assert!(identity(around(other_rule.clone())).differs_from(identity(around(OWN))));
    }
    let excluded =
        |own: &Own| daily().except(calendar("own").fire_times(custom(own.clone())).dates("2026-12-25"));
    differ(excluded(&OWN), excluded(&other_rule));
    let shared: Arc<dyn Schedule> = Arc::new(OWN);
    assert_eq!(identity(shared), as_text);
}

/// Otherwise somebody could write the identity of an application's schedule into a file.
#[test]
fn no_data_holds_a_schedule_of_the_application() {
    let error = r#"{"custom": "v1:00"}"#.parse::<Definition>().expect_err("it is refused").to_string();

    assert!(error.contains("unknown field `custom`") && !error.contains("`any`, `custom`"), "{error}");
    assert!(serde_json::to_string(&Definition::from(custom(OWN))).is_err());
}
