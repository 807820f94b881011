//! Containment: one bad thing harms nothing else.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr};
use callsheet::{
    AddJob, Callsheet, EventKind, Fires, Health, Job, JobDetails, JobState, NextFireTimes,
    NextFireTimesError, Operation, PauseError, RESTARTS_MAX, RemoveJobs, ResumeJobs, Run, RunId, RunResult,
    SelectError, Selector, StepDownReason, SupervisorActor, Term, TriggerError, TriggerJob,
    port::Role,
    schedule::{Schedule, custom, every},
    testkit::{
        CallFault, Rig,
        fakes::{PanickingListener, PanickingSchedule, Period, SlowListener},
        simulate,
    },
};

use chrono::{DateTime, Utc};

#[path = "../common/mod.rs"]
mod common;
use common::{node_with, secs, started_on};

mod actors;
mod bodies;
mod schedules;
mod stores;

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn bystander() -> Job {
    Job::new("bystander", every(secs(1))).run(async |_| {})
}

#[test]
fn a_slow_listener_loses_only_its_own_events_and_they_are_counted() {
    simulate(START, async |rig| {
        let fast = Job::new("fast", every(Duration::from_millis(1))).run(async |_| {});
        let builder = node_with([fast]);
        rig.drive_node(move || builder.listen(SlowListener(secs(3600)).start())).await;

        rig.advance(secs(20)).await;

        // The recorder hears everything; the slow one has one event in hand and a full queue behind it.
        assert!(rig.started("fast") > 9_000, "{}", rig.started("fast"));
        let said = rig.events().len() as u64;
        let dropped = rig.counter("callsheet_events_dropped_total", "");
        let queue = callsheet::SUBSCRIBER_EVENTS_MAX as u64;
        assert!(dropped > 0 && said - dropped <= queue + 2, "{said} said, {dropped} dropped");
    });
}

#[test]
fn a_panicking_listener_is_forgotten_and_harms_nothing() {
    simulate(START, async |rig| {
        let builder = node_with([bystander()]);
        rig.drive_node(move || builder.listen(PanickingListener.start())).await;

        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.started("bystander"), 10);
        assert_eq!(rig.counter("callsheet_events_dropped_total", ""), 0);
    });
}
