//! The history: what it costs those that fire, how long questions take when there is much of it, and whether
//! what is deleted delays anybody.

use std::time::{Duration, Instant};

use anyhow::Context;
use callsheet::{
    Decisions, Gaps, JobHistory, JobName, Operations, Outcome, RunHistory, RunId,
    backend::Postgres,
    port::{AskGaps, Backend, History, LAST_ENDS_MAX, RecordsOf},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::{
    JOBS, Plan, harness,
    instruments::histogram,
    server::connect,
    ticks::{Case, Found, Side},
};

/// How long all jobs fire before what is deleted is looked at: the leader begins after a minute.
const UNTIL_PRUNED: Duration = Duration::from_secs(65);

/// Runs of 1,000 jobs, one each millisecond; one in a thousand failed. The first parameter says after which, the second
/// how many.
const FILL_RUNS: &str = "
INSERT INTO callsheet.history_runs (scope, run, job, key, slot, origin, node, fire_time, started_at, ended_at, lateness, took, outcome, attempt, report)
SELECT $1, (lpad(to_hex(1767225600000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, 'job-' || n % 1000, 'job-' || n % 1000,
       0, 'tick', '00000000-0000-0000-0000-000000000001', to_timestamp(1767225600 + n / 1000.0), to_timestamp(1767225600 + n / 1000.0),
       to_timestamp(1767225600 + n / 1000.0), 0, n,
       CASE WHEN n % 997 = 1 THEN 'failed' ELSE 'succeeded' END, 1, CASE WHEN n % 10 = 0 THEN '1,204 rows' END
FROM generate_series($2::int8 + 1, $2::int8 + $3::int8) AS g (n)";
const FILL_OTHERS: [&str; 3] = [
    "INSERT INTO callsheet.history_jobs (scope, job, runs) SELECT $1, 'job-' || n, 5000 FROM generate_series(0, least(9999, $2::int8)) AS g (n)",
    "INSERT INTO callsheet.history_decisions (scope, at, node, job, reason, lost, decision)
     SELECT $1, to_timestamp(1767225600 + n), '00000000-0000-0000-0000-000000000001',
            CASE WHEN n % 100 = 1 THEN '' ELSE 'job-' || n % 1000 END, 'paused', '00000000-0000-0000-0000-000000000000',
            '{\"decision\": \"skipped\", \"reason\": \"paused\", \"count\": 1, \"at_least\": false, \"text\": null, \"run\": null}'
     FROM generate_series(1, $2::int8) AS g (n)",
    "INSERT INTO callsheet.history_operations (scope, at, node, number, job, operation)
     SELECT $1, to_timestamp(1767225600 + n), '00000000-0000-0000-0000-000000000001', n, 'job-' || n % 1000, 'paused'
     FROM generate_series(1, $2::int8) AS g (n)",
];
/// How many runs are written by one statement.
const FILL: i64 = 500_000;
/// How often a question is asked: the first time what it reads may be on the disk.
const ASKED: usize = 20;

impl Plan {
    /// The whole engine without a history, with one, and with one that takes nothing, in turn.
    pub(crate) fn history(&self) -> anyhow::Result<()> {
        println!(
            "history: {JOBS} jobs with trivial bodies, for {:?}, {} times in turn; the median of each; others = all processes of \
             the server but that of the session",
            self.window / 2,
            self.slices
        );
        println!(
            "{:>10}  {:<22} {:>10} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
            "offered/s",
            "",
            "claims/s",
            "of off",
            "recorded/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "CPU µs",
            "server µs",
            "others µs",
            "dropped/s"
        );
        for rate in [10_000, 30_000, 60_000] {
            let period = Duration::from_millis(JOBS as u64 * 1_000 / rate);
            let sides = [Side::WithoutHistory, Side::Postgres, Side::SilentHistory];
            let mut found = sides.map(|_| Vec::new());
            for _ in 0..self.slices {
                for (side, found) in sides.into_iter().zip(&mut found) {
                    found.push(Case::new(side, JOBS, period, self.window / 2).spawn()?);
                }
            }
            let off = median(&found[0], |found| found.started);
            for (side, found) in sides.into_iter().zip(&found) {
                let of = |what: fn(&Found) -> f64| median(found, what);
                let name = if side == Side::Postgres { "history on" } else { side.as_str() };
                println!(
                    "{rate:>10}  {name:<22} {:>10.0} {:>7.2} {:>10.0} {:>9.2} {:>9.2} {:>9.1} {:>9.1} {:>10.1} {:>10.1} {:>10.0}",
                    of(|found| found.started),
                    of(|found| found.started) / off,
                    of(|found| found.recorded),
                    of(|found| found.p50),
                    of(|found| found.p99),
                    of(|found| found.max),
                    of(|found| found.engine_cpu),
                    of(|found| found.session_cpu),
                    of(|found| found.others_cpu),
                    of(|found| found.dropped),
                );
            }
        }
        println!();
        Ok(())
    }

    /// Many runs a second, of which few may stay, beside the same of which all stay.
    pub(crate) fn retention(&self) -> anyhow::Result<()> {
        const RATE: u64 = 30_000;
        let period = Duration::from_millis(JOBS as u64 * 1_000 / RATE);
        let (warm_up, window) = match self.slices {
            1 => (self.window, self.window),
            _ => (UNTIL_PRUNED, Duration::from_mins(1)),
        };
        println!(
            "retention: {JOBS} jobs, {RATE} ticks a second offered, for {window:?} after {warm_up:?}; pruned = a minute and 100 runs of a job \
             stay; kept = runs in the end"
        );
        println!(
            "{:<22} {:>10} {:>10} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}",
            "", "claims/s", "recorded/s", "p50 ms", "p99 ms", "max ms", "others µs", "dropped/s", "kept"
        );
        for side in [Side::Postgres, Side::PrunedHistory] {
            let found = Case { warm_up, ..Case::new(side, JOBS, period, window) }.spawn()?;
            let name = if side == Side::Postgres { "history kept" } else { side.as_str() };
            println!(
                "{name:<22} {:>10.0} {:>10.0} {:>9.2} {:>9.2} {:>9.1} {:>10.1} {:>10.0} {:>10}",
                found.started,
                found.recorded,
                found.p50,
                found.p99,
                found.max,
                found.others_cpu,
                found.dropped,
                found.kept
            );
        }
        println!();
        Ok(())
    }

    /// Each question, asked of millions of runs.
    pub(crate) fn record(&self, runtime: &Runtime) -> anyhow::Result<()> {
        runtime.block_on(async {
            let admin = connect().await?;
            let scope = harness::scope("record");
            let backend = Postgres::new(&scope, harness::server().url());
            // It makes the schema.
            backend.locker().open().await?;
            let history = backend.history(callsheet::MemoryBounds::default()).context("it has one")?;
            let filled = Instant::now();
            fill(&admin, &scope, self.runs).await?;
            let size = "SELECT pg_size_pretty(pg_total_relation_size('callsheet.history_runs'))";
            let size: String = admin.query_one(size, &[]).await?.try_get(0)?;
            println!(
                "record: {} runs of 1,000 jobs ({size}), a tenth as many decisions and operations, filled in {:?}; {ASKED} times \
                 each, in ms",
                self.runs,
                filled.elapsed()
            );
            println!("{:<58} {:>8} {:>8} {:>8} {:>8}", "", "records", "first", "p50", "max");
            ask_for_runs(&*history, self.runs).await?;
            ask_the_rest(&*history, self.runs).await?;
            println!();
            anyhow::Ok(())
        })
    }
}

fn median(found: &[Found], what: fn(&Found) -> f64) -> f64 {
    let mut all: Vec<_> = found.iter().map(what).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn fill(admin: &Client, scope: &str, runs: i64) -> anyhow::Result<()> {
    admin.batch_execute("SET synchronous_commit = off").await?;
    let mut filled = 0;
    while filled < runs {
        let more = FILL.min(runs - filled);
        admin.execute(FILL_RUNS, &[&scope, &filled, &more]).await?;
        filled += more;
    }
    for fill in FILL_OTHERS {
        admin.execute(fill, &[&scope, &(runs / 10)]).await?;
    }
    admin.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

/// Asks several times, and prints how long it took.
async fn ask(what: &str, mut asked: impl AsyncFnMut() -> anyhow::Result<usize>) -> anyhow::Result<()> {
    let (mut took, mut first, mut records) = (histogram(), None, 0);
    for _ in 0..ASKED {
        let began = Instant::now();
        records = asked().await?;
        first.get_or_insert(began.elapsed());
        took.saturating_record(u64::try_from(began.elapsed().as_micros())?);
    }
    let millis = |micros: u64| micros as f64 / 1e3;
    println!(
        "{what:<58} {records:>8} {:>8.2} {:>8.2} {:>8.2}",
        first.unwrap_or_default().as_secs_f64() * 1e3,
        millis(took.value_at_quantile(0.5)),
        millis(took.max())
    );
    Ok(())
}

/// When the nth run was.
fn at(nth: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_767_225_600_000 + nth)
}

async fn ask_for_runs(history: &dyn History, runs: i64) -> anyhow::Result<()> {
    let job = JobName::new("job-7")?;
    let of_job = || RunHistory::new().job(job.clone());
    let (from, to) = (at(runs / 2), at(runs / 2 + 60_000));
    let before = RunId::first_at(at(runs / 2));
    let pages = [
        ("runs, the newest", RunHistory::new()),
        ("runs, a page in the middle", RunHistory::new().before(before)),
        ("runs, a page of 1,000", RunHistory::new().limit(1_000)),
        ("runs of a minute", RunHistory::new().from(from).to(to)),
        ("runs that failed", RunHistory::new().outcome(Outcome::Failed)),
        ("runs that failed, of a minute", RunHistory::new().outcome(Outcome::Failed).from(from).to(to)),
        ("runs that timed out: none", RunHistory::new().outcome(Outcome::TimedOut)),
        ("runs of a job", of_job()),
        ("runs of a job, a page in the middle", of_job().before(before)),
        ("runs of a job, of a minute", of_job().from(from).to(to)),
        ("runs of a job by their fire times", RunHistory::new().fire_times(job.clone(), from..to)),
        ("runs of a job that failed", of_job().outcome(Outcome::Failed)),
        ("runs of a job that timed out: none", of_job().outcome(Outcome::TimedOut)),
        ("runs of a job that there is not", RunHistory::new().job(JobName::new("nobody")?)),
    ];
    for (what, asked) in &pages {
        ask(what, async || Ok(history.runs(asked).await?.runs.len())).await?;
    }
    Ok(())
}

async fn ask_the_rest(history: &dyn History, runs: i64) -> anyhow::Result<()> {
    let job = JobName::new("job-7")?;
    let row = JobHistory(job.clone());
    ask("row of a job", async || Ok(history.job(&row).await?.into_iter().count())).await?;
    let names = (0..LAST_ENDS_MAX).map(|nth| JobName::new(format!("job-{nth}")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    ask("last ends of 4,096 jobs", async || Ok(history.last_ends(&names).await?.len())).await?;
    let (from, to) = (at(runs * 50), at(runs * 50 + 3_600_000));
    // Of each page.
    for (what, of) in [
        ("what the pages of runs lack", RecordsOf::Runs),
        ("what the pages of decisions lack", RecordsOf::Decisions),
        ("what the pages of operations lack", RecordsOf::Operations),
    ] {
        let gaps = AskGaps { of, job: Some(job.clone()), from: None, to: None };
        ask(what, async || Ok(usize::from(history.gaps(&gaps).await? != Gaps::none()))).await?;
    }
    for (what, asked) in [
        ("decisions, the newest", Decisions::new()),
        ("decisions of an hour", Decisions::new().from(from).to(to)),
        ("decisions about a job", Decisions::new().job(job.clone())),
        ("decisions about a job, of an hour", Decisions::new().job(job.clone()).from(from).to(to)),
    ] {
        ask(what, async || Ok(history.decisions(&asked).await?.decisions.len())).await?;
    }
    for (what, asked) in [
        ("operations, the newest", Operations::new()),
        ("operations of an hour", Operations::new().from(from).to(to)),
        ("operations on a job", Operations::new().job(job.clone())),
        ("operations on a job, of an hour", Operations::new().job(job.clone()).from(from).to(to)),
    ] {
        ask(what, async || Ok(history.operations(&asked).await?.operations.len())).await?;
    }
    Ok(())
}
