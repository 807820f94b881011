//! What the stories on the rig share.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::time::Duration;

use callsheet::{Builder, Callsheet, Job, testkit::Rig};

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
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
