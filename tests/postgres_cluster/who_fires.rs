//! Who fires a job, and what becomes of a job that its node lets go of.

use super::*;

/// The other nodes find it out within half a minute.
#[tokio::test]
async fn a_job_that_the_leader_lets_go_of_goes_on_where_it_is_held() {
    recorder();
    let cluster = Cluster::of("let-go").await;
    let ([leader, follower], mut ran) = cluster.pair_that_runs(|| Job::new("let-go", every(PERIOD))).await;
    let events =
        [&leader, &follower].map(|node| node.jobs.events(EventFilter::new().job("let-go").buffer(100_000)));
    ran.await_on(&leader, 3).await;

    leader.jobs.remove("let-go").await.expect("it is there");
    ran.await_after(&follower, cluster.now().await).await;
    cluster.close([leader, follower]).await;

    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
    // Whichever node has decided it, and however: on a busy machine one may pass while the run before it ends.
    let due = counted(&cluster, ("callsheet_ticks_due_total", "name=\"let-go\""));
    let decided = all_counted(&cluster, ("callsheet_ticks_total", "name=\"let-go\""));
    assert_eq!(due, decided.iter().map(|(_, count)| count).sum::<u64>(), "{decided:?}");
}

#[tokio::test]
async fn a_tick_that_any_node_may_fire_runs_on_one_of_them() {
    recorder();
    let cluster = Cluster::of("any").await;
    let [first, second, third] = [cluster.start().await, cluster.start().await, cluster.start().await];
    let (mut ran, mut events) = (Ran::nothing(), Vec::new());
    for node in [&first, &second, &third] {
        let any = Job::new("any", every(PERIOD)).fires(Fires::AnyNode);
        assert_eq!(ran.on(node, any).await, Scheduled::Here);
        events.push(node.jobs.events(EventFilter::new().job("any").buffer(100_000)));
    }

    ran.await_any(10).await;
    third.stop().await;
    ran.await_any(10).await;
    cluster.cut(&second).await;
    ran.await_any(10).await;
    first.stop().await;
    ran.await_after(&second, cluster.now().await).await;
    cluster.close([second]).await;

    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
    assert_eq!(cluster.number(OPEN_RUNS, &[&cluster.scope]).await, 0);
    let elsewhere = counted(&cluster, ("callsheet_ticks_elsewhere_total", "name=\"any\""));
    assert!(elsewhere > 0, "all but one come second");
}

#[tokio::test]
async fn a_job_of_a_follower_runs_there_until_the_leader_holds_it_too() {
    let cluster = Cluster::of("by-holders").await;
    let [leader, mut follower] = cluster.pair().await;
    let mut ran = Ran::nothing();
    let events =
        [&leader, &follower].map(|node| node.jobs.events(EventFilter::new().job(JOB).buffer(100_000)));

    assert_eq!(ran.on(&follower, job()).await, Scheduled::WithoutLeader);
    ran.await_on(&follower, 5).await;
    assert_eq!(ran.on(&leader, job()).await, Scheduled::Here);
    let led = ran.await_on(&leader, 10).await;

    assert_eq!(follower.status().await.state, JobState::Standby, "it has met the mark of the leader");
    assert!(ran.on_after(&follower, led[0]).is_empty(), "the leader fires it");

    leader.stop().await;
    follower.leads().await;
    ran.await_after(&follower, cluster.now().await).await;
    cluster.close([follower]).await;
    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
}

/// A time in which a leader surely stops.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn the_next_leader_decides_by_policy_what_was_missed_without_one() {
    let cluster = Cluster::of("misfire").await;
    let mut leader = cluster.start().await;
    leader.leads().await;
    let first = (cluster.now().await + STOPS_WITHIN)
        .duration_trunc(TimeDelta::milliseconds(1))
        .expect("an instant of today");
    let ticks = [0, 1, 2].map(|nth| first + period() * nth);
    let within = Duration::from_mins(5);
    // The policy, the ticks that run, and how many do not.
    let policies = [
        ("latest", Misfire::Latest { within }, &ticks[2..], 2),
        ("all", Misfire::All { max: 2, within }, &ticks[1..], 1),
        ("skip", Misfire::Skip, &[][..], 3),
    ];
    let jobs = || {
        policies.map(|(name, misfire, ..)| {
            // A job whose ticks are all over could not be added.
            let [one, two, three] = ticks;
            let ticks = [one, two, three, three + FAR_OFF];
            Job::new(name, at(ticks)).misfire(misfire).misfire_after(PERIOD).run(async |_| {})
        })
    };
    leader.jobs.add_all(jobs()).await.expect("they are right");
    let marked = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND term IS NOT NULL";
    while cluster.number(marked, &[&cluster.scope]).await < 3 {
        sleep(LOOK_AGAIN).await;
    }
    leader.stop().await;
    assert!(cluster.now().await < first, "nothing is due yet");

    // All of them are later than `misfire_after`.
    let missed_at = ticks[2] + period() * 2;
    while let Ok(wait) = (missed_at - cluster.now().await).to_std() {
        sleep(wait + LOOK_AGAIN).await;
    }
    let node = cluster.start().await;
    let mut events = policies.map(|(name, ..)| node.jobs.events(EventFilter::new().job(name)));
    node.jobs.add_all(jobs()).await.expect("they are right");
    for ((name, _, runs, skipped), events) in policies.iter().zip(&mut events) {
        let (mut ended, mut skips) = (0, 0);
        let decided = async {
            while (ended, skips) != (runs.len(), *skipped) {
                match events.next().await.expect("the node runs").kind {
                    EventKind::RunSucceeded { .. } => ended += 1,
                    EventKind::TickSkipped { count, reason: SkipReason::Misfire, .. } => skips += count,
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, decided).await.unwrap_or_else(|_| panic!("{name}: not as its policy says"));
    }

    // Skips are written a little later than they are said.
    let decided = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND cursor = $2";
    while cluster.number(decided, &[&cluster.scope, &ticks[2]]).await < 3 {
        sleep(LOOK_AGAIN).await;
    }
    cluster.close([node]).await;
    let runs = cluster.runs().await;
    for (name, _, expected, _) in policies {
        let ran = runs.iter().filter(|run| run.job == name).filter_map(|run| run.fire_time);
        assert_eq!(ran.collect::<Vec<_>>(), expected, "{name}");
    }
}
