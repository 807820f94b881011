//! Why did it run late, or not at all? A night of a small cluster on virtual time, and six answers.
//!
//! ```sh
//! cargo run --example explain --features testkit
//! ```

#![allow(clippy::print_stdout, reason = "it prints what it is told")]

use std::time::Duration;

use callsheet::{
    By, Explain, PauseJobs, ResumeJobs,
    prelude::*,
    schedule::calendar,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, Utc};

const NIGHT: &str = "2026-03-28T20:00:00Z";

fn node() -> callsheet::Builder {
    let holidays = calendar("holidays").dates("2026-03-29");
    Callsheet::builder()
        .job(Job::new("report", every("1h")).run(async |run| run.report("1,204 rows")))
        // It takes longer than the time between two of its ticks.
        .job(Job::new("import", every("1h")).run_with(Duration::from_mins(90), import))
        .job(
            Job::new("invoices", cron("0 9 * * *").timezone("Europe/Lisbon").except(holidays))
                .run(async |_| {}),
        )
}

async fn import(run: Run, takes: Duration) {
    tokio::select! {
        () = tokio::time::sleep(takes) => run.report("all of it"),
        () = run.cancelled() => {}
    }
}

fn main() {
    simulate(NIGHT, async |rig| {
        let hours = |hours| Duration::from_hours(hours);
        let alice = By::new("alice").expect("a good name");
        // A frozen leader leads until its lease is over.
        rig.set_lease(Duration::from_mins(10));
        let first = rig.node(node()).await;
        let second = rig.node(node()).await;

        rig.advance(hours(2) + Duration::from_mins(50)).await;
        let pause = PauseJobs::new("report").note("the disk is full").by(alice.clone());
        rig.send(first, pause).await.expect("it is there");
        rig.advance(Duration::from_mins(20)).await;
        rig.send(first, ResumeJobs::new("report").by(alice)).await.expect("it is paused");
        rig.advance(Duration::from_mins(45)).await;
        println!("Each answer, and what says so:\n");
        ask(rig, first, "report", "2026-03-28T22:00:00Z").await; // it ran
        ask(rig, first, "report", "2026-03-28T23:00:00Z").await; // held by a pause, then late
        ask(rig, first, "import", "2026-03-28T22:00:00Z").await; // an overlap

        rig.freeze(first);
        rig.advance(hours(2)).await;
        ask(rig, second, "report", "2026-03-29T00:00:00Z").await; // nobody led
        ask(rig, second, "invoices", "2026-03-29T08:00:00Z").await; // a calendar
        ask(rig, second, "report", "2026-03-29T12:00:00Z").await; // to come
    });
}

fn at(instant: &str) -> DateTime<Utc> {
    instant.parse().expect("an instant")
}

async fn ask(rig: &mut Rig, node: usize, job: &str, instant: &str) {
    match rig.send(node, Explain::new(job, at(instant))).await {
        Ok(explained) => println!("{explained}"),
        Err(error) => println!("{job}: {error}\n"),
    }
}
