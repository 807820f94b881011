//! What virtual time costs: a story of three nodes beside the same story of one node, in the same run.
//!
//! ```text
//! cargo bench --bench testkit                     a virtual month, some seconds
//! cargo bench --bench testkit -- --quick          a virtual day
//! cargo bench --bench testkit --profile dev       as tests are built
//! ```
//!
//! Each story has ten jobs that fire every hour, led by one node. The ratio is that of the processor time of
//! three nodes to that of one: followers do next to nothing, and are to cost as little.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout)]

use std::{
    env,
    time::{Duration, Instant},
};

use callsheet::{prelude::*, testkit::simulate};

const JOBS: usize = 10;
const HOUR: Duration = Duration::from_hours(1);

/// Three nodes may cost so many times what one node costs.
const RATIO_TARGET: f64 = 1.5;

/// What a story took, and how many calls reached its store.
struct Cost {
    took: Duration,
    calls: u64,
}

fn main() {
    let days = if env::args().any(|argument| argument == "--quick") { 1 } else { 30 };
    println!("{days} virtual days, {JOBS} jobs that fire every hour\n");
    println!("{:>6} {:>12} {:>14}", "nodes", "seconds", "calls");
    let [one, three] = [1, 3].map(|nodes| {
        let cost = story(nodes, days);
        println!("{nodes:>6} {:>12.3} {:>14}", cost.took.as_secs_f64(), cost.calls);
        cost
    });
    let ratio = three.took.as_secs_f64() / one.took.as_secs_f64();
    println!("\nthree nodes cost {ratio:.2} times what one costs (target: {RATIO_TARGET})");
}

fn story(nodes: usize, days: u32) -> Cost {
    let began = Instant::now();
    let mut calls = 0;
    simulate("2026-01-01T00:00:00Z", async |rig| {
        for _ in 0..nodes {
            let jobs = (0..JOBS).map(|nth| Job::new(format!("job {nth}"), every(HOUR)).run(async |_| {}));
            rig.node(Callsheet::builder().jobs(jobs)).await;
        }
        rig.advance(24 * days * HOUR).await;
        calls = rig.store().calls();
    });
    Cost { took: began.elapsed(), calls }
}
