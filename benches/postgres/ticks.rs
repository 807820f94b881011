//! The whole engine, in a process of its own: as many ticks as possible, and few.

use std::{
    env,
    future::{Ready, ready},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use callsheet::{Callsheet, Fires, Job, Run, backend::Postgres, port::Backend, schedule::every};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::{
    JOBS, Plan, harness,
    instruments::{Lateness, TickCounter, histogram, late_micros, processor_time},
    server::{commits, process_on, processor_time_of},
};

impl Plan {
    /// The whole engine.
    pub(crate) fn ticks(&self, runtime: &Runtime) -> anyhow::Result<()> {
        println!(
            "ticks: {JOBS} jobs with trivial bodies, phases spread evenly, for {:?}; recorded = rows of ended runs",
            self.window
        );
        println!(
            "{:>10}  {:<22} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}",
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
            "commit ms"
        );
        for rate in [10_000, 30_000, 60_000, 80_000] {
            for side in Side::ALL {
                let period = Duration::from_millis(JOBS as u64 * 1_000 / rate);
                let window = if side == Side::Local { self.window / 3 } else { self.window };
                let case = Case::new(side, JOBS, period, window);
                let commit = runtime.block_on(commits(20))?;
                let found = case.spawn()?;
                let offered = JOBS as f64 / period.as_secs_f64();
                println!(
                    "{offered:>10.0}  {:<22} {:>10.0} {:>10.0} {:>9.0} {:>9.0} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>10.1} {:>10.2}",
                    side.as_str(),
                    found[0],
                    found[1],
                    found[2],
                    found[3],
                    found[4],
                    found[5],
                    found[6],
                    found[7],
                    found[8],
                    commit.value_at_quantile(0.5) as f64 / 1e3,
                );
            }
        }
        println!();
        Ok(())
    }

    /// Few ticks: from the fire time to the body.
    pub(crate) fn latency(&self, runtime: &Runtime) -> anyhow::Result<()> {
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
}

/// The first argument of the process that measures one case.
pub(crate) const CHILD: &str = "--child";

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

pub(crate) struct Case {
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

    pub(crate) fn of(arguments: &[String]) -> anyhow::Result<Self> {
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

    /// Measures in another process and answers what it printed: started, recorded, overlap and misfire a
    /// second; lateness p50, p99 and max in ms; the processor time a tick in µs, of the engine and of the
    /// process of the server that serves it.
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
        ensure!(found.len() == 9, "a case prints nine numbers: {found:?}");
        Ok(found)
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
                let backend = Postgres::new(&self.scope, &self.url);
                let node = backend.node();
                (builder.backend(backend), node)
            };
            let engine = builder.start().await?;
            let server = match node {
                Some(node) => Some(process_on(&client, node).await?),
                None => None,
            };
            let of_server = || server.map_or(Ok(Duration::ZERO), processor_time_of);
            // Every job is armed before.
            let start = Utc::now() + TimeDelta::milliseconds(1_500);
            let from = start + self.period + TimeDelta::milliseconds(1_000);
            let noted = LATENESS.get_or_init(|| Lateness::new(from, from + self.window));
            let millis = self.period.as_millis() as usize;
            let fires = if local { Fires::Local } else { Fires::Leader };
            let job = |nth: usize| {
                let first = start + Duration::from_millis((nth * millis / self.jobs) as u64);
                Job::new(format!("job-{nth}"), every(self.period).anchored_at(first)).fires(fires).run(body)
            };
            engine.add_all((0..self.jobs).map(job)).await?;
            let follower = match self.side {
                Side::PostgresFollowed => {
                    Some(Callsheet::builder().backend(Postgres::new(&self.scope, &self.url)).start().await?)
                }
                Side::Local | Side::Postgres => None,
            };
            sleep_until(noted.from).await;
            let (used, of_server_before, earlier) = (processor_time()?, of_server()?, TickCounter::read());
            sleep_until(noted.until).await;
            let (used, decided) = (processor_time()? - used, TickCounter::read().since(earlier));
            let served = of_server()? - of_server_before;
            // Whoever is later than this counts as not started, or not recorded.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let lateness = noted.all();
            let recorded = if local { 0 } else { self.recorded(&client, noted).await? };
            let seconds = self.window.as_secs_f64();
            let quantile = |quantile| lateness.value_at_quantile(quantile) as f64 / 1e3;
            println!(
                "{} {} {} {} {} {} {} {} {}",
                lateness.len() as f64 / seconds,
                recorded as f64 / seconds,
                decided.overlap as f64 / seconds,
                decided.misfire as f64 / seconds,
                quantile(0.5),
                quantile(0.99),
                lateness.max() as f64 / 1e3,
                used.as_secs_f64() * 1e6 / lateness.len().max(1) as f64,
                served.as_secs_f64() * 1e6 / lateness.len().max(1) as f64
            );
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
