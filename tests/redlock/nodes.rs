//! Nodes of one application whose leader, and whose ticks of any node, a quorum gives away.

use callsheet::backend::Elected;

use super::{
    Quorum, SECOND,
    store::{Runs, leader, until},
};

#[tokio::test]
async fn three_nodes_run_each_tick_once_while_leaders_and_servers_go() {
    let quorum = Quorum::start(3).await;
    let runs = Runs::default();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(runs.node(Elected::new(quorum.node("scope"))).await);
    }
    runs.go_on(10).await;

    until("led", async || leader(&nodes).await.is_some()).await;
    let leads = leader(&nodes).await.expect("somebody leads");
    nodes.remove(leads).shutdown(5 * SECOND).await;
    runs.go_on(10).await;

    quorum.0[0].kill();
    runs.go_on(10).await;
    quorum.0[0].start_again();
    tokio::time::sleep(3 * SECOND).await;

    quorum.0[1].freeze();
    runs.go_on(10).await;
    quorum.0[1].thaw();

    // A majority: nothing runs by votes, and then all goes on.
    quorum.0[1].kill();
    quorum.0[2].kill();
    tokio::time::sleep(3 * SECOND).await;
    quorum.0[1].start_again();
    quorum.0[2].start_again();
    runs.go_on(10).await;

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
}
