//! After a step very many timers are made right: the soonest first, and page by page.

use super::*;

/// A job that is due once.
fn once(name: &str, fires: Fires, instant: DateTime<Utc>) -> Job {
    Job::new(name, at(instant)).fires(fires).run(async |_| {})
}

/// More jobs than are woken up at a time, by the names `m-0000` and so on: three days ahead.
fn crowd() -> impl Iterator<Item = Job> {
    (0..3_500).map(|nth| once(&format!("m-{nth:04}"), Fires::Local, at_day(4, "00:00:00")))
}

#[test]
fn after_a_step_those_who_are_due_start_in_the_order_of_their_fire_times() {
    for fires in [Fires::Local, Fires::Leader] {
        simulate(START, async |rig| {
            let due = |nth: i64| at_day(0, "12:00:00") + TimeDelta::milliseconds(100 * nth);
            // The later in the order of names, the sooner.
            let jobs = (0..40).map(|nth| once(&format!("j-{nth:02}"), fires, due(40 - nth)));
            let node = rig.node(node_with(jobs)).await;
            rig.advance(mins(1)).await;

            match fires {
                Fires::Local => rig.set_skew(node, TimeDelta::hours(12)),
                _ => rig.set_store_skew(TimeDelta::hours(12)),
            }
            rig.advance(mins(1)).await;

            let soonest_first: Vec<_> = (0..40).rev().map(|nth| format!("j-{nth:02}")).collect();
            assert_eq!(started(rig).0, soonest_first, "{fires:?}");
        });
    }
}

/// Timers are armed for a day at most, and the step is of two.
#[test]
fn after_a_step_very_many_timers_are_right_before_their_jobs_are_due() {
    simulate(START, async |rig| {
        // Sooner than the last of the others are woken up, as soon as the last of them are, and after all of
        // them.
        let probes = [
            ("z-1", "00:00:00.100"),
            ("z-2", "00:00:15"),
            ("z-3", "00:00:29.9"),
            ("a-4", "00:00:30.1"),
            ("z-5", "00:00:40"),
        ];
        let due = probes.map(|(name, time)| once(name, Fires::Local, at_day(2, time)));
        let node = rig.node(node_with(crowd().chain(due))).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::days(2) - TimeDelta::seconds(10));
        rig.advance(secs(50)).await;

        assert_on_time(rig, &probes.map(|(name, _)| name));
        // And back: nobody is early, and who ran does not run again.
        rig.set_skew(node, TimeDelta::zero());
        rig.advance(hours(1)).await;
        assert_eq!((rig.count(stepped), rig.started("z-5")), (2, 1));
        assert_on_time(rig, &probes.map(|(name, _)| name));
    });
}

#[test]
fn a_second_step_while_timers_are_armed_anew_starts_over() {
    simulate(START, async |rig| {
        let probes = [
            ("a-wall", Fires::Local),
            ("b-store", Fires::Leader),
            ("z-wall", Fires::Local),
            ("z-store", Fires::Leader),
        ];
        let due = probes.map(|(name, fires)| once(name, fires, at_day(2, "00:00:40")));
        rig.set_lease(secs(3));
        let node = rig.node(node_with(crowd().chain(due))).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::days(1));
        // The first page of four is done.
        rig.advance(Duration::from_millis(75)).await;
        rig.set_skew(node, TimeDelta::days(2) - TimeDelta::seconds(10));
        // Again; now the store's clock moves, which is measured by the next heartbeat.
        rig.set_store_skew(TimeDelta::days(2) - TimeDelta::seconds(10));
        rig.advance(secs(45)).await;

        let (mut started, longest) = started(rig);
        started.sort();
        assert_eq!(started, ["a-wall", "b-store", "z-store", "z-wall"]);
        assert!(longest <= Duration::from_millis(5), "one is {longest:?} late");
    });
}

#[test]
fn jobs_come_change_and_go_while_timers_are_armed_anew() {
    simulate(START, async |rig| {
        let late = once("z-late", Fires::Local, at_day(2, "00:00:35"));
        let changed = once("z-changed", Fires::Local, at_day(3, "12:00:00"));
        let removed = once("z-removed", Fires::Local, at_day(2, "00:00:36"));
        let node = rig.node(node_with(crowd().chain([late, changed, removed]))).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::days(2) - TimeDelta::seconds(10));
        rig.advance(Duration::from_millis(75)).await;
        // One that was woken up last before the pause goes, and so does everybody around it.
        let around: Vec<_> =
            (1_990..2_010).map(|nth| format!("m-{nth:04}")).chain(["z-removed".to_owned()]).collect();
        for name in &around {
            rig.send(node, RemoveJobs::new(name.as_str())).await.expect("it is there");
        }
        rig.add(node, once("b-new", Fires::Local, at_day(2, "00:00:33"))).await.expect("it is new");
        rig.update(node, once("z-changed", Fires::Local, at_day(2, "00:00:34"))).await.expect("it is there");
        rig.advance(secs(50)).await;

        assert_on_time(rig, &["b-new", "z-changed", "z-late"]);
    });
}
