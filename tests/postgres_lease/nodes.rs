//! Nodes of one application through a pooler.

use std::time::Duration;

use callsheet::{Callsheet, Job, NodeId, Overlap, StartError, backend::PostgresLease, schedule::every};

use super::{
    SECOND, ask,
    harness::{self, PASSWORD, Server, Stop},
    pooler,
    pooler::Pooler,
    store::{Runs, leader},
    until,
};

#[tokio::test]
async fn three_nodes_run_each_tick_once_while_leaders_go_and_server_and_pooler_are_killed() {
    let server = Server::start();
    let pooler = Pooler::before(&server, 4);
    let runs = Runs::default();
    let lease = || PostgresLease::new("scope", pooler.url()).lease(2 * SECOND);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(runs.node(lease()).await);
    }
    runs.go_on(10).await;

    until("led", async || leader(&nodes).await.is_some()).await;
    let leads = leader(&nodes).await.expect("somebody leads");
    nodes.remove(leads).shutdown(5 * SECOND).await;
    runs.go_on(10).await;

    pooler.kill();
    tokio::time::sleep(3 * SECOND).await;
    pooler.start_again();
    runs.go_on(10).await;

    server.stop(Stop::Immediate);
    tokio::time::sleep(3 * SECOND).await;
    server.start_again();
    runs.go_on(10).await;

    pooler.freeze();
    tokio::time::sleep(3 * SECOND).await;
    pooler.thaw();
    runs.go_on(10).await;

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
    let left = ask(&server, "SELECT id FROM callsheet_lease.sessions").await;
    assert_eq!(left, [] as [&str; 0], "who goes in order leaves no session behind");
}

#[tokio::test]
async fn nodes_that_start_at_once_on_an_empty_database_all_start() {
    let server = Server::start();
    let pooler = Pooler::before(&server, 6);
    let runs = Runs::default();
    let starts = (0..6).map(|_| runs.node(PostgresLease::new("scope", pooler.url())));
    let nodes = futures_util::future::join_all(starts).await;
    runs.go_on(3).await;
    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
}

#[tokio::test]
async fn a_job_that_replaces_its_run_is_refused_as_nobody_would_be_told() {
    let job = Job::new("replaces", every(SECOND)).overlap(Overlap::Replace).run(|_| async {});
    let lease = PostgresLease::new(harness::scope("replace"), pooler().url());
    let Err(error) = Callsheet::builder().job(job).backend(lease).start().await else { panic!("it started") };
    let text = error.to_string();
    assert!(text.contains("replaces") && text.contains("notifications"), "{text}");
}

#[tokio::test]
async fn two_nodes_of_one_process_are_two() {
    let scope = harness::scope("identity");
    let nodes = [(); 2].map(|()| PostgresLease::new(&*scope, pooler().url()));
    let ids: Vec<Option<NodeId>> = nodes.iter().map(callsheet::port::Backend::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first_and_without_the_password() {
    let lease = PostgresLease::new("", format!("postgres://me:{PASSWORD}@h:x/app"))
        .lease(Duration::ZERO)
        .schema("pg_x");
    let shown = format!("{lease:?}");
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(lease).start().await else {
        panic!("it started");
    };
    let text = faults.to_string();
    for what in ["postgres_lease: scope", "postgres_lease: schema", "postgres_lease: lease", "postgres: url"]
    {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !shown.contains(PASSWORD), "{text}\n{shown}");
}
