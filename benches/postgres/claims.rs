//! The locker alone: free keys beside the barest statements, and keys that are held.

use std::time::{Duration, Instant};

use anyhow::ensure;
use callsheet::{
    JobName, LockKey, RunId,
    backend::Postgres,
    port::{Backend, ClaimRequest, Verdict},
};
use uuid::Uuid;

use crate::{
    JOBS, Plan,
    bare::Bare,
    harness,
    instruments::histogram,
    locker::{Adapter, Took},
    server::{connect, process_of, processor_time_of},
};

impl Plan {
    /// The locker alone.
    pub(crate) async fn adapter(&self) -> anyhow::Result<()> {
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

    /// Claims of keys that are held: by the session that asks, which it knows, and by another one, which it
    /// must find alive.
    pub(crate) async fn contended(&self) -> anyhow::Result<()> {
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
}
