//! No slot is ever lost.

use super::*;

#[test]
fn a_run_gives_its_slot_back_between_two_attempts() {
    simulate(START, async |rig| {
        let retry = Retry::attempts(3).initial(secs(10)).factor(1.0).jitter(0.0);
        let failing =
            Job::new("failing", at(instant(5))).retry(retry).run(async |_| Err::<(), _>("no connection"));
        let node = rig.node(bounded(1, [failing, by_hand("long", 30)])).await;
        rig.advance(secs(7)).await;

        let started = trigger(rig, node, "long").await;
        assert_eq!(answer_in_short(&started), "started");
        // The second attempt was due at 15 s, and waits for the slot.
        rig.advance(secs(29)).await;
        assert_eq!(rig.counter("callsheet_run_retries_total", ""), 1);
        rig.advance(secs(2)).await;
        assert_eq!(rig.counter("callsheet_run_retries_total", ""), 2, "the second attempt failed at 37 s");

        rig.advance(secs(30)).await;
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=failed"), 1);
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn an_attempt_that_finds_the_node_full_is_put_off_not_given_up() {
    simulate(START, async |rig| {
        let retry = Retry::attempts(2).initial(secs(10)).jitter(0.0);
        let failing =
            Job::new("failing", at(instant(5))).retry(retry).run(async |_| Err::<(), _>("no connection"));
        let node = rig.node(bounded(1, [failing, by_hand("long", 30)]).when_full(WhenFull::Skip)).await;
        rig.advance(secs(7)).await;
        trigger(rig, node, "long").await.expect("the slot is free between two attempts");

        rig.advance(secs(28)).await;
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=failed"), 0);
        rig.advance(secs(5)).await;

        assert_eq!(rig.counter("callsheet_runs_total", "outcome=failed"), 1);
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn bodies_that_panic_or_are_aborted_give_their_slots_back() {
    simulate(START, async |rig| {
        let panicking = Job::new("panicking", every(secs(1)).until(instant(20)))
            .run(async |_| -> () { panic!("out of paper") });
        let stubborn = Job::new("stubborn", at(instant(5)))
            .timeout(secs(2))
            .abort_after(secs(2))
            .run(async |_| std::future::pending::<()>().await);
        let vetoed = once("vetoed", 15).before(async |_| Err::<(), _>("not today"));
        let node = rig.node(bounded(2, [panicking, stubborn, vetoed])).await;

        rig.advance(secs(60)).await;

        assert_eq!(rig.counter("callsheet_runs_total", "outcome=panicked"), 19);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=timed_out"), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=cancelled"), 1);
        all_slots_are_free(rig, node, 2).await;
    });
}

/// Its schedule panics whenever it is asked for the tick after the third second.
fn dies_after_three_seconds(panics: u32) -> Job {
    let schedule = PanickingSchedule::new(Period::seconds(1), instant(3), panics);
    Job::new("dies", schedule).run(async |_| tokio::time::sleep(Duration::from_millis(200)).await)
}

#[test]
fn actors_that_die_and_jobs_that_break_give_their_slots_back() {
    for panics in [1, u32::MAX] {
        simulate(START, async |rig| {
            let node = rig.node(bounded(1, [dies_after_three_seconds(panics)])).await;
            rig.advance(secs(10)).await;

            rig.send(node, RemoveJobs::new("dies")).await.expect("it is there");
            rig.advance(secs(1)).await;
            all_slots_are_free(rig, node, 1).await;
        });
        simulate(START, async |rig| {
            // Its actor dies while it has the slot in hand, or waits for it.
            let jobs = [dies_after_three_seconds(panics), once("long", 0), by_hand("longer", 30)];
            let node = rig.node(bounded(1, jobs)).await;
            rig.advance(Duration::from_millis(2_500)).await;
            trigger(rig, node, "longer").await.expect("a slot, now or later");
            rig.advance(secs(60)).await;

            assert_eq!(rig.started("longer"), 1);
            if panics == u32::MAX {
                // It is still there, and broken.
                all_slots_are_free(rig, node, 1).await;
            }
        });
    }
}

/// Every ten seconds; panics while it is out of order.
#[derive(Debug, Clone, Default)]
struct Moody {
    out_of_order: Arc<AtomicBool>,
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every ten seconds, in a good mood")
    }
}

impl Schedule for Moody {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        assert!(!self.out_of_order.load(Ordering::Relaxed), "a schedule that is out of order");
        Period::seconds(10).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(10).previous_before(before)
    }
}

#[test]
fn a_slot_that_comes_free_for_an_actor_that_dies_of_it_is_not_lost() {
    simulate(START, async |rig| {
        let schedule = Moody::default();
        let bad = Job::new("bad", schedule.clone()).run(async |_| {});
        let node = rig.node(bounded(1, [by_hand("long", 15).fires(Fires::Local), bad])).await;
        until(rig, 5).await;
        trigger(rig, node, "long").await.expect("nothing runs");
        rig.advance(secs(7)).await;
        schedule.out_of_order.store(true, Ordering::Relaxed);

        // The slot comes free at the very instant at which the actor dies: that of the tick of the twentieth
        // second.
        rig.advance(secs(60)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobBroken { .. })), 1);
        all_slots_are_free(rig, node, 1).await;
        schedule.out_of_order.store(false, Ordering::Relaxed);
    });
}

#[test]
fn jobs_that_are_removed_while_they_wait_leave_the_queue() {
    simulate(START, async |rig| {
        let jobs = [by_hand("long", 30), once("tick", 5), by_hand("manual", 5), once("stays", 6)];
        let node = rig.node(bounded(1, jobs)).await;
        rig.advance(secs(1)).await;
        trigger(rig, node, "long").await.expect("nothing runs");
        trigger(rig, node, "manual").await.expect("it waits");
        rig.advance(secs(10)).await;

        for job in ["tick", "manual", "long"] {
            rig.send(node, RemoveJobs::new(job)).await.expect("it is there");
        }
        rig.advance(secs(60)).await;

        assert_eq!(order(rig), ["long", "stays"]);
        let dropped =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::NotStarted, .. });
        assert_eq!(rig.count(dropped), 1, "the trigger that was promised to start");
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn cancelled_and_updated_jobs_that_wait_lose_no_slot() {
    simulate(START, async |rig| {
        let jobs = [by_hand("long", 30), once("tick", 5), by_hand("manual", 5)];
        let node = rig.node(bounded(1, jobs)).await;
        rig.advance(secs(1)).await;
        trigger(rig, node, "long").await.expect("nothing runs");
        trigger(rig, node, "manual").await.expect("it waits");
        rig.advance(secs(10)).await;

        rig.send(node, UpdateJob::new(once("tick", 5).priority(1))).await.expect("it is there");
        rig.send(node, UpdateJob::new(by_hand("manual", 7))).await.expect("it is there");
        rig.send(node, CancelRuns::new(Selector::All)).await.expect("all is a selector");
        rig.advance(secs(60)).await;

        assert_eq!(order(rig), ["long", "tick"], "the trigger was dropped, the tick still waits");
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn a_claim_without_an_answer_loses_no_slot() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let node = rig.node(bounded(1, [once("tick", 10), by_hand("manual", 5)])).await;
        rig.advance(Duration::from_millis(9_500)).await;

        rig.cut_off(node);
        rig.advance(secs(2)).await;
        let answer = trigger(rig, node, "manual").await;
        assert_eq!(answer_in_short(&answer), "queued", "behind the tick whose claim is under way");
        rig.advance(secs(60)).await;
        rig.reconnect(node);
        rig.advance(secs(60)).await;

        assert_eq!((rig.started("tick"), rig.started("manual")), (1, 1));
        all_slots_are_free(rig, node, 1).await;
    });
}

/// A store that does not answer harms no job that does not need it, and what it has granted is not skipped.
#[test]
fn a_local_job_does_not_starve_behind_a_claim_without_an_answer() {
    for when_full in [WhenFull::Wait, WhenFull::Skip] {
        simulate(START, async |rig| {
            rig.set_lease(secs(60));
            let led = once("led", 10).timeout(secs(15));
            let jobs = [led, once("local", 20).fires(Fires::Local)];
            let node = rig.node(bounded(1, jobs).when_full(when_full)).await;
            until(rig, 9).await;

            rig.cut_off(node);
            until(rig, 21).await;
            assert_eq!(order(rig), ["local"], "the claim has waited for its answer since the tenth second");
            rig.reconnect(node);
            until(rig, 29).await;
            let status = details(rig, node, "led").await;
            assert_eq!(status.active_runs[0].phase, RunPhase::WaitingForPermit, "it is granted");
            assert_eq!((rig.store().held(), rig.started("led")), (1, 0));
            until(rig, 32).await;

            assert_eq!(order(rig), ["local", "led"], "{when_full:?}");
            until(rig, 60).await;
            assert_eq!(
                rig.counter("callsheet_runs_total", "outcome=succeeded"),
                2,
                "its timeout counts from its start"
            );
            assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 2);
            all_slots_are_free(rig, node, 1).await;
        });
    }
}
