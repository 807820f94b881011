//! Reminders: users ask for them at runtime, each runs once, and is gone then. One that is far away costs no memory: it
//! is in the store.
//!
//! An application needs `callsheet`, `chrono` and `serde` with its feature `derive`. Here the store is the memory of
//! the
//! process; with a database, reminders are on all nodes and survive restarts.
//!
//! ```sh
//! cargo run --example reminders
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::time::Duration;

use callsheet::{
    IfStored, StoredJob, TaskCall,
    port::CatalogueQuery,
    prelude::*,
    schedule::at,
    schemars::{self, JsonSchema},
};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Sender, channel};

/// The task; its fields are the arguments of each reminder.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Reminder {
    user: String,
    text: String,
}

impl Task for Reminder {
    const NAME: &'static str = "reminder";
    type State = Sender<String>;

    async fn run(self, _: Run, sent: Sender<String>) -> RunResult {
        sent.send(format!("to {}: {}", self.user, self.text)).await?;
        Ok(())
    }
}

/// What is stored of a reminder.
fn reminder(user: &str, text: &str, due: DateTime<Utc>) -> Result<StoredJob, Box<dyn std::error::Error>> {
    let arguments = Reminder { user: user.to_owned(), text: text.to_owned() };
    Ok(StoredJob::one_shot(at(due), TaskCall::of(&arguments)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sent, mut arrives) = channel(10);
    let jobs = Callsheet::builder().task::<Reminder>(sent).start().await?;
    // Fire times are whole milliseconds.
    let now = Utc::now().trunc_subsecs(3);

    // The name is the key of a reminder: asked for twice, there is one.
    let soon = now + TimeDelta::seconds(1);
    for text in ["call Bob", "call Bob back"] {
        jobs.put_with("alice/17", &reminder("alice", text, soon)?, IfStored::Replace).await?;
    }
    let kept = jobs.put_with("alice/17", &reminder("alice", "never said", soon)?, IfStored::Keep).await?;
    println!("kept: {}", kept.definition["task"]["arguments"]["text"]);
    let refused = jobs.put_with("alice/17", &reminder("alice", "nor this", soon)?, IfStored::Refuse).await;
    println!("refused: {}", refused.is_err());

    // No node holds it before it is near.
    jobs.put("carol/1", &reminder("carol", "renew the licence", now + TimeDelta::days(365))?).await?;
    println!("held: {}, stored: {}", names(&jobs).await?.join(", "), stored(&jobs).await?.join(", "));

    println!("{}", arrives.recv().await.expect("it is due within a second"));
    while stored(&jobs).await?.len() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("left: {}", stored(&jobs).await?.join(", "));
    println!("{}", jobs.shutdown(Duration::from_secs(5)).await);
    Ok(())
}

async fn names(jobs: &Callsheet) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    Ok(jobs.list(ListJobs::default()).await?.jobs.iter().map(|job| job.name.to_string()).collect())
}

async fn stored(jobs: &Callsheet) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let page = jobs.list_stored(CatalogueQuery::default()).await?;
    Ok(page.jobs.iter().map(|job| job.job.to_string()).collect())
}
