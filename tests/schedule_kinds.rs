//! Every kind of schedule and every combinator: what fires, what people are told about it, and what is refused.

use std::{fmt, sync::Arc, time::Duration};

use callsheet::{
    Job,
    schedule::{
        Definition, EXCLUDED_MAX, Fold, Gap, IntoSchedule, Note, Schedule, Warning, Weekday::*, any, at,
        calendar, cron, custom, daily, every, monthly, random, weekly,
    },
};
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

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

/// Behaviour 27 of gocron's tests.
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

/// Behaviours 59 and 64 of gocron's tests.
#[test]
fn a_window_includes_its_start_and_excludes_its_end() {
    let definition = || daily().at("09:00").starting_at("2026-01-02T09:00:00Z").until("2026-01-05T09:00:00Z");

    assert_eq!(
        between(definition(), "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ["02 09:00", "03 09:00", "04 09:00"]
    );
    let schedule = good(definition());
    assert_eq!(schedule.next_after(DateTime::<Utc>::MIN_UTC), Some(time("2026-01-02T09:00:00Z")));
    assert_eq!(schedule.previous_before(DateTime::<Utc>::MAX_UTC), Some(time("2026-01-04T09:00:00Z")));
    assert_eq!(schedule.next_after(time("2026-01-04T09:00:00Z")), None);
    assert_eq!(schedule.previous_before(time("2026-01-02T09:00:00Z")), None);
}

/// Behaviours 25 and 55 of gocron's tests: a start in the past needs no tolerance, as nothing counts from
/// now.
#[test]
fn a_start_is_what_periods_are_counted_from() {
    assert_eq!(
        between(
            every("7h").starting_at("2026-01-01T01:00:00Z"),
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00Z"
        ),
        ["01 01:00", "01 08:00", "01 15:00", "01 22:00"]
    );
    assert_eq!(
        between(
            daily().every(3).starting_at("2026-01-02T12:00:00Z"),
            "2026-01-01T00:00:00Z",
            "2026-01-10T00:00:00Z"
        ),
        ["05 00:00", "08 00:00"]
    );
    // The civil day of the anchor is that of the schedule's zone.
    assert_eq!(
        between(
            daily().every(2).anchored_at("2026-01-01T20:00:00Z").timezone("Asia/Tokyo"),
            "2026-01-01T00:00:00Z",
            "2026-01-05T00:00:00Z"
        ),
        ["01 15:00", "03 15:00"]
    );
}

#[test]
fn jitter_delays_and_keeps_order_number_and_window() {
    let planned = good(cron("*/10 * * * *"));
    let jittered = good(cron("*/10 * * * *").jitter("25m").until("2026-01-02T00:00:00Z"));

    let mut now = time("2026-01-01T00:00:00Z") - TimeDelta::milliseconds(1);
    let (mut delays, mut previous) = (Vec::new(), None);
    for nth in 0..144 {
        let tick = time("2026-01-01T00:00:00Z") + TimeDelta::minutes(10 * nth);
        let next = jittered.next_after(now).expect("one for each planned tick");
        assert!(next >= tick && Some(next) < planned.next_after(tick), "{next} for {tick}");
        assert_eq!(
            previous,
            jittered.previous_before(next).filter(|time| *time > now - TimeDelta::minutes(20)).and(previous)
        );
        delays.push(next - tick);
        previous = Some(next);
        now = next;
    }
    assert_eq!(jittered.next_after(now), None, "the window has ended");
    let longest = delays.iter().max().expect("some");
    assert!(*longest > TimeDelta::minutes(9), "the jitter is used: {longest}");
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 140, "they differ");
}

/// What the engine does with a name: the schedule of a job takes it as its seed.
#[test]
fn jobs_spread_and_all_nodes_agree() {
    let of_job = |name: &str| {
        let definition = every("1h").jitter("30m").or(random("1m", "5m"));
        let schedule = good(definition);
        schedule.for_job(name).expect("it depends on the job")
    };
    let now = time("2026-01-01T00:00:00Z");

    assert_eq!(of_job("mail").next_after(now), of_job("mail").next_after(now));
    assert_ne!(of_job("mail").next_after(now), of_job("report").next_after(now));
    assert!(good(cron("0 9 * * *")).for_job("mail").is_none(), "the same for all jobs");
    assert!(good(random("1m", "5m").seed("x")).for_job("mail").is_none(), "it has a seed of its own");
    // Wherever the seed lies.
    let within = any([custom(good(random("1m", "5m"))).into(), at("2020-01-01T00:00:00Z").into()])
        .except(calendar("random").fire_times(random("1h", "2h")))
        .until("2030-01-01T00:00:00Z");
    let within = |name| good(within.clone()).for_job(name).expect("it depends on the job").next_after(now);
    assert_ne!(within("mail"), within("report"));
}

#[test]
fn a_job_takes_its_name_as_the_seed() {
    use callsheet::{Callsheet, testkit::simulate};

    let first_runs = |name: &'static str| {
        let mut started = None;
        simulate("2026-01-01T00:00:00Z", async |rig| {
            let job = Job::new(name, cron("0 * * * *").jitter("30m")).run(async |_| {});
            rig.node(Callsheet::builder().job(job)).await;
            let expected =
                good(cron("0 * * * *").jitter("30m")).for_job(name).expect("it depends on the job");
            let next = expected.next_after(rig.now()).expect("one");
            rig.advance((next - rig.now()).to_std().expect("later") - Duration::from_millis(1)).await;
            let before = rig.started(name);
            rig.advance(Duration::from_millis(2)).await;
            started = Some((before, rig.started(name)));
        });
        started.expect("it ran")
    };

    assert_eq!(first_runs("mail"), (0, 1));
    assert_eq!(first_runs("report"), (0, 1));
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

/// Behaviours 20 to 24 of gocron's tests.
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
    // Saturday the 31st: Friday. Sunday the 1st: Monday. Sunday 31 May: Friday the 29th, as June is another month.
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

/// Behaviours 2 and 29 of gocron's tests.
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

/// Behaviours 1 and 10 of gocron's tests.
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
