//! What becomes of the jobs on one store is nothing to those on another.

use callsheet::{
    Callsheet, EventFilter, EventKind, EventName, Job, Overlap, Problem, WhenFull,
    schedule::every,
    testkit::{Rig, simulate},
};

use super::{
    CRITICAL, START, both,
    common::{obedient, secs},
    each_second, node,
};

/// How often both jobs ran.
fn ran(rig: &Rig) -> [usize; 2] {
    ["rest", "invoices"].map(|job| rig.started(job))
}

#[test]
fn jobs_on_two_stores_run_each_tick_once() {
    simulate(START, async |rig| {
        for _ in 0..3 {
            rig.node(both()).await;
        }

        rig.advance(secs(60)).await;

        for ran in ran(rig) {
            assert!((59..=61).contains(&ran), "{ran}");
        }
        let labels = ["name=rest", "name=invoices,backend=critical"];
        let [rest, invoices] = labels.map(|label| rig.counter("callsheet_ticks_total", label));
        assert!(rest > 0 && invoices > 0, "{rest}, {invoices}");
        assert_eq!(rig.counter("callsheet_ticks_total", "name=rest,backend=critical"), 0);
    });
}

#[test]
fn a_store_that_no_node_reaches_stops_its_own_jobs_and_no_others() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let nodes = [rig.node(both()).await, rig.node(both()).await];
        rig.advance(secs(10)).await;

        nodes.iter().for_each(|node| rig.cut_off_from(*node, CRITICAL, true));
        rig.advance(secs(10)).await;
        let before = ran(rig);
        rig.advance(secs(60)).await;
        let meanwhile = ran(rig);

        assert_eq!(meanwhile[1], before[1], "nobody may decide its ticks");
        assert!(meanwhile[0] >= before[0] + 59, "{before:?} {meanwhile:?}");
        let health = Callsheet::of_rig(rig, nodes[0]).health().await.expect("it runs");
        assert!(health.live && !health.ready && !health.healthy, "{health:?}");
        let is_silent = |problem: &Problem| matches!(problem, Problem::NoSession { .. });
        assert!(health.problems.iter().any(is_silent), "{health:?}");
        assert!(health.named[CRITICAL].problems.iter().any(is_silent), "{health:?}");

        nodes.iter().for_each(|node| rig.cut_off_from(*node, CRITICAL, false));
        rig.advance(secs(60)).await;
        assert!(ran(rig)[1] >= meanwhile[1] + 50, "{:?}", ran(rig));
        let health = Callsheet::of_rig(rig, nodes[0]).health().await.expect("it runs");
        assert!(health.healthy && health.jobs == 2, "{health:?}");
    });
}

#[test]
fn each_store_has_a_leader_of_its_own() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let nodes = [rig.node(both()).await, rig.node(both()).await];
        rig.advance(secs(10)).await;
        assert_eq!((rig.leader(), rig.leader_on(CRITICAL)), (Some(nodes[0]), Some(nodes[0])));

        rig.cut_off_from(nodes[0], CRITICAL, true);
        rig.advance(secs(30)).await;

        assert_eq!((rig.leader(), rig.leader_on(CRITICAL)), (Some(nodes[0]), Some(nodes[1])));
        let before = ran(rig);
        rig.advance(secs(10)).await;
        assert!(ran(rig).iter().zip(before).all(|(now, before)| *now >= before + 9), "{:?}", ran(rig));
    });
}

#[test]
fn a_node_that_dies_is_replaced_on_both_stores() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let nodes = [rig.node(both()).await, rig.node(both()).await];
        rig.advance(secs(10)).await;

        rig.kill(nodes[0]);
        rig.advance(secs(20)).await;

        assert_eq!((rig.leader(), rig.leader_on(CRITICAL)), (Some(nodes[1]), Some(nodes[1])));
        let before = ran(rig);
        rig.advance(secs(10)).await;
        assert!(ran(rig).iter().zip(before).all(|(now, before)| *now >= before + 9), "{:?}", ran(rig));
    });
}

#[test]
fn a_node_that_resigns_leaves_the_lead_on_all_stores() {
    simulate(START, async |rig| {
        let nodes = [rig.node(both()).await, rig.node(both()).await];
        rig.advance(secs(10)).await;

        assert!(Callsheet::of_rig(rig, nodes[0]).resign().await.expect("it runs"));
        rig.advance(secs(10)).await;

        assert_eq!((rig.leader(), rig.leader_on(CRITICAL)), (Some(nodes[1]), Some(nodes[1])));
    });
}

/// A job that takes ten seconds, and starts each minute.
fn long(name: &str) -> Job {
    Job::new(name, every(secs(60))).overlap(Overlap::Skip).run(async |run| obedient(run, secs(10)).await)
}

#[test]
fn a_shutdown_drains_the_runs_on_all_stores_within_one_deadline() {
    simulate(START, async |rig| {
        let node = rig.node(node([long("rest"), long("invoices").on(CRITICAL)])).await;
        rig.advance(secs(61)).await;
        let handle = Callsheet::of_rig(rig, node);
        let began = rig.now();

        let report = handle.shutdown(secs(3)).await;

        assert_eq!((report.cancelled, report.drained, report.still_running), (2, 0, 0), "{report:?}");
        assert_eq!(report.given_to_others, 2, "{report:?}");
        let mut left: Vec<_> = report.left.iter().map(|(job, _)| job.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["invoices", "rest"]);
        let took = rig.now() - began;
        assert!(took.num_milliseconds() < 5_000, "{took}");
        assert_eq!(handle.shutdown(secs(3)).await, report, "whoever asks again gets the same report");
    });
}

#[test]
fn the_bound_of_runs_in_progress_holds_over_all_stores() {
    simulate(START, async |rig| {
        let jobs = [long("rest"), long("invoices").on(CRITICAL)];
        rig.node(node(jobs).max_concurrent_runs(1)).await;

        // Both are due at once.
        rig.advance(secs(65)).await;
        assert_eq!(ran(rig).iter().sum::<usize>(), 1, "one waits for the other: {}", rig.transcript());
        rig.advance(secs(10)).await;

        assert_eq!(ran(rig), [1, 1], "{}", rig.transcript());
    });
}

#[test]
fn where_runs_do_not_wait_one_store_takes_the_place_of_the_other() {
    simulate(START, async |rig| {
        let jobs = [long("rest"), long("invoices").on(CRITICAL)];
        rig.node(node(jobs).max_concurrent_runs(1).when_full(WhenFull::Skip)).await;

        rig.advance(secs(75)).await;

        assert_eq!(ran(rig).iter().sum::<usize>(), 1, "{}", rig.transcript());
    });
}

#[test]
fn a_stream_and_a_listener_hear_of_the_jobs_on_all_stores() {
    simulate(START, async |rig| {
        let node = rig.node(both()).await;
        let handle = Callsheet::of_rig(rig, node);
        let mut starts = handle.events(EventFilter::new().kinds([EventName::RunStarted]));

        rig.advance(secs(5)).await;
        let mut heard = std::collections::BTreeSet::new();
        while heard.len() < 2 {
            let event = starts.next().await.expect("the engine runs");
            if let EventKind::RunStarted { job, .. } = event.kind {
                heard.insert(job.as_str().to_owned());
            }
        }
        handle.shutdown(secs(1)).await;
        while starts.next().await.is_some() {}
        assert_eq!(heard.into_iter().collect::<Vec<_>>(), ["invoices", "rest"]);
    });
}

#[test]
fn a_job_that_is_added_later_is_put_on_the_store_that_it_names() {
    simulate(START, async |rig| {
        let node = rig.node(node([])).await;
        let handle = Callsheet::of_rig(rig, node);

        handle.add(each_second("rest")).await.expect("it is new");
        handle.add(each_second("invoices").on(CRITICAL)).await.expect("it is new");
        rig.advance(secs(5)).await;

        assert!(ran(rig).iter().all(|ran| *ran >= 4), "{:?}", ran(rig));
        assert!(rig.counter("callsheet_ticks_total", "name=invoices,backend=critical") > 0);
        assert_eq!(rig.counter("callsheet_ticks_total", "name=rest,backend=critical"), 0);
    });
}
