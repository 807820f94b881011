//! Runs of one lock key on two nodes.

use super::*;

fn assert_refused(refused: &Result<Triggered, Error>) {
    assert!(matches!(refused, Err(Error::Trigger(TriggerError::Overlap { .. }))), "{refused:?}");
}

fn assert_refused_for(refused: Result<Triggered, Error>, run: RunId) {
    assert_refused(&refused);
    let Err(Error::Trigger(TriggerError::Overlap { holder, .. })) = refused else { return };
    assert_eq!(holder, Some(run));
}

/// The key is the name of the job that is refused: it is added without a question.
#[tokio::test]
async fn a_job_that_contradicts_the_leaders_policy_of_its_key_is_refused() {
    let cluster = Cluster::of("one-policy").await;
    let ([leader, mut follower], mut ran) = (cluster.pair().await, Ran::nothing());
    assert_eq!(ran.on(&leader, Job::new("led", every(PERIOD)).lock_key(JOB)).await, Scheduled::Here);
    cluster.leader_schedules().await;

    let keyed = Job::new("keyed", every(PERIOD)).lock_key(JOB).overlap(Overlap::Allow(2));
    let added = follower.jobs.add(keyed.run(async |_| {})).await;
    assert!(matches!(added, Err(Error::Add(AddError::Invalid(_)))), "{added:?}");
    assert_eq!(ran.on(&follower, job().overlap(Overlap::Allow(2))).await, Scheduled::WithoutLeader);
    follower.hears("it is refused", |kind| matches!(kind, EventKind::JobConflicting { .. })).await;
    assert_eq!(follower.status().await.state, JobState::Conflicting);
    let triggered = triggered(&follower.jobs).await;
    assert!(matches!(triggered, Err(Error::Trigger(TriggerError::Conflicting { .. }))), "{triggered:?}");
    ran.await_on(&leader, 3).await;
    assert!(ran.on_after(&follower, DateTime::UNIX_EPOCH).is_empty(), "the key is the leader's");

    leader.stop().await;
    ran.await_on(&follower, 3).await;
    assert_eq!(follower.status().await.refused, None);
    cluster.close([follower]).await;
}

#[tokio::test]
async fn a_tick_during_a_run_on_another_node_is_skipped() {
    let mut cluster = Cluster::of("skip").await;
    let [mut leader, follower] = cluster.pair_with(job).await;
    let held = cluster.hold_on(&follower).await;

    leader.meets(held.run.id()).await;
    leader.skips(SkipReason::Overlap).await;
    let refused = triggered(&leader.jobs).await;

    assert_refused_for(refused, held.run.id());
    let token = held.token();
    held.succeeds();
    let next = cluster.begun().await;
    assert_eq!(next.on, leader.id);
    assert!(next.token() > token);
    drop(next);
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_tick_waits_in_the_queue_for_the_end_of_a_run_on_another_node() {
    let mut cluster = Cluster::of("queue").await;
    let [mut leader, follower] = cluster.pair_with(|| job().overlap(Overlap::Queue(1))).await;
    let held = cluster.hold_on(&follower).await;

    leader.meets(held.run.id()).await;
    let queued = triggered(&leader.jobs).await;
    let Ok(Triggered::Queued(queued)) = queued else { panic!("{queued:?}") };
    assert_refused_for(triggered(&leader.jobs).await, queued);
    leader.skips(SkipReason::Overlap).await;
    assert!(cluster.begun.try_recv().is_err(), "the key is held");

    let ended_at = cluster.now().await;
    let token = held.token();
    held.succeeds();
    let (mut tokens, mut ticks, mut ran_queued) = (vec![token], Vec::new(), false);
    while !ran_queued || ticks.is_empty() {
        let begun = cluster.begun().await;
        assert_eq!(begun.on, leader.id);
        tokens.push(begun.token());
        ticks.extend(begun.run.fire_time());
        ran_queued |= begun.run.id() == queued;
        begun.succeeds();
    }
    assert!(tokens.is_sorted_by(|one, next| one < next), "one after the other: {tokens:?}");
    let tick = ticks[0];
    assert!(tick > ended_at - TimeDelta::seconds(1), "the freshest tick waits: {tick} at {ended_at}");
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_run_on_another_node_is_asked_to_stop_by_the_tick_that_replaces_it() {
    let mut cluster = Cluster::of("replace").await;
    let [mut leader, mut follower] = cluster.pair_with(|| job().overlap(Overlap::Replace)).await;
    let held = cluster.hold_on(&follower).await;
    let run = held.run.id();

    let met = leader.meets(run).await;
    let replaced = |kind: &EventKind| matches!(kind, EventKind::RunCancelled { run: ended, why: CancelReason::Replaced, .. } if *ended == run);
    let stopped = follower.hears("it is asked to stop", replaced).await;

    let took = stopped.at - met.at;
    assert!(took < HEARD_WITHIN, "after {took}");
    let next = cluster.begun().await;
    assert_eq!(next.on, leader.id);
    assert!(next.token() > held.token());
    drop(next);
    cluster.close([leader, follower]).await;
    let outcomes: Vec<_> = cluster.runs().await.into_iter().map(|run| (run.run, run.outcome)).collect();
    assert!(outcomes.contains(&(run, "cancelled".to_owned())), "{outcomes:?}");
}

#[tokio::test]
async fn a_run_on_another_node_is_asked_to_stop_by_the_trigger_that_replaces_it() {
    let mut cluster = Cluster::of("replace-by-hand").await;
    let mut nodes = cluster.pair_with(|| by_hand().overlap(Overlap::Replace)).await;
    let started = triggered(&nodes[0].jobs).await;
    let Ok(Triggered::Started(first)) = started else { panic!("the key is free: {started:?}") };
    let mut held = cluster.begun_on(&nodes[0]).await;
    assert_eq!(held.run.id(), first);

    // The follower replaces the run of the leader, then the leader that of the follower.
    for (holder, other) in [(0, 1), (1, 0)] {
        let run = held.run.id();
        let queued = triggered(&nodes[other].jobs).await;
        let Ok(Triggered::Queued(next)) = queued else { panic!("the key is held: {queued:?}") };
        let met = nodes[other].meets(run).await;
        let replaced = |kind: &EventKind| matches!(kind, EventKind::RunCancelled { run: ended, why: CancelReason::Replaced, .. } if *ended == run);
        let stopped = nodes[holder].hears("it is asked to stop", replaced).await;

        let took = stopped.at - met.at;
        assert!(took < HEARD_WITHIN, "after {took}");
        let begun = cluster.begun().await;
        assert_eq!((begun.on, begun.run.id()), (nodes[other].id, next));
        assert!(begun.token() > held.token());
        held = begun;
    }

    let last = held.run.id();
    held.succeeds();
    let succeeded = |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { run, .. } if *run == last);
    nodes[0].hears("the last one succeeds", succeeded).await;
    cluster.close(nodes).await;
    let outcomes: Vec<_> = cluster.runs().await.into_iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, ["cancelled", "cancelled", "succeeded"]);
}

#[tokio::test]
async fn as_many_runs_as_are_allowed_go_on_at_once_whatever_their_nodes() {
    let mut cluster = Cluster::of("allow").await;
    let [mut leader, follower] = cluster.pair_with(|| job().overlap(Overlap::Allow(2))).await;
    let first = cluster.hold_on(&follower).await;

    let second = cluster.begun().await;
    assert_eq!(second.on, leader.id);
    assert_ne!(second.run.lock_key(), first.run.lock_key(), "each slot is a key");
    leader.meets(first.run.id()).await;
    leader.skips(SkipReason::Overlap).await;
    assert_refused(&triggered(&follower.jobs).await);
    assert!(!first.run.is_cancelled() && !second.run.is_cancelled());
    assert!(cluster.begun.try_recv().is_err(), "there are two");

    first.succeeds();
    let third = cluster.begun().await;
    assert_eq!(third.on, leader.id);
    drop((second, third));
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_run_keeps_its_claim_and_its_key_between_its_attempts() {
    let mut cluster = Cluster::of("retry").await;
    let retry = Retry::attempts(3).initial(PERIOD * 3).factor(1.0).jitter(0.0);
    let [mut leader, follower] = cluster.pair_with(|| job().retry(retry)).await;
    let first = cluster.begun().await;
    let (run, claim) = (first.run.id(), (first.fire_time(), first.token()));
    first.ends(Err("out of paper".into()));

    for attempt in 2..=3 {
        let retried =
            |kind: &EventKind| matches!(kind, EventKind::RunRetried { run: failed, .. } if *failed == run);
        leader.hears("it is to be tried again", retried).await;
        assert_refused_for(triggered(&follower.jobs).await, run);
        leader.skips_after(claim.0, SkipReason::Overlap).await;

        let again = cluster.begun().await;
        assert_eq!((again.on, again.run.id(), again.run.attempt()), (leader.id, run, attempt));
        assert_eq!((again.fire_time(), again.token()), claim);
        again.ends(if attempt == 3 { Ok(()) } else { Err("out of paper".into()) });
    }

    let next = cluster.begun().await;
    assert!(next.token() > claim.1, "the key was freed by the last attempt");
    drop(next);
    cluster.close([leader, follower]).await;
    let runs = cluster.runs().await;
    let recorded: Vec<_> = runs.iter().filter(|recorded| recorded.run == run).collect();
    let [recorded] = recorded[..] else { panic!("one claim, one end: {recorded:?}") };
    assert_eq!((recorded.fire_time, recorded.outcome.as_str()), (Some(claim.0), "succeeded"));
}

#[tokio::test]
async fn a_shutdown_names_the_tick_that_another_node_runs_then() {
    let cluster = Cluster::of("shutdown").await;
    // Longer than a hand-over takes, so that no newer tick is due.
    let ([leader, follower], mut ran) =
        cluster.pair_that_runs(|| Job::new(JOB, every(Duration::from_secs(2)))).await;
    ran.await_on(&leader, 1).await;

    let report = leader.jobs.shutdown(Duration::ZERO).await;

    assert_eq!(report.left_to_others, 1, "{report}");
    let [(left, fire_time)] = &report.left[..] else { panic!("{:?}", report.left) };
    assert_eq!(left.as_str(), JOB);
    assert_eq!(ran.await_on(&follower, 1).await, [fire_time.instant()]);
    cluster.close([follower]).await;
    assert_distinct(&ran.all());
}
