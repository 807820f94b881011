//! What people are told of a schedule.

use super::*;

#[test]
fn descriptions_are_english() {
    let table: Vec<(Definition, &str)> = vec![
        (cron("* * * * *").into(), "every minute (UTC)"),
        (cron("*/5 * * * *").into(), "every 5 minutes (UTC)"),
        (cron("@hourly").into(), "every hour (UTC)"),
        (cron("@weekly").into(), "at 00:00 on Sunday (UTC)"),
        (cron("TZ=Asia/Tokyo @yearly").into(), "at 00:00 on day 1 of the month in January (Asia/Tokyo)"),
        (cron("0 */2 * * *").into(), "every 2 hours (UTC)"),
        (cron("15 */2 * * *").into(), "at minute 15 of every 2nd hour (UTC)"),
        (cron("15 * * * *").into(), "at minute 15 of every hour (UTC)"),
        (cron("0 9,17 * * *").into(), "at 09:00 and 17:00 (UTC)"),
        (cron("*/15 9-17 * * MON-FRI").into(), "every 15 minutes from 09:00 to 17:45 on Monday to Friday (UTC)"),
        (cron("0 22-2 * * *").into(), "at minute 0 of hour 0 to 2, 22 and 23 (UTC)"),
        (cron("*/7 * * * *").into(), "at minute 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour (UTC)"),
        (cron("0 0 13 * FRI").into(), "at 00:00 on day 13 of the month or on Friday (UTC)"),
        // Either field is enough, and one of them is every day.
        (cron("0 0 13 * 1-7").into(), "at 00:00 (UTC)"),
        (cron("0 0 5,* * FRI").into(), "at 00:00 (UTC)"),
        (
            cron("0 0 */10 * FRI").into(),
            "at 00:00 on day 1, 11, 21 and 31 of the month if it is Friday (UTC)",
        ),
        (cron("0 0 L,15W NOV-FEB *").into(), "at 00:00 on the last day and the weekday (Monday to Friday) nearest to day 15 of the month in January, February, November and December (UTC)"),
        (cron("0 0 * * FRIL,MON#2").into(), "at 00:00 on the last Friday of the month and the 2nd Monday of the month (UTC)"),
        (cron("* * * * * *").into(), "every second (UTC)"),
        (cron("*/10 * * * * *").into(), "every 10 seconds (UTC)"),
        (cron("15 30 9 * * * 2027").into(), "at 09:30:15 in 2027 (UTC)"),
        (cron("@every 90s").into(), "every 1m30s"),
        (cron("30 2 * * *").gap(Gap::Skip).fold(Fold::Both).into(), "at 02:30 (UTC), gap skip, fold both"),
        (every("90m").anchored_at("2026-01-01T00:00:00Z").into(), "every 1h30m, counted from 2026-01-01T00:00:00Z"),
        (random("1m", "5m").into(), "at random, every 1m to 5m"),
        (daily().into(), "every day at 00:00 (UTC)"),
        (daily().every(2).at(["18:00:15", "09:30"]).into(), "every 2 days at 09:30 and 18:00:15 (UTC)"),
        (weekly().on([Thu, Mon]).into(), "every week on Monday and Thursday at 00:00 (UTC)"),
        (
            weekly().on(["sun", "sat"]).every(2).week_start(Sun).at(NaiveTime::MIN).into(),
            "every 2 weeks on Sunday and Saturday at 00:00, weeks starting on Sunday (UTC)",
        ),
        (
            monthly().on([-1, 15, 1, -2]).every(3).into(),
            "every 3 months on day 1 and 15, the last day and the 2nd last day at 00:00 (UTC)",
        ),
        (
            at(["2026-12-31T00:00:00Z", "2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z"]).into(),
            "at 2026-12-24T17:00:00Z and 2026-12-31T00:00:00Z",
        ),
        (
            any([every("1h").into(), daily().at("09:00").into()]).timezone("Europe/Lisbon").into(),
            "any of: every 1h; every day at 09:00 (Europe/Lisbon)",
        ),
        (
            custom(Hours { stands_still: false })
                .except(calendar("holidays").dates("2026-12-25"))
                .except(calendar("weekends").weekdays([Sat, Sun]))
                .starting_at("2026-01-01T00:00:00Z")
                .until("2027-01-01T00:00:00Z")
                .jitter("30s")
                .into(),
            "every full hour, except holidays and weekends, from 2026-01-01T00:00:00Z, until 2027-01-01T00:00:00Z, \
             each up to 30s later",
        ),
        (
            r#"{"every": "1h", "except": [{"dates": ["2026-12-25"], "weekdays": ["sun"], "times": [{"from": "22:00", "to": "06:00"}]}]}"#
                .parse()
                .expect("it is right"),
            "every 1h, except 2026-12-25, Sunday and 22:00 to 06:00",
        ),
    ];
    for (definition, expected) in table {
        assert_eq!(definition.describe().as_deref(), Ok(expected));
    }
}

/// Two that fire at different times do not look the same in a listing.
#[test]
fn listings_show_what_decides_the_fire_times() {
    let text = |definition: Definition| good(definition).to_string();

    assert_eq!(
        text(daily().every(2).at("09:30").anchored_at("2026-01-01T20:00:00Z").timezone("Asia/Tokyo").into()),
        "every 2 days at 09:30 (Asia/Tokyo) counted from 2026-01-02"
    );
    assert_eq!(
        text(weekly().every(2).on([Mon, Sun]).week_start(Sun).gap(Gap::Skip).into()),
        "every 2 weeks on sun, mon of weeks from sun at 00:00 (UTC, gap skip)"
    );
    assert_eq!(
        text(monthly().on([-1, 1]).at(["18:00:15", "09:30"]).fold(Fold::Both).into()),
        "monthly on 1, -1 at 09:30, 18:00:15 (UTC, fold both)"
    );
    assert_eq!(
        text(
            cron("0 9 * * *")
                .or(random("1m", "5m"))
                .except(calendar("holidays").dates("2026-12-25"))
                .starting_at("2026-01-01T00:00:00Z")
                .until("2027-01-01T00:00:00Z")
                .jitter("30s")
                .into()
        ),
        "any of [cron 0 9 * * * (UTC); random 1m to 5m] except holidays from 2026-01-01T00:00:00Z until \
         2027-01-01T00:00:00Z jitter 30s"
    );
}

#[test]
fn a_preview_says_what_the_clocks_did() {
    let lines = |definition: Definition, from: &str, count: usize| -> Vec<String> {
        let preview = definition.preview(time(from), count).unwrap_or_else(|faults| panic!("{faults}"));
        preview.lines().iter().map(|line| line.to_string()[4..].to_owned()).collect()
    };
    let zone = "Australia/Lord_Howe";

    assert_eq!(
        lines(daily().at("02:15").timezone(zone).gap(Gap::Skip).into(), "2026-10-02T20:00:00Z", 1),
        ["2026-10-05 02:15:00 +11:00  before it, 2026-10-04 02:15 does not exist: left out"]
    );
    assert_eq!(
        lines(daily().at("02:15").timezone(zone).gap(Gap::AfterGap).into(), "2026-10-02T20:00:00Z", 1),
        ["2026-10-04 02:30:00 +11:00  02:15 does not exist on this day: the clocks skip 30m"]
    );
    assert_eq!(
        lines(daily().at("01:45").timezone(zone).fold(Fold::Second).into(), "2026-04-04T00:00:00Z", 2),
        [
            "2026-04-05 01:45:00 +10:30  the clocks show it twice: only this second one fires",
            "2026-04-06 01:45:00 +10:30"
        ]
    );
    assert_eq!(
        lines(cron("0,30 * * * *").timezone(zone).into(), "2026-04-04T14:00:00Z", 4),
        [
            "2026-04-05 01:30:00 +11:00  the clocks show it twice: the first of two",
            "2026-04-05 01:30:00 +10:30  the clocks show it twice: the second of two",
            "2026-04-05 02:00:00 +10:30",
            "2026-04-05 02:30:00 +10:30"
        ]
    );
    assert_eq!(
        lines(daily().at("01:45").timezone(zone).into(), "2026-04-04T00:00:00Z", 1),
        ["2026-04-05 01:45:00 +11:00  the clocks show it twice: only this first one fires"]
    );
    // Through all combinators, and with jitter the planned time counts.
    let wrapped = daily()
        .at("01:30")
        .timezone("Europe/Lisbon")
        .except(calendar("x").weekdays([Mon]))
        .or(at("2020-01-01T00:00:00Z"))
        .until("2030-01-01T00:00:00Z")
        .jitter("5m");
    let preview = wrapped.preview(time("2026-03-29T00:00:00Z"), 1).expect("it is right");
    let meant = time("2026-03-29T01:30:00Z").naive_utc();
    assert_eq!(preview.lines()[0].notes, [Note::Shifted { meant, skipped: 3_600_000 }]);
    // On other clocks, the same fire times.
    let in_tokyo = wrapped.preview_in("Asia/Tokyo", time("2026-03-29T00:00:00Z"), 3).expect("it is right");
    assert_eq!(in_tokyo.lines()[0].fire_time.offset().local_minus_utc(), 9 * 3_600);
    let here = wrapped.preview(time("2026-03-29T00:00:00Z"), 3).expect("it is right");
    assert!(in_tokyo.fire_times().eq(here.fire_times()));
    assert!(wrapped.preview_in("Tokio", time("2026-03-29T00:00:00Z"), 3).is_err());
}

/// The lost day of Apia: its time, shifted by a day, meets that of the day after.
#[test]
fn a_preview_tells_of_a_shifted_time_that_meets_another() {
    let text = |definition: Definition, after: &str| {
        let preview = definition.preview(time(after), 2).expect("it is right");
        preview.to_string()
    };

    assert_eq!(
        text(daily().at("09:00").timezone("Pacific/Apia").into(), "2011-12-29T00:00:00Z"),
        "Thu 2011-12-29 09:00:00 -10:00\n\
         Sat 2011-12-31 09:00:00 +14:00  2011-12-30 09:00 does not exist: the clocks skip 1d\n"
    );
    assert_eq!(
        text(
            daily().at(["02:00", "02:30", "03:30"]).timezone("Europe/Berlin").gap(Gap::AfterGap).into(),
            "2026-03-29T00:00:00Z"
        ),
        "Sun 2026-03-29 03:00:00 +02:00  02:00 does not exist on this day: the clocks skip 1h\n\
         Sun 2026-03-29 03:30:00 +02:00\n"
    );
}
