//! What the server keeps for others: old versions of rows behind a snapshot, and names that are long gone.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::{
    JOBS, Plan,
    instruments::histogram,
    locker::{Adapter, Took},
    server::{connect, processor_time_of},
};

impl Plan {
    /// What claims cost while somebody keeps a snapshot: 300 jobs that run ten times a second.
    pub(crate) async fn snapshot(&self) -> anyhow::Result<()> {
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

    /// What names cost that are long gone, beside none of them: a search for lost runs, as at an election and
    /// once a minute, and claims and ends, with such a search every tenth round.
    pub(crate) async fn stale(&self) -> anyhow::Result<()> {
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
