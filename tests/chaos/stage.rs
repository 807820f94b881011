//! A cluster of three nodes on a store, each behind a proxy and with a clock of its own, and a second server,
//! which is never faulted, on which their bodies write.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use tokio_postgres::Client;

use super::{
    auditor::{History, Standstill},
    books,
    clock::WallClock,
    cluster::Cluster,
    faults::Fault,
    harness::{Server, server},
    history::{ENDED, Said},
    node::{JobPlan, Plan},
    pace,
    proxy::{Proxy, Rewrite},
    store::{PostgresStore, Store, connect, this_program},
    watch::Watch,
};

/// How many nodes there are between two faults, unless told otherwise.
const NODES: usize = 3;
/// The lease of the nodes, unless told otherwise.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How long a node rests between two faults.
const CALM: Duration = Duration::from_millis(500);
/// How long the cluster may take to be as before once a fault is over.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// A recovery that takes longer is explained.
const RECOVERY_SLOW: TimeDelta = TimeDelta::seconds(8);
/// How often the harness looks for what it waits for.
const LOOK: Duration = Duration::from_millis(20);

/// What was done to the cluster, and when.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) fault: Fault,
    /// The node that it was done to, if it was one.
    pub(crate) node: Option<usize>,
    pub(crate) struck_at: DateTime<Utc>,
    pub(crate) healed_at: DateTime<Utc>,
    /// When every node was healthy again, and jobs ran.
    pub(crate) recovered_at: Option<DateTime<Utc>>,
    /// What was heard last of why a node was not healthy, if that took long.
    pub(crate) unwell: Option<String>,
    /// Why it was not done, if it was not.
    pub(crate) not_run: Option<String>,
}

pub(crate) struct Stage {
    pub(crate) store: PostgresStore,
    pub(crate) cluster: Cluster,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) clocks: Vec<WallClock>,
    pub(crate) plan: Plan,
    pub(crate) watch: Watch,
    witness: Client,
    nodes: usize,
    rewrites: Vec<Rewrite>,
    rounds: Vec<Round>,
    standstills: Vec<Standstill>,
}

/// Jobs that fire often and seldom, alone and together, shorter and longer than their periods, under election
/// and without.
fn jobs() -> Vec<JobPlan> {
    let job = |name: &str, key: &str, period_ms, takes_ms| JobPlan {
        name: name.to_owned(),
        key: key.to_owned(),
        period_ms,
        takes_ms,
        any_node: name.starts_with("any"),
    };
    vec![
        job("often", "often", 100, 5),
        job("steady", "steady", 250, 50),
        job("long", "long", 1_000, 2_500),
        job("left", "shared", 500, 120),
        job("right", "shared", 700, 120),
        job("rare", "rare", 3_000, 200),
        // Claimed by all nodes at once.
        job("any 1", "any", 400, 300),
        job("any 2", "any", 500, 100),
        job("any 3", "any 3", 250, 0),
    ]
}

impl Stage {
    /// Starts everything, and waits until jobs run. Protections are taken out of the statements of the nodes
    /// by `rewrites`.
    pub(crate) async fn start(name: &str, rewrites: &[Rewrite]) -> anyhow::Result<Self> {
        Self::start_with(name, jobs(), NODES, LEASE, rewrites).await
    }

    /// The same with other jobs on so many nodes with a lease of their own.
    pub(crate) async fn start_with(
        name: &str,
        jobs: Vec<JobPlan>,
        nodes: usize,
        lease: Duration,
        rewrites: &[Rewrite],
    ) -> anyhow::Result<Self> {
        pace::watch();
        let store = PostgresStore::start();
        // The first test that asks starts it; its data is never touched by a fault.
        let witness_server: &Server = tokio::task::block_in_place(server);
        let plan = Plan {
            node: 0,
            scope: None,
            url: store.url(store.address()),
            bodies_url: witness_server.url(),
            schema: name.to_owned(),
            lease,
            jobs,
        };
        store.prepare(&plan).await?;
        let witness = connect(&witness_server.url()).await?;
        books::prepare_bodies(&witness, name).await?;
        let mut stage = Self {
            cluster: Cluster::new(),
            watch: Watch::start(store.address()),
            store,
            proxies: Vec::new(),
            clocks: Vec::new(),
            plan,
            witness,
            nodes,
            rewrites: rewrites.to_vec(),
            rounds: Vec::new(),
            standstills: Vec::new(),
        };
        stage.fill_up().await?;
        stage.until("a run", RECOVERY_MAX, |stage| stage.leader().is_some()).await?;
        Ok(stage)
    }

    /// Starts nodes until there are as many as there should be.
    pub(crate) async fn fill_up(&mut self) -> anyhow::Result<()> {
        while self.living().count() < self.nodes {
            let node = self.proxies.len();
            let proxy = Proxy::start(self.store.address(), &self.rewrites).await;
            let clock = WallClock::new();
            let plan = Plan { url: self.store.url(proxy.port), ..self.plan.clone() };
            let command = clock.of(this_program());
            self.proxies.push(proxy);
            self.clocks.push(clock);
            let started = self.cluster.start(command, plan).await?;
            ensure!(started == node, "node {started} has the proxy of node {node}");
            let pid = self.cluster.heard.iter().filter(|(by, _)| *by == node).find_map(|(_, said)| said.pid);
            self.watch.add(node, pid.context("a node says its process")?);
        }
        Ok(())
    }

    /// The nodes that have not ended.
    pub(crate) fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.proxies.len()).filter(|node| !self.cluster.has_ended(*node))
    }

    /// The node that said last that it leads, if it has not ended.
    pub(crate) fn leader(&self) -> Option<usize> {
        let changes = |(_, said): &&(usize, Said)| said.event.starts_with("leadership_");
        let leads = |node: usize| {
            let last = self.cluster.heard.iter().rev().filter(changes).find(|(by, _)| *by == node);
            last.is_some_and(|(_, said)| said.event == "leadership_gained")
        };
        let gained = |(by, said): &&(usize, Said)| said.event == "leadership_gained" && leads(*by);
        let last = self.cluster.heard.iter().rev().find(gained).map(|(by, _)| *by);
        last.filter(|node| !self.cluster.has_ended(*node))
    }

    /// A leader. Waits for one.
    pub(crate) async fn a_leader(&mut self) -> anyhow::Result<usize> {
        self.until("a leader", RECOVERY_MAX, |stage| stage.leader().is_some()).await?;
        self.leader().context("a leader")
    }

    /// A node that does not lead.
    pub(crate) async fn a_follower(&mut self) -> anyhow::Result<usize> {
        let leader = self.a_leader().await?;
        self.living().find(|node| *node != leader).context("a follower")
    }

    /// The beginning of a node's id, as it stands in the names of its connections.
    pub(crate) fn id(&self, node: usize) -> anyhow::Result<String> {
        let heard = self.cluster.heard.iter();
        let id = heard.filter(|(by, _)| *by == node).find_map(|(_, said)| said.node.as_deref());
        Ok(id.context("it has said who it is")?.replace('-', "").chars().take(12).collect())
    }

    /// Hears what the nodes say until something is so.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        while !is_so(self) {
            ensure!(Instant::now() < until, "never: {what}");
            self.cluster.listen_for(LOOK).await;
        }
        Ok(())
    }

    /// Hears what the nodes say for a while.
    pub(crate) async fn hold(&mut self, time: Duration) {
        self.cluster.listen_for(time).await;
    }

    /// The same while something else is done.
    pub(crate) async fn hold_while<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                done = &mut done => return done,
                () = self.cluster.listen_for(LOOK) => {}
            }
        }
    }

    /// Lets another node lead than one that did, and waits for it.
    pub(crate) async fn succeeded(&mut self, former: usize) -> anyhow::Result<()> {
        self.until("another leader", RECOVERY_MAX, |stage| {
            stage.leader().is_some_and(|leader| leader != former)
        })
        .await
    }

    /// Ends a node with a signal, and waits for its end.
    pub(crate) async fn end(&mut self, node: usize, signal: Signal) -> anyhow::Result<()> {
        self.cluster.signal(node, signal)?;
        self.cluster.end(node).await.map(drop)
    }

    /// Lets a node stand still.
    pub(crate) fn freeze(&mut self, node: usize) -> anyhow::Result<()> {
        let from = self.cluster.signal(node, Signal::STOP)?;
        self.standstills.push(Standstill { node, from, until: DateTime::<Utc>::MAX_UTC });
        Ok(())
    }

    /// Lets a node go on that stands still.
    pub(crate) fn thaw(&mut self, node: usize) -> anyhow::Result<()> {
        self.cluster.signal(node, Signal::CONT)?;
        let last = self.standstills.iter_mut().rfind(|standstill| standstill.node == node);
        last.context("it stands still")?.until = Utc::now();
        Ok(())
    }

    /// Does something to the cluster, lets it recover, and writes down when that was.
    pub(crate) async fn inflict(&mut self, fault: Fault) -> anyhow::Result<&Round> {
        self.fill_up().await?;
        self.hold(CALM).await;
        let struck_at = Utc::now();
        let wound = fault.strike(self).await.with_context(|| fault.name())?;
        let healed_at = wound.healed_at.unwrap_or_else(Utc::now);
        let mut round = Round {
            fault,
            node: wound.node,
            struck_at: wound.struck_at.unwrap_or(struck_at),
            healed_at,
            recovered_at: None,
            unwell: None,
            not_run: wound.not_run,
        };
        let recovered = self.until("all is well", RECOVERY_MAX, |stage| stage.is_well(healed_at)).await;
        round.recovered_at = recovered.ok().map(|()| Utc::now());
        if round.recovered_at.is_none_or(|at| at - healed_at > RECOVERY_SLOW) {
            round.unwell = self.unwell();
        }
        self.rounds.push(round);
        Ok(self.rounds.last().expect("it was just added"))
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
        let reports = self.cluster.heard.iter().rev();
        let (node, said) = reports.clone().find(|(_, said)| said.healthy == Some(false))?;
        Some(format!("node {node}: {}", said.problems.as_deref().unwrap_or_default().join("; ")))
    }

    /// Waits until every tick up to now is decided, stops all nodes, and collects what is known.
    pub(crate) async fn close(mut self) -> anyhow::Result<History> {
        let longest = self.plan.jobs.iter().map(|job| job.period_ms).max().context("a job")?;
        let until = Utc::now() - TimeDelta::milliseconds(i64::try_from(longest)?);
        let deadline = Instant::now() + RECOVERY_MAX;
        while !self.store.decided(&self.plan, until).await? && Instant::now() < deadline {
            self.hold(LOOK).await;
        }
        let stopping_at = Utc::now();
        self.cluster.stop().await?;
        let Self { store, cluster, plan, watch, witness, rounds, standstills, .. } = &mut self;
        Ok(History {
            jobs: plan.jobs.clone(),
            lease: TimeDelta::from_std(plan.lease)?,
            books: store.books(plan).await?,
            bodies: books::bodies(witness, &plan.schema).await?,
            heard: std::mem::take(&mut cluster.heard),
            samples: watch.samples(),
            rounds: std::mem::take(rounds),
            standstills: std::mem::take(standstills),
            waits: pace::lost(),
            loads: pace::loads(),
            until,
            stopping_at,
        })
    }
}

/// Whether a node has ended by what was heard of it.
pub(crate) fn ended_at(heard: &[(usize, Said)], node: usize) -> Option<DateTime<Utc>> {
    heard.iter().find(|(by, said)| *by == node && said.event == ENDED).map(|(_, said)| said.heard_at)
}
