//! Hooks: called around the runs of a job, contained, and never in the way of the schedule.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use callsheet::{
    CancelReason, CancelRuns, EventFilter, EventKind, EventName, FinishedRun, Fires, HOOK_CALLS_MAX,
    HOOK_TIMEOUT_DEFAULT, Health, Job, Problem, RemoveJobs, Retry, Run, RunResult, Selector, Shutdown,
    SkippedTicks, SupervisorActor, TriggerJob,
    port::Spawner,
    schedule::{at, every},
    testkit::{
        Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

#[path = "../common/mod.rs"]
mod common;
use common::{assert_transcript, hours, node_with, secs};

mod after;
mod before;
mod threads;

const START: &str = "2026-01-05T00:00:00Z";

/// What was called, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("nobody panicked").push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panicked"))
    }

    /// A hook that only notes that it was called.
    fn hook<T>(&self, what: &'static str) -> impl Fn(T) -> std::future::Ready<()> + Send + Sync + 'static {
        let calls = self.clone();
        move |_| {
            calls.note(what);
            std::future::ready(())
        }
    }

    /// A hook that notes what it is told of the end of a run.
    fn ends(
        &self,
        what: &'static str,
    ) -> impl Fn(FinishedRun) -> std::future::Ready<()> + Send + Sync + 'static {
        let calls = self.clone();
        move |ended| {
            let FinishedRun { run, outcome, error, cancelled, took, .. } = ended;
            let error = error.as_deref().unwrap_or("-");
            let cancelled = cancelled.map_or("-".to_owned(), |why| format!("{why:?}"));
            calls.note(format!("{what} {} {outcome} {error} {cancelled} {took:?}", run.job()));
            std::future::ready(())
        }
    }
}

fn hourly(name: &str) -> Job<callsheet::Bodiless> {
    Job::new(name, every(hours(1)))
}

fn retry(attempts: u32) -> Retry {
    Retry::attempts(attempts).initial(secs(10)).jitter(0.0)
}

/// Rows 5, 6 and 74 of what the best peer's tests pin down: each hook has a place of its own, two calls both
/// apply, and what did not happen is not told. There is no hook that is nil.
#[test]
fn hooks_of_all_jobs_come_first_and_each_is_called_once_for_a_run() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let (of_body, of_job, of_all) = (calls.clone(), calls.clone(), calls.clone());
        let job = hourly("report")
            .retry(retry(3))
            .before(of_job.hook("before 3"))
            .before(of_job.hook("before 4"))
            .after_success(of_job.ends("success"))
            .after_failure(of_job.ends("failure"))
            .on_skip(of_job.hook("skip"))
            .run_with(of_body, async |run: Run, calls: Calls| {
                calls.note(format!("body {}", run.attempt()));
                if run.attempt() < 2 { Err("busy") } else { Ok(()) }
            });
        let builder = node_with([job]).before(of_all.hook("before 1")).before(of_all.hook("before 2"));
        rig.node(builder.after_success(of_all.hook("success of all"))).await;

        rig.advance(hours(1) + secs(30)).await;

        let expected = [
            "before 1",
            "before 2",
            "before 3",
            "before 4",
            "body 1",
            "body 2",
            "success of all",
            "success report succeeded - - 0ns",
        ];
        assert_eq!(calls.take(), expected);
    });
}

/// A hook that notes when it begins and ends, three and a half seconds later.
fn slow(
    calls: &Calls,
    name: &'static str,
) -> impl Fn(FinishedRun) -> BoxFuture<'static, ()> + Send + Sync + 'static {
    let calls = calls.clone();
    move |ended| {
        let calls = calls.clone();
        let tick = ended.run.fire_time().expect("a tick").format("%S");
        Box::pin(async move {
            calls.note(format!("{name} {tick} begins"));
            tokio::time::sleep(Duration::from_millis(3_500)).await;
            calls.note(format!("{name} {tick} ends"));
        })
    }
}

/// Its state needs not be `Send`.
struct Printer(std::rc::Rc<std::cell::Cell<u32>>);

impl Actor for Printer {
    type Context = Context<Self>;
}

impl Handler<Run> for Printer {
    type Result = ResponseActFuture<Self, RunResult>;

    fn handle(&mut self, _: Run, _: &mut Self::Context) -> Self::Result {
        self.0.set(self.0.get() + 1);
        let printed = self.0.get();
        let answer = async move { if printed == 1 { Ok(()) } else { Err("out of paper".into()) } };
        Box::pin(answer.into_actor(self))
    }
}

#[test]
fn hooks_work_for_local_bodies_and_actors_and_local_jobs() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let noted = calls.clone();
        rig.drive_node(async move || {
            let printer = Printer(std::rc::Rc::default()).start();
            let jobs = [
                hourly("actor").run_actor(printer),
                hourly("local").run_local(async |_| {
                    let not_send = std::rc::Rc::new("local");
                    tokio::task::yield_now().await;
                    drop(not_send);
                }),
                hourly("alone").fires(Fires::Local).run(async |_| {}),
            ];
            let before = noted.clone();
            node_with(jobs)
                .before(move |run: Run| {
                    before.note(format!("before {}", run.job()));
                    std::future::ready(())
                })
                .after_success(noted.ends("success"))
                .after_failure(noted.ends("failure"))
        })
        .await;

        rig.advance(hours(1) + secs(1)).await;
        let mut told = calls.take();
        told.sort();
        let expected = [
            "before actor",
            "before alone",
            "before local",
            "success actor succeeded - - 0ns",
            "success alone succeeded - - 0ns",
            "success local succeeded - - 0ns",
        ];
        assert_eq!(told, expected);

        rig.advance(hours(1)).await;
        assert!(calls.take().contains(&"failure actor failed out of paper - 0ns".to_owned()));
    });
}

/// Rows 1 and 4: what makes no sense is refused, of a job and of all jobs.
#[test]
fn a_hook_timeout_out_of_range_is_refused() {
    for (timeout, text) in [(Duration::ZERO, "0s"), (secs(3601), "1h1s")] {
        let job = hourly("report").hook_timeout(timeout).run(async |_| {});
        let of_job = job.check().expect_err("out of range").to_string();
        assert_eq!(
            of_job,
            format!(
                "job \"report\": hook_timeout \"{text}\": a hook may take from 1 ms to 1 h; choose a \
                 duration in this range, or leave it out for 10 s"
            )
        );
        let of_all = node_with([job]).hook_timeout(timeout).check().expect_err("out of range");
        assert_eq!(of_all.as_slice().len(), 2, "{of_all}");
    }
}

/// A panicking job of a peer kills the process, unless a listener for panics happens to be set.
#[tokio::test]
async fn a_panicking_job_harms_nothing_when_nobody_listens() {
    let (told, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let bad = told.clone();
    let panics = hourly("bad").run_with(bad, async |_, told| -> () {
        told.send("bad").expect("the test goes on");
        panic!("out of paper")
    });
    let works = hourly("good").run_with(told, async |_, told| told.send("good").expect("the test goes on"));
    let jobs = node_with([panics, works]).start().await.expect("it starts");

    for name in ["bad", "good"] {
        jobs.trigger(name).await.expect("nothing runs");
        let ran = tokio::time::timeout(secs(60), bodies.recv()).await.expect("it runs");
        assert_eq!(ran, Some(name));
    }

    let report = jobs.shutdown(secs(60)).await;
    assert_eq!((report.aborted, report.still_running), (0, 0), "{report:?}");
}
