//! Clusters that are larger than the others: more nodes, thousands of keys that are held at the same instant,
//! and more ticks than the server takes.

use std::time::Duration;

use rustix::process::Signal;

use super::{CLUSTERS_MAX, auditor::Verdict, node::JobPlan, stage::Stage, turns};

/// How large a cluster is.
struct Crowd {
    nodes: usize,
    /// Jobs with keys of their own that fire at the same instant, and hold their keys for a while.
    keys: usize,
    /// Jobs that fire every 20 ms.
    busy: usize,
    /// For how long it is looked at, between what is done to it.
    time: Duration,
}

/// The variable that asks for the large one.
const LARGE: &str = "CALLSHEET_LARGE";
/// The period of the jobs whose keys are held at once, and for how long they are.
const TOGETHER: Duration = Duration::from_secs(5);
const HELD: Duration = Duration::from_secs(1);

impl Crowd {
    fn asked() -> Self {
        if std::env::var_os(LARGE).is_some() {
            return Self { nodes: 20, keys: 12_000, busy: 400, time: Duration::from_secs(45) };
        }
        Self { nodes: 5, keys: 300, busy: 20, time: Duration::from_secs(4) }
    }

    fn jobs(&self) -> Vec<JobPlan> {
        let job = |name: String, period: Duration, takes: Duration| JobPlan {
            key: name.clone(),
            name,
            period_ms: u64::try_from(period.as_millis()).expect("it is short"),
            takes_ms: u64::try_from(takes.as_millis()).expect("it is short"),
            any_node: false,
        };
        let keys = (0..self.keys).map(|nth| job(format!("key {nth}"), TOGETHER, HELD));
        let busy =
            (0..self.busy).map(|nth| job(format!("busy {nth}"), Duration::from_millis(20), Duration::ZERO));
        let often = job("often".to_owned(), Duration::from_millis(100), Duration::ZERO);
        [often].into_iter().chain(keys).chain(busy).collect()
    }
}

async fn crowd(crowd: &Crowd) -> anyhow::Result<Verdict> {
    let mut stage = Stage::start_with("crowd", crowd.jobs(), crowd.nodes, &[]).await?;
    stage.hold(crowd.time).await;
    let leader = stage.a_leader().await?;
    stage.end(leader, Signal::KILL).await?;
    stage.succeeded(leader).await?;
    stage.hold(crowd.time).await;
    let leader = stage.a_leader().await?;
    stage.freeze(leader)?;
    stage.hold(crowd.time).await;
    stage.thaw(leader)?;
    stage.hold(crowd.time).await;
    let history = stage.close().await?;
    let verdict = history.judge();
    Ok(verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_is_survived() {
    // Alone: it takes all of the machine.
    let _turns = turns(CLUSTERS_MAX).await;

    let verdict = crowd(&Crowd::asked()).await.expect("a cluster");

    let broken: Vec<_> = verdict.broken.iter().map(|broken| &broken.what).collect();
    let audit = verdict.audit;
    println!(
        "a crowd: due {}, started {}, skipped {:?}, lost {}",
        audit.due, audit.started, audit.skipped, audit.lost
    );
    assert!(broken.is_empty(), "{broken:#?}");
}
