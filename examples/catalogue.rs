//! Jobs that are data, for all nodes of a cluster: read from JSON, stored, changed and deleted while two nodes run.
//!
//! ```sh
//! CALLSHEET_DATABASE_URL=postgres://user:password@host/database cargo run --example catalogue
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::{collections::BTreeMap, time::Duration};

// The derive of `JsonSchema` names the crate `schemars`.
use callsheet::{
    Settings, StoredJob, TaskCall,
    port::Expected,
    prelude::*,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// As an application may have it in a file, or in a request.
const JOBS: &str = r#"{
    "report": {
        "schedule": {"cron": "0 9 * * 1-5", "timezone": "Europe/Lisbon"},
        "task": {"name": "send_report", "arguments": {"to": "alice"}},
        "policies": {"timeout": "5m", "retry": {"attempts": 3}},
        "tags": ["mail"]
    },
    "digest": {
        "schedule": {"every": "6h"},
        "task": {"name": "send_report", "arguments": {"to": "everybody"}},
        "enabled": false
    }
}"#;

/// A task. Its fields are the arguments that stored jobs give.
#[derive(Serialize, Deserialize, JsonSchema)]
struct SendReport {
    to: String,
}

impl Task for SendReport {
    const NAME: &'static str = "send_report";
    /// The name of the node.
    type State = &'static str;

    async fn run(self, run: Run, node: &'static str) -> RunResult {
        println!("{node} runs {} for {}", run.job(), self.to);
        Ok(())
    }
}

/// In a real cluster each is a process of its own.
async fn start(node: &'static str) -> anyhow::Result<Callsheet> {
    let mut settings = Settings::from_env()?;
    settings.scope.get_or_insert_with(|| "example".to_owned());
    settings.backend.get_or_insert_with(|| "postgres".to_owned());
    Ok(settings.builder()?.node_name(node).task::<SendReport>(node).start().await?)
}

/// Waits until a node has heard of a version of a job.
async fn heard(node: &Callsheet, job: &str, version: u64) -> anyhow::Result<()> {
    while node.details(job).await?.stored < Some(version) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (one, two) = (start("one").await?, start("two").await?);
    let jobs: BTreeMap<String, StoredJob> = serde_json::from_str(JOBS)?;
    for (name, job) in &jobs {
        let stored = one.put(name, job).await?;
        println!("stored {name}: {:?}", stored.here);
    }

    // The other node holds what is enabled.
    let report = one.stored("report").await?;
    while two.details("report").await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    heard(&two, "report", report.version).await?;
    two.trigger("report").await?.finished().await;

    // It is changed on one node, and runs so on the other. Of two who change what both have read, one is told.
    let mut changed = jobs["report"].clone();
    changed.task = TaskCall::new("send_report", serde_json::from_value(json!({"to": "bob"}))?);
    let expected = Expected::Version(report.version);
    let newer = two.by("carol")?.put_if("report", &changed, expected).await?;
    let late = one.put_if("report", &jobs["report"], expected).await;
    println!("refused: {}", late.is_err());
    heard(&one, "report", newer.version).await?;
    one.trigger("report").await?.finished().await;
    println!(
        "changed by {}",
        one.stored("report").await?.changed_by.map_or_else(String::new, |by| by.to_string())
    );

    for name in jobs.keys() {
        two.delete(name).await?;
    }
    while one.details("report").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("deleted everywhere");
    for node in [one, two] {
        node.shutdown(Duration::from_secs(5)).await;
    }
    Ok(())
}
