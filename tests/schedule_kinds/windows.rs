//! Starts, ends and jitter.

use super::*;

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

/// A start in the past needs no tolerance, as nothing counts from
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
