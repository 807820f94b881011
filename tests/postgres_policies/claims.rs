//! Claims that meet an enrolment, a renewal or each other.

use super::*;

#[tokio::test]
async fn a_claim_that_began_before_the_leaders_enrolment_sees_its_mark() {
    let nodes = Nodes::of("leaderless-mark").await;
    let (leader, other) = (nodes.open().await, nodes.open().await);
    leader.leads().await;
    let cursor = other.enrol(enrolment("job", Authority::Leaderless)).await;
    due().await;
    // As a renewal of the term does: the claim has begun, and waits.
    let leading = nodes.transaction("UPDATE callsheet.leader SET node = node WHERE scope = $1").await;

    let claim = tick(Authority::Leaderless, cursor, "job", "job");
    let mark = async {
        nodes.somebody_waits().await;
        let mark = "UPDATE callsheet.names n SET term = l.epoch FROM callsheet.leader l
                    WHERE n.scope = $1 AND l.scope = $1 AND n.name = 'job'";
        leading.execute(mark, &[&nodes.scope]).await.expect("an answer");
        leading.batch_execute("COMMIT").await.expect("an answer");
    };
    let raced = async { tokio::join!(other.claim(&claim), mark) };
    let (verdict, ()) = timeout(DEADLINE, raced).await.expect("the claim waits for the leader row");

    assert_eq!(verdict, Verdict::HasLeader);
}

#[tokio::test]
async fn a_claim_waits_for_the_renewal_of_a_term_that_is_almost_over() {
    let nodes = Nodes::of("leaderless-renewal").await;
    let (leader, other) = (nodes.open().await, nodes.open().await);
    let term = leader.leads().await;
    let cursor = leader.enrol(enrolment("job", Authority::Term(term))).await;
    let renewal = nodes.renewal_of_a_term_that_is_over().await;

    let claim = tick(Authority::Leaderless, cursor, "job", "job");
    let commit = async {
        nodes.somebody_waits().await;
        renewal.batch_execute("COMMIT").await.expect("an answer");
    };
    let raced = async { tokio::join!(other.claim(&claim), commit) };
    let (verdict, ()) = timeout(DEADLINE, raced).await.expect("the claim waits for the leader row");

    assert_eq!(verdict, Verdict::HasLeader);
}

#[tokio::test]
async fn a_claim_by_any_node_waits_for_no_leader() {
    let nodes = Nodes::of("any-leader").await;
    let node = nodes.open().await;
    node.leads().await;
    let cursor = node.enrol(enrolment("job", Authority::Any)).await;
    let leading = nodes.transaction("UPDATE callsheet.leader SET node = node WHERE scope = $1").await;

    due().await;
    let verdict = node.claim(&tick(Authority::Any, cursor, "job", "job")).await;

    assert!(matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");
    leading.batch_execute("ROLLBACK").await.expect("an answer");
}

#[tokio::test]
async fn of_two_nodes_that_claim_a_tick_at_once_one_gets_it() {
    let nodes = Nodes::of("any-race").await;
    let (one, two) = (nodes.open().await, nodes.open().await);
    // With keys of their own, nothing but the cursor decides.
    for keys in [["job", "job"], ["one", "two"]] {
        let mut cursor = one.enrol(enrolment("job", Authority::Any)).await;
        // Every tick is due, one each millisecond.
        sleep(Duration::from_millis(RACES as u64 + 5)).await;
        for _ in 0..RACES {
            let claims = keys.map(|key| tick(Authority::Any, cursor, "job", key));
            let race = async |node: &Node, claim: &ClaimRequest| {
                let verdict = node.decided(claim).await;
                if let Verdict::Granted { token, .. } = verdict {
                    node.ends(claim, token).await;
                }
                matches!(verdict, Verdict::Granted { .. })
            };
            let (first, second) = tokio::join!(race(&one, &claims[0]), race(&two, &claims[1]));

            assert!(first != second, "granted: {first} and {second}");
            cursor = claims[0].tick.expect("a tick").fire_time.instant();
        }
    }
}

/// One statement each, one after the other: a batch of very many would miss the deadline, and the node lose
/// its session.
#[tokio::test]
async fn very_many_ends_of_one_job_are_recorded_over_several_calls() {
    const RUNS: usize = 100;
    let nodes = Nodes::of("many_ends").await;
    let node = nodes.open().await;
    let mut ends = Vec::new();
    for nth in 0..RUNS {
        let request = manual("many", &format!("slot {nth}"));
        let Verdict::Granted { token, .. } = node.decided(&request).await else { panic!("{request:?}") };
        ends.push(end(&request, token, Outcome::Succeeded));
    }

    let mut calls = 0;
    while !ends.is_empty() {
        calls += 1;
        let answers = node.locker.complete(&ends).await.expect("an answer");
        assert!(answers.contains(&Completed::RECORDED), "each call gets on: {answers:?}");
        let mut answers = answers.into_iter();
        ends.retain(|_| answers.next() == Some(Completed::Locked));
    }

    assert!(calls > 1, "the first call does not ask for all of them");
}
