//! Jobs that are removed once they are done.

use callsheet::{
    EventKind, Fires, Job, JobDetails, JobState, Misfire, PauseJobs, ResumeJobs, Retry, UpdateJob,
    schedule::{at, every},
    testkit::{Node, Rig, simulate},
};

mod common;
use common::{node_with, obedient, secs};

const START: &str = "2026-01-05T00:00:00Z";
const SOON: &str = "2026-01-05T00:00:10Z";

async fn state(rig: &mut Rig, node: Node, job: &str) -> Option<JobState> {
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

#[test]
fn a_one_shot_that_is_held_by_a_pause_stays_until_it_has_run() {
    simulate(START, async |rig| {
        let job = Job::new("job", at(SOON)).remove_when_done().run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.send(node, PauseJobs::new("job")).await.expect("it is there");
        rig.advance(secs(60)).await;
        assert_eq!(state(rig, node, "job").await, Some(JobState::Paused));

        rig.send(node, ResumeJobs("job".into())).await.expect("it is there");
        rig.advance(secs(5)).await;

        assert_eq!((rig.started("job"), state(rig, node, "job").await), (1, None));
    });
}

#[test]
fn a_one_shot_whose_tick_is_skipped_is_removed_once_the_store_knows() {
    simulate(START, async |rig| {
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
        assert!(rig.send(node, UpdateJob(job("2026-01-05T01:00:00Z"))).await.is_err(), "its name is free");
    });
}
