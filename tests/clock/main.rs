//! A clock that is set, or that drifts, and a machine that sleeps: every timer is right again at once, and no
//! tick is lost or doubled.

use actix::{Actor, Context, Handler};
use callsheet::{
    Callsheet, Event, EventKind, Fires, Job, JobState, Misfire, PauseJobs, RemoveJobs, Retry, RunError,
    port::{Clock, Schedule, SystemClock},
    schedule::{at, every},
    testkit::{Rig, simulate},
};
use chrono::{DateTime, DurationRound, NaiveTime, TimeDelta, Timelike, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    fmt,
    future::ready,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
        mpsc::Receiver,
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

mod ahead;
#[path = "../common/mod.rs"]
mod common;
mod rearming;
mod threads;

use common::{hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A job that the leader fires by the store's clock, and one that each node fires by its own.
fn led_and_local(period: Duration) -> [Job; 2] {
    let led = Job::new("led", every(period)).run(async |_| {});
    [led, Job::new("local", every(period)).fires(Fires::Local).run(async |_| {})]
}

fn stepped(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ClockStepped { .. })
}

/// How late the runs of a job were.
fn lateness(rig: &Rig, name: &str) -> Vec<Duration> {
    let late = |kind| match kind {
        EventKind::RunStarted { job, lateness, .. } if job.as_str() == name => Some(lateness),
        _ => None,
    };
    rig.events().into_iter().filter_map(|recorded| late(recorded.event.kind)).collect()
}

/// What is planned is compared by the wall clock, what is measured by the monotonic
/// one.
#[test]
fn the_story_of_a_clock_that_is_set_and_of_a_machine_that_sleeps() {
    simulate(START, async |rig| {
        let node = rig.node(node_with(led_and_local(hours(1)))).await;

        rig.advance(mins(10)).await;
        rig.set_skew(node, TimeDelta::minutes(4));
        rig.advance(mins(60)).await;
        rig.set_skew(node, TimeDelta::zero());
        rig.advance(mins(50) + secs(30)).await;
        // Back over a fire time that has passed, and over it again.
        rig.set_skew(node, TimeDelta::minutes(-1));
        rig.advance(mins(9) + secs(30)).await;
        rig.set_skew(node, TimeDelta::zero());
        rig.advance(mins(20)).await;
        // Too late for any of three fire times, and in time for one.
        rig.suspend(TimeDelta::hours(3));
        rig.advance(mins(40)).await;
        rig.suspend(TimeDelta::minutes(52));
        rig.advance(mins(60)).await;

        assert_eq!(rig.counter("callsheet_clock_steps_total", ""), 6);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=led"), 8);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=local"), 8);
        common::assert_transcript(rig, include_str!("../transcripts/clock_steps.txt"));
    });
}

#[test]
fn a_clock_that_drifts_is_corrected_before_anybody_notices() {
    for ppm in [1_000, -1_000] {
        simulate(START, async |rig| {
            let node = rig.node(node_with(led_and_local(hours(1)))).await;
            rig.set_drift(node, ppm);

            rig.advance(hours(10) + mins(1)).await;

            // 36 s in ten hours, at most 100 ms at a time.
            let steps = rig.count(stepped);
            assert!((300..=360).contains(&steps), "{ppm} ppm: {steps}");
            for (job, bound) in [("led", 5), ("local", 110)] {
                let late = lateness(rig, job);
                assert_eq!(late.len(), 10, "{ppm} ppm: {job}");
                let most = late.iter().max().expect("ten runs");
                assert!(*most <= Duration::from_millis(bound), "{ppm} ppm: {job} is {most:?} late");
            }
            assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 20);
        });
    }
}

#[test]
fn jobs_under_election_follow_the_stores_clock_when_that_is_set() {
    simulate(START, async |rig| {
        let [led, _] = led_and_local(hours(1));
        rig.node(node_with([led])).await;
        rig.advance(mins(30)).await;

        rig.set_store_skew(TimeDelta::minutes(2));
        rig.advance(mins(29)).await;
        assert_eq!(rig.started("led"), 1, "it is one o'clock in the store");
        rig.set_store_skew(TimeDelta::minutes(-2));
        rig.advance(mins(2)).await;
        assert_eq!(rig.started("led"), 1, "one o'clock comes once");
        rig.advance(hours(1)).await;

        let late = lateness(rig, "led");
        assert!(late.iter().all(|late| *late <= Duration::from_millis(5)), "{late:?}");
        assert_eq!((late.len(), rig.count(stepped)), (1, 0), "{}", rig.transcript());
        rig.advance(mins(1)).await;
        assert_eq!(rig.started("led"), 2, "at two by the store's clock");
    });
}

#[test]
fn a_step_moves_the_end_of_a_pause_and_not_the_next_attempt() {
    simulate(START, async |rig| {
        let paused =
            Job::new("paused", every(mins(1))).fires(Fires::Local).misfire(Misfire::Skip).run(async |_| {});
        let retry = Retry::attempts(2).initial(mins(5)).jitter(0.0);
        let failing = Job::new("failing", at(at_day(0, "00:01:00"))).fires(Fires::Local).retry(retry);
        let failing = failing.run(async |_| Err::<(), _>(RunError::from("not yet")));
        let node = rig.node(node_with([paused, failing])).await;
        let until = Some(at_day(0, "00:30:30"));
        rig.send(node, PauseJobs::new("paused").until(until)).await.expect("it is there");
        rig.advance(mins(2)).await;

        rig.set_skew(node, TimeDelta::minutes(28));
        let retried = |rig: &Rig| rig.count(|kind| matches!(kind, EventKind::RunFailed { .. }));
        rig.advance(mins(1) + secs(1)).await;
        assert_eq!(rig.started("paused"), 1, "at 00:31 by the clock that was set");
        assert_on_time(rig, &["failing", "paused"]);
        assert_eq!(retried(rig), 0);
        rig.advance(mins(3)).await;
        assert_eq!(retried(rig), 1, "five minutes after it failed");
    });
}

fn at_day(day: i64, time: &str) -> DateTime<Utc> {
    let midnight: DateTime<Utc> = START.parse().expect("an instant");
    midnight
        + TimeDelta::days(day)
        + time.parse::<NaiveTime>().expect("a time").signed_duration_since(NaiveTime::MIN)
}

/// The jobs whose runs started, in that order, and the longest lateness of one.
fn started(rig: &Rig) -> (Vec<String>, Duration) {
    let mut longest = Duration::ZERO;
    let mut started = |kind| match kind {
        EventKind::RunStarted { job, lateness, .. } => {
            longest = longest.max(lateness);
            Some(job.to_string())
        }
        _ => None,
    };
    let jobs = rig.events().into_iter().filter_map(|recorded| started(recorded.event.kind)).collect();
    (jobs, longest)
}

fn assert_on_time(rig: &Rig, jobs: &[&str]) {
    let (started, longest) = started(rig);
    assert_eq!(started, jobs);
    assert!(longest <= Duration::from_millis(5), "one is {longest:?} late");
}
