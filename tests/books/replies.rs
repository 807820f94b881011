//! Replies of the store that are lost: what was decided is counted once all the same.

use super::*;

#[test]
fn ticks_of_a_claim_whose_reply_is_lost_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([overlapping()])).await;
        // Between the body that ends at 4.9 s and the tick at 5.0 s, which is claimed with two that were
        // skipped.
        rig.advance(ms(4_999)).await;

        loses(rig, node, CallFault::ReplyLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        assert_ticks_are_accounted_for(rig, 1);
        assert_eq!(ends(rig).values().filter(|end| **end == [Outcome::Lost]).count(), 1);
    });
}

#[test]
fn ticks_of_a_claim_that_never_arrived_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([overlapping()])).await;
        rig.advance(ms(4_999)).await;

        loses(rig, node, CallFault::RequestLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        // What was said of the claim that never arrived was decided again, and is said and counted then.
        let (due, counted) =
            (rig.counter("callsheet_ticks_due_total", ""), rig.counter("callsheet_ticks_total", ""));
        assert_eq!((due, counted), (decided(rig), decided(rig)), "{}", rig.transcript());
        let started = rig.counter("callsheet_ticks_total", "outcome=started");
        assert_eq!(started, rig.started("job") as u64, "{}", rig.transcript());
    });
}

/// How many ticks the store has decided.
fn decided(rig: &Rig) -> u64 {
    let moves = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Advanced { to, .. } => Some(to.instant()),
        _ => None,
    });
    let cursor = moves.last().expect("ticks were decided");
    let since = cursor - START.parse::<DateTime<Utc>>().expect("an instant");
    since.num_milliseconds().unsigned_abs() / 200
}

#[test]
fn ticks_of_a_move_whose_reply_is_lost_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([endless()])).await;
        // The tick at 0.4 s is the first that is skipped.
        rig.advance(ms(1_399)).await;

        loses(rig, node, CallFault::ReplyLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        assert_ticks_are_accounted_for(rig, 0);
    });
}

#[test]
fn ticks_of_a_move_that_never_arrived_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([endless()])).await;
        rig.advance(ms(1_399)).await;

        loses(rig, node, CallFault::RequestLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        let (due, counted) =
            (rig.counter("callsheet_ticks_due_total", ""), rig.counter("callsheet_ticks_total", ""));
        assert_eq!((due, counted), (decided(rig), decided(rig)), "{}", rig.transcript());
    });
}

#[test]
fn a_clock_a_little_ahead_of_the_stores_loses_no_skip() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([endless()])).await;
        rig.advance(ms(3_399)).await;

        rig.set_store_skew(TimeDelta::milliseconds(-20));
        rig.advance(ms(2)).await;
        rig.send(node, RemoveJobs::new("job")).await.expect("it is there");
        rig.advance(secs(3)).await;

        assert_eq!(said_of_ticks(rig), (1, 16), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

/// Ticks that the store's ledger says were decided: what the counters must say as well.
fn committed(rig: &Rig) -> u64 {
    let decided = rig.store().records().into_iter().map(|record| match record {
        Record::Advanced { skips, run, .. } => skips.total() + u64::from(run.is_some()),
        Record::Enrolled { .. }
        | Record::Renamed { .. }
        | Record::Anchored { .. }
        | Record::LostResumed { .. }
        | Record::Closed { .. } => 0,
    });
    decided.sum()
}

#[test]
fn skips_whose_reply_was_lost_are_counted_once() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(25)).await);
        let node = rig.node(node_with([long])).await;
        // The tick at 20 s is skipped, and the cursor moved at 21 s.
        rig.advance(ms(20_500)).await;
        let id = rig.id(node);
        rig.store().script(id, [CallFault::ReplyLost]);
        rig.advance(secs(30)).await;

        assert_eq!(
            rig.counter("callsheet_coordination_errors_total", "operation=advance"),
            1,
            "the fault hit the move"
        );
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), committed(rig));
    });
}
