//! Claims of sessions that end, and what any number of keys costs.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_is_read_after_the_lease_is_not_believed() {
    let cluster = PostgresCluster::new("too-late").await;
    let lease = Duration::from_secs(1);
    let node = Node::open(Postgres::new(&cluster.scope, &cluster.url).lease(lease)).await;

    let mut asked = node.locker.close_lost(1);
    assert!((&mut asked).now_or_never().is_none());
    // The other thread sends it and hears the answer, while this one is frozen.
    thread::sleep(lease);
    let answer = asked.await;

    assert!(matches!(answer, Err(LockError::Timeout)), "{answer:?}");
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_closed_once_with_its_dead_session() {
    let cluster = PostgresCluster::new("reply-lost").await;
    let leader = cluster.open().await.leading().await;
    let request = leader.due("job").await;
    let first = leader.locker.open().await.expect("a session opens");
    let leader = leader.leading().await;
    let tick = request.tick.map(|tick| TickClaim { authority: Authority::Term(leader.term), ..tick });
    let request = ClaimRequest { tick, ..request };

    // Sent and committed, but nobody waits for the answer any more.
    let asked = leader.claim(&request).now_or_never();
    assert_eq!(asked, None);
    leader.hears_of_the_loss_of(first).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    leader.locker.open().await.expect("a session opens again");
    let leader = leader.leading().await;

    let settled = leader.claim(&ClaimRequest { recheck: true, ..request.clone() }).await;
    let tick = request.tick.map(|tick| TickClaim { authority: Authority::Term(leader.term), ..tick });
    let again = leader.claim(&ClaimRequest { run: manual("x").run, tick, ..request.clone() }).await;
    let lost = leader.locker.close_lost(10).await.expect("an answer").lost;
    match again {
        Verdict::AlreadyRun { run, .. } => {
            assert_eq!((run, settled), (request.run, Verdict::GrantedBefore));
            assert_eq!(lost.iter().map(|lost| lost.run).collect::<Vec<_>>(), [request.run]);
        }
        // It never reached the server.
        Verdict::Granted { lost: None, .. } => assert_eq!((lost, settled), (Vec::new(), Verdict::NotGranted)),
        other => panic!("{other:?}"),
    }
    assert_eq!(leader.locker.close_lost(10).await.expect("an answer").lost, []);
}

#[tokio::test]
async fn a_run_of_a_former_session_is_neither_granted_again_nor_ended_but_lost() {
    let cluster = PostgresCluster::new("former").await;
    let node = cluster.open().await;
    let run = manual("key");
    let end = end_of(&run, &node.claim(&run).await);
    node.locker.close().await;
    node.locker.open().await.expect("a session opens again");

    let settled = node.claim(&ClaimRequest { recheck: true, ..run.clone() }).await;
    let again = node.claim(&run).await;
    let ended = node.locker.complete(&[end]).await.expect("an answer");
    let lost = node.locker.close_lost(10).await.expect("an answer").lost;

    assert_eq!((settled, again), (Verdict::GrantedBefore, Verdict::GrantedBefore));
    assert_eq!(ended, [Completed::Stale]);
    assert_eq!(lost.iter().map(|lost| lost.run).collect::<Vec<_>>(), [run.run]);
}

#[tokio::test]
async fn an_abandoned_claim_holds_nothing() {
    let cluster = PostgresCluster::new("abandoned").await;
    let leader = cluster.open().await.leading().await;
    let request = leader.due("job").await;
    let session = leader.locker.open().await.expect("a session opens");
    let leader = leader.leading().await;
    let tick = request.tick.map(|tick| TickClaim { authority: Authority::Term(leader.term), ..tick });
    let request = ClaimRequest { tick, ..request };
    let holder = cluster.transaction("SELECT FROM callsheet.leader WHERE scope = $1 FOR UPDATE").await;

    // The statement waits on the server when it is given up, and goes on there.
    let given_up = tokio::time::timeout(Duration::from_millis(50), leader.claim(&request)).await;
    assert!(given_up.is_err());
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    leader.hears_of_the_loss_of(session).await;
    let refused = leader.locker.claim(&[manual("other")]).await;
    assert!(matches!(refused, Err(LockError::SessionLost { .. })), "{refused:?}");

    let other = cluster.open().await;
    let until = Instant::now() + Duration::from_secs(5);
    while !matches!(other.claim(&manual("job")).await, Verdict::Granted { .. }) {
        assert!(Instant::now() < until, "the key is held by a statement that nobody waits for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn any_number_of_keys_costs_two_connections_and_two_advisory_locks() {
    let cluster = PostgresCluster::new("constant").await;
    let node = cluster.open().await.leading().await;
    let batch: Vec<_> = (0..1_000).map(|key| manual(&format!("key-{key}"))).collect();
    let verdicts = node.locker.claim(&batch).await.expect("an answer");
    assert!(verdicts.iter().all(|verdict| token(verdict) > FencingToken(0)));

    let id = node.backend.node().expect("an id").as_uuid().simple().to_string();
    let held = "SELECT count(DISTINCT a.pid), count(l.objid) FROM pg_stat_activity a
                LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory'
                WHERE a.application_name LIKE $1";
    let row =
        cluster.admin.query_one(held, &[&format!("callsheet {}%", &id[..12])]).await.expect("an answer");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 2));
}

#[tokio::test]
async fn a_closed_session_frees_its_keys_at_once() {
    let cluster = PostgresCluster::new("closed").await;
    let (node, other) = (cluster.open().await, cluster.open().await);
    let held = manual("key");
    token(&node.claim(&held).await);

    node.locker.close().await;

    let Verdict::Granted { lost: Some(lost), .. } = other.claim(&manual("key")).await else {
        panic!("not freed")
    };
    assert_eq!(lost.run, held.run);
}
