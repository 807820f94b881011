//! A job that has run often enough, that fails too often, or whose body says that it is to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use callsheet::{
    CancelRuns, EventKind, Fires, Job, JobState, Misfire, NextFireTimes, Outcome, ResumeJobs, Run, RunError,
    RunResult, Selector, TriggerJob,
    schedule::every,
    testkit::{Rig, simulate},
};

mod common;
use common::{details, hours, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

fn limited(runs: u64) -> Job {
    Job::new("job", every(secs(10))).limit(runs).run(async |_| {})
}

fn paused(rig: &Rig) -> usize {
    rig.count(|kind| matches!(kind, EventKind::JobPaused { .. }))
}

#[test]
fn a_job_runs_as_often_as_it_may_and_its_last_run_goes_to_its_end() {
    simulate(START, async |rig| {
        let long = Job::new("job", every(secs(10))).limit(3).run(async |_| tokio::time::sleep(secs(9)).await);
        let node = rig.node(node_with([long]).max_concurrent_runs(1)).await;

        rig.advance(secs(100)).await;

        assert_eq!(starts(rig, "job"), ["n1 00:00:10", "n1 00:00:20", "n1 00:00:30"]);
        let status = details(rig, node, "job").await;
        assert_eq!((status.state, status.next_fire_time), (JobState::Exhausted, None));
        let upcoming = rig.send(node, NextFireTimes { job: "job".to_owned(), count: 3 }).await;
        assert_eq!(upcoming, Ok(vec![]));
        assert!(status.last_runs.iter().all(|run| run.outcome == Outcome::Succeeded), "{status:?}");
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 3, "a tick that does not exist is not due");
    });
}

/// Mistake of a peer: limits are per process but read as cluster-wide.
#[test]
fn the_limit_of_runs_is_the_clusters_and_skips_cost_nothing() {
    simulate(START, async |rig| {
        let job =
            || Job::new("job", every(secs(10))).limit(4).run(async |_| tokio::time::sleep(secs(12)).await);
        for _ in 0..2 {
            rig.node(node_with([job()])).await;
        }
        rig.advance(secs(1)).await;
        // It is over before the first tick but for a second, and costs that tick.
        rig.send(1, TriggerJob::new("job")).await.expect("nothing runs");
        rig.advance(secs(54)).await;
        assert_eq!(starts(rig, "job"), ["n2 triggered", "n1 00:00:20", "n1 00:00:40"]);

        rig.kill(0);
        rig.advance(secs(120)).await;

        assert_eq!(starts(rig, "job")[3..], ["n2 00:01:00", "n2 00:01:20"]);
        assert_eq!(details(rig, 1, "job").await.state, JobState::Exhausted);
        rig.send(1, TriggerJob::new("job")).await.expect("a trigger is no tick");
    });
}

#[test]
fn a_limit_of_runs_is_one_for_any_node_and_one_on_each_node_for_local() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            let local = Job::new("local", every(secs(10))).fires(Fires::Local).limit(3).run(async |_| {});
            rig.node(node_with([limited(3).fires(Fires::AnyNode), local])).await;
        }

        rig.advance(secs(100)).await;

        assert_eq!((rig.started("job"), rig.started("local")), (3, 6));
        for (node, job) in [(0, "job"), (1, "job"), (0, "local"), (1, "local")] {
            assert_eq!(details(rig, node, job).await.state, JobState::Exhausted, "{node} {job}");
        }
    });
}

#[test]
fn a_greater_limit_lets_an_exhausted_job_go_on() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([limited(2)])).await;
        rig.advance(secs(55)).await;
        assert_eq!(rig.started("job"), 2);

        rig.update(node, limited(4)).await.expect("it is right");
        rig.advance(secs(60)).await;

        // What it missed meanwhile is made up for by one run.
        assert_eq!(starts(rig, "job")[2..], ["n1 00:00:50", "n1 00:01:00"]);
        assert_eq!(details(rig, node, "job").await.state, JobState::Exhausted);
    });
}

#[test]
fn limits_of_zero_are_refused() {
    let job = limited(0);
    let faults = job.clone().pause_after(0).check().expect_err("it makes no sense").to_string();

    assert_eq!(
        faults,
        "job \"job\": limit \"0\": it is at least 1; choose another value\n\
         job \"job\": pause after failures \"0\": it is at least 1; choose another value"
    );
}

/// Fails while it is told to.
#[derive(Clone, Default)]
struct Weather {
    bad: Arc<AtomicBool>,
    runs: Arc<AtomicU64>,
}

impl Weather {
    async fn run(_: Run, weather: Self) -> RunResult {
        weather.runs.fetch_add(1, Ordering::Relaxed);
        if weather.bad.load(Ordering::Relaxed) { Err("rain".into()) } else { Ok(()) }
    }

    fn turns(&self, bad: bool) {
        self.bad.store(bad, Ordering::Relaxed);
    }

    fn job(&self) -> Job {
        Job::new("job", every(secs(10)))
            .pause_after(3)
            .misfire(Misfire::Skip)
            .run_with(self.clone(), Self::run)
    }
}

#[test]
fn a_job_that_fails_too_often_in_a_row_is_paused_on_all_nodes() {
    simulate(START, async |rig| {
        let weather = Weather::default();
        weather.turns(true);
        for _ in 0..2 {
            rig.node(node_with([weather.job()])).await;
        }
        // Two on the first node, one on the second.
        rig.advance(secs(25)).await;
        rig.shutdown(0, secs(1)).await;
        rig.advance(secs(60)).await;

        assert_eq!(starts(rig, "job"), ["n1 00:00:10", "n1 00:00:20", "n2 00:00:30"]);
        assert_eq!(paused(rig), 1);
        let late = rig.node(node_with([weather.job()])).await;
        let status = details(rig, 1, "job").await;
        assert_eq!((status.state, status.failures), (JobState::Paused, 3));
        assert!(
            status.pause.and_then(|pause| pause.note).is_some_and(|note| note.contains('3')),
            "it says why"
        );

        // From the beginning.
        rig.send(late, ResumeJobs::new("job")).await.expect("it is there");
        // The other nodes hear of it.
        rig.advance(secs(1)).await;
        assert_eq!(details(rig, 1, "job").await.failures, 0);
        rig.advance(secs(60)).await;
        assert_eq!((rig.started("job"), paused(rig)), (6, 2), "three more: {}", rig.transcript());
    });
}

#[test]
fn a_success_starts_the_count_anew_and_a_cancelled_run_does_not_count() {
    for fires in [Fires::Leader, Fires::Local] {
        simulate(START, async |rig| {
            let weather = Weather::default();
            weather.turns(true);
            let node = rig.node(node_with([weather.job().fires(fires)])).await;
            rig.advance(secs(25)).await;
            weather.turns(false);
            rig.advance(secs(10)).await;
            assert_eq!(details(rig, node, "job").await.failures, 0);
            weather.turns(true);
            rig.advance(secs(20)).await;
            assert_eq!((paused(rig), details(rig, node, "job").await.failures), (0, 2));

            // Neither a failure nor a success.
            let hangs = Job::new("job", every(secs(10)))
                .fires(fires)
                .pause_after(3)
                .run(async |run| run.cancelled().await);
            rig.update(node, hangs).await.expect("it is right");
            rig.advance(secs(6)).await;
            rig.send(node, CancelRuns::new(Selector::All)).await.expect("it is there");
            rig.advance(secs(1)).await;
            assert_eq!((paused(rig), details(rig, node, "job").await.failures), (0, 2));

            rig.update(node, weather.job().fires(fires)).await.expect("it is right");
            rig.advance(secs(60)).await;
            assert_eq!((paused(rig), details(rig, node, "job").await.failures), (1, 3), "{fires:?}");
            let before = rig.started("job");

            // A local job has a count, and a pause, of its own.
            rig.send(node, ResumeJobs::new(Selector::All)).await.expect("it is there");
            assert_eq!(details(rig, node, "job").await.failures, 0);
            rig.advance(secs(60)).await;
            assert_eq!((paused(rig), rig.started("job") - before), (2, 3), "{fires:?}: {}", rig.transcript());
        });
    }
}

#[test]
fn panics_and_timeouts_are_failures() {
    simulate(START, async |rig| {
        let panics = Job::new("panics", every(secs(10)))
            .pause_after(2)
            .run(async |_| -> RunResult { panic!("out of paper") });
        let hangs = Job::new("hangs", every(secs(10)))
            .pause_after(2)
            .timeout(secs(1))
            .run(async |run| run.cancelled().await);
        rig.node(node_with([panics, hangs])).await;

        rig.advance(mins(5)).await;

        assert_eq!((rig.started("panics"), rig.started("hangs"), paused(rig)), (2, 2, 2));
    });
}

fn stopping(fires: Fires) -> Job {
    Job::new("job", every(secs(10)))
        .fires(fires)
        .run(async |_| Err::<(), _>(RunError::stop("the account is closed")))
}

#[test]
fn a_body_that_says_stop_pauses_its_job_for_good_on_all_nodes() {
    for fires in [Fires::Leader, Fires::AnyNode] {
        simulate(START, async |rig| {
            for _ in 0..2 {
                rig.node(node_with([stopping(fires)])).await;
            }
            rig.advance(secs(60)).await;

            assert_eq!((rig.started("job"), paused(rig)), (1, 1), "{fires:?}: {}", rig.transcript());
            rig.shutdown(0, secs(1)).await;
            rig.advance(hours(1)).await;
            assert_eq!(rig.started("job"), 1);
            let status = details(rig, 1, "job").await;
            let note = status.pause.and_then(|pause| pause.note);
            assert_eq!(note.as_deref(), Some("stopped by its body: the account is closed"));
            assert_eq!(status.state, JobState::Paused);
        });
    }
}

#[test]
fn a_local_job_that_says_stop_is_paused_on_its_node() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([stopping(Fires::Local)])).await;
        }

        rig.advance(secs(60)).await;

        assert_eq!((rig.started("job"), paused(rig)), (2, 2), "each for itself");
        assert_eq!(details(rig, 0, "job").await.state, JobState::Paused);
    });
}

#[test]
fn a_stop_outlasts_a_store_that_is_silent_at_that_moment() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let stops_late = Job::new("job", every(secs(10))).run(async |_| {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Err::<(), _>(RunError::stop("the account is closed"))
        });
        let node = rig.node(node_with([stops_late])).await;
        rig.advance(Duration::from_millis(10_200)).await;
        assert_eq!(rig.started("job"), 1);

        rig.cut_off(node);
        rig.advance(secs(30)).await;
        rig.reconnect(node);
        rig.advance(mins(5)).await;

        assert_eq!((rig.started("job"), paused(rig)), (1, 1), "{}", rig.transcript());
        assert_eq!(details(rig, node, "job").await.state, JobState::Paused);
        rig.send(node, ResumeJobs::new("job")).await.expect("it is there");
        rig.advance(secs(12)).await;
        assert_eq!((rig.started("job"), paused(rig)), (2, 2), "it stops again: {}", rig.transcript());
    });
}
