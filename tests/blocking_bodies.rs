//! Bodies that block have threads of their own, a bounded number.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, EventFilter, EventKind, EventName, Job, JobState, Outcome, Run, RunError,
    schedule::every, testkit::simulate,
};

mod common;
use common::{hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// A job whose body says that it has begun, and blocks until it is told to return, or nobody is left to tell
/// it.
struct Blocks {
    job: Job,
    begun: tokio::sync::mpsc::UnboundedReceiver<()>,
    release: mpsc::Sender<()>,
}

fn blocks(name: &str, adapt: impl FnOnce(Job<callsheet::Bodiless>) -> Job<callsheet::Bodiless>) -> Blocks {
    let (release, released) = mpsc::channel();
    let (begins, begun) = tokio::sync::mpsc::unbounded_channel();
    let released = Arc::new(Mutex::new(released));
    let job = adapt(Job::new(name, every(hours(1)))).run_blocking(move |_| {
        let _ = begins.send(());
        let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
    });
    Blocks { job, begun, release }
}

async fn start(builder: Builder) -> Callsheet {
    builder.start().await.expect("it starts")
}

#[test]
fn a_blocking_body_may_fail_and_panic_as_others_do() {
    simulate(START, async |rig| {
        let body = |run: Run| match run.job().as_str() {
            "succeeds" => Ok::<(), RunError>(()),
            "fails" => Err("no disk".into()),
            _ => panic!("bad luck"),
        };
        let job = |name: &str| Job::new(name, every(secs(10))).limit(1).run_blocking(body);
        rig.node(node_with(["succeeds", "fails", "panics"].map(job))).await;

        rig.advance(secs(15)).await;

        let ended = |kind: &EventKind| match kind {
            EventKind::RunSucceeded { job, .. } => job.as_str() == "succeeds",
            EventKind::RunFailed { job, error, .. } => job.as_str() == "fails" && &**error == "no disk",
            EventKind::RunPanicked { job, message, .. } => {
                job.as_str() == "panics" && &**message == "bad luck"
            }
            _ => false,
        };
        assert_eq!(rig.count(ended), 3);
    });
}

#[tokio::test]
async fn a_blocking_body_delays_no_other_body() {
    let Blocks { job, mut begun, release } = blocks("blocks", |job| job);
    let quick = Job::new("quick", every(hours(1))).run(async |_| {});
    let jobs = start(Callsheet::builder().body_threads(1).jobs([job, quick])).await;
    let blocked = jobs.trigger("blocks").await.expect("it starts");
    begun.recv().await.expect("it begins");

    let quick = jobs.trigger("quick").await.expect("it starts");

    assert_eq!(quick.finished().await, Outcome::Succeeded);
    release.send(()).expect("it waits");
    assert_eq!(blocked.finished().await, Outcome::Succeeded);
    jobs.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_blocking_body_keeps_its_run_until_it_returns_though_it_is_aborted() {
    let at_once = |job: Job<callsheet::Bodiless>| job.abort_after(Duration::ZERO);
    let Blocks { job, mut begun, release } = blocks("blocks", at_once);
    let jobs = start(Callsheet::builder().job(job)).await;
    let blocked = jobs.trigger("blocks").await.expect("it starts");
    // Not before: what has no thread yet never begins when it is aborted.
    begun.recv().await.expect("it begins");
    jobs.cancel_run(blocked.run()).await.expect("it is in progress");

    let still_running = async {
        while jobs.details("blocks").await.expect("it is there").state != JobState::StillRunning {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(secs(60), still_running).await.expect("it is shown");
    release.send(()).expect("it waits");

    assert_eq!(blocked.finished().await, Outcome::Cancelled);
    jobs.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn no_more_bodies_block_at_once_than_there_are_threads() {
    let Blocks { job: first, begun: mut first_begun, release } = blocks("first", |job| job);
    let Blocks { job: second, begun: mut second_begun, release: release_second } =
        blocks("second", |job| job);
    let jobs = start(Callsheet::builder().blocking_threads(1).jobs([first, second])).await;
    let first = jobs.trigger("first").await.expect("it starts");
    first_begun.recv().await.expect("it begins");
    let mut starts = jobs.events(EventFilter::new().kinds([EventName::RunStarted]).job("second"));

    let second = jobs.trigger("second").await.expect("it starts");
    starts.next().await.expect("its run is in progress");
    assert!(second_begun.try_recv().is_err(), "its body waits for the thread");
    release.send(()).expect("it waits");

    second_begun.recv().await.expect("it begins");
    assert_eq!(first.finished().await, Outcome::Succeeded);
    release_second.send(()).expect("it waits");
    assert_eq!(second.finished().await, Outcome::Succeeded);
    jobs.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_body_that_has_no_thread_yet_when_it_is_aborted_never_begins() {
    let Blocks { job: first, begun: mut first_begun, release } = blocks("first", |job| job);
    let soon = |job: Job<callsheet::Bodiless>| job.abort_after(Duration::ZERO);
    let Blocks { job: second, begun: mut second_begun, .. } = blocks("second", soon);
    let jobs = start(Callsheet::builder().blocking_threads(1).jobs([first, second])).await;
    let first = jobs.trigger("first").await.expect("it starts");
    first_begun.recv().await.expect("it begins");
    let second = jobs.trigger("second").await.expect("it starts");

    jobs.cancel_run(second.run()).await.expect("it is in progress");

    assert_eq!(second.finished().await, Outcome::Cancelled, "while the first one blocks");
    release.send(()).expect("it waits");
    assert_eq!(first.finished().await, Outcome::Succeeded);
    jobs.shutdown(Duration::ZERO).await;
    assert!(second_begun.try_recv().is_err());
}

#[test]
fn the_number_of_blocking_threads_is_checked() {
    for threads in [0, 257] {
        let faults = Callsheet::builder().blocking_threads(threads).check().expect_err("it is out of range");
        assert!(faults.to_string().contains("blocking_threads"), "{faults}");
    }
}
