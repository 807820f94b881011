//! Runs that are granted and wait for a slot, and shutdowns meanwhile.

use super::*;

/// A local job takes the only slot for ten seconds while the claim of `led` has no answer; that is granted at
/// last.
async fn granted_late(rig: &mut Rig) -> usize {
    let jobs = [once("led", 10).overlap(Overlap::Queue(1)), once("local", 20).fires(Fires::Local)];
    let node = rig.node(bounded(1, jobs)).await;
    until(rig, 9).await;
    rig.cut_off(node);
    until(rig, 21).await;
    rig.reconnect(node);
    until(rig, 28).await;
    assert_eq!((rig.store().held(), order(rig)), (1, vec!["local".to_owned()]));
    node
}

#[test]
fn a_run_that_waits_for_a_slot_to_begin_is_cancelled_at_once() {
    simulate(START, async |rig| {
        let node = granted_late(rig).await;

        let cancelled = rig.send(node, CancelRuns::new("led")).await.expect("it is there");
        rig.advance(secs(1)).await;

        assert_eq!(cancelled.len(), 1);
        let requested =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::Requested, .. });
        assert_eq!((rig.count(requested), rig.store().held()), (1, 0), "its key is free");
        rig.advance(secs(60)).await;
        assert_eq!(order(rig), ["local"]);
        all_slots_are_free(rig, node, 1).await;
    });
}

#[test]
fn a_shutdown_waits_for_a_granted_run_that_waits_for_a_slot() {
    for (deadline, drained, cancelled) in [(60, 2, 0), (1, 0, 2)] {
        simulate(START, async |rig| {
            let node = granted_late(rig).await;

            let report = rig.shutdown(node, secs(deadline)).await;

            assert_eq!(
                (report.drained, report.cancelled, report.aborted),
                (drained, cancelled, 0),
                "{report:?}"
            );
            assert_eq!((report.still_running, rig.store().held()), (0, 0));
        });
    }
}

#[test]
fn a_shutdown_does_not_wait_for_what_waits_for_a_slot() {
    simulate(START, async |rig| {
        let jobs = [by_hand("long", 20), once("tick", 5), by_hand("manual", 5)];
        let node = rig.node(bounded(1, jobs)).await;
        rig.advance(secs(1)).await;
        trigger(rig, node, "long").await.expect("nothing runs");
        trigger(rig, node, "manual").await.expect("it waits");
        rig.advance(secs(6)).await;
        let begun_at = rig.now();

        let report = rig.shutdown(node, secs(60)).await;

        assert_eq!((report.drained, report.cancelled, report.aborted), (1, 1, 0), "the trigger was dropped");
        assert!(rig.now() - begun_at < TimeDelta::seconds(15), "as long as the run in progress");
        assert_eq!(order(rig), ["long"]);
    });
}
