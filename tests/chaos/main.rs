//! A cluster of processes on a real PostgreSQL server, and everything that can be done to it: to the processes, to their clocks,
//! to the messages between them and the server, to the server, and on it. Afterwards what was promised is held against what is
//! known from outside.
//!
//! `cargo test --test chaos` does each fault once. `tests/soak [minutes] [seed]` mixes them.

#![allow(clippy::print_stdout, reason = "what happened, for whoever runs it with --nocapture")]

#[path = "../../examples/failover/audit.rs"]
mod audit;
mod auditor;
#[path = "../../examples/failover/books.rs"]
mod books;
mod clock;
#[path = "../../examples/failover/cluster.rs"]
mod cluster;
mod doctored;
mod faults;
#[path = "../common/postgres.rs"]
mod harness;
#[path = "../../examples/failover/history.rs"]
mod history;
#[path = "../../examples/failover/node.rs"]
mod node;
mod plan;
mod protections;
mod proxy;
mod report;
mod reporter;
mod stage;
mod store;
mod watch;
mod wire;

use std::{
    env,
    time::{Duration, Instant},
};

use chrono::Utc;
use tokio::sync::{Mutex, MutexGuard};

use self::{
    auditor::Verdict,
    faults::{Fault, OPEN},
    plan::Faults,
    stage::Stage,
};

/// The variable of `tests/soak`: for how many minutes, and with which seed.
const SOAK: &str = "CALLSHEET_SOAK";
/// The variable that names faults, with semicolons between, and how often each is to be done.
const ONLY: &str = "CALLSHEET_FAULTS";

/// The clusters of this file share two processors: one at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// A node of a cluster, if this process was started as one.
#[test]
fn a_node() {
    if let Ok(plan) = env::var(node::PLAN) {
        reporter::main(&plan).expect("a node");
    }
}

/// Does faults to a cluster until there are no more, and judges.
async fn campaign(name: &str, mut faults: impl FnMut() -> Option<(Fault, Duration)>) -> Verdict {
    let mut stage = Stage::start(name, &[]).await.expect("a cluster");
    let began = Utc::now();
    let mut failed = None;
    while let Some((fault, pause)) = faults() {
        stage.hold(pause).await;
        match stage.inflict(fault).await {
            Ok(round) => println!("{}", report::line(began, round)),
            Err(error) => {
                failed = Some(format!("{error:#}"));
                break;
            }
        }
    }
    let history = stage.close().await.expect("its books");
    let verdict = history.judge();
    for (fault, reason) in OPEN {
        println!("{fault}: not done unless asked for: {reason}");
    }
    println!("\n{}\n{}", report::table(&history, &verdict), report::verdict(began, &verdict));
    assert_eq!(failed, None);
    verdict
}

/// The faults that the environment asks for, or each that is survived once.
fn asked() -> Vec<Fault> {
    let Ok(asked) = env::var(ONLY) else { return Fault::survived() };
    let mut faults = Vec::new();
    for one in asked.split(';') {
        let (name, times) = one.split_once('*').unwrap_or((one, "1"));
        let named: Vec<_> = Fault::ALL.iter().filter(|fault| fault.name() == name.trim()).collect();
        let names = Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join("\n");
        assert_eq!(named.len(), 1, "{ONLY}: no fault {name:?}; there are\n{names}");
        let times = times.trim().parse::<usize>().expect("a number after the asterisk");
        faults.extend(named.into_iter().copied().cycle().take(times));
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_survived() {
    let _alone = alone().await;
    let verdict = match env::var(SOAK) {
        Ok(soak) => {
            let (minutes, seed) = soak.split_once(' ').expect("minutes and a seed");
            let minutes: u64 = minutes.parse().expect("a number of minutes");
            let mut faults = Faults::of(seed.parse().expect("a seed"));
            let until = Instant::now() + Duration::from_secs(minutes * 60);
            campaign("soak", || (Instant::now() < until).then(|| faults.next())).await
        }
        Err(_) => {
            let mut faults = asked().into_iter();
            campaign("each", || faults.next().map(|fault| (fault, Duration::ZERO))).await
        }
    };

    let broken: Vec<_> = verdict.broken.iter().map(|broken| &broken.what).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
