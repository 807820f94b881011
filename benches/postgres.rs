//! How fast coordination through PostgreSQL is, beside the barest statements that could do the same, in the same run.
//!
//! ```text
//! cargo bench --bench postgres --features postgres                all of it, some ten minutes
//! cargo bench --bench postgres --features postgres -- adapter     one part: adapter, contended, sessions, snapshot, ticks, latency,
//!                                                                 idle, stale, reopen
//! cargo bench --bench postgres --features postgres -- --quick     a smoke test
//! ```
//!
//! The server is one of its own on this machine, with the settings of a fresh installation: every commit waits for the
//! disk. What a commit costs is measured as well, because little else matters at low load. The two sides of a comparison
//! take turns, so that whatever else the machine does meets both.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/common/postgres.rs"]
mod harness;

use std::{
    collections::HashMap,
    env,
    future::{Ready, ready},
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use callsheet::{
    Callsheet, FireTime, Fires, Job, JobName, LockKey, Outcome, Run, RunId, Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, Enrolled, Enrolment, Locker,
        ScheduleIdentity, Skips, TickClaim, Verdict,
    },
    schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use harness::{Server, Stop};
use hdrhistogram::Histogram;
use metrics::{Counter, CounterFn, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == CHILD => Case::of(rest).and_then(|case| case.measure()),
        _ => Plan::of(&arguments).and_then(|plan| plan.run()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

const PARTS: [&str; 9] =
    ["adapter", "contended", "sessions", "snapshot", "ticks", "latency", "idle", "stale", "reopen"];
/// The jobs whose ticks are claimed.
const JOBS: usize = 10_000;

struct Plan {
    parts: Vec<String>,
    /// How long one side of a comparison is measured at a time, and how often.
    slice: Duration,
    slices: usize,
    window: Duration,
    /// How long idle nodes are watched.
    idle: Duration,
    /// For how long a snapshot stays open.
    snapshot: Duration,
    /// How many names are long gone.
    stale: u32,
    /// How long the server is away, and how often it is away so long.
    outages: &'static [u64],
    restarts: u32,
}

impl Plan {
    fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let mut plan = Self {
            parts: Vec::new(),
            slice: Duration::from_millis(900),
            slices: 4,
            window: Duration::from_secs(6),
            idle: Duration::from_secs(60),
            snapshot: Duration::from_secs(60),
            stale: 3_000_000,
            outages: &[2, 15],
            restarts: 3,
        };
        for argument in arguments {
            match argument.as_str() {
                "--quick" => {
                    (plan.slice, plan.slices, plan.window) =
                        (Duration::from_millis(200), 1, Duration::from_secs(1));
                    (plan.idle, plan.snapshot) = (Duration::from_secs(1), Duration::from_secs(2));
                    plan.stale = 100_000;
                    (plan.outages, plan.restarts) = (&[1], 1);
                }
                part if PARTS.contains(&part) => plan.parts.push(argument.clone()),
                other => bail!("{other}: not one of {}, --quick", PARTS.join(", ")),
            }
        }
        Ok(plan)
    }

    fn run(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let wanted = |part: &str| self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part);
        let version: String = runtime.block_on(async {
            let client = connect().await?;
            anyhow::Ok(client.query_one("SHOW server_version", &[]).await?.get(0))
        })?;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        println!("PostgreSQL {version}, durable, {processors} processors for it and for everything else\n");
        if wanted("adapter") {
            runtime.block_on(self.adapter())?;
        }
        if wanted("contended") {
            runtime.block_on(self.contended())?;
        }
        if wanted("sessions") {
            runtime.block_on(self.sessions())?;
        }
        if wanted("snapshot") {
            runtime.block_on(self.snapshot())?;
        }
        if wanted("ticks") {
            self.ticks(&runtime)?;
        }
        if wanted("latency") {
            self.latency(&runtime)?;
        }
        if wanted("idle") {
            self.idle()?;
        }
        if wanted("stale") {
            runtime.block_on(self.stale())?;
        }
        if wanted("reopen") {
            self.reopen()?;
        }
        Ok(())
    }

    /// The locker alone.
    async fn adapter(&self) -> anyhow::Result<()> {
        println!(
            "adapter: {JOBS} jobs, one connection; bare = one row a job, claimed and freed by one statement each"
        );
        println!(
            "{:>6} {:>12} {:>12} {:>6} {:>16} {:>12} {:>6} {:>14} {:>6} {:>22} {:>8} {:>8} {:>6}",
            "batch",
            "claims/s",
            "bare",
            "x",
            "claims + ends/s",
            "bare",
            "x",
            "in a round",
            "x",
            "server CPU µs a tick",
            "round",
            "bare",
            "x"
        );
        let mut adapter = Adapter::open("adapter").await?;
        let mut bare = Bare::open().await?;
        for batch in [1, 64, 512, 1_024] {
            let mut took = [Took::default(); 3];
            for _ in 0..self.slices {
                for (side, took) in took.iter_mut().enumerate() {
                    let server = if side == 1 { bare.server } else { adapter.server };
                    let used = processor_time_of(server)?;
                    let until = Instant::now() + self.slice;
                    while Instant::now() < until {
                        took.add(match side {
                            0 => adapter.claim_and_complete(batch).await?,
                            1 => bare.claim_and_complete(batch).await?,
                            _ => adapter.round(batch).await?,
                        });
                    }
                    adapter.finish().await?;
                    took.server += processor_time_of(server)? - used;
                }
            }
            let [own, bare, rounds] = took;
            println!(
                "{batch:>6} {:>12.0} {:>12.0} {:>6.2} {:>16.0} {:>12.0} {:>6.2} {:>14.0} {:>6.2} {:>22.1} {:>8.1} {:>8.1} {:>6.2}",
                own.claims(),
                bare.claims(),
                own.claims() / bare.claims(),
                own.ticks(),
                bare.ticks(),
                own.ticks() / bare.ticks(),
                rounds.ticks(),
                rounds.ticks() / bare.ticks(),
                own.server_micros(),
                rounds.server_micros(),
                bare.server_micros(),
                rounds.server_micros() / bare.server_micros(),
            );
        }
        println!();
        Ok(())
    }

    /// Claims of keys that are held: by the session that asks, which it knows, and by another one, which it must find alive.
    async fn contended(&self) -> anyhow::Result<()> {
        println!(
            "contended: claims of keys that are held, one connection; the difference is the probe of the owner"
        );
        println!("{:>6} {:<18} {:>12} {:>22}", "batch", "held by", "p50 µs", "server CPU µs a claim");
        let mut owner = Adapter::open("contended").await?;
        let other = Postgres::new("contended", harness::server().url()).lease(Duration::from_secs(600));
        other.locker().open().await?;
        for batch in [1, 64] {
            owner.claim(batch).await?;
            let held: Vec<_> = owner.open.iter().map(|end| (end.job.clone(), end.key.clone())).collect();
            let sides = [
                ("itself", owner.locker.clone(), owner.server),
                ("another session", other.locker(), process_of(&other).await?),
            ];
            let mut found = sides.iter().map(|_| (histogram(), Duration::ZERO)).collect::<Vec<_>>();
            for _ in 0..self.slices {
                for ((_, locker, server), (took, used)) in sides.iter().zip(&mut found) {
                    let before = processor_time_of(*server)?;
                    let until = Instant::now() + self.slice;
                    while Instant::now() < until {
                        let asked = |(job, key): &(JobName, LockKey)| {
                            ClaimRequest::new(job.clone(), key.clone(), RunId::from(Uuid::now_v7()))
                        };
                        let asked: Vec<_> = held.iter().map(asked).collect();
                        let started = Instant::now();
                        let verdicts = locker.claim(&asked).await?;
                        took.saturating_record(u64::try_from(started.elapsed().as_micros())?);
                        let busy = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Busy { .. }));
                        ensure!(busy, "not busy: {verdicts:?}");
                    }
                    *used += processor_time_of(*server)? - before;
                }
            }
            for ((who, ..), (took, used)) in sides.iter().zip(&found) {
                let claims = took.len() as f64 * batch as f64;
                let used = used.as_secs_f64() * 1e6 / claims;
                println!("{batch:>6} {who:<18} {:>12} {used:>22.1}", took.value_at_quantile(0.5));
            }
            owner.finish().await?;
        }
        let client = connect().await?;
        client.batch_execute("SET search_path = callsheet").await?;
        let server = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        let beacon = "SELECT beacon FROM sessions WHERE scope = 'contended' AND pid = $1";
        let beacon: i64 = client.query_one(beacon, &[&owner.server]).await?.try_get(0)?;
        println!("the probe alone");
        for (what, probe) in [
            ("whether the beacon is held", "SELECT NOT pg_try_advisory_xact_lock_shared($1)"),
            ("whether its session lives", "SELECT NOT is_over('contended', $1)"),
        ] {
            let probe = client.prepare(probe).await?;
            let (mut took, before) = (histogram(), processor_time_of(server)?);
            let until = Instant::now() + self.slice * 2;
            while Instant::now() < until {
                let started = Instant::now();
                ensure!(client.query_one(&probe, &[&beacon]).await?.try_get::<_, bool>(0)?, "it lives");
                took.saturating_record(u64::try_from(started.elapsed().as_micros())?);
            }
            let used = (processor_time_of(server)? - before).as_secs_f64() * 1e6 / took.len() as f64;
            println!("{what:>26} {:>11} {used:>22.1}", took.value_at_quantile(0.5));
        }
        println!();
        Ok(())
    }

    /// What an idle session costs the server beside others: it beats, and watches some of them.
    async fn sessions(&self) -> anyhow::Result<()> {
        const LEASE: Duration = Duration::from_secs(1);
        println!("sessions: an idle one with a lease of {LEASE:?} beside others");
        println!("{:>8} {:>24}", "others", "server CPU µs a second");
        let mut others = Vec::new();
        let one = Postgres::new("sessions", harness::server().url()).lease(LEASE);
        one.locker().open().await?;
        let server = process_of(&one).await?;
        for count in [0, 4, 16, 48] {
            while others.len() < count {
                let other =
                    Postgres::new("sessions", harness::server().url()).lease(Duration::from_secs(600));
                other.locker().open().await?;
                others.push(other);
            }
            let mut used = Vec::new();
            for _ in 0..self.slices * 2 {
                let before = processor_time_of(server)?;
                tokio::time::sleep(self.slice * 2).await;
                used.push(
                    (processor_time_of(server)? - before).as_secs_f64() * 1e6
                        / (self.slice * 2).as_secs_f64(),
                );
            }
            used.sort_unstable_by(f64::total_cmp);
            println!("{count:>8} {:>24.0}", used[used.len() / 2]);
        }
        println!();
        Ok(())
    }

    /// What claims cost while somebody keeps a snapshot: 300 jobs that run ten times a second.
    async fn snapshot(&self) -> anyhow::Result<()> {
        const FEW: usize = 300;
        const PERIOD: Duration = Duration::from_millis(100);
        println!(
            "snapshot: {FEW} jobs, each ten times a second, rounds of {FEW}; a round that takes longer delays the next"
        );
        println!(
            "{:<18} {:>8} {:>12} {:>20} {:>10}",
            "", "second", "round p50 ms", "server CPU µs a tick", "ticks/s"
        );
        let reader = connect().await?;
        for (side, open) in [("no snapshot", false), ("a snapshot", true)] {
            let mut adapter = Adapter::open_with(if open { "snapshot" } else { "no snapshot" }, FEW).await?;
            if open {
                let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM callsheet.names";
                reader.batch_execute(snapshot).await?;
            }
            let parts = 6;
            let mut due = Instant::now();
            for part in 0..parts {
                let (mut took, mut ticks) = (histogram(), 0_u32);
                let (used, started) = (processor_time_of(adapter.server)?, Instant::now());
                while started.elapsed() < self.snapshot / parts {
                    tokio::time::sleep_until(due.into()).await;
                    due = (due + PERIOD).max(Instant::now());
                    let round = adapter.round(FEW).await?;
                    took.saturating_record(u64::try_from(round.claims.as_micros())?);
                    ticks += round.ticks;
                }
                let used = (processor_time_of(adapter.server)? - used).as_secs_f64() * 1e6 / f64::from(ticks);
                println!(
                    "{side:<18} {:>8.0} {:>12.1} {used:>20.1} {:>10.0}",
                    (self.snapshot * (part + 1) / parts).as_secs_f64(),
                    took.value_at_quantile(0.5) as f64 / 1e3,
                    f64::from(ticks) / started.elapsed().as_secs_f64(),
                );
            }
            adapter.finish().await?;
            reader.batch_execute("COMMIT").await?;
        }
        println!();
        Ok(())
    }

    /// What names cost that are long gone, beside none of them: a search for lost runs, as at an election and once a minute, and
    /// claims and ends, with such a search every tenth round.
    async fn stale(&self) -> anyhow::Result<()> {
        println!("stale: {JOBS} jobs, rounds of 512; each search finds one run of a dead session");
        println!("{:>12} {:>14} {:>14} {:>14}", "names gone", "search p50 ms", "search max ms", "ticks/s");
        let client = connect().await?;
        let mut adapter = Adapter::open("stale").await?;
        let mut before = None;
        for count in [0, self.stale] {
            client.execute(STALE, &[&i64::from(count)]).await?;
            client.batch_execute("VACUUM ANALYZE callsheet.names").await?;
            let mut searches = histogram();
            let mut took = Took::default();
            let until = Instant::now() + self.slice * 4;
            while Instant::now() < until {
                adapter.finish().await?;
                client.batch_execute(DIES).await?;
                let started = Instant::now();
                let closed = adapter.locker.close_lost(1_024).await?;
                searches.saturating_record(u64::try_from(started.elapsed().as_micros())?);
                ensure!(closed.lost.len() == 1, "found {} lost runs", closed.lost.len());
                for _ in 0..10 {
                    took.add(adapter.round(512).await?);
                }
            }
            adapter.finish().await?;
            let found =
                [searches.value_at_quantile(0.5) as f64 / 1e3, searches.max() as f64 / 1e3, took.ticks()];
            println!("{count:>12} {:>14.2} {:>14.2} {:>14.0}", found[0], found[1], found[2]);
            if let Some([p50, max, ticks]) = before.replace(found) {
                println!(
                    "{:>12} {:>14.2} {:>14.2} {:>14.2}",
                    "x",
                    found[0] / p50,
                    found[1] / max,
                    found[2] / ticks
                );
            }
        }
        println!();
        Ok(())
    }

    /// The whole engine.
    fn ticks(&self, runtime: &Runtime) -> anyhow::Result<()> {
        println!(
            "ticks: {JOBS} jobs with trivial bodies, phases spread evenly, for {:?}; recorded = rows of ended runs",
            self.window
        );
        println!(
            "{:>10}  {:<22} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
            "offered/s",
            "",
            "started/s",
            "recorded/s",
            "overlap/s",
            "misfire/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "CPU µs",
            "commit ms"
        );
        for rate in [10_000, 30_000, 50_000] {
            for side in [Side::Local, Side::Postgres, Side::PostgresFollowed] {
                if side == Side::PostgresFollowed && rate != 30_000 {
                    continue;
                }
                let period = Duration::from_millis(JOBS as u64 * 1_000 / rate);
                let window = if side == Side::Local { self.window / 3 } else { self.window };
                let case = Case::new(side, JOBS, period, window);
                let commit = runtime.block_on(commits(20))?;
                let found = case.spawn()?;
                let offered = JOBS as f64 / period.as_secs_f64();
                println!(
                    "{offered:>10.0}  {:<22} {:>10.0} {:>10.0} {:>9.0} {:>9.0} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>10.2}",
                    side.as_str(),
                    found[0],
                    found[1],
                    found[2],
                    found[3],
                    found[4],
                    found[5],
                    found[6],
                    found[7],
                    commit.value_at_quantile(0.5) as f64 / 1e3,
                );
            }
        }
        println!();
        Ok(())
    }

    /// Few ticks: from the fire time to the body.
    fn latency(&self, runtime: &Runtime) -> anyhow::Result<()> {
        const QUIET: usize = 20;
        const PERIOD: Duration = Duration::from_millis(200);
        println!("latency: {QUIET} jobs, one tick in 10 ms; from the fire time to the body, in ms");
        println!("{:<34} {:>8} {:>8} {:>8}", "", "p50", "p99", "max");
        let mut commit = histogram();
        let mut quantiles = Vec::new();
        for side in [Side::Local, Side::Postgres] {
            commit.add(runtime.block_on(commits(100))?)?;
            let found = Case::new(side, QUIET, PERIOD, self.window * 2).spawn()?;
            println!("{:<34} {:>8.2} {:>8.2} {:>8.2}", side.as_str(), found[4], found[5], found[6]);
            quantiles.push((found[4], found[5]));
        }
        commit.add(runtime.block_on(commits(100))?)?;
        let [(local_p50, local_p99), (p50, p99)] = quantiles[..] else { bail!("two sides were measured") };
        println!("{:<34} {:>8.2} {:>8.2}", "difference", p50 - local_p50, p99 - local_p99);
        let of_commit = |quantile| commit.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{:<34} {:>8.2} {:>8.2} {:>8.2}\n",
            "a bare update of one row, committed",
            of_commit(0.5),
            of_commit(0.99),
            commit.max() as f64 / 1e3
        );
        Ok(())
    }

    /// What nodes with nothing to do ask of the server. A proxy between counts the messages that make it execute something.
    ///
    /// What is asked once a minute must be in it: a shorter window tells what happened to fall into it.
    fn idle(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            println!("idle: {JOBS} jobs that are not due, for {:?}; the target is 1 query/s", self.idle);
            println!("{:<10} {:>10} {:>12} {:>15}", "", "queries/s", "connections", "advisory locks");
            let admin = connect().await?;
            let mut nodes = Vec::new();
            for role in ["leader", "follower"] {
                let (url, queries) = counted().await?;
                let backend = Postgres::new("idle", url);
                let id = backend.node().context("it has an id")?.as_uuid().simple().to_string();
                let jobs = Callsheet::builder().backend(backend).start().await?;
                let far = || every(FAR).anchored_at(Utc::now() + FAR / 2);
                jobs.add_all((0..JOBS).map(|nth| Job::new(format!("job-{nth}"), far()).run(body))).await?;
                // Until it leads, has enrolled its jobs and has closed what was lost.
                tokio::time::sleep(Duration::from_secs(2)).await;
                nodes.push((role, id, jobs, queries));
            }
            // Until the follower has asked for the first time whether the leader has its jobs.
            tokio::time::sleep(Duration::from_secs(3)).await;
            nodes.iter().for_each(|(_, _, _, queries)| locked(queries).clear());
            tokio::time::sleep(self.idle).await;
            for (role, id, jobs, queries) in nodes {
                let queries = std::mem::take(&mut *locked(&queries));
                let rate = |count: u64| count as f64 / self.idle.as_secs_f64();
                let held = "SELECT count(DISTINCT a.pid), count(l.objid) FROM pg_stat_activity a
                            LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.granted
                            WHERE a.application_name LIKE $1";
                let row = admin.query_one(held, &[&format!("callsheet {}%", &id[..12])]).await?;
                let (connections, locks): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                println!("{role:<10} {:>10.2} {connections:>12} {locks:>15}", rate(queries.values().sum()));
                let mut queries: Vec<_> = queries.into_iter().collect();
                queries.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
                for (query, count) in queries {
                    println!("           {:>10.3}   {query}", rate(count));
                }
                drop(jobs);
            }
            println!();
            anyhow::Ok(())
        })
    }

    /// How long nodes are without a session after their server was away: from its first answer to a client that asks each
    /// millisecond.
    fn reopen(&self) -> anyhow::Result<()> {
        const NODES: usize = 5;
        println!(
            "reopen: {NODES} nodes, {} restarts a line; from the server's first answer to each node's session, in ms; \
             spread = from the first node to the last",
            self.restarts
        );
        println!(
            "{:<10} {:>7} {:>8} {:>8} {:>8} {:>12} {:>12} {:>12}",
            "stopped", "away s", "min", "median", "max", "min spread", "med. spread", "max spread"
        );
        let server = Arc::new(Server::start());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let mut nodes = Vec::new();
            for _ in 0..NODES {
                let backend = Postgres::new("reopen", server.url());
                nodes.push(Callsheet::builder().backend(backend).start().await?);
            }
            for how in [Stop::Fast, Stop::Immediate] {
                for away in self.outages {
                    let (mut took, mut spreads) = (Vec::new(), Vec::new());
                    for _ in 0..self.restarts {
                        let mut each = restart(&server, how, Duration::from_secs(*away), &nodes).await?;
                        each.sort_unstable();
                        spreads.push(each[NODES - 1] - each[0]);
                        took.append(&mut each);
                    }
                    let millis = |sorted: &mut Vec<Duration>| {
                        sorted.sort_unstable();
                        [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
                            .map(|one| one.as_secs_f64() * 1e3)
                    };
                    let ([min, median, max], spreads) = (millis(&mut took), millis(&mut spreads));
                    println!(
                        "{:<10} {away:>7} {min:>8.0} {median:>8.0} {max:>8.0} {:>12.0} {:>12.0} {:>12.0}",
                        format!("{how:?}").to_lowercase(),
                        spreads[0],
                        spreads[1],
                        spreads[2]
                    );
                }
            }
            println!();
            anyhow::Ok(())
        })
    }
}

/// How long each node is without a session once its server, which was away, answers again.
async fn restart(
    server: &Arc<Server>,
    how: Stop,
    away: Duration,
    nodes: &[Callsheet],
) -> anyhow::Result<Vec<Duration>> {
    let order = |order: fn(&Server, Stop)| {
        let server = server.clone();
        tokio::task::spawn_blocking(move || order(&server, how))
    };
    order(Server::stop).await?;
    join_all(nodes.iter().map(|node| until_ready(node, false))).await;
    tokio::time::sleep(away).await;
    let started = order(|server, _| server.start_again());
    let url = server.url();
    let answers = async {
        loop {
            if let Ok((_client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                drop(connection);
                return Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (answered_at, ready_at) =
        tokio::join!(answers, join_all(nodes.iter().map(|node| until_ready(node, true))));
    started.await?;
    Ok(ready_at.into_iter().map(|ready_at| ready_at.saturating_duration_since(answered_at)).collect())
}

/// Waits until a node has a session, or has none, and answers when.
async fn until_ready(node: &Callsheet, ready: bool) -> Instant {
    loop {
        if node.health().await.is_ok_and(|health| health.ready == ready) {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// The adapter, and what stands beside it.

/// How long a number of ticks took to claim, and to claim and complete.
#[derive(Clone, Copy, Default)]
struct Took {
    ticks: u32,
    claims: Duration,
    ends: Duration,
    /// The processor time of the server process, which neither the disk nor other programs stretch.
    server: Duration,
}

impl Took {
    fn add(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.claims += other.claims;
        self.ends += other.ends;
    }

    fn claims(&self) -> f64 {
        f64::from(self.ticks) / self.claims.as_secs_f64()
    }

    fn server_micros(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / f64::from(self.ticks)
    }

    fn ticks(&self) -> f64 {
        f64::from(self.ticks) / (self.claims + self.ends).as_secs_f64()
    }
}

/// $1 names of jobs that ran once and were withdrawn.
const STALE: &str = "
INSERT INTO callsheet.names (scope, name, token, claimed_at, cursor, withdrawn, runs, schedule)
SELECT 'stale', 'reminder-' || n, n, now(), now(), true, 1, 'v1:' || md5(n::text) FROM generate_series(1, $1::int8) AS n";

/// A session, whose beacon nobody holds, leaves the run of one job open.
const DIES: &str = "
WITH dead AS (
    INSERT INTO callsheet.sessions (scope, beacon, pid, role, node, name, version, lease, zone_data, since)
    SELECT 'stale', (random() * 1e15)::int8, 0, usesysid, gen_random_uuid(), '', '', interval '5 s', '', clock_timestamp()
    FROM pg_stat_get_activity(pg_backend_pid())
    RETURNING beacon, node
)
UPDATE callsheet.names
SET run = gen_random_uuid(), beacon = dead.beacon, run_node = dead.node, run_job = name, claimed_at = clock_timestamp()
FROM dead WHERE scope = 'stale' AND name = 'job-0'";

/// A node that leads, and its jobs.
struct Adapter {
    locker: Arc<dyn Locker>,
    term: Term,
    jobs: Vec<(JobName, DateTime<Utc>)>,
    next: usize,
    /// Claimed and not completed.
    open: Vec<Completion>,
    /// The process that serves it.
    server: i32,
}

impl Adapter {
    async fn open(scope: &str) -> anyhow::Result<Self> {
        Self::open_with(scope, JOBS).await
    }

    async fn open_with(scope: &str, jobs: usize) -> anyhow::Result<Self> {
        // Nobody renews the term.
        let backend = Postgres::new(scope, harness::server().url()).lease(Duration::from_secs(600));
        let locker = backend.locker();
        locker.open().await?;
        let Campaign::Won(grant) = backend.elector().campaign(Duration::MAX).await? else {
            bail!("nobody else leads")
        };
        let term = grant.term;
        let names: Vec<_> =
            (0..jobs).map(|nth| JobName::new(format!("job-{nth}")).expect("a name")).collect();
        let mut jobs = Vec::new();
        for page in names.chunks(1_024) {
            let schedule = ScheduleIdentity::of_text("every 1 ms");
            let page: Vec<_> =
                page.iter().map(|job| Enrolment::new(job.clone(), schedule, Authority::Term(term))).collect();
            for (enrolment, answer) in page.iter().zip(locker.enrol(&page).await?) {
                let Enrolled::Done { cursor, .. } = answer else { bail!("not enrolled: {answer:?}") };
                jobs.push((enrolment.job.clone(), cursor));
            }
        }
        let server = process_of(&backend).await?;
        // Every tick that is claimed is due: they are 1 ms apart, and claimed more slowly.
        Ok(Self { locker, term, jobs, next: 0, open: Vec::new(), server })
    }

    fn requests(&mut self, batch: usize) -> Vec<ClaimRequest> {
        (0..batch)
            .map(|_| {
                let jobs = self.jobs.len();
                let (job, cursor) = &mut self.jobs[self.next];
                self.next = (self.next + 1) % jobs;
                let fire_time = FireTime::new(*cursor + TimeDelta::milliseconds(1));
                let tick = TickClaim {
                    fire_time,
                    expected: *cursor,
                    skips: Skips::default(),
                    authority: Authority::Term(self.term),
                };
                *cursor = fire_time.instant();
                let key = LockKey::new(job.as_str()).expect("a key");
                let run = RunId::from(Uuid::now_v7());
                ClaimRequest { tick: Some(tick), ..ClaimRequest::new(job.clone(), key, run) }
            })
            .collect()
    }

    /// Claims, and leaves it open.
    async fn claim(&mut self, batch: usize) -> anyhow::Result<Duration> {
        let requests = self.requests(batch);
        let started = Instant::now();
        let verdicts = self.locker.claim(&requests).await?;
        let claims = started.elapsed();
        self.open = ends(requests, verdicts)?;
        Ok(claims)
    }

    async fn claim_and_complete(&mut self, batch: usize) -> anyhow::Result<Took> {
        let claims = self.claim(batch).await?;
        let started = Instant::now();
        self.finish().await?;
        Ok(Took { ticks: u32::try_from(batch)?, claims, ends: started.elapsed(), ..Took::default() })
    }

    /// As the engine does it: the former batch is completed in the round trip that claims the next one.
    async fn round(&mut self, batch: usize) -> anyhow::Result<Took> {
        let requests = self.requests(batch);
        let open = std::mem::take(&mut self.open);
        let started = Instant::now();
        let answers = self.locker.round(&open, &requests, &[]).await;
        let claims = started.elapsed();
        ensure!(answers.ended?.iter().all(|end| *end == Completed::RECORDED), "an end was refused");
        self.open = ends(requests, answers.claimed?)?;
        Ok(Took { ticks: u32::try_from(batch)?, claims, ..Took::default() })
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        let open = std::mem::take(&mut self.open);
        let ended = self.locker.complete(&open).await?;
        ensure!(ended.iter().all(|end| *end == Completed::RECORDED), "an end was refused");
        Ok(())
    }
}

fn ends(requests: Vec<ClaimRequest>, verdicts: Vec<Verdict>) -> anyhow::Result<Vec<Completion>> {
    let end = |(request, verdict)| {
        let ClaimRequest { job, key, run, .. } = request;
        let Verdict::Granted { token, .. } = verdict else { bail!("{job}: {verdict:?}") };
        Ok(Completion::new(job, key, run, token, Outcome::Succeeded))
    };
    requests.into_iter().zip(verdicts).map(end).collect()
}

/// The least that makes a tick run once and records its end: no terms, no sessions, no order, no other keys, and nobody
/// else who may have locked a row.
struct Bare {
    client: Client,
    claim: Statement,
    complete: Statement,
    next: usize,
    /// The process that serves it.
    server: i32,
}

impl Bare {
    async fn open() -> anyhow::Result<Self> {
        let client = connect().await?;
        client
            .batch_execute(&format!(
                "CREATE SCHEMA bare;
                 SET search_path = bare;
                 SET jit = off;
                 CREATE TABLE jobs (
                     job text COLLATE \"C\" PRIMARY KEY, cursor timestamptz NOT NULL, token bigint NOT NULL, run uuid
                 ) WITH (fillfactor = 50);
                 CREATE TABLE runs (
                     run uuid PRIMARY KEY, job text COLLATE \"C\" NOT NULL, fire_time timestamptz NOT NULL,
                     token bigint NOT NULL, claimed_at timestamptz NOT NULL, ended_at timestamptz, outcome text
                 ) WITH (fillfactor = 80);
                 INSERT INTO jobs SELECT 'job-' || nth, now(), 0, NULL FROM generate_series(0, {}) AS nth;
                 ANALYZE jobs",
                JOBS - 1
            ))
            .await?;
        let server = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let claim = client
            .prepare(
                "WITH claimed AS (
                     UPDATE jobs j SET cursor = j.cursor + interval '1 ms', token = j.token + 1, run = a.run
                     FROM unnest($1::text[], $2::uuid[]) AS a (job, run) WHERE j.job = a.job AND j.run IS NULL
                     RETURNING j.job, j.run, j.cursor, j.token
                 ), recorded AS (
                     INSERT INTO runs SELECT run, job, cursor, token, clock_timestamp() FROM claimed
                 )
                 SELECT job, token FROM claimed",
            )
            .await?;
        let complete = client
            .prepare(
                "WITH freed AS (
                     UPDATE jobs j SET run = NULL FROM unnest($1::text[], $2::uuid[]) AS a (job, run)
                     WHERE j.job = a.job AND j.run = a.run
                     RETURNING a.run
                 ), ended AS (
                     UPDATE runs r SET outcome = 'succeeded', ended_at = clock_timestamp()
                     FROM freed f WHERE r.run = f.run
                 )
                 SELECT run FROM freed",
            )
            .await?;
        Ok(Self { client, claim, complete, next: 0, server })
    }

    async fn claim_and_complete(&mut self, batch: usize) -> anyhow::Result<Took> {
        let jobs: Vec<_> = (0..batch).map(|nth| format!("job-{}", (self.next + nth) % JOBS)).collect();
        self.next = (self.next + batch) % JOBS;
        let runs: Vec<_> = (0..batch).map(|_| Uuid::now_v7()).collect();
        let started = Instant::now();
        let claimed = self.client.query(&self.claim, &[&jobs, &runs]).await?;
        let claims = started.elapsed();
        ensure!(claimed.len() == batch, "{} of {batch} claimed", claimed.len());
        let started = Instant::now();
        let ended = self.client.query(&self.complete, &[&jobs, &runs]).await?;
        ensure!(ended.len() == batch, "{} of {batch} ended", ended.len());
        Ok(Took { ticks: u32::try_from(batch)?, claims, ends: started.elapsed(), ..Took::default() })
    }
}

/// The process of the server that serves the session of a node.
async fn process_of(backend: &Postgres) -> anyhow::Result<i32> {
    let node = backend.node().context("it has an id")?.as_uuid().simple().to_string();
    let process =
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'callsheet ' || $1 || '% session %'";
    Ok(connect().await?.query_one(process, &[&&node[..12]]).await?.try_get(0)?)
}

async fn connect() -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&harness::server().url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// How long it takes to change one row, once in 10 ms.
async fn commits(count: u32) -> anyhow::Result<Histogram<u64>> {
    let client = connect().await?;
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS one_row AS SELECT 0 AS n; SET jit = off; SET synchronous_commit = on",
        )
        .await?;
    let change = client.prepare("UPDATE one_row SET n = n + 1").await?;
    let mut took = histogram();
    for _ in 0..count {
        let started = Instant::now();
        client.execute(&change, &[]).await?;
        took.saturating_record(u64::try_from(started.elapsed().as_micros())?);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(took)
}

/// How often each query was executed, by how it begins.
type Queries = Arc<Mutex<HashMap<String, u64>>>;

/// A way to the server that counts the queries which take it.
async fn counted() -> anyhow::Result<(String, Queries)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = harness::server().url();
    let port = harness::server().port();
    let own = url.replace(&format!(":{port}/"), &format!(":{}/", listener.local_addr()?.port()));
    let queries = Queries::default();
    let counter = queries.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", port)).await?;
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let answers = tokio::io::copy(&mut from_server, &mut to_client);
                tokio::select! {
                    asked = forward(from_client, to_server, &counter) => asked?,
                    answered = answers => drop(answered?),
                }
                anyhow::Ok(())
            });
        }
    });
    Ok((own, queries))
}

/// Forwards the messages of a client, and counts those that execute something: simple queries and `Execute`.
async fn forward(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWriteExt + Unpin,
    queries: &Queries,
) -> anyhow::Result<()> {
    let mut prepared: HashMap<String, String> = HashMap::new();
    let mut bound = String::new();
    // The first message has no type.
    let mut head = 0;
    loop {
        let mut message = vec![0; head + 4];
        client.read_exact(&mut message).await?;
        let length = usize::try_from(u32::from_be_bytes(message[head..].try_into()?))?;
        message.resize(head + length, 0);
        client.read_exact(&mut message[head + 4..]).await?;
        if head == 1 {
            let mut texts = message[5..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
            match message[0] {
                b'P' => drop(prepared.insert(first.into(), beginning(&second))),
                b'B' => bound = prepared.get(&*second).cloned().unwrap_or_default(),
                b'E' => *locked(queries).entry(bound.clone()).or_default() += 1,
                b'Q' => *locked(queries).entry(beginning(&first)).or_default() += 1,
                _ => {}
            }
        }
        server.write_all(&message).await?;
        head = 1;
    }
}

/// How a query begins, on one line.
fn beginning(query: &str) -> String {
    let line = query.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(90).collect()
}

// The engine, in a process of its own.

const CHILD: &str = "--child";
/// The period of jobs that are not due.
const FAR: Duration = Duration::from_secs(30 * 86_400);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Jobs that fire without claims, on the embedded backend.
    Local,
    Postgres,
    /// While another node waits for the leadership.
    PostgresFollowed,
}

impl Side {
    const ALL: [Self; 3] = [Self::Local, Self::Postgres, Self::PostgresFollowed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local, no claims",
            Self::Postgres => "postgres",
            Self::PostgresFollowed => "postgres, a follower",
        }
    }
}

struct Case {
    side: Side,
    jobs: usize,
    period: Duration,
    window: Duration,
    scope: String,
    url: String,
}

impl Case {
    fn new(side: Side, jobs: usize, period: Duration, window: Duration) -> Self {
        Self { side, jobs, period, window, scope: harness::scope("engine"), url: harness::server().url() }
    }

    fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let [side, jobs, period, window, scope, url] = arguments else { bail!("not a case") };
        let millis = |text: &str| anyhow::Ok(Duration::from_millis(text.parse()?));
        Ok(Self {
            side: *Side::ALL.get(side.parse::<usize>()?).context("not a side")?,
            jobs: jobs.parse()?,
            period: millis(period)?,
            window: millis(window)?,
            scope: scope.clone(),
            url: url.clone(),
        })
    }

    /// Measures in another process and answers what it printed: started, recorded, overlap and misfire a second; lateness
    /// p50, p99 and max in ms; the engine's processor time a tick in µs.
    fn spawn(&self) -> anyhow::Result<Vec<f64>> {
        let numbers =
            [self.side as usize as u128, self.jobs as u128, self.period.as_millis(), self.window.as_millis()];
        let mut child = Command::new(env::current_exe()?);
        child.arg(CHILD).args(numbers.map(|number| number.to_string())).args([&self.scope, &self.url]);
        let output = child.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Vec<f64> = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        ensure!(found.len() == 8, "a case prints eight numbers: {found:?}");
        Ok(found)
    }

    fn measure(&self) -> anyhow::Result<()> {
        metrics::set_global_recorder(SkipCounter)
            .map_err(|_| anyhow::anyhow!("there is a recorder already"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            tokio::spawn(connection);
            let builder = Callsheet::builder();
            let local = self.side == Side::Local;
            let builder = if local {
                builder
            } else {
                builder.backend(Postgres::new(&self.scope, &self.url))
            };
            let engine = builder.start().await?;
            // Every job is armed before.
            let start = Utc::now() + TimeDelta::milliseconds(1_500);
            let from = start + self.period + TimeDelta::milliseconds(1_000);
            let notebook = NOTEBOOK.get_or_init(|| Notebook {
                from,
                until: from + self.window,
                histograms: Mutex::default(),
            });
            let millis = self.period.as_millis() as usize;
            let fires = if local { Fires::Local } else { Fires::Leader };
            let job = |nth: usize| {
                let first = start + Duration::from_millis((nth * millis / self.jobs) as u64);
                Job::new(format!("job-{nth}"), every(self.period).anchored_at(first)).fires(fires).run(body)
            };
            engine.add_all((0..self.jobs).map(job)).await?;
            let follower = match self.side {
                Side::PostgresFollowed => Some(
                    Callsheet::builder().backend(Postgres::new(&self.scope, &self.url)).start().await?,
                ),
                Side::Local | Side::Postgres => None,
            };
            sleep_until(notebook.from).await;
            let (used, skips) = (processor_time()?, SkipCounter::read());
            sleep_until(notebook.until).await;
            let (used, later) = (processor_time()? - used, SkipCounter::read());
            // Whoever is later than this counts as not started, or not recorded.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let lateness = notebook.lateness();
            let recorded: i64 = if local {
                0
            } else {
                let ended = "SELECT count(*) FROM callsheet.runs
                             WHERE scope = $1 AND outcome = 'succeeded' AND fire_time >= $2 AND fire_time < $3";
                client.query_one(ended, &[&self.scope, &notebook.from, &notebook.until]).await?.try_get(0)?
            };
            let seconds = self.window.as_secs_f64();
            let quantile = |quantile| lateness.value_at_quantile(quantile) as f64 / 1e3;
            println!(
                "{} {} {} {} {} {} {} {}",
                lateness.len() as f64 / seconds,
                recorded as f64 / seconds,
                (later[1] - skips[1]) as f64 / seconds,
                (later[0] - skips[0]) as f64 / seconds,
                quantile(0.5),
                quantile(0.99),
                lateness.max() as f64 / 1e3,
                used.as_secs_f64() * 1e6 / lateness.len().max(1) as f64
            );
            drop(follower);
            // Not drained: what is measured is over.
            std::process::exit(0)
        })
    }
}

/// The body of a job.
fn body(run: Run) -> Ready<()> {
    if let Some(fire_time) = run.fire_time() {
        note(fire_time);
    }
    ready(())
}

static NOTEBOOK: OnceLock<Notebook> = OnceLock::new();

struct Notebook {
    /// Only ticks of this time are noted.
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// Lateness in microseconds; a histogram of its own for each thread, so that nobody waits.
    histograms: Mutex<Vec<Arc<Mutex<Histogram<u64>>>>>,
}

impl Notebook {
    fn lateness(&self) -> Histogram<u64> {
        let mut all = histogram();
        for one in locked(&self.histograms).iter() {
            all.add(&*locked(one)).expect("invariant: same bounds");
        }
        all
    }
}

/// Notes that the body of the tick at `fire_time` has started.
fn note(fire_time: DateTime<Utc>) {
    thread_local! {
        static OWN: Arc<Mutex<Histogram<u64>>> = Arc::new(Mutex::new(histogram()));
        static KEPT: () = OWN.with(|own| {
            if let Some(notebook) = NOTEBOOK.get() {
                locked(&notebook.histograms).push(own.clone());
            }
        });
    }
    let Some(notebook) = NOTEBOOK.get() else { return };
    KEPT.with(|()| ());
    let late = (Utc::now() - fire_time).num_microseconds().and_then(|micros| u64::try_from(micros).ok());
    if notebook.from <= fire_time && fire_time < notebook.until {
        OWN.with(|own| locked(own).saturating_record(late.expect("never early")));
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("invariant: good bounds")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A recorder that knows only how many ticks were skipped, so that recording costs next to nothing.
struct SkipCounter;

static MISFIRE: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static OVERLAP: AtomicCounter = AtomicCounter(AtomicU64::new(0));

struct AtomicCounter(AtomicU64);

impl SkipCounter {
    /// Misfires and overlaps so far.
    fn read() -> [u64; 2] {
        [MISFIRE.0.load(Relaxed), OVERLAP.0.load(Relaxed)]
    }
}

impl CounterFn for &AtomicCounter {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

impl Recorder for SkipCounter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let outcome = key.labels().find(|label| label.key() == "outcome").map(|label| label.value());
        match (key.name(), outcome) {
            ("callsheet_ticks_total", Some("misfire")) => Counter::from_arc(Arc::new(&MISFIRE)),
            ("callsheet_ticks_total", Some("overlap")) => Counter::from_arc(Arc::new(&OVERLAP)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

/// The processor time of all threads of this process, to the nanosecond.
fn processor_time() -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(line) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += line.split(' ').next().context("schedstat: no first field")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The processor time of a process with one thread.
fn processor_time_of(pid: i32) -> anyhow::Result<Duration> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanos = line.split(' ').next().context("schedstat: no first field")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}

async fn sleep_until(instant: DateTime<Utc>) {
    tokio::time::sleep((instant - Utc::now()).to_std().unwrap_or_default()).await;
}
