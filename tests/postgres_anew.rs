//! What becomes of nodes whose tables are created again, emptied, or restored from before, under their feet, on a
//! real PostgreSQL server.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callsheet::{Callsheet, FencingToken, Fires, Job, Run, Term, backend::Postgres, schedule::every};
use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the promise is, beside what a node takes to start on this machine at this time: to go on it opens
/// a session, makes tables and enrols jobs, as at its start.
const AGAIN_MAX: Duration = Duration::from_secs(8);

/// For how long a node looks at a run that holds a key in its name, and that it does not know.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A run that was started.
#[derive(Debug, Clone)]
struct Started {
    job: String,
    tick: Option<DateTime<Utc>>,
    term: Option<Term>,
    token: FencingToken,
}

/// A node with a job that the leader fires and one that any node fires, and what they ran.
struct Node {
    jobs: Callsheet,
    runs: UnboundedReceiver<Started>,
    seen: Arc<Mutex<Vec<Started>>>,
    /// How long its start took, up to the first runs.
    started_in: Duration,
}

impl Node {
    async fn start(scope: &str, schema: &str) -> Self {
        let url = server().url();
        let began = Instant::now();
        let (ran, runs) = unbounded_channel();
        let seen: Arc<Mutex<Vec<Started>>> = Arc::default();
        let job = |name: &str, fires| {
            let (ran, seen) = (ran.clone(), seen.clone());
            Job::new(name, every(Duration::from_millis(200))).fires(fires).run_with(
                (ran, seen),
                async |run: Run, (ran, seen)| {
                    let started = Started {
                        job: run.job().to_string(),
                        tick: run.fire_time(),
                        term: run.term(),
                        token: run.token().expect("a claimed run has a token"),
                    };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(started.clone());
                    let _ = ran.send(started);
                },
            )
        };
        let backend = Postgres::new(scope, url).schema(schema).lease(Duration::from_secs(2));
        let jobs = Callsheet::builder()
            .backend(backend)
            .job(job("of-leader", Fires::Leader))
            .job(job("of-any", Fires::AnyNode))
            .start()
            .await
            .expect("it starts");
        let mut node = Self { jobs, runs, seen, started_in: Duration::ZERO };
        node.both_run().await;
        node.started_in = began.elapsed();
        node
    }

    /// Until both jobs have run again: the last runs.
    async fn both_run(&mut self) -> Vec<Started> {
        while self.runs.try_recv().is_ok() {}
        let mut last: Vec<Started> = Vec::new();
        let ran = async {
            while last.len() < 2 {
                let run = self.runs.recv().await.expect("jobs run");
                last.retain(|other| other.job != run.job);
                last.push(run);
            }
        };
        timeout(DEADLINE, ran).await.expect("both jobs run");
        last.sort_by(|one, other| one.job.cmp(&other.job));
        last
    }

    /// No tick ran twice, and no token or term was lower than one before.
    async fn ends_well(self) {
        self.jobs.shutdown(Duration::from_secs(5)).await;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut ticks = HashSet::new();
        for job in ["of-leader", "of-any"] {
            let runs: Vec<_> = seen.iter().filter(|run| run.job == job).collect();
            assert!(
                runs.iter().all(|run| ticks.insert((job, run.tick))),
                "a tick of {job} ran twice: {runs:?}"
            );
            assert!(runs.is_sorted_by(|one, next| one.token < next.token), "tokens of {job} grow: {runs:?}");
            let terms: Vec<_> = runs.iter().filter_map(|run| run.term).collect();
            assert!(terms.is_sorted(), "terms grow: {terms:?}");
        }
    }
}

/// Both jobs of a node run again in time after `change`, and all is well.
async fn runs_again_after(test: &str, change: impl AsyncFnOnce(&Client, &str)) {
    runs_again_within(test, AGAIN_MAX, change).await;
}

async fn runs_again_within(test: &str, longest: Duration, change: impl AsyncFnOnce(&Client, &str)) {
    let schema = format!("anew_{test}");
    let mut node = Node::start(&scope(test), &schema).await;
    let admin = admin().await;
    admin.batch_execute(&format!("SET search_path = {schema}")).await.expect("an answer");

    change(&admin, &schema).await;
    // Whatever was claimed before has run.
    sleep(Duration::from_millis(300)).await;
    let since = Instant::now();
    node.both_run().await;
    let (took, started_in) = (since.elapsed(), node.started_in);
    assert!(took < longest + 2 * started_in, "it took {took:?}, and its start {started_in:?}");
    node.ends_well().await;
}

/// Until it is so. What is waited for lasts for a millisecond, so it is looked at all the time.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    timeout(DEADLINE, async { while !is_so().await {} }).await.expect("it comes to be");
}

async fn execute(admin: &Client, statements: &str) {
    admin.batch_execute(statements).await.expect("an answer");
}

#[tokio::test]
async fn a_schema_that_was_dropped_is_made_anew_by_the_node_that_runs() {
    runs_again_after("dropped", async |admin, schema| {
        execute(admin, &format!("DROP SCHEMA {schema} CASCADE")).await;
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_somebody_else_made_anew_is_used_again() {
    runs_again_after("replaced", async |admin, schema| {
        let printed = Postgres::new("any", "").schema(schema).ddl();
        execute(admin, &format!("DROP SCHEMA {schema} CASCADE")).await;
        // The node may have been quicker.
        let _ = admin.batch_execute(&printed).await;
        let _ = admin.batch_execute("ROLLBACK").await;
    })
    .await;
}

#[tokio::test]
async fn jobs_whose_names_vanish_are_enrolled_again() {
    runs_again_after("names", async |admin, _| execute(admin, "TRUNCATE names").await).await;
}

#[tokio::test]
async fn a_node_goes_on_after_all_tables_were_emptied() {
    runs_again_after("emptied", async |admin, _| {
        execute(admin, "TRUNCATE leader, sessions, names, debts, runs").await;
    })
    .await;
}

/// The tables, and what restores them.
const TABLES: [&str; 6] = ["leader", "scopes", "sessions", "names", "debts", "runs"];

/// Keeps the state of the tables, in one snapshot.
async fn dump(admin: &Client) {
    let copies = TABLES.map(|table| {
        format!(
            "DROP TABLE IF EXISTS old_{table}; CREATE TEMPORARY TABLE old_{table} AS SELECT * FROM {table};"
        )
    });
    execute(admin, &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {} COMMIT", copies.concat())).await;
}

/// As it is after a dump was restored: the rows are as they were, those that came later are gone.
async fn restore(admin: &Client) {
    let rows = TABLES.map(|table| format!("INSERT INTO {table} SELECT * FROM old_{table};")).concat();
    execute(admin, &format!("BEGIN; TRUNCATE {}; {rows} COMMIT", TABLES.join(", "))).await;
}

#[tokio::test]
async fn what_ran_since_a_state_that_was_restored_does_not_run_again() {
    runs_again_within("restored", AGAIN_MAX + UNKNOWN_FOR, async |admin, _| {
        dump(admin).await;
        sleep(Duration::from_secs(1)).await;
        restore(admin).await;
    })
    .await;
}

/// The state has an open run of the node's own session; the node has recorded its end since.
#[tokio::test]
async fn a_key_that_a_restored_state_says_an_ended_run_holds_is_free_again() {
    runs_again_within("restored_while_held", AGAIN_MAX + UNKNOWN_FOR, async |admin, _| {
        for job in ["of-leader", "of-any"] {
            let held = "SELECT FROM old_names WHERE name = $1 AND run IS NOT NULL";
            until(async || {
                dump(admin).await;
                !admin.query(held, &[&job]).await.expect("an answer").is_empty()
            })
            .await;
            let open = "SELECT FROM names JOIN old_names o USING (scope, name, run) WHERE name = $1";
            until(async || admin.query(open, &[&job]).await.expect("an answer").is_empty()).await;
            restore(admin).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_leader_notices_that_the_row_of_its_term_was_made_anew() {
    runs_again_after("term", async |admin, _| execute(admin, "TRUNCATE leader").await).await;
}
