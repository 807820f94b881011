//! One-shots by the million: what a node pays for those that are far, and how fast near ones run.
//!
//! ```sh
//! cargo bench --bench one_shots                 # a million, in the memory of the process
//! cargo bench --bench one_shots -- 100000 5000  # so many far ones, so many near ones
//! ```
//!
//! With `CALLSHEET_BACKEND` and the address of a store they are in that store, and are put there one by one, 64 at
//! once.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout)]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, Run, RunResult, Settings, StoredDetails, StoredHere, StoredJob, Task, TaskCall,
    port::{CatalogueQuery, SystemClock},
    schedule::at,
    schemars::{self, JsonSchema},
};
use callsheet_actors::adapter::MemoryCatalogue;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

mod instruments;

use instruments::resident_bytes;

const FAR: usize = 1_000_000;
const NEAR: usize = 20_000;
/// How many are put at once.
const AT_ONCE: usize = 64;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Reminder {
    user: usize,
}

impl Task for Reminder {
    const NAME: &'static str = "reminder";
    type State = Arc<AtomicUsize>;

    async fn run(self, _: Run, ran: Arc<AtomicUsize>) -> RunResult {
        ran.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Nodes of one store.
struct Nodes {
    in_memory: Option<MemoryCatalogue>,
    ran: Arc<AtomicUsize>,
}

impl Nodes {
    async fn start(&self) -> anyhow::Result<Callsheet> {
        let mut settings = Settings::from_env()?;
        settings.scope.get_or_insert_with(|| "bench".to_owned());
        let builder = match &self.in_memory {
            Some(catalogue) => Callsheet::builder().catalogue(catalogue.clone()),
            None => settings.builder()?,
        };
        Ok(builder.task::<Reminder>(self.ran.clone()).start().await?)
    }
}

async fn put(jobs: &Callsheet, names: &str, count: usize, due: DateTime<Utc>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let puts = stream::iter(0..count).map(|user| async move {
        let reminder = StoredJob::one_shot(at(due), TaskCall::of(&Reminder { user })?);
        jobs.put(format!("{names} {user:07}"), &reminder).await?;
        anyhow::Ok(())
    });
    let mut puts = puts.buffer_unordered(AT_ONCE);
    while let Some(put) = puts.next().await {
        put?;
    }
    Ok(begun.elapsed())
}

/// How many seconds until a node knows the catalogue, from the call that starts it.
async fn start_and_know(nodes: &Nodes) -> anyhow::Result<(Callsheet, Duration)> {
    let begun = Instant::now();
    let node = nodes.start().await?;
    while node.ask(StoredDetails("far 0000000".to_owned())).await??.here != StoredHere::Far {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((node, begun.elapsed()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut counts = env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (far, near) = (counts.next().unwrap_or(FAR), counts.next().unwrap_or(NEAR));
    let in_memory = env::var_os("CALLSHEET_BACKEND").is_none();
    let in_memory = in_memory.then(|| MemoryCatalogue::new(Arc::new(SystemClock::default())));
    let nodes = Nodes { in_memory, ran: Arc::default() };
    let now = Utc::now().trunc_subsecs(3);

    let first = nodes.start().await?;
    let took = put(&first, "far", far.max(1), now + TimeDelta::days(365)).await?;
    println!("added {far} a year ahead: {:.0} a second", far as f64 / took.as_secs_f64());

    let before = resident_bytes()?;
    let (second, took) = start_and_know(&nodes).await?;
    let grown = resident_bytes()?.saturating_sub(before);
    println!("another node knows the catalogue after {} ms", took.as_millis());
    println!(
        "and takes {:.1} MiB, {:.2} bytes for each of them",
        grown as f64 / 1_048_576.0,
        grown as f64 / far as f64
    );
    second.shutdown(Duration::from_secs(5)).await;

    // Late enough for all of them to be stored.
    let due = Utc::now().trunc_subsecs(3) + TimeDelta::seconds(20);
    let took = put(&first, "near", near, due).await?;
    println!("added {near} near ones: {:.0} a second", near as f64 / took.as_secs_f64());
    let wait = (due - Utc::now()).to_std().unwrap_or_default();
    tokio::time::sleep(wait).await;
    let begun = Instant::now();
    while nodes.ran.load(Ordering::Relaxed) < near {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("all due at one instant, run: {:.0} a second", near as f64 / begun.elapsed().as_secs_f64());
    let mut query = CatalogueQuery::default();
    (query.prefix, query.limit) = (Some("near ".to_owned()), 1);
    while !first.list_stored(query.clone()).await?.jobs.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("and deleted: {:.0} a second", near as f64 / begun.elapsed().as_secs_f64());
    first.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
