//! Nodes that are cut off, killed, or come late: at the end all hold what the catalogue has.

use super::*;

#[test]
fn a_node_that_was_cut_off_catches_up() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let done = Done::default();
        for _ in 0..3 {
            rig.node(node(&done)).await;
        }
        rig.advance(secs(1)).await;
        put(rig, 0, "goes", says("x")).await;
        put(rig, 0, "stays", says("x")).await;
        rig.advance(secs(1)).await;

        rig.cut_off(2);
        rig.send(0, DeleteJob::new("goes")).await.expect("it is stored");
        put(rig, 1, "comes", says("x")).await;
        rig.advance(mins(10)).await;
        assert_eq!(held(rig, 1).await, ["comes", "stays"]);
        rig.reconnect(2);
        rig.advance(secs(10)).await;

        assert_eq!(held(rig, 2).await, ["comes", "stays"]);
    });
}

#[test]
fn what_is_asked_of_the_cluster_holds_on_each_node_or_names_the_node() {
    simulate(START, async |rig| {
        rig.set_lease(secs(600));
        let done = Done::default();
        for _ in 0..3 {
            rig.node(node(&done)).await;
        }
        rig.advance(secs(1)).await;
        let cluster = Callsheet::of_rig(rig, 1).cluster();

        let put = cluster.put("report", &stored(says("x"))).await.expect("it is right");
        assert_eq!(put.unconfirmed, []);
        for node in 0..3 {
            assert_eq!(held(rig, node).await, ["report"], "node {node} has confirmed it");
        }
        let read = rig.send(2, StoredDetails("report".to_owned())).await.expect("it is stored");
        assert_eq!(read.version, put.version);

        rig.cut_off(2);
        let deleted = cluster.delete("report").await.expect("it is stored");
        let unconfirmed: Vec<_> = deleted.unconfirmed.iter().map(|one| (&*one.name, &one.why)).collect();
        assert_eq!(unconfirmed, [("n3", &WhyUnconfirmed::NoAnswer)]);
        assert!(deleted.version > put.version);
        for node in 0..2 {
            assert_eq!(held(rig, node).await, [""; 0]);
        }
        rig.reconnect(2);
        rig.advance(secs(10)).await;
        assert_eq!(held(rig, 2).await, [""; 0]);
    });
}

#[test]
fn a_node_that_keeps_no_stored_job_does_not_hold_up_a_change() {
    simulate(START, async |rig| {
        rig.node(node(&Done::default())).await;
        rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let before = rig.now();

        let put = Callsheet::of_rig(rig, 0).cluster().put("report", &stored(says("x"))).await;

        assert_eq!(put.expect("it is right").unconfirmed, []);
        assert!((rig.now() - before).num_seconds() < 1, "nobody waits for its deadline");
    });
}

#[test]
fn a_hint_that_is_lost_delays_a_change_by_a_second() {
    simulate(START, async |rig| {
        let done = Done::default();
        for _ in 0..2 {
            rig.node(node(&done)).await;
        }
        rig.advance(secs(1)).await;
        rig.store().set_silent(true);

        put(rig, 0, "report", says("x")).await;
        rig.advance(secs(2)).await;

        assert_eq!(held(rig, 1).await, ["report"]);
    });
}

#[test]
fn a_thousand_jobs_are_on_all_nodes_at_the_end_whoever_dies_meanwhile() {
    simulate(START, async |rig| {
        let done = Done::default();
        for _ in 0..3 {
            rig.node(node(&done)).await;
        }
        rig.advance(secs(1)).await;
        for nth in 0..1_000 {
            put(rig, nth % 2, &format!("job {nth:04}"), says("x")).await;
            match nth {
                300 => rig.cut_off(2),
                600 => rig.reconnect(2),
                800 => rig.kill(2),
                _ => {}
            }
        }
        let late = rig.node(node(&done)).await;
        rig.advance(secs(30)).await;

        for index in [0, 1, late] {
            let mut names = Vec::new();
            let mut list = ListJobs::default();
            loop {
                let page = rig.send(index, list.clone()).await;
                names.extend(page.jobs.iter().map(|job| job.name.to_string()));
                let Some(next) = page.next else { break };
                list = list.after(next);
            }
            let expected: Vec<_> = (0..1_000).map(|nth| format!("job {nth:04}")).collect();
            assert_eq!(names, expected, "{index}");
        }
    });
}
