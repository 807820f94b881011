//! Lock lost, run cancelled: a run whose lock is lost is cancelled, and its end is not recorded.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    BoxFuture, CancelReason, EventKind, Job, Outcome, Run, TriggerJob,
    port::Spawner,
    schedule::every,
    testkit::{CallFault, simulate},
};
use futures_util::future;

mod common;
use common::{hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

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
fn a_body_that_ignores_the_loss_is_aborted_later() {
    simulate(START, async |rig| {
        let job = Job::new("stubborn", every(secs(3600)))
            .abort_after(secs(3))
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

/// Threads for bodies that are all busy: what is to run there waits until the test takes it.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Busy {
    /// All that waits: runs, and what asks whether bodies start.
    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

impl Spawner for Busy {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().expect("nobody panicked").push(task);
    }
}

#[test]
fn a_run_whose_session_is_lost_before_a_thread_takes_it_does_not_start() {
    simulate(START, async |rig| {
        let threads = Busy::default();
        let job = Job::new("late", every(secs(10))).run(async |_| {});
        let node = rig.node(node_with([job]).spawner(threads.clone())).await;
        rig.advance(secs(12)).await;
        assert_eq!(rig.store().held(), 1, "it is granted");

        rig.end_session(node);
        rig.advance(secs(1)).await;
        future::join_all(threads.take()).await;
        rig.advance(secs(1)).await;

        assert_eq!(rig.started("late"), 0, "{}", rig.transcript());
        let cancelled =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::LockLost, .. });
        assert_eq!(rig.count(cancelled), 1, "{}", rig.transcript());

        // The next one is granted to another session.
        rig.advance(secs(8)).await;
        future::join_all(threads.take()).await;
        rig.advance(secs(1)).await;
        assert_eq!(rig.started("late"), 1, "{}", rig.transcript());
    });
}

#[test]
fn a_run_that_was_granted_before_its_node_froze_does_not_start_after_it() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let threads = Busy::default();
        let slow = || Job::new("slow", every(secs(10))).run(async |_| {});
        rig.node(node_with([slow()]).spawner(threads.clone())).await;
        rig.node(node_with([slow()])).await;
        rig.advance(secs(12)).await;

        // No thread has taken it yet.
        let granted = threads.take();
        rig.freeze(0);
        rig.advance(secs(15)).await;
        assert_eq!(rig.started("slow"), 1, "its successor runs the next tick: {}", rig.transcript());
        // As a process that goes on does before anything of it hears of the loss.
        future::join_all(granted).await;
        rig.thaw(0);
        rig.advance(secs(1)).await;

        assert_eq!(rig.started("slow"), 1, "{}", rig.transcript());
        let not_started = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::RunCancelled { why: CancelReason::NotStarted | CancelReason::LockLost, .. }
            )
        };
        assert_eq!(rig.count(not_started), 1, "{}", rig.transcript());
    });
}

#[test]
fn a_claim_that_outlived_its_session_leaves_no_key_behind() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("manual", every(hours(24))).run(async |_| {})])).await;
        rig.advance(secs(1)).await;
        let id = rig.id(node);
        rig.store().script(id, [CallFault::Stall(secs(2))]);
        let triggered = rig.supervisor(node).send(TriggerJob::new("manual"));
        let triggered = kept(triggered);
        rig.advance(ms(10)).await;

        rig.end_session(node);
        rig.advance(secs(60)).await;

        drop(triggered);
        assert_eq!(rig.store().held(), 0, "the key is held by a live session for ever\n{}", rig.transcript());
    });
}

/// Sends a request now, and keeps it from being cancelled.
fn kept<F: Future + 'static>(request: F) -> std::pin::Pin<Box<dyn Future<Output = F::Output>>> {
    let mut request = Box::pin(request);
    let waker = futures_util::task::noop_waker();
    let _ = request.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    request
}

#[test]
fn a_run_whose_lock_was_lost_is_counted_once() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(secs(3600))).run(async |run| run.cancelled().await);
        rig.node(node_with([long()])).await;
        rig.node(node_with([long()])).await;
        rig.advance(secs(3601)).await;
        assert_eq!(rig.started("long"), 1);

        rig.end_session(0);
        rig.advance(secs(120)).await;

        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 1);
        let ended = rig.counter("callsheet_runs_total", "");
        assert_eq!(
            ended,
            1,
            "one run was started, so many ended; lost: {}",
            rig.counter("callsheet_runs_total", "outcome=lost")
        );
    });
}
