//! Whoever may connect to the database may notify the nodes of anything, as often as they like. It does them no harm.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{Callsheet, Job, JobState, backend::Postgres, schedule::every};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use self::{
    harness::{PASSWORD, scope, server},
    log::Log,
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// How many transactions of so many notifications each.
const TRANSACTIONS: usize = 10;
const NOTIFICATIONS: usize = 5_000;
/// Of two kinds, five a minute each, of which it is said how many were left out; and a net for a busy machine.
const LINES_MAX: usize = 60;
/// What the log must not show.
const GARBAGE: &str = "sesame";

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A job that counts its runs.
fn job(name: &str, runs: &Arc<AtomicU64>) -> Job {
    Job::new(name, every(Duration::from_millis(100))).run_with(runs.clone(), async |_, runs| {
        runs.fetch_add(1, Ordering::SeqCst);
    })
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is().await {
        assert!(Instant::now() < until, "not {what}\n{}", Log::keep().text());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_flood_of_a_strangers_notifications_is_ignored() {
    let log = Log::keep();
    let admin = connect(&server().url()).await;
    let made = format!(
        "CREATE DATABASE strangers;
         CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'"
    );
    for statement in made.split(';') {
        admin.batch_execute(statement).await.expect("it is made");
    }
    let at = format!("127.0.0.1:{}/strangers", server().port());
    let admin = connect(&format!("postgres://{}:{PASSWORD}@{at}", harness::USER)).await;
    let scope = scope("strangers");
    let (runs, held_runs) = (Arc::default(), Arc::default());
    let node = Callsheet::builder()
        .backend(Postgres::new(&scope, format!("postgres://{}:{PASSWORD}@{at}", harness::USER)))
        .job(job("job", &runs))
        .job(job("held", &held_runs))
        .start()
        .await
        .expect("it starts");
    let has_run = async |times: u64| {
        let before = runs.load(Ordering::SeqCst);
        until("run", async || runs.load(Ordering::SeqCst) >= before + times).await;
    };
    has_run(3).await;
    node.pause("held").await.expect("it is paused");
    has_run(3).await;
    let held = held_runs.load(Ordering::SeqCst);

    let stranger = connect(&format!("postgres://stranger:{PASSWORD}@{at}")).await;
    let notify = |payloads: &str| {
        format!(
            "SELECT pg_notify('callsheet_' || to_hex(hashtextextended('callsheet news callsheet/{scope}', 0)), payload)
             FROM ({payloads}) AS p (payload)"
        )
    };
    for nth in 0..TRANSACTIONS {
        // Of equal ones in a transaction the server sends one.
        let flood = format!("SELECT '{GARBAGE} {nth} ' || n FROM generate_series(1, {NOTIFICATIONS}) AS n");
        stranger.batch_execute(&notify(&flood)).await.expect("it may");
    }
    let run = "0190a000-0000-7000-8000-000000000001";
    let forged = format!(
        r#"VALUES ('{{"pause": {{"job": "held", "pause": null}}}}'), ('{{"stop": {{"beacon": 7, "run": "{run}"}}}}'),
           ('{{"owed": {{"job": "job", "owed": {{"run": "{run}", "fire_time": null, "losses": 0}}}}}}')"#
    );
    stranger.batch_execute(&notify(&forged)).await.expect("it may");

    until("read by the node", async || {
        let row = admin.query_one("SELECT pg_notification_queue_usage()", &[]).await.expect("an answer");
        row.get::<_, f64>(0) == 0.0
    })
    .await;
    has_run(20).await;
    let health = node.health().await.expect("it runs");
    assert!(health.healthy && health.problems.is_empty(), "{health:?}");
    let status = node.details("held").await.expect("it is there");
    assert_eq!((status.state, held_runs.load(Ordering::SeqCst)), (JobState::Paused, held));
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains("notification")).count();
    assert!((1..=LINES_MAX).contains(&lines), "{lines} lines\n{text}");
    assert!(!text.contains(GARBAGE) && !text.contains("the session is lost"), "{text}");
    node.shutdown(Duration::from_secs(5)).await;
}
