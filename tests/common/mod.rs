//! What the stories on the rig share.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::time::Duration;

use callsheet::{
    Builder, Callsheet, EventKind, Job, JobDetails, JobStatus, Run, RunId, TriggerError, TriggerJob,
    Triggered, testkit::Rig,
};
use tokio::time::timeout;

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn mins(mins: u64) -> Duration {
    Duration::from_mins(mins)
}

pub(crate) fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

/// A node that holds these jobs.
pub(crate) fn node_with(jobs: impl IntoIterator<Item = Job>) -> Builder {
    Callsheet::builder().jobs(jobs)
}

/// Compares what happened with a golden transcript, line by line. A transcript is a specification:
/// a change of one is made by hand, and on purpose.
pub(crate) fn assert_transcript(rig: &Rig, expected: &str) {
    let actual = rig.transcript();
    assert!(actual == expected, "the transcript differs; it is now\n\n{actual}");
}

/// A body that takes so long, and stops when it is asked to.
pub(crate) async fn obedient(run: Run, time: Duration) {
    // Whichever comes first.
    let _ = timeout(time, run.cancelled()).await;
}

pub(crate) async fn trigger(rig: &mut Rig, node: usize, job: &str) -> Result<Triggered, TriggerError> {
    rig.send(node, TriggerJob::new(job)).await.map(|run| run.triggered())
}

/// What became of a trigger, in one word.
pub(crate) fn answer_in_short(answer: &Result<Triggered, TriggerError>) -> &'static str {
    match answer {
        Ok(Triggered::Started(_)) => "started",
        Ok(Triggered::Queued(_)) => "queued",
        Err(TriggerError::Overlap { .. }) => "overlap",
        Err(TriggerError::Concurrency { .. }) => "concurrency",
        Err(_) => "error",
    }
}

/// The runs that started, in their order.
pub(crate) fn started_runs(rig: &Rig) -> Vec<RunId> {
    let runs = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { run, .. } => Some(run),
        _ => None,
    });
    runs.collect()
}

/// How many runs started on a node.
pub(crate) fn started_on(rig: &Rig, node: &str) -> usize {
    let started = |kind: &EventKind| matches!(kind, EventKind::RunStarted { .. });
    rig.events().iter().filter(|recorded| recorded.node == node && started(&recorded.event.kind)).count()
}

/// As [`assert_transcript`], with the transcript of this name in `tests/transcripts/`.
pub(crate) fn assert_golden(rig: &Rig, name: &str) {
    let path = format!("{}/tests/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let actual = rig.transcript();
    assert!(actual == expected, "{name}: the transcript differs; it is now\n\n{actual}");
}

/// What a node says of a job.
pub(crate) async fn details(rig: &mut Rig, node: usize, job: &str) -> JobStatus {
    rig.send(node, JobDetails(job.to_owned())).await.expect("the job is there")
}

/// The runs that started: the node, the fire time without its date (`triggered` without one), and the attempt.
pub(crate) fn starts(rig: &Rig, name: &str) -> Vec<String> {
    let start = |kind, node| match kind {
        EventKind::RunStarted { job, fire_time, attempt, .. } if job.as_str() == name => {
            let tick = fire_time.map(|tick| tick.instant().format("%T").to_string());
            let attempt = if attempt > 1 { format!(" attempt {attempt}") } else { String::new() };
            Some(format!("{node} {}{attempt}", tick.as_deref().unwrap_or("triggered")))
        }
        _ => None,
    };
    rig.events().into_iter().filter_map(|recorded| start(recorded.event.kind, recorded.node)).collect()
}
