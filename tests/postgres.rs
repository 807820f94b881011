//! Coordination on a real PostgreSQL server.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, FencingToken, FireTime, JobName, LockKey, NodeId, Outcome, RunId, StartError, Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, CursorMove, Enrolled, Enrolment,
        LockError, Locker, LostRun, Moved, ScheduleIdentity, Session, Skips, TickClaim, Verdict,
    },
    testkit::conformance::{self, Cluster},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{PASSWORD, scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// The nodes of one scope.
struct PostgresCluster {
    scope: String,
    url: String,
    admin: Client,
}

impl PostgresCluster {
    async fn new(test: &str) -> Self {
        Self { scope: scope(test), url: server().url(), admin: admin().await }
    }

    fn backend(&self) -> Arc<dyn Backend> {
        // None of a suite's cases waits for the end of a lease, and none may lose its term on a busy machine.
        Arc::new(Postgres::new(&self.scope, &self.url).lease(DEADLINE))
    }

    /// A node with a session.
    async fn open(&self) -> Node {
        Node::open(Postgres::new(&self.scope, &self.url)).await
    }

    /// A transaction of somebody else that has locked `rows` of the scope.
    async fn transaction(&self, statement: &str) -> Client {
        let client = admin().await;
        // Whoever waits for its end must not wait for the disk as well.
        client.batch_execute("BEGIN; SET LOCAL synchronous_commit = off").await.expect("an answer");
        client.execute(statement, &[&self.scope]).await.expect("an answer");
        client
    }

    /// What is answered to a node that asks while another one takes the leadership over.
    async fn across_a_takeover<T>(&self, asked: impl Future<Output = T>) -> T {
        let takes = "UPDATE callsheet.leader SET epoch = epoch + 1 WHERE scope = $1";
        // Whoever waits for the leader's row keeps nobody else waiting.
        let names = format!("PERFORM FROM callsheet.names WHERE scope = '{}' FOR UPDATE NOWAIT", self.scope);
        self.while_it_waits(takes, &names, asked).await
    }

    /// What is answered to a node that makes two names while somebody else makes the same, in this order: whoever had the
    /// second one by the time it waits for the first would deadlock.
    async fn while_made<T>(&self, [first, second]: [&str; 2], asked: impl Future<Output = T>) -> T {
        let first =
            format!("INSERT INTO callsheet.names (scope, name, cursor) VALUES ($1, '{first}', now())");
        let second = format!(
            "INSERT INTO callsheet.names (scope, name, cursor) VALUES ('{}', '{second}', now())",
            self.scope
        );
        self.while_it_waits(&first, &second, asked).await
    }

    /// What is answered to a node that waits for a transaction of somebody else, who does `first` before, and `then` and the
    /// commit while it waits.
    ///
    /// # Panics
    ///
    /// If nobody waits for that transaction in time, or `then` fails.
    async fn while_it_waits<T>(&self, first: &str, then: &str, asked: impl Future<Output = T>) -> T {
        let other = self.transaction(first).await;
        // On the server alone: a node waits for 250 ms at most, and a busy machine needs them for a round trip.
        let goes_on = format!(
            "DO $$
             DECLARE until timestamptz := clock_timestamp() + interval '{} seconds';
             BEGIN
                 WHILE NOT EXISTS (
                     SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
                 ) LOOP
                     ASSERT clock_timestamp() < until, 'nobody waits';
                     PERFORM pg_sleep(0.001);
                 END LOOP;
                 {then};
             END $$;
             COMMIT",
            DEADLINE.as_secs()
        );
        let (answer, gone_on) = tokio::join!(asked, other.batch_execute(&goes_on));
        gone_on.expect("a statement waits, and nobody waits for what it has locked");
        answer
    }
}

/// A node as its engine uses it.
struct Node {
    backend: Postgres,
    locker: Arc<dyn Locker>,
    term: Term,
}

impl Node {
    async fn open(backend: Postgres) -> Self {
        let locker = backend.locker();
        locker.open().await.expect("a session opens");
        Self { backend, locker, term: Term(0) }
    }

    async fn leading(mut self) -> Self {
        let Campaign::Won(grant) = self.backend.elector().campaign().await.expect("an answer") else {
            panic!("nobody else leads");
        };
        self.term = grant.term;
        self
    }

    /// A new job, and a claim of its first tick, which is due.
    async fn due(&self, job: &str) -> ClaimRequest {
        let enrolment =
            Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Term(self.term));
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { cursor, .. }] = enrolled[..] else {
            panic!("{job} was answered with {enrolled:?}")
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let fire_time = FireTime::new(cursor + TimeDelta::milliseconds(1));
        let tick = TickClaim {
            fire_time,
            expected: cursor,
            skips: Skips::default(),
            authority: Authority::Term(self.term),
        };
        ClaimRequest { tick: Some(tick), ..manual(job) }
    }

    async fn hears_of_the_loss_of(&self, session: Session) {
        let lost = tokio::time::timeout(DEADLINE, self.locker.lost(session)).await;
        lost.expect("a session with an abandoned statement is lost");
    }

    /// As its engine does it: what is locked is asked again.
    async fn claim_all(&self, mut batch: Vec<ClaimRequest>) -> Vec<(ClaimRequest, Verdict)> {
        let mut decided = Vec::new();
        while !batch.is_empty() {
            let verdicts = self.locker.claim(&batch).await.expect("an answer");
            let (locked, answered): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .zip(verdicts)
                .partition(|(_, verdict)| matches!(verdict, Verdict::Locked { .. }));
            decided.extend(answered);
            batch = locked.into_iter().map(|(request, _)| request).collect();
        }
        decided
    }

    /// As its engine does it: what is locked is asked again.
    async fn complete(&self, mut ends: Vec<Completion>) {
        while !ends.is_empty() {
            let answers = self.locker.complete(&ends).await.expect("an answer");
            assert!(!answers.contains(&Completed::Stale), "{answers:?}");
            let mut answers = answers.into_iter();
            ends.retain(|_| answers.next() == Some(Completed::Locked));
        }
    }

    async fn claim(&self, request: &ClaimRequest) -> Verdict {
        let mut verdicts = self.locker.claim(std::slice::from_ref(request)).await.expect("an answer");
        verdicts.pop().expect("one verdict per request")
    }
}

/// The end of a run that was granted.
fn end_of(request: &ClaimRequest, verdict: &Verdict) -> Completion {
    let ClaimRequest { job, key, run, .. } = request.clone();
    Completion::new(job, key, run, token(verdict), Outcome::Succeeded)
}

/// A move of the cursor over the tick of a claim.
fn move_of(claim: &ClaimRequest) -> CursorMove {
    let TickClaim { fire_time: to, expected, skips, authority } = claim.tick.expect("a tick");
    CursorMove { id: claim.run.as_uuid(), job: claim.job.clone(), expected, to, skips, authority }
}

fn manual(key: &str) -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    let key = LockKey::new(key).expect("a key");
    ClaimRequest::new(name(key.as_str()), key, run)
}

fn name(name: &str) -> JobName {
    JobName::new(name).expect("a name")
}

fn token(verdict: &Verdict) -> FencingToken {
    match verdict {
        Verdict::Granted { token, .. } => *token,
        other => panic!("not granted: {other:?}"),
    }
}

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

impl Cluster for PostgresCluster {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let backend = self.backend();
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let node = backend.node().expect("the store knows its nodes");
        async move {
            let name = format!("callsheet {}%", &node.as_uuid().simple().to_string()[..12]);
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
            while self.admin.query_one(kill, &[&name]).await.expect("an answer").get::<_, i64>(0) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

#[tokio::test]
async fn the_harness_starts_a_durable_server_of_its_own() {
    let setting = admin().await.query_one("SHOW fsync", &[]).await.expect("an answer");
    assert_eq!(setting.get::<_, &str>(0), "on");
}

/// Behaviour 94 of gocron's tests: nodes want the term one after the other, and at once.
#[tokio::test]
async fn postgres_is_an_elector() {
    conformance::elector(&mut PostgresCluster::new("elector").await).await;
}

#[tokio::test]
async fn postgres_is_a_locker() {
    conformance::locker(&mut PostgresCluster::new("locker").await).await;
}

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
async fn what_else_an_old_term_asks_waits_for_a_takeover_under_way_and_changes_nothing() {
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
    let moves = [move_of(&due)];
    let moved = cluster.across_a_takeover(leader.locker.advance(&moves)).await.expect("an answer");
    let jobs =
        [Enrolment::new(name("job"), ScheduleIdentity::of_text("another"), Authority::Term(leader.term))];
    let enrolled = cluster.across_a_takeover(leader.locker.enrol(&jobs)).await.expect("an answer");

    assert_eq!(moved, [Moved::Deposed { term: second }]);
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
    let moved = leader.locker.advance(&[move_of(&due)]).await.expect("an answer");
    let job = Enrolment::new(name("job"), ScheduleIdentity::of_text("another"), Authority::Term(term));
    let enrolled = leader.locker.enrol(&[job]).await.expect("an answer");

    assert_eq!(claimed, Verdict::Deposed { term });
    assert_eq!(moved, [Moved::Deposed { term }]);
    assert_eq!(enrolled, [Enrolled::Deposed { term }]);
}

#[tokio::test]
async fn a_follower_waits_for_the_leadership_with_the_shortest_lease_too() {
    let cluster = PostgresCluster::new("shortest").await;
    let node = |lease| Node::open(Postgres::new(&cluster.scope, &cluster.url).lease(lease));
    // It keeps the lead on any machine: nothing of this test is about its lease.
    let leader = node(Duration::from_mins(1)).await.leading().await;
    let follower = node(Duration::from_secs(1)).await;

    let campaign = follower.backend.elector().campaign().await;

    let led = leader.backend.node();
    assert!(matches!(&campaign, Ok(Campaign::Lost { leader, .. }) if *leader == led), "{campaign:?}");
}

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
    let mut campaign = elector.campaign();
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
async fn a_node_does_not_steal_from_itself() {
    let node = PostgresCluster::new("itself").await.open().await;
    let held = manual("key");
    token(&node.claim(&held).await);

    let verdict = node.claim(&manual("key")).await;

    assert_eq!(verdict, Verdict::Busy { holder: Some(held.run) });
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
    let busy = Verdict::Busy { holder: Some(batch[0].run) };
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
async fn an_end_whose_row_an_application_holds_fails_alone_and_is_recorded_later() {
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
async fn enrolments_moves_and_withdrawals_whose_row_an_application_holds_fail_alone() {
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
    let moves = [held, free].map(|claim| move_of(&claim));
    let moved = leader.locker.advance(&moves).await.expect("an answer");
    leader.locker.withdraw(leader.term, &[name("held"), name("free")]).await.expect("an answer");

    assert!(
        matches!(enrolled[..], [Enrolled::Locked, Enrolled::Done { .. }, Enrolled::Done { .. }]),
        "{enrolled:?}"
    );
    assert_eq!(moved, [Moved::Locked, Moved::Done]);
    let withdrawn = "SELECT name FROM callsheet.names WHERE scope = $1 AND withdrawn";
    let withdrawn = cluster.admin.query(withdrawn, &[&cluster.scope]).await.expect("an answer");
    assert_eq!(withdrawn.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["free"]);
    holder.batch_execute("ROLLBACK").await.expect("an answer");
    assert_eq!(leader.locker.advance(&moves[..1]).await.expect("an answer"), [Moved::Done]);
}

#[tokio::test]
async fn a_lost_run_whose_row_an_application_holds_is_closed_later_than_the_others() {
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
async fn an_application_that_guards_its_writes_with_a_key_stops_no_cursor_and_the_holder_is_named() {
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
    let moved = leader.locker.advance(&[move_of(&due)]).await.expect("an answer");

    assert_eq!(busy, Verdict::Locked { holder: Some(run.run) });
    assert_eq!(moved, [Moved::Done]);
    drop(guard);
}

#[tokio::test]
async fn one_locked_row_of_two_leaves_a_claim_with_a_key_of_its_own_where_it_was() {
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
async fn a_claim_whose_reply_was_lost_stays_with_the_dead_session_and_is_closed_once() {
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

    let settled = leader.claim(&ClaimRequest { settle: true, ..request.clone() }).await;
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

    let settled = node.claim(&ClaimRequest { settle: true, ..run.clone() }).await;
    let again = node.claim(&run).await;
    let ended = node.locker.complete(&[end]).await.expect("an answer");
    let lost = node.locker.close_lost(10).await.expect("an answer").lost;

    assert_eq!((settled, again), (Verdict::GrantedBefore, Verdict::GrantedBefore));
    assert_eq!(ended, [Completed::Stale]);
    assert_eq!(lost.iter().map(|lost| lost.run).collect::<Vec<_>>(), [run.run]);
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
    // A run that was lost and is owed is granted once more.
    let run = ClaimRequest { retake: true, ..run };
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
async fn a_frozen_node_loses_its_keys_and_its_term_with_its_lease() {
    // Long enough for a busy machine: before it is over, one node has to claim, and another one to ask.
    const LEASE: Duration = Duration::from_secs(3);
    // P8.
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
        match node.backend.elector().campaign().await.expect("an answer") {
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

#[tokio::test]
async fn nodes_that_start_at_once_make_the_schema_together() {
    let cluster = PostgresCluster::new("migration").await;
    let nodes: Vec<_> =
        (0..3).map(|_| Postgres::new(&cluster.scope, &cluster.url).schema("made_together")).collect();
    let opened = join_all(nodes.iter().map(|node| async { node.locker().open().await })).await;
    for opened in opened {
        opened.expect("every node opens");
    }
}

#[tokio::test]
async fn bad_settings_are_all_reported_before_anything_starts_and_without_the_password() {
    let backend = Postgres::new("", format!("postgre://me:{PASSWORD}@localhost/db")).schema("Robert'); DROP");
    let shown = format!("{backend:?}");
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(backend).start().await else {
        panic!("it started");
    };
    let text = faults.to_string();
    for what in ["postgres: scope", "postgres: schema", "postgres: url"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !shown.contains(PASSWORD), "{text}\n{shown}");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_not_there_is_named_with_its_cure() {
    let wrong = server().url_with("wrong-but-secret");
    let nobody = format!("postgres://me:{PASSWORD}@127.0.0.1:1/db");
    let cases = [(wrong, "check the user and the password"), (nobody, "Connection refused")];
    for (url, cure) in cases {
        let builder = Callsheet::builder().backend(Postgres::new("bad", &url));
        let Err(error) = builder.connect_timeout(Duration::from_secs(1)).start().await else {
            panic!("it started");
        };
        let text = error.to_string();
        assert!(text.contains(cure), "{text}");
        assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
    }
}
