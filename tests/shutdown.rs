//! Shutdown drains, then cancels, then aborts, and reports each.

use std::time::Duration;

use callsheet::{
    AddError, EventKind, HowDrained, Job, TriggerError, TriggerJob,
    schedule::every,
    testkit::{Rig, fakes::Period, simulate},
};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn hourly() -> Period {
    Period::hours(1)
}

async fn at_the_hour(rig: &mut Rig) {
    rig.advance(secs(3600) + Duration::from_millis(100)).await;
}

#[test]
fn a_shutdown_drains_then_cancels_then_aborts_and_reports_each() {
    simulate(START, async |rig| {
        let quick = Job::new("quick", hourly()).run(async |_| tokio::time::sleep(secs(3)).await);
        let obedient = Job::new("obedient", hourly()).run(async |run| run.cancelled().await);
        let stubborn = Job::new("stubborn", hourly()).run(async |_| std::future::pending::<()>().await);
        let node = rig.node(node_with([quick, obedient, stubborn]).shutdown_grace(secs(2))).await;
        at_the_hour(rig).await;

        let report = rig.shutdown(node, secs(10)).await;
        rig.advance(secs(1)).await;

        assert_eq!(report.to_string(), "drained 1, cancelled 1, aborted 1");
        let stopped: Vec<_> = report.stopped.iter().map(|(job, _, how)| (job.as_str(), *how)).collect();
        assert_eq!(stopped, [("obedient", HowDrained::Cancelled), ("stubborn", HowDrained::Aborted)]);
        assert_eq!(rig.store().held(), 0);
        common::assert_transcript(rig, include_str!("transcripts/shutdown.txt"));
    });
}

#[test]
fn a_body_that_cannot_be_aborted_is_reported_as_still_running() {
    simulate(START, async |rig| {
        use actix::prelude::*;

        struct Deaf;
        impl Actor for Deaf {
            type Context = Context<Self>;
        }
        impl Handler<callsheet::Run> for Deaf {
            type Result = ResponseActFuture<Self, callsheet::RunResult>;
            fn handle(&mut self, _: callsheet::Run, _: &mut Self::Context) -> Self::Result {
                Box::pin(std::future::pending().into_actor(self))
            }
        }

        let node =
            rig.drive_node(async || node_with([Job::new("deaf", hourly()).run_actor(Deaf.start())])).await;
        at_the_hour(rig).await;

        let report = rig.shutdown(node, secs(1)).await;

        assert_eq!(report.still_running, 1, "{report:?}");
        assert_eq!(report.stuck.iter().map(|job| job.as_str()).collect::<Vec<_>>(), ["deaf"]);
    });
}

#[test]
fn nothing_fires_and_nothing_is_added_after_a_shutdown_started() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(25)).await);
        let ticker = || Job::new("ticker", every(secs(1))).run(async |_| {});
        let node = rig.node(node_with([long, ticker()])).await;
        rig.advance(Duration::from_millis(10_500)).await;
        let before = rig.started("ticker");

        let supervisor = rig.supervisor(node);
        let (report, added, triggered) = rig
            .drive(async move {
                let report = supervisor.send(callsheet::Shutdown { deadline: secs(60) });
                let later = async {
                    tokio::time::sleep(secs(5)).await;
                    let job = Job::new("new", every(secs(1))).run(async |_| {});
                    let added = supervisor.send(callsheet::AddJob(job)).await.expect("it still answers");
                    let triggered =
                        supervisor.send(TriggerJob("ticker".to_owned())).await.expect("it still answers");
                    (added, triggered)
                };
                let (report, (added, triggered)) = tokio::join!(report, later);
                (report.expect("it answers"), added, triggered)
            })
            .await;

        assert_eq!(report.to_string(), "drained 1, cancelled 0, aborted 0");
        assert_eq!(added, Err(AddError::ShuttingDown));
        assert_eq!(triggered, Err(TriggerError::ShuttingDown));
        assert_eq!(rig.started("ticker"), before);
        assert!(!rig.supervisor(node).connected(), "the supervisor is gone");
    });
}

#[test]
fn asking_twice_for_a_shutdown_gives_one_report_to_both() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([long])).await;
        rig.advance(Duration::from_millis(10_500)).await;
        let supervisor = rig.supervisor(node);

        let (one, two) = rig
            .drive(async move {
                let ask = || supervisor.send(callsheet::Shutdown { deadline: secs(60) });
                tokio::join!(ask(), ask())
            })
            .await;

        assert_eq!(one.expect("an answer"), two.expect("an answer"));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::ShutdownFinished { .. })), 1);
    });
}
