//! MariaDB.

#[path = "../common/mysql.rs"]
mod harness;

use std::time::Duration;

use self::harness::Server;
use super::{every_fault_is_survived, examples::the_examples_go_on, store::Store};

struct Mysql(Server);

impl Mysql {
    fn start() -> Self {
        Self(tokio::task::block_in_place(Server::start))
    }
}

impl Store for Mysql {
    const NAME: &'static str = "mysql";
    const LEASE: Duration = Duration::from_secs(3);

    fn ports(&self) -> Vec<u16> {
        vec![self.0.port()]
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        let url = self.0.url().replace(&self.0.port().to_string(), &ports[0].to_string());
        vec![("CALLSHEET_MYSQL_URL", url)]
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
async fn a_cluster_on_mysql_survives_every_fault() {
    every_fault_is_survived(Mysql::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_go_on_on_mysql_when_leaders_are_killed() {
    the_examples_go_on(Mysql::start()).await;
}
