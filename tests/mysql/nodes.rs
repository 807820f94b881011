//! Nodes of one application on a real server.

use std::time::Duration;

use callsheet::{Callsheet, Job, NodeId, Overlap, StartError, backend::Mysql, schedule::every};

use super::{
    SECOND,
    harness::{self, PASSWORD, Server, server},
    store::{Runs, leader},
    until,
};

#[tokio::test]
async fn three_nodes_run_each_tick_once_while_leaders_go_and_the_server_is_killed() {
    let server = Server::start();
    let runs = Runs::default();
    let mysql = || Mysql::new("scope", server.url()).lease(2 * SECOND);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(runs.node(mysql()).await);
    }
    runs.go_on(10).await;

    until("led", async || leader(&nodes).await.is_some()).await;
    let leads = leader(&nodes).await.expect("somebody leads");
    nodes.remove(leads).shutdown(5 * SECOND).await;
    runs.go_on(10).await;

    server.kill();
    tokio::time::sleep(3 * SECOND).await;
    server.start_again();
    runs.go_on(10).await;

    server.freeze();
    tokio::time::sleep(3 * SECOND).await;
    server.thaw();
    runs.go_on(10).await;

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
    let left = server.ask("SELECT COUNT(*) FROM callsheet_sessions");
    assert_eq!(left.trim(), "0", "who goes in order leaves no session behind");
}

#[tokio::test]
async fn nodes_that_start_at_once_on_an_empty_database_all_start() {
    let server = Server::start();
    let runs = Runs::default();
    let nodes =
        futures_util::future::join_all((0..6).map(|_| runs.node(Mysql::new("scope", server.url())))).await;
    runs.go_on(3).await;
    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
}

#[tokio::test]
async fn a_job_that_replaces_its_run_is_refused_as_nobody_would_be_told() {
    let job = Job::new("replaces", every(SECOND)).overlap(Overlap::Replace).run(|_| async {});
    let mysql = Mysql::new(harness::scope("replace"), server().url());
    let Err(error) = Callsheet::builder().job(job).backend(mysql).start().await else { panic!("it started") };
    let text = error.to_string();
    assert!(text.contains("replaces") && text.contains("notifications"), "{text}");
}

#[tokio::test]
async fn two_nodes_of_one_process_are_two() {
    let scope = harness::scope("identity");
    let nodes = [(); 2].map(|()| Mysql::new(&*scope, server().url()));
    let ids: Vec<Option<NodeId>> = nodes.iter().map(callsheet::port::Backend::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first_and_without_the_password() {
    let mysql = Mysql::new("", format!("mysql://me:{PASSWORD}@h:x/app")).lease(Duration::ZERO);
    let shown = format!("{mysql:?}");
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(mysql).start().await else {
        panic!("it started");
    };
    let text = faults.to_string();
    for what in ["mysql: scope", "mysql: lease", "mysql: url"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !shown.contains(PASSWORD), "{text}\n{shown}");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_not_there_is_named_with_its_cure() {
    let wrong = server().url_as(harness::USER, "wrong-but-secret");
    let nobody = format!("mysql://me:{PASSWORD}@127.0.0.1:1/app");
    for (url, cure) in [(wrong, "check the user and the password"), (nobody, "whether the server runs")] {
        let builder = Callsheet::builder().backend(Mysql::new("bad", &url)).connect_timeout(SECOND);
        let Err(error) = builder.start().await else { panic!("it started") };
        let text = error.to_string();
        assert!(text.contains(cure), "{text}");
        assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
    }
}
