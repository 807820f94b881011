//! No overlap: what happens to a tick, and to a manual trigger, during a run of the same lock key, on one
//! node and on two.

use std::time::Duration;

use callsheet::{
    AddError, AddJob, AddJobs, CancelReason, CancelRuns, EventKind, Fires, Job, JobDetails, Outcome, Overlap,
    RemoveJobs, Triggered, UpdateError, UpdateJob,
    schedule::{at, every},
    testkit::{Rig, simulate},
};

mod common;
use common::{
    answer_in_short, assert_transcript, hours, node_with, obedient, secs, started_on, started_runs, trigger,
};

const START: &str = "2026-01-05T00:00:00Z";

/// Five ticks, ten seconds apart.
fn five() -> [&'static str; 5] {
    [
        "2026-01-05T00:00:10Z",
        "2026-01-05T00:00:20Z",
        "2026-01-05T00:00:30Z",
        "2026-01-05T00:00:40Z",
        "2026-01-05T00:00:50Z",
    ]
}

/// The timeline that the docs of `Overlap` draw: each run takes as long as two and a half periods.
fn timeline(overlap: Overlap, expected: &str) {
    simulate(START, async |rig| {
        let job = Job::new("report", at(five())).overlap(overlap).run_with(secs(25), obedient);
        rig.node(node_with([job])).await;

        rig.advance(secs(120)).await;

        assert_transcript(rig, expected);
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 5);
        assert_eq!(rig.store().held(), 0);
    });
}

/// The mode `reschedule` of gocron.
#[test]
fn skip_runs_the_ticks_that_find_the_key_free() {
    timeline(Overlap::Skip, include_str!("transcripts/overlap_skip.txt"));
}

/// The mode `wait` of gocron; the queue is bounded.
#[test]
fn queue_lets_the_freshest_tick_wait_for_the_end_of_the_run() {
    timeline(Overlap::Queue(1), include_str!("transcripts/overlap_queue.txt"));
}

#[test]
fn replace_asks_the_run_in_progress_to_stop() {
    timeline(Overlap::Replace, include_str!("transcripts/overlap_replace.txt"));
}

/// The number of runs beside each other is bounded.
#[test]
fn allow_lets_so_many_runs_go_on_beside_each_other() {
    timeline(Overlap::Allow(2), include_str!("transcripts/overlap_allow.txt"));
}

/// A manual run on the follower holds the key when a tick of the leader is due, twice: the first time it goes
/// on, the second time its node is killed before that tick.
fn between_nodes(overlap: Overlap, expected: &str) {
    simulate(START, async |rig| {
        let job = || {
            Job::new("report", at(["2026-01-05T00:00:10Z", "2026-01-05T00:01:10Z"]))
                .overlap(overlap)
                .run_with(secs(15), obedient)
        };
        rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job()])).await;
        rig.advance(secs(4)).await;

        trigger(rig, follower, "report").await.expect("nothing runs");
        rig.advance(secs(60)).await;
        trigger(rig, follower, "report").await.expect("nothing runs any more");
        rig.advance(secs(1)).await;
        rig.kill(follower);
        rig.advance(secs(60)).await;

        assert_transcript(rig, expected);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=lost"), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn skip_holds_between_nodes() {
    between_nodes(Overlap::Skip, include_str!("transcripts/overlap_cluster_skip.txt"));
}

#[test]
fn queue_waits_for_a_run_on_another_node() {
    between_nodes(Overlap::Queue(1), include_str!("transcripts/overlap_cluster_queue.txt"));
}

#[test]
fn replace_stops_a_run_on_another_node() {
    between_nodes(Overlap::Replace, include_str!("transcripts/overlap_cluster_replace.txt"));
}

#[test]
fn allow_counts_the_runs_of_all_nodes() {
    between_nodes(Overlap::Allow(2), include_str!("transcripts/overlap_cluster_allow.txt"));
}

/// Three triggers on the leader, then two on the follower, a second after each other; each run takes ten.
fn triggers(overlap: Overlap, answers: [&str; 5], expected: &str) {
    simulate(START, async |rig| {
        let job = || Job::new("report", every(hours(1))).overlap(overlap).run_with(secs(10), obedient);
        let leader = rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job()])).await;

        let mut answered = Vec::new();
        for node in [leader, leader, leader, follower, follower] {
            rig.advance(secs(1)).await;
            answered.push(answer_in_short(&trigger(rig, node, "report").await));
        }
        rig.advance(secs(60)).await;

        assert_eq!(answered, answers);
        assert_transcript(rig, expected);
        let promised = answers.iter().filter(|answer| matches!(**answer, "started" | "queued")).count();
        assert_eq!(rig.started("report"), promised, "what was promised ran, and nothing else");
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 0, "a trigger is no tick");
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn triggers_under_skip_are_refused_while_the_key_is_held() {
    let answers = ["started", "overlap", "overlap", "overlap", "overlap"];
    triggers(Overlap::Skip, answers, include_str!("transcripts/triggers_skip.txt"));
}

#[test]
fn triggers_under_queue_run_in_their_turn() {
    let answers = ["started", "queued", "overlap", "queued", "overlap"];
    triggers(Overlap::Queue(1), answers, include_str!("transcripts/triggers_queue.txt"));
}

#[test]
fn triggers_under_replace_stop_the_run_in_progress_on_any_node() {
    let answers = ["started", "queued", "queued", "queued", "queued"];
    triggers(Overlap::Replace, answers, include_str!("transcripts/triggers_replace.txt"));
}

#[test]
fn triggers_under_allow_start_while_there_are_slots() {
    let answers = ["started", "started", "overlap", "overlap", "overlap"];
    triggers(Overlap::Allow(2), answers, include_str!("transcripts/triggers_allow.txt"));
}

fn cancelled(why: CancelReason) -> impl Fn(&EventKind) -> bool {
    move |kind| matches!(kind, EventKind::RunCancelled { why: said, .. } if *said == why)
}

#[test]
fn a_run_that_does_not_stop_is_aborted_before_it_is_replaced() {
    simulate(START, async |rig| {
        let stubborn = Job::new("report", at(five()))
            .overlap(Overlap::Replace)
            .abort_after(secs(3))
            .run(async |_| std::future::pending::<()>().await);
        let node = rig.node(node_with([stubborn])).await;
        rig.advance(secs(11)).await;

        let queued = trigger(rig, node, "report").await;
        let refused = trigger(rig, node, "report").await;

        assert_eq!((answer_in_short(&queued), answer_in_short(&refused)), ("queued", "overlap"));
        rig.advance(secs(2)).await;
        assert_eq!(rig.started("report"), 1, "it is not aborted yet");
        rig.advance(secs(2)).await;
        assert_eq!(rig.started("report"), 2);
        // Each of the other ticks stops the run before, and it is aborted.
        rig.advance(secs(60)).await;
        assert_eq!((rig.started("report"), rig.count(cancelled(CancelReason::Replaced))), (6, 5));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::TickSkipped { .. })), 0);
    });
}

#[test]
fn a_queue_keeps_its_bound_and_its_order() {
    simulate(START, async |rig| {
        let job = Job::new("report", every(hours(1))).overlap(Overlap::Queue(3)).run_with(secs(10), obedient);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(1)).await;

        let mut promised = Vec::new();
        for _ in 0..4 {
            promised.push(trigger(rig, node, "report").await.expect("there is room").run());
        }
        let refused = trigger(rig, node, "report").await;
        let status = rig.send(node, JobDetails("report".to_owned())).await.expect("it is there");

        assert_eq!((answer_in_short(&refused), status.waiting), ("overlap", 3));
        rig.advance(secs(50)).await;
        assert_eq!(started_runs(rig), promised);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 4);
        let status = rig.send(node, JobDetails("report".to_owned())).await.expect("it is there");
        let last: Vec<_> = status.last_runs.iter().rev().map(|last| last.run).collect();
        assert_eq!(last, promised, "each is in the history when it has ended");
    });
}

/// Two queued triggers behind a run of 10 s; `drop` is what drops them.
fn queued_triggers_are_dropped(runs_to_its_end: bool, drop: impl AsyncFnOnce(&mut Rig, usize)) {
    simulate(START, async |rig| {
        let job = Job::new("report", every(hours(1))).overlap(Overlap::Queue(5)).run_with(secs(10), obedient);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(1)).await;
        let mut triggered = Vec::new();
        for _ in 0..3 {
            triggered.push(trigger(rig, node, "report").await.expect("there is room"));
        }

        drop(rig, node).await;
        rig.advance(secs(60)).await;

        assert!(matches!(triggered[..], [Triggered::Started(_), Triggered::Queued(_), Triggered::Queued(_)]));
        let ids: Vec<_> = triggered.iter().map(|triggered| triggered.run()).collect();
        assert_eq!(started_runs(rig), ids[..1]);
        let dropped = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
            EventKind::RunCancelled { run, why: CancelReason::NotStarted, .. } => Some(run),
            _ => None,
        });
        assert_eq!(dropped.collect::<Vec<_>>(), ids[1..], "it is said of each");
        let outcome = if runs_to_its_end { Outcome::Succeeded } else { Outcome::Cancelled };
        assert_eq!(rig.counter("callsheet_runs_total", &format!("outcome={outcome}")), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn a_shutdown_drops_queued_triggers_with_an_event() {
    queued_triggers_are_dropped(true, async |rig, node| {
        let report = rig.shutdown(node, secs(30)).await;
        assert_eq!((report.drained, report.cancelled, report.aborted), (1, 2, 0));
    });
}

#[test]
fn a_removal_drops_queued_triggers_with_an_event() {
    queued_triggers_are_dropped(true, async |rig, node| {
        rig.send(node, RemoveJobs::new("report")).await.expect("it is there");
    });
}

#[test]
fn cancelling_the_runs_drops_queued_triggers_with_an_event() {
    queued_triggers_are_dropped(false, async |rig, node| {
        let told = rig.send(node, CancelRuns::new("report")).await.expect("it is there");
        assert_eq!(told.len(), 1, "the run in progress");
    });
}

/// A trigger that waits for a key on another node is asked for again and again: whenever it is dropped, it
/// stays dropped.
#[test]
fn a_trigger_that_waits_for_another_node_is_dropped_at_whatever_instant() {
    for millis in 0..10 {
        simulate(START, async |rig| {
            let job =
                || Job::new("report", every(hours(1))).overlap(Overlap::Queue(1)).run_with(secs(5), obedient);
            let leader = rig.node(node_with([job()])).await;
            rig.advance(secs(1)).await;
            let follower = rig.node(node_with([job()])).await;
            rig.advance(secs(1)).await;
            trigger(rig, leader, "report").await.expect("nothing runs");
            let queued = trigger(rig, follower, "report").await.expect("it waits");
            assert!(matches!(queued, Triggered::Queued(_)), "{queued:?}");

            // About when it asks again, which takes a millisecond.
            rig.advance(Duration::from_millis(245 + millis)).await;
            rig.send(follower, RemoveJobs::new("report")).await.expect("it is there");
            rig.advance(secs(60)).await;

            assert_eq!(rig.started("report"), 1, "{millis}");
            assert_eq!(rig.count(cancelled(CancelReason::NotStarted)), 1, "{millis}");
            assert_eq!(rig.store().held(), 0);
        });
    }
}

/// A lock of a job's own, or of several jobs.
#[test]
fn jobs_that_share_a_key_wait_for_each_other() {
    simulate(START, async |rig| {
        let sharing = |name: &str, instant: &str| {
            Job::new(name, at(instant.to_owned()))
                .lock_key("ledger")
                .overlap(Overlap::Queue(1))
                .run_with(secs(10), obedient)
        };
        let jobs = [sharing("close", "2026-01-05T00:00:10Z"), sharing("audit", "2026-01-05T00:00:15Z")];
        rig.node(node_with(jobs)).await;

        rig.advance(secs(16)).await;
        assert_eq!((rig.started("close"), rig.started("audit")), (1, 0));
        rig.advance(secs(5)).await;

        assert_eq!(rig.started("audit"), 1, "when the key was free");
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::TickSkipped { .. })), 0);
    });
}

#[test]
fn a_tick_of_one_job_stops_the_run_of_another_one_with_the_same_key() {
    simulate(START, async |rig| {
        let sharing = |name: &str, instant: &str| {
            Job::new(name, at(instant.to_owned()))
                .lock_key("ledger")
                .overlap(Overlap::Replace)
                .run_with(hours(1), obedient)
        };
        let jobs = [sharing("close", "2026-01-05T00:00:10Z"), sharing("audit", "2026-01-05T00:00:15Z")];
        rig.node(node_with(jobs)).await;

        rig.advance(secs(16)).await;

        assert_eq!((rig.started("close"), rig.started("audit")), (1, 1));
        assert_eq!(rig.count(cancelled(CancelReason::Replaced)), 1);
        assert_eq!(rig.store().held(), 1);
    });
}

fn sharing(name: &str, overlap: Overlap) -> Job {
    Job::new(name, every(secs(10))).lock_key("ledger").overlap(overlap).run(async |_| {})
}

const CONFLICT: &str = r#"job "audit": overlap policy "skip": jobs that share the lock key "ledger" share one overlap policy, and that of job "close" is "queue 1"; choose the same"#;

#[test]
fn jobs_that_share_a_key_share_one_policy() {
    let close = || sharing("close", Overlap::Queue(1));
    let audit = || sharing("audit", Overlap::Skip);
    let at_start = node_with([close(), audit()]).check().expect_err("they differ");
    assert_eq!(at_start.to_string(), CONFLICT);

    simulate(START, async |rig| {
        let node = rig.node(node_with([close()])).await;

        let one = rig.send(node, AddJob::new(audit())).await.expect_err("they differ");
        let AddError::Invalid(faults) = one else { panic!("{one:?}") };
        assert_eq!(faults.to_string(), CONFLICT);

        let batch = AddJobs::new(vec![Job::new("other", every(secs(10))).run(async |_| {}), audit()]);
        let batch = rig.send(node, batch).await.expect_err("they differ");
        let AddError::Invalid(faults) = batch else { panic!("{batch:?}") };
        assert_eq!(faults.to_string(), CONFLICT);
        assert!(rig.send(node, JobDetails("other".to_owned())).await.is_none(), "all or nothing");

        rig.add(node, sharing("audit", Overlap::Queue(1))).await.expect("they are the same");
        let update = rig.send(node, UpdateJob::new(audit())).await.expect_err("they differ");
        let UpdateError::Invalid(faults) = update else { panic!("{update:?}") };
        assert_eq!(faults.to_string(), CONFLICT);

        // Alone with its key, a job may change its policy.
        rig.send(node, RemoveJobs::new("close")).await.expect("it is there");
        rig.send(node, UpdateJob::new(audit())).await.expect("it is alone");
    });
}

#[test]
fn a_job_without_a_key_of_its_own_shares_the_one_that_is_called_like_it() {
    let other =
        Job::new("audit", every(secs(10))).lock_key("close").overlap(Overlap::Replace).run(async |_| {});
    let close = Job::new("close", every(secs(10))).run(async |_| {});

    let faults = node_with([close, other]).check().expect_err("they differ");

    let differs = r#"overlap policy "replace": jobs that share the lock key "close""#;
    assert!(faults.to_string().contains(differs), "{faults}");
}

#[test]
fn runs_of_a_former_definition_count_for_the_new_policy() {
    simulate(START, async |rig| {
        let job = |overlap| Job::new("report", every(hours(1))).overlap(overlap).run_with(secs(20), obedient);
        let node = rig.node(node_with([job(Overlap::Allow(3))])).await;
        rig.advance(secs(1)).await;
        trigger(rig, node, "report").await.expect("a slot");
        rig.advance(secs(10)).await;
        trigger(rig, node, "report").await.expect("a slot");
        rig.send(node, UpdateJob::new(job(Overlap::Queue(1)))).await.expect("it is alone");
        // The first slot is free again, but not the job.
        rig.advance(secs(12)).await;

        let queued = trigger(rig, node, "report").await;

        assert_eq!((answer_in_short(&queued), rig.started("report")), ("queued", 2));
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("report"), 3);
    });
}

#[test]
fn the_policies_hold_for_jobs_without_claims() {
    simulate(START, async |rig| {
        let job = |name: &str, overlap| {
            Job::new(name, at(five())).fires(Fires::Local).overlap(overlap).run_with(secs(25), obedient)
        };
        let jobs = [
            job("skip", Overlap::Skip),
            job("queue", Overlap::Queue(1)),
            job("replace", Overlap::Replace),
            job("allow", Overlap::Allow(2)),
        ];
        rig.node(node_with(jobs)).await;

        rig.advance(secs(120)).await;

        let started = ["skip", "queue", "replace", "allow"].map(|job| rig.started(job));
        assert_eq!(started, [2, 3, 5, 4]);
        let skipped = rig.counter("callsheet_ticks_total", "outcome=overlap");
        assert_eq!(skipped, 6, "due = started + skipped");
    });
}

#[test]
fn any_node_takes_the_tick_that_waited_and_each_runs_once() {
    simulate(START, async |rig| {
        let job = || {
            Job::new("report", at(five()))
                .fires(Fires::AnyNode)
                .overlap(Overlap::Queue(5))
                .run_with(secs(25), obedient)
        };
        for _ in 0..3 {
            rig.node(node_with([job()])).await;
        }

        rig.advance(secs(200)).await;

        assert_eq!(rig.started("report"), 5, "each tick once");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 5);
        let on_each: usize = ["n1", "n2", "n3"].map(|node| started_on(rig, node)).iter().sum();
        assert_eq!(on_each, 5);
        assert_eq!(rig.store().held(), 0);
    });
}
