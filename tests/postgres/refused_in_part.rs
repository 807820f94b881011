//! What one statement did is so, and is said, though the server refuses the next one of the same batch.

use super::*;

/// A leader with tables of its own, and a key `held` that another node holds.
async fn leader_beside_another(schema: &'static str) -> (PostgresCluster, Node, Node) {
    let cluster = PostgresCluster::new(schema).await;
    let open = || Node::open(Postgres::new(&cluster.scope, &cluster.url).schema(schema).lease(DEADLINE));
    let (leader, other) = (open().await.leading().await, open().await);
    cluster.admin.batch_execute(&format!("SET search_path = {schema}")).await.expect("an answer");
    (cluster, leader, other)
}

/// Whoever asks whether a holder lives has waited for a lock in vain.
const REFUSES_TO_PROBE: &str = "
CREATE OR REPLACE FUNCTION is_over(session_scope text, session_beacon bigint) RETURNS boolean
LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a lock' USING ERRCODE = '55P03'; END $$";

#[tokio::test]
async fn grants_are_said_though_it_is_refused_to_say_why_another_was_not() {
    let (cluster, leader, other) = leader_beside_another("refused_claims").await;
    let ticks = [leader.due("first").await, leader.due("second").await, leader.due("held").await];
    token(&other.claim(&manual("held")).await);
    cluster.admin.batch_execute(REFUSES_TO_PROBE).await.expect("an answer");

    let verdicts = leader.locker.claim(&ticks).await.expect("two of them are granted");

    token(&verdicts[0]);
    token(&verdicts[1]);
    assert!(
        matches!(&verdicts[2], Verdict::Unavailable { reason } if reason.contains("55P03")),
        "{verdicts:?}"
    );
    // Alone it is an error.
    let alone = leader.locker.claim(&ticks[2..]).await.expect_err("it is refused");
    assert!(matches!(alone, LockError::NotDone { .. }), "{alone:?}");
}

#[tokio::test]
async fn grants_are_said_though_another_statement_or_a_later_one_is_refused() {
    let (cluster, leader, other) = leader_beside_another("refused_statements").await;
    let held = manual("held");
    token(&other.claim(&held).await);
    let [first, second] = [leader.due("first").await, leader.due("second").await];
    // Its job is that of the first tick, so that it is asked later.
    let later = ClaimRequest { job: first.job.clone(), ..manual("held") };
    cluster.admin.batch_execute(REFUSES_TO_PROBE).await.expect("an answer");

    let beside = leader.locker.round(&[], &[second, manual("held")], &[]).await.claimed;
    let before = leader.locker.claim(&[first, later]).await;

    for verdicts in [beside, before] {
        let verdicts = verdicts.expect("one of them is granted");
        token(&verdicts[0]);
        assert!(
            matches!(&verdicts[1], Verdict::Unavailable { reason } if reason.contains("55P03")),
            "{verdicts:?}"
        );
    }
}

#[tokio::test]
async fn ends_are_said_though_another_is_refused() {
    let (cluster, leader, _other) = leader_beside_another("refused_ends").await;
    let ticks = [leader.due("still").await, leader.due("moved").await];
    let verdicts = leader.locker.claim(&ticks).await.expect("an answer");
    let ends: Vec<_> = ticks.iter().zip(&verdicts).map(|(tick, verdict)| end_of(tick, verdict)).collect();
    // Its end is asked for once more, by its name, and refused then.
    let refuses = "
        UPDATE names SET losses = losses WHERE name = 'moved';
        CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'a lock' USING ERRCODE = '55P03'; END $$;
        CREATE TRIGGER refuses BEFORE INSERT ON runs FOR EACH ROW WHEN (NEW.job = 'moved') EXECUTE FUNCTION refuses()";
    cluster.admin.batch_execute(refuses).await.expect("an answer");

    let ended = leader.locker.complete(&ends).await.expect("one of them is recorded");

    assert_eq!(ended[0], Completed::RECORDED);
    assert!(matches!(&ended[1], Completed::Unavailable { reason } if reason.contains("55P03")), "{ended:?}");
    cluster.admin.batch_execute("DROP TRIGGER refuses ON runs").await.expect("an answer");
    assert_eq!(leader.locker.complete(&ends).await.expect("an answer"), [Completed::RECORDED; 2]);
}
