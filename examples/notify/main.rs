//! One message to a webhook when a job begins to fail, is overdue, or is well again; a check-in of each run with a
//! dead-man service (start, success, failure with its error), which calls somebody when they stay away.
//!
//! ```sh
//! WEBHOOK_URL=https://hooks.example.com/T0/B0 CHECK_URL=https://hc-ping.com/<uuid> cargo run --example notify -- FILE
//! ```

#![allow(clippy::print_stdout, reason = "it prints what it could not send")]

mod outbox;

use std::{
    collections::HashSet,
    env,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use callsheet::{FinishedRun, Outcome, OverdueAlarm, prelude::*};
use outbox::{CALL_TIMEOUT, Outbox};

/// Says how jobs are. Its hooks put something into an outbox, and wait for nothing: no run is delayed.
#[derive(Clone)]
struct Notifier {
    webhook: Outbox,
    checks: Outbox,
    unwell: Arc<Mutex<HashSet<String>>>,
}

impl Notifier {
    fn started(&self) -> Ready<()> {
        self.checks.put("/start", "");
        ready(())
    }

    fn ended(&self, ended: &FinishedRun) -> Ready<()> {
        let (job, error) = (ended.run.job().as_str(), ended.error.as_deref().unwrap_or_default());
        let is_well = ended.outcome == Outcome::Succeeded;
        self.checks.put(if is_well { "" } else { "/fail" }, error);
        let what = if is_well { "is well again".to_owned() } else { format!("{}: {error}", ended.outcome) };
        self.tell(job, is_well, &what)
    }

    /// Each node says so for itself: let the receiver group by the name of the job.
    fn overdue(&self, alarm: &OverdueAlarm) -> Ready<()> {
        let what = format!("is overdue: {}, since {}", alarm.expectation, alarm.since);
        self.tell(alarm.job.as_str(), false, &what)
    }

    /// Once when a job is not well, and once when it is again. If there is no room, the next run tries again.
    fn tell(&self, job: &str, is_well: bool, what: &str) -> Ready<()> {
        let mut unwell = self.unwell.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let text = serde_json::json!({ "text": format!("{job} {what}") }).to_string();
        if unwell.contains(job) == is_well && self.webhook.put("", text) {
            let _ = if is_well { unwell.remove(job) } else { unwell.insert(job.to_owned()) };
        }
        ready(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (webhook, to_webhook) = Outbox::to("the webhook", env::var("WEBHOOK_URL")?);
    let (checks, to_checks) = Outbox::to("the dead-man service", env::var("CHECK_URL")?);
    let notifier = Notifier { webhook, checks, unwell: Arc::default() };
    let [starts, succeeds, fails, overdue] = [(); 4].map(|()| notifier.clone());
    drop(notifier);
    let file = env::args().nth(1).unwrap_or_else(|| "Cargo.toml".to_owned());
    let backup = Job::new("backup", every(Duration::from_millis(500)))
        .expect_success_within(Duration::from_secs(3))
        .before(move |_| starts.started())
        .after_success(move |run| succeeds.ended(&run))
        .after_failure(move |run| fails.ended(&run))
        .on_overdue(move |alarm| overdue.overdue(&alarm))
        .run_with(file, async |_, file| tokio::fs::read(file).await.map(drop));
    let jobs = Callsheet::builder().job(backup).start().await?;
    tokio::signal::ctrl_c().await?;
    println!("{}", jobs.shutdown(Duration::from_secs(10)).await);
    // What waits is sent, within the time of a call.
    drop(jobs);
    let until = Instant::now() + CALL_TIMEOUT;
    while !(to_webhook.is_finished() && to_checks.is_finished()) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
