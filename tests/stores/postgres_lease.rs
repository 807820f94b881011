//! PostgreSQL behind PgBouncer in transaction mode.

#[path = "../common/postgres.rs"]
mod harness;
#[path = "../common/pgbouncer.rs"]
mod pooler;

use std::time::Duration;

use self::{
    harness::{Server, Stop},
    pooler::Pooler,
};
use super::{every_fault_is_survived, examples::the_examples_go_on, store::Store};

/// How many connections the pooler has to the server: fewer than the nodes have to it.
const CONNECTIONS: usize = 6;

struct Pooled {
    server: Server,
    pooler: Pooler,
}

impl Pooled {
    fn start() -> Self {
        tokio::task::block_in_place(|| {
            let server = Server::start();
            let pooler = Pooler::before(&server, CONNECTIONS);
            Self { server, pooler }
        })
    }
}

impl Store for Pooled {
    const NAME: &'static str = "postgres_lease";
    const LEASE: Duration = Duration::from_secs(3);

    fn ports(&self) -> Vec<u16> {
        vec![self.pooler.port()]
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        let url = self.pooler.url().replace(&self.pooler.port().to_string(), &ports[0].to_string());
        vec![("CALLSHEET_POSTGRES_LEASE_URL", url)]
    }

    fn stop(&self) {
        self.server.stop(Stop::Fast);
    }

    fn kill(&self) {
        self.server.stop(Stop::Immediate);
    }

    fn start_again(&self) {
        self.server.start_again();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_postgresql_behind_a_pooler_survives_every_fault() {
    every_fault_is_survived(Pooled::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_go_on_on_postgresql_behind_a_pooler_when_leaders_are_killed() {
    the_examples_go_on(Pooled::start()).await;
}
