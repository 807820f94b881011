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
    CancelReason, CancelRuns, EndedRun, EventFilter, EventKind, EventName, Fires, HOOK_CALLS_MAX,
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

mod common;
use common::{assert_transcript, hours, node_with, secs};

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
    ) -> impl Fn(EndedRun) -> std::future::Ready<()> + Send + Sync + 'static {
        let calls = self.clone();
        move |ended| {
            let EndedRun { run, outcome, error, cancelled, took, .. } = ended;
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

fn failures(rig: &mut Rig, hook: &str, reason: &str) -> u64 {
    let all = rig.counter("callsheet_hooks_failed_total", &format!("hook={hook}"));
    let of_reason = rig.counter("callsheet_hooks_failed_total", &format!("reason={reason}"));
    assert_eq!(all, of_reason, "{hook} failed by {reason} only");
    all
}

fn vetoes(rig: &Rig) -> Vec<String> {
    let vetoes = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunCancelled { why: CancelReason::Vetoed, reason: Some(reason), .. } => {
            Some(reason.to_string())
        }
        _ => None,
    });
    vetoes.collect()
}

/// Rows 5, 6 and 74 of what the best peer's tests pin down: each hook has a place of its own, two calls both apply, and
/// what did not happen is not told. There is no hook that is nil.
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

#[test]
fn a_veto_ends_the_claimed_run_with_its_reason_and_nothing_else() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let first = (rig.now() + hours(1)).to_utc();
        let before = move |run: Run| async move {
            if run.fire_time() == Some(first) { Err("maintenance until two") } else { Ok(()) }
        };
        let job = hourly("report")
            .retry(retry(3))
            .before(before)
            .before(calls.hook("a second one"))
            .after_success(calls.ends("success"))
            .after_failure(calls.ends("failure"))
            .on_skip(calls.hook("skip"))
            .run(async |_| {});
        rig.node(node_with([job])).await;

        rig.advance(hours(2) + secs(30)).await;

        assert_transcript(
            rig,
            "00:00:00.001 n1 JobAdded report\n\
             00:00:00.002 n1 LeadershipGained term 1\n\
             01:00:00.001 n1 RunCancelled report took 0.0ns: vetoed: maintenance until two\n\
             02:00:00.001 n1 RunStarted report 2026-01-05T02:00:00Z late 1.0ms\n\
             02:00:00.001 n1 RunSucceeded report took 0.0ns\n",
        );
        assert_eq!(calls.take(), ["a second one", "success report succeeded - - 0ns"], "of the second tick");
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 2);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 2, "both ticks were claimed");
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=cancelled"), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
        assert_eq!(rig.counter("callsheet_hooks_failed_total", ""), 0, "a veto is no failure");
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn a_before_hook_that_panics_is_a_veto() {
    simulate(START, async |rig| {
        let early = |_: Run| -> std::future::Ready<()> { panic!("before there is a future") };
        let late = async |_: Run| -> () { panic!("out of {}", "paper") };
        let node = node_with([
            hourly("early").before(early).run(async |_| {}),
            hourly("late").before(late).run(async |_| {}),
        ]);
        rig.node(node).await;

        rig.advance(hours(2) + secs(30)).await;

        let mut reasons = vetoes(rig);
        reasons.sort();
        let (early, late) =
            ("a before hook panicked: before there is a future", "a before hook panicked: out of paper");
        assert_eq!(reasons, [early, early, late, late]);
        assert_eq!(rig.started("early") + rig.started("late"), 0);
        assert_eq!(failures(rig, "before", "panic"), 4);
        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 0);
    });
}

#[test]
fn a_before_hook_that_hangs_is_a_veto_when_its_time_is_over() {
    simulate(START, async |rig| {
        let jobs = [
            hourly("default").before(async |_| pending::<()>().await).run(async |_| {}),
            hourly("own").before(async |_| pending::<()>().await).hook_timeout(secs(2)).run(async |_| {}),
        ];
        rig.node(node_with(jobs)).await;

        rig.advance(hours(1) + secs(3)).await;
        assert_eq!(vetoes(rig), ["a before hook did not return within 2s"]);
        rig.advance(HOOK_TIMEOUT_DEFAULT).await;

        assert_eq!(vetoes(rig)[1], "a before hook did not return within 10s");
        assert_eq!(failures(rig, "before", "timeout"), 2);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn no_attempt_gets_past_a_before_hook_that_outlasts_the_timeout_of_the_run() {
    simulate(START, async |rig| {
        let job = hourly("report")
            .timeout(secs(3))
            .retry(retry(5))
            .before(async |_| tokio::time::sleep(secs(5)).await)
            .run(async |_| {});
        rig.node(node_with([job])).await;

        rig.advance(hours(1) + secs(300)).await;

        assert_eq!(rig.started("report"), 0);
        assert_eq!(vetoes(rig), ["the before hooks did not return before the timeout of the run"]);
        assert_eq!(rig.counter("callsheet_run_retries_total", ""), 0);
        assert_eq!(rig.store().held(), 0);
    });
}

/// A known mistake of a peer: a slow before-hook swallows ticks.
#[test]
fn a_slow_before_hook_swallows_no_tick_and_delays_no_other_job() {
    simulate(START, async |rig| {
        let slow = Job::new("slow", every(secs(1)))
            .before(async |_| tokio::time::sleep(Duration::from_millis(2_500)).await)
            .run(async |_| {});
        let bystander = Job::new("bystander", every(secs(1))).run(async |_| {});
        rig.node(node_with([slow, bystander])).await;

        rig.advance(Duration::from_millis(60_500)).await;

        assert_eq!(rig.started("bystander"), 60);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=slow"), 60);
        let skipped: u64 = rig
            .events()
            .into_iter()
            .map(|recorded| match recorded.event.kind {
                EventKind::TickSkipped { count, .. } => count,
                _ => 0,
            })
            .sum();
        assert_eq!((rig.started("slow"), skipped), (20, 40), "every tick runs, or is skipped with a reason");
    });
}

#[test]
fn a_run_that_is_cancelled_in_its_before_hook_does_not_start() {
    simulate(START, async |rig| {
        let job = hourly("report").before(async |_| tokio::time::sleep(secs(5)).await).run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.advance(hours(1) + secs(1)).await;

        rig.send(node, CancelRuns(Selector::All)).await.expect("it is there");
        rig.advance(Duration::from_millis(10)).await;

        let cancelled = |kind: &EventKind| {
            matches!(kind, EventKind::RunCancelled { why: CancelReason::Requested, reason: None, .. })
        };
        assert_eq!(rig.count(cancelled), 1);
        assert_eq!(rig.store().held(), 0);
        rig.advance(secs(30)).await;
        assert_eq!(rig.started("report"), 0);
    });
}

/// Rows 74 and 76: a failure is told with its error, a panic with its message, and a success is no failure.
#[test]
fn after_hooks_are_told_how_the_run_ended() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let noted = |job: Job<callsheet::Bodiless>| {
            job.after_success(calls.ends("success")).after_failure(calls.ends("failure"))
        };
        let caused = anyhow::anyhow!("no paper").context("cannot print");
        let caused = Arc::new(Mutex::new(Some(caused)));
        let fails = move |_: Run| {
            let error = caused.lock().unwrap().take().expect("it runs once");
            async move { Err::<(), _>(error) }
        };
        let once = |name: &str, second: u64| noted(Job::new(name, at([rig.now() + secs(second)])));
        let jobs = [
            once("works", 1).run(async |_| {}),
            once("fails", 2).run(fails),
            once("panics", 3).run(async |_| -> () { panic!("out of paper") }),
            once("late", 4).timeout(secs(2)).run(async |run| {
                run.cancelled().await;
                Err::<(), _>("gave up")
            }),
            once("asked", 10).run(async |run| run.cancelled().await),
            once("dropped", 11).run(async |_| pending::<()>().await),
            once("between", 12).retry(retry(2)).run(async |_| Err::<(), _>("busy")),
        ];
        let node = rig.node(node_with(jobs)).await;

        rig.advance(secs(15)).await;
        rig.send(node, CancelRuns(Selector::All)).await.expect("all of them");
        rig.advance(secs(30)).await;

        let mut told = calls.take();
        told.sort();
        assert_eq!(
            told,
            [
                "failure asked cancelled - Requested 5s",
                "failure between cancelled - Requested 0ns",
                "failure dropped cancelled - Requested 9s",
                "failure fails failed cannot print: no paper - 0ns",
                "failure late timed_out gave up TimedOut 2s",
                "failure panics panicked out of paper - 0ns",
                "success works succeeded - - 0ns",
            ]
        );
    });
}

#[test]
fn the_key_is_free_and_the_schedule_goes_on_while_an_after_hook_takes_its_time() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let noted = calls.clone();
        let hook = move |ended: EndedRun| {
            let calls = noted.clone();
            async move {
                tokio::time::sleep(secs(3)).await;
                calls.note(ended.run.fire_time().expect("a tick").to_rfc3339());
            }
        };
        let job = Job::new("report", every(secs(1))).after_success(hook).run(async |_| {});
        rig.node(node_with([job])).await;

        rig.advance(Duration::from_millis(2_500)).await;
        assert_eq!((rig.started("report"), rig.store().held()), (2, 0));
        rig.advance(secs(8)).await;

        assert_eq!(rig.started("report"), 10, "each tick on time");
        let order = ["2026-01-05T00:00:01+00:00", "2026-01-05T00:00:02+00:00", "2026-01-05T00:00:03+00:00"];
        assert_eq!(calls.take(), order, "one after the other");
    });
}

/// A hook that notes when it begins and ends, three and a half seconds later.
fn slow(
    calls: &Calls,
    name: &'static str,
) -> impl Fn(EndedRun) -> BoxFuture<'static, ()> + Send + Sync + 'static {
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

/// Each call is of the hooks that the job had when its run ended.
#[test]
fn the_hooks_of_a_job_that_is_changed_go_on_one_after_the_other() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let report =
            |hook| Job::new("report", every(secs(1))).after_success(slow(&calls, hook)).run(async |_| {});
        let node = rig.node(node_with([report("former")])).await;

        rig.advance(Duration::from_millis(2_500)).await;
        rig.update(node, report("new")).await.expect("it is there");
        rig.advance(secs(10)).await;

        let expected = [
            "former 01 begins",
            "former 01 ends",
            "former 02 begins",
            "former 02 ends",
            "new 03 begins",
            "new 03 ends",
            "new 04 begins",
        ];
        assert_eq!(calls.take(), expected);
    });
}

#[test]
fn the_hooks_of_a_job_whose_actor_is_started_again_go_on_one_after_the_other() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let panics_at = START.parse::<DateTime<Utc>>().expect("an instant") + secs(2);
        let schedule = PanickingSchedule::new(Period::seconds(1), panics_at, 1);
        let job = Job::new("report", schedule).after_success(slow(&calls, "hook")).run(async |_| {});
        rig.node(node_with([job])).await;

        rig.advance(secs(10)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRestarted { .. })), 1);
        assert_eq!(
            calls.take(),
            ["hook 01 begins", "hook 01 ends", "hook 02 begins", "hook 02 ends", "hook 03 begins"]
        );
    });
}

#[test]
fn skipped_ticks_are_told_with_their_reason() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let noted = calls.clone();
        let hook = move |ticks: SkippedTicks| {
            let SkippedTicks { job, fire_time, reason, count, .. } = ticks;
            noted.note(format!("{job} {} {reason:?} {count}", fire_time.format("%H:%M:%S")));
            std::future::ready(())
        };
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(15)).await);
        rig.node(node_with([long]).on_skip(hook)).await;

        rig.advance(secs(41)).await;

        assert_eq!(calls.take(), ["long 00:00:20 Overlap 1", "long 00:00:40 Overlap 1"]);
    });
}

#[test]
fn a_hook_that_hangs_loses_calls_that_are_counted_and_delays_nobody() {
    simulate(START, async |rig| {
        let job = |name: &str| Job::new(name, Period::millis(100)).hook_timeout(secs(3600)).run(async |_| {});
        let stuck = job("stuck").after_success(async |_| pending::<()>().await);
        let long = Job::new("long", Period::millis(100))
            .on_skip(async |_| pending::<()>().await)
            .hook_timeout(secs(3600))
            .run(async |_| pending::<()>().await);
        rig.node(node_with([stuck, long, job("bystander")])).await;

        rig.advance(Duration::from_millis(100_050)).await;

        assert_eq!((rig.started("stuck"), rig.started("bystander")), (1_000, 1_000));
        let waiting = HOOK_CALLS_MAX as u64 + 1;
        assert_eq!(rig.counter("callsheet_hooks_failed_total", "hook=after_success"), 1_000 - waiting);
        assert_eq!(rig.counter("callsheet_hooks_failed_total", "hook=on_skip"), 999 - waiting);
        assert_eq!(rig.counter("callsheet_hooks_failed_total", "reason=dropped"), 1_999 - 2 * waiting);
    });
}

#[test]
fn an_after_hook_that_fails_panics_or_hangs_is_counted_and_the_next_one_is_called() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let job = hourly("report")
            .after_success(async |_| Err::<(), _>("no such channel"))
            .after_success(async |_| -> () { panic!("out of paper") })
            .after_success(async |_| pending::<()>().await)
            .after_success(calls.hook("the last one"))
            .run(async |_| {});
        rig.node(node_with([job])).await;

        rig.advance(hours(2) + secs(60)).await;

        assert_eq!(calls.take(), ["the last one", "the last one"]);
        for reason in ["error", "panic", "timeout"] {
            let label = format!("reason={reason}");
            assert_eq!(rig.counter("callsheet_hooks_failed_total", &label), 2, "{reason}");
        }
        assert_eq!(
            rig.counter("callsheet_runs_total", "outcome=succeeded"),
            2,
            "the runs were none the worse"
        );
    });
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

/// Row 46: a job that removes itself in its own before hook. Its run goes on to its end.
#[test]
fn a_job_can_remove_itself_in_its_own_before_hook() {
    simulate(START, async |rig| {
        let supervisor: Arc<OnceLock<Addr<SupervisorActor>>> = Arc::default();
        let known = supervisor.clone();
        let before = move |run: Run| {
            let supervisor = known.get().expect("the node has started").clone();
            async move {
                let removed = supervisor.send(RemoveJobs(run.job().into())).await??;
                assert_eq!(removed.len(), 1);
                Ok::<_, callsheet::RunError>(())
            }
        };
        let node = rig.node(node_with([hourly("once").before(before).run(async |_| {})])).await;
        assert!(supervisor.set(rig.supervisor(node)).is_ok());

        rig.advance(hours(5)).await;

        assert_eq!(rig.started("once"), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRemoved { .. })), 1);
        assert_eq!(rig.store().held(), 0);
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

#[test]
fn a_shutdown_waits_for_after_hooks_within_its_deadline() {
    for (hook, deadline, called, took) in [(20, 60, true, 20), (20, 5, false, 5)] {
        simulate(START, async |rig| {
            let calls = Calls::default();
            let noted = calls.clone();
            let after = move |_: EndedRun| {
                let calls = noted.clone();
                async move {
                    tokio::time::sleep(secs(hook)).await;
                    calls.note("called");
                }
            };
            let job = hourly("report").after_success(after).hook_timeout(secs(60)).run(async |_| {});
            let node = rig.node(node_with([job])).await;
            rig.send(node, TriggerJob("report".to_owned())).await.expect("nothing runs");
            let asked = rig.now();

            let report = rig.shutdown(node, secs(deadline)).await;

            let waited = (rig.now() - asked).num_seconds();
            assert_eq!((waited, calls.take().len() == 1), (took, called), "{report}");
        });
    }
}

#[test]
fn a_shutdown_that_waits_for_after_hooks_is_live() {
    simulate(START, async |rig| {
        let after = async |_: EndedRun| tokio::time::sleep(secs(10)).await;
        let job = hourly("report").after_success(after).hook_timeout(secs(60)).run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.send(node, TriggerJob("report".to_owned())).await.expect("nothing runs");
        rig.supervisor(node).do_send(Shutdown { deadline: secs(30) });

        // The session is closed: nothing is left to write.
        rig.advance(secs(2)).await;

        let health = rig.send(node, Health).await;
        assert_eq!(
            (health.live, health.ready, &health.problems[..]),
            (true, false, &[Problem::ShuttingDown][..])
        );
    });
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

/// The thread on which a hook or a body is.
fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[actix::test]
async fn hooks_of_an_actors_job_run_where_bodies_run() {
    let (told, mut threads) = tokio::sync::mpsc::unbounded_channel();
    let (before, after) = (told.clone(), told);
    let job = hourly("print")
        .before(move |_| {
            before.send(thread()).expect("the test goes on");
            std::future::ready(())
        })
        .after_success(move |_| {
            after.send(thread()).expect("the test goes on");
            std::future::ready(())
        })
        .run_actor(Printer(std::rc::Rc::default()).start());
    let jobs = node_with([job]).start().await.expect("it starts");

    jobs.trigger("print").await.expect("nothing runs");

    for hook in ["before", "after_success"] {
        let thread = tokio::time::timeout(secs(60), threads.recv()).await.expect("it is called");
        assert_eq!(thread.as_deref(), Some("callsheet-body"), "{hook}");
    }
    jobs.shutdown(secs(60)).await;
}

#[test]
fn hooks_are_bounded_in_time_on_a_runtime_that_has_no_timer() {
    let bodies = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let handle = bodies.handle().clone();
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");

    caller.block_on(async {
        let job = hourly("report")
            .before(async |_| pending::<()>().await)
            .hook_timeout(Duration::from_millis(10))
            .run(async |_| {});
        let jobs = node_with([job]).bodies_on(handle).start().await.expect("it starts");
        let mut events = jobs.events(EventFilter::new().kinds([EventName::RunCancelled]));

        jobs.trigger("report").await.expect("nothing runs");

        let event = tokio::time::timeout(secs(60), events.next()).await.expect("it ends").expect("an event");
        assert!(event.to_string().ends_with("vetoed: a before hook did not return within 10ms"), "{event}");
        jobs.shutdown(secs(60)).await;
    });
}

/// Refuses one task when it is told to.
struct Refusing {
    refuses: Arc<AtomicBool>,
    runtime: tokio::runtime::Handle,
}

impl Spawner for Refusing {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if !self.refuses.swap(false, Ordering::Relaxed) {
            self.runtime.spawn(task);
        }
    }
}

#[actix::test]
async fn a_runtime_that_drops_a_call_of_a_hook_does_not_end_the_calls() {
    let (told, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let after = move |ended: EndedRun| {
        told.send(ended.run.id()).expect("the test goes on");
        std::future::ready(())
    };
    let printer = Printer(std::rc::Rc::default()).start();
    let job = hourly("print").after_success(after.clone()).after_failure(after).run_actor(printer);
    let refuses = Arc::new(AtomicBool::new(false));
    let refusing = Refusing { refuses: refuses.clone(), runtime: tokio::runtime::Handle::current() };
    let jobs = node_with([job]).spawner(refusing).start().await.expect("it starts");
    let mut ends =
        jobs.events(EventFilter::new().kinds([EventName::RunSucceeded, EventName::RunFailed]).job("print"));

    // Before it leads it asks by a task whether bodies start.
    while jobs.health().await.expect("it runs").term.is_none() {
        tokio::task::yield_now().await;
    }
    refuses.store(true, Ordering::Relaxed);
    jobs.trigger("print").await.expect("nothing runs");
    ends.next().await.expect("the first run ends");
    let second = jobs.trigger("print").await.expect("nothing runs");

    let called = tokio::time::timeout(secs(60), calls.recv()).await.expect("it is called");
    assert_eq!(called, Some(second.run()), "the call for the first run is lost");
    jobs.shutdown(secs(60)).await;
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a hook's captured state panics on purpose");
        }
    }
}

#[test]
fn what_a_hook_captured_may_panic_when_its_job_is_gone() {
    simulate(START, async |rig| {
        let bomb = Bomb;
        let job = hourly("report").before(move |_| {
            let _captured = &bomb;
            std::future::ready(())
        });
        let bystander = Job::new("bystander", every(secs(1))).run(async |_| {});
        let node = rig.node(node_with([job.run(async |_| {}), bystander])).await;

        rig.send(node, RemoveJobs("report".into())).await.expect("it is there");
        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.started("bystander"), 10);
        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 0);
    });
}
