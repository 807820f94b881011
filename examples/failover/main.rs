//! A cluster of three processes whose leaders are stopped, killed and frozen, while a job fires every 100 ms.
//!
//! ```sh
//! cargo run --example failover          # half a minute: one hand-over of each kind
//! cargo run --example failover -- 10    # ten of each kind
//! CALLSHEET_BACKEND=redis CALLSHEET_REDIS_URL=redis://host cargo run --example failover --features redis
//! ```
//!
//! It starts a PostgreSQL server of its own, or uses the one in `CALLSHEET_DATABASE_URL`, there in a schema of its own, and
//! leaves nothing behind; or the nodes coordinate where `CALLSHEET_BACKEND` says, in a scope of their own. It prints a
//! timeline and a closing table, and fails if a promise was broken.
//!
//! * `node`: one process of the cluster; what an application would write.
//! * `cluster`: starts the processes, hears their events, sends them signals.
//! * `books`: what the database knows afterwards; `history`: that, and what the nodes said, as values.
//! * `audit`: what became of every tick; `ticks`: the same on another backend, by what was written and said.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what happens")]

mod audit;
mod books;
mod cluster;
#[path = "../../tests/common/postgres.rs"]
mod harness;
mod history;
mod node;
mod ticks;

use std::{
    env, fmt,
    num::NonZero,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context;
use callsheet::Callsheet;
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use tokio_postgres::NoTls;

use self::{
    audit::Audit,
    cluster::Cluster,
    history::Said,
    node::{FILE, JobPlan, PLAN, Plan},
    ticks::{Away, Known, read_marks},
};

const PERIOD_MS: u64 = 100;
/// The default of `Postgres::lease`.
const LEASE: Duration = Duration::from_secs(5);
/// How long the last leader may take to write down what it decided.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);
/// How long a leader leads before something is done to it.
const REIGN: Duration = Duration::from_millis(1_500);
/// How many hand-overs of a kind it takes to judge how long the cluster is without a leader.
const JUDGED_FROM: usize = 10;

fn main() -> ExitCode {
    let done = match env::var(PLAN) {
        Ok(plan) => node::main(&plan, |_| {}).map(|()| true),
        Err(_) => conduct(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the stage, lets the story happen, and clears up. Whether every promise was kept.
fn conduct() -> anyhow::Result<bool> {
    let rounds = env::args().nth(1).map_or(Ok(NonZero::<usize>::MIN), |rounds| rounds.parse());
    let rounds = rounds.context("the argument is a number of hand-overs of each kind, at least 1")?;
    let runtime = tokio::runtime::Runtime::new()?;
    match env::var("CALLSHEET_BACKEND") {
        Ok(backend) if backend != "postgres" => runtime.block_on(where_the_environment_says(rounds)),
        Ok(_) | Err(_) => on_postgres(&runtime, rounds),
    }
}

fn job() -> JobPlan {
    let (name, key) = ("tick".to_owned(), "tick".to_owned());
    JobPlan { name, key, period_ms: PERIOD_MS, takes_ms: 5, any_node: false }
}

/// The nodes coordinate on another backend. What the bodies write and the nodes say is all that is known.
async fn where_the_environment_says(rounds: NonZero<usize>) -> anyhow::Result<bool> {
    let directory = tempfile::tempdir()?;
    let marks = directory.path().join("marks");
    let plan = Plan {
        node: 0,
        scope: Some(format!("failover-{}", std::process::id())),
        url: String::new(),
        bodies_url: format!("{FILE}{}", marks.display()),
        schema: String::new(),
        lease: LEASE,
        jobs: vec![job()],
    };
    // Says what is wrong with the variables without showing an address.
    Callsheet::builder().backend_from_env("failover").check()?;
    let mut show = Show::new(&plan);
    show.begin().await?;
    let from = Utc::now();
    let handovers = show.hand_overs(rounds).await?;
    let until = Utc::now();
    show.cluster.listen_for(DECIDED_WITHIN).await;
    show.end().await?;
    let known = Known {
        jobs: plan.jobs,
        bodies: read_marks(&marks)?,
        heard: show.cluster.heard.clone(),
        from,
        until,
        away: show.away.clone(),
        lease: TimeDelta::from_std(LEASE)?,
        // These elect a leader, and nothing else: each node keeps keys of its own.
        keys: !env::var("CALLSHEET_BACKEND").is_ok_and(|name| name == "redlock" || name == "kubernetes"),
    };
    let audit = known.audit();
    print_handovers(&handovers);
    print_audit(&audit);
    Ok(audit.broken.is_empty())
}

fn on_postgres(runtime: &tokio::runtime::Runtime, rounds: NonZero<usize>) -> anyhow::Result<bool> {
    // Dropped last: the server and its directory go with it, in whatever way this ends.
    let server = env::var("CALLSHEET_DATABASE_URL").is_err().then(harness::Server::start);
    let url =
        server.as_ref().map_or_else(|| env::var("CALLSHEET_DATABASE_URL"), |server| Ok(server.url()))?;
    let schema = format!("callsheet_failover_{}", std::process::id());
    let bodies_url = url.clone();
    let plan = Plan { node: 0, scope: None, bodies_url, url, schema, lease: LEASE, jobs: vec![job()] };
    // Says what is wrong with a URL without showing it.
    Callsheet::builder().backend(plan.backend()).check()?;
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&plan.url, NoTls).await.context("CALLSHEET_DATABASE_URL")?;
        tokio::spawn(connection);
        let told = tokio::select! {
            told = story(&client, &plan, rounds) => told,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        client.batch_execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", plan.schema)).await?;
        told
    })
}

async fn story(client: &tokio_postgres::Client, plan: &Plan, rounds: NonZero<usize>) -> anyhow::Result<bool> {
    books::prepare(client, &plan.backend().ddl(), &plan.schema).await?;
    books::prepare_bodies(client, &plan.schema).await?;
    let mut show = Show::new(plan);
    show.begin().await?;
    let handovers = show.hand_overs(rounds).await?;
    let until = Utc::now() - TimeDelta::milliseconds(i64::try_from(PERIOD_MS)?);
    // Ticks that nobody runs are written down at most once a second. If they never are, the audit says so.
    let deadline = tokio::time::Instant::now() + DECIDED_WITHIN;
    while !books::decided(client, &plan.schema, until).await? && tokio::time::Instant::now() < deadline {
        show.cluster.listen_for(Duration::from_millis(20)).await;
    }
    show.end().await?;

    let known = books::read(client, &plan.schema).await?;
    let bodies = books::bodies(client, &plan.schema).await?;
    let mut audit = audit::audit(&plan.jobs, &known, &bodies, &show.cluster.heard, until);
    audit.broken.extend(audit.lost_unsaid.iter().map(|run| format!("nobody said that run {run} is lost")));
    audit.broken.extend(Deed::ALL.into_iter().filter_map(|deed| deed.broken(&handovers)));
    print_handovers(&handovers);
    print_audit(&audit);
    Ok(audit.broken.is_empty())
}

fn this_program() -> Command {
    Command::new(env::current_exe().unwrap_or_else(|_| env::args_os().next().unwrap_or_default().into()))
}

/// What is done to a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Stop,
    Kill,
    Freeze,
}

impl Deed {
    const ALL: [Self; 3] = [Self::Stop, Self::Kill, Self::Freeze];

    fn signal(self) -> Signal {
        match self {
            Self::Stop => Signal::TERM,
            Self::Kill => Signal::KILL,
            Self::Freeze => Signal::STOP,
        }
    }

    /// How long the cluster may be without a leader.
    fn bound(self) -> TimeDelta {
        match self {
            Self::Stop => TimeDelta::milliseconds(100),
            Self::Kill => TimeDelta::seconds(1),
            // The lease, and a second.
            Self::Freeze => TimeDelta::seconds(6),
        }
    }

    /// The bound is that of 99 in 100 on a machine with time to spare: of ten or more, one in ten may be the machine's.
    fn broken(self, handovers: &[HandOver]) -> Option<String> {
        let of_kind = handovers.iter().filter(|one| one.deed == self);
        let count = of_kind.clone().count();
        let slow = of_kind.filter(|one| one.leads > self.bound()).count();
        let bound = self.bound().num_milliseconds();
        (count >= JUDGED_FROM && slow * 10 > count)
            .then(|| format!("{slow} of {count} times nobody led for more than {bound} ms after {self}"))
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stop => "SIGTERM",
            Self::Kill => "SIGKILL",
            Self::Freeze => "SIGSTOP",
        })
    }
}

/// One hand-over of the leadership.
struct HandOver {
    deed: Deed,
    from: usize,
    to: usize,
    /// From the signal to the event that says that the next node leads.
    leads: TimeDelta,
    /// From the signal to the first run of the next node. A tick must be due for it, so it takes up to a period longer.
    first_run: TimeDelta,
    /// From the last run of the former leader to the first one of the next: at best one period.
    silence: TimeDelta,
}

/// The cluster, and what is told of it.
struct Show {
    plan: Plan,
    cluster: Cluster,
    began: DateTime<Utc>,
    leader: usize,
    /// When nodes stood still.
    away: Vec<Away>,
}

impl Show {
    fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), cluster: Cluster::new(), began: Utc::now(), leader: 0, away: Vec::new() }
    }

    /// Starts three nodes, and waits until one leads.
    async fn begin(&mut self) -> anyhow::Result<()> {
        for _ in 0..3 {
            self.join().await?;
        }
        let (leader, _) = self.cluster.wait_for("a leader", |_, said| said.event == "run_started").await?;
        self.say(Utc::now(), &format!("node {leader} leads"));
        self.leader = leader;
        Ok(())
    }

    /// So many of each kind.
    async fn hand_overs(&mut self, rounds: NonZero<usize>) -> anyhow::Result<Vec<HandOver>> {
        let mut handovers = Vec::new();
        for _ in 0..rounds.get() {
            for deed in Deed::ALL {
                handovers.push(self.hand_over(deed).await?);
            }
        }
        self.cluster.listen_for(REIGN).await;
        Ok(handovers)
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        self.cluster.stop().await?;
        self.say(Utc::now(), "every node has stopped");
        Ok(())
    }

    fn say(&self, at: DateTime<Utc>, what: &str) {
        println!("{:>9.3} s  {what}", ms(at - self.began) / 1e3);
    }

    async fn join(&mut self) -> anyhow::Result<()> {
        let node = self.cluster.start(this_program(), self.plan.clone()).await?;
        self.say(Utc::now(), &format!("node {node} has joined"));
        Ok(())
    }

    /// Does something to the leader, and sees who leads next.
    async fn hand_over(&mut self, deed: Deed) -> anyhow::Result<HandOver> {
        self.cluster.listen_for(REIGN).await;
        let from = self.leader;
        let signalled = self.cluster.signal(from, deed.signal())?;
        self.say(signalled, &format!("{deed} to node {from}, the leader"));
        let gained = |by, said: &Said| by != from && said.event == "leadership_gained";
        let (to, gained) = self.cluster.wait_for("another leader", gained).await?;
        let term = gained.term.map_or(0, |term| term.0);
        self.say(gained.at, &format!("node {to} leads, term {term}"));
        let ran = |by, said: &Said| by == to && said.event == "run_started";
        let (_, first) = self.cluster.wait_for("a run of the next leader", ran).await?;
        self.say(first.at, &format!("node {to} runs its first tick"));
        match deed {
            Deed::Stop | Deed::Kill => {
                let status = self.cluster.end(from).await?;
                self.say(Utc::now(), &format!("node {from} is gone: {status}"));
                self.join().await?;
            }
            Deed::Freeze => {
                let awake = self.cluster.signal(from, Signal::CONT)?;
                self.away.push(Away { node: Some(from), asleep: true, from: signalled, until: awake });
                self.say(awake, &format!("SIGCONT to node {from}"));
                let lost = |by, said: &Said| by == from && said.event == "leadership_lost";
                let (_, lost) = self.cluster.wait_for("that it leads no more", lost).await?;
                self.say(lost.at, &format!("node {from} knows that it leads no more"));
            }
        }
        self.leader = to;
        let runs_before = self.cluster.heard.iter().filter(|(by, said)| {
            *by == from && said.event == "run_started" && said.at <= signalled.max(gained.at)
        });
        let last = runs_before.map(|(_, said)| said.at).max().context("the former leader ran nothing")?;
        let (leads, first_run) = (gained.at - signalled, first.at - signalled);
        Ok(HandOver { deed, from, to, leads, first_run, silence: first.at - last })
    }
}

fn print_handovers(handovers: &[HandOver]) {
    println!("\nms from the signal to the leader:      leads   first run   without a run (in periods)");
    for HandOver { deed, from, to, leads, first_run, silence } in handovers {
        let over = if *leads > deed.bound() { "  over the bound" } else { "" };
        let (leads, first_run, silence) = (ms(*leads), ms(*first_run), ms(*silence));
        let periods = silence / PERIOD_MS as f64;
        println!(
            "{deed} node {from:<3} to node {to:<3} {leads:>19.1} {first_run:>11.1} {silence:>15.1} ({periods:.1}){over}"
        );
    }
    if handovers.len() == Deed::ALL.len() {
        return;
    }
    for deed in Deed::ALL {
        for (column, of) in [
            ("leads", (|one| one.leads) as fn(&HandOver) -> TimeDelta),
            ("first run", |one| one.first_run),
            ("without a run", |one| one.silence),
        ] {
            let mut all: Vec<_> = handovers.iter().filter(|one| one.deed == deed).map(of).collect();
            all.sort_unstable();
            let (min, median, max) = (ms(all[0]), ms(all[all.len() / 2]), ms(all[all.len() - 1]));
            println!(
                "{deed} x {:<3} {column:<14} min {min:>8.1}  median {median:>8.1}  max {max:>8.1}",
                all.len()
            );
        }
    }
}

fn print_audit(audit: &Audit) {
    let Audit { due, started, skipped, unsaid, lost, doubled, broken, .. } = audit;
    let skipped: Vec<_> = skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let skipped = if skipped.is_empty() { "0".to_owned() } else { skipped.join(", ") };
    println!("\nticks due    {due}\n     started {started}\n     skipped {skipped}\n     lost    {lost}");
    if *unsaid > 0 {
        println!("             and {unsaid} more whose node died before it could say why");
    }
    println!("     doubled {doubled}");
    for broken in broken {
        println!("BROKEN: {broken}");
    }
    if broken.is_empty() {
        println!("every promise was kept");
    }
}

fn ms(span: TimeDelta) -> f64 {
    span.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e3
}
