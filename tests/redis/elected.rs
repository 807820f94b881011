//! A leader alone, elected on a real server: claims are in its memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Callsheet, FireTime, Job,
    backend::{Elected, Redis},
    port::Role,
    schedule::every,
};

use super::{
    SECOND,
    harness::{Durability, Server},
    until,
};

#[tokio::test]
async fn three_nodes_that_only_elect_start_no_tick_twice_while_leaders_go_and_the_server_is_frozen() {
    let server = Server::start(Durability::Always);
    let runs: Arc<Mutex<BTreeMap<FireTime, usize>>> = Arc::default();
    let node = async || {
        let runs = runs.clone();
        let job = Job::new("tick", every(Duration::from_millis(200))).run(move |run| {
            let tick = FireTime::new(run.fire_time().expect("nobody triggers it"));
            *runs.lock().expect("nobody panicked").entry(tick).or_default() += 1;
            async {}
        });
        let backend = Elected::over(Redis::new("scope", server.url()).lease(2 * SECOND));
        Callsheet::builder().job(job).backend(backend).start().await.expect("it starts")
    };
    let ticks = || runs.lock().expect("nobody panicked").len();
    let go_on = async || {
        let before = ticks();
        until("at work", async || ticks() >= before + 10).await;
    };
    let mut nodes = vec![node().await, node().await, node().await];
    go_on().await;

    let mut leads = 0;
    for (at, node) in nodes.iter().enumerate() {
        if node.health().await.is_ok_and(|health| health.role == Role::Leader) {
            leads = at;
        }
    }
    nodes.remove(leads).shutdown(5 * SECOND).await;
    go_on().await;

    server.freeze();
    tokio::time::sleep(3 * SECOND).await;
    server.thaw();
    go_on().await;

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    let runs = runs.lock().expect("nobody panicked");
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
}
