//! Shutdown drains, then cancels, then aborts, and reports each.

use actix::Addr;
use callsheet::{
    AddError, AnnounceShutdown, CancelReason, EventKind, FireTime, Fires, Health, HowDrained, Job,
    NextFireTimes, Problem, REPORTED_RUNS_MAX, Shutdown, ShutdownNow, ShutdownReport, SupervisorActor,
    TriggerError, TriggerJob,
    schedule::{Schedule, at, every},
    testkit::{
        Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

mod at_once;
#[path = "../common/mod.rs"]
mod common;
mod from_within;
mod given_to_others;

use common::{hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

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
        let node = rig.node(node_with([quick, obedient, stubborn]).shutdown_abort_after(secs(2))).await;
        at_the_hour(rig).await;

        let report = rig.shutdown(node, secs(10)).await;
        rig.advance(secs(1)).await;

        assert_eq!(report.to_string(), "drained 1, cancelled 1, aborted 1, left 3 fire times");
        let stopped: Vec<_> = report.stopped.iter().map(|(job, _, how)| (job.as_str(), *how)).collect();
        assert_eq!(stopped, [("obedient", HowDrained::Cancelled), ("stubborn", HowDrained::Aborted)]);
        assert_eq!(rig.store().held(), 0);
        common::assert_transcript(rig, include_str!("../transcripts/shutdown.txt"));
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

        let node = rig.drive_node(|| node_with([Job::new("deaf", hourly()).run_actor(Deaf.start())])).await;
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
        let (report, added, triggered) = async move {
            let report = supervisor.send(callsheet::Shutdown { deadline: secs(60) });
            let later = async {
                tokio::time::sleep(secs(5)).await;
                let job = Job::new("new", every(secs(1))).run(async |_| {});
                let added = supervisor.send(callsheet::AddJob::new(job)).await.expect("it still answers");
                let triggered = supervisor.send(TriggerJob::new("ticker")).await.expect("it still answers");
                (added, triggered)
            };
            let (report, (added, triggered)) = tokio::join!(report, later);
            (report.expect("it answers"), added, triggered)
        }
        .await;

        assert_eq!(report.to_string(), "drained 1, cancelled 0, aborted 0, left 2 fire times");
        assert_eq!(added, Err(AddError::ShuttingDown));
        assert_eq!(triggered.map(|run| run.triggered()), Err(TriggerError::ShuttingDown));
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

        let (one, two) = async move {
            let ask = || supervisor.send(callsheet::Shutdown { deadline: secs(60) });
            tokio::join!(ask(), ask())
        }
        .await;

        assert_eq!(one.expect("an answer"), two.expect("an answer"));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::ShutdownFinished { .. })), 1);
    });
}

#[test]
fn an_announced_shutdown_makes_the_node_not_ready_and_stops_nothing() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("quick", hourly()).run(async |_| {})])).await;
        rig.advance(secs(10)).await;
        assert!(rig.send(node, Health).await.ready);

        rig.send(node, AnnounceShutdown).await;

        let health = rig.send(node, Health).await;
        assert!(health.live && !health.ready, "{health:?}");
        assert_eq!(health.problems, [Problem::ShuttingDown]);
        at_the_hour(rig).await;
        assert_eq!(rig.started("quick"), 1);
    });
}

#[test]
fn a_shutdown_without_a_deadline_drains() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([long])).await;
        rig.advance(ms(10_500)).await;

        let asked = rig.supervisor(node).send(Shutdown { deadline: Duration::MAX });
        let report = asked.await;

        assert_eq!(
            report.expect("the supervisor lives").to_string(),
            "drained 1, cancelled 0, aborted 0, left 1 fire time"
        );
    });
}

#[test]
fn a_shutdown_that_never_aborts_drains() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([long]).shutdown_abort_after(Duration::MAX)).await;
        rig.advance(ms(10_500)).await;

        let asked = rig.supervisor(node).send(Shutdown { deadline: secs(1) });
        let report = asked.await;

        assert_eq!(report.expect("the supervisor lives").cancelled, 1);
    });
}

#[test]
fn a_local_body_that_had_to_be_aborted_is_reported_as_aborted() {
    simulate(START, async |rig| {
        let stubborn =
            Job::new("stubborn", every(secs(10))).run_local(async |_| std::future::pending::<()>().await);
        let node = rig.node(node_with([stubborn])).await;
        rig.advance(ms(10_500)).await;

        let report = rig.shutdown(node, secs(1)).await;

        let how: Vec<_> = report.stopped.iter().map(|(_, _, how)| *how).collect();
        assert_eq!(how, [HowDrained::Aborted]);
    });
}

#[derive(Debug)]
struct ShutsDownAndPanics {
    period: Period,
    after: DateTime<Utc>,
    done: AtomicBool,
    supervisor: Arc<OnceLock<Addr<SupervisorActor>>>,
}

impl std::fmt::Display for ShutsDownAndPanics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("shuts down and panics")
    }
}

impl Schedule for ShutsDownAndPanics {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after >= self.after && !self.done.swap(true, Ordering::Relaxed) {
            self.supervisor.get().expect("set").do_send(Shutdown { deadline: secs(60) });
            panic!("on purpose");
        }
        self.period.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period.previous_before(before)
    }
}

#[test]
fn a_shutdown_waits_for_the_run_of_an_actor_that_has_just_died() {
    simulate(START, async |rig| {
        let supervisor = Arc::new(OnceLock::new());
        let schedule = ShutsDownAndPanics {
            period: Period::seconds(10),
            after: rig.now() + secs(20),
            done: AtomicBool::new(false),
            supervisor: supervisor.clone(),
        };
        let job = Job::new("bad", schedule).run(async |_| tokio::time::sleep(secs(15)).await);
        let node = rig.node(node_with([job])).await;
        supervisor.set(rig.supervisor(node)).expect("once");

        rig.advance(secs(60)).await;

        let transcript = rig.transcript();
        let finished = rig.count(|kind| matches!(kind, EventKind::ShutdownFinished { drained: 1, .. }));
        assert_eq!(finished, 1, "{transcript}");
    });
}
