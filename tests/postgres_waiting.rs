//! A follower waits for the leadership by one statement that keeps no old snapshot, which would stop pruning
//! in the whole database.

#[path = "common/postgres.rs"]
mod harness;

use std::time::{Duration, Instant};

use callsheet::{
    backend::Postgres,
    port::{Backend, Campaign},
};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn node(scope: &str) -> Postgres {
    open(Postgres::new(scope, server().url())).await
}

async fn open(node: Postgres) -> Postgres {
    let node = node.lease(Duration::from_mins(1));
    node.locker().open().await.expect("a session opens");
    node
}

/// Campaigns on and on, for as long as another node leads.
fn wait_for_the_leader(node: &Postgres) -> tokio::task::JoinHandle<Campaign> {
    let elector = node.elector();
    tokio::spawn(async move {
        loop {
            let campaign = elector.campaign(Duration::MAX).await.expect("an answer");
            if matches!(campaign, Campaign::Won(_)) {
                return campaign;
            }
        }
    })
}

/// A statement that waits for the leadership: when it began, and the oldest transaction that its snapshot
/// does not see the end of.
async fn waiting(admin: &Client, scope: &str) -> Option<(String, Option<String>)> {
    let waits = "SELECT query_start::text, backend_xmin::text FROM pg_stat_activity
                 WHERE application_name LIKE '% leadership % ' || $1 AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
    admin.query_opt(waits, &[&scope]).await.expect("an answer").map(|row| (row.get(0), row.get(1)))
}

#[tokio::test]
async fn a_follower_waits_with_one_statement_and_ever_new_snapshots() {
    let (scope, admin) = (scope("snapshots"), admin().await);
    let leader = node(&scope).await;
    assert!(matches!(leader.elector().campaign(Duration::MAX).await, Ok(Campaign::Won(_))));
    let follower = node(&scope).await;
    let waits = wait_for_the_leader(&follower);

    let until = Instant::now() + DEADLINE;
    let mut former = None;
    loop {
        assert!(Instant::now() < until, "no statement had two snapshots: {former:?}");
        // The next snapshot is a newer one.
        admin.query_one("SELECT pg_current_xact_id()", &[]).await.expect("an answer");
        let Some((began, snapshot)) = waiting(&admin, &scope).await else { continue };
        match &former {
            Some((statement, first)) if *statement == began && *first != snapshot => break,
            Some((statement, _)) if *statement == began => {}
            _ => former = Some((began, snapshot)),
        }
        sleep(Duration::from_millis(5)).await;
    }
    waits.abort();
}

#[tokio::test]
async fn the_servers_log_has_no_error_for_a_follower_that_waits() {
    let (scope, admin) = (scope("quiet"), admin().await);
    let leader = node(&scope).await;
    assert!(matches!(leader.elector().campaign(Duration::MAX).await, Ok(Campaign::Won(_))));
    let follower = node(&scope).await;

    // The first tells who leads, the second waits for that one.
    for _ in 0..2 {
        let lost = follower.elector().campaign(Duration::MAX).await.expect("an answer");
        assert!(matches!(lost, Campaign::Lost { leader: led, .. } if led == leader.node()), "{lost:?}");
    }

    drop(admin);
    let log = std::fs::read_to_string(server().socket_directory().join("log")).expect("a log");
    assert!(!log.contains("lock timeout"), "{log}");
}

#[tokio::test]
async fn a_waiting_follower_is_woken_by_the_end_of_the_term() {
    let scope = scope("woken");
    let (leader, follower, next) = (node(&scope).await, node(&scope).await, node(&scope).await);
    let Ok(Campaign::Won(grant)) = leader.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let waits = wait_for_the_leader(&follower);
    let admin = admin().await;
    let until = Instant::now() + DEADLINE;
    while waiting(&admin, &scope).await.is_none() {
        assert!(Instant::now() < until, "it does not wait");
        sleep(Duration::from_millis(5)).await;
    }

    leader.elector().resign(grant.term).await.expect("an answer");

    let won = tokio::time::timeout(DEADLINE, waits).await.expect("it is woken").expect("it does not panic");
    let Campaign::Won(second) = won else { panic!("{won:?}") };
    assert!(second.term > grant.term);
    let lost = next.elector().campaign(Duration::MAX).await.expect("an answer");
    assert!(matches!(lost, Campaign::Lost { leader: led, .. } if led == follower.node()), "{lost:?}");
}

/// A campaign is one statement of up to 3 s, and a session is idle for as long.
#[tokio::test]
async fn no_timeout_of_a_role_ends_what_a_node_waits_for() {
    let (scope, admin) = (scope("hurried"), admin().await);
    let role = "CREATE ROLE hurried LOGIN PASSWORD 'hurried'; GRANT CREATE ON DATABASE postgres TO hurried;
                ALTER ROLE hurried SET statement_timeout = '2s';
                ALTER ROLE hurried SET lock_timeout = '1ms';
                ALTER ROLE hurried SET idle_session_timeout = '300ms';
                ALTER ROLE hurried SET idle_in_transaction_session_timeout = '1ms'";
    admin.batch_execute(role).await.expect("a role");
    let url = format!("postgres://hurried:hurried@127.0.0.1:{}/postgres", server().port());
    let node = || open(Postgres::new(&scope, &url).schema("hurried"));
    let leader = node().await;
    let Ok(Campaign::Won(grant)) = leader.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let follower = node().await;

    // The first tells who leads, the second waits for that one in all of its slices.
    for _ in 0..2 {
        let lost = follower.elector().campaign(Duration::MAX).await.expect("an answer");
        assert!(matches!(lost, Campaign::Lost { leader: led, .. } if led == leader.node()), "{lost:?}");
    }

    let waits = wait_for_the_leader(&follower);
    leader.elector().resign(grant.term).await.expect("an answer");
    let won = tokio::time::timeout(DEADLINE, waits).await.expect("it is woken").expect("it does not panic");
    assert!(matches!(won, Campaign::Won(second) if second.term > grant.term));
}
