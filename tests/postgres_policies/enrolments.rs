//! Enrolments of several nodes at once, and the policies of their keys.

use super::*;

fn with_key(job: &str, authority: Authority, key: &str, overlap: Overlap) -> Enrolment {
    let mut enrolment = enrolment(job, authority);
    enrolment.key = LockKey::new(key).expect("a key");
    enrolment.overlap = overlap;
    enrolment
}

/// The key is the name of neither job, of one, or of the other.
#[tokio::test]
async fn of_two_policies_that_are_declared_at_once_for_one_key_one_is_refused() {
    let nodes = Nodes::of("one-policy").await;
    let (one, two) = (nodes.open().await, nodes.open().await);
    // As their engines do it: what is locked, or has to wait too long for a name that the other one makes, is
    // asked again.
    let decided = async |node: &Node, enrolment: Enrolment| loop {
        match node.locker.enrol(std::slice::from_ref(&enrolment)).await.as_deref() {
            Ok([Enrolled::Locked]) | Err(LockError::NotDone { .. }) => {}
            Ok([Enrolled::Done { .. }]) => return true,
            Ok([Enrolled::Conflict { .. }]) => return false,
            other => panic!("{other:?}"),
        }
    };
    let (mut first, mut second) = (0, 0);
    let race = async |nth: usize| {
        let jobs = [format!("left-{nth}"), format!("right-{nth}")];
        let key = [&jobs[0], &jobs[1], &format!("key-{nth}")][nth % 3].clone();
        let [left, right] = [(&jobs[0], Overlap::Skip), (&jobs[1], Overlap::Allow(2))]
            .map(|(job, overlap)| with_key(job, Authority::Any, &key, overlap));
        let won = tokio::join!(decided(&one, left.clone()), decided(&two, right.clone()));
        (won, right)
    };
    let mut contradicted = Vec::new();
    for nth in 0..RACES {
        match timeout(DEADLINE, race(nth)).await.expect("an answer") {
            ((true, false), right) => {
                first += 1;
                contradicted.push(right);
            }
            ((false, true), _) => second += 1,
            (both, _) => panic!("one of two is enrolled, not {both:?}"),
        }
    }
    println!("{first} won by one, {second} by the other");

    one.locker.close().await;
    for right in contradicted {
        assert!(decided(&two, right).await, "its declarer is gone");
    }
}

/// The key is the name of no job, or of the one that contradicts.
#[tokio::test]
async fn a_contradiction_waits_for_the_renewal_of_a_term_that_is_almost_over() {
    for key in ["a-key", "contradicts"] {
        let nodes = Nodes::of(&format!("policy-renewal-{key}")).await;
        let (leader, other) = (nodes.open().await, nodes.open().await);
        let term = leader.leads().await;
        let with_key = |job: &str, authority, overlap| with_key(job, authority, key, overlap);
        leader.enrol(with_key("led", Authority::Term(term), Overlap::Skip)).await;
        let renewal = nodes.renewal_of_a_term_that_is_over().await;

        let contradicts = [with_key("contradicts", Authority::Any, Overlap::Allow(2))];
        let commit = async {
            nodes.somebody_waits().await;
            renewal.batch_execute("COMMIT").await.expect("an answer");
        };
        let raced = async { tokio::join!(other.locker.enrol(&contradicts), commit) };
        let (enrolled, ()) = timeout(DEADLINE, raced).await.expect("it waits for the leader row");

        let enrolled = enrolled.expect("an answer");
        assert!(matches!(enrolled[..], [Enrolled::Conflict { .. }]), "{enrolled:?}");
    }
}

#[tokio::test]
async fn an_enrolment_whose_key_somebody_else_has_locked_fails_alone() {
    let locks = "SELECT FROM callsheet.names WHERE scope = $1 AND name = 'locked' FOR UPDATE";
    let changes = "UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'locked'";
    for (test, statement) in [("locked-key", locks), ("changed-key", changes)] {
        fails_alone(test, statement).await;
    }
}

async fn fails_alone(test: &str, statement: &str) {
    let nodes = Nodes::of(test).await;
    let node = nodes.open().await;
    let with_key = |job: &str, key: &str| with_key(job, Authority::Any, key, Overlap::default());
    node.enrol(with_key("former", "locked")).await;
    let somebody = nodes.transaction(statement).await;

    let both = [with_key("one", "locked"), with_key("two", "free")];
    let enrolled =
        timeout(DEADLINE, node.locker.enrol(&both)).await.expect("nobody waits").expect("an answer");

    assert!(
        matches!(enrolled[..], [Enrolled::Done { .. }, Enrolled::Done { .. }]),
        "declared before: {enrolled:?}"
    );
    let other = nodes.open().await;
    let enrolled =
        timeout(DEADLINE, other.locker.enrol(&both)).await.expect("nobody waits").expect("an answer");
    assert!(matches!(enrolled[..], [Enrolled::Locked, Enrolled::Done { .. }]), "{enrolled:?}");
    let retracted = async {
        let (retracted, ()) = tokio::join!(node.locker.retract(std::slice::from_ref(&both[0].key)), async {
            due().await;
            somebody.batch_execute("COMMIT").await.expect("an answer");
        });
        retracted.expect("it waits for somebody else");
    };
    timeout(DEADLINE, retracted).await.expect("in time");
    let mut another = both[0].clone();
    another.overlap = Overlap::Replace;
    other.enrol(another).await;
}

#[tokio::test]
async fn an_enrolment_whose_key_somebody_else_is_just_making_fails_alone() {
    let nodes = Nodes::of("key-in-the-making").await;
    let node = nodes.open().await;
    let with_key = |job: &str, key: &str| with_key(job, Authority::Any, key, Overlap::default());
    node.enrol(with_key("former", "there")).await;
    let making = "INSERT INTO callsheet.names (scope, name) VALUES ($1, 'new')";
    let _somebody = nodes.transaction(making).await;

    let all = [with_key("one", "new"), with_key("two", "there"), enrolment("three", Authority::Any)];
    let enrolled = timeout(DEADLINE, node.locker.enrol(&all)).await.expect("in time").expect("an answer");

    assert!(
        matches!(enrolled[..], [Enrolled::Locked, Enrolled::Done { .. }, Enrolled::Done { .. }]),
        "{enrolled:?}"
    );
}

/// Followers that have the job may fire it only when the leader's mark is off.
#[tokio::test]
async fn a_job_whose_key_is_contradicted_keeps_no_mark_of_the_leader() {
    let nodes = Nodes::of("contradicted-mark").await;
    let (leader, other) = (nodes.open().await, nodes.open().await);
    let term = leader.leads().await;
    let with_key = |job: &str, authority, overlap| with_key(job, authority, "key", overlap);
    leader.enrol(with_key("job", Authority::Term(term), Overlap::Skip)).await;
    other.enrol(with_key("other", Authority::Any, Overlap::Skip)).await;
    let contradicts = [with_key("job", Authority::Term(term), Overlap::Replace)];
    let somebody = nodes.locked("job").await;

    let enrolled = leader.locker.enrol(&contradicts).await.expect("an answer");
    assert_eq!(enrolled, [Enrolled::Locked], "its mark cannot be taken off yet");
    somebody.batch_execute("ROLLBACK").await.expect("an answer");
    let enrolled = leader.locker.enrol(&contradicts).await.expect("an answer");

    assert!(matches!(enrolled[..], [Enrolled::Conflict { .. }]), "{enrolled:?}");
    let marked = "SELECT term FROM callsheet.names WHERE scope = $1 AND name = 'job'";
    let marked: Option<i64> = nodes.admin.query_one(marked, &[&nodes.scope]).await.expect("an answer").get(0);
    assert_eq!(marked, None);
}

/// It waits for the leader row, as behind a renewal, and the row of the job is changed meanwhile.
#[tokio::test]
async fn an_enrolment_that_changes_nothing_forgives_nothing() {
    let nodes = Nodes::of("forgives-nothing").await;
    let node = nodes.open().await;
    node.leads().await;
    let run = nodes.dead_run("job", "job").await;
    node.locker.close_lost(10).await.expect("an answer");
    let leading = nodes.transaction("UPDATE callsheet.leader SET node = node WHERE scope = $1").await;

    let forgives = [enrolment("job", Authority::Any)];
    let change = async {
        nodes.somebody_waits().await;
        let change = "UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'job'";
        leading.execute(change, &[&nodes.scope]).await.expect("an answer");
        leading.batch_execute("COMMIT").await.expect("an answer");
    };
    let raced = async { tokio::join!(node.locker.enrol(&forgives), change) };
    let (enrolled, ()) = timeout(DEADLINE, raced).await.expect("it waits for the leader row");

    assert_eq!(enrolled.expect("an answer"), [Enrolled::Locked]);
    let retry = node.locker.pending_retries(None, 10).await.expect("an answer");
    assert_eq!(retry.iter().map(|pending| pending.retry.run).collect::<Vec<_>>(), [run.run]);
    node.enrol(forgives[0].clone()).await;
    assert_eq!(node.locker.pending_retries(None, 10).await.expect("an answer"), []);
}

/// Ticks that are due while the statement waits are owed.
#[tokio::test]
async fn a_job_owes_its_ticks_since_its_enrolment_began() {
    let nodes = Nodes::of("enrolment-waits").await;
    let node = nodes.open().await;
    node.leads().await;
    node.enrol(enrolment("changed", Authority::Any)).await;
    let leading = nodes.transaction("UPDATE callsheet.leader SET node = node WHERE scope = $1").await;

    let changed =
        Enrolment::new(name("changed"), ScheduleIdentity::of_text("another schedule"), Authority::Any);
    let asked = [enrolment("new", Authority::Any), changed];
    let commit = async {
        let began = nodes.somebody_waits().await;
        leading.batch_execute("COMMIT").await.expect("an answer");
        began
    };
    let raced = async { tokio::join!(node.locker.enrol(&asked), commit) };
    let (enrolled, began) = timeout(DEADLINE, raced).await.expect("it waits for the leader row");

    for enrolled in enrolled.expect("an answer") {
        let Enrolled::Done { cursor, .. } = enrolled else { panic!("{enrolled:?}") };
        assert!(cursor <= began, "{cursor} is after {began}");
    }
}

/// However long the lease is: the engine does not wait longer for an answer, and its session is lost with a
/// call that it gives up.
#[tokio::test]
async fn a_retraction_of_a_locked_key_is_answered_before_the_engine_gives_up() {
    let nodes = Nodes::of("retract-locked").await;
    let node = Node::open(Postgres::new(&nodes.scope, server().url()).lease(Duration::from_secs(60))).await;
    let key = LockKey::new("key").expect("a key");
    node.enrol(with_key("job", Authority::Any, key.as_str(), Overlap::default())).await;
    let _somebody = nodes.locked("key").await;

    let retracted = timeout(CALL_DEADLINE, node.locker.retract(&[key])).await.expect("in time");

    assert!(matches!(retracted, Err(LockError::Timeout)), "{retracted:?}");
}
