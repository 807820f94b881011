//! Clusters that are larger than the others: more nodes, thousands of keys that are held at the same instant,
//! and more ticks than the server takes.

use std::time::Duration;

use super::{
    CLUSTERS_MAX,
    auditor::{History, Verdict},
    faults::Fault,
    node::JobPlan,
    report,
    stage::Stage,
    turns,
};

/// How large a cluster is.
struct Crowd {
    nodes: usize,
    /// Jobs with keys of their own that fire at the same instant, and hold their keys for a while.
    keys: usize,
    /// Jobs that fire every 20 ms.
    busy: usize,
    /// For how long it is looked at, between what is done to it.
    time: Duration,
    lease: Duration,
}

/// The variable that asks for another size: nodes, keys, busy jobs, seconds between faults, and of the lease.
const CROWD: &str = "CALLSHEET_CROWD";
/// The period of the jobs whose keys are held at once, for each thousand of them, and its part for which they are
/// held.
const TOGETHER: Duration = Duration::from_secs(5);
const HELD: u32 = 3;
/// How their names begin.
const KEY: &str = "key ";
/// What is done to a crowd.
const FAULTS: [Fault; 3] = [Fault::KillLeader, Fault::Restart, Fault::FreezeHalf];

impl Crowd {
    fn asked() -> Self {
        let Ok(asked) = std::env::var(CROWD) else {
            let (time, lease) = (Duration::from_secs(2), Duration::from_secs(2));
            return Self { nodes: 5, keys: 300, busy: 20, time, lease };
        };
        let sizes: Vec<usize> = asked.split(' ').map(|size| size.parse().expect("a number")).collect();
        let [nodes, keys, busy, seconds, lease] = sizes[..] else { panic!("{CROWD}: five numbers") };
        let [time, lease] = [seconds, lease].map(|seconds| Duration::from_secs(seconds as u64));
        Self { nodes, keys, busy, time, lease }
    }

    fn jobs(&self) -> Vec<JobPlan> {
        let job = |name: String, period: Duration, takes: Duration| JobPlan {
            key: name.clone(),
            name,
            period_ms: u64::try_from(period.as_millis()).expect("it is short"),
            takes_ms: u64::try_from(takes.as_millis()).expect("it is short"),
            any_node: false,
        };
        let thousands = u32::try_from(self.keys.div_ceil(1_000)).expect("not so many");
        let together = TOGETHER * thousands.max(1);
        let keys = (0..self.keys).map(|nth| job(format!("{KEY}{nth}"), together, together / HELD));
        let busy =
            (0..self.busy).map(|nth| job(format!("busy {nth}"), Duration::from_millis(20), Duration::ZERO));
        let often = job("often".to_owned(), Duration::from_millis(100), Duration::ZERO);
        [often].into_iter().chain(keys).chain(busy).collect()
    }
}

async fn crowd(crowd: &Crowd) -> anyhow::Result<(History, Verdict)> {
    let mut stage = Stage::start_with("crowd", crowd.jobs(), crowd.nodes, crowd.lease, &[]).await?;
    for fault in FAULTS {
        stage.hold(crowd.time).await;
        stage.inflict(fault).await?;
    }
    stage.hold(crowd.time).await;
    let history = stage.close().await?;
    let verdict = history.judge();
    Ok((history, verdict))
}

/// The most of the keys that were held at the same instant.
fn held_at_once(history: &History) -> usize {
    let mut changes = Vec::new();
    for body in history.bodies.iter().filter(|body| body.key.starts_with(KEY)) {
        // One that never ended died with its node: nobody knows when.
        if let Some(ended_at) = body.ended_at {
            changes.extend([(body.started_at, 1), (ended_at, -1)]);
        }
    }
    changes.sort_unstable();
    let held = changes.iter().scan(0, |held: &mut isize, (_, change)| {
        *held += change;
        Some(*held)
    });
    held.max().unwrap_or(0).unsigned_abs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_is_survived() {
    // Alone: it takes all of the machine.
    let _turns = turns(CLUSTERS_MAX).await;
    let asked = Crowd::asked();

    let (history, verdict) = crowd(&asked).await.expect("a cluster");

    println!("\n{}", report::table(&[(&history, &verdict)]));
    let began = history.rounds[0].struck_at;
    println!("{}", report::verdict(began, &history, &verdict));
    let held = held_at_once(&history);
    let of_node = history.samples.iter().flat_map(|sample| &sample.holdings);
    let connections = of_node.clone().map(|holding| holding.connections).max();
    let locks = of_node.map(|holding| holding.locks).max();
    println!(
        "a crowd of {} nodes: {held} of {} keys held at once; of a node {connections:?} connections and {locks:?} \
         locks at most, in {} samples",
        asked.nodes,
        asked.keys,
        history.samples.len()
    );
    let broken: Vec<_> = verdict.broken.iter().map(|broken| &broken.what).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(2 * held > asked.keys, "{held} of {} keys were held at once", asked.keys);
}
