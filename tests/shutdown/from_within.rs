//! A body that asks for the shutdown of its own node.

use super::*;

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
