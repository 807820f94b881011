//! Unions of schedules.

use super::*;

#[test]
fn a_union_fires_once_where_its_members_meet() {
    let schedule = any([
        every("6h").into(),
        daily().at(["12:00", "13:00"]).into(),
        at("2026-01-01T13:00:00Z").into(),
        custom(Hours { stands_still: false }).until("2026-01-01T03:00:00Z").into(),
    ]);

    assert_eq!(
        between(schedule, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ["01 01:00", "01 02:00", "01 06:00", "01 12:00", "01 13:00", "01 18:00"]
    );
}

#[test]
fn members_of_a_union_take_its_zone_unless_they_have_their_own() {
    let schedule = any([
        daily().at("09:00").into(),
        daily().at("09:00").timezone("Asia/Tokyo").into(),
        cron("TZ=America/New_York 0 9 * * *").into(),
        any([cron("0 10 * * *").into(), every("7d").into()]).into(),
    ])
    .timezone("Europe/Lisbon");

    assert_eq!(
        between(schedule, "2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"),
        ["01 08:00", "01 09:00", "01 13:00"]
    );
    assert_eq!(
        between(
            any([daily().at("09:00").into(), daily().at("09:00").timezone("Asia/Tokyo").into()])
                .timezone("Europe/Lisbon"),
            "2026-07-01T00:00:01Z",
            "2026-07-02T00:00:00Z"
        ),
        ["01 08:00"]
    );
}

#[test]
fn a_member_whose_search_ends_takes_no_tick_from_the_others() {
    let ticks = calendar("ticks").fire_times(every("1ms").until("2030-01-01T00:00:00Z"));
    let endless = every("1ms").except(&ticks).starting_at("2020-01-01T00:00:00Z");
    let hourly = every("1h").except(calendar("Saturdays").weekdays([Sat]));
    let saturday = time("2026-01-03T10:00:00Z");

    for union in [endless.clone().or(hourly.clone()), hourly.or(endless)] {
        let schedule = good(union);

        assert_eq!(schedule.next_after(saturday), Some(time("2026-01-04T00:00:00Z")), "{schedule}");
        assert_eq!(schedule.previous_before(saturday), Some(time("2026-01-02T23:00:00Z")), "{schedule}");
    }
}
