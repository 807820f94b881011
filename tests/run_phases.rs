//! What a listing says of a run in progress, from its grant to its end.

use std::time::Duration;

use actix::prelude::*;
use callsheet::{
    Builder, CancelReason, Fires, Job, JobState, Retry, Run, RunPhase, RunResult, WhenFull,
    schedule::at,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
use common::{details, node_with, obedient, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// Fails at first, then does not end, whatever it is told.
struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
}

impl Handler<Run> for Deaf {
    type Result = ResponseActFuture<Self, RunResult>;

    fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
        let attempt = run.attempt();
        let body = async move {
            if attempt == 1 {
                tokio::time::sleep(secs(5)).await;
                return Err("no connection".into());
            }
            std::future::pending().await
        };
        Box::pin(body.into_actor(self))
    }
}

fn instant(second: i64) -> DateTime<Utc> {
    START.parse::<DateTime<Utc>>().expect("an instant") + TimeDelta::seconds(second)
}

async fn until(rig: &mut Rig, second: i64) {
    let wait = (instant(second) - rig.now()).to_std().expect("it is to come");
    rig.advance(wait).await;
}

/// A node with one slot. The job `deaf` starts at 10, and pauses from 15 to 45. The job `hog` has the slot
/// from 30 to 90.
fn node(when_full: WhenFull) -> Builder {
    let deaf = Job::new("deaf", at(instant(10)))
        .retry(Retry::attempts(2).initial(secs(30)).jitter(0.0))
        .timeout(secs(20))
        .abort_after(secs(10))
        .run_actor(Deaf.start());
    let hog = Job::new("hog", at(instant(30))).fires(Fires::Local).run_with(secs(60), obedient);
    node_with([deaf, hog]).max_concurrent_runs(1).when_full(when_full)
}

/// The phase and the attempt of the only run of `deaf`.
async fn phase(rig: &mut Rig, node: usize) -> (RunPhase, u32, Option<CancelReason>) {
    let status = details(rig, node, "deaf").await;
    let [run] = &status.active_runs[..] else { panic!("one run: {status:?}") };
    let still_running = run.phase == RunPhase::StillRunning;
    assert_eq!(status.state == JobState::StillRunning, still_running, "{status:?}");
    (run.phase, run.attempt, run.cancelled)
}

/// A run that the store grants so late that its slot is taken is one of `concurrency`'s stories.
#[test]
fn a_run_has_one_phase_at_a_time() {
    for when_full in [WhenFull::Wait, WhenFull::Skip] {
        simulate(START, async |rig| {
            let node = rig.drive_node(async move || node(when_full)).await;
            until(rig, 11).await;
            assert_eq!(phase(rig, node).await, (RunPhase::Attempting, 1, None));
            until(rig, 16).await;
            assert_eq!(phase(rig, node).await, (RunPhase::WaitingForRetry, 2, None));
            until(rig, 44).await;
            assert_eq!(phase(rig, node).await, (RunPhase::WaitingForRetry, 2, None));
            // Where the node is to skip what finds it full, the attempt asks again and again.
            for half in 0..20 {
                rig.advance(Duration::from_millis(1_250)).await;
                let said = phase(rig, node).await;
                assert_eq!(said, (RunPhase::WaitingForPermit, 2, None), "{when_full:?}, {half}");
            }
            until(rig, 92).await;
            assert_eq!(phase(rig, node).await, (RunPhase::Attempting, 2, None));
            until(rig, 113).await;
            let timed_out = Some(CancelReason::TimedOut);
            assert_eq!(phase(rig, node).await, (RunPhase::Stopping, 2, timed_out));
            until(rig, 123).await;
            assert_eq!(phase(rig, node).await, (RunPhase::StillRunning, 2, timed_out));
        });
    }
}
