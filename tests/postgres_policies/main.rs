//! What several nodes on a real PostgreSQL server do at once to jobs with policies.

#[path = "../common/postgres.rs"]
mod harness;

use std::{sync::Arc, time::Duration};

use callsheet::{
    CALL_DEADLINE, FencingToken, FireTime, JobName, LockKey, NodeId, Outcome, Overlap, PENDING_RETRIES_MAX,
    RunId, Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, Enrolled, Enrolment, LockError,
        Locker, LostRun, Notification, Pause, ScheduleIdentity, Session, Skips, TickClaim, Verdict,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

mod claims;
mod enrolments;
mod lost_runs;
mod pauses;
mod renames;

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

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
        // The server cuts names to 63 bytes.
        let nodes = format!("callsheet % session % {:.20}%", self.scope);
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
        let opened = async {
            loop {
                match locker.open().await {
                    // A busy machine answers late.
                    Err(LockError::Unavailable { .. }) => sleep(Duration::from_millis(100)).await,
                    opened => return opened.expect("a session opens"),
                }
            }
        };
        let session = timeout(DEADLINE, opened).await.expect("the server answers");
        Self { backend, locker, session }
    }

    async fn leads(&self) -> Term {
        let campaign = self.backend.elector().campaign(Duration::MAX).await.expect("an answer");
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

/// Until what fires one millisecond after a cursor of this instant is due.
async fn due() {
    sleep(Duration::from_millis(5)).await;
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
