//! What the stories on the rig share.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::time::Duration;

use callsheet::{Builder, Callsheet, EventKind, Job, JobDetails, JobStatus, testkit::Rig};

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
