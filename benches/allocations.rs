//! How often a fire takes memory, with claims on the embedded store and without.
//!
//! ```text
//! cargo bench --bench allocations
//! ```
//!
//! A program of its own: the allocator that counts would slow the other benchmarks down. The jobs fire evenly,
//! so that few fires fall together: what a wake-up of a thread takes counts in full.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout)]

use std::{
    alloc::System,
    future::ready,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use callsheet::{Callsheet, Fires, Job, schedule::every};
use chrono::{TimeDelta, Utc};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static FIRES: AtomicU64 = AtomicU64::new(0);

const JOBS: u32 = 100;
const PERIOD: Duration = Duration::from_millis(100);
/// Until every job has fired, and what is made once is made.
const WARM_UP: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    println!("{:<18} {:>12} {:>12}", "a fire takes", "allocations", "bytes");
    for (what, fires) in [("callsheet", Fires::Leader), ("callsheet, local", Fires::Local)] {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let engine = runtime.block_on(Callsheet::builder().start())?;
        let start = Utc::now() + TimeDelta::milliseconds(200);
        let job = |nth: u32| {
            let schedule = every(PERIOD).anchored_at(start + PERIOD * nth / JOBS);
            Job::new(format!("job-{nth}"), schedule).fires(fires).run(|_| {
                FIRES.fetch_add(1, Relaxed);
                ready(())
            })
        };
        runtime.block_on(engine.add_all((0..JOBS).map(job)))?;
        thread::sleep(WARM_UP);

        let (region, fired) = (Region::new(ALLOCATOR), FIRES.load(Relaxed));
        thread::sleep(WINDOW);
        let (taken, fires) = (region.change(), FIRES.load(Relaxed) - fired);

        let of_a_fire = |count: usize| count as f64 / fires as f64;
        let (count, bytes) = (taken.allocations + taken.reallocations, taken.bytes_allocated);
        println!("{what:<18} {:>12.2} {:>12.0}", of_a_fire(count), of_a_fire(bytes));
        runtime.block_on(engine.shutdown(Duration::from_secs(5)));
    }
    Ok(())
}
