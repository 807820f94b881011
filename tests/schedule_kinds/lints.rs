//! What is probably not meant, and what is refused.

use super::*;

/// Months are counted from the anchor: some lists of days are never cut short.
#[test]
fn the_lint_warns_of_days_that_a_counted_month_lacks() {
    let now = time("2026-01-01T00:00:00Z");
    let from = |anchor: &str, every, on: &[i32]| {
        let anchor = time(&format!("{anchor}-01T00:00:00Z"));
        monthly().on(on.iter().copied()).every(every).anchored_at(anchor)
    };
    for (anchor, every, on, missing) in [
        // December alone.
        ("2025-12", 12, &[31, -31][..], &[][..]),
        // February alone; -31 and 31 never fire, but the others do.
        ("2026-02", 12, &[28, 29, 30, -28, -31], &[29, 30, -31]),
        // The leap years; 2100 is none.
        ("2024-02", 48, &[29], &[29]),
        // January and July.
        ("2026-01", 6, &[31], &[]),
        // May and November.
        ("2026-05", 6, &[30, 31], &[31]),
        // January, May, September.
        ("2026-01", 4, &[30, 31, -30], &[31]),
        // March, June, September, December.
        ("2026-03", 3, &[-31, 31, 30], &[31, -31]),
        // February is one of the even months.
        ("2025-12", 2, &[28, 29, 30], &[29, 30]),
        // The odd ones: all but September and November have 31.
        ("2025-11", 2, &[30, 31], &[31]),
        // Each month in turn.
        ("2026-01", 5, &[28, 29], &[29]),
        ("2026-01", 1, &[28, 29, 31], &[29, 31]),
        // Before the year 0.
        ("-0001-12", 1_200, &[31], &[]),
    ] {
        let expected: Vec<_> = missing.iter().map(|day| Warning::MissingDay { day: *day }).collect();
        let definition = from(anchor, every, on);
        let found = |definition: Definition| {
            let mut warnings =
                definition.lint(now).unwrap_or_else(|faults| panic!("{anchor} {every}: {faults}"));
            // Of a hundred years, and of Februaries with 29 days.
            warnings.retain(|warning| !matches!(warning, Warning::Far { .. }));
            warnings
        };
        assert_eq!(found(definition.clone().into()), expected, "{anchor} {every} {on:?}");
        // Wherever it stands.
        let within = any([definition.starting_at(now).jitter("1m").into()]).until("2400-01-01T00:00:00Z");
        assert_eq!(found(within.into()), expected, "{anchor} {every} {on:?}, within");
    }
}

#[test]
fn the_lint_warns_of_what_is_probably_not_meant() {
    let now = time("2026-01-01T00:00:00Z");
    let warnings = |definition: Definition| definition.lint(now).unwrap_or_else(|faults| panic!("{faults}"));
    let uneven = |field: &str, unit, whole| Warning::UnevenStep { field: field.into(), unit, whole };

    for quiet in [
        cron("0 9 * * 1-5").into(),
        cron("*/15 * * * *").timezone("Europe/Lisbon").into(),
        cron("0 0 1,31 * *").into(),
        cron("0 0 28-31 * *").into(),
        cron("0 0 31 12 *").into(),
        cron("0 0 31 JAN,3,5,7-8 *").into(),
        cron("0 0 30 3-12 *").into(),
        cron("0 0 29 1,4 *").into(),
        cron("* * * * 1-5").into(),
        every("7m").jitter("1m").into(),
        daily().at("03:30").timezone("Europe/Lisbon").into(),
        monthly().on([-1, 28]).into(),
        monthly().on([31]).every(12).anchored_at("2025-12-01T00:00:00Z").into(),
        at("2026-12-24T18:00:00Z").into(),
    ] {
        let quiet: Definition = quiet;
        assert_eq!(warnings(quiet.clone()), [], "{quiet:?}");
    }
    for (cron_text, times) in [("* 9 * * *", 60), ("0,30 * 9 * * *", 120), ("* * 9 * * *", 3_600)] {
        assert_eq!(warnings(cron(cron_text).into()), [Warning::EveryMinuteOfAnHour { times }], "{cron_text}");
    }
    for (cron_text, times) in [("* * 1 * *", 1_440), ("* * * 1 * *", 86_400), ("* * 1-7 6 *", 1_440)] {
        assert_eq!(warnings(cron(cron_text).into()), [Warning::EveryMinuteOfADay { times }], "{cron_text}");
    }
    let texts = ["* * 9 * * *", "* * * 1 * *"].map(|text| warnings(cron(text).into())[0].to_string());
    assert!(texts[0].starts_with("it fires 3,600 times in each of these hours: "), "{}", texts[0]);
    assert!(texts[1].starts_with("it fires 86,400 times on each of these days: "), "{}", texts[1]);
    assert_eq!(warnings(cron("* 0 9 * * *").into()), [Warning::EverySecondOfAMinute]);
    assert_eq!(
        warnings(cron("*/7 */5 * * *").into()),
        [uneven("*/7", "minute", "hour"), uneven("*/5", "hour", "day")]
    );
    assert_eq!(warnings(cron("0 0 */2 * *").into()), [uneven("*/2", "day", "month")]);
    for (cron_text, day) in [
        ("0 0 31 * *", 31),
        ("0 0 31 11,12 *", 31),
        ("0 0 30 1-3 *", 30),
        ("0 0 29 2 *", 29),
        ("0 0 29 * *", 29),
    ] {
        assert_eq!(warnings(cron(cron_text).into()), [Warning::MissingDay { day }], "{cron_text}");
    }
    assert_eq!(
        warnings(monthly().on([30, -31]).into()),
        [Warning::MissingDay { day: 30 }, Warning::MissingDay { day: -31 }]
    );
    assert_eq!(warnings(cron("0 0 13 * FRI").into()), [Warning::EitherDay]);
    let in_gap = |gap, meant: &str| {
        let meant = time(meant).naive_utc();
        vec![Warning::InGap { meant, gap, zone: "Europe/Lisbon".into() }]
    };
    assert_eq!(
        warnings(daily().at("01:30").timezone("Europe/Lisbon").into()),
        in_gap(Gap::Shift, "2026-03-29T01:30:00Z")
    );
    // The star of the minute makes it a pattern, but it has no other hour to fire in.
    assert_eq!(
        warnings(cron("*/30 1 * * *").timezone("Europe/Lisbon").into()),
        in_gap(Gap::Skip, "2026-03-29T01:00:00Z")
    );
    assert_eq!(
        warnings(at("2031-01-02T12:00:00Z").into()),
        [Warning::Far { next: time("2031-01-02T12:00:00Z") }]
    );
    assert_eq!(warnings(at("2025-01-01T00:00:00Z").into()), [Warning::Exhausted]);
    assert_eq!(warnings(every("1m").jitter("1m").into()), [Warning::CutJitter]);
    // Only the gaps within the window count, and a window far ahead has its own.
    let nightly = || daily().at("01:30").timezone("Europe/Lisbon");
    assert_eq!(warnings(nightly().until("2026-03-29T00:00:00Z").into()), []);
    assert_eq!(
        warnings(nightly().starting_at("2029-01-01T00:00:00Z").into()),
        [Warning::InGap {
            meant: "2029-03-25T01:30:00".parse().expect("a time"),
            gap: Gap::Shift,
            zone: "Europe/Lisbon".into()
        }]
    );
    // Those of members are found as well, and said once.
    assert_eq!(warnings(cron("0 0 13 * FRI").or(cron("1 0 13 * FRI")).into()), [Warning::EitherDay]);
}

#[test]
fn what_never_fires_is_refused() {
    let refused = |definition: Definition| definition.check().expect_err("it never fires").to_string();

    assert_eq!(
        refused(at("2026-01-01T00:00:00Z").until("2026-01-01T00:00:00Z").into()),
        "schedule \"at 2026-01-01T00:00:00Z until 2026-01-01T00:00:00Z\": it never fires: nothing is left of it; leave \
         out less, or open the window"
    );
    assert_eq!(
        refused(weekly().on([Mon]).except(calendar("Mondays").weekdays([Mon])).into()),
        "schedule \"weekly on mon at 00:00 (UTC) except Mondays\": it never fires: nothing is left of it; leave out \
         less, or open the window"
    );
    let same = calendar("same").fire_times(every("1h"));
    assert!(refused(every("2h").except(same).into()).contains("it never fires"));
    assert_eq!(
        daily().until("1971-01-01T00:00:00Z").check(),
        Ok(()),
        "the past is a time, too: whether it ever fires again depends on now"
    );
    let past = every("1s").except(calendar("ticks").fire_times(every("1s").until("2026-01-01T00:00:00Z")));
    assert_eq!(
        past.check(),
        Ok(()),
        "it fires from 2026 on, however long the search from the beginning of time"
    );
}

#[test]
fn bad_values_are_refused_with_path_rule_and_cure() {
    let holidays = || calendar("holidays");
    let table: Vec<(Definition, &str)> = vec![
        (
            daily().every(0).at(["24:00", "9 o'clock", "12:60"]).into(),
            "daily.every \"0\": it is a number from 1 to 36525 (a hundred years); choose one of these\n\
             daily.at[0] \"24:00\": a day ends before 24:00; write `00:00`, which begins the following day\n\
             daily.at[1] \"9 o'clock\": this is not a time of day; write hours and minutes, for example `09:30`, or \
             with seconds `18:00:15`\n\
             daily.at[2] \"12:60\": a minute is a number from 0 to 59; write hours and minutes, for example `09:30`, or \
             with seconds `18:00:15`",
        ),
        (
            daily().at(NaiveTime::from_hms_milli_opt(9, 30, 0, 1).expect("a time")).into(),
            "daily.at \"09:30:00.001\": a time of day is a whole number of seconds; round it to seconds",
        ),
        (
            weekly().every(5_218).into(),
            "weekly.every \"5218\": it is a number from 1 to 5217 (a hundred years); choose one of these\n\
             weekly.on \"\": the list of weekdays is empty, so the schedule would never fire; give at least one weekday",
        ),
        (
            weekly().on(["mon", "moon"]).week_start("first").into(),
            "weekly.on[1] \"moon\": this is not a day of the week; write `mon`, `tue`, `wed`, `thu`, `fri`, `sat` or \
             `sun`\n\
             weekly.week_start \"first\": this is not a day of the week; write `mon`, `tue`, `wed`, `thu`, `fri`, `sat` \
             or `sun`",
        ),
        (
            monthly().on([0, 32, -32]).into(),
            "monthly.on[0] \"0\": it is a number from 1 to 31, or from -1 to -31; write for example 1, 15 or -1 (the \
             last day)\n\
             monthly.on[1] \"32\": it is a number from 1 to 31, or from -1 to -31; write for example 1, 15 or -1 (the \
             last day)\n\
             monthly.on[2] \"-32\": it is a number from 1 to 31, or from -1 to -31; write for example 1, 15 or -1 (the \
             last day)",
        ),
        (
            monthly().into(),
            "monthly.on \"\": the list of days is empty, so the schedule would never fire; give at least one day",
        ),
        (
            cron("@every 5m").gap(Gap::Skip).fold(Fold::First).into(),
            "gap \"skip\": `@every` has no civil times, so that `gap` means nothing; remove it\n\
             fold \"first\": `@every` has no civil times, so that `fold` means nothing; remove it",
        ),
        (
            random("5m", "1m").into(),
            "random \"5m to 1m\": the shortest interval is longer than the longest; write the shorter one first",
        ),
        (
            random("0s", "1").into(),
            "random.min \"0s\": a period is not zero; write a period of at least 1 ms\n\
             random.max \"1\": `1` has no unit; write whole numbers with the units w, d, h, m, s and ms, largest first, \
             for example `1h30m`",
        ),
        (
            any([]).into(),
            "any \"\": the list of schedules is empty, so the schedule would never fire; give at least one schedule",
        ),
        (
            any([every("1h").into(), daily().at("25:00").into()]).into(),
            "any[1].daily.at[0] \"25:00\": an hour is a number from 0 to 23; write hours and minutes, for example \
             `09:30`, or with seconds `18:00:15`",
        ),
        (
            custom(every("0s")).timezone("Mars").into(),
            "every \"0s\": a period is not zero; write a period of at least 1 ms\n\
             timezone \"Mars\": `Mars` is not the IANA name of a time zone; write for example `Europe/Lisbon`, \
             `America/New_York` or `UTC`",
        ),
        (
            every("1h").starting_at("tomorrow").until("2026-01-01").jitter(Duration::ZERO).into(),
            "starting_at \"tomorrow\": this is not an RFC 3339 time; write date, time and offset, for example \
             `2026-12-24T18:00:00Z`\n\
             until \"2026-01-01\": this is not an RFC 3339 time; write date, time and offset, for example \
             `2026-12-24T18:00:00Z`\n\
             jitter \"0s\": jitter is not zero; write a period of at least 1 ms",
        ),
        (
            every("1h").starting_at("2026-01-01T00:00:00Z").until("2026-01-01T00:00:00Z").into(),
            "until \"2026-01-01T00:00:00Z to 2026-01-01T00:00:00Z\": the schedule ends before it starts; write an end \
             after the start",
        ),
        (
            every("1h").except(holidays()).into(),
            "except[0].calendar \"holidays\": it leaves out nothing; give it dates, ranges, weekdays, times or \
             schedules, or remove it",
        ),
        (
            every("1h")
                .except(
                    holidays()
                        .dates(["24.12.2026", "2026-02-29"])
                        .range("2026-12-31", "2026-12-30")
                        .times("12:00", "12:00")
                        .weekdays(["someday"])
                        .timezone("Nowhere"),
                )
                .into(),
            "except[0].timezone \"Nowhere\": `Nowhere` is not the IANA name of a time zone; write for example \
             `Europe/Lisbon`, `America/New_York` or `UTC`\n\
             except[0].dates[0] \"24.12.2026\": this is not a date; write year, month and day, for example \
             `2026-12-24`\n\
             except[0].dates[1] \"2026-02-29\": there is no such day in the calendar; write year, month and day, for \
             example `2026-12-24`\n\
             except[0].ranges[0] \"2026-12-31 to 2026-12-30\": the range ends before it starts; write the earlier date \
             first\n\
             except[0].weekdays[0] \"someday\": this is not a day of the week; write `mon`, `tue`, `wed`, `thu`, `fri`, \
             `sat` or `sun`\n\
             except[0].times[0] \"12:00 to 12:00\": the time ends where it starts; write a later end; use `weekdays` or \
             `dates` for whole days",
        ),
        (
            every("1h").except(holidays().weekdays([Mon, Tue, Wed, Thu, Fri, Sat, Sun])).into(),
            "except[0].weekdays \"\": all days of the week are left out, so the schedule would never fire; leave a day",
        ),
        (
            every("1h")
                .except(calendar("").fire_times(every("2h").except(holidays().dates("2026-12-25"))))
                .into(),
            "except[0].name \"\": a name has 1 to 200 bytes; shorten it, or write one\n\
             except[0].schedules[0].except \"\": the schedule of a calendar has no exceptions of its own; move them to \
             the schedule itself",
        ),
    ];
    for (definition, expected) in table {
        let faults = definition.check().expect_err(expected);

        assert_eq!(faults.to_string(), expected);
        assert_eq!(definition.into_schedule().map(|schedule| schedule.to_string()), Err(faults));
    }
}
