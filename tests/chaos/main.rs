//! A cluster of processes on a real PostgreSQL server, and everything that can be done to it: to the
//! processes, to their clocks, to the messages between them and the server, to the server, and on it.
//! Afterwards what was promised is held against what is known from outside.
//!
//! `cargo test --test chaos` does each fault once. `tests/soak [minutes] [seed]` mixes them.

#![allow(clippy::print_stdout, reason = "what happened, for whoever runs it with --nocapture")]

#[path = "../../examples/failover/audit.rs"]
mod audit;
mod auditor;
#[path = "../../examples/failover/books.rs"]
mod books;
mod calm;
mod clock;
#[path = "../../examples/failover/cluster.rs"]
mod cluster;
mod crowd;
mod doctored;
mod faults;
mod footprints;
#[path = "../common/freeze.rs"]
mod freeze;
#[path = "../common/postgres.rs"]
mod harness;
#[path = "../../examples/failover/history.rs"]
mod history;
mod latecomers;
#[path = "../../examples/failover/node.rs"]
mod node;
mod pace;
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
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::{
    auditor::{History, Verdict},
    faults::{Fault, OPEN},
    plan::Faults,
    stage::Stage,
};

/// The variable of `tests/soak`: for how many minutes, and with which seed.
const SOAK: &str = "CALLSHEET_SOAK";
/// The variable that names faults, with semicolons between, and how often each is to be done.
const ONLY: &str = "CALLSHEET_FAULTS";
/// The variable that says how many clusters share them; one, if it is not there.
const CLUSTERS: &str = "CALLSHEET_CLUSTERS";
/// What [`ONLY`] calls all faults that it does not name, and that are survived.
const REST: &str = "rest";
/// The most clusters at once: they wait most of the time, and share two processors.
const CLUSTERS_MAX: usize = 3;
/// The clusters that share the faults of a short round.
const SHARED_BY: usize = 2;

/// The turn of so many clusters.
async fn turns(clusters: usize) -> SemaphorePermit<'static> {
    static TURNS: Semaphore = Semaphore::const_new(CLUSTERS_MAX);
    let clusters = u32::try_from(clusters).expect("a few");
    TURNS.acquire_many(clusters).await.expect("it is never closed")
}

/// A node of a cluster, if this process was started as one.
#[test]
fn a_node() {
    if let Ok(plan) = env::var(node::PLAN) {
        reporter::main(&plan).expect("a node");
    }
}

/// The faults that are still to be done, and how long to wait before each.
type Queue = Arc<Mutex<dyn FnMut() -> Option<(Fault, Duration)> + Send>>;

/// What became of one cluster.
struct Campaign {
    history: History,
    verdict: Verdict,
    /// Why it ended before there were no more faults.
    failed: Option<String>,
}

/// Does faults to a cluster until there are no more, and judges.
async fn campaign(cluster: String, began: DateTime<Utc>, faults: Queue) -> Campaign {
    let _turn = turns(1).await;
    let mut stage = Stage::start(&cluster, &[]).await.expect("a cluster");
    let mut failed = None;
    loop {
        let next = faults.lock().unwrap_or_else(PoisonError::into_inner)();
        let Some((fault, pause)) = next else { break };
        stage.hold(pause).await;
        match stage.inflict(fault).await {
            Ok(round) => println!("{cluster} {}", report::line(began, round)),
            Err(error) => {
                failed = Some(format!("{cluster}: {error:#}"));
                break;
            }
        }
    }
    let history = stage.close().await.expect("its books");
    let verdict = history.judge();
    Campaign { history, verdict, failed }
}

/// Does faults to so many clusters at once, until there are no more, and tells what became of them. Answers
/// what was broken.
async fn campaigns(
    name: &str,
    clusters: usize,
    faults: impl FnMut() -> Option<(Fault, Duration)> + Send + 'static,
) -> Vec<String> {
    let began = Utc::now();
    let faults: Queue = Arc::new(Mutex::new(faults));
    let all = (0..clusters).map(|nth| tokio::spawn(campaign(format!("{name}_{nth}"), began, faults.clone())));
    let all: Vec<_> = join_all(all).await.into_iter().map(|done| done.expect("a campaign")).collect();
    for (fault, reason) in OPEN {
        println!("{fault}: not done unless asked for: {reason}");
    }
    let told: Vec<_> = all.iter().map(|it| (&it.history, &it.verdict)).collect();
    println!("\n{}", report::table(&told));
    for (history, verdict) in &told {
        println!("{}", report::verdict(began, history, verdict));
    }
    let failed = all.iter().filter_map(|it| it.failed.clone());
    failed.chain(told.iter().flat_map(|(_, it)| it.broken.iter().map(|broken| broken.what.clone()))).collect()
}

/// The faults that the environment asks for.
fn asked(asked: &str) -> Vec<Fault> {
    let names = Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join("\n");
    let of = |name: &str| Fault::ALL.iter().copied().find(|fault| fault.name() == name);
    let mut wanted = Vec::new();
    for one in asked.split(';') {
        let (name, times) = one.split_once('*').unwrap_or((one, "1"));
        let (name, times) =
            (name.trim(), times.trim().parse::<usize>().expect("a number after the asterisk"));
        let fault = of(name);
        assert!(fault.is_some() || name == REST, "{ONLY}: no fault {name:?}; there are\n{names}");
        wanted.push((fault, times));
    }
    let mut all = Vec::new();
    for (fault, times) in &wanted {
        let is_named = |fault: &Fault| wanted.iter().any(|(named, _)| *named == Some(*fault));
        let rest = || Fault::survived().into_iter().filter(|fault| !is_named(fault)).collect();
        let faults: Vec<_> = fault.map_or_else(rest, |fault| vec![fault]);
        all.extend(faults.into_iter().flat_map(|fault| std::iter::repeat_n(fault, *times)));
    }
    all
}

#[test]
fn the_rest_is_what_is_not_named() {
    let all = asked("leader killed*2; rest*3");

    let survived = Fault::survived();
    assert_eq!(all.len(), 2 + 3 * (survived.len() - 1));
    assert!(survived.iter().all(|fault| all.contains(fault)));
    assert_eq!(&all[..2], [Fault::KillLeader; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_is_survived() {
    let each = |faults: Vec<Fault>| {
        let mut faults = faults.into_iter();
        move || faults.next().map(|fault| (fault, Duration::ZERO))
    };
    let broken = match (env::var(SOAK), env::var(ONLY)) {
        (Ok(soak), _) => {
            let (minutes, seed) = soak.split_once(' ').expect("minutes and a seed");
            let minutes: u64 = minutes.parse().expect("a number of minutes");
            let mut faults = Faults::of(seed.parse().expect("a seed"));
            let until = Instant::now() + Duration::from_secs(minutes * 60);
            // One alone: what happens to it follows from the seed.
            campaigns("soak", 1, move || (Instant::now() < until).then(|| faults.next())).await
        }
        (_, Ok(only)) => {
            let clusters = env::var(CLUSTERS).map_or(1, |clusters| clusters.parse().expect("a number"));
            campaigns("asked", clusters, each(asked(&only))).await
        }
        _ => campaigns("each", SHARED_BY, each(Fault::survived())).await,
    };

    assert!(broken.is_empty(), "{broken:#?}");
}
