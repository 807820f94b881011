//! Nodes of one application whose leader, and whose ticks of any node, a quorum gives away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use callsheet::{Callsheet, Fires, Job, backend::Elected, schedule::every};

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

/// A limit: the leader asks nobody for its ticks, and votes know nothing of what a leader started. Whoever changes who
/// fires a job stops it on all nodes first.
#[tokio::test]
async fn a_job_that_one_node_leads_and_another_fires_by_votes_runs_twice() {
    let quorum = Quorum::start(3).await;
    let runs: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let start = async |fires: Fires| {
        let runs = runs.clone();
        let job = Job::new("both", every(SECOND)).fires(fires).run(move |run| {
            let tick = run.fire_time().map(|tick| tick.to_string()).unwrap_or_default();
            *runs.lock().expect("no panic").entry(tick).or_default() += 1;
            async {}
        });
        let node = Callsheet::builder().job(job).backend(Elected::new(quorum.node("scope")));
        node.start().await.expect("it starts")
    };
    let leads = start(Fires::Leader).await;
    until("led", async || !runs.lock().expect("no panic").is_empty()).await;

    let votes = start(Fires::AnyNode).await;

    until("run twice", async || runs.lock().expect("no panic").values().any(|times| *times == 2)).await;
    votes.shutdown(SECOND).await;
    leads.shutdown(SECOND).await;
}
