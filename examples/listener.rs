//! What happens, as a stream: the failures of all jobs, everything about one of them, and the end.
//!
//! ```sh
//! cargo run --example listener
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::time::Duration;

use callsheet::{EventFilter, EventName, prelude::*};

/// It ends by itself after so long.
const SHOW: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let often = || every(Duration::from_millis(500));
    let jobs = Callsheet::builder()
        .job(Job::new("mail.in", often()).run(async |_| {}))
        .job(Job::new("mail.out", often()).run(async |_| Err::<(), _>("no connection")))
        .job(Job::new("report", often()).run(async |_| -> () { panic!("out of paper") }))
        .start()
        .await?;
    let failures = [EventName::RunFailed, EventName::RunPanicked, EventName::RunTimedOut];
    let mut failures = jobs.events(EventFilter::new().kinds(failures));
    // Whoever does not read in time loses the newest events, and nobody else notices.
    let mut mail = jobs.events(EventFilter::new().prefix("mail.").buffer(100));
    let mut end = jobs.events(EventFilter::new().kinds([EventName::ShutdownFinished]));

    let failures = tokio::spawn(async move {
        while let Some(event) = failures.next().await {
            println!("failure: {event}");
        }
    });
    tokio::select! {
        () = tokio::time::sleep(SHOW) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    jobs.shutdown(Duration::from_secs(10)).await;

    // Every stream ends with the scheduler, after the last event.
    failures.await?;
    while let Some(event) = mail.next().await {
        println!("mail: {event}");
    }
    println!("missed: {}", mail.dropped());
    if let Some(event) = end.next().await {
        println!("end: {event}");
    }
    Ok(())
}
