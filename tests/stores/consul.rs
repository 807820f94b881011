//! Consul, as far as a stub of its published protocol is it: the servers lose their leader, and the agent is silent.

#[path = "../common/consul.rs"]
mod harness;

use std::time::Duration;

use self::harness::{Agent, Manner};
use super::{every_fault_is_survived, store::Store};

struct Consul(Agent);

impl Store for Consul {
    const NAME: &'static str = "consul";
    // The shortest that there is. A session lives for up to twice as long.
    const LEASE: Duration = Duration::from_secs(10);

    fn ports(&self) -> Vec<u16> {
        vec![self.0.port()]
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        vec![("CALLSHEET_CONSUL_URL", format!("http://127.0.0.1:{}", ports[0]))]
    }

    /// The servers elect a leader.
    fn stop(&self) {
        self.0.set(Manner { led: false, ..Manner::default() });
    }

    /// Nothing answers.
    fn kill(&self) {
        self.0.set(Manner { answers: false, ..Manner::default() });
    }

    fn start_again(&self) {
        self.0.set(Manner::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_consul_survives_every_fault() {
    every_fault_is_survived(Consul(Agent::start())).await;
}
