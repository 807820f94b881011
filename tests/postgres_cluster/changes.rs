//! Limits, policies and schedules across a hand-over or a change.

use super::*;

#[tokio::test]
async fn a_limit_of_runs_holds_across_a_hand_over() {
    let cluster = Cluster::of("limit").await;
    let ([leader, mut follower], mut ran) = cluster.pair_that_runs(|| job().limit(5)).await;

    let before = ran.await_on(&leader, 2).await.len();
    leader.stop().await;
    follower.leads().await;
    follower.shows("as many have run as may", |status| status.state == JobState::Exhausted).await;

    assert_eq!(before, 2);
    cluster.close([follower]).await;
    let recorded: Vec<_> = cluster.runs().await.into_iter().filter_map(|run| run.fire_time).collect();
    assert_eq!(recorded.len(), 5, "{recorded:?}");
    assert_eq!(ran.all(), recorded);
}

#[tokio::test]
async fn a_limit_of_runs_is_that_of_all_nodes_where_any_may_fire() {
    let cluster = Cluster::of("any-limit").await;
    let nodes = [cluster.start().await, cluster.start().await];
    let ran = Ran::nothing();
    for node in &nodes {
        assert_eq!(ran.on(node, job().fires(Fires::AnyNode).limit(5)).await, Scheduled::Here);
    }

    for node in &nodes {
        node.shows("as many have run as may", |status| status.state == JobState::Exhausted).await;
    }

    cluster.close(nodes).await;
    let recorded: Vec<_> = cluster.runs().await.into_iter().filter_map(|run| run.fire_time).collect();
    assert_eq!(recorded.len(), 5, "{recorded:?}");
    let mut ran = ran.all();
    ran.sort();
    assert_eq!(ran, recorded);
}

#[tokio::test]
async fn a_policy_that_is_changed_costs_no_tick_on_this_leader_or_the_next() {
    let cluster = Cluster::of("update").await;
    let ([leader, mut follower], mut ran) = cluster.pair_that_runs(job).await;
    let events =
        [&leader, &follower].map(|node| node.jobs.events(EventFilter::new().job(JOB).buffer(100_000)));
    ran.await_on(&leader, 3).await;

    for changed in [job().overlap(Overlap::Queue(1)), job().misfire(Misfire::Skip).pause_after(9)] {
        leader.jobs.update(ran.job_of(&leader, changed)).await.expect("it is right");
        ran.await_on(&leader, 5).await;
    }
    leader.stop().await;
    follower.leads().await;
    ran.await_after(&follower, cluster.now().await).await;
    cluster.close([follower]).await;

    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
}

#[tokio::test]
async fn a_schedule_that_is_changed_owes_ticks_from_the_change_on() {
    let cluster = Cluster::of("update-schedule").await;
    let owes = || Misfire::All { max: 1_000, within: Duration::from_hours(1) };
    let ([leader, follower], mut ran) = cluster.pair_that_runs(|| by_hand().misfire(owes())).await;
    // There is something that could be owed.
    sleep(PERIOD * 3).await;

    let changed_at = cluster.now().await;
    leader.jobs.update(ran.job_of(&leader, job().misfire(owes()))).await.expect("it is right");
    ran.await_on(&leader, 3).await;

    cluster.close([leader, follower]).await;
    let ran = ran.all();
    assert!(ran.iter().all(|tick| *tick > changed_at), "{ran:?} after {changed_at}");
    assert_distinct(&ran);
}
