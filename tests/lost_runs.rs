//! A run whose node died goes on as its next attempt, if its job says so.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    AddJob, CancelReason, CancelRuns, EventKind, FencingToken, Fires, Job, LOSSES_MAX, OnLost, Origin,
    Overlap, RemoveJobs, Run, RunHistory, RunId, TriggerError, TriggerJob, UpdateJob,
    schedule::every,
    testkit::{Rig, simulate},
};

use chrono::{DateTime, Utc};

mod common;
use common::{assert_golden, hours, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

/// A job whose first run, at one o'clock, takes ten minutes, and is retried if it is lost.
fn job() -> Job {
    Job::new("job", every(hours(1))).on_lost(OnLost::Retry).run(async |_| tokio::time::sleep(mins(10)).await)
}

/// As many nodes, the first of which is a minute into its run.
async fn nodes_in_a_run(rig: &mut Rig, nodes: usize) {
    for _ in 0..nodes {
        rig.node(node_with([job()])).await;
    }
    rig.advance(hours(1) + mins(1)).await;
    assert_eq!(starts(rig, "job"), ["n1 01:00:00"]);
}

/// The runs that started, each with its token.
fn tokens(rig: &Rig) -> Vec<(RunId, FencingToken)> {
    let start = |kind| match kind {
        EventKind::RunStarted { run, token, .. } => Some((run, token?)),
        _ => None,
    };
    rig.events().into_iter().filter_map(|recorded| start(recorded.event.kind)).collect()
}

fn lost(rig: &Rig) -> usize {
    rig.count(|kind| matches!(kind, EventKind::RunLost { .. }))
}

#[test]
fn the_story_of_a_run_whose_node_is_killed() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;

        rig.kill(0);
        rig.advance(hours(1)).await;

        assert_golden(rig, "lost_run_goes_on");
        let tokens = tokens(rig);
        assert_eq!(tokens[0].0, tokens[1].0, "the same run");
        assert!(tokens[0].1 < tokens[1].1, "with a greater token: {tokens:?}");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 2, "the tick was claimed once");
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=lost"), 1);
    });
}

#[test]
fn a_body_sees_its_attempt_and_may_be_tried_again_as_often_as_is_left() {
    simulate(START, async |rig| {
        let fails = || {
            Job::new("job", every(hours(1)))
                .on_lost(OnLost::Retry)
                .retry(callsheet::Retry::attempts(3).initial(secs(1)).jitter(0.0))
                .run(async |run: Run| {
                    tokio::time::sleep(mins(1)).await;
                    Err::<(), _>(format!("attempt {}", run.attempt()))
                })
        };
        for _ in 0..2 {
            rig.node(node_with([fails()])).await;
        }
        rig.advance(hours(1) + secs(30)).await;
        rig.kill(0);
        rig.advance(mins(30)).await;

        let errors: Vec<_> = rig
            .events()
            .into_iter()
            .filter_map(|recorded| match recorded.event.kind {
                EventKind::RunRetried { error, .. } | EventKind::RunFailed { error, .. } => Some(error),
                _ => None,
            })
            .collect();
        assert_eq!(errors, ["attempt 2", "attempt 3"].map(Arc::<str>::from));
    });
}

#[test]
fn a_run_that_is_lost_too_often_may_be_what_kills_the_nodes() {
    simulate(START, async |rig| {
        let nodes = LOSSES_MAX as usize + 1;
        nodes_in_a_run(rig, nodes).await;

        for node in 0..nodes - 1 {
            rig.kill(node);
            rig.advance(secs(30)).await;
        }

        let attempts: Vec<_> = (2..=LOSSES_MAX).map(|nth| format!("n{nth} 01:00:00 attempt {nth}")).collect();
        assert_eq!(starts(rig, "job")[1..], attempts);
        assert_eq!(lost(rig), LOSSES_MAX as usize);
        rig.advance(hours(1)).await;
        assert_eq!(starts(rig, "job").last().map(String::as_str), Some("n6 02:00:00"), "the job goes on");
    });
}

#[test]
fn a_manual_run_goes_on_where_the_job_is_scheduled() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([job()])).await;
        }
        rig.advance(secs(1)).await;
        rig.send(1, TriggerJob::new("job")).await.expect("nothing runs");
        rig.advance(secs(10)).await;

        rig.kill(1);
        // The leader looks for runs of dead sessions once a minute.
        rig.advance(mins(2)).await;

        assert_eq!(starts(rig, "job"), ["n2 triggered", "n1 triggered attempt 2"]);
    });
}

#[test]
fn a_frozen_holder_is_cancelled_when_it_wakes_up_and_its_run_has_gone_on() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        nodes_in_a_run(rig, 2).await;

        rig.freeze(0);
        rig.advance(mins(2)).await;
        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 01:00:00 attempt 2"]);
        rig.thaw(0);
        rig.advance(mins(10)).await;

        let cancelled =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::LockLost, .. });
        assert_eq!(rig.count(cancelled), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
        assert_eq!(
            rig.counter("callsheet_runs_total", "outcome=cancelled"),
            0,
            "it is recorded as lost, once"
        );
        assert_eq!(lost(rig), 1);
    });
}

#[test]
fn a_job_that_its_leader_removed_retries_nothing_when_added_again() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;

        for node in [1, 0] {
            rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
        }
        // The leader tells the store.
        rig.advance(secs(1)).await;
        rig.kill(0);
        rig.advance(hours(2)).await;
        assert_eq!(starts(rig, "job"), ["n1 01:00:00"]);
        assert_eq!(lost(rig), 1);

        rig.send(1, AddJob::new(job())).await.expect("it is added");
        rig.advance(hours(1)).await;
        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 04:00:00"]);
    });
}

#[test]
fn a_job_that_other_nodes_removed_retries_its_lost_run_when_added_again() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;

        rig.send(1, RemoveJobs::new("job")).await.expect("it is there");
        rig.kill(0);
        rig.advance(mins(20)).await;
        assert_eq!(starts(rig, "job"), ["n1 01:00:00"]);
        assert_eq!(lost(rig), 1);

        rig.send(1, AddJob::new(job())).await.expect("it is added");
        rig.advance(mins(20)).await;
        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 01:00:00 attempt 2"]);
    });
}

#[test]
fn a_job_that_was_changed_meanwhile_to_record_its_losses_owes_nothing() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;

        rig.send(1, UpdateJob::new(job().on_lost(OnLost::Record))).await.expect("it is there");
        rig.kill(0);
        rig.advance(mins(30)).await;

        assert_eq!(starts(rig, "job"), ["n1 01:00:00"]);
        assert_eq!(lost(rig), 1);
    });
}

#[test]
fn a_run_with_a_lock_key_of_another_name_goes_on_under_that_key() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([job().lock_key("machine")])).await;
        }
        rig.advance(hours(1) + mins(1)).await;

        rig.kill(0);
        rig.advance(mins(1)).await;
        let refused = rig.send(1, TriggerJob::new("job")).await;

        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 01:00:00 attempt 2"]);
        let tokens = tokens(rig);
        assert_eq!(tokens[0].0, tokens[1].0, "the same run");
        assert!(tokens[0].1 < tokens[1].1, "with a greater token: {tokens:?}");
        let holder = Some(tokens[1].0);
        assert!(
            matches!(refused, Err(TriggerError::Overlap { holder: of, .. }) if of == holder),
            "{refused:?}"
        );
        assert_eq!(lost(rig), 1);
    });
}

#[test]
fn a_run_of_a_job_that_any_node_fires_goes_on_once() {
    simulate(START, async |rig| {
        let any = || job().fires(Fires::AnyNode);
        for _ in 0..3 {
            rig.node(node_with([any()])).await;
        }
        rig.advance(hours(1) + mins(1)).await;
        let started = starts(rig, "job");
        assert_eq!(started.len(), 1, "{started:?}");
        let holder = started[0][1..2].parse::<usize>().expect("a node") - 1;

        rig.kill(holder);
        rig.advance(mins(30)).await;

        let started = starts(rig, "job");
        assert_eq!(started.len(), 2, "{started:?}");
        assert!(started[1].ends_with("01:00:00 attempt 2"), "{started:?}");
        assert_eq!(lost(rig), 1);
    });
}

#[test]
fn a_paused_job_finishes_what_it_owes() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;
        let pause = callsheet::PauseJobs::new("job");
        rig.send(1, pause).await.expect("it is there");

        rig.kill(0);
        rig.advance(mins(59)).await;

        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 01:00:00 attempt 2"]);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
    });
}

/// Several runs of it may go on at once; one by hand takes so long, one of a tick a second.
fn often(fires: Fires, period: Duration, by_hand: Duration) -> Job {
    let job = Job::new("job", every(period)).fires(fires).overlap(Overlap::Allow(4)).on_lost(OnLost::Retry);
    job.run_with(by_hand, async |run: Run, by_hand| {
        tokio::time::sleep(if matches!(run.origin(), Origin::Trigger { .. }) { by_hand } else { secs(1) })
            .await;
    })
}

/// The runs by hand that started on a node, in the order of the runs.
fn by_hand(rig: &Rig, node: &str) -> Vec<(RunId, u32, FencingToken)> {
    let start = |kind| match kind {
        EventKind::RunStarted { run, fire_time: None, attempt, token, .. } => Some((run, attempt, token?)),
        _ => None,
    };
    let events = rig.events().into_iter().filter(|recorded| recorded.node == node);
    let mut runs: Vec<_> = events.filter_map(|recorded| start(recorded.event.kind)).collect();
    runs.sort();
    runs
}

async fn trigger_often(rig: &mut Rig, node: usize, times: usize) {
    for _ in 0..times {
        rig.send(node, TriggerJob::new("job")).await.expect("it may");
    }
    rig.advance(secs(1)).await;
}

fn assert_all_went_on(rig: &Rig, from: &str, to: &str) {
    let [lost, again] = [from, to].map(|node| by_hand(rig, node));
    assert_eq!(lost.len(), 3, "{}", rig.transcript());
    let expected: Vec<_> = lost.iter().map(|(run, ..)| (*run, 2)).collect();
    assert_eq!(again.iter().map(|(run, attempt, _)| (*run, *attempt)).collect::<Vec<_>>(), expected);
    let greatest = lost.iter().map(|(.., token)| *token).max();
    assert!(again.iter().all(|(.., token)| Some(*token) > greatest), "{lost:?}, {again:?}");
}

#[test]
fn each_of_several_runs_that_a_node_took_along_goes_on() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([often(Fires::Leader, secs(10), mins(10))])).await;
        }
        rig.advance(secs(1)).await;
        trigger_often(rig, 0, 3).await;

        rig.kill(0);
        rig.advance(mins(3)).await;

        assert_all_went_on(rig, "n1", "n2");
        assert_eq!(lost(rig), 3);
        let ended = rig.count(|kind| matches!(kind, EventKind::RunSucceeded { .. }));
        assert!(ended > 5, "ticks go on beside them: {ended}");
    });
}

/// A leader that does not hold the job, the node that is killed a minute later, and one that holds the job as
/// well, on which a run by hand takes a second.
async fn led_by_another(rig: &mut Rig, fires: Fires) {
    rig.node(node_with([])).await;
    rig.advance(secs(1)).await;
    for by_hand in [mins(10), secs(1)] {
        rig.node(node_with([often(fires, hours(1), by_hand)])).await;
        // It is not at the same time that the leader looks for lost runs and the others ask for pending retries.
        rig.advance(secs(15)).await;
    }
    rig.advance(mins(1)).await;
    trigger_often(rig, 1, 3).await;
    assert_eq!(by_hand(rig, "n2").len(), 3);
}

async fn until_it_is_closed(rig: &mut Rig) {
    while lost(rig) == 0 {
        rig.advance(secs(1)).await;
    }
}

#[test]
fn a_lost_run_is_retried_elsewhere_if_the_leader_does_not_hold_its_job() {
    for fires in [Fires::AnyNode, Fires::Leader] {
        simulate(START, async |rig| {
            led_by_another(rig, fires).await;

            rig.kill(1);
            until_it_is_closed(rig).await;
            rig.advance(secs(1)).await;

            assert_all_went_on(rig, "n2", "n3");
        });
    }
}

#[test]
fn a_lost_run_is_retried_within_a_minute_without_its_notification() {
    for fires in [Fires::AnyNode, Fires::Leader] {
        simulate(START, async |rig| {
            led_by_another(rig, fires).await;
            rig.store().set_silent(true);

            rig.kill(1);
            until_it_is_closed(rig).await;
            trigger_often(rig, 2, 1).await;
            rig.advance(secs(1)).await;
            let ended = |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { .. });
            assert_eq!((by_hand(rig, "n3").len(), rig.count(ended)), (1, 1), "it was not told");
            rig.advance(mins(1)).await;

            let again: Vec<_> =
                by_hand(rig, "n3").into_iter().filter(|(_, attempt, _)| *attempt == 2).collect();
            let runs =
                |runs: &[(RunId, u32, FencingToken)]| runs.iter().map(|(run, ..)| *run).collect::<Vec<_>>();
            assert_eq!(runs(&again), runs(&by_hand(rig, "n2")), "{}", rig.transcript());
        });
    }
}

#[test]
fn a_lost_run_that_is_cancelled_before_its_retry_is_closed() {
    simulate(START, async |rig| {
        rig.node(node_with([job()])).await;
        let blocker = Job::new("blocker", every(hours(1))).run(async |_| tokio::time::sleep(mins(5)).await);
        rig.node(node_with([job(), blocker]).max_concurrent_runs(1)).await;
        rig.advance(secs(1)).await;
        rig.send(0, TriggerJob::new("job")).await.expect("nothing runs");
        rig.send(1, TriggerJob::new("blocker")).await.expect("nothing runs there");
        rig.advance(secs(1)).await;
        rig.kill(0);
        rig.advance(mins(3)).await;
        assert_eq!((lost(rig), starts(rig, "job").len()), (1, 1), "it waits: {}", rig.transcript());

        rig.send(1, CancelRuns::new("job")).await.expect("it is there");
        rig.advance(mins(10)).await;

        assert_eq!(starts(rig, "job"), ["n1 triggered"]);
        let cancelled =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::NotStarted, .. });
        assert_eq!(rig.count(cancelled), 1);
    });
}

#[test]
fn a_triggered_run_that_is_lost_still_names_its_fire_time_when_it_goes_on() {
    simulate(START, async |rig| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let job = || {
            let seen = seen.clone();
            let job = Job::new("job", every(hours(1))).on_lost(OnLost::Retry);
            job.run_with(seen, async |run: Run, seen: Arc<Mutex<Vec<_>>>| {
                let said = (run.attempt(), run.fire_time(), run.origin().clone());
                seen.lock().expect("nobody panics").push(said);
                tokio::time::sleep(mins(10)).await;
            })
        };
        for _ in 0..3 {
            rig.node(node_with([job()])).await;
        }
        let named: DateTime<Utc> = "2026-01-04T03:00:00Z".parse().expect("an instant");
        let by = callsheet::By::new("alice").expect("a good name");
        let trigger = TriggerJob::new("job").fire_time(named).by(by.clone());
        let run = rig.send(2, trigger).await.expect("nothing runs").triggered().run();
        rig.advance(mins(1)).await;

        // Lost twice.
        rig.kill(2);
        rig.advance(mins(5)).await;
        let leader = rig.leader().expect("somebody leads");
        rig.kill(leader);
        rig.advance(mins(20)).await;

        let fire_time = Some(callsheet::FireTime::new(named));
        let triggered = |by| Origin::Trigger { by, fire_time, task: None };
        let expected = [
            (1, Some(named), triggered(Some(by))),
            (2, Some(named), triggered(None)),
            (3, Some(named), triggered(None)),
        ];
        assert_eq!(*seen.lock().expect("nobody panics"), expected);
        let last = (0..2).find(|node| *node != leader).expect("one lives");
        let runs = rig.send(last, RunHistory::new()).await.expect("an answer").runs;
        let record = runs.iter().find(|record| record.run == run).expect("it is recorded");
        assert_eq!((record.fire_time, record.attempt), (fire_time, 3), "{record:?}");
    });
}
