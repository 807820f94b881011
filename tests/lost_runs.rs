//! A run whose node died goes on as its next attempt, if its job says so.

use callsheet::{
    CancelReason, EventKind, FencingToken, Fires, Job, LOSSES_MAX, OnLost, RemoveJobs, Run, RunId,
    TriggerError, TriggerJob, UpdateJob,
    schedule::every,
    testkit::{Rig, simulate},
};

mod common;
use common::{assert_golden, hours, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

/// A job whose first run, at one o'clock, takes ten minutes, and is owed another attempt if it is lost.
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
                .retry(callsheet::Retry { initial: secs(1), jitter: 0.0, ..callsheet::Retry::attempts(3) })
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
        assert_eq!(errors, ["attempt 2".into(), "attempt 3".into()]);
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
        rig.send(1, TriggerJob("job".to_owned())).await.expect("nothing runs");
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
fn a_job_that_was_removed_meanwhile_owes_nothing() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;

        rig.send(1, RemoveJobs("job".into())).await.expect("it is there");
        rig.kill(0);
        rig.advance(hours(2)).await;

        assert_eq!(starts(rig, "job"), ["n1 01:00:00"]);
        assert_eq!(lost(rig), 1);
    });
}

#[test]
fn a_job_that_was_changed_meanwhile_to_record_its_losses_owes_nothing() {
    simulate(START, async |rig| {
        nodes_in_a_run(rig, 2).await;

        rig.send(1, UpdateJob(job().on_lost(OnLost::Record))).await.expect("it is there");
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
        let refused = rig.send(1, TriggerJob("job".to_owned())).await;

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
        let pause = callsheet::PauseJobs { jobs: "job".into(), until: None, note: None };
        rig.send(1, pause).await.expect("it is there");

        rig.kill(0);
        rig.advance(mins(59)).await;

        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 01:00:00 attempt 2"]);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
    });
}
