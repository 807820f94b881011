//! Jobs on several stores in one scheduler: each store has its own election, session and clock, the handle finds the
//! jobs of all, and names, keys and bounds hold over all.

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod refused;
mod stores;

use callsheet::{Builder, Callsheet, Job, backend::Local, port::SystemClock, schedule::every};
use common::secs;

const START: &str = "2026-01-05T00:00:00Z";
/// The name of the other backend.
const CRITICAL: &str = "critical";

/// A job that is due each second.
fn each_second(name: &str) -> Job {
    Job::new(name, every(secs(1))).tag("each second").run(async |_| {})
}

/// A node with two backends: those of the rig, whichever are given.
fn node(jobs: impl IntoIterator<Item = Job>) -> Builder {
    let nowhere = Local::new(std::sync::Arc::new(SystemClock::default()));
    Callsheet::builder().jobs(jobs).backend_named(CRITICAL, nowhere)
}

/// A node with a job on each of its backends.
fn both() -> Builder {
    node([each_second("rest"), each_second("invoices").on(CRITICAL)])
}
