//! Coordination on a real PostgreSQL server.

#[path = "../common/postgres.rs"]
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
        Advanced, Authority, Backend, Campaign, ClaimRequest, Completed, Completion, CursorAdvance, Enrolled,
        Enrolment, LockError, Locker, LostRun, Renewal, ScheduleIdentity, Session, Skips, TickClaim, Verdict,
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

mod batches;
mod history;
mod locked_rows;
mod places;
mod refused_in_part;
mod sessions;
mod terms;

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

    /// What is answered to a node that makes two names while somebody else makes the same, in this order:
    /// whoever had the second one by the time it waits for the first would deadlock.
    async fn while_made<T>(&self, [first, second]: [&str; 2], asked: impl Future<Output = T>) -> T {
        let first =
            format!("INSERT INTO callsheet.names (scope, name, cursor) VALUES ($1, '{first}', now())");
        let second = format!(
            "INSERT INTO callsheet.names (scope, name, cursor) VALUES ('{}', '{second}', now())",
            self.scope
        );
        self.while_it_waits(&first, &second, asked).await
    }

    /// What is answered to a node that waits for a transaction of somebody else, who does `first` before, and
    /// `then` and the commit while it waits.
    ///
    /// # Panics
    ///
    /// If nobody waits for that transaction in time, or `then` fails.
    async fn while_it_waits<T>(&self, first: &str, then: &str, asked: impl Future<Output = T>) -> T {
        let other = self.transaction(first).await;
        // On the server alone: a node waits for 250 ms at most, and a busy machine needs them for a round
        // trip.
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
        let Campaign::Won(grant) = self.backend.elector().campaign(Duration::MAX).await.expect("an answer")
        else {
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
fn advance_of(claim: &ClaimRequest) -> CursorAdvance {
    let TickClaim { fire_time: to, expected, skips, authority } = claim.tick.expect("a tick");
    CursorAdvance { id: claim.run.as_uuid(), job: claim.job.clone(), expected, to, skips, authority }
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

/// Nodes want the term one after the other, and at once.
#[tokio::test]
async fn postgres_is_an_elector() {
    conformance::elector(&mut PostgresCluster::new("elector").await).await;
}

#[tokio::test]
async fn postgres_is_a_locker() {
    conformance::locker(&mut PostgresCluster::new("locker").await).await;
}

#[tokio::test]
async fn it_keeps_backfills() {
    conformance::backfills(&mut PostgresCluster::new("backfills").await).await;
}

#[tokio::test]
async fn its_nodes_ask_each_other() {
    conformance::control(&mut PostgresCluster::new("control").await).await;
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
async fn bad_settings_are_all_reported_at_first_and_without_the_password() {
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
