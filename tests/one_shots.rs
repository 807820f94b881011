//! Jobs that are removed once they are done.

use callsheet::{
    EventKind, Fires, Job, JobDetails, JobState, Misfire, OnLost, Overlap, PauseJobs, ResumeJobs, Retry,
    Shutdown, UpdateJob,
    schedule::{at, every},
    testkit::{NodeIndex, Rig, simulate},
};

mod common;
use common::{mins, node_with, obedient, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";
const SOON: &str = "2026-01-05T00:00:10Z";

async fn state(rig: &mut Rig, node: NodeIndex, job: &str) -> Option<JobState> {
    rig.send(node, JobDetails(job.to_owned())).await.map(|job| job.state)
}

fn removed(rig: &Rig) -> usize {
    rig.count(|kind| matches!(kind, EventKind::JobRemoved { .. }))
}

#[test]
fn a_one_shot_is_removed_when_its_run_has_ended() {
    for fires in [Fires::Leader, Fires::AnyNode, Fires::Local] {
        simulate(START, async move |rig| {
            let node = rig.node(node_with([])).await;
            let once =
                || Job::new("once", at(SOON)).fires(fires).run(async |run| obedient(run, secs(5)).await);
            let gone = Job::new("gone", at(SOON)).fires(fires).remove_when_done();
            let gone = gone.run(async |run| obedient(run, secs(5)).await);
            rig.add(node, once()).await.expect("it is right");
            rig.add(node, gone).await.expect("it is right");

            rig.advance(secs(12)).await;
            assert_eq!(state(rig, node, "gone").await, Some(JobState::Running), "{fires:?}");
            rig.advance(secs(10)).await;

            assert_eq!(state(rig, node, "gone").await, None, "{fires:?}");
            assert_eq!(state(rig, node, "once").await, Some(JobState::Exhausted), "{fires:?}");
            assert_eq!((rig.started("gone"), removed(rig)), (1, 1), "{fires:?}");
        });
    }
}

#[test]
fn a_one_shot_that_fails_is_removed_after_its_last_attempt() {
    simulate(START, async |rig| {
        let retry = Retry::attempts(3).initial(secs(10)).jitter(0.0);
        let job = Job::new("job", at(SOON)).retry(retry).remove_when_done().run(async |_| Err::<(), _>("no"));
        let node = rig.node(node_with([job])).await;

        rig.advance(secs(25)).await;
        assert_eq!(state(rig, node, "job").await, Some(JobState::Running), "between two attempts");
        rig.advance(secs(60)).await;

        assert_eq!(state(rig, node, "job").await, None);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunFailed { .. })), 1);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunRetried { .. })), 2);
    });
}

#[test]
fn a_job_with_a_limit_is_removed_after_its_last_run() {
    simulate(START, async |rig| {
        let job = Job::new("job", every(secs(10))).limit(2).remove_when_done().run(async |_| {});
        let node = rig.node(node_with([job])).await;

        rig.advance(secs(15)).await;
        assert_eq!((rig.started("job"), removed(rig)), (1, 0));
        rig.advance(secs(60)).await;

        assert_eq!(state(rig, node, "job").await, None);
        assert_eq!((rig.started("job"), removed(rig)), (2, 1));
    });
}

/// The leader lets go of a job that is done. The copies of other nodes do not begin a count of their own.
#[test]
fn a_job_with_a_limit_is_done_on_every_node_that_holds_it() {
    for fires in [Fires::Leader, Fires::AnyNode] {
        simulate(START, async move |rig| {
            let limited = || Job::new("job", every(secs(10))).fires(fires).limit(2).remove_when_done();
            for _ in 0..3 {
                rig.node(node_with([limited().run(async |_| {})])).await;
            }

            rig.advance(mins(10)).await;

            assert_eq!(rig.started("job"), 2, "{fires:?}: {}", rig.transcript());
            for node in 0..3 {
                assert_eq!(state(rig, node, "job").await, None, "{fires:?}, node {node}");
            }
            assert_eq!(removed(rig), 3, "{fires:?}");
        });
    }
}

#[test]
fn a_name_that_was_used_up_begins_a_new_count_when_added_again() {
    for fires in [Fires::Leader, Fires::Local] {
        simulate(START, async move |rig| {
            let node = rig.node(node_with([])).await;
            for round in 1..=3 {
                let limited = Job::new("job", every(secs(10))).fires(fires).limit(2).remove_when_done();
                rig.add(node, limited.run(async |_| {})).await.expect("its name is free");
                rig.advance(mins(1)).await;
                assert_eq!((rig.started("job"), removed(rig)), (2 * round, round), "{fires:?}");
            }
        });
    }
}

#[test]
fn a_one_shot_that_is_held_by_a_pause_stays_until_it_has_run() {
    simulate(START, async |rig| {
        let job = Job::new("job", at(SOON)).remove_when_done().run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.send(node, PauseJobs::new("job")).await.expect("it is there");
        rig.advance(secs(60)).await;
        assert_eq!(state(rig, node, "job").await, Some(JobState::Paused));

        rig.send(node, ResumeJobs::new("job")).await.expect("it is there");
        rig.advance(secs(5)).await;

        assert_eq!((rig.started("job"), state(rig, node, "job").await), (1, None));
    });
}

#[test]
fn a_one_shot_whose_tick_is_skipped_is_removed_once_the_store_knows() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let skip = Job::new("job", at(SOON)).misfire(Misfire::Skip).remove_when_done().run(async |_| {});
        let node = rig.node(node_with([skip])).await;
        rig.advance(secs(1)).await;
        rig.freeze(node);
        rig.advance(secs(60)).await;

        rig.thaw(node);
        rig.advance(secs(30)).await;

        assert_eq!((rig.started("job"), state(rig, node, "job").await), (0, None));
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=misfire"), 1);
    });
}

#[test]
fn a_one_shot_that_gets_another_fire_time_stays_for_it() {
    simulate(START, async |rig| {
        let job = |time: &str| Job::new("job", at(time)).remove_when_done().run(async |_| {});
        let node = rig.node(node_with([job(SOON)])).await;
        rig.advance(secs(5)).await;

        rig.update(node, job("2026-01-05T00:00:30Z")).await.expect("it is right");
        rig.advance(secs(20)).await;
        assert_eq!(state(rig, node, "job").await, Some(JobState::Scheduled));
        rig.advance(secs(20)).await;

        assert_eq!((rig.started("job"), state(rig, node, "job").await), (1, None));
        assert!(
            rig.send(node, UpdateJob::new(job("2026-01-05T01:00:00Z"))).await.is_err(),
            "its name is free"
        );
    });
}

/// Fires once, for ten minutes, and goes on elsewhere if its node is lost.
fn retried(fires: Fires) -> Job {
    let job = Job::new("job", at(SOON)).fires(fires).on_lost(OnLost::Retry).remove_when_done();
    job.run(async |run| obedient(run, mins(10)).await)
}

#[test]
fn who_ran_nothing_of_a_one_shot_keeps_it_for_the_run_that_is_lost() {
    for fires in [Fires::Leader, Fires::AnyNode] {
        simulate(START, async move |rig| {
            for _ in 0..3 {
                rig.node(node_with([retried(fires)])).await;
            }
            rig.advance(secs(60)).await;
            let first = starts(rig, "job");
            assert_eq!((first.len(), removed(rig)), (1, 0), "{fires:?}: {first:?}");
            let nodes = ["n1 00:00:10", "n2 00:00:10", "n3 00:00:10"];
            let runs = nodes.iter().position(|node| first[0] == *node).expect("one of them");

            rig.kill(runs);
            rig.advance(mins(5)).await;

            let both = starts(rig, "job");
            assert!(both.len() == 2 && both[1].ends_with("00:00:10 attempt 2"), "{fires:?}: {both:?}");
            assert_eq!(removed(rig), 0, "{fires:?}");
            rig.advance(mins(10)).await;
            assert_eq!(removed(rig), 1, "{fires:?}: the node that saw the run end");
            let kept = (0..3).filter(|node| *node != runs && !both[1].starts_with(&format!("n{}", node + 1)));
            for node in kept {
                assert_eq!(state(rig, node, "job").await, Some(JobState::Exhausted), "{fires:?}");
            }
        });
    }
}

#[test]
fn a_new_leader_keeps_a_one_shot_whose_run_the_former_one_drains() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([retried(Fires::Leader)])).await;
        }
        rig.advance(secs(30)).await;
        assert_eq!(starts(rig, "job"), ["n1 00:00:10"]);

        let draining = rig.supervisor(0).send(Shutdown { deadline: mins(30) });
        rig.advance(secs(60)).await;
        assert_eq!((rig.leader(), removed(rig)), (Some(1), 0));
        drop(draining);
        rig.kill(0);
        rig.advance(mins(5)).await;

        assert_eq!(starts(rig, "job"), ["n1 00:00:10", "n2 00:00:10 attempt 2"]);
        rig.advance(mins(10)).await;
        assert_eq!((state(rig, 1, "job").await, removed(rig)), (None, 1));
    });
}

#[test]
fn a_node_that_lost_its_session_keeps_a_one_shot_whose_run_it_owes() {
    for fires in [Fires::Leader, Fires::AnyNode] {
        simulate(START, async move |rig| {
            let node = rig.node(node_with([retried(fires)])).await;
            rig.advance(secs(30)).await;
            assert_eq!(starts(rig, "job"), ["n1 00:00:10"], "{fires:?}");

            rig.end_session(node);
            rig.advance(mins(5)).await;

            let both = ["n1 00:00:10", "n1 00:00:10 attempt 2"];
            assert_eq!(starts(rig, "job"), both, "{fires:?}");
            rig.advance(mins(10)).await;
            assert_eq!((state(rig, node, "job").await, removed(rig)), (None, 1), "{fires:?}");
        });
    }
}

#[test]
fn a_retried_one_shot_that_may_still_run_elsewhere_is_kept() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let job = |name| Job::new(name, at(SOON)).on_lost(OnLost::Retry).remove_when_done();
        let skipped = job("skipped").misfire(Misfire::Skip).run(async |_| {});
        let several = job("several").overlap(Overlap::Allow(2)).run(async |_| {});
        let late = rig.now() - mins(5);
        let late = Job::new("late", at(late)).remove_when_done().run(async |_| {});
        let node = rig.node(node_with([skipped, several, late])).await;
        rig.advance(secs(1)).await;
        rig.freeze(node);
        rig.advance(secs(60)).await;

        rig.thaw(node);
        rig.advance(secs(30)).await;

        assert_eq!(state(rig, node, "skipped").await, Some(JobState::Exhausted));
        assert_eq!(state(rig, node, "several").await, Some(JobState::Exhausted));
        assert_eq!(state(rig, node, "late").await, None, "nothing of it is owed");
    });
}
