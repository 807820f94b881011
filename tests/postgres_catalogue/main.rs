//! Jobs that are data on a real PostgreSQL server: all nodes hold them, whoever edits them, and whatever becomes of the
//! server meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, ErrorKind, JobName, ListJobs, Run, RunResult, StoredHere, StoredJob, Task,
    backend::Postgres,
    port::{Backend, Catalogue, CatalogueChange, CatalogueChanges, CatalogueQuery, Changed, Expected},
    schemars::JsonSchema,
    testkit::conformance,
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

mod by_hand;
mod chaos;
#[path = "../common/example.rs"]
mod example;
mod example_runs;
#[path = "../common/postgres.rs"]
mod harness;
mod outages;
mod plans;
#[allow(dead_code, reason = "the example ends by itself")]
#[path = "../process/mod.rs"]
mod process;
#[path = "../common/proxy.rs"]
mod proxy;
mod stories;

use self::harness::{Server, connect, scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the task did, in order.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Vec<String>>>);

impl Done {
    fn has(&self, said: &str) -> bool {
        self.0.lock().expect("nobody panicked").iter().any(|done| done == said)
    }

    fn clear(&self) {
        self.0.lock().expect("nobody panicked").clear();
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Say {
    what: String,
}

impl Task for Say {
    const NAME: &'static str = "say";
    type State = Done;

    async fn run(self, run: Run, done: Done) -> RunResult {
        done.0.lock().expect("nobody panicked").push(format!("{}: {}", run.job(), self.what));
        Ok(())
    }
}

fn says(what: &str) -> Value {
    json!({"schedule": {"every": "200ms"}, "task": {"name": "say", "arguments": {"what": what}}})
}

fn stored(json: Value) -> StoredJob {
    serde_json::from_value(json).expect("it is right")
}

fn builder(url: &str, scope: &str, done: &Done) -> Builder {
    Callsheet::builder().backend(Postgres::new(scope, url)).task::<Say>(done.clone())
}

async fn node(scope: &str, done: &Done) -> Callsheet {
    builder(&server().url(), scope, done).start().await.expect("it starts")
}

/// Waits until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waits).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// The jobs that a node holds.
async fn held(node: &Callsheet) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = node.list(ListJobs::default().after(after)).await.expect("it answers");
        all.extend(page.jobs.iter().map(|job| job.name.to_string()));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn holds(node: &Callsheet, jobs: &[&str]) {
    until(&format!("it holds {jobs:?}"), async || held(node).await == jobs).await;
}

async fn stop(nodes: impl IntoIterator<Item = Callsheet>) {
    for node in nodes {
        node.shutdown(Duration::from_secs(5)).await;
    }
}

/// A backend with a session, so that there are tables, and its catalogue.
async fn catalogue(url: &str, scope: &str) -> (Postgres, Arc<dyn Catalogue>) {
    let backend = Postgres::new(scope, url);
    backend.locker().open().await.expect("a session opens");
    let catalogue = backend.catalogue().expect("it keeps one");
    (backend, catalogue)
}

fn name(job: &str) -> JobName {
    JobName::new(job).expect("a good name")
}

fn put(job: &str, what: &str) -> CatalogueChange {
    CatalogueChange::put(Uuid::new_v4(), name(job), says(what).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_catalogue() {
    let scope = scope("suite");
    let (first, of_first) = catalogue(&server().url(), &scope).await;
    let (second, of_second) = catalogue(&server().url(), &scope).await;

    conformance::catalogue(of_first, of_second).await;

    first.locker().close().await;
    second.locker().close().await;
}

#[tokio::test]
async fn a_stored_job_fires_and_shows_on_both_nodes_until_it_is_deleted() {
    let (scope, done) = (scope("both"), Done::default());
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];

    nodes[0].put("zero", &stored(says("hello"))).await.expect("it is right");
    let status = nodes[1].put("one", &stored(says("hello"))).await.expect("it is right");
    assert_eq!(status.here, StoredHere::Held, "the node that was asked knows it when it answers");

    for node in &nodes {
        holds(node, &["one", "zero"]).await;
        let shown = node.stored("one").await.expect("it is stored");
        assert_eq!((shown.version, shown.here), (status.version, StoredHere::Held));
    }
    // One of them leads, and fires both.
    until("both fire", async || done.has("one: hello") && done.has("zero: hello")).await;

    stop(nodes).await;
    done.clear();
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    until("both fire after a restart", async || done.has("one: hello") && done.has("zero: hello")).await;

    nodes[1].delete("zero").await.expect("it is stored");
    for node in &nodes {
        holds(node, &["one"]).await;
        let gone = node.stored("zero").await.expect_err("it is gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
    stop(nodes).await;
}

#[tokio::test]
async fn what_is_asked_of_the_cluster_holds_on_each_node_when_it_is_answered() {
    let scope = scope("cluster");
    let done = Done::default();
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    let idle = Callsheet::builder().backend(Postgres::new(&scope, server().url())).start().await;
    let idle = idle.expect("it starts");
    let cluster = nodes[0].cluster().within(DEADLINE);
    until("each node has a session", async || {
        cluster.nodes().await.is_ok_and(|list| list.nodes.len() == 3 && list.unconfirmed.is_empty())
    })
    .await;

    let put = cluster.put("job", &stored(says("hello"))).await.expect("it is right");
    assert_eq!(put.unconfirmed, [], "a node without tasks has nothing to do");
    for node in &nodes {
        assert_eq!(held(node).await, ["job"]);
    }
    let deleted = idle.cluster().within(DEADLINE).delete("job").await.expect("it is stored");
    assert_eq!(deleted.unconfirmed, []);
    assert!(deleted.version > put.version);
    for node in &nodes {
        assert_eq!(held(node).await, [""; 0]);
    }
    stop(nodes).await;
    stop([idle]).await;
}

#[tokio::test]
async fn of_two_writers_at_once_one_is_told_the_newer_version() {
    let (scope, done) = (scope("writers"), Done::default());
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    let mut read = nodes[0].put("job", &stored(says("first"))).await.expect("it is right").version;

    for round in 0..10 {
        let expected = Expected::Version(read);
        let definitions = ["zero", "one"].map(|who| stored(says(&format!("{who} {round}"))));
        let both = nodes.iter().zip(&definitions).map(|(node, job)| node.put_if("job", job, expected));
        let answers = join_all(both).await;

        let (made, told): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), told.len()), (1, 1), "{made:?} {told:?}");
        read = made.into_iter().flatten().next().expect("one").version;
        let told = told.into_iter().find_map(Result::err).expect("one");
        assert_eq!(told.kind(), ErrorKind::Exists);
        assert!(told.to_string().contains(&format!("version {read} stands")), "{told}");
    }
    stop(nodes).await;
}

/// By the poll alone, each would take a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_told_of_a_change_before_they_would_ask() {
    const CHANGES: u32 = 30;
    let (scope, done) = (scope("told"), Done::default());
    let nodes = [node(&scope, &done).await, node(&scope, &done).await];
    let mut waited = Duration::ZERO;

    for nth in 0..CHANGES {
        let job = format!("job {nth}");
        nodes[0].put(&job, &stored(says("hello"))).await.expect("it is right");
        let began = std::time::Instant::now();
        until("the other node holds it", async || nodes[1].details(&job).await.is_ok()).await;
        waited += began.elapsed();
    }

    assert!(waited < Duration::from_millis(500) * CHANGES, "{waited:?} for {CHANGES} changes");
    stop(nodes).await;
}

/// A role that may do nothing else costs nothing: no connection is opened for what is not used.
#[tokio::test]
async fn a_node_without_tasks_asks_nothing_before_it_is_asked() {
    let scope = scope("unused");
    let done = Done::default();
    let with = node(&scope, &done).await;
    with.put("job", &stored(says("hello"))).await.expect("it is right");
    let admin = connect(&server().url()).await;
    let connections = async |node: &Callsheet| {
        let id = node.health().await.expect("it answers").node.as_uuid().simple().to_string();
        let name = format!("callsheet {} history%", &id[..12]);
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE $1";
        admin.query_one(count, &[&name]).await.expect("an answer").get::<_, i64>(0)
    };
    let without = Callsheet::builder().backend(Postgres::new(&scope, server().url())).start().await;
    let without = without.expect("it starts");
    until("the other one has asked", async || connections(&with).await > 0).await;
    assert_eq!(connections(&without).await, 0);

    without.delete("job").await.expect("it is stored");

    holds(&with, &[]).await;
    assert!(connections(&without).await > 0);
    stop([with, without]).await;
}

#[tokio::test]
async fn deleted_jobs_are_forgotten_once_there_are_too_many() {
    let scope = scope("forgotten");
    let (backend, catalogue) = catalogue(&server().url(), &scope).await;
    let admin = connect(&server().url()).await;
    let deleted = "INSERT INTO callsheet.catalogue_jobs (scope, job)
                   SELECT $1, 'gone ' || n FROM generate_series(1, 10999) AS g (n)";
    admin.execute(deleted, &[&scope]).await.expect("an answer");
    let newest = async || catalogue.list(&CatalogueQuery::default()).await.expect("an answer").version;
    assert_eq!(newest().await, 10_999);

    for job in ["one", "two"] {
        catalogue.change(&put(job, "hello")).await.expect("an answer");
        let change = CatalogueChange::delete(Uuid::new_v4(), name(job));
        assert!(matches!(catalogue.change(&change).await, Ok(Changed::Done(_))));
    }

    assert_eq!(catalogue.changes(999, 10).await, Ok(CatalogueChanges::Forgotten));
    let CatalogueChanges::Rows(rows) = catalogue.changes(1_001, 10).await.expect("an answer") else {
        panic!("they are remembered")
    };
    assert_eq!(rows.first().map(|row| row.version), Some(1_002));
    let counts =
        "SELECT version, forgotten, jobs, deleted FROM callsheet.catalogue_versions WHERE scope = $1";
    let row = admin.query_one(counts, &[&scope]).await.expect("an answer");
    let counts: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
    let left = "SELECT count(*) FROM callsheet.catalogue_jobs WHERE scope = $1 AND definition IS NULL";
    let left: i64 = admin.query_one(left, &[&scope]).await.expect("an answer").get(0);
    assert_eq!((counts, left), (vec![11_003, 1_000, 0, 10_001], 10_001));
    backend.locker().close().await;
}
