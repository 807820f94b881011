//! The port when the agent, or the way to it, fails.

use std::time::{Duration, Instant};

use callsheet::{
    Callsheet, NodeId,
    backend::Consul,
    port::{Commit, Committed, Heard, RecordsError, Version},
};
use futures_util::StreamExt;

use super::{
    SECOND, SOON, alive,
    harness::{Agent, Manner},
    made,
    proxy::Proxy,
    put,
    store::{Runs, leader},
    stored, telling, until, write,
};

fn url_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_done_once() {
    let agent = Agent::start();
    let proxy = Proxy::to(agent.port()).await;
    let records = Consul::new("scope", url_at(proxy.port())).deadline(SECOND / 5).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    proxy.lose_answers(true);
    let lost = records.commit(&put("job", version, "two")).await;
    proxy.lose_answers(false);

    assert_eq!(lost, Err(RecordsError::Timeout));
    until("the record is read", async || records.read(&[], &[]).await.is_ok()).await;
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("two"), "it was made");
    let again = records.commit(&put("job", version, "three")).await.expect("an answer");
    assert_eq!(made(&again), None, "who asks again finds that it was");
}

#[tokio::test]
async fn whoever_listens_is_told_that_hints_were_missed_while_the_connection_was_away() {
    let agent = Agent::start();
    let proxy = Proxy::to(agent.port()).await;
    let listens = Consul::new("scope", url_at(proxy.port())).records();
    let mut hints = listens.subscribe().await.expect("a subscription");
    let tells = Consul::new("scope", agent.url()).records();
    let tell = async |what: &str| {
        tells.commit(&telling(what)).await.expect("an answer");
    };
    let mut heard =
        async || tokio::time::timeout(SOON, hints.next()).await.expect("soon").expect("it goes on");

    tell("before").await;
    assert_eq!(heard().await, Heard::Hint(b"before".as_slice().into()));
    proxy.cut();
    assert_eq!(heard().await, Heard::Lagged);
    tell("after").await;
    assert_eq!(heard().await, Heard::Hint(b"after".as_slice().into()));
}

#[tokio::test]
async fn a_silent_agent_fails_calls_within_their_deadline_and_the_next_one_is_asked() {
    let agent = Agent::start();
    let proxies = [Proxy::to(agent.port()).await, Proxy::to(agent.port()).await];
    let url = format!("http://127.0.0.1:{},127.0.0.1:{}", proxies[0].port(), proxies[1].port());
    let deadline = Duration::from_millis(300);
    let records = Consul::new("scope", url).deadline(deadline).records();
    let session = records.open(10 * SECOND).await.expect("it opens");

    proxies[0].lose_answers(true);
    let asked_at = Instant::now();
    assert_eq!(records.renew(session).await, Err(RecordsError::Timeout));
    assert!(asked_at.elapsed() < 5 * deadline, "{:?}", asked_at.elapsed());
    assert_eq!(records.renew(session).await, Ok(true), "by way of the other one");
}

#[tokio::test]
async fn a_session_that_is_not_renewed_ends_for_good_after_twice_its_time() {
    let agent = Agent::start();
    let records = Consul::new("scope", agent.url()).records();
    let session = records.open(10 * SECOND).await.expect("it opens");
    let opened_at = Instant::now();
    until("gone", async || !alive(&*records, session).await).await;
    assert!(opened_at.elapsed() >= 19 * SECOND, "{:?}", opened_at.elapsed());

    assert_eq!(records.renew(session).await, Ok(false));
    let guarded = Commit { alive: vec![session], ..put("job", Version::ABSENT, "late") };
    assert_eq!(records.commit(&guarded).await, Ok(Committed::Dead(session)));
}

#[tokio::test]
async fn three_nodes_run_each_tick_once_while_the_leader_goes_and_the_agent_is_silent() {
    let agent = Agent::start();
    let runs = Runs::default();
    let mut nodes: Vec<Callsheet> = Vec::new();
    for _ in 0..3 {
        nodes.push(runs.node(Consul::new("scope", agent.url())).await);
    }
    runs.go_on(10).await;
    until("led", async || leader(&nodes).await.is_some()).await;
    let leads = leader(&nodes).await.expect("somebody leads");
    nodes.remove(leads).shutdown(5 * SECOND).await;
    runs.go_on(10).await;

    agent.set(Manner { answers: false, ..Manner::default() });
    tokio::time::sleep(6 * SECOND).await;
    agent.set(Manner::default());
    runs.go_on(10).await;
    agent.set(Manner { led: false, ..Manner::default() });
    tokio::time::sleep(6 * SECOND).await;
    agent.set(Manner::default());
    runs.go_on(10).await;

    for node in nodes {
        node.shutdown(5 * SECOND).await;
    }
    assert_eq!(runs.twice(), []);
    assert_eq!(agent.sessions(), 0, "who goes in order leaves no session behind");
}

#[tokio::test]
async fn two_nodes_of_one_process_are_two() {
    let nodes = [(); 2].map(|()| Consul::new("identity", "http://127.0.0.1:1"));
    let ids: Vec<Option<NodeId>> = nodes.iter().map(callsheet::port::Backend::node).collect();

    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}
