//! Jobs as data: a task is registered once, and jobs name it, with arguments: in code, in a file, in a request.
//!
//! An application needs `callsheet`, `serde` with its feature `derive`, and what reads its files: `toml`, `serde_json`.
//!
//! ```sh
//! cargo run --example tasks
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::{collections::BTreeMap, time::Duration};

// The derive of `JsonSchema` names the crate `schemars`.
use callsheet::{
    Bodiless,
    prelude::*,
    schedule::IntoSchedule,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The state of a task: what it needs of the application. Each attempt gets a clone.
#[derive(Clone)]
struct Mailer {
    from: &'static str,
}

/// A task. Its fields are the arguments, which a job of code, a file or a request gives.
#[derive(Serialize, Deserialize, JsonSchema)]
struct SendReport {
    /// Who gets it.
    to: String,
    /// It came later: what was written before it can still be read.
    #[serde(default)]
    copies: u32,
}

impl Task for SendReport {
    const NAME: &'static str = "send_report";
    type State = Mailer;

    async fn run(self, run: Run, mailer: Mailer) -> RunResult {
        println!("{}: from {} to {}, {} copies", run.job(), mailer.from, self.to, self.copies);
        Ok(())
    }
}

/// A task without arguments, which brings the schedule of its job along.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Cleanup;

impl Task for Cleanup {
    const NAME: &'static str = "cleanup";
    type State = ();

    async fn run(self, _: Run, (): ()) -> RunResult {
        Ok(())
    }
}

impl ScheduledTask for Cleanup {
    fn schedule() -> impl IntoSchedule {
        cron("0 3 * * *").timezone("Europe/Lisbon")
    }

    fn configure(job: Job<Bodiless>) -> Job<Bodiless> {
        job.timeout(Duration::from_mins(10))
    }
}

/// A file of jobs, as an application may have one.
const FILE: &str = r#"
[weekly]
schedule = "0 9 * * 1"
task = { name = "send_report", arguments = { to = "carol", copies = 2 } }
"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let from_file: BTreeMap<String, JobConfig> = toml::from_str(FILE)?;
    let jobs = Callsheet::builder()
        .task::<SendReport>(Mailer { from: "reports@example.org" })
        .scheduled::<Cleanup>(())
        .job(Job::new("daily", cron("0 9 * * *")).run_task(SendReport { to: "alice".into(), copies: 1 }))
        .jobs(from_file.into_iter().map(|(name, config)| Job::from_config(name, config)))
        .start()
        .await?;
    // What may be named, and which arguments it has (`cleanup` has none): for a form, or for whoever writes the file.
    for task in jobs.tasks().await? {
        println!("task {}: {}", task.name, task.schema["properties"]);
    }

    // What a request may ask for: here its arguments do not fit.
    let asked = json!({"schedule": {"every": "1h"}, "task": {"name": "send_report", "arguments": {"to": 5}}});
    let asked: JobConfig = serde_json::from_value(asked)?;
    let error = jobs.add(Job::from_config("hourly", asked)).await.expect_err("there is no such task");
    println!("refused: {error}");

    // Nobody waits for Monday: a run now with the job's arguments, and one with arguments of its own.
    jobs.trigger("weekly").await?.finished().await;
    jobs.trigger_with("daily", &SendReport { to: "bob".into(), copies: 7 }).await?.finished().await;
    println!("{}", jobs.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
