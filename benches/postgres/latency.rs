//! Few ticks: from the fire time to the body, with a claim and without, in one process and at the same time.
//!
//! Timers have whole milliseconds, of a clock that begins when the process does. So the lateness of a process has a
//! part of up to a millisecond that another process has not: two processes differ by that, and the two kinds of jobs of
//! one do not.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use callsheet::{Callsheet, Fires, Job, Run, backend::Postgres, schedule::every};
use chrono::{TimeDelta, Utc};
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;

use crate::{
    Plan, harness,
    instruments::{histogram, late_micros, locked},
    server::connect,
};

/// How many jobs there are that claim, and how many that do not.
const JOBS: usize = 20;
const PERIOD: Duration = Duration::from_millis(400);
/// From one claim to the next: half of it after a claim a job fires that claims nothing.
const APART: Duration = Duration::from_millis(PERIOD.as_millis() as u64 / JOBS as u64);
const WARM_UP: Duration = Duration::from_secs(1);

impl Plan {
    /// Few ticks. A bare commit is asked for in the middle between two ticks.
    pub(crate) fn latency(&self, runtime: &Runtime) -> anyhow::Result<()> {
        println!(
            "latency: {JOBS} jobs that claim and {JOBS} that do not, in one process, a tick of each kind in {APART:?}, for {:?}; from the \
             fire time to the body, in ms",
            self.window * 4
        );
        println!("{:<34} {:>8} {:>8} {:>8}", "", "p50", "p99", "max");
        let [local, claimed, commit] = runtime.block_on(self.few_ticks())?;
        let millis = |micros: u64| micros as f64 / 1e3;
        let print = |what: &str, of: &Histogram<u64>| {
            let quantile = |quantile| millis(of.value_at_quantile(quantile));
            println!("{what:<34} {:>8.2} {:>8.2} {:>8.2}", quantile(0.5), quantile(0.99), millis(of.max()));
        };
        print("local, no claims", &local);
        print("postgres", &claimed);
        let over = |quantile| {
            millis(claimed.value_at_quantile(quantile)) - millis(local.value_at_quantile(quantile))
        };
        println!("{:<34} {:>8.2} {:>8.2}", "difference", over(0.5), over(0.99));
        print("a bare update of one row, committed", &commit);
        let over = over(0.5) - millis(commit.value_at_quantile(0.5));
        println!("{:<34} {over:>8.2}\n", "difference, over such a commit");
        Ok(())
    }

    /// How late bodies were without a claim and with one, and how long a commit took meanwhile.
    async fn few_ticks(&self) -> anyhow::Result<[Histogram<u64>; 3]> {
        let client = connect().await?;
        let table =
            "CREATE TABLE IF NOT EXISTS one_row AS SELECT 0 AS n; SET jit = off; SET synchronous_commit = on";
        client.batch_execute(table).await?;
        let change = client.prepare("UPDATE one_row SET n = n + 1").await?;
        let backend = Postgres::new(harness::scope("latency"), harness::server().url());
        let engine = Callsheet::builder().backend(backend).start().await?;
        let start = Utc::now() + TimeDelta::milliseconds(1_000);
        let from = start + WARM_UP;
        let kinds = [Fires::Local, Fires::Leader];
        let noted = kinds.map(|_| Arc::new(Mutex::new(histogram())));
        for (nth_kind, (fires, noted)) in kinds.into_iter().zip(&noted).enumerate() {
            let job = |nth: usize| {
                let first = start + APART * nth as u32 + APART / 2 * nth_kind as u32;
                let noted = noted.clone();
                let note = move |run: Run| {
                    if let Some(fire_time) = run.fire_time().filter(|fire_time| *fire_time >= from) {
                        locked(&noted).saturating_record(late_micros(fire_time));
                    }
                    ready(())
                };
                Job::new(format!("{fires:?}-{nth}"), every(PERIOD).anchored_at(first)).fires(fires).run(note)
            };
            engine.add_all((0..JOBS).map(job)).await?;
        }
        let mut commit = histogram();
        let until = from + self.window * 4;
        // After a tick that claims nothing, when what a claim did is over.
        let mut next = from + APART / 4;
        while next < until {
            tokio::time::sleep((next - Utc::now()).to_std().unwrap_or_default()).await;
            let asked = Instant::now();
            client.execute(&change, &[]).await?;
            commit.saturating_record(u64::try_from(asked.elapsed().as_micros())?);
            next += APART;
        }
        engine.shutdown(Duration::from_secs(5)).await;
        let [local, claimed] = noted.map(|noted| locked(&noted).clone());
        Ok([local, claimed, commit])
    }
}
