//! Schedules without the days and times of a calendar.

use super::*;

#[test]
fn a_calendar_leaves_out_days_of_its_zone() {
    // Two in the morning of the 2nd in Tokyo is the 1st in UTC.
    let night = || cron("0 17 * * *");
    let new_year = || calendar("new year").dates("2026-01-02");

    assert_eq!(between(night(), "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z").len(), 3);
    assert_eq!(
        between(night().except(new_year()), "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ["01 17:00", "03 17:00"]
    );
    assert_eq!(
        between(
            night().except(new_year().timezone("Asia/Tokyo")),
            "2026-01-01T00:00:00Z",
            "2026-01-04T00:00:00Z"
        ),
        ["02 17:00", "03 17:00"]
    );
}

#[test]
fn a_calendar_leaves_out_ranges_weekdays_times_and_fire_times() {
    let six_hours = || every("6h");
    let within =
        |definition: Definition<_>| between(definition, "2026-01-01T23:00:00Z", "2026-01-06T00:00:00Z");

    // 2026-01-03 is a Saturday. Ranges touch, overlap, and stand in any order.
    let days = calendar("days").range("2026-01-05", "2026-01-05").range("2026-01-02", "2026-01-04");
    assert_eq!(within(six_hours().except(days)), Vec::<String>::new());
    let weekend = calendar("weekend").weekdays([Sat, Sun]);
    assert_eq!(
        within(six_hours().except(&weekend)),
        ["02 00:00", "02 06:00", "02 12:00", "02 18:00", "05 00:00", "05 06:00", "05 12:00", "05 18:00"]
    );
    // The end is exclusive, midnight is passed.
    let night = calendar("night").times("18:00", "06:00");
    assert_eq!(
        within(six_hours().except(&weekend).except(night)),
        ["02 06:00", "02 12:00", "05 06:00", "05 12:00"]
    );
    let evening = calendar("evening").times("18:00", "00:00");
    assert_eq!(
        within(six_hours().except(&weekend).except(evening)),
        ["02 00:00", "02 06:00", "02 12:00", "05 00:00", "05 06:00", "05 12:00"]
    );
    let ticks = calendar("ticks").fire_times(daily().at(["06:00", "12:00:01"])).fire_times(every("18h"));
    assert_eq!(
        within(six_hours().except(&weekend).except(ticks)),
        ["02 00:00", "02 18:00", "05 00:00", "05 18:00"]
    );
}

/// The excluded time is looked for by the clocks that are in force at the tick.
#[test]
fn a_calendar_follows_the_changes_of_the_clocks() {
    let quiet = calendar("quiet").times("01:00", "03:00");
    let ticks = |from, to| between(every("30m").timezone("Europe/Lisbon").except(&quiet), from, to);

    // An excluded time that a change of the clocks shortens ends with it.
    let night = calendar("night").times("00:00", "03:00");
    let spring = every("30m").timezone("Europe/Lisbon").except(night);
    assert_eq!(
        between(spring, "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"),
        ["29 02:00", "29 02:30"],
        "03:00 in Lisbon is 02:00 now"
    );
    // In spring, 01:00 to 02:00 does not exist; in autumn it comes twice.
    assert_eq!(ticks("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"), ["29 00:30", "29 02:00", "29 02:30"]);
    assert_eq!(ticks("2026-10-24T23:00:00Z", "2026-10-25T03:31:00Z"), ["24 23:30", "25 03:00", "25 03:30"]);
}

#[test]
fn years_without_a_tick_are_passed_over_at_once() {
    let closed = calendar("closed").range("1900-01-01", "2199-12-31").weekdays([Mon]);

    let schedule = good(every("1ms").except(closed));

    assert_eq!(schedule.next_after(time("2026-01-01T00:00:00Z")), Some(time("2200-01-01T00:00:00Z")));
    assert_eq!(
        schedule.previous_before(time("2026-01-01T00:00:00Z")),
        Some(time("1899-12-31T23:59:59.999Z"))
    );
}

#[test]
fn a_search_through_excluded_ticks_has_an_end() {
    // Every tick before 2200 is left out, one by one.
    let ticks = calendar("ticks").fire_times(every("1s").until("2200-01-01T00:00:00Z"));
    let schedule = good(every("1s").except(&ticks));

    assert_eq!(schedule.next_after(time("2026-01-01T00:00:00Z")), None);
    let edge = time("2200-01-01T00:00:00Z");
    let reach = TimeDelta::seconds(i64::from(EXCLUDED_MAX));
    assert_eq!(schedule.next_after(edge - reach), Some(edge));
    assert_eq!(schedule.next_after(edge - reach - TimeDelta::seconds(2)), None);
}

#[test]
fn excluded_ticks_that_many_schedules_were_asked_about_count_for_more() {
    let edge = time("2200-01-01T00:00:00Z");
    let ticks = (0..32).fold(calendar("ticks"), |ticks, _| ticks.fire_times(every("1s").until(edge)));
    let schedule = good(every("1s").except(&ticks));

    // Each counts three times: once, and once more for every sixteen schedules.
    let reach = TimeDelta::seconds(i64::from(EXCLUDED_MAX) / 3);
    assert_eq!(schedule.next_after(edge - reach), Some(edge));
    assert_eq!(schedule.next_after(edge - reach - TimeDelta::seconds(2)), None);
}
