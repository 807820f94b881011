//! Shutdown drains, then cancels, then aborts, and reports each.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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
use tokio::time::Instant;

mod common;
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
                let added = supervisor.send(callsheet::AddJob(job)).await.expect("it still answers");
                let triggered =
                    supervisor.send(TriggerJob("ticker".to_owned())).await.expect("it still answers");
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
fn a_shutdown_names_the_fire_times_that_it_leaves_to_others() {
    simulate(START, async |rig| {
        let soon = Job::new("soon", every(secs(60))).run(async |_| {});
        let later = Job::new("later", hourly()).run(async |_| {});
        let local = Job::new("local", every(secs(60))).fires(Fires::Local).run(async |_| {});
        let over = Job::new("over", at("2026-01-05T00:00:30Z")).run(async |_| {});
        let jobs = [later, soon, local, over];
        let leader = rig.node(node_with(jobs.clone())).await;
        let follower = rig.node(node_with(jobs)).await;
        rig.advance(secs(90)).await;

        let of_follower = rig.shutdown(follower, Duration::ZERO).await;
        let of_leader = rig.shutdown(leader, Duration::ZERO).await;

        assert_eq!((of_follower.left_to_others, of_follower.left), (0, vec![]), "it was to fire nothing");
        let left: Vec<_> = of_leader.left.iter().map(|(job, at)| (job.as_str(), at.to_string())).collect();
        let expected = [("soon", "2026-01-05T00:02:00Z"), ("later", "2026-01-05T01:00:00Z")];
        assert_eq!(left, expected.map(|(job, at)| (job, at.to_owned())));
        assert_eq!(of_leader.to_string(), "drained 0, cancelled 0, aborted 0, left 2 fire times");
    });
}

/// So it is where the term is given up before the actor hears of the drain: what it is asked for then finds
/// the machine dormant.
#[test]
fn a_shutdown_names_the_fire_time_of_a_job_whose_actor_has_died() {
    simulate(START, async |rig| {
        let dies_if_asked = PanickingSchedule::new(hourly(), "2026-01-05T01:00:00Z".parse().unwrap(), 1);
        let node = rig.node(node_with([Job::new("dies", dies_if_asked).run(async |_| {})])).await;
        rig.advance(secs(90)).await;

        // The actor has both in its mailbox.
        rig.supervisor(node).do_send(NextFireTimes { job: "dies".to_owned(), count: 2 });
        let report = rig.shutdown(node, Duration::ZERO).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRestarted { .. })), 1);
        let left: Vec<_> = report.left.iter().map(|(job, at)| (job.as_str(), at.to_string())).collect();
        assert_eq!((report.left_to_others, left), (1, vec![("dies", "2026-01-05T01:00:00Z".to_owned())]));
    });
}

#[test]
fn of_many_fire_times_that_are_left_the_soonest_are_named() {
    simulate(START, async |rig| {
        let job = |n: usize| Job::new(format!("j{n}"), Period::seconds(60 + n as i64)).run(async |_| {});
        let node = rig.node(node_with((0..REPORTED_RUNS_MAX + 5).rev().map(job))).await;
        rig.advance(secs(1)).await;

        let report = rig.shutdown(node, Duration::ZERO).await;

        assert_eq!(report.left_to_others, REPORTED_RUNS_MAX as u64 + 5);
        assert_eq!(report.left.len(), REPORTED_RUNS_MAX);
        assert!(report.left.is_sorted_by_key(|(_, at)| *at));
        let first = report.left.first().map(|(job, _)| job.as_str());
        let all = (0..REPORTED_RUNS_MAX as i64 + 5).map(|n| Period::seconds(60 + n).next_after(rig.now()));
        let soonest = all.flatten().min().map(FireTime::new);
        assert_eq!(report.left.first().map(|(_, at)| *at), soonest, "{first:?}");
    });
}

/// A body that stops its own scheduler, and what comes of it.
async fn stopped_from_within(rig: &mut Rig, obedient: bool) -> ShutdownReport {
    let supervisor = Arc::new(OnceLock::<Addr<SupervisorActor>>::new());
    let job = Job::new("last", hourly()).run_with(supervisor.clone(), move |run, supervisor| async move {
        let supervisor = supervisor.get().expect("it is set before the hour").clone();
        let stopped = supervisor.send(Shutdown { deadline: secs(10) });
        if obedient {
            run.cancelled().await;
            return;
        }
        let _ = stopped.await;
        panic!("it waits for its own end");
    });
    let node = rig.node(node_with([job]).shutdown_abort_after(secs(2))).await;
    assert!(supervisor.set(rig.supervisor(node)).is_ok());
    at_the_hour(rig).await;

    // The first deadline holds: this one asks for the report only.
    rig.shutdown(node, Duration::ZERO).await
}

fn cancelled_after(rig: &Rig) -> Option<Duration> {
    rig.events().into_iter().find_map(|recorded| match recorded.event.kind {
        EventKind::RunCancelled { took, why: CancelReason::Shutdown, .. } => {
            Some(Duration::from_secs(took.as_secs()))
        }
        _ => None,
    })
}

#[test]
fn a_body_that_waits_for_the_shutdown_is_cancelled_and_then_aborted() {
    simulate(START, async |rig| {
        let report = stopped_from_within(rig, false).await;

        assert_eq!((report.drained, report.cancelled, report.aborted), (0, 0, 1));
        assert_eq!(cancelled_after(rig), Some(secs(12)), "the deadline and `shutdown_abort_after`");
    });
}

#[test]
fn a_body_that_asks_for_the_shutdown_and_heeds_it_ends_in_order() {
    simulate(START, async |rig| {
        let report = stopped_from_within(rig, true).await;

        assert_eq!((report.drained, report.cancelled, report.aborted), (0, 1, 0));
        assert_eq!(cancelled_after(rig), Some(secs(10)), "the deadline that the body gave");
    });
}

fn obedient_and_stubborn() -> [Job; 2] {
    let obedient = Job::new("obedient", hourly()).run(async |run| run.cancelled().await);
    let stubborn = Job::new("stubborn", hourly()).run(async |_| std::future::pending::<()>().await);
    [obedient, stubborn]
}

#[test]
fn a_shutdown_that_is_under_way_can_be_told_to_end_at_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with(obedient_and_stubborn()).shutdown_abort_after(secs(1_000))).await;
        at_the_hour(rig).await;
        let supervisor = rig.supervisor(node);
        let before = rig.now();

        let (patient, at_once) = async move {
            let patient = supervisor.send(Shutdown { deadline: secs(1_000) });
            let at_once = async {
                tokio::time::sleep(secs(5)).await;
                supervisor.send(ShutdownNow).await
            };
            tokio::join!(patient, at_once)
        }
        .await;

        let report = patient.expect("an answer");
        assert_eq!(report, at_once.expect("an answer"));
        assert_eq!(report.aborted + report.cancelled, 2);
        assert_eq!(report.still_running, 0);
        assert!((rig.now() - before).num_seconds() < 10, "neither the deadline nor the time to abort passed");
        assert_eq!(rig.store().held(), 0, "the store was told");
    });
}

#[test]
fn a_node_can_be_told_to_stop_at_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with(obedient_and_stubborn()).shutdown_abort_after(secs(1_000))).await;
        at_the_hour(rig).await;
        let before = rig.now();

        let supervisor = rig.supervisor(node);
        let report = async move { supervisor.send(ShutdownNow).await }.await.expect("an answer");

        assert_eq!(report.aborted + report.cancelled, 2);
        assert!((rig.now() - before).num_seconds() < 5, "the time to abort did not pass");
        assert_eq!(rig.store().held(), 0, "the store was told");
    });
}

/// When something happened to a run.
type Moment = Arc<OnceLock<Instant>>;

struct AtEnd(Moment);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.set(Instant::now()).expect("it runs once");
    }
}

/// How long after the beginning of a shutdown.
struct Stopped {
    /// The run heard of it, if it had the time.
    cancelled: Option<Duration>,
    run_ended: Duration,
    node_ended: Duration,
}

/// Stops a node that has one run, and a store that does not answer any more.
async fn stopped_without_a_store(
    rig: &mut Rig,
    stop: impl AsyncFnOnce(Addr<SupervisorActor>) -> ShutdownReport,
) -> Stopped {
    rig.set_lease(secs(60));
    let (cancelled, ended) = (Moment::default(), Moment::default());
    let stubborn = Job::new("stubborn", hourly()).run_with(
        (cancelled.clone(), ended.clone()),
        async |run, (heard, ended)| {
            let _at_end = AtEnd(ended);
            run.cancelled().await;
            heard.set(Instant::now()).expect("it runs once");
            std::future::pending::<()>().await;
        },
    );
    let node = rig.node(node_with([stubborn]).shutdown_abort_after(secs(5))).await;
    at_the_hour(rig).await;
    rig.cut_off(node);
    let supervisor = rig.supervisor(node);
    let before = Instant::now();

    stop(supervisor).await;

    let after = |moment: &Moment| moment.get().map(|at| *at - before);
    Stopped {
        cancelled: after(&cancelled),
        run_ended: after(&ended).expect("it was aborted"),
        node_ended: before.elapsed(),
    }
}

#[test]
fn a_node_stops_at_once_although_its_store_does_not_answer() {
    simulate(START, async |rig| {
        let stop =
            async |supervisor: Addr<SupervisorActor>| supervisor.send(ShutdownNow).await.expect("an answer");
        let Stopped { run_ended, node_ended, .. } = stopped_without_a_store(rig, stop).await;

        assert!(run_ended < secs(1), "{run_ended:?}");
        assert!(node_ended <= secs(3), "{node_ended:?}");
    });
}

#[test]
fn a_silent_store_does_not_make_runs_be_aborted_earlier() {
    simulate(START, async |rig| {
        let stop = async |supervisor: Addr<SupervisorActor>| {
            supervisor.send(Shutdown { deadline: Duration::ZERO }).await.expect("an answer")
        };
        let Stopped { cancelled, run_ended, node_ended } = stopped_without_a_store(rig, stop).await;

        assert!(cancelled.is_some_and(|after| after < secs(1)), "{cancelled:?}");
        assert!(run_ended >= secs(5), "{run_ended:?}");
        assert!(node_ended <= secs(5 + 3), "{node_ended:?}");
    });
}

#[test]
fn a_shutdown_that_waits_for_a_silent_store_can_be_told_to_end_at_once() {
    simulate(START, async |rig| {
        let stop = async |supervisor: Addr<SupervisorActor>| {
            let patient = supervisor.send(Shutdown { deadline: secs(1_000) });
            let at_once = async {
                tokio::time::sleep(secs(1)).await;
                supervisor.send(ShutdownNow).await
            };
            let (patient, at_once) = tokio::join!(patient, at_once);
            assert_eq!(patient, at_once);
            patient.expect("an answer")
        };
        let Stopped { run_ended, node_ended, .. } = stopped_without_a_store(rig, stop).await;

        assert!(run_ended < secs(2), "{run_ended:?}");
        assert!(node_ended <= secs(1 + 3), "{node_ended:?}");
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

#[test]
fn a_shutdown_with_nothing_running_does_not_wait_for_an_unanswered_claim() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let node = rig.node(node_with([Job::new("tick", every(secs(1))).run(async |_| {})])).await;
        rig.advance(ms(5_500)).await;
        rig.cut_off(node);
        rig.advance(secs(20)).await;
        let before = rig.now();

        let report = rig.shutdown(node, hours(1)).await;

        let took = rig.now() - before;
        assert!(took < TimeDelta::seconds(60), "took {took}, {report:?}");
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
