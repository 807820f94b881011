//! What several nodes on a real PostgreSQL server do at once to jobs with policies.

#[path = "common/postgres.rs"]
mod harness;

use std::{sync::Arc, time::Duration};

use callsheet::{
    CALL_DEADLINE, DEBTS_MAX, FencingToken, FireTime, JobName, LockKey, NodeId, Outcome, Overlap, RunId,
    Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, Enrolled, Enrolment, LockError,
        Locker, LostRun, News, Pause, ScheduleIdentity, Session, Skips, TickClaim, Verdict,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);
const FOR_GOOD: Pause = Pause { until: None, note: None };
/// How often nodes race for something.
const RACES: usize = 100;

/// The nodes of one scope, and somebody who looks at its tables.
struct Nodes {
    scope: String,
    admin: Client,
}

impl Nodes {
    async fn of(test: &str) -> Self {
        Self { scope: scope(test), admin: admin().await }
    }

    async fn open(&self) -> Node {
        Node::open(Postgres::new(&self.scope, server().url())).await
    }

    async fn execute(&self, statement: &str) {
        self.admin.execute(statement, &[&self.scope]).await.expect("an answer");
    }

    /// A transaction of somebody else that has done this.
    async fn transaction(&self, statement: &str) -> Client {
        let client = admin().await;
        // Whoever waits for its end must not wait for the disk as well.
        client.batch_execute("BEGIN; SET LOCAL synchronous_commit = off").await.expect("an answer");
        client.execute(statement, &[&self.scope]).await.expect("an answer");
        client
    }

    /// A renewal of the term, under way: by what is committed the term is over.
    async fn renewal_of_a_term_that_is_over(&self) -> Client {
        let ends =
            "UPDATE callsheet.leader SET expires_at = clock_timestamp() + interval '50 ms' WHERE scope = $1";
        self.execute(ends).await;
        let renews =
            "UPDATE callsheet.leader SET expires_at = clock_timestamp() + interval '1 min' WHERE scope = $1";
        let renewal = self.transaction(renews).await;
        sleep(Duration::from_millis(60)).await;
        renewal
    }

    /// Until a statement of a node waits for a lock. Answers when that statement began.
    async fn somebody_waits(&self) -> DateTime<Utc> {
        let waiting = "SELECT query_start FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND application_name LIKE $1";
        let nodes = format!("callsheet % session {}", self.scope);
        loop {
            if let [waits, ..] = &self.admin.query(waiting, &[&nodes]).await.expect("an answer")[..] {
                return waits.get(0);
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Node {
    backend: Postgres,
    locker: Arc<dyn Locker>,
    session: Session,
}

impl Node {
    async fn open(backend: Postgres) -> Self {
        let locker = backend.locker();
        let session = locker.open().await.expect("a session opens");
        Self { backend, locker, session }
    }

    async fn leads(&self) -> Term {
        let campaign = self.backend.elector().campaign().await.expect("an answer");
        let Campaign::Won(grant) = campaign else { panic!("nobody else leads: {campaign:?}") };
        grant.term
    }

    async fn enrol(&self, enrolment: Enrolment) -> DateTime<Utc> {
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { cursor, .. }] = enrolled[..] else { panic!("{enrolled:?}") };
        cursor
    }

    async fn claim(&self, request: &ClaimRequest) -> Verdict {
        let mut verdicts = self.locker.claim(std::slice::from_ref(request)).await.expect("an answer");
        verdicts.pop().expect("one verdict per request")
    }

    /// As its engine does it: what is locked is asked again.
    async fn decided(&self, request: &ClaimRequest) -> Verdict {
        loop {
            match self.claim(request).await {
                Verdict::Locked { .. } => {}
                verdict => return verdict,
            }
        }
    }

    /// As its engine does it: what is locked is asked again.
    async fn complete(&self, end: Completion) -> Completed {
        loop {
            let answers = self.locker.complete(std::slice::from_ref(&end)).await.expect("an answer");
            match &answers[..] {
                [Completed::Locked] => {}
                [answer] => return answer.clone(),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn ends(&self, request: &ClaimRequest, token: FencingToken) {
        assert_eq!(self.complete(end(request, token, Outcome::Succeeded)).await, Completed::RECORDED);
    }
}

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn name(name: &str) -> JobName {
    JobName::new(name).expect("a name")
}

fn manual(job: &str, key: &str) -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    ClaimRequest::new(name(job), LockKey::new(key).expect("a key"), run)
}

/// A claim of the first millisecond after a cursor.
fn tick(authority: Authority, expected: DateTime<Utc>, job: &str, key: &str) -> ClaimRequest {
    let fire_time = FireTime::new(expected + TimeDelta::milliseconds(1));
    let tick = TickClaim { fire_time, expected, skips: Skips::default(), authority };
    ClaimRequest { tick: Some(tick), ..manual(job, key) }
}

fn end(request: &ClaimRequest, token: FencingToken, outcome: Outcome) -> Completion {
    let ClaimRequest { job, key, run, .. } = request.clone();
    Completion::new(job, key, run, token, outcome)
}

fn enrolment(job: &str, authority: Authority) -> Enrolment {
    Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), authority)
}

fn with_key(job: &str, authority: Authority, key: &str, overlap: Overlap) -> Enrolment {
    let mut enrolment = enrolment(job, authority);
    enrolment.key = LockKey::new(key).expect("a key");
    enrolment.overlap = overlap;
    enrolment
}

/// Until what fires one millisecond after a cursor of this instant is due.
async fn due() {
    sleep(Duration::from_millis(5)).await;
}

/// The key is the name of neither job, of one, or of the other.
#[tokio::test]
async fn of_two_nodes_that_enrol_one_key_with_two_policies_at_once_one_is_refused_until_the_other_is_gone() {
    let nodes = Nodes::of("one-policy").await;
    let (one, two) = (nodes.open().await, nodes.open().await);
    // As their engines do it: what is locked, or has to wait too long for a name that the other one makes, is asked again.
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
async fn who_contradicts_a_leader_that_is_about_to_renew_a_term_that_is_almost_over_waits_for_it() {
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

/// Followers that hold the job may fire it only when the leader's mark is off.
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
    let owed = node.locker.debts(None, 10).await.expect("an answer");
    assert_eq!(owed.iter().map(|debt| debt.owed.run).collect::<Vec<_>>(), [run.run]);
    node.enrol(forgives[0].clone()).await;
    assert_eq!(node.locker.debts(None, 10).await.expect("an answer"), []);
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

/// However long the lease is: the engine does not wait longer for an answer, and its session is lost with a call that it gives up.
#[tokio::test]
async fn a_retraction_of_a_key_that_stays_locked_is_answered_before_the_engine_gives_up() {
    let nodes = Nodes::of("retract-locked").await;
    let node = Node::open(Postgres::new(&nodes.scope, server().url()).lease(Duration::from_secs(60))).await;
    let key = LockKey::new("key").expect("a key");
    node.enrol(with_key("job", Authority::Any, key.as_str(), Overlap::default())).await;
    let _somebody = nodes.locked("key").await;

    let retracted = timeout(CALL_DEADLINE, node.locker.retract(&[key])).await.expect("in time");

    assert!(matches!(retracted, Err(LockError::Timeout)), "{retracted:?}");
}

#[tokio::test]
async fn a_claim_that_began_before_the_leaders_enrolment_sees_its_mark() {
    let nodes = Nodes::of("unled-mark").await;
    let (leader, other) = (nodes.open().await, nodes.open().await);
    leader.leads().await;
    let cursor = other.enrol(enrolment("job", Authority::Unled)).await;
    due().await;
    // As a renewal of the term does: the claim has begun, and waits.
    let leading = nodes.transaction("UPDATE callsheet.leader SET node = node WHERE scope = $1").await;

    let claim = tick(Authority::Unled, cursor, "job", "job");
    let mark = async {
        nodes.somebody_waits().await;
        let mark = "UPDATE callsheet.names n SET term = l.epoch FROM callsheet.leader l
                    WHERE n.scope = $1 AND l.scope = $1 AND n.name = 'job'";
        leading.execute(mark, &[&nodes.scope]).await.expect("an answer");
        leading.batch_execute("COMMIT").await.expect("an answer");
    };
    let raced = async { tokio::join!(other.claim(&claim), mark) };
    let (verdict, ()) = timeout(DEADLINE, raced).await.expect("the claim waits for the leader row");

    assert_eq!(verdict, Verdict::Led);
}

#[tokio::test]
async fn a_claim_that_meets_the_renewal_of_a_term_that_is_almost_over_waits_for_it() {
    let nodes = Nodes::of("unled-renewal").await;
    let (leader, other) = (nodes.open().await, nodes.open().await);
    let term = leader.leads().await;
    let cursor = leader.enrol(enrolment("job", Authority::Term(term))).await;
    let renewal = nodes.renewal_of_a_term_that_is_over().await;

    let claim = tick(Authority::Unled, cursor, "job", "job");
    let commit = async {
        nodes.somebody_waits().await;
        renewal.batch_execute("COMMIT").await.expect("an answer");
    };
    let raced = async { tokio::join!(other.claim(&claim), commit) };
    let (verdict, ()) = timeout(DEADLINE, raced).await.expect("the claim waits for the leader row");

    assert_eq!(verdict, Verdict::Led);
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

#[tokio::test]
async fn a_claim_that_began_before_a_pause_sees_it() {
    let nodes = Nodes::of("pause-race").await;
    let leader = nodes.open().await;
    let term = leader.leads().await;
    for key in ["job", "key"] {
        let cursor = leader.enrol(enrolment("job", Authority::Term(term))).await;
        due().await;
        let claim = tick(Authority::Term(term), cursor, "job", key);
        // The claim has begun, and waits. It does not wait for long, so the pause is one that waits for no disk.
        let leading = nodes.transaction("UPDATE callsheet.leader SET node = node WHERE scope = $1").await;

        let pause = async {
            nodes.somebody_waits().await;
            let pause = "UPDATE callsheet.names SET paused = true WHERE scope = $1 AND name = 'job'";
            leading.execute(pause, &[&nodes.scope]).await.expect("an answer");
            leading.batch_execute("COMMIT").await.expect("an answer");
        };
        let raced = async { tokio::join!(leader.claim(&claim), pause) };
        let (verdict, ()) = timeout(DEADLINE, raced).await.expect("the claim waits for the leader row");

        assert_eq!(verdict, Verdict::Paused(FOR_GOOD), "{key}");
        assert_eq!(leader.locker.pause(&[name("job")], None).await.expect("an answer"), [true]);
        let verdict = leader.claim(&claim).await;
        let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
        leader.ends(&claim, token).await;
    }
}

#[tokio::test]
async fn a_pause_waits_for_who_has_locked_the_job_and_no_longer_than_its_deadline() {
    let nodes = Nodes::of("pause-locked").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let jobs = [name("other"), name("job")];
    for (locks, pause, paused) in [
        (
            "UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'job'",
            Some(&FOR_GOOD),
            true,
        ),
        ("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'job' FOR UPDATE", None, false),
    ] {
        let holder = nodes.transaction(locks).await;
        let mut answer = node.locker.pause(&jobs, pause);

        // The other one is changed, so this one was tried.
        let other = "SELECT FROM callsheet.names WHERE scope = $1 AND name = 'other' AND paused = $2";
        let changed = async {
            while nodes.admin.query_opt(other, &[&nodes.scope, &paused]).await.expect("an answer").is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            answer = &mut answer => panic!("the job is locked: {answer:?}"),
            () = changed => {}
        }
        holder.batch_execute("COMMIT").await.expect("an answer");

        assert_eq!(answer.await.expect("an answer"), [true, true]);
    }
    let short = Postgres::new(&nodes.scope, server().url()).lease(Duration::from_secs(1));
    let locker = short.locker();
    locker.open().await.expect("a session opens");
    let _holder =
        nodes.transaction("SELECT FROM callsheet.names WHERE scope = $1 AND name = 'job' FOR UPDATE").await;
    let answer = timeout(DEADLINE, locker.pause(&jobs, None)).await.expect("it has a deadline");
    assert!(matches!(answer, Err(LockError::Timeout)), "{answer:?}");
    let alive = locker.close_lost(1).await;
    assert!(alive.is_ok(), "the session goes on: {alive:?}");
}

#[tokio::test]
async fn a_pause_that_has_waited_in_vain_waits_again() {
    let nodes = Nodes::of("pause-changing").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let holder = nodes
        .transaction("UPDATE callsheet.names SET cursor = cursor WHERE scope = $1 AND name = 'job'")
        .await;
    let jobs = [name("job")];
    let mut pause = node.locker.pause(&jobs, Some(&FOR_GOOD));

    let waits_again = async {
        let first = nodes.somebody_waits().await;
        while nodes.somebody_waits().await == first {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        answer = &mut pause => panic!("somebody changes the job: {answer:?}"),
        () = waits_again => {}
    }
    holder.batch_execute("COMMIT").await.expect("an answer");

    assert_eq!(pause.await.expect("an answer"), [true]);
}

/// On a slow disk, by nodes that do nothing else: the row of the job is locked nearly all the time.
#[tokio::test]
async fn a_job_that_never_rests_can_be_paused_and_resumed() {
    const BUSY: usize = 6;
    const CHANGES: usize = 3;
    let nodes = Nodes::of("pause-busy").await;
    let node = nodes.open().await;
    node.enrol(enrolment("job", Authority::Any)).await;
    let slow_disk =
        format!("{}?options=-c%20commit_delay%3D50000%20-c%20commit_siblings%3D0", server().url());
    let mut busy = JoinSet::new();
    for _ in 0..BUSY {
        let other = Node::open(Postgres::new(&nodes.scope, &slow_disk)).await;
        busy.spawn(async move {
            loop {
                let run = manual("job", "job");
                if let Verdict::Granted { token, .. } = other.claim(&run).await {
                    other.ends(&run, token).await;
                }
            }
        });
    }

    for _ in 0..CHANGES {
        for pause in [Some(&FOR_GOOD), None] {
            let changed = node.locker.pause(&[name("job")], pause).await;

            assert_eq!(changed.expect("it gets its turn"), [true]);
        }
    }
    assert!(busy.try_join_next().is_none(), "they were busy all the time");
}

/// Sends notifications to the nodes of a scope, as anybody may who knows the channel.
async fn notify(nodes: &Nodes, payloads: &str) {
    let notify = format!(
        "SELECT pg_notify((SELECT channel FROM callsheet.scopes WHERE scope = $1), payload) FROM ({payloads}) AS p (payload)"
    );
    nodes.admin.query(&notify, &[&nodes.scope]).await.expect("an answer");
}

#[tokio::test]
async fn what_anybody_else_notifies_the_nodes_of_does_them_no_harm() {
    let nodes = Nodes::of("malformed").await;
    let (node, stranger) = (nodes.open().await, Nodes::of("malformed-stranger").await.open().await);
    let [session, of_stranger] = [node.session, stranger.session];
    let garbage = r#"VALUES ('garbage'), (''), ('{"stop": {}}'), ('{"pause": {"job": "", "pause": null}}')"#;

    node.locker.pause(&[name("held")], Some(&FOR_GOOD)).await.expect("an answer");
    notify(&nodes, garbage).await;
    notify(&nodes, r#"VALUES ('{"pause": {"job": "held", "pause": null}}')"#).await;
    notify(&nodes, r#"VALUES ('{"pause": {"job": "unknown", "pause": null}}')"#).await;
    node.locker.pause(&[name("job")], Some(&FOR_GOOD)).await.expect("an answer");

    let heard = async {
        [node.locker.news(session).await, node.locker.news(session).await, node.locker.news(session).await]
    };
    let heard = timeout(DEADLINE, heard).await.expect("it hears what can be read");
    let held = News::Pause { job: name("held"), pause: Some(FOR_GOOD) };
    let paused = News::Pause { job: name("job"), pause: Some(FOR_GOOD) };
    assert_eq!(heard, [held.clone(), held, paused], "as the store says");
    stranger.locker.pause(&[name("strange")], Some(&FOR_GOOD)).await.expect("an answer");
    let heard = timeout(DEADLINE, stranger.locker.news(of_stranger)).await.expect("its own");
    let own = News::Pause { job: name("strange"), pause: Some(FOR_GOOD) };
    assert_eq!(heard, own, "another scope hears nothing of it");
}

#[tokio::test]
async fn of_too_much_news_the_oldest_is_dropped() {
    const SENT: usize = 3_000;
    let nodes = Nodes::of("flood").await;
    let node = nodes.open().await;
    let jobs =
        "INSERT INTO callsheet.names (scope, name) SELECT $1, n::text FROM generate_series(1, 3000) AS n";
    nodes.admin.execute(jobs, &[&nodes.scope]).await.expect("an answer");

    let flood =
        r#"SELECT '{"pause": {"job": "' || n || '", "pause": null}}' FROM generate_series(1, 3000) AS n"#;
    notify(&nodes, flood).await;
    // Whatever was sent before is here once this is.
    node.locker.pause(&[name("job")], Some(&FOR_GOOD)).await.expect("an answer");
    node.locker.pause(&[name("last")], None).await.expect("an answer");

    let mut heard = Vec::new();
    let last = News::Pause { job: name("job"), pause: Some(FOR_GOOD) };
    while heard.last() != Some(&last) {
        heard.push(timeout(DEADLINE, node.locker.news(node.session)).await.expect("the newest are kept"));
    }

    assert!(heard.len() < SENT, "{} were kept", heard.len());
    assert!(heard.contains(&News::Missed), "it is told that there was more");
    let newest = News::Pause { job: name("3000"), pause: None };
    assert_eq!(heard[heard.len() - 2], newest);
}

impl Nodes {
    /// A run by hand of a job that retries what is lost, on a node whose session has ended.
    async fn dead_run(&self, job: &str, key: &str) -> ClaimRequest {
        self.dead_run_of(retried(job), key).await
    }

    async fn dead_run_of(&self, enrolment: Enrolment, key: &str) -> ClaimRequest {
        let node = self.open().await;
        let run = manual(enrolment.job.as_str(), key);
        node.enrol(enrolment).await;
        let verdict = node.decided(&run).await;
        assert!(matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");
        node.locker.close().await;
        run
    }

    /// A transaction of somebody else that has locked the row of a name.
    async fn locked(&self, name: &str) -> Client {
        self.transaction(&format!(
            "SELECT FROM callsheet.names WHERE scope = $1 AND name = '{name}' FOR UPDATE"
        ))
        .await
    }
}

fn retried(job: &str) -> Enrolment {
    let mut enrolment = enrolment(job, Authority::Any);
    enrolment.retry_lost = true;
    enrolment
}

fn retake(run: &ClaimRequest, key: &str) -> ClaimRequest {
    ClaimRequest { retake: true, key: LockKey::new(key).expect("a key"), ..run.clone() }
}

#[tokio::test]
async fn of_two_nodes_that_take_up_a_lost_run_at_once_one_gets_it() {
    const LOSSES: usize = 10;
    let nodes = Nodes::of("retake-race").await;
    let (one, two) = (nodes.open().await, nodes.open().await);
    // With keys of their own, nothing but the row of the job decides.
    for keys in [["job", "job"], ["one", "two"]] {
        for _ in 0..LOSSES {
            let run = nodes.dead_run("job", "job").await;
            let lost = one.locker.close_lost(10).await.expect("an answer").lost;
            assert!(matches!(lost[..], [LostRun { owed: Some(_), .. }]), "{lost:?}");
            let [first, second] = keys.map(|key| retake(&run, key));

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

    assert_eq!((ended, busy), (vec![Completed::Locked], Verdict::Busy { holder: Some(run.run) }));
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let ended = node.locker.complete(&[failed]).await.expect("an answer");
    assert_eq!(ended, [Completed::RECORDED]);
    let failures = "SELECT failures FROM callsheet.names WHERE scope = $1 AND name = 'job'";
    let failures: i32 = nodes.admin.query_one(failures, &[&nodes.scope]).await.expect("an answer").get(0);
    assert_eq!(failures, 1);
}

#[tokio::test]
async fn a_run_whose_end_moves_a_cursor_is_not_closed_as_lost_while_the_row_of_its_job_is_locked() {
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
    assert_eq!(lost.owed.map(|owed| owed.run), Some(run.run));
    node.ends(&thief, token).await;

    for row in ["job", "key"] {
        let holder = nodes.locked(row).await;
        let locked = node.claim(&retake(&run, "key")).await;
        assert_eq!(locked, Verdict::Locked { holder: None }, "{row} is locked");
        holder.batch_execute("ROLLBACK").await.expect("an answer");
    }
    let verdict = node.claim(&retake(&run, "key")).await;
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
                assert_eq!(robbed.owed.map(|owed| owed.run), Some(robbed.run), "written with the loss");
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
async fn who_wants_a_key_reaches_its_holder_on_another_node_and_nobody_else() {
    let nodes = Nodes::of("replace").await;
    let (holder, other) = (nodes.open().await, nodes.open().await);
    let held = manual("job", "key");
    let Verdict::Granted { token, .. } = holder.claim(&held).await else { panic!("not granted") };

    let busy = other.claim(&ClaimRequest { replace: true, ..manual("job", "key") }).await;
    other.locker.pause(&[name("after")], Some(&FOR_GOOD)).await.expect("an answer");

    assert_eq!(busy, Verdict::Busy { holder: Some(held.run) });
    let after = News::Pause { job: name("after"), pause: Some(FOR_GOOD) };
    let told = timeout(DEADLINE, holder.locker.news(holder.session)).await.expect("it is told");
    assert_eq!(told, News::Stop { run: held.run });
    let told = timeout(DEADLINE, other.locker.news(other.session)).await.expect("it is told");
    assert_eq!(told, after, "the other one has nothing to stop");
    holder.ends(&held, token).await;
}

#[tokio::test]
async fn a_debt_that_somebody_else_has_locked_is_as_good_as_settled() {
    let nodes = Nodes::of("debt-locked").await;
    let node = nodes.open().await;
    let run = nodes.dead_run("job", "job").await;
    node.locker.close_lost(10).await.expect("an answer");
    let holder = nodes.transaction("SELECT FROM callsheet.debts WHERE scope = $1 FOR UPDATE").await;

    for key in ["job", "key"] {
        assert_eq!(node.claim(&retake(&run, key)).await, Verdict::NotGranted);
    }

    holder.batch_execute("ROLLBACK").await.expect("an answer");
    let Verdict::Granted { token, .. } = node.claim(&retake(&run, "job")).await else {
        panic!("not granted")
    };
    node.ends(&run, token).await;
    let left = "SELECT count(*) FROM callsheet.debts WHERE scope = $1";
    let left: i64 = nodes.admin.query_one(left, &[&nodes.scope]).await.expect("an answer").get(0);
    assert_eq!(left, 0, "it is settled");
}

/// The many are written by hand: to lose so many runs would take long.
#[tokio::test]
async fn of_too_many_debts_those_of_the_oldest_runs_are_dropped() {
    let nodes = Nodes::of("deep-in-debt").await;
    let node = nodes.open().await;
    for (prefix, owed, left) in [("00000000", true, DEBTS_MAX - 1), ("ffffffff", false, DEBTS_MAX)] {
        let run = nodes.dead_run("job", "job").await;
        let clear = "DELETE FROM callsheet.debts WHERE scope = $1";
        nodes.admin.execute(clear, &[&nodes.scope]).await.expect("an answer");
        let many = "INSERT INTO callsheet.debts (scope, run, job, losses, token)
                    SELECT $1, ($2 || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'job', 1, 1
                    FROM generate_series(1, $3::int8) AS n";
        let debts = i64::try_from(DEBTS_MAX).expect("few");
        nodes.admin.execute(many, &[&nodes.scope, &prefix, &debts]).await.expect("an answer");

        let closed = node.locker.close_lost(10).await.expect("an answer").lost;

        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].owed.is_some(), owed, "{prefix}");
        let kept = node.locker.debts(None, 2 * DEBTS_MAX).await.expect("an answer");
        assert_eq!(kept.len(), DEBTS_MAX);
        assert_eq!(kept.iter().filter(|debt| debt.owed.run != run.run).count(), left);
        let oldest = kept[0].owed.run.to_string();
        assert_eq!(oldest.ends_with("000000000002"), owed, "the oldest is dropped: {oldest}");
    }
}

/// One statement each, one after the other: a batch of very many would miss the deadline, and the node lose its session.
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
