//! The same busy body under different policies: every 200 ms it wants to work for 500 ms. What became of its ticks?
//!
//! ```sh
//! cargo run --example policies
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::{collections::BTreeMap, time::Duration};

use callsheet::{EventFilter, EventKind, prelude::*};

/// It ends by itself after so long.
const SHOW: Duration = Duration::from_secs(3);
const WORK: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let busy = |name: &str| Job::new(name, every(Duration::from_millis(200)));
    let retry = Retry::attempts(3).initial(Duration::from_millis(50));
    let jobs = Callsheet::builder()
        .job(busy("skip").overlap(Overlap::Skip).run(work))
        .job(busy("queue").overlap(Overlap::Queue(1)).run(work))
        .job(busy("replace").overlap(Overlap::Replace).run(work))
        .job(busy("allow").overlap(Overlap::Allow(2)).run(work))
        .job(busy("limit").limit(3).run(async |_| {}))
        .job(busy("retry").retry(retry).run(fails_at_first))
        .job(busy("timeout").timeout(Duration::from_millis(100)).run(work))
        .job(busy("pause").pause_after(2).run(async |_| Err::<(), _>("no connection")))
        .max_concurrent_runs(100)
        .start()
        .await?;
    let mut events = jobs.events(EventFilter::new());

    tokio::select! {
        () = tokio::time::sleep(SHOW) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    jobs.shutdown(Duration::from_secs(10)).await;

    let mut table: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let (what, count) = match &event.kind {
            EventKind::RunStarted { .. } => ("started", 1),
            EventKind::RunRetried { .. } => ("retried", 1),
            EventKind::RunSucceeded { .. } => ("succeeded", 1),
            EventKind::RunFailed { .. } => ("failed", 1),
            EventKind::RunTimedOut { .. } => ("timed out", 1),
            EventKind::RunCancelled { .. } => ("cancelled", 1),
            EventKind::TickSkipped { count, .. } => ("skipped", *count),
            EventKind::JobPaused { .. } => ("paused", 1),
            _ => continue,
        };
        let job = event.kind.job().map(ToString::to_string).unwrap_or_default();
        *table.entry(job).or_default().entry(what).or_default() += count;
    }
    for (job, counts) in table {
        let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        println!("{job:<8} {}", counts.join(", "));
    }
    Ok(())
}

/// Stops when it is asked to: because its time is over, or because a newer run takes its place.
async fn work(run: Run) {
    tokio::select! {
        () = tokio::time::sleep(WORK) => {}
        () = run.cancelled() => {}
    }
}

async fn fails_at_first(run: Run) -> RunResult {
    if run.attempt() < 3 { Err("not yet".into()) } else { Ok(()) }
}
