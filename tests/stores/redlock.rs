//! A quorum of three Redis servers that remember nothing when they end. One of them at a time is away.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    every_fault_is_survived,
    redis::harness::{Durability, PASSWORD, Server},
    store::Store,
};

struct Redlock {
    servers: [Server; 3],
    /// How often one was ended: the next one is another one each time.
    ended: AtomicUsize,
}

impl Redlock {
    fn start() -> Self {
        let start = |_| Server::start(Durability::Nothing);
        Self {
            servers: tokio::task::block_in_place(|| std::array::from_fn(start)),
            ended: AtomicUsize::new(0),
        }
    }

    /// The server whose turn it is.
    fn one(&self) -> &Server {
        &self.servers[self.ended.load(Ordering::Relaxed) % self.servers.len()]
    }
}

impl Store for Redlock {
    const NAME: &'static str = "redlock";
    const KEYS: bool = false;

    fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(Server::port).collect()
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        let urls: Vec<_> =
            ports.iter().map(|port| format!("redis://:{PASSWORD}@127.0.0.1:{port}/0")).collect();
        vec![("CALLSHEET_REDLOCK_URLS", urls.join(" "))]
    }

    fn stop(&self) {
        self.one().stop();
    }

    fn kill(&self) {
        self.one().kill();
    }

    fn start_again(&self) {
        self.one().start_again();
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_a_quorum_of_redis_servers_survives_every_fault() {
    every_fault_is_survived(Redlock::start()).await;
}
