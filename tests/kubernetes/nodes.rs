//! Nodes of one application that elect their leader by a lease.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Callsheet, FireTime, Job,
    backend::Elected,
    port::{Election, Role},
    schedule::every,
};

use crate::{SECOND, Server, scope};

const PERIOD: Duration = Duration::from_millis(200);

/// How often each tick ran.
type Runs = Arc<Mutex<BTreeMap<FireTime, usize>>>;

async fn node(server: &Server, scope: &str, runs: &Runs) -> Callsheet {
    let runs = runs.clone();
    let job = Job::new("tick", every(PERIOD)).run(move |run| {
        let tick = FireTime::new(run.fire_time().expect("nobody triggers it"));
        *runs.lock().expect("nobody panicked").entry(tick).or_default() += 1;
        async {}
    });
    let backend = Elected::new(server.node(scope));
    Callsheet::builder().job(job).backend(backend).start().await.expect("it starts")
}

async fn go_on(runs: &Runs, ticks: usize) {
    let count = || runs.lock().expect("nobody panicked").len();
    let until = count() + ticks;
    let waiting = async {
        while count() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(60 * SECOND, waiting).await.expect("it goes on");
}

async fn leader(nodes: &[Callsheet]) -> usize {
    loop {
        for (at, node) in nodes.iter().enumerate() {
            if node.health().await.is_ok_and(|health| health.role == Role::Leader) {
                return at;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn three_nodes_run_each_tick_once_while_leaders_go_and_the_server_is_silent() {
    let server = Server::start();
    let (scope, runs) = (scope("nodes"), Runs::default());
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&server, &scope, &runs).await);
    }
    go_on(&runs, 10).await;

    let leads = leader(&nodes).await;
    nodes.remove(leads).shutdown(5 * SECOND).await;
    go_on(&runs, 10).await;

    if let Server::Stub(stub) = &server {
        stub.set_silent(true);
        tokio::time::sleep(3 * SECOND).await;
        stub.set_silent(false);
        go_on(&runs, 10).await;
    }

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    let runs = runs.lock().expect("nobody panicked");
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
}

#[tokio::test]
async fn two_nodes_of_one_process_are_two() {
    let server = Server::start();
    let nodes = [(); 2].map(|()| server.node("billing"));
    let ids: Vec<_> = nodes.iter().map(Election::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}
