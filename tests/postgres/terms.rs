//! Terms: old ones decide nothing, and a campaign finds its way past a dying leader.

use super::*;

#[tokio::test]
async fn an_old_terms_claim_waits_for_a_takeover_under_way_and_is_refused() {
    let cluster = PostgresCluster::new("takeover").await;
    let leader = cluster.open().await.leading().await;
    let request = leader.due("job").await;
    let key = LockKey::new("another").expect("a key");
    let with_key = ClaimRequest { key, ..leader.due("with-key").await };
    let mut term = leader.term;

    for request in [request, with_key] {
        let verdict = cluster.across_a_takeover(leader.claim(&request)).await;

        term.0 += 1;
        assert_eq!(verdict, Verdict::Deposed { term });
    }
}

#[tokio::test]
async fn a_claim_and_a_renewal_do_not_wait_for_each_other() {
    let cluster = PostgresCluster::new("renewal").await;
    let leader = cluster.open().await.leading().await;
    let (first, second) = (leader.due("first").await, leader.due("second").await);
    let skipped = leader.due("skipped").await;
    let renews = "UPDATE callsheet.leader SET expires_at = expires_at + interval '1 second' WHERE scope = $1";

    // Nodes wait for 250 ms at most.
    let renewal = cluster.transaction(renews).await;
    token(&leader.claim(&first).await);
    let advanced = leader.locker.advance(&[advance_of(&skipped)]).await.expect("an answer");
    assert_eq!(advanced, [Advanced::Done]);
    let refused = leader.claim(&ClaimRequest { run: manual("again").run, ..first }).await;
    assert!(matches!(refused, Verdict::Elsewhere { .. } | Verdict::AlreadyRun { .. }), "{refused:?}");
    renewal.batch_execute("ROLLBACK").await.expect("an answer");

    let claim = cluster.transaction("SELECT FROM callsheet.leader WHERE scope = $1 FOR KEY SHARE").await;
    let renewed = leader.backend.elector().renew(leader.term).await.expect("an answer");
    assert!(matches!(renewed, Renewal::Renewed), "{renewed:?}");
    token(&leader.claim(&second).await);
    drop(claim);
}

#[tokio::test]
async fn a_takeover_waits_for_a_claim_under_way_renewed_or_not() {
    let cluster = PostgresCluster::new("waits").await;
    let (leader, other) = (cluster.open().await.leading().await, cluster.open().await);
    let claim = cluster.transaction("SELECT FROM callsheet.leader WHERE scope = $1 FOR KEY SHARE").await;
    // Another version of the row than the one that the claim has locked.
    let renewed = leader.backend.elector().renew(leader.term).await.expect("an answer");
    assert!(matches!(renewed, Renewal::Renewed), "{renewed:?}");
    leader.backend.elector().resign(leader.term).await.expect("an answer");

    let campaign = other.backend.elector().campaign(Duration::MAX).await;
    assert!(!matches!(campaign, Ok(Campaign::Won(_))), "{campaign:?}");
    let epoch = "SELECT epoch FROM callsheet.leader WHERE scope = $1";
    let row = cluster.admin.query_one(epoch, &[&cluster.scope]).await.expect("an answer");
    assert_eq!(row.get::<_, i64>(0), i64::try_from(leader.term.0).expect("it is small"));

    claim.batch_execute("COMMIT").await.expect("an answer");
    let campaign = other.backend.elector().campaign(Duration::MAX).await;
    assert!(matches!(campaign, Ok(Campaign::Won(_))), "{campaign:?}");
}

#[tokio::test]
async fn an_old_term_waits_for_a_takeover_under_way_and_changes_nothing() {
    let cluster = PostgresCluster::new("takeover-else").await;
    let leader = cluster.open().await.leading().await;
    let due = leader.due("job").await;
    let [second, third] = [2, 3].map(|later| Term(leader.term.0 + later));
    let row = "SELECT names::text FROM callsheet.names WHERE scope = $1 AND name = 'job'";
    let row = async || -> String {
        cluster.admin.query_one(row, &[&cluster.scope]).await.expect("an answer").get(0)
    };
    let before = row().await;

    // The first takeover: later ones it need not wait for, since its term is an old one by then.
    let jobs = [name("job")];
    let withdrawal = leader.locker.withdraw(leader.term, &jobs);
    cluster.across_a_takeover(withdrawal).await.expect("an answer");
    let advances = [advance_of(&due)];
    let advanced = cluster.across_a_takeover(leader.locker.advance(&advances)).await.expect("an answer");
    let jobs =
        [Enrolment::new(name("job"), ScheduleIdentity::of_text("another"), Authority::Term(leader.term))];
    let enrolled = cluster.across_a_takeover(leader.locker.enrol(&jobs)).await.expect("an answer");

    assert_eq!(advanced, [Advanced::Deposed { term: second }]);
    assert_eq!(enrolled, [Enrolled::Deposed { term: third }]);
    assert_eq!(row().await, before);
}

#[tokio::test]
async fn a_term_that_is_over_decides_nothing_though_nobody_succeeded() {
    let cluster = PostgresCluster::new("over").await;
    let leader = cluster.open().await.leading().await;
    let due = leader.due("job").await;
    let term = leader.term;
    let end = "UPDATE callsheet.leader SET expires_at = clock_timestamp() WHERE scope = $1";
    cluster.admin.execute(end, &[&cluster.scope]).await.expect("an answer");

    let claimed = leader.claim(&due).await;
    let advanced = leader.locker.advance(&[advance_of(&due)]).await.expect("an answer");
    let job = Enrolment::new(name("job"), ScheduleIdentity::of_text("another"), Authority::Term(term));
    let enrolled = leader.locker.enrol(&[job]).await.expect("an answer");

    assert_eq!(claimed, Verdict::Deposed { term });
    assert_eq!(advanced, [Advanced::Deposed { term }]);
    assert_eq!(enrolled, [Enrolled::Deposed { term }]);
}

#[tokio::test]
async fn a_follower_waits_for_the_leadership_with_the_shortest_lease_too() {
    let cluster = PostgresCluster::new("shortest").await;
    let node = |lease| Node::open(Postgres::new(&cluster.scope, &cluster.url).lease(lease));
    // It keeps the lead on any machine: nothing of this test is about its lease.
    let leader = node(Duration::from_mins(1)).await.leading().await;
    let follower = node(Duration::from_secs(1)).await;

    let campaign = follower.backend.elector().campaign(Duration::MAX).await;

    let led = leader.backend.node();
    assert!(matches!(&campaign, Ok(Campaign::Lost { leader, .. }) if *leader == led), "{campaign:?}");
}

#[tokio::test]
async fn a_campaign_that_finds_the_leader_dying_wins_when_it_is_dead() {
    let mut cluster = PostgresCluster::new("dying").await;
    let leader = cluster.open().await.leading().await;
    let follower = cluster.open().await;
    let name = |node: &Node, purpose: &str| {
        let node = node.backend.node().expect("the store knows its nodes").as_uuid().simple().to_string();
        format!("callsheet {} {purpose} %", &node[..12])
    };
    // The server notices the end of a process by its two connections, one after the other.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
    let ended = cluster.admin.query_one(end, &[&name(&leader, "leadership")]).await.expect("an answer");
    assert_eq!(ended.get::<_, i64>(0), 1);

    let elector = follower.backend.elector();
    let mut campaign = elector.campaign(Duration::MAX);
    let waits = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                 WHERE application_name LIKE $1 AND locktype = 'advisory' AND mode = 'ShareLock' AND NOT granted";
    let of_follower = name(&follower, "leadership");
    let waiting = async {
        while cluster.admin.query_opt(waits, &[&of_follower]).await.expect("an answer").is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        answer = &mut campaign => panic!("it did not wait for the end of the leader: {answer:?}"),
        () = waiting => {}
    }
    let backend: Arc<dyn Backend> = Arc::new(leader.backend);
    let (campaign, ()) = tokio::join!(campaign, cluster.kill(&backend));

    assert!(matches!(&campaign, Ok(Campaign::Won(grant)) if grant.term > leader.term), "{campaign:?}");
}

#[tokio::test]
async fn a_frozen_node_loses_its_keys_and_its_term_with_its_lease() {
    // Long enough for a busy machine: before it is over, one node has to claim, and another one to ask.
    const LEASE: Duration = Duration::from_secs(3);
    const GAP_MAX: Duration = LEASE.saturating_add(Duration::from_secs(1));
    let cluster = PostgresCluster::new("frozen").await;
    let (scope, url) = (cluster.scope.clone(), cluster.url.clone());
    let (claimed, frozen_at) = std::sync::mpsc::channel();
    let frozen = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let backend = Postgres::new(scope, url).lease(LEASE);
            let node = Node::open(backend).await.leading().await;
            token(&node.claim(&manual("key")).await);
            claimed.send(node.term).expect("the test waits");
            // As a stopped process: nothing of it moves.
            thread::sleep(LEASE * 3);
            let refused = node.locker.claim(&[manual("another")]).await;
            assert!(matches!(refused, Err(LockError::SessionLost { .. })), "{refused:?}");
        });
    });
    let node = Node::open(Postgres::new(&cluster.scope, &cluster.url)).await;
    let old = frozen_at.recv().expect("the node has claimed");
    let since = Instant::now();

    assert!(
        matches!(node.claim(&manual("key")).await, Verdict::Busy { .. }),
        "it lives as long as its lease"
    );
    let won = loop {
        match node.backend.elector().campaign(Duration::MAX).await.expect("an answer") {
            Campaign::Won(grant) => break grant.term,
            Campaign::Lost { retry_in, .. } => tokio::time::sleep(retry_in).await,
        }
    };
    let gap = since.elapsed();
    // The two connections of the frozen node were last heard of at different times.
    let stolen = loop {
        match node.claim(&manual("key")).await {
            Verdict::Busy { .. } if since.elapsed() < GAP_MAX => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            verdict => break verdict,
        }
    };

    assert!(won > old, "{won} after {old}");
    assert!(gap < GAP_MAX, "the gap was {gap:?} with a lease of {LEASE:?}");
    assert!(matches!(stolen, Verdict::Granted { lost: Some(_), .. }), "{stolen:?}");
    frozen.join().expect("it woke up and was told");
}
