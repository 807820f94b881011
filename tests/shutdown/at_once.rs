//! A shutdown that is to end at once, and one whose store does not answer.

use super::*;

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
