//! How fast coordination over records is, on each store, beside the usual way of each: one lock and one unlock
//! per run.
//!
//! ```text
//! cargo bench --bench backends --features redis,etcd,mysql             all of it, about three minutes
//! cargo bench --bench backends --features redis,etcd,mysql -- --quick  a smoke test
//! cargo bench --bench backends --no-default-features --features etcd   the stores of these features
//! ```
//!
//! The servers are some of their own on this machine. A *pair* is a claim and an end: each is a unit of two records of
//! 140 bytes, a job and its lock key, under the guards of a session and of the leader. Rounds of one, 64 and 512 units
//! are committed by one client, whose versions are all known, one commit after the other: as many units in each as the
//! store takes. Of Redlock it is votes on ticks, which are not given back. The two sides of a comparison take turns, so
//! that whatever else the machine does meets both.

// Without a store there is nothing to measure.
#![cfg_attr(not(any(feature = "etcd", feature = "redis")), allow(unused))]
// A benchmark talks to a terminal.
#![allow(clippy::duplicate_mod, reason = "each harness of a server brings what it stands on")]
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres_lease;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redlock;
mod rounds;

use std::{env, process::ExitCode, time::Duration};

use anyhow::Context;
use callsheet::port::Records;
use std::sync::Arc;

use crate::rounds::Rounds;

/// How many units one round has.
pub(crate) const ROUNDS: [usize; 3] = [1, 64, 512];
/// How many pairs of the usual way are asked for at once.
pub(crate) const AT_ONCE: usize = 64;

/// The usual way to lock on a store.
pub(crate) trait Naive {
    /// What it asks of the store, and what it asks then.
    const NAME: &'static str;

    /// Locks and unlocks so many keys at once, for a while.
    async fn run(&mut self, at_once: usize, time: Duration, measured: &mut Measured) -> anyhow::Result<()>;
}

/// How long each side has its turn, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Turns {
    slice: Duration,
    slices: usize,
}

/// What was measured of one side.
#[derive(Default)]
pub(crate) struct Measured {
    pairs: usize,
    time: Duration,
    /// How long each claim, or round of claims, took.
    claims: Vec<Duration>,
}

impl Measured {
    pub(crate) fn add(&mut self, pairs: usize, claim: Duration, time: Duration) {
        self.pairs += pairs;
        self.time += time;
        self.claims.push(claim);
    }

    /// Pairs per second.
    fn rate(&self) -> f64 {
        self.pairs as f64 / self.time.as_secs_f64()
    }

    fn percentile(&mut self, hundredths: usize) -> f64 {
        self.claims.sort_unstable();
        let at = (self.claims.len() * hundredths / 100).min(self.claims.len().saturating_sub(1));
        self.claims.get(at).map_or(f64::NAN, |claim| claim.as_secs_f64() * 1_000.0)
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let quick = env::args().any(|argument| argument == "--quick");
    let measured = runtime.context("a runtime").and_then(|runtime| runtime.block_on(measure(quick)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(quick: bool) -> anyhow::Result<()> {
    let turns = if quick {
        Turns { slice: Duration::from_millis(50), slices: 1 }
    } else {
        Turns { slice: Duration::from_millis(500), slices: 6 }
    };
    #[cfg(feature = "redis")]
    {
        redis::measure(turns).await?;
        redlock::measure(turns).await?;
    }
    #[cfg(feature = "etcd")]
    etcd::measure(turns).await?;
    #[cfg(feature = "mysql")]
    mysql::measure(turns).await?;
    #[cfg(feature = "postgres")]
    postgres_lease::measure(turns).await?;
    Ok(())
}

/// Prints a table of a store beside the usual way.
pub(crate) async fn compare<N: Naive>(
    name: &str,
    records: Arc<dyn Records>,
    mut naive: N,
    Turns { slice, slices }: Turns,
) -> anyhow::Result<()> {
    let mut rounds = Rounds::prepare(records, *ROUNDS.last().unwrap_or(&1)).await?;
    let mut of_rounds: [Measured; ROUNDS.len()] = Default::default();
    let [mut alone, mut many] = <[Measured; 2]>::default();
    for _ in 0..slices {
        for (round, measured) in ROUNDS.into_iter().zip(&mut of_rounds) {
            rounds.run(round, slice, measured).await?;
        }
        naive.run(1, slice, &mut alone).await?;
        naive.run(AT_ONCE, slice, &mut many).await?;
    }
    print::<N>(name, of_rounds, alone, many);
    Ok(())
}

/// Prints what was measured of rounds, and of the usual way: one at a time, and many at once.
pub(crate) fn print<N: Naive>(
    name: &str,
    mut of_rounds: [Measured; ROUNDS.len()],
    mut alone: Measured,
    mut many: Measured,
) {
    println!("\n{name}\n");
    println!("| | pairs/s | beside one at a time | beside {AT_ONCE} at once | claim p50, ms | p99, ms |");
    println!("|---|---|---|---|---|---|");
    let (of_one, of_many) = (alone.rate(), many.rate());
    let line = |what: &str, measured: &mut Measured| {
        let (rate, p50, p99) = (measured.rate(), measured.percentile(50), measured.percentile(99));
        println!(
            "| {what} | {rate:.0} | {:.2} | {:.2} | {p50:.3} | {p99:.3} |",
            rate / of_one,
            rate / of_many
        );
    };
    for (round, measured) in ROUNDS.into_iter().zip(&mut of_rounds) {
        line(&format!("rounds of {round}"), measured);
    }
    line(&format!("{}, one at a time", N::NAME), &mut alone);
    line(&format!("{}, {AT_ONCE} at once", N::NAME), &mut many);
}
