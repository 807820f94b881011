//! Failed attempts are tried again within one run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use callsheet::{EventKind, Job, Retry, Run, RunError, RunResult, schedule::every, testkit::simulate};

mod common;
use common::{assert_golden, assert_transcript, hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn retry(attempts: u32) -> Retry {
    Retry::attempts(attempts).initial(secs(10)).jitter(0.0)
}

/// Succeeds in its third attempt.
async fn third_time_lucky(run: Run) -> RunResult {
    match run.attempt() {
        3 => Ok(()),
        2 => panic!("out of paper"),
        _ => Err("no connection".into()),
    }
}

#[test]
fn a_run_succeeds_in_its_third_attempt() {
    simulate(START, async |rig| {
        let job = Job::new("report", every(hours(1))).retry(retry(5)).run(third_time_lucky);
        rig.node(node_with([job])).await;

        rig.advance(hours(1) + secs(60)).await;

        assert_transcript(
            rig,
            "00:00:00.001 n1 JobAdded report\n\
             00:00:00.002 n1 LeadershipGained term 1\n\
             01:00:00.001 n1 RunStarted report 2026-01-05T01:00:00Z late 1.0ms\n\
             01:00:00.001 n1 RunRetried report attempt 1 failed, took 0.0ns, next in 10.0s: no connection\n\
             01:00:10.001 n1 RunRetried report attempt 2 panicked, took 0.0ns, next in 20.0s: out of paper\n\
             01:00:30.001 n1 RunSucceeded report took 0.0ns\n",
        );
        assert_eq!(rig.counter("callsheet_run_retries_total", ""), 2);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

/// An attempt that is over its time is cancelled, and aborted `abort_after` later if it does not obey; the
/// next one has a time of its own.
#[test]
fn the_story_of_a_run_whose_attempts_take_too_long() {
    simulate(START, async |rig| {
        async fn slow(run: Run) {
            match run.attempt() {
                1 => run.cancelled().await,
                2 => std::future::pending().await,
                _ => tokio::time::sleep(secs(59)).await,
            }
        }
        let job = |name: &str, attempts| {
            Job::new(name, every(hours(1)))
                .timeout(secs(60))
                .abort_after(secs(5))
                .retry(retry(attempts))
                .run(slow)
        };
        rig.node(node_with([job("third", 3), job("second", 2)])).await;

        rig.advance(hours(1) + secs(300)).await;

        assert_golden(rig, "retry_with_timeout");
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn the_key_stays_held_between_attempts_on_every_node() {
    simulate(START, async |rig| {
        let job = || {
            Job::new("report", every(hours(1)))
                .retry(retry(2).initial(secs(600)).max(secs(600)))
                .run(async |_| Err::<(), _>("no connection"))
        };
        let leader = rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job()])).await;
        rig.advance(hours(1)).await;
        assert_eq!(rig.store().held(), 1);

        let refused = rig.send(follower, callsheet::TriggerJob::new("report")).await;
        assert!(refused.is_err(), "{refused:?}");

        rig.kill(leader);
        rig.advance(hours(2)).await;
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=lost"), 1, "its attempts died with it");
    });
}

#[test]
fn a_permanent_error_ends_the_run_at_once() {
    simulate(START, async |rig| {
        let attempts = Arc::new(AtomicU32::new(0));
        async fn body(_: Run, attempts: Arc<AtomicU32>) -> RunResult {
            attempts.fetch_add(1, Ordering::Relaxed);
            Err(RunError::permanent("no such address"))
        }
        let job = Job::new("mail", every(hours(1))).retry(retry(5)).run_with(attempts.clone(), body);
        rig.node(node_with([job])).await;

        rig.advance(hours(1) + secs(300)).await;

        assert_eq!(attempts.load(Ordering::Relaxed), 1);
        let failed = |kind: &EventKind| matches!(kind, EventKind::RunFailed { error, .. } if &**error == "no such address");
        assert_eq!(rig.count(failed), 1);
    });
}

#[test]
fn a_shutdown_does_not_wait_for_the_next_attempt_beyond_its_deadline() {
    simulate(START, async |rig| {
        let job = Job::new("report", every(hours(1)))
            .retry(retry(2).initial(secs(240)))
            .run(async |_| Err::<(), _>("no connection"));
        let node = rig.node(node_with([job])).await;
        rig.advance(hours(1) + secs(1)).await;

        let report = rig.shutdown(node, secs(10)).await;

        assert_eq!((report.drained, report.cancelled, report.aborted, report.still_running), (0, 1, 0, 0));
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_with_every_fault() {
    let retry = Retry::attempts(0).initial(Duration::ZERO).factor(f64::NAN).max(Duration::ZERO).jitter(1.5);
    let job = Job::new("report", every(hours(1))).retry(retry).run(async |_| {});

    let faults = job.check().expect_err("it makes no sense").to_string();

    let lines: Vec<_> = faults.lines().collect();
    assert_eq!(lines.len(), 4, "{faults}");
    for (line, what) in lines.iter().zip(["retry attempts", "retry initial", "retry factor", "retry jitter"])
    {
        assert!(line.contains(what), "{faults}");
    }
}
