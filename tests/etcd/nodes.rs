//! Nodes of one application on real servers.

use std::time::Duration;

use callsheet::{Callsheet, NodeId, StartError, backend::Etcd};

use super::{
    SECOND,
    harness::{self, Cluster, PASSWORD, server},
    store::{Runs, leader},
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_run_each_tick_once_while_leaders_go_and_servers_fail() {
    let cluster = Cluster::start();
    let runs = Runs::default();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(runs.node(Etcd::new("scope", cluster.url())).await);
    }
    runs.go_on(10).await;

    until("led", async || leader(&nodes).await.is_some()).await;
    let leads = leader(&nodes).await.expect("somebody leads");
    nodes.remove(leads).shutdown(5 * SECOND).await;
    runs.go_on(10).await;

    let killed = cluster.leader().await;
    cluster.servers[killed].kill();
    runs.go_on(10).await;
    cluster.start_again(killed);

    let frozen = cluster.leader().await;
    cluster.servers[frozen].freeze();
    tokio::time::sleep(8 * SECOND).await;
    runs.go_on(10).await;
    cluster.servers[frozen].thaw();
    runs.go_on(10).await;

    let parted = cluster.leader().await;
    cluster.cut_off(Some(parted));
    tokio::time::sleep(8 * SECOND).await;
    runs.go_on(10).await;
    cluster.cut_off(None);
    runs.go_on(10).await;

    cluster.servers.iter().for_each(harness::Server::kill);
    tokio::time::sleep(8 * SECOND).await;
    (0..3).for_each(|at| cluster.begin(at));
    runs.go_on(10).await;

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
    let admin = cluster.servers[0].client().await;
    let left = etcd_client::GetOptions::new().with_prefix().with_count_only();
    // One that was lost with the servers lives for as long as its lease.
    until("who goes in order leaves no session behind", async || {
        let found = admin.clone().get("callsheet/scope/session/", Some(left.clone())).await;
        found.is_ok_and(|found| found.count() == 0)
    })
    .await;
}

#[tokio::test]
async fn two_nodes_of_one_process_are_two() {
    let scope = harness::scope("identity");
    let nodes = [(); 2].map(|()| Etcd::new(&*scope, server().url()));
    let ids: Vec<Option<NodeId>> = nodes.iter().map(callsheet::port::Backend::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn bad_settings_are_all_reported_at_first_and_without_the_password() {
    let etcd = Etcd::new("", format!("http://me:{PASSWORD}@h:x")).lease(Duration::ZERO);
    let shown = format!("{etcd:?}");
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(etcd).start().await else {
        panic!("it started");
    };
    let text = faults.to_string();
    for what in ["etcd: scope", "etcd: lease", "etcd: url"] {
        assert!(text.contains(what), "{what} is missing in\n{text}");
    }
    assert!(!text.contains(PASSWORD) && !shown.contains(PASSWORD), "{text}\n{shown}");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_not_there_is_named_with_its_cure() {
    let wrong = server().url_of("nobody");
    let nobody = format!("http://me:{PASSWORD}@127.0.0.1:1");
    for (url, cure) in [(wrong, "authentication is not enabled"), (nobody, "Connection refused")] {
        let builder = Callsheet::builder().backend(Etcd::new("bad", &url)).connect_timeout(SECOND);
        let Err(error) = builder.start().await else { panic!("it started") };
        let text = error.to_string();
        assert!(text.contains(cure), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}
