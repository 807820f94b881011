//! Nodes of one application on a real server.

use std::time::Duration;

use callsheet::{Callsheet, NodeId, StartError, backend::Redis};

use super::{
    SECOND,
    harness::{self, Durability, PASSWORD, Server, server},
    store::{Runs, leader},
    until,
};

#[tokio::test]
async fn three_nodes_run_each_tick_once_while_leaders_go_and_the_server_is_killed() {
    let server = Server::start(Durability::Always);
    let runs = Runs::default();
    let redis = || Redis::new("scope", server.url()).lease(2 * SECOND);
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(runs.node(redis()).await);
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
    let left = server.ask("EVAL \"return #redis.call('KEYS', '*session*')\" 0");
    assert!(left.contains(":0\r\n"), "who goes in order leaves no session behind: {left}");
}

#[tokio::test]
async fn two_nodes_of_one_process_are_two() {
    let scope = harness::scope("identity");
    let nodes = [(); 2].map(|()| Redis::new(&*scope, server().url()));
    let ids: Vec<Option<NodeId>> = nodes.iter().map(callsheet::port::Backend::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first_and_without_the_password() {
    let redis = Redis::new("", format!("redis://me:{PASSWORD}@h:x")).lease(Duration::ZERO);
    let shown = format!("{redis:?}");
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(redis).start().await else {
        panic!("it started");
    };
    let text = faults.to_string();
    for what in ["redis: scope", "redis: lease", "redis: url"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !shown.contains(PASSWORD), "{text}\n{shown}");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_not_there_is_named_with_its_cure() {
    let wrong = server().url_with("wrong-but-secret");
    let nobody = format!("redis://:{PASSWORD}@127.0.0.1:1");
    for (url, cure) in [(wrong, "check the user and the password"), (nobody, "Connection refused")] {
        let builder = Callsheet::builder().backend(Redis::new("bad", &url)).connect_timeout(SECOND);
        let Err(error) = builder.start().await else { panic!("it started") };
        let text = error.to_string();
        assert!(text.contains(cure), "{text}");
        assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
    }
}
