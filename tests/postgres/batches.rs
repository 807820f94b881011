//! Batches of several nodes, and rounds of one.

use super::*;

#[tokio::test]
async fn a_node_does_not_steal_from_itself() {
    let node = PostgresCluster::new("itself").await.open().await;
    let held = manual("key");
    token(&node.claim(&held).await);

    let verdict = node.claim(&manual("key")).await;

    assert_eq!(verdict, Verdict::Busy { holder: Some(held.run), own: true });
    assert!(node.locker.close_lost(10).await.expect("an answer").lost.is_empty());
}

#[tokio::test]
async fn many_claims_of_one_key_cost_no_more_than_a_few_round_trips() {
    let cluster = PostgresCluster::new("one_key").await;
    let node = cluster.open().await;
    let batch: Vec<_> = (0..1_024).map(|_| manual("key")).collect();
    let began = Instant::now();

    let verdicts = node.locker.claim(&batch).await.expect("an answer");

    token(&verdicts[0]);
    let busy = Verdict::Busy { holder: Some(batch[0].run), own: true };
    assert!(verdicts[1..].iter().all(|verdict| *verdict == busy), "{verdicts:?}");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn overlapping_batches_of_three_nodes_neither_rob_nor_deadlock() {
    const KEYS: usize = 40;
    /// Of each node: none starves.
    const GRANTS: usize = 800;
    let cluster = PostgresCluster::new("overlapping").await;
    let held = Mutex::new(HashSet::new());
    let nodes = [cluster.open().await, cluster.open().await, cluster.open().await];
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";

    let all_done = join_all(nodes.iter().enumerate().map(|(nth, node)| {
        let held = &held;
        async move {
            let (mut granted, mut round) = (0, 0);
            while granted < GRANTS {
                round += 1;
                let mut batch: Vec<_> = (0..KEYS).map(|key| manual(&format!("key-{key}"))).collect();
                // Each node in an order of its own.
                batch.rotate_left((nth * 13 + round) % KEYS);
                if nth == 1 {
                    batch.reverse();
                }
                let mut ends = Vec::new();
                for (request, verdict) in node.claim_all(batch).await {
                    match verdict {
                        Verdict::Granted { token, lost } => {
                            assert_eq!(lost, None, "everybody lives");
                            assert!(
                                held.lock().expect("nobody panicked").insert(request.key.clone()),
                                "{} is held",
                                request.key
                            );
                            let ClaimRequest { job, key, run, .. } = request;
                            ends.push(Completion::new(job, key, run, token, Outcome::Succeeded));
                        }
                        Verdict::Busy { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
                granted += ends.len();
                for end in &ends {
                    held.lock().expect("nobody panicked").remove(&end.key);
                }
                node.complete(ends).await;
            }
        }
    }));
    tokio::time::timeout(Duration::from_secs(120), all_done).await.expect("every node gets its share");

    assert_eq!(cluster.admin.query_one(deadlocks, &[]).await.expect("an answer").get::<_, i64>(0), 0);
}

#[tokio::test]
async fn names_are_made_in_one_order_whatever_order_they_are_asked_in() {
    let cluster = PostgresCluster::new("made").await;
    let leader = cluster.open().await.leading().await;
    let enrol =
        |job: &str| Enrolment::new(name(job), ScheduleIdentity::of_text("s"), Authority::Term(leader.term));

    let jobs = [enrol("job-b"), enrol("job-a")];
    let enrolled = cluster.while_made(["job-a", "job-b"], leader.locker.enrol(&jobs)).await;
    let keys = [manual("key-b"), manual("key-a")];
    let claimed = cluster.while_made(["key-a", "key-b"], leader.locker.claim(&keys)).await;

    assert_eq!(enrolled.expect("an answer"), [Enrolled::Locked, Enrolled::Locked]);
    let claimed = claimed.expect("an answer");
    assert!(claimed.iter().all(|verdict| token(verdict) > FencingToken(0)), "{claimed:?}");
}

#[tokio::test]
async fn who_probes_a_dead_owner_is_not_taken_for_the_owner() {
    let cluster = PostgresCluster::new("probe").await;
    let leader = cluster.open().await.leading().await;
    let requests = [manual("stolen"), manual("closed")];
    leader.locker.claim(&requests).await.expect("an answer");
    let owner: i64 = {
        let owner = "SELECT beacon FROM callsheet.names WHERE scope = $1 AND name = 'stolen'";
        cluster.admin.query_one(owner, &[&cluster.scope]).await.expect("an answer").get(0)
    };
    leader.locker.close().await;
    // Another node in the middle of a statement that probes the same owner.
    let prober = admin().await;
    let probe = "SELECT pg_try_advisory_xact_lock_shared($1)";
    prober.batch_execute("BEGIN").await.expect("an answer");
    assert!(prober.query_one(probe, &[&owner]).await.expect("an answer").get::<_, bool>(0), "it is dead");

    let node = cluster.open().await;
    let holder = cluster
        .transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'stolen' FOR KEY SHARE")
        .await;
    let locked = node.claim(&manual("stolen")).await;
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let stolen = node.claim(&manual("stolen")).await;
    let closed = node.locker.close_lost(10).await.expect("an answer").lost;
    let node = node.leading().await;

    assert_eq!(locked, Verdict::Locked { holder: None });
    assert!(matches!(stolen, Verdict::Granted { lost: Some(_), .. }), "{stolen:?}");
    assert_eq!(closed.iter().map(|lost| lost.run).collect::<Vec<_>>(), [requests[1].run]);
    assert!(node.term > leader.term);
    prober.batch_execute("ROLLBACK").await.expect("an answer");
}

#[tokio::test]
async fn a_round_is_one_transaction_and_a_key_freed_in_it_can_be_claimed_in_it() {
    let cluster = PostgresCluster::new("round").await;
    let node = cluster.open().await;
    let [former, next, other] = [manual("key"), manual("key"), manual("other")];
    let make = "INSERT INTO callsheet.names (scope, name) VALUES ($1, 'other')";
    cluster.admin.execute(make, &[&cluster.scope]).await.expect("an answer");
    let end = end_of(&former, &node.claim(&former).await);
    let first = end.token;

    let answers = node.locker.round(&[end], &[next.clone(), other], &[]).await;

    assert_eq!(answers.ended.expect("an answer"), [Completed::RECORDED]);
    let verdicts = answers.claimed.expect("an answer");
    assert!(verdicts.iter().all(|verdict| token(verdict) > FencingToken(0)), "{verdicts:?}");
    assert!(token(&verdicts[0]) > first, "{verdicts:?}");
    let transactions = "SELECT count(DISTINCT xmin::text), count(*) FROM (
                            SELECT xmin FROM callsheet.runs WHERE scope = $1
                            UNION ALL SELECT xmin FROM callsheet.names WHERE scope = $1) AS changed";
    let row = cluster.admin.query_one(transactions, &[&cluster.scope]).await.expect("an answer");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 3), "one transaction changed three rows");
}

#[tokio::test]
async fn a_round_of_several_statements_of_one_kind_is_one_transaction() {
    let cluster = PostgresCluster::new("one-kind").await;
    let leader = cluster.open().await.leading().await;
    let make = "INSERT INTO callsheet.names (scope, name) VALUES ($1, 'by-hand')";
    cluster.admin.execute(make, &[&cluster.scope]).await.expect("an answer");
    let claims = [leader.due("tick").await, manual("by-hand")];
    let transactions = async || -> i64 {
        let transactions = "SELECT count(DISTINCT xmin::text) FROM callsheet.names WHERE scope = $1";
        cluster.admin.query_one(transactions, &[&cluster.scope]).await.expect("an answer").get(0)
    };

    let verdicts = leader.locker.round(&[], &claims, &[]).await.claimed.expect("an answer");
    let of_claims = transactions().await;
    // Of one of them it is known where its row is.
    let ends: Vec<_> = claims.iter().zip(&verdicts).map(|(claim, verdict)| end_of(claim, verdict)).collect();
    let ended = leader.locker.round(&ends, &[], &[]).await.ended.expect("an answer");
    let of_ends = transactions().await;

    assert!(ended.iter().all(|ended| *ended == Completed::RECORDED), "{ended:?}");
    assert_eq!((of_claims, of_ends), (1, 1));
}

#[tokio::test]
async fn what_is_refused_in_a_round_takes_nothing_along() {
    let cluster = PostgresCluster::new("refused-round").await;
    let leader = cluster.open().await.leading().await;
    let held = manual("held");
    let end = end_of(&held, &leader.claim(&held).await);
    let due = leader.due("job").await;
    // Claims wait for the leader's row until the server refuses to wait any longer; ends do not need it.
    let holder = cluster.transaction("SELECT FROM callsheet.leader WHERE scope = $1 FOR UPDATE").await;

    let answers = leader.locker.round(&[end], std::slice::from_ref(&due), &[]).await;

    assert_eq!(answers.ended.expect("an answer"), [Completed::RECORDED]);
    let refused = answers.claimed.expect_err("it waited in vain");
    assert!(matches!(refused, LockError::NotDone { .. }), "{refused:?}");
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    token(&leader.claim(&due).await);
}

#[tokio::test]
async fn an_end_is_of_one_run_and_one_token() {
    let cluster = PostgresCluster::new("ends").await;
    let node = cluster.open().await;
    let run = manual("key");
    let mut retries =
        Enrolment::new(run.job.clone(), ScheduleIdentity::of_text("a schedule"), Authority::Any);
    retries.retry_lost = true;
    node.locker.enrol(&[retries]).await.expect("an answer");
    let first = end_of(&run, &node.claim(&run).await);
    node.locker.close().await;
    node.locker.open().await.expect("a session opens again");
    assert_eq!(node.locker.close_lost(10).await.expect("an answer").lost.len(), 1);
    // A lost run that is to be retried is granted once more.
    let run = ClaimRequest { resume_lost: true, ..run };
    let second = end_of(&run, &node.claim(&run).await);
    assert!(second.token > first.token);
    let complete = async |end: &Completion| {
        let ended = node.locker.complete(std::slice::from_ref(end)).await;
        ended.expect("an answer").pop().expect("an answer per end")
    };

    let of_another = Completion { run: manual("key").run, ..second.clone() };
    assert_eq!(complete(&of_another).await, Completed::Stale, "the run is another one");
    assert_eq!(complete(&first).await, Completed::Stale, "the token is an older one");
    assert_eq!(complete(&second).await, Completed::RECORDED);
    assert_eq!(complete(&second).await, Completed::RECORDED, "it was recorded before");
    assert_eq!(complete(&first).await, Completed::Stale, "the later end is not that of the earlier claim");
}

/// Mistake of a peer: pruning the history reopens a tick.
#[tokio::test]
async fn no_tick_is_reopened_when_the_history_is_deleted() {
    let cluster = PostgresCluster::new("pruned").await;
    let leader = cluster.open().await.leading().await;
    let claim = leader.due("job").await;
    let run = claim.run;
    leader.complete(vec![end_of(&claim, &leader.claim(&claim).await)]).await;

    let pruned = "DELETE FROM callsheet.runs WHERE scope = $1";
    assert_eq!(cluster.admin.execute(pruned, &[&cluster.scope]).await.expect("an answer"), 1);
    let fire_time = claim.tick.expect("a tick").fire_time.instant();
    let again = ClaimRequest { run: manual("job").run, ..claim };
    let verdict = leader.claim(&again).await;

    let already = Verdict::AlreadyRun { run, cursor: fire_time };
    assert_eq!(verdict, already, "what is decided is on the row of the job");
}

#[tokio::test]
async fn ticks_of_one_batch_that_need_one_name_are_decided_one_by_one() {
    let cluster = PostgresCluster::new("one-name").await;
    let leader = cluster.open().await.leading().await;
    let with_key = async |job: &str, key: &str| ClaimRequest {
        key: LockKey::new(key).expect("a key"),
        ..leader.due(job).await
    };
    let another_run = |claim: &ClaimRequest| ClaimRequest { run: manual("x").run, ..claim.clone() };
    // The key of one is the name of the other; and two of one key.
    let crossed = [with_key("a", "b").await, with_key("c", "a").await];
    let shared = [with_key("d", "shared").await, with_key("e", "shared").await];
    let make = "INSERT INTO callsheet.names (scope, name) VALUES ($1, 'b'), ($1, 'shared'), ($1, 'former')";
    cluster.admin.execute(make, &[&cluster.scope]).await.expect("an answer");

    let both = leader.locker.claim(&crossed).await.expect("an answer");
    let first = leader.locker.claim(&shared).await.expect("an answer");
    let former = manual("former");
    let end = end_of(&former, &leader.claim(&former).await);
    // In a round the same.
    let ends = [end_of(&shared[0], &first[0]), end];
    let claims = [another_run(&shared[1]), another_run(&shared[1])];
    let second = leader.locker.round(&ends, &claims, &[]).await.claimed.expect("an answer");

    assert!(both.iter().all(|verdict| token(verdict) > FencingToken(0)), "{both:?}");
    for claim in &crossed {
        let again = leader.claim(&another_run(claim)).await;
        assert!(matches!(again, Verdict::AlreadyRun { run, .. } if run == claim.run), "{again:?}");
    }
    assert!(matches!(first[..], [Verdict::Granted { .. }, Verdict::Busy { .. }]), "{first:?}");
    assert!(matches!(second[..], [Verdict::Granted { .. }, Verdict::Busy { .. }]), "{second:?}");
}
