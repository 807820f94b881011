//! The node's bound on runs in progress: who waits, who goes first, and that no slot is ever lost.
//!
//! Each story ends with [`all_slots_are_free`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Builder, CancelReason, CancelRuns, EventKind, Fires, Job, JobDetails, ListJobs, Overlap, RemoveJobs,
    Retry, RunPhase, Selector, TriggerError, UpdateJob, WhenFull,
    schedule::{Schedule, at, every},
    testkit::{
        Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};

use chrono::{DateTime, TimeDelta, Utc};

#[path = "../common/mod.rs"]
mod common;
use common::{answer_in_short, details, hours, node_with, obedient, secs, started_runs, trigger};

mod late_grants;
mod queue;
mod slots;

const START: &str = "2026-01-05T00:00:00Z";

/// A node that runs so many bodies at once.
fn bounded(slots: usize, jobs: impl IntoIterator<Item = Job>) -> Builder {
    node_with(jobs).max_concurrent_runs(slots)
}

/// A job that never fires by itself, and takes so many seconds.
fn by_hand(name: &str, seconds: u64) -> Job {
    Job::new(name, every(hours(24 * 365))).run_with(secs(seconds), obedient)
}

/// A job that fires once, so many seconds after the start, and takes ten.
fn once(name: &str, second: i64) -> Job {
    Job::new(name, at(instant(second))).run_with(secs(10), obedient)
}

fn instant(second: i64) -> DateTime<Utc> {
    START.parse::<DateTime<Utc>>().expect("an instant") + TimeDelta::seconds(second)
}

async fn until(rig: &mut Rig, second: i64) {
    let wait = (instant(second) - rig.now()).to_std().expect("it is to come");
    rig.advance(wait).await;
}

/// Nothing runs any more; as many bodies can start as the node has slots, and not one more.
async fn all_slots_are_free(rig: &mut Rig, node: usize, slots: u32) {
    let last = || {
        Job::new("last", every(hours(24 * 365)))
            .fires(Fires::Local)
            .overlap(Overlap::Allow(slots + 1))
            .run_with(secs(10), obedient)
    };
    rig.add(node, last()).await.expect("the name is free");
    let mut answers = Vec::new();
    for _ in 0..=slots {
        answers.push(answer_in_short(&trigger(rig, node, "last").await));
    }
    let (all, one_more) = answers.split_at(slots as usize);
    assert!(all.iter().all(|answer| *answer == "started"), "{answers:?}");
    assert_ne!(one_more, ["started"]);
    rig.advance(secs(60)).await;
}

/// The names of the jobs whose runs started, in their order.
fn order(rig: &Rig) -> Vec<String> {
    let started = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { job, .. } => Some(job.as_str().to_owned()),
        _ => None,
    });
    started.collect()
}
