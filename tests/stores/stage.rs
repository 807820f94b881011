//! A cluster of three nodes on a store, each behind proxies of its own. Their bodies write to a file.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::{
    cluster::Cluster,
    fault::Fault,
    history::Said,
    node::{FILE, JobPlan, Plan},
    proxy::{Flow, Proxy},
    store::Store,
    ticks::{Away, Known, read_marks},
};

/// How many nodes there are between two faults.
const NODES: usize = 3;
/// How many nodes may end at a time before they reach the store.
const REFUSED_MAX: usize = 3;
/// How long a cluster rests between two faults.
const CALM: Duration = Duration::from_secs(1);
/// How much longer than a lease a fault lasts that outlives it.
const BEYOND_THE_LEASE: Duration = Duration::from_secs(2);
/// The job that runs once while a replica lags behind.
const SELDOM: &str = "seldom";
/// For how long a server is away.
const OUTAGE: Duration = Duration::from_millis(1_500);
/// How long the cluster may take to be as before once a fault is over.
const RECOVERY_MAX: Duration = Duration::from_secs(45);
/// How often the harness looks for what it waits for.
const LOOK: Duration = Duration::from_millis(20);
/// The name of all nodes, which are different ones all the same.
const NAME: &str = "of-the-cluster";
/// The test that is a node.
const NODE_TEST: &str = "a_node";

/// Twenty jobs: often and seldom, alone and together, shorter and longer than their periods, under election and
/// without.
///
/// Without keys that hold for all nodes, a job that any node fires has one of its own, and runs that are over at once.
fn jobs(keys: bool) -> Vec<JobPlan> {
    const PERIODS: [u64; 10] = [250, 500, 500, 700, 1_000, 1_000, 1_500, 2_000, 2_000, 3_000];
    let job = |nth: usize| {
        let any_node = nth % 4 == 3;
        let alone = any_node && !keys;
        JobPlan {
            name: format!("job {nth}"),
            // Each fifth shares the key of the one before.
            key: format!(
                "key {}",
                if nth % 5 == 4 && !alone { nth - 1 } else { nth + if alone { 100 } else { 0 } }
            ),
            period_ms: PERIODS[nth % PERIODS.len()],
            // Some are longer than their periods.
            takes_ms: if alone { 0 } else { [0, 50, 120, 700, 1_600][nth % 5] },
            any_node,
        }
    };
    (0..20).map(job).collect()
}

/// A job whose last tick is still the newest one after a fail-over.
fn seldom() -> JobPlan {
    let (name, key) = (SELDOM.to_owned(), SELDOM.to_owned());
    JobPlan { name, key, period_ms: 12_000, takes_ms: 0, any_node: false }
}

pub(crate) struct Stage<S> {
    store: S,
    cluster: Cluster,
    /// Of each node.
    proxies: Vec<Vec<Proxy>>,
    plan: Plan,
    directory: TempDir,
    from: DateTime<Utc>,
    away: Vec<Away>,
}

impl<S: Store> Stage<S> {
    /// Starts the nodes, and waits until each job was decided once.
    pub(crate) async fn start(store: S) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("callsheet-stores-")?;
        let marks = directory.path().join("marks");
        let plan = Plan {
            node: 0,
            scope: Some("stores".to_owned()),
            url: String::new(),
            bodies_url: format!("{FILE}{}", marks.display()),
            schema: String::new(),
            lease: S::LEASE,
            jobs: jobs(S::KEYS).into_iter().chain(S::LAGS.then(seldom)).collect(),
        };
        let mut stage = Self {
            store,
            cluster: Cluster::new(),
            proxies: Vec::new(),
            plan,
            directory,
            from: Utc::now(),
            away: Vec::new(),
        };
        stage.fill_up().await?;
        let heard_of_all = |stage: &Self| {
            let of_tick = |said: &Said| said.fire_time.and(said.job.clone());
            let jobs: BTreeSet<_> =
                stage.cluster.heard.iter().filter_map(|(_, said)| of_tick(said)).collect();
            jobs.len() == stage.plan.jobs.len()
        };
        stage.until("each job decided", heard_of_all).await?;
        stage.until("a leader", |stage| stage.leader().is_some()).await?;
        stage.from = Utc::now();
        Ok(stage)
    }

    /// Starts nodes until there are as many as there should be. One that does not reach the store in time, as it may be
    /// on a busy machine, ends, and the next one is started.
    async fn fill_up(&mut self) -> anyhow::Result<()> {
        let mut refused = 0;
        while self.living().count() < NODES {
            let node = self.proxies.len();
            let mut proxies = Vec::new();
            for port in self.store.ports() {
                proxies.push(Proxy::to(port).await);
            }
            let ports: Vec<_> = proxies.iter().map(Proxy::port).collect();
            let mut command = Command::new(std::env::current_exe()?);
            // More than one thread: with one, the name of the test is printed before the first event, on its line.
            command.args(["--exact", NODE_TEST, "--nocapture", "--test-threads=2"]);
            command.env("CALLSHEET_BACKEND", S::NAME).env("CALLSHEET_NODE_NAME", NAME);
            command.env("CALLSHEET_LEASE", format!("{}ms", S::LEASE.as_millis()));
            command.envs(self.store.variables(&ports));
            self.proxies.push(proxies);
            match self.cluster.start(command, self.plan.clone()).await {
                Ok(started) => ensure!(started == node, "node {started} has the proxies of node {node}"),
                Err(_) if self.cluster.has_ended(node) && refused < REFUSED_MAX => refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The nodes that have not ended.
    fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.proxies.len()).filter(|node| !self.cluster.has_ended(*node))
    }

    /// The node that said last that it leads, if it has not said that it does no more.
    fn leader(&self) -> Option<usize> {
        let mut leader = None;
        for (node, said) in &self.cluster.heard {
            match said.event.as_str() {
                "leadership_gained" => leader = Some(*node),
                "leadership_lost" if leader == Some(*node) => leader = None,
                _ => {}
            }
        }
        leader.filter(|node| !self.cluster.has_ended(*node))
    }

    async fn a_leader(&mut self) -> anyhow::Result<usize> {
        self.until("a leader", |stage| stage.leader().is_some()).await?;
        self.leader().context("a leader")
    }

    /// Hears what the nodes say until something is so.
    async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + RECOVERY_MAX;
        while !is(self) {
            ensure!(Instant::now() < deadline, "not {what} within {RECOVERY_MAX:?}: {:?}", self.unwell());
            self.cluster.listen_for(LOOK).await;
        }
        Ok(())
    }

    /// Does something to the cluster, and lets it recover. What happened, in words.
    pub(crate) async fn inflict(&mut self, fault: Fault, nth: usize) -> anyhow::Result<String> {
        self.fill_up().await?;
        self.cluster.listen_for(CALM).await;
        let struck_at = Utc::now();
        let node = self.strike(fault, nth).await?;
        let healed_at = Utc::now();
        self.fill_up().await?;
        self.until("all is well", |stage| stage.is_well(healed_at)).await?;
        let seconds = |from: DateTime<Utc>, until: DateTime<Utc>| (until - from).as_seconds_f64();
        let of_node = node.map_or(String::new(), |node| format!(" node {node},"));
        let (lasted, well) = (seconds(struck_at, healed_at), seconds(healed_at, Utc::now()));
        Ok(format!("{fault:?},{of_node} lasted {lasted:.1} s, well {well:.1} s later"))
    }

    /// The node that it was done to.
    async fn strike(&mut self, fault: Fault, nth: usize) -> anyhow::Result<Option<usize>> {
        let leader = self.a_leader().await?;
        match fault {
            Fault::LeaderKilled => self.end(leader, Signal::KILL).await?,
            Fault::LeaderStopped => self.end(leader, Signal::TERM).await?,
            Fault::LeaderFrozen => {
                let from = self.cluster.signal(leader, Signal::STOP)?;
                self.hold_beyond_the_lease().await;
                self.until("another leader", |stage| stage.leader().is_some_and(|node| node != leader))
                    .await?;
                self.cluster.signal(leader, Signal::CONT)?;
                self.away.push(Away { node: Some(leader), asleep: true, from, until: Utc::now() });
            }
            Fault::NodeCutOff => {
                let node = if nth.is_multiple_of(2) {
                    leader
                } else {
                    self.living().find(|node| *node != leader).context("a follower")?
                };
                let from = Utc::now();
                self.proxies[node].iter().for_each(|proxy| proxy.set(Flow::Stall));
                self.hold_beyond_the_lease().await;
                self.proxies[node].iter().for_each(|proxy| proxy.set(Flow::Pass));
                self.away.push(Away { node: Some(node), asleep: false, from, until: Utc::now() });
                return Ok(Some(node));
            }
            Fault::ServerRestarted | Fault::ServerKilled => {
                self.outage(fault == Fault::ServerKilled, None).await?;
                return Ok(None);
            }
            Fault::ServerForgets => self.forgotten(leader).await?,
            Fault::FailedOver | Fault::FailedOverWithLeader => {
                block_in_place(|| self.store.lag());
                let from = Utc::now();
                // On a busy machine another node may lead by then: whoever ran it knows of it.
                let ran = |stage: &Self| {
                    let is_it =
                        |said: &Said| said.event == "run_started" && said.job.as_deref() == Some(SELDOM);
                    let mut later = stage.cluster.heard.iter().filter(|(_, said)| said.heard_at > from);
                    later.rfind(|(_, said)| is_it(said)).map(|(node, _)| *node)
                };
                self.until("a run that is not copied", |stage| ran(stage).is_some()).await?;
                let knows = ran(self);
                let dies = knows.filter(|_| fault == Fault::FailedOverWithLeader);
                self.outage(true, dies).await?;
                return Ok(knows);
            }
        }
        Ok(Some(leader))
    }

    async fn end(&mut self, node: usize, signal: Signal) -> anyhow::Result<()> {
        self.cluster.signal(node, signal)?;
        self.cluster.end(node).await.map(drop)
    }

    async fn hold_beyond_the_lease(&mut self) {
        self.cluster.listen_for(S::LEASE + BEYOND_THE_LEASE).await;
    }

    /// The server forgets, and the leader dies. The next one is a node that was not there: one that was knows since
    /// when it has its jobs, and owes their ticks.
    async fn forgotten(&mut self, leader: usize) -> anyhow::Result<()> {
        let followers: Vec<_> = self.living().filter(|node| *node != leader).collect();
        let set_flow = |stage: &Self, flow| {
            followers.iter().flat_map(|node| &stage.proxies[*node]).for_each(|proxy| proxy.set(flow));
        };
        set_flow(self, Flow::Stall);
        self.outage(true, Some(leader)).await?;
        self.fill_up().await?;
        let is_new = |stage: &Self| stage.leader().is_some_and(|node| !followers.contains(&node));
        self.until("a leader that was not there", is_new).await?;
        set_flow(self, Flow::Pass);
        Ok(())
    }

    /// The server is away for a while. A leader is killed after it, so that no other node can learn from the server
    /// what that leader knew.
    async fn outage(&mut self, killed: bool, leader: Option<usize>) -> anyhow::Result<()> {
        let from = Utc::now();
        block_in_place(|| if killed { self.store.kill() } else { self.store.stop() });
        if let Some(leader) = leader {
            self.end(leader, Signal::KILL).await?;
        }
        self.cluster.listen_for(OUTAGE).await;
        block_in_place(|| self.store.start_again());
        self.away.push(Away { node: None, asleep: false, from, until: Utc::now() });
        Ok(())
    }

    /// Every node that lives has said since then that it is healthy, and a run has started.
    fn is_well(&self, since: DateTime<Utc>) -> bool {
        let later: Vec<_> =
            self.cluster.heard.iter().rev().take_while(|(_, said)| said.heard_at > since).collect();
        let is_healthy = |node| {
            let last = later.iter().find(|(by, said)| *by == node && said.event == "health");
            last.is_some_and(|(_, said)| said.healthy == Some(true))
        };
        self.living().all(is_healthy) && later.iter().any(|(_, said)| said.event == "run_started")
    }

    /// What was heard last of why a node was not healthy.
    fn unwell(&self) -> Option<String> {
        let (node, said) = self.cluster.heard.iter().rev().find(|(_, said)| said.healthy == Some(false))?;
        Some(format!("node {node}: {}", said.problems.as_deref().unwrap_or_default().join("; ")))
    }

    /// Waits until every tick up to now is decided and spoken of, stops all nodes, and collects what is known.
    pub(crate) async fn close(mut self) -> anyhow::Result<Known> {
        let until = Utc::now();
        let longest = self.plan.jobs.iter().map(|job| job.period_ms).max().context("a job")?;
        // A job that waits for another run of its key is decided when that ends.
        self.cluster.listen_for(Duration::from_millis(longest) + S::LEASE + CALM).await;
        self.cluster.stop().await?;
        Ok(Known {
            jobs: self.plan.jobs.clone(),
            bodies: read_marks(&self.directory.path().join("marks"))?,
            heard: std::mem::take(&mut self.cluster.heard),
            from: self.from,
            until,
            away: self.away.clone(),
            lease: TimeDelta::from_std(S::LEASE)?,
            keys: S::KEYS,
        })
    }
}
