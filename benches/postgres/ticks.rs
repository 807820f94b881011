//! The whole engine, in a process of its own: as many ticks as possible, and few.

use std::{
    env,
    future::{Ready, ready},
    net::TcpListener,
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use callsheet::{
    Callsheet, Fires, HISTORY_QUEUE_MIN, HistoryOptions, Job, RETENTION_MIN, Run,
    backend::Postgres,
    deadpool_postgres::{Manager, Pool, Runtime},
    port::Backend,
    schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Client, NoTls};

use crate::{
    JOBS, Plan, harness,
    instruments::{Lateness, TickCounter, late_micros, processor_time},
    server::{commits, process_on, processor_time_below, processor_time_of},
};

impl Plan {
    /// The whole engine.
    pub(crate) fn ticks(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        println!(
            "ticks: {JOBS} jobs with trivial bodies, phases spread evenly, for {:?}; a history but where it is off; recorded = rows of ended runs; server = the process of its session, others = all others",
            self.window
        );
        println!(
            "{:>10}  {:<22} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
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
            "server µs",
            "others µs",
            "commit ms"
        );
        for rate in [10_000, 30_000, 60_000, 80_000] {
            for side in [
                Side::Local,
                Side::WithoutHistory,
                Side::FollowedWithoutHistory,
                Side::Postgres,
                Side::PostgresFollowed,
            ] {
                let period = Duration::from_millis(JOBS as u64 * 1_000 / rate);
                let window = if side == Side::Local { self.window / 3 } else { self.window };
                let case = Case::new(side, JOBS, period, window);
                let commit = runtime.block_on(commits(20))?;
                let found = case.spawn()?;
                let offered = JOBS as f64 / period.as_secs_f64();
                println!(
                    "{offered:>10.0}  {:<22} {:>10.0} {:>10.0} {:>9.0} {:>9.0} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>10.1} {:>10.1} {:>10.2}",
                    side.as_str(),
                    found.started,
                    found.recorded,
                    found.overlap,
                    found.misfire,
                    found.p50,
                    found.p99,
                    found.max,
                    found.engine_cpu,
                    found.session_cpu,
                    found.others_cpu,
                    commit.value_at_quantile(0.5) as f64 / 1e3,
                );
            }
        }
        println!();
        Ok(())
    }
}

/// The first argument of the process that measures one case.
pub(crate) const CHILD: &str = "--child";

/// What is measured, and beside what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Jobs that fire without claims, on the embedded backend.
    Local,
    Postgres,
    /// While another node waits for the leadership.
    PostgresFollowed,
    WithoutHistory,
    /// While another node waits for the leadership.
    FollowedWithoutHistory,
    /// The connections of the history get no answer, and few records may wait.
    SilentHistory,
    /// Much of the history is deleted soon.
    PrunedHistory,
}

impl Side {
    const ALL: [Self; 7] = [
        Self::Local,
        Self::Postgres,
        Self::PostgresFollowed,
        Self::WithoutHistory,
        Self::FollowedWithoutHistory,
        Self::SilentHistory,
        Self::PrunedHistory,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local, no claims",
            Self::Postgres => "postgres",
            Self::PostgresFollowed => "postgres, a follower",
            Self::WithoutHistory => "history off",
            Self::FollowedWithoutHistory => "the same, a follower",
            Self::SilentHistory => "history full and slow",
            Self::PrunedHistory => "history pruned",
        }
    }

    fn history(self) -> HistoryOptions {
        let mut options = HistoryOptions::default();
        match self {
            Self::Local | Self::Postgres | Self::PostgresFollowed => {}
            Self::WithoutHistory | Self::FollowedWithoutHistory => return HistoryOptions::off(),
            Self::SilentHistory => options.queue = HISTORY_QUEUE_MIN,
            Self::PrunedHistory => {
                (options.retention.runs_for, options.retention.runs_per_job) = (RETENTION_MIN, 100);
            }
        }
        options
    }

    fn backend(self, scope: &str, url: &str) -> anyhow::Result<Postgres> {
        let backend = Postgres::new(scope, url);
        match self {
            Self::SilentHistory => Ok(backend.history_pool(silent_pool()?)),
            _ => Ok(backend),
        }
    }
}

/// A pool whose connections are made, and get no answer.
fn silent_pool() -> anyhow::Result<Pool> {
    // For as long as the process lives.
    let listener = Box::leak(Box::new(TcpListener::bind("127.0.0.1:0")?));
    let config = format!("postgres://nobody@127.0.0.1:{}/nothing", listener.local_addr()?.port());
    let timeouts = Some(Duration::from_millis(500));
    let pool = Pool::builder(Manager::new(config.parse()?, NoTls)).runtime(Runtime::Tokio1).max_size(1);
    Ok(pool.wait_timeout(timeouts).create_timeout(timeouts).build()?)
}

pub(crate) struct Case {
    pub(crate) side: Side,
    pub(crate) jobs: usize,
    pub(crate) period: Duration,
    /// How long jobs fire before the window begins.
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    pub(crate) scope: String,
    pub(crate) url: String,
}

/// What a case measured: per second; in milliseconds; in microseconds of processor time a tick.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Found {
    pub(crate) started: f64,
    pub(crate) recorded: f64,
    pub(crate) overlap: f64,
    pub(crate) misfire: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) engine_cpu: f64,
    /// Of the process of the server that serves the session.
    pub(crate) session_cpu: f64,
    /// Of all other processes of the server.
    pub(crate) others_cpu: f64,
    /// Records of the history that were dropped, a second.
    pub(crate) dropped: f64,
    /// How many runs the history has in the end.
    pub(crate) kept: i64,
}

impl Case {
    pub(crate) fn new(side: Side, jobs: usize, period: Duration, window: Duration) -> Self {
        let warm_up = Duration::from_secs(1);
        let (scope, url) = (harness::scope("engine"), harness::server().url());
        Self { side, jobs, period, warm_up, window, scope, url }
    }

    pub(crate) fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let [side, jobs, period, warm_up, window, scope, url] = arguments else { bail!("not a case") };
        let millis = |text: &str| anyhow::Ok(Duration::from_millis(text.parse()?));
        Ok(Self {
            side: *Side::ALL.get(side.parse::<usize>()?).context("not a side")?,
            jobs: jobs.parse()?,
            period: millis(period)?,
            warm_up: millis(warm_up)?,
            window: millis(window)?,
            scope: scope.clone(),
            url: url.clone(),
        })
    }

    /// Measures in another process.
    pub(crate) fn spawn(&self) -> anyhow::Result<Found> {
        let numbers = [
            self.side as usize as u128,
            self.jobs as u128,
            self.period.as_millis(),
            self.warm_up.as_millis(),
            self.window.as_millis(),
        ];
        let mut child = Command::new(env::current_exe()?);
        child.arg(CHILD).args(numbers.map(|number| number.to_string())).args([&self.scope, &self.url]);
        let output = child.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    pub(crate) fn measure(&self) -> anyhow::Result<()> {
        metrics::set_global_recorder(TickCounter)
            .map_err(|_| anyhow::anyhow!("there is a recorder already"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            tokio::spawn(connection);
            let builder = Callsheet::builder();
            let local = self.side == Side::Local;
            let (builder, node) = if local {
                (builder, None)
            } else {
                let backend = self.side.backend(&self.scope, &self.url)?;
                let node = backend.node();
                (builder.backend(backend), node)
            };
            let engine = builder.history(self.side.history()).start().await?;
            let server = match node {
                Some(node) => Some(process_on(&client, node).await?),
                None => None,
            };
            let of_server = || server.map_or(Ok(Duration::ZERO), processor_time_of);
            let pid =
                client.query_one("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'", &[]);
            let of_all = server_of(pid.await?.try_get(0)?)?;
            // Every job is armed before.
            let start = Utc::now() + TimeDelta::milliseconds(1_500);
            let from = start + self.period + self.warm_up;
            let noted = LATENESS.get_or_init(|| Lateness::new(from, from + self.window));
            let millis = self.period.as_millis() as usize;
            let fires = if local { Fires::Local } else { Fires::Leader };
            let job = |nth: usize| {
                let first = start + Duration::from_millis((nth * millis / self.jobs) as u64);
                Job::new(format!("job-{nth}"), every(self.period).anchored_at(first)).fires(fires).run(body)
            };
            engine.add_all((0..self.jobs).map(job)).await?;
            let follower = match self.side {
                Side::PostgresFollowed | Side::FollowedWithoutHistory => {
                    Some(Callsheet::builder().backend(Postgres::new(&self.scope, &self.url)).start().await?)
                }
                _ => None,
            };
            sleep_until(noted.from).await;
            let before = (processor_time()?, of_server()?, processor_time_below(of_all)?);
            let (ticks, dropped) = (TickCounter::read(), TickCounter::dropped());
            sleep_until(noted.until).await;
            let (used, served) = (processor_time()?.saturating_sub(before.0), of_server()? - before.1);
            let others = processor_time_below(of_all)?.saturating_sub(before.2).saturating_sub(served);
            let (decided, dropped) = (TickCounter::read().since(ticks), TickCounter::dropped() - dropped);
            // Whoever is later than this counts as not started, or not recorded.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let lateness = noted.all();
            let recorded = if local { 0 } else { self.recorded(&client, noted).await? };
            let seconds = self.window.as_secs_f64();
            let quantile = |quantile| lateness.value_at_quantile(quantile) as f64 / 1e3;
            let of_tick = |used: Duration| used.as_secs_f64() * 1e6 / lateness.len().max(1) as f64;
            let found = Found {
                started: lateness.len() as f64 / seconds,
                recorded: recorded as f64 / seconds,
                overlap: decided.overlap as f64 / seconds,
                misfire: decided.misfire as f64 / seconds,
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: lateness.max() as f64 / 1e3,
                engine_cpu: of_tick(used),
                session_cpu: of_tick(served),
                others_cpu: of_tick(others),
                dropped: dropped as f64 / seconds,
                kept: if local { 0 } else { self.kept(&client).await? },
            };
            println!("{}", serde_json::to_string(&found)?);
            drop(follower);
            // Not drained: what is measured is over.
            std::process::exit(0)
        })
    }

    /// How many of the runs that were noted have ended in the store.
    async fn recorded(&self, client: &Client, noted: &Lateness) -> anyhow::Result<i64> {
        let ended = "SELECT count(*) FROM callsheet.runs
                     WHERE scope = $1 AND outcome = 'succeeded' AND fire_time >= $2 AND fire_time < $3";
        Ok(client.query_one(ended, &[&self.scope, &noted.from, &noted.until]).await?.try_get(0)?)
    }

    /// How many runs the history has.
    async fn kept(&self, client: &Client) -> anyhow::Result<i64> {
        let runs = "SELECT count(*) FROM callsheet.history_runs WHERE scope = $1";
        Ok(client.query_one(runs, &[&self.scope]).await?.try_get(0)?)
    }
}

/// The process of the server above one of its own.
fn server_of(pid: i32) -> anyhow::Result<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("it has a parent")?;
    Ok(parent.trim().parse()?)
}

/// The body of a job.
pub(crate) fn body(run: Run) -> Ready<()> {
    if let Some(fire_time) = run.fire_time() {
        note(fire_time);
    }
    ready(())
}

static LATENESS: OnceLock<Lateness> = OnceLock::new();

/// Notes that the body of the tick at `fire_time` has started.
fn note(fire_time: DateTime<Utc>) {
    if let Some(lateness) = LATENESS.get() {
        lateness.note(fire_time, late_micros(fire_time));
    }
}

async fn sleep_until(instant: DateTime<Utc>) {
    tokio::time::sleep((instant - Utc::now()).to_std().unwrap_or_default()).await;
}
