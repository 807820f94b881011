//! Who waits for a slot, and who goes first.

use super::*;

/// How many ticks and triggers wait on a node.
async fn waiting(rig: &mut Rig, node: usize) -> usize {
    rig.send(node, ListJobs::default()).await.jobs.iter().map(|job| job.waiting).sum()
}

/// The mode `wait` of gocron: ten jobs, two slots.
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

/// No job runs twice at once, and a job that waits does not fill the queue.
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

/// The mode `reschedule` of gocron.
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
        rig.send(node, RemoveJobs::new("often")).await.expect("it is there");
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

/// A trigger that comes while a tick of its job, which has the only slot, is being claimed is answered at
/// once all the same.
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
fn a_node_that_stops_leading_leaves_its_waiting_ticks_to_the_next() {
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
        rig.send(first, RemoveJobs::new("last")).await.expect("it is there");
        rig.advance(secs(60)).await;
        all_slots_are_free(rig, second, 2).await;
    });
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
