//! Clusters of three processes on each store that has a real server: leaders are killed, stopped and told to stop, the
//! server is restarted and killed, and nodes are cut off from it. Afterwards each tick has run once, or somebody said
//! why not; and what a store does not promise is shown to be so.
//!
//! `cargo test --test stores` does each fault once, `tests/soak stores [times]` more often. A store is added by a file
//! with its server ([`Store`]) and its tests.

#![allow(clippy::print_stdout, reason = "what happened, for whoever runs it with --nocapture")]
// Each includes what others use of it as well.
#![allow(dead_code)]
#![allow(clippy::duplicate_mod, reason = "each harness of a server brings what it stands on")]

#[path = "../../examples/failover/audit.rs"]
mod audit;
#[path = "../../examples/failover/cluster.rs"]
mod cluster;
mod consul;
mod doctored;
mod etcd;
#[path = "../common/example.rs"]
mod example;
mod examples;
mod fault;
#[path = "../../examples/failover/history.rs"]
mod history;
mod mysql;
#[path = "../../examples/failover/node.rs"]
mod node;
mod postgres_lease;
#[path = "../process/mod.rs"]
mod process;
#[path = "../common/proxy.rs"]
mod proxy;
mod redis;
mod redlock;
#[path = "../chaos/reporter.rs"]
mod reporter;
mod sentinel;
mod stage;
mod store;
#[path = "../../examples/failover/ticks.rs"]
mod ticks;

use std::env;

use tokio::sync::Semaphore;

use self::{audit::Audit, fault::Fault, stage::Stage, store::Store};

/// The variable that says how often each fault is done.
const TIMES: &str = "CALLSHEET_STORES_TIMES";

/// Clusters share two processors: one at a time.
static TURNS: Semaphore = Semaphore::const_new(1);

/// A node of a cluster, if this process was started as one.
#[test]
fn a_node() {
    if let Ok(plan) = env::var(node::PLAN) {
        reporter::main(&plan).expect("a node");
    }
}

/// Does faults to a cluster, each so often, and judges.
async fn judged<S: Store>(store: S, faults: &[Fault], times: usize) -> Audit {
    let _turn = TURNS.acquire().await.expect("it is never closed");
    let mut stage = Stage::start(store).await.expect("a cluster");
    for nth in 0..times {
        for fault in faults {
            let told =
                stage.inflict(*fault, nth).await.unwrap_or_else(|error| panic!("{fault:?}: {error:#}"));
            println!("{}: {told}", S::NAME);
        }
    }
    let audit = stage.close().await.expect("what is known").audit();
    let Audit { due, started, skipped, unsaid, lost, doubled, broken, .. } = &audit;
    println!(
        "{}: due {due}, started {started}, skipped {skipped:?}, unsaid {unsaid}, lost {lost}, doubled {doubled}",
        S::NAME
    );
    broken.iter().for_each(|broken| println!("{}: BROKEN: {broken}", S::NAME));
    audit
}

/// Does each fault to a cluster on a store that loses nothing: every promise is kept.
async fn every_fault_is_survived<S: Store>(store: S) {
    let times = env::var(TIMES).map_or(1, |times| times.parse().expect("a number"));
    let audit = judged(store, &Fault::ALL, times).await;

    assert!(audit.broken.is_empty(), "{:#?}", audit.broken);
    // How many is a matter of the machine. That all jobs run again is waited for after each fault.
    assert!(audit.started > 0, "of {} ticks", audit.due);
    // What a node did not live to say: a few ticks of each fault at most.
    let unsaid_max = 20 * times * Fault::ALL.len();
    assert!(audit.unsaid <= unsaid_max, "{} ticks of which nobody spoke", audit.unsaid);
}

/// The server forgets, together with the node that knows: the promises that need what it knew are broken.
async fn what_is_not_promised_is_lost<S: Store>(forgetful: S) {
    let audit = judged(forgetful, &[Fault::ServerForgets], 1).await;

    let missing = audit.ticks.values().filter(|what| *what == "missing").count();
    assert!(missing > 0, "no tick is lost in silence: this server forgets nothing");
}
