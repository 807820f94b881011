//! Redis.

#[path = "../common/redis.rs"]
pub(crate) mod harness;

use self::harness::{Durability, PASSWORD, Server};
use super::{
    every_fault_is_survived, examples::the_examples_go_on, store::Store, what_is_not_promised_is_lost,
};

struct Redis(Server);

impl Redis {
    fn start(durability: Durability) -> Self {
        Self(tokio::task::block_in_place(|| Server::start(durability)))
    }
}

impl Store for Redis {
    const NAME: &'static str = "redis";

    fn ports(&self) -> Vec<u16> {
        vec![self.0.port()]
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        vec![("CALLSHEET_REDIS_URL", format!("redis://:{PASSWORD}@127.0.0.1:{}/0", ports[0]))]
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
async fn a_cluster_on_redis_survives_every_fault() {
    every_fault_is_survived(Redis::start(Durability::Always)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_server_that_writes_nothing_to_the_disk_loses_what_the_leader_knew() {
    what_is_not_promised_is_lost(Redis::start(Durability::Nothing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_go_on_on_redis_when_leaders_are_killed() {
    the_examples_go_on(Redis::start(Durability::Always)).await;
}
