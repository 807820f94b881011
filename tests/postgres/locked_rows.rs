//! Rows that an application holds fail alone.

use super::*;

#[tokio::test]
async fn a_job_whose_row_an_application_holds_fails_alone_and_at_once() {
    let cluster = PostgresCluster::new("held-row").await;
    let leader = cluster.open().await.leading().await;
    let batch = [leader.due("held").await, leader.due("free").await];
    let holder = cluster
        .transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'held' FOR UPDATE")
        .await;

    let asked_at = Instant::now();
    let verdicts = leader.locker.claim(&batch).await.expect("an answer");

    assert!(matches!(verdicts[..], [Verdict::Locked { .. }, Verdict::Granted { .. }]), "{verdicts:?}");
    assert!(asked_at.elapsed() < Duration::from_secs(1), "{:?}", asked_at.elapsed());
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    token(&leader.claim(&batch[0]).await);
}

#[tokio::test]
async fn an_end_of_a_locked_row_fails_alone_and_is_recorded_later() {
    let cluster = PostgresCluster::new("held-end").await;
    let node = cluster.open().await;
    let batch = [manual("held"), manual("free")];
    let verdicts = node.locker.claim(&batch).await.expect("an answer");
    let ends: Vec<_> = batch.iter().zip(&verdicts).map(|(run, verdict)| end_of(run, verdict)).collect();
    let holder = cluster
        .transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'held' FOR UPDATE")
        .await;

    let ended = node.locker.complete(&ends).await.expect("an answer");

    assert_eq!(ended, [Completed::Locked, Completed::RECORDED]);
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let ended = node.locker.complete(&ends).await.expect("an answer");
    assert_eq!(ended, [Completed::RECORDED, Completed::RECORDED]);
}

#[tokio::test]
async fn enrolments_moves_and_withdrawals_of_a_locked_row_fail_alone() {
    let cluster = PostgresCluster::new("held-cursor").await;
    let leader = cluster.open().await.leading().await;
    let [held, free] = [leader.due("held").await, leader.due("free").await];
    let holder = cluster
        .transaction("UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'held'")
        .await;

    let enrol = |job: &str| {
        Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Term(leader.term))
    };
    let jobs = [enrol("held"), enrol("free"), enrol("new")];
    let enrolled = leader.locker.enrol(&jobs).await.expect("an answer");
    let advances = [held, free].map(|claim| advance_of(&claim));
    let advanced = leader.locker.advance(&advances).await.expect("an answer");
    leader.locker.withdraw(leader.term, &[name("held"), name("free")]).await.expect("an answer");

    assert!(
        matches!(enrolled[..], [Enrolled::Locked, Enrolled::Done { .. }, Enrolled::Done { .. }]),
        "{enrolled:?}"
    );
    assert_eq!(advanced, [Advanced::Locked, Advanced::Done]);
    let withdrawn = "SELECT name FROM callsheet.names WHERE scope = $1 AND withdrawn";
    let withdrawn = cluster.admin.query(withdrawn, &[&cluster.scope]).await.expect("an answer");
    assert_eq!(withdrawn.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["free"]);
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    assert_eq!(leader.locker.advance(&advances[..1]).await.expect("an answer"), [Advanced::Done]);
}

#[tokio::test]
async fn a_lost_run_of_a_locked_row_is_closed_later_than_the_others() {
    let cluster = PostgresCluster::new("held-lost").await;
    let node = cluster.open().await;
    let batch = [manual("free"), manual("held")];
    let verdicts = node.locker.claim(&batch).await.expect("an answer");
    assert!(verdicts.iter().all(|verdict| token(verdict) > FencingToken(0)), "{verdicts:?}");
    node.locker.close().await;
    let node = cluster.open().await;
    let holder = cluster
        .transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'held' FOR KEY SHARE")
        .await;

    let at_once = node.locker.close_lost(10).await.expect("an answer").lost;
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let later = node.locker.close_lost(10).await.expect("an answer").lost;

    let runs = |lost: &[LostRun]| lost.iter().map(|lost| lost.run).collect::<Vec<_>>();
    assert_eq!((runs(&at_once), runs(&later)), (vec![batch[0].run], vec![batch[1].run]));
}

#[tokio::test]
async fn an_application_that_locks_a_key_stops_no_cursor_and_is_named() {
    let cluster = PostgresCluster::new("guarded").await;
    let leader = cluster.open().await.leading().await;
    let due = leader.due("job").await;
    let run = manual("job");
    token(&leader.claim(&run).await);
    let other = cluster.open().await;
    let guard = cluster
        .transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'job' FOR KEY SHARE")
        .await;

    let busy = other.claim(&manual("job")).await;
    let advanced = leader.locker.advance(&[advance_of(&due)]).await.expect("an answer");

    assert_eq!(busy, Verdict::Locked { holder: Some(run.run) });
    assert_eq!(advanced, [Advanced::Done]);
    drop(guard);
}

#[tokio::test]
async fn a_claim_of_two_rows_takes_nothing_if_one_is_locked() {
    let cluster = PostgresCluster::new("two-rows").await;
    let leader = cluster.open().await.leading().await;
    let key = LockKey::new("shared").expect("a key");
    let claim = ClaimRequest { key: key.clone(), ..leader.due("job").await };
    token(&leader.claim(&manual("shared")).await);
    leader.locker.close().await;
    leader.locker.open().await.expect("a session opens");
    let leader = leader.leading().await;
    let tick = claim.tick.map(|tick| TickClaim { authority: Authority::Term(leader.term), ..tick });
    let claim = ClaimRequest { tick, ..claim };

    for row in ["job", "shared"] {
        let lock = format!("SELECT FROM callsheet.names WHERE scope = $1 AND name = '{row}' FOR UPDATE");
        let holder = cluster.transaction(&lock).await;
        assert_eq!(leader.claim(&claim).await, Verdict::Locked { holder: None }, "{row} is locked");
        holder.batch_execute("ROLLBACK").await.expect("an answer");
    }

    // From a dead session: both rows changed, and the cursor only now.
    let Verdict::Granted { lost: Some(_), .. } = leader.claim(&claim).await else { panic!("not granted") };
    let again = leader.claim(&ClaimRequest { run: manual("x").run, ..claim.clone() }).await;
    assert!(matches!(again, Verdict::AlreadyRun { run, .. } if run == claim.run), "{again:?}");
}
