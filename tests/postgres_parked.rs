//! A rule of the database that refuses everybody parks nobody; one that refuses one job parks that job, until
//! it is gone.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, EventFilter, EventKind, EventName, EventStream, Job, JobState, Operation, Problem,
    backend::Postgres, schedule::every,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// What waits for a state looks this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_secs(2);
const NAMES: [&str; 3] = ["a", "bad", "c"];

/// A node with a schema of its own, whose jobs say when they run.
struct Case {
    schema: &'static str,
    node: Callsheet,
    ran: mpsc::UnboundedReceiver<String>,
    parked: EventStream,
    admin: Client,
}

impl Case {
    async fn new(schema: &'static str, names: &[&str]) -> Self {
        let (say, ran) = mpsc::unbounded_channel();
        let job = |name: &&str| {
            Job::new(*name, every(Duration::from_millis(100))).run_with(say.clone(), async |run, ran| {
                // An error: the test is over.
                let _ = ran.send(run.job().to_string());
            })
        };
        let backend = Postgres::new(scope(schema), server().url()).schema(schema).lease(LEASE);
        let node = Callsheet::builder().backend(backend).jobs(names.iter().map(job)).start().await;
        let node = node.expect("it starts");
        let parked = node.events(EventFilter::new().kinds([EventName::JobParked, EventName::JobUnparked]));
        let (admin, connection) =
            tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
        tokio::spawn(connection);
        let mut case = Self { schema, node, ran, parked, admin };
        case.all_run(names).await;
        case
    }

    /// Waits until each of them has run from now on.
    async fn all_run(&mut self, names: &[&str]) {
        while self.ran.try_recv().is_ok() {}
        let mut left: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let waited = timeout(DEADLINE, async {
            while !left.is_empty() {
                left.remove(&self.ran.recv().await.expect("the jobs live"));
            }
        });
        if waited.await.is_err() {
            panic!("{left:?} do not run: {:?}", self.node.health().await);
        }
    }

    /// Runs statements as the owner, in which `$.` stands for the schema.
    async fn run(&self, statements: &str) {
        let statements = statements.replace("$.", &format!("{}.", self.schema));
        self.admin.batch_execute(&statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Refuses rows of names that match, as bad data, wherever a row is made or changed.
    async fn refuse(&self, pattern: &str) {
        self.run(&format!(
            "CREATE FUNCTION $.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.name ~ '{pattern}' THEN
                     RAISE EXCEPTION 'no row is welcome' USING ERRCODE = '22000';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON $.names
                 FOR EACH ROW EXECUTE FUNCTION $.refuse()"
        ))
        .await;
    }

    async fn refuse_nothing(&self) {
        self.run("DROP TRIGGER refuse ON $.names").await;
    }

    /// The node has to enrol its jobs again.
    async fn end_session(&self) {
        self.run("SELECT pg_terminate_backend(pid) FROM $.sessions").await;
    }

    /// Waits until the health names one of these operations, and the reason.
    async fn fails(&self, operations: &[Operation]) {
        let asked_at = Instant::now();
        loop {
            let health = self.node.health().await.expect("it runs");
            let is_said = |problem: &Problem| {
                matches!(problem, Problem::OperationFailing { operation, reason, .. }
                    if operations.contains(operation) && reason.contains("no row is welcome (22000)"))
            };
            if health.problems.iter().any(is_said) {
                return assert!(!health.healthy);
            }
            assert!(asked_at.elapsed() < DEADLINE, "none of {operations:?} fails: {health:?}");
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn is_healthy(&self) {
        let looked = timeout(DEADLINE, async {
            while !self.node.health().await.expect("it runs").healthy {
                sleep(LOOK_AGAIN).await;
            }
        });
        looked.await.expect("it is well again");
    }

    async fn state(&self, job: &str) -> JobState {
        self.node.details(job).await.expect("it is there").state
    }

    /// The next job that is parked, or no longer.
    async fn next_parked(&mut self) -> String {
        let said = timeout(2 * DEADLINE, self.parked.next()).await.expect("in time").expect("it runs");
        match said.kind {
            EventKind::JobParked { job, reason } => format!("{job} is parked: {reason}"),
            EventKind::JobUnparked { job } => format!("{job} goes on"),
            other => panic!("{other:?}"),
        }
    }

    /// Ends the node. Nobody was parked, nor unparked, since that was asked last.
    async fn end(mut self) {
        self.node.shutdown(DEADLINE).await;
        let said = timeout(DEADLINE, self.parked.next()).await.expect("the stream ends");
        assert!(said.is_none(), "{said:?}");
    }
}

#[tokio::test]
async fn a_trigger_that_refuses_every_row_at_an_election_parks_nobody() {
    for (schema, names) in [("elections", &NAMES[..]), ("election_of_one", &NAMES[..1])] {
        let mut case = Case::new(schema, names).await;
        case.refuse("").await;

        case.end_session().await;
        case.fails(&[Operation::Enrol]).await;

        case.refuse_nothing().await;
        case.all_run(names).await;
        case.is_healthy().await;
        case.end().await;
    }
}

#[tokio::test]
async fn a_trigger_that_refuses_every_row_of_claims_parks_nobody() {
    let mut case = Case::new("claims", &NAMES).await;

    case.refuse("").await;
    // Which of them depends on what each job asks at that moment.
    case.fails(&[Operation::Claim, Operation::Advance]).await;

    case.refuse_nothing().await;
    case.all_run(&NAMES).await;
    case.is_healthy().await;
    case.end().await;
}

#[tokio::test]
async fn a_trigger_that_refuses_one_name_parks_that_job_until_it_is_gone() {
    let mut case = Case::new("one_name", &NAMES).await;
    case.refuse("^bad$").await;
    case.end_session().await;

    assert_eq!(case.next_parked().await, "bad is parked: no row is welcome (22000)");

    case.all_run(&["a", "c"]).await;
    assert_eq!(case.state("bad").await, JobState::Parked);
    case.refuse_nothing().await;
    let gone_at = Instant::now();
    assert_eq!(case.next_parked().await, "bad goes on");
    case.all_run(&NAMES).await;
    // A minute, and its next tick. Nobody did anything.
    assert!(gone_at.elapsed() < Duration::from_secs(75), "{:?}", gone_at.elapsed());
    case.is_healthy().await;
    case.end().await;
}
