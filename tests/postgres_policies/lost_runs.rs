//! Lost runs that several nodes close, or take up, at once.

use super::*;

fn resume_lost(run: &ClaimRequest, key: &str) -> ClaimRequest {
    ClaimRequest { resume_lost: true, key: LockKey::new(key).expect("a key"), ..run.clone() }
}

#[tokio::test]
async fn of_two_nodes_that_take_up_a_lost_run_at_once_one_gets_it() {
    const LOSSES: usize = 10;
    let nodes = Nodes::of("resume-race").await;
    let (one, two) = (nodes.open().await, nodes.open().await);
    // With keys of their own, nothing but the row of the job decides.
    for keys in [["job", "job"], ["one", "two"]] {
        for _ in 0..LOSSES {
            let run = nodes.dead_run("job", "job").await;
            let lost = one.locker.close_lost(10).await.expect("an answer").lost;
            assert!(matches!(lost[..], [LostRun { retry: Some(_), .. }]), "{lost:?}");
            let [first, second] = keys.map(|key| resume_lost(&run, key));

            let (first_verdict, second_verdict) = tokio::join!(one.decided(&first), two.decided(&second));

            let granted = |verdict: &Verdict| matches!(verdict, Verdict::Granted { .. });
            assert!(
                granted(&first_verdict) != granted(&second_verdict),
                "{first_verdict:?}, {second_verdict:?}"
            );
            match (first_verdict, second_verdict) {
                (Verdict::Granted { token, .. }, _) => one.ends(&first, token).await,
                (_, Verdict::Granted { token, .. }) => two.ends(&second, token).await,
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn an_end_waits_for_the_row_of_its_job_and_keeps_its_key_until_then() {
    let nodes = Nodes::of("end-locked").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let run = manual("job", "key");
    let Verdict::Granted { token, .. } = node.claim(&run).await else { panic!("not granted") };
    let failed = end(&run, token, Outcome::Failed);
    let holder = nodes.locked("job").await;

    let ended = node.locker.complete(std::slice::from_ref(&failed)).await.expect("an answer");
    let busy = node.claim(&manual("another", "key")).await;

    assert_eq!((ended, busy), (vec![Completed::Locked], Verdict::Busy { holder: Some(run.run), own: true }));
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let ended = node.locker.complete(&[failed]).await.expect("an answer");
    assert_eq!(ended, [Completed::RECORDED]);
    let failures = "SELECT failures FROM callsheet.names WHERE scope = $1 AND name = 'job'";
    let failures: i32 = nodes.admin.query_one(failures, &[&nodes.scope]).await.expect("an answer").get(0);
    assert_eq!(failures, 1);
}

#[tokio::test]
async fn a_run_that_moves_a_cursor_is_not_closed_while_its_job_is_locked() {
    let nodes = Nodes::of("loss-locked").await;
    let node = nodes.open().await;
    let mut moving = retried("job");
    moving.from_completion = true;
    let run = nodes.dead_run_of(moving, "key").await;
    let holder = nodes.locked("job").await;

    let robbed = node.claim(&manual("another", "key")).await;
    let closed = node.locker.close_lost(10).await.expect("an answer").lost;

    assert_eq!((robbed, closed), (Verdict::Locked { holder: None }, vec![]));
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let thief = manual("another", "key");
    let verdict = node.claim(&thief).await;
    let Verdict::Granted { token, lost: Some(lost) } = verdict else { panic!("{verdict:?}") };
    assert_eq!(lost.retry.map(|retry| retry.run), Some(run.run));
    node.ends(&thief, token).await;

    for row in ["job", "key"] {
        let holder = nodes.locked(row).await;
        let locked = node.claim(&resume_lost(&run, "key")).await;
        assert_eq!(locked, Verdict::Locked { holder: None }, "{row} is locked");
        holder.batch_execute("ROLLBACK").await.expect("an answer");
    }
    let verdict = node.claim(&resume_lost(&run, "key")).await;
    let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
    node.ends(&run, token).await;
}

#[tokio::test]
async fn two_runs_of_a_job_lost_to_one_batch_are_both_closed() {
    let nodes = Nodes::of("lost-to-a-batch").await;
    let node = nodes.open().await;
    // Without and with a claim that needs the row of that job itself.
    for claims in [2, 3] {
        let runs = [nodes.dead_run("job", "one").await, nodes.dead_run("job", "two").await];
        let thieves = [manual("thief", "one"), manual("another", "two"), manual("job", "job")];

        let mut lost = Vec::new();
        let first = node.locker.claim(&thieves[..claims]).await.expect("an answer");
        for (thief, verdict) in thieves.iter().zip(first) {
            // One row is changed once by a statement: the others are asked again.
            let verdict = match verdict {
                Verdict::Locked { .. } => node.decided(thief).await,
                verdict => verdict,
            };
            let Verdict::Granted { token, lost: robbed } = verdict else { panic!("{verdict:?}") };
            if let Some(robbed) = robbed {
                assert_eq!(robbed.retry.map(|retry| retry.run), Some(robbed.run), "written with the loss");
                lost.push(robbed.run);
            }
            node.ends(thief, token).await;
        }

        lost.sort();
        let mut expected = runs.map(|run| run.run);
        expected.sort();
        assert_eq!(lost, expected);
    }
}

#[tokio::test]
async fn a_pending_retry_that_is_locked_is_as_good_as_resumed() {
    let nodes = Nodes::of("retry-locked").await;
    let node = nodes.open().await;
    let run = nodes.dead_run("job", "job").await;
    node.locker.close_lost(10).await.expect("an answer");
    let holder = nodes.transaction("SELECT FROM callsheet.debts WHERE scope = $1 FOR UPDATE").await;

    for key in ["job", "key"] {
        assert_eq!(node.claim(&resume_lost(&run, key)).await, Verdict::NotGranted);
    }

    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let Verdict::Granted { token, .. } = node.claim(&resume_lost(&run, "job")).await else {
        panic!("not granted")
    };
    node.ends(&run, token).await;
    let left = "SELECT count(*) FROM callsheet.debts WHERE scope = $1";
    let left: i64 = nodes.admin.query_one(left, &[&nodes.scope]).await.expect("an answer").get(0);
    assert_eq!(left, 0, "it is resumed");
}

/// The many are written by hand: to lose so many runs would take long.
#[tokio::test]
async fn of_too_many_pending_retries_the_oldest_are_dropped() {
    let nodes = Nodes::of("many-retries").await;
    let node = nodes.open().await;
    for (prefix, retry, left) in
        [("00000000", true, PENDING_RETRIES_MAX - 1), ("ffffffff", false, PENDING_RETRIES_MAX)]
    {
        let run = nodes.dead_run("job", "job").await;
        let clear = "DELETE FROM callsheet.debts WHERE scope = $1";
        nodes.admin.execute(clear, &[&nodes.scope]).await.expect("an answer");
        let many = "INSERT INTO callsheet.debts (scope, run, job, losses, token)
                    SELECT $1, ($2 || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'job', 1, 1
                    FROM generate_series(1, $3::int8) AS n";
        let pending_retries = i64::try_from(PENDING_RETRIES_MAX).expect("few");
        nodes.admin.execute(many, &[&nodes.scope, &prefix, &pending_retries]).await.expect("an answer");

        let closed = node.locker.close_lost(10).await.expect("an answer").lost;

        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].retry.is_some(), retry, "{prefix}");
        let kept = node.locker.pending_retries(None, 2 * PENDING_RETRIES_MAX).await.expect("an answer");
        assert_eq!(kept.len(), PENDING_RETRIES_MAX);
        assert_eq!(kept.iter().filter(|pending| pending.retry.run != run.run).count(), left);
        let oldest = kept[0].retry.run.to_string();
        assert_eq!(oldest.ends_with("000000000002"), retry, "the oldest is dropped: {oldest}");
    }
}
