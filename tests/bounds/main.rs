//! Durations and counts at 0, at 1 and at their greatest: each works and does what it says, or is refused
//! with its value, the rule and the cure. Nothing panics, hangs, or takes another value in silence.
//!
//! `bounds_complete.rs` knows what there is; those of a PostgreSQL server are in `postgres_bounds.rs`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    ACTIVE_RUNS_MAX, ActiveRuns, BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX, Backfill, BackfillState,
    Builder, CLUSTER_WITHIN_MAX, CLUSTER_WITHIN_MIN, Callsheet, Decisions, Error, ErrorKind, EventFilter,
    EventKind, FIRE_TIMES_MAX, HISTORY_QUEUE_MIN, HistoryOptions, Job, JobConfig, JobState, ListBackfills,
    ListJobs, MEMORY_BYTES_MIN, Misfire, NextFireTimes, NextFireTimesError, Operations, Overlap, PAGE_MAX,
    PauseJobs, Policies, RETENTION_MAX, RETENTION_MIN, Retry, Run, RunHistory, RunId, RunPhase,
    SUBSCRIBER_EVENTS_MAX, ShutdownBudget, WhenFull,
    schedule::{self, Definition, PREVIEW_MAX, at, daily, every, monthly, random, weekly},
    testkit::{
        Rig, VirtualClock,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
    uuid::Uuid,
};
use chrono::{DateTime, TimeDelta, Utc, Weekday};

#[path = "../common/mod.rs"]
mod common;
use common::{details, hours, mins, node_with, secs};

mod options;
mod policies;
mod schedules;
mod settings;
mod testkit;

const START: &str = "2026-01-05T00:00:00Z";

const NANO: Duration = Duration::from_nanos(1);

const MILLI: Duration = Duration::from_millis(1);

fn job() -> Job<callsheet::Bodiless> {
    Job::new("job", every(secs(10)))
}
