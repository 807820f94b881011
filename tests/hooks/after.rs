//! Hooks after a run and for a skip: their order, and those that hang.

use super::*;

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
        rig.send(node, CancelRuns::new(Selector::All)).await.expect("all of them");
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
fn a_slow_after_hook_delays_neither_the_key_nor_the_schedule() {
    simulate(START, async |rig| {
        let calls = Calls::default();
        let noted = calls.clone();
        let hook = move |ended: FinishedRun| {
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
fn the_hooks_of_a_restarted_job_run_one_after_the_other() {
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
fn a_bad_after_hook_is_counted_and_the_next_one_is_called() {
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

#[test]
fn a_shutdown_waits_for_after_hooks_within_its_deadline() {
    for (hook, deadline, called, took) in [(20, 60, true, 20), (20, 5, false, 5)] {
        simulate(START, async |rig| {
            let calls = Calls::default();
            let noted = calls.clone();
            let after = move |_: FinishedRun| {
                let calls = noted.clone();
                async move {
                    tokio::time::sleep(secs(hook)).await;
                    calls.note("called");
                }
            };
            let job = hourly("report").after_success(after).hook_timeout(secs(60)).run(async |_| {});
            let node = rig.node(node_with([job])).await;
            rig.send(node, TriggerJob::new("report")).await.expect("nothing runs");
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
        let after = async |_: FinishedRun| tokio::time::sleep(secs(10)).await;
        let job = hourly("report").after_success(after).hook_timeout(secs(60)).run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.send(node, TriggerJob::new("report")).await.expect("nothing runs");
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
