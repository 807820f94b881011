//! Pauses that hold on every node.

use super::*;

#[tokio::test]
async fn a_pause_asked_on_a_follower_holds_on_every_node_until_a_resume_on_any() {
    let cluster = Cluster::of("pause").await;
    let ([mut leader, mut follower], mut ran) = cluster.pair_that_runs(job).await;
    ran.await_on(&leader, 3).await;

    let note = Some("the disk is full".to_owned());
    let pause = PauseJobs::new(JOB).note("the disk is full");
    let paused = follower.jobs.supervisor().send(pause).await.expect("it runs");
    assert_eq!(paused.expect("the store answers").len(), 1);
    let paused_at = cluster.now().await;
    let skipped = leader.skips(SkipReason::Paused).await;

    assert!(
        skipped.at - paused_at < HEARD_WITHIN * 2,
        "the leader learnt it after {}",
        skipped.at - paused_at
    );
    for node in [&leader, &follower] {
        let status = node.status().await;
        assert_eq!(
            (status.state, status.pause.and_then(|pause| pause.note)),
            (JobState::Paused, note.clone())
        );
    }
    let started = triggered(&leader.jobs).await;
    assert!(matches!(started, Ok(Triggered::Started(_))), "{started:?}");

    // It outlives its leader, and a node that starts later knows it.
    leader.stop().await;
    follower.leads().await;
    follower.skips(SkipReason::Paused).await;
    let mut late = cluster.start().await;
    ran.on(&late, job()).await;
    follower.stop().await;
    late.leads().await;
    late.skips(SkipReason::Paused).await;
    assert_eq!(late.status().await.pause.and_then(|pause| pause.note), note);

    let resumed_at = cluster.now().await;
    late.jobs.resume(JOB).await.expect("it is resumed");
    ran.await_after(&late, resumed_at).await;
    cluster.close([late]).await;
    let runs = cluster.runs().await;
    let meanwhile = runs.iter().filter(|run| run.claimed_at > paused_at && run.claimed_at < resumed_at);
    assert!(meanwhile.clone().all(|run| run.fire_time.is_none()), "{:?}", meanwhile.collect::<Vec<_>>());
    assert_distinct(&ran.all());
}

#[tokio::test]
async fn a_pause_ends_by_itself_at_its_time_and_by_the_leader_before() {
    let cluster = Cluster::of("pause-until").await;
    let ([mut leader, follower], mut ran) = cluster.pair_that_runs(job).await;
    ran.await_on(&leader, 3).await;
    let until = (cluster.now().await + TimeDelta::seconds(1)).duration_trunc(TimeDelta::milliseconds(1));
    let until = until.expect("an instant of today");

    let pause = |until| PauseJobs::new(JOB).until(until);
    let paused = follower.jobs.supervisor().send(pause(until)).await.expect("it runs");
    paused.expect("the store answers");
    let paused_at = cluster.now().await;
    leader.skips(SkipReason::Paused).await;
    ran.await_after(&leader, until).await;

    let runs = cluster.runs().await;
    let meanwhile = runs.iter().filter(|run| run.claimed_at > paused_at && run.claimed_at < until);
    assert_eq!(meanwhile.collect::<Vec<_>>(), Vec::<&Recorded>::new());
    assert_eq!(leader.status().await.pause, None);

    let far = until + TimeDelta::hours(1);
    let paused = follower.jobs.supervisor().send(pause(far)).await.expect("it runs");
    paused.expect("the store answers");
    leader.skips_after(cluster.now().await, SkipReason::Paused).await;
    let resumed_at = cluster.now().await;
    assert_eq!(leader.jobs.resume(JOB).await.expect("the store answers").len(), 1);
    follower.shows("it is told", |status| status.pause.is_none()).await;
    ran.await_after(&leader, resumed_at).await;
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn failures_in_a_row_are_counted_across_a_hand_over_and_pause_the_job() {
    let mut cluster = Cluster::of("pause-after").await;
    let [leader, mut follower] = cluster.pair_with(|| job().pause_after(3)).await;
    for _ in 0..2 {
        let begun = cluster.begun().await;
        assert_eq!(begun.on, leader.id);
        begun.ends(Err("out of paper".into()));
    }
    leader.shows("both are counted", |status| status.failures == 2).await;
    // A run that has begun meanwhile is cancelled, and passed over.
    leader.stop().await;

    follower.leads().await;
    cluster.begun_on(&follower).await.ends(Err("out of paper".into()));
    let paused = follower.hears("it is paused", |kind| matches!(kind, EventKind::JobPaused { .. })).await;

    let EventKind::JobPaused { pause, .. } = paused.kind else { unreachable!("it was looked for") };
    assert_eq!(pause.note.as_deref(), Some("runs that failed in a row: 3"));
    follower.skips(SkipReason::Paused).await;
    let status = follower.status().await;
    assert_eq!((status.state, status.failures), (JobState::Paused, 3));
    assert_eq!(cluster.runs().await.iter().filter(|run| run.outcome == "failed").count(), 3);
    cluster.close([follower]).await;
}

#[tokio::test]
async fn a_body_that_stops_its_job_on_the_leader_stops_it_on_every_node() {
    let mut cluster = Cluster::of("stop").await;
    let [mut leader, mut follower] = cluster.pair_with(job).await;

    let begun = cluster.begun().await;
    assert_eq!(begun.on, leader.id);
    begun.ends(Err(RunError::stop("the account is closed")));
    leader.hears("it is paused", |kind| matches!(kind, EventKind::JobPaused { .. })).await;

    let status = follower.shows("it is told", |status| status.pause.is_some()).await;
    let note = status.pause.and_then(|pause| pause.note);
    assert_eq!(note.as_deref(), Some("stopped by its body: the account is closed"));
    leader.stop().await;
    follower.leads().await;
    follower.skips(SkipReason::Paused).await;
    assert_eq!(cluster.runs().await.len(), 1);
    cluster.close([follower]).await;
}
