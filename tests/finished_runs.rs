//! Whoever triggers a run can wait for its end, and always gets an answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use callsheet::{
    Callsheet, CancelRun, Job, Outcome, Overlap, RemoveJobs, Retry, Run, TriggerJob, Triggered, TriggeredRun,
    schedule::every,
    testkit::{
        NodeIndex, Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};

mod common;
use common::{hours, node_with, obedient, secs};

const START: &str = "2026-01-05T00:00:00Z";

async fn trigger(rig: &mut Rig, node: NodeIndex, job: &str) -> TriggeredRun {
    rig.send(node, TriggerJob::new(job)).await.expect("it may start")
}

async fn long(run: Run) {
    obedient(run, secs(60)).await;
}

#[test]
fn a_triggered_run_says_how_it_ended() {
    simulate(START, async |rig| {
        let job = |name: &str| Job::new(name, every(hours(1)));
        let tries = Arc::new(AtomicU32::new(0));
        let retried = move |_: Run| {
            let nth = tries.fetch_add(1, Ordering::SeqCst);
            async move { if nth < 2 { Err("not yet") } else { Ok(()) } }
        };
        let jobs = [
            job("succeeds").run(async |_| {}),
            job("fails").run(async |_| Err::<(), _>("no disk")),
            job("panics").run(async |run| assert!(run.is_cancelled(), "bad luck")),
            job("is slow").timeout(secs(2)).run(long),
            job("is vetoed").before(async |_| Err::<(), _>("not now")).run(async |_| {}),
            job("is retried").retry(Retry::attempts(3)).run(retried),
        ];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(1)).await;
        for (name, expected) in [
            ("succeeds", Outcome::Succeeded),
            ("fails", Outcome::Failed),
            ("panics", Outcome::Panicked),
            ("is slow", Outcome::TimedOut),
            ("is vetoed", Outcome::Cancelled),
            ("is retried", Outcome::Succeeded),
        ] {
            let run = trigger(rig, node, name).await;
            assert!(matches!(run.triggered(), Triggered::Started(id) if id == run.run()));

            assert_eq!(run.finished().await, expected, "{name}");
        }
    });
}

#[test]
fn a_run_that_is_queued_and_dropped_was_cancelled() {
    for how in ["cancelled", "removed", "shut down"] {
        simulate(START, async move |rig| {
            let job = Job::new("job", every(hours(1))).overlap(Overlap::Queue(5)).run(long);
            let node = rig.node(node_with([job])).await;
            rig.advance(secs(1)).await;
            let first = trigger(rig, node, "job").await;
            let queued = trigger(rig, node, "job").await;
            assert!(matches!(queued.triggered(), Triggered::Queued(_)));

            match how {
                "cancelled" => drop(rig.send(node, CancelRun::new(queued.run())).await),
                "removed" => drop(rig.send(node, RemoveJobs::new("job")).await),
                _ => drop(rig.shutdown(node, secs(100)).await),
            }

            assert_eq!(queued.finished().await, Outcome::Cancelled, "{how}");
            assert_eq!(first.finished().await, Outcome::Succeeded, "{how}: it goes on");
        });
    }
}

#[test]
fn a_queued_run_that_gets_its_turn_says_how_it_ended() {
    simulate(START, async |rig| {
        let job = Job::new("job", every(hours(1))).overlap(Overlap::Queue(5)).run(long);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(1)).await;
        let _first = trigger(rig, node, "job").await;
        let queued = trigger(rig, node, "job").await;

        assert_eq!(queued.finished().await, Outcome::Succeeded);
        assert_eq!(rig.started("job"), 2);
    });
}

#[test]
fn a_run_whose_session_is_lost_is_lost_to_who_waits() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("job", every(hours(1))).run(long)])).await;
        rig.advance(secs(1)).await;
        let run = trigger(rig, node, "job").await;

        rig.end_session(node);

        assert_eq!(run.finished().await, Outcome::Lost);
    });
}

#[test]
fn who_waits_gets_the_answer_though_the_actor_of_the_job_dies() {
    simulate(START, async |rig| {
        let later = "2026-01-05T00:00:15Z".parse().expect("an instant");
        let panics = PanickingSchedule::new(Period::seconds(10), later, 2);
        let node = rig.node(node_with([Job::new("job", panics).run(long)])).await;
        rig.advance(secs(1)).await;
        let run = trigger(rig, node, "job").await;

        assert_eq!(run.finished().await, Outcome::Succeeded);
        assert!(rig.count(|kind| matches!(kind, callsheet::EventKind::JobRestarted { .. })) > 0);
    });
}

/// On the engine's own threads: the shutdown leaves a body behind that blocks for as long as it likes.
#[tokio::test]
async fn a_run_that_a_shutdown_leaves_behind_is_lost_to_who_waits() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (begins, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let job = Job::new("job", every(hours(1))).run_blocking(move |_| {
        begins.send(()).expect("the test waits");
        let released = released.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Until the sender is gone.
        let _ = released.recv();
    });
    let jobs =
        Callsheet::builder().shutdown_abort_after(Duration::ZERO).job(job).start().await.expect("it starts");
    let run = jobs.trigger("job").await.expect("it starts");
    begun.recv().await.expect("it begins");

    let (report, outcome) = tokio::join!(jobs.shutdown(Duration::ZERO), run.finished());

    assert_eq!(outcome, Outcome::Lost);
    assert_eq!(report.still_running, 1, "{report}");
    drop(release);
}
