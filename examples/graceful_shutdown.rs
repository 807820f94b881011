//! A shutdown in order: runs may end, are then told to, and are dropped at last. The report says what became of each.
//!
//! ```sh
//! cargo run --example graceful_shutdown   # then press Ctrl-C, or `kill -TERM` it
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::{future::pending, time::Duration};

use callsheet::prelude::*;
use tokio::signal::unix::{SignalKind, signal};

/// How long runs may go on: an orchestrator kills a process that takes longer than it allows, often 30 s.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long runs that were told to stop may take to do so.
const ABORT_AFTER: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let midnight = || cron("0 0 * * *").timezone("Europe/Lisbon");
    let jobs = Callsheet::builder()
        .shutdown_abort_after(ABORT_AFTER)
        .job(Job::new("patient", midnight()).run(patient))
        .job(Job::new("polite", midnight()).run(polite))
        .job(Job::new("stubborn", midnight()).run(stubborn))
        .start()
        .await?;
    for job in ["patient", "polite", "stubborn"] {
        jobs.trigger(job).await?;
    }

    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    println!("stopping");
    let report = jobs.shutdown(DEADLINE).await;

    println!("stopped: {report}");
    for (job, run, how) in &report.stopped {
        println!("{job} was {how}: run {run}");
    }
    Ok(())
}

/// Ends by itself, soon enough: it is drained.
async fn patient(_: Run) {
    println!("patient has started");
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("patient has done all of its work");
}

/// Works until it is told to stop, and leaves things tidy: it is cancelled.
async fn polite(run: Run) {
    println!("polite has started");
    run.cancelled().await;
    println!("polite has put its tools away");
}

/// Hears nothing: it is dropped where it waits.
async fn stubborn(_: Run) {
    println!("stubborn has started");
    pending().await
}
