//! The node's bound on runs in progress: who waits, who goes first, and that no slot is ever lost.
//!
//! Each story ends with [`all_slots_are_free`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Builder, CancelReason, CancelRuns, EventKind, Fires, Job, JobDetails, ListJobs, Overlap, RemoveJobs,
    Retry, RunPhase, Selector, TriggerError, UpdateJob, WhenFull,
    schedule::{Schedule, at, every},
    testkit::{
        Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};

use chrono::{DateTime, TimeDelta, Utc};

mod common;
use common::{answer_in_short, details, hours, node_with, obedient, secs, started_runs, trigger};

const START: &str = "2026-01-05T00:00:00Z";

/// A node that runs so many bodies at once.
fn bounded(slots: usize, jobs: impl IntoIterator<Item = Job>) -> Builder {
    node_with(jobs).max_concurrent_runs(slots)
}

/// A job that never fires by itself, and takes so many seconds.
fn by_hand(name: &str, seconds: u64) -> Job {
    Job::new(name, every(hours(24 * 365))).run_with(secs(seconds), obedient)
}

/// A job that fires once, so many seconds after the start, and takes ten.
fn once(name: &str, second: i64) -> Job {
    Job::new(name, at(instant(second))).run_with(secs(10), obedient)
}

fn instant(second: i64) -> DateTime<Utc> {
    START.parse::<DateTime<Utc>>().expect("an instant") + TimeDelta::seconds(second)
}

async fn until(rig: &mut Rig, second: i64) {
    let wait = (instant(second) - rig.now()).to_std().expect("it is to come");
    rig.advance(wait).await;
}

/// Nothing runs any more; as many bodies can start as the node has slots, and not one more.
async fn all_slots_are_free(rig: &mut Rig, node: usize, slots: u32) {
    let last = || {
        Job::new("last", every(hours(24 * 365)))
            .fires(Fires::Local)
            .overlap(Overlap::Allow(slots + 1))
            .run_with(secs(10), obedient)
    };
    rig.add(node, last()).await.expect("the name is free");
    let mut answers = Vec::new();
    for _ in 0..=slots {
        answers.push(answer_in_short(&trigger(rig, node, "last").await));
    }
    let (all, one_more) = answers.split_at(slots as usize);
    assert!(all.iter().all(|answer| *answer == "started"), "{answers:?}");
    assert_ne!(one_more, ["started"]);
    rig.advance(secs(60)).await;
}

/// The names of the jobs whose runs started, in their order.
fn order(rig: &Rig) -> Vec<String> {
    let started = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { job, .. } => Some(job.as_str().to_owned()),
        _ => None,
    });
    started.collect()
}

/// How many ticks and triggers wait on a node.
async fn waiting(rig: &mut Rig, node: usize) -> usize {
    rig.send(node, ListJobs::default()).await.jobs.iter().map(|job| job.waiting).sum()
}

/// Behaviours 41 and 43 of gocron's tests, the `wait` mode: ten jobs, two slots.
#[test]
fn the_ticks_of_ten_jobs_share_two_slots_in_the_order_in_which_they_came() {
    simulate(START, async |rig| {
        let names: Vec<_> = (0..10).map(|nth| format!("job-{nth}")).collect();
        // The later in the alphabet, the earlier it fires.
        let jobs = names.iter().rev().enumerate();
        let jobs =
            jobs.map(|(nth, name)| Job::new(name, at(instant(10 + nth as i64))).run_with(secs(20), obedient));
        let node = rig.node(bounded(2, jobs)).await;

        rig.advance(secs(25)).await;
        assert_eq!(rig.started("job-9") + rig.started("job-8"), 2);
        assert_eq!(order(rig).len(), 2, "the others wait");
        assert_eq!(waiting(rig, node).await, 8);
        rig.advance(secs(120)).await;
        assert_eq!(waiting(rig, node).await, 0);

        let expected: Vec<_> = names.into_iter().rev().collect();
        assert_eq!(order(rig), expected);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 10, "none was skipped");
        all_slots_are_free(rig, node, 2).await;
    });
}

#[test]
fn the_greater_priority_goes_first_and_equals_in_their_order() {
    simulate(START, async |rig| {
        let with = |name: &str, second, priority| once(name, second).priority(priority);
        let jobs = [
            once("first", 10),
            with("low", 11, -1),
            with("a", 12, 0),
            with("b", 13, 0),
            with("high", 14, 7),
            with("higher", 15, 8),
        ];
        let node = rig.node(bounded(1, jobs)).await;

        rig.advance(secs(100)).await;

        assert_eq!(order(rig), ["first", "higher", "high", "a", "b", "low"]);
        all_slots_are_free(rig, node, 1).await;
    });
}

/// Behaviour 42 of gocron's tests: no job runs twice at once, and a job that waits does not fill the queue.
#[test]
fn one_tick_of_a_job_waits_the_freshest_and_the_others_are_skipped() {
    simulate(START, async |rig| {
        let often = Job::new("often", every(secs(10)).until(instant(55))).run(async |_| {});
        let long = Job::new("long", at(instant(5))).run_with(secs(47), obedient);
        let node = rig.node(bounded(1, [long, often])).await;

        rig.advance(secs(45)).await;
        let status = rig.send(node, JobDetails("often".to_owned())).await.expect("it is there");
        assert_eq!((status.waiting, rig.started("often")), (1, 0));
        rig.advance(secs(60)).await;

        assert_eq!(rig.started("often"), 1, "the tick of the fiftieth second");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=concurrency"), 4);
        all_slots_are_free(rig, node, 1).await;
    });
}

/// Behaviour 41 of gocron's tests, the `reschedule` mode.
#[test]
fn a_full_node_that_is_to_skip_skips_ticks_and_refuses_triggers() {
    simulate(START, async |rig| {
        let jobs = [by_hand("long", 24), Job::new("often", every(secs(10))).run(async |_| {})];
        let node = rig.node(bounded(1, jobs).when_full(WhenFull::Skip)).await;
        rig.advance(secs(5)).await;
        trigger(rig, node, "long").await.expect("nothing runs");

        let refused = trigger(rig, node, "often").await;
        rig.advance(secs(40)).await;

        assert!(matches!(refused, Err(TriggerError::Concurrency { .. })), "{refused:?}");
        assert_eq!(rig.started("often"), 2, "at 30 s and 40 s");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=concurrency"), 2);
        rig.send(node, RemoveJobs("often".into())).await.expect("it is there");
        all_slots_are_free(rig, node, 1).await;
    });
}

/// A refusal of the node's slot is not asked for again at once, for ever.
#[test]
fn a_queued_trigger_that_finds_the_node_full_tries_again_later() {
    simulate(START, async |rig| {
        let queue = || by_hand("queue", 10).overlap(Overlap::Queue(1));
        let holder = rig.node(node_with([queue()])).await;
        rig.advance(secs(1)).await;
        let full = rig.node(bounded(1, [queue(), by_hand("long", 30)]).when_full(WhenFull::Skip)).await;
        rig.advance(secs(1)).await;
        trigger(rig, holder, "queue").await.expect("nothing runs");
        let queued = trigger(rig, full, "queue").await;
        rig.advance(secs(1)).await;
        trigger(rig, full, "long").await.expect("a queued trigger has no slot");

        rig.advance(secs(25)).await;
        assert_eq!((answer_in_short(&queued), rig.started("queue")), ("queued", 1));
        rig.advance(secs(10)).await;

        assert_eq!(rig.started("queue"), 2, "as it was promised");
        rig.advance(secs(20)).await;
        all_slots_are_free(rig, full, 1).await;
    });
}

#[test]
fn a_trigger_waits_for_a_slot_and_is_told_so() {
    simulate(START, async |rig| {
        let jobs = [by_hand("long", 20), by_hand("short", 5), once("due", 3)];
        let node = rig.node(bounded(1, jobs)).await;
        rig.advance(secs(1)).await;
        trigger(rig, node, "long").await.expect("nothing runs");

        let waits = trigger(rig, node, "short").await;
        let twice = trigger(rig, node, "short").await;
        // Of a job whose tick waits already.
        rig.advance(secs(3)).await;
        let behind = trigger(rig, node, "due").await;

        let answers = [&waits, &twice, &behind].map(answer_in_short);
        assert_eq!(answers, ["queued", "overlap", "queued"]);
        assert_eq!(rig.started("short"), 0);
        rig.advance(secs(60)).await;
        // The trigger took the slot that came free, and the tick found its run in progress.
        assert_eq!((rig.started("short"), rig.started("due")), (1, 1));
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=overlap"), 1);
        all_slots_are_free(rig, node, 1).await;
    });
}

/// A trigger that comes while a tick of its job, which has the only slot, is being claimed is answered at once all the same.
#[test]
fn a_trigger_during_the_claim_of_a_tick_is_answered() {
    for (overlap, expected) in
        [(Overlap::Skip, "overlap"), (Overlap::Queue(1), "queued"), (Overlap::Replace, "queued")]
    {
        simulate(START, async |rig| {
            let node = rig.node(bounded(1, [once("report", 10).overlap(overlap)])).await;
            // The claim takes a millisecond.
            until(rig, 10).await;
            assert_eq!(rig.started("report"), 0);

            let asked_at = rig.now();
            let answer = trigger(rig, node, "report").await;

            assert_eq!((answer_in_short(&answer), rig.started("report")), (expected, 1));
            assert!(rig.now() - asked_at < TimeDelta::seconds(1));
            rig.advance(secs(60)).await;
            all_slots_are_free(rig, node, 1).await;
        });
    }
}

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
fn local_and_led_jobs_share_the_slots() {
    simulate(START, async |rig| {
        let jobs = [
            once("led", 10),
            once("local", 11).fires(Fires::Local),
            once("any", 12).fires(Fires::AnyNode),
            once("local-too", 13).fires(Fires::Local),
        ];
        let node = rig.node(bounded(1, jobs)).await;

        rig.advance(secs(100)).await;

        assert_eq!(order(rig), ["led", "local", "any", "local-too"]);
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

            rig.send(node, RemoveJobs("dies".into())).await.expect("it is there");
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

        // The slot comes free at the very instant at which the actor dies: that of the tick of the twentieth second.
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
            rig.send(node, RemoveJobs(job.into())).await.expect("it is there");
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

        rig.send(node, UpdateJob(once("tick", 5).priority(1))).await.expect("it is there");
        rig.send(node, UpdateJob(by_hand("manual", 7))).await.expect("it is there");
        rig.send(node, CancelRuns(Selector::All)).await.expect("all is a selector");
        rig.advance(secs(60)).await;

        assert_eq!(order(rig), ["long", "tick"], "the trigger was dropped, the tick still waits");
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn a_node_that_stops_to_lead_while_its_ticks_wait_leaves_them_to_the_next_one() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let jobs = || [once("a", 10), once("b", 11), once("local", 12).fires(Fires::Local)];
        let first = rig.node(bounded(1, jobs())).await;
        rig.advance(secs(1)).await;
        let second = rig.node(bounded(2, jobs())).await;
        rig.advance(secs(12)).await;
        assert_eq!((rig.leader(), rig.started("b")), (Some(first), 0), "it waits behind a");

        rig.end_session(first);
        rig.advance(secs(60)).await;

        assert_eq!((rig.leader(), rig.started("b")), (Some(second), 1), "once, on the next leader");
        assert_eq!(rig.started("local"), 2, "once on each node");
        all_slots_are_free(rig, first, 1).await;
        rig.send(first, RemoveJobs("last".into())).await.expect("it is there");
        rig.advance(secs(60)).await;
        all_slots_are_free(rig, second, 2).await;
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
            assert_eq!(status.active_runs[0].phase, RunPhase::WaitingForSlot, "it is granted");
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

/// A local job takes the only slot for ten seconds while the claim of `led` has no answer; that is granted at last.
async fn granted_late(rig: &mut Rig) -> usize {
    let jobs = [once("led", 10).overlap(Overlap::Queue(1)), once("local", 20).fires(Fires::Local)];
    let node = rig.node(bounded(1, jobs)).await;
    until(rig, 9).await;
    rig.cut_off(node);
    until(rig, 21).await;
    rig.reconnect(node);
    until(rig, 28).await;
    assert_eq!((rig.store().held(), order(rig)), (1, vec!["local".to_owned()]));
    node
}

#[test]
fn a_run_that_waits_for_a_slot_to_begin_is_cancelled_at_once() {
    simulate(START, async |rig| {
        let node = granted_late(rig).await;

        let cancelled = rig.send(node, CancelRuns("led".into())).await.expect("it is there");
        rig.advance(secs(1)).await;

        assert_eq!(cancelled.len(), 1);
        let requested =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::Requested, .. });
        assert_eq!((rig.count(requested), rig.store().held()), (1, 0), "its key is free");
        rig.advance(secs(60)).await;
        assert_eq!(order(rig), ["local"]);
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn a_shutdown_waits_for_a_run_that_waits_for_a_slot_to_begin_as_long_as_it_has_time() {
    for (deadline, drained, cancelled) in [(60, 2, 0), (1, 0, 2)] {
        simulate(START, async |rig| {
            let node = granted_late(rig).await;

            let report = rig.shutdown(node, secs(deadline)).await;

            assert_eq!(
                (report.drained, report.cancelled, report.aborted),
                (drained, cancelled, 0),
                "{report:?}"
            );
            assert_eq!((report.still_running, rig.store().held()), (0, 0));
        });
    }
}

#[test]
fn waiting_triggers_of_one_job_keep_their_order_behind_another_job() {
    simulate(START, async |rig| {
        let node =
            rig.node(bounded(1, [by_hand("long", 10), by_hand("queue", 5).overlap(Overlap::Queue(3))])).await;
        rig.advance(secs(1)).await;
        let mut promised = vec![trigger(rig, node, "long").await.expect("nothing runs").run()];

        for _ in 0..3 {
            promised.push(trigger(rig, node, "queue").await.expect("there is room").run());
        }
        let refused = trigger(rig, node, "queue").await;
        rig.advance(secs(60)).await;

        assert_eq!(answer_in_short(&refused), "overlap", "the queue has its own bound");
        assert_eq!(started_runs(rig), promised);
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn a_shutdown_does_not_wait_for_what_waits_for_a_slot() {
    simulate(START, async |rig| {
        let jobs = [by_hand("long", 20), once("tick", 5), by_hand("manual", 5)];
        let node = rig.node(bounded(1, jobs)).await;
        rig.advance(secs(1)).await;
        trigger(rig, node, "long").await.expect("nothing runs");
        trigger(rig, node, "manual").await.expect("it waits");
        rig.advance(secs(6)).await;
        let begun_at = rig.now();

        let report = rig.shutdown(node, secs(60)).await;

        assert_eq!((report.drained, report.cancelled, report.aborted), (1, 1, 0), "the trigger was dropped");
        assert!(rig.now() - begun_at < TimeDelta::seconds(15), "as long as the run in progress");
        assert_eq!(order(rig), ["long"]);
    });
}
