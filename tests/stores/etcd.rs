//! etcd, one server.

#[path = "../common/etcd.rs"]
mod harness;

use std::time::Duration;

use self::harness::Server;
use super::{every_fault_is_survived, examples::the_examples_go_on, store::Store};

struct Etcd(Server);

impl Etcd {
    fn start() -> Self {
        Self(tokio::task::block_in_place(|| Server::start(&[])))
    }
}

impl Store for Etcd {
    const NAME: &'static str = "etcd";
    const LEASE: Duration = Duration::from_secs(3);

    fn ports(&self) -> Vec<u16> {
        vec![self.0.port()]
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        let url = self.0.url().replace(&self.0.port().to_string(), &ports[0].to_string());
        vec![("CALLSHEET_ETCD_URL", url)]
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn start_again(&self) {
        self.0.start_again();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_etcd_survives_every_fault() {
    every_fault_is_survived(Etcd::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_go_on_on_etcd_when_leaders_are_killed() {
    the_examples_go_on(Etcd::start()).await;
}
