//! P6: a run whose lock is lost is cancelled, and its end is not recorded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    CancelReason, EventKind, Job, Outcome, Run, RunResult,
    schedule::every,
    testkit::{Rig, simulate},
};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

#[test]
fn a_lost_session_cancels_the_run_and_the_job_goes_on_in_the_next_one() {
    simulate(START, async |rig| {
        let told = Arc::new(AtomicBool::new(false));
        async fn body(run: Run, told: Arc<AtomicBool>) {
            run.cancelled().await;
            told.store(true, Ordering::Relaxed);
        }
        let job = Job::new("long", every(secs(10))).run_with(told.clone(), body);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(12)).await;
        assert_eq!((rig.started("long"), rig.store().held()), (1, 1));

        rig.end_session(node);
        rig.advance(Duration::from_millis(100)).await;

        assert!(told.load(Ordering::Relaxed), "the cancellation token fired");
        assert_eq!(rig.counter("callsheet_locks_lost_total", ""), 1);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LockLost { .. })), 1);
        let cancelled =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::LockLost, .. });
        assert_eq!(rig.count(cancelled), 1);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LeadershipLost { .. })), 1);

        rig.advance(secs(10)).await;
        assert_eq!(rig.started("long"), 2, "the next tick runs under a new session");
        let closed: Vec<_> = rig
            .store()
            .records()
            .into_iter()
            .filter_map(|record| match record {
                callsheet::testkit::Record::Closed { outcome, .. } => Some(outcome),
                _ => None,
            })
            .collect();
        assert_eq!(closed, [Outcome::Lost], "its own completion was refused, the successor closed it");
    });
}

#[test]
fn a_body_that_ignores_the_loss_is_aborted_after_the_grace() {
    simulate(START, async |rig| {
        let job = Job::new("stubborn", every(secs(3600)))
            .abort_grace(secs(3))
            .run(async |_| tokio::time::sleep(secs(3000)).await);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(3601)).await;

        rig.end_session(node);
        rig.advance(secs(2)).await;
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunCancelled { .. })), 0);
        rig.advance(secs(2)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunCancelled { .. })), 1);
    });
}

/// Two nodes, of which the first leads. Its job takes each run through a hook that takes four seconds.
async fn with_a_slow_hook(rig: &mut Rig) {
    for _ in 0..2 {
        let slow = async |_: Run| -> RunResult {
            tokio::time::sleep(secs(4)).await;
            Ok(())
        };
        let job = Job::new("slow", every(secs(10))).before(slow).run(async |_| {});
        rig.node(node_with([job])).await;
    }
    rig.advance(secs(15)).await;
    assert_eq!(rig.started("slow"), 1);
}

#[test]
fn a_run_whose_session_ended_while_its_node_was_frozen_does_not_start() {
    simulate(START, async |rig| {
        with_a_slow_hook(rig).await;
        rig.advance(secs(7)).await;

        // Its next run is in the hook.
        rig.freeze(0);
        rig.advance(secs(60)).await;
        let by_the_other = rig.started("slow") - 1;
        rig.thaw(0);
        rig.advance(secs(60)).await;

        assert!(by_the_other > 0);
        let by_the_first =
            rig.transcript().lines().filter(|line| line.contains("n1") && line.contains("started")).count();
        assert_eq!(by_the_first, 1, "{}", rig.transcript());
    });
}
