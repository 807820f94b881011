//! A snapshot that stays open keeps dead versions of rows, and claims slow down: a node says for how long it
//! has been open, and whose it is.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::time::{Duration, Instant};

use callsheet::{Callsheet, Job, backend::Postgres, schedule::every};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use self::{
    harness::{PASSWORD, Server, USER, scope},
    log::Log,
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(120);
/// A snapshot is named after twelve of them.
const LEASE: Duration = Duration::from_secs(1);
const METRIC: &str = "callsheet_store_snapshot_age_seconds";

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < until, "not {what}\n{}", Log::keep().text());
        sleep(Duration::from_millis(20)).await;
    }
}

/// The age that a scraper reads.
fn age(metrics: &PrometheusHandle, scope: &str) -> f64 {
    let text = metrics.render();
    let sample = text.lines().find_map(|line| line.strip_prefix(&format!("{METRIC}{{scope=\"{scope}\"}} ")));
    sample.expect("the metric is there from the start").parse().expect("a number")
}

/// Takes a snapshot, and keeps it for as long as its transaction is open.
async fn takes_snapshot(client: &Client) {
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    client.batch_execute(snapshot).await.expect("it may");
}

async fn pid_of(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0)
}

#[tokio::test]
async fn a_snapshot_that_stays_open_is_named_and_its_age_falls_at_its_end() {
    let log = Log::keep();
    let metrics = PrometheusBuilder::new().install_recorder().expect("the only one");
    let server = Server::start_with(|data| data.prepend("postgresql.conf", "max_prepared_transactions = 2"));
    let admin = connect(&server.url()).await;
    // The role of the node is shown of others what everybody is.
    for made in [
        format!("CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'"),
        "CREATE DATABASE plain OWNER plain".to_owned(),
    ] {
        admin.batch_execute(&made).await.expect("it is made");
    }
    let at = format!("127.0.0.1:{}/plain", server.port());
    let scope = scope("snapshots");
    let backend = Postgres::new(&scope, format!("postgres://plain:{PASSWORD}@{at}")).lease(LEASE);
    let job = Job::new("job", every(Duration::from_millis(200))).run(async |_| {});
    let node = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
    assert_eq!(age(&metrics, &scope), 0.0);

    // What another database needs keeps nothing here.
    takes_snapshot(&admin).await;
    // For longer than from one look to the next but one.
    sleep(LEASE * 8).await;
    assert!(age(&metrics, &scope) < 1.0, "{}", age(&metrics, &scope));

    let superuser = format!("postgres://{USER}:{PASSWORD}@{at}");
    let dump = connect(&format!("{superuser}?application_name=nightly%20dump")).await;
    takes_snapshot(&dump).await;
    let pid = pid_of(&dump).await;
    until("seen", || age(&metrics, &scope) > 2.0).await;
    let who = format!(
        "process {pid} of the server (role \"{USER}\", application \"nightly dump\") has had a snapshot for"
    );
    until("named", || log.text().contains(&who)).await;
    // It is exported a moment later than it is named.
    until("of that age", || age(&metrics, &scope) >= 12.0).await;
    assert!(log.text().contains(&format!("end it: SELECT pg_terminate_backend({pid})")), "{}", log.text());
    let health = node.health().await.expect("it runs");
    assert!(health.healthy, "jobs run: {health:?}");

    dump.batch_execute("COMMIT").await.expect("it may");
    until("over", || age(&metrics, &scope) < 2.0 && log.text().contains("is over after")).await;
    assert_eq!(log.text().matches(&who).count(), 1, "it is said once");

    // A transaction that is prepared has no process.
    let prepare = "BEGIN; CREATE TABLE kept (); PREPARE TRANSACTION 'forgotten'";
    connect(&superuser).await.batch_execute(prepare).await.expect("it may");
    until("named", || log.text().contains("the prepared transaction \"forgotten\" has had a snapshot for"))
        .await;
    dump.batch_execute("ROLLBACK PREPARED 'forgotten'").await.expect("it may");
    until("over", || age(&metrics, &scope) < 2.0).await;
    node.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_standby_that_gives_feedback_is_named_and_so_is_its_slot() {
    let log = Log::keep();
    let primary = Server::start();
    let admin = connect(&primary.url()).await;
    admin.batch_execute("SELECT pg_create_physical_replication_slot('kept')").await.expect("it is made");
    let standby = Server::standby_of(&primary);
    let reader = connect(&standby.url()).await;
    for setting in ["hot_standby_feedback = on", "wal_receiver_status_interval = 1"] {
        reader.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.expect("it is set");
    }
    reader.batch_execute("SELECT pg_reload_conf()").await.expect("it reloads");
    let backend = Postgres::new(scope("standby"), primary.url()).lease(LEASE);
    let job = Job::new("job", every(Duration::from_millis(200))).run(async |_| {});
    let node = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");

    takes_snapshot(&reader).await;
    until("named", || log.text().contains("application \"walreceiver\") has had a snapshot for")).await;
    assert!(log.text().contains("set hot_standby_feedback = off there"), "{}", log.text());

    reader.batch_execute("COMMIT").await.expect("it may");
    reader.batch_execute("ALTER SYSTEM SET primary_slot_name = 'kept'").await.expect("it is set");
    reader.batch_execute("SELECT pg_reload_conf()").await.expect("it reloads");
    takes_snapshot(&reader).await;
    until("named", || log.text().contains("the replication slot \"kept\" has had a snapshot for")).await;
    node.shutdown(Duration::from_secs(5)).await;
}
