//! Who fires a job that is added at runtime, and who is told: definitions in code are each node's own.

use callsheet::{Added, EventKind, Fires, Job, Scheduled, TriggerJob, schedule::every, testkit::simulate};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn job(name: &str, period: u64) -> Job {
    Job::new(name, every(secs(period))).run(async |_| {})
}

#[test]
fn whoever_adds_a_job_is_told_who_fires_it() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([job("both", 10)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let scheduled = |added: Result<Added, _>| added.expect("it is right").scheduled;

        assert_eq!(scheduled(rig.add(leader, job("late", 10)).await), Scheduled::Here);
        assert_eq!(scheduled(rig.add(follower, job("both", 10)).await), Scheduled::ByLeader);
        assert_eq!(scheduled(rig.add(follower, job("alone", 10)).await), Scheduled::ByHolders);
        let local = job("local", 10).fires(Fires::Local);
        assert_eq!(scheduled(rig.add(follower, local).await), Scheduled::Here);

        rig.advance(secs(20)).await;
        assert_eq!(rig.started("both"), 2, "once per tick");
        assert_eq!(rig.started("alone"), 2, "the follower claims it, as it said");
        assert_eq!(rig.started("local"), 2);

        rig.kill(leader);
        rig.advance(secs(20)).await;
        assert_eq!(rig.started("alone"), 4, "and goes on when it leads");
    });
}

#[test]
fn a_store_that_does_not_answer_leaves_the_job_added_and_the_question_open() {
    simulate(START, async |rig| {
        rig.node(node_with([job("both", 10)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;

        rig.cut_off(follower);
        let added = rig.add(follower, job("both", 10)).await.expect("it is right");

        assert!(matches!(added.scheduled, Scheduled::Unknown { .. }), "{added:?}");
        rig.reconnect(follower);
        rig.advance(secs(20)).await;
        assert_eq!(rig.started("both"), 2, "once per tick");
    });
}

#[test]
fn a_trigger_runs_on_the_follower_that_received_it() {
    simulate(START, async |rig| {
        rig.node(node_with([job("both", 3600)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job("both", 3600)])).await;
        rig.advance(secs(1)).await;

        let run = rig.send(follower, TriggerJob("both".to_owned())).await.expect("it starts").run();
        rig.advance(secs(1)).await;

        let started_here =
            |kind: &EventKind| matches!(kind, EventKind::RunStarted { run: started, .. } if *started == run);
        assert_eq!(rig.count(started_here), 1);
        assert_eq!(rig.started("both"), 1);
    });
}
