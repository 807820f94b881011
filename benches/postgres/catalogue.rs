//! Stored jobs: how long a node takes to load many when it starts, how long until another node knows of a change, and
//! what a stored job costs.

use std::time::{Duration, Instant};

use anyhow::Context;
use callsheet::{
    Callsheet, Run, RunResult, StoredJob, Task,
    backend::Postgres,
    port::Backend,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    Plan, harness,
    instruments::{histogram, resident_bytes},
    server::connect,
};

const SCOPE: &str = "stored";

/// Reminders of a year ahead, each at a minute of its own, numbered as the trigger of the table would number them.
const FILL: &str = "
INSERT INTO callsheet.catalogue_jobs (scope, job, version, definition, task, tags, change)
SELECT $1, 'job-' || lpad(n::text, 7, '0'), n,
       json_build_object('schedule', format('%s %s %s %s *', n % 60, n / 60 % 24, n % 28 + 1, n % 12 + 1),
                         'tags', json_build_array('mail'),
                         'task', json_build_object('name', 'send_report', 'arguments', json_build_object('to', 'user-' || n)))::text,
       'send_report', '{mail}', gen_random_uuid()
FROM generate_series(1, $2::int8) AS g (n)";
const FILL_VERSION: &str =
    "INSERT INTO callsheet.catalogue_versions (scope, version, jobs) VALUES ($1, $2::int8, $2::int8)";

#[derive(Serialize, Deserialize, JsonSchema)]
struct SendReport {
    to: String,
}

impl Task for SendReport {
    const NAME: &'static str = "send_report";
    type State = ();

    async fn run(self, _: Run, (): ()) -> RunResult {
        Ok(())
    }
}

/// Starts a node. Answers how long that took, and how long until it held all stored jobs.
async fn load(jobs: usize) -> anyhow::Result<(Callsheet, Duration, Duration)> {
    let began = Instant::now();
    let backend = Postgres::new(SCOPE, harness::server().url());
    let node = Callsheet::builder().backend(backend).task::<SendReport>(()).start().await?;
    let started = began.elapsed();
    while node.health().await?.jobs < jobs {
        sleep(Duration::from_millis(2)).await;
    }
    Ok((node, started, began.elapsed()))
}

impl Plan {
    /// Two nodes that hold many stored jobs.
    pub(crate) async fn catalogue(&self) -> anyhow::Result<()> {
        let jobs = self.stored;
        let count = i64::try_from(jobs)?;
        let admin = connect().await?;
        let tables = Postgres::new(SCOPE, harness::server().url());
        tables.locker().open().await?;
        tables.locker().close().await;
        admin.batch_execute("ALTER TABLE callsheet.catalogue_jobs DISABLE TRIGGER number_change").await?;
        admin.execute(FILL, &[&SCOPE, &count]).await?;
        admin.batch_execute("ALTER TABLE callsheet.catalogue_jobs ENABLE TRIGGER number_change").await?;
        admin.execute(FILL_VERSION, &[&SCOPE, &count]).await?;
        admin.batch_execute("VACUUM ANALYZE callsheet.catalogue_jobs").await?;
        let size = "SELECT pg_total_relation_size('callsheet.catalogue_jobs')";
        let on_disk: i64 = admin.query_one(size, &[]).await?.try_get(0)?;

        println!("catalogue: {jobs} stored jobs");
        let before = resident_bytes()?;
        let (first, started, loaded) = load(jobs).await?;
        let resident = resident_bytes()?.saturating_sub(before);
        println!("start {started:.2?}, all jobs held after {loaded:.2?}");
        println!(
            "bytes per stored job: {} on the server with its indexes, {} in the memory of a node",
            on_disk / count,
            resident / u64::try_from(jobs)?
        );
        let (second, _, loaded) = load(jobs).await?;
        println!("a second node beside it: all jobs held after {loaded:.2?}");
        self.changes(&first, &second).await?;
        first.shutdown(Duration::from_secs(5)).await;
        second.shutdown(Duration::from_secs(5)).await;
        println!();
        Ok(())
    }

    /// Changes one job after another on one node, and waits for the other one.
    async fn changes(&self, first: &Callsheet, second: &Callsheet) -> anyhow::Result<()> {
        let (mut answered, mut known) = (histogram(), histogram());
        for nth in 0..self.changes {
            let job = format!("job-{:07}", nth * 97 % self.stored + 1);
            let task = json!({"name": "send_report", "arguments": {"to": format!("changed-{nth}")}});
            let changed: StoredJob = serde_json::from_value(json!({"schedule": "0 9 * * *", "task": task}))?;
            let began = Instant::now();
            let version = first.put(&job, &changed).await?.version;
            answered.saturating_record(u64::try_from(began.elapsed().as_micros())?);
            while second.details(&job).await?.stored.context("it is stored")? < version {
                sleep(Duration::from_millis(1)).await;
            }
            known.saturating_record(u64::try_from(began.elapsed().as_micros())?);
        }
        for (what, took) in
            [("put, until it is answered", answered), ("put, until the other node knows", known)]
        {
            println!(
                "{} changes, {what}: p50 {:.1?}, p99 {:.1?}, max {:.1?}",
                self.changes,
                Duration::from_micros(took.value_at_quantile(0.5)),
                Duration::from_micros(took.value_at_quantile(0.99)),
                Duration::from_micros(took.max())
            );
        }
        Ok(())
    }
}
