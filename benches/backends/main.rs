//! How fast coordination on other stores than PostgreSQL is, beside the usual way of each: one lock and one unlock
//! per run.
//!
//! ```text
//! cargo bench --bench backends --features redis             all of it, about a minute
//! cargo bench --bench backends --features redis -- --quick  a smoke test
//! ```
//!
//! The servers are some of their own on this machine. A *pair* is a claim and an end: each is a unit of two records
//! of 140 bytes, a job and its lock key, under the guards of a session and of the leader. Rounds of one, 64 and 512
//! units are committed one after the other by one client, whose versions are all known. The two sides of a
//! comparison take turns, so that whatever else the machine does meets both.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../../tests/common/redis.rs"]
mod harness;
mod naive;
mod rounds;

use std::{env, process::ExitCode, time::Duration};

use anyhow::Context;
use callsheet::backend::Redis;

use crate::{
    harness::{Durability, Server},
    naive::Naive,
    rounds::Rounds,
};

/// How many units one commit has.
const ROUNDS: [usize; 3] = [1, 64, 512];
/// How many pairs of the usual way are asked for at once.
const PIPELINED: usize = 64;

/// What was measured of one side.
#[derive(Default)]
pub(crate) struct Measured {
    pairs: usize,
    time: Duration,
    /// How long each claim, or round of claims, took.
    claims: Vec<Duration>,
}

impl Measured {
    fn add(&mut self, pairs: usize, claim: Duration, time: Duration) {
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
    let (slice, slices) =
        if quick { (Duration::from_millis(50), 1) } else { (Duration::from_millis(500), 6) };
    for (name, durability) in
        [("redis", Durability::Nothing), ("redis, each command on the disk", Durability::Always)]
    {
        let server = Server::start(durability);
        let records = Redis::new("bench", server.url()).records();
        let mut rounds = Rounds::prepare(records, *ROUNDS.last().unwrap_or(&1)).await?;
        let mut naive = Naive::connect(&server.url()).await?;
        let mut of_rounds: [Measured; ROUNDS.len()] = Default::default();
        let [mut alone, mut pipelined] = <[Measured; 2]>::default();
        for _ in 0..slices {
            for (round, measured) in ROUNDS.into_iter().zip(&mut of_rounds) {
                rounds.run(round, slice, measured).await?;
            }
            naive.run(1, slice, &mut alone).await?;
            naive.run(PIPELINED, slice, &mut pipelined).await?;
        }
        println!("\n{name}\n");
        println!(
            "| | pairs/s | beside one at a time | beside {PIPELINED} at once | claim p50, ms | p99, ms |"
        );
        println!("|---|---|---|---|---|---|");
        let (of_one, of_many) = (alone.rate(), pipelined.rate());
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
        line("`SET NX` and `DEL`, one at a time", &mut alone);
        line(&format!("`SET NX` and `DEL`, {PIPELINED} at once"), &mut pipelined);
    }
    Ok(())
}
