//! Hooks before a run: vetoes, delays and panics.

use super::*;

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
fn no_attempt_gets_past_a_before_hook_that_outlasts_the_runs_timeout() {
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

        rig.send(node, CancelRuns::new(Selector::All)).await.expect("it is there");
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

/// Row 46: a job that removes itself in its own before hook. Its run goes on to its end.
#[test]
fn a_job_can_remove_itself_in_its_own_before_hook() {
    simulate(START, async |rig| {
        let supervisor: Arc<OnceLock<Addr<SupervisorActor>>> = Arc::default();
        let known = supervisor.clone();
        let before = move |run: Run| {
            let supervisor = known.get().expect("the node has started").clone();
            async move {
                let removed = supervisor.send(RemoveJobs::new(run.job())).await??;
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
