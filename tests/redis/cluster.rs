//! A cluster of servers, of which one has the keys of a scope.

use std::{net::TcpListener, time::Instant};

use callsheet::{
    backend::Redis,
    port::{RecordsError, Version},
};

use super::{
    SECOND, SOON,
    harness::{PASSWORD, Server},
    stored, until, write,
};

/// Two servers that know each other, each with half of the slots.
async fn cluster() -> [Server; 2] {
    let free_port =
        || TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
    let ports = [free_port(), free_port()];
    let servers = ports.map(|port| {
        Server::start_with(&format!("cluster-enabled yes\ncluster-port {port}\ncluster-node-timeout 1000"))
    });
    for (server, slots) in servers.iter().zip(["0 8191", "8192 16383"]) {
        assert!(server.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")).contains("+OK"));
    }
    let [one, other] = &servers;
    one.ask(&format!("CLUSTER MEET 127.0.0.1 {} {}", other.port(), ports[1]));
    until("a cluster", async || {
        servers.iter().all(|server| server.ask("CLUSTER INFO").contains("cluster_state:ok"))
    })
    .await;
    servers
}

#[tokio::test]
async fn whichever_server_of_a_cluster_is_named_the_one_that_has_the_keys_is_found() {
    let servers = cluster().await;
    let scopes = ["a", "b", "c", "d", "e", "f"];
    for scope in scopes {
        let [one, other] = servers.each_ref().map(|server| Redis::new(scope, server.url()).records());
        write(&*one, "job", Version::ABSENT, "here").await;
        assert_eq!(stored(&*other, "job").await.as_deref(), Some("here"), "{scope}");
        one.open(5 * SECOND).await.expect("a session");
    }
    let kept = servers.each_ref().map(|server| server.ask("DBSIZE"));
    assert!(kept.iter().all(|kept| !kept.ends_with(":0\r\n")), "both have some: {kept:?}");
}

#[tokio::test]
async fn a_cluster_that_has_lost_a_server_is_unavailable() {
    let servers = cluster().await;
    let [first, second] = &servers;
    let records = Redis::new("a", first.url()).records();
    let session = records.open(5 * SECOND).await.expect("a session");

    second.kill();

    let deadline = Instant::now() + SOON;
    loop {
        match records.renew(session).await {
            Err(RecordsError::Unavailable { reason } | RecordsError::NotDone { reason }) => {
                assert!(!reason.contains(PASSWORD), "{reason}");
                break;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(SECOND / 10).await;
    }
}
