//! What whoever leads by an election alone tells people.

use std::time::Duration;

use callsheet::{
    Decision, Decisions,
    backend::OnUnproven,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    LEASE, START,
    common::{mins, node_with},
    log::Log,
    secs, tick,
};

fn instant(after_start: Duration) -> DateTime<Utc> {
    let start: DateTime<Utc> = START.parse().expect("an instant");
    start + TimeDelta::from_std(after_start).expect("a while")
}

/// The times without a leader of which a node knows.
async fn gaps(rig: &mut Rig, node: usize) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let told = rig.send(node, Decisions::new()).await.expect("an answer").decisions;
    let gap = |decision| match decision {
        Decision::LeaderGap { from, to } => Some((from, to)),
        _ => None,
    };
    told.into_iter().filter_map(|one| gap(one.decision)).collect()
}

#[test]
fn a_gap_from_before_a_node_began_is_told_from_where_the_last_leader_ended() {
    simulate(START, async |rig| {
        rig.set_lease(LEASE);
        rig.elect_only(OnUnproven::Skip);
        let first = rig.node(node_with([tick()])).await;
        rig.advance(mins(10)).await;
        rig.kill(first);
        rig.advance(mins(20)).await;

        // Nobody of those who live was there.
        let second = rig.node(node_with([tick()])).await;
        rig.advance(secs(30)).await;

        assert_eq!(rig.leader(), Some(second));
        let gaps = gaps(rig, second).await;
        let [(from, to)] = gaps[..] else { panic!("{gaps:?}") };
        let (killed_at, began_at) = (instant(mins(10)), instant(mins(30)));
        let lease = TimeDelta::from_std(LEASE).expect("a while");
        assert!(from >= killed_at - lease && from <= killed_at + lease, "{from}");
        assert!(to >= began_at && to <= began_at + lease, "{to}");
    });
}

#[test]
fn jobs_are_named_whose_cancelled_runs_may_go_on_under_another_leader() {
    let log = Log::keep();
    let said = |part: &str| log.text().lines().filter(|line| line.contains(part)).count();
    let job = |name: &str, abort_after| {
        callsheet::Job::new(name, callsheet::schedule::every(mins(1)))
            .abort_after(abort_after)
            .run(async |_| {})
    };
    // The margin is a fifth of the lease.
    let margin = LEASE / 5;
    simulate(START, async |rig| {
        rig.set_lease(LEASE);
        rig.elect_only(OnUnproven::Skip);
        let slow = [job("slow-1", secs(30)), job("slow-2", margin + secs(1)), job("quick", margin)];
        let local = job("local", secs(30)).fires(callsheet::Fires::Local);
        let node = rig.node(node_with(slow.into_iter().chain([local]))).await;
        rig.advance(secs(1)).await;
        assert_eq!(said("slow-1 and 1 more like it: a run that ignores its cancellation may go on"), 1);
        assert_eq!(said("abort_after, 30s, is longer than 2s, the margin of the lease"), 1);

        rig.add(node, job("added-quick", margin)).await.expect("it is right");
        rig.add(node, job("added-slow", secs(3))).await.expect("it is right");
        rig.advance(secs(1)).await;
        assert_eq!([said("added-quick: a run"), said("added-slow: a run that ignores")], [0, 1]);
    });

    // Where others know of a run by the store, it is nothing to warn of.
    simulate(START, async |rig| {
        rig.set_lease(LEASE);
        rig.node(node_with([job("on-a-store", secs(30))])).await;
        rig.advance(secs(1)).await;
    });
    assert_eq!(said("on-a-store: a run"), 0);
}
