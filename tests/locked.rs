//! Containment: what somebody else has locked in the store fails alone, is asked for again, and is no
//! overlap.

use std::time::Duration;

use callsheet::{
    EventKind, Job, JobState, TriggerError, TriggerJob,
    schedule::every,
    testkit::{Rig, simulate},
};

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn quick(name: &str, period: Duration) -> Job {
    Job::new(name, every(period)).run(async |_| {})
}

/// The lateness of each run of a job.
fn lateness(rig: &Rig, name: &str) -> Vec<Duration> {
    let late = |kind: &EventKind| match kind {
        EventKind::RunStarted { job, lateness, .. } if job.as_str() == name => Some(*lateness),
        _ => None,
    };
    rig.events().iter().filter_map(|recorded| late(&recorded.event.kind)).collect()
}

fn is_unavailable(kind: &EventKind) -> bool {
    matches!(kind, EventKind::LockUnavailable { .. })
}

#[test]
fn a_locked_job_runs_late_once_it_is_free_and_its_neighbour_in_time() {
    simulate(START, async |rig| {
        rig.node(node_with([quick("held", secs(10)), quick("free", secs(10))])).await;
        rig.advance(secs(5)).await;

        rig.store().set_locked("held", true);
        rig.advance(ms(5_300)).await;
        rig.store().set_locked("held", false);
        rig.advance(ms(2_700)).await;

        let [free, held] = ["free", "held"].map(|job| lateness(rig, job));
        assert!(free.len() == 1 && free[0] < ms(10), "{free:?}");
        assert!(held.len() == 1 && held[0] >= ms(300) && held[0] < ms(560), "{held:?}");
        assert_eq!(rig.count(is_unavailable), 0, "the store is there");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=overlap"), 0);
    });
}

#[test]
fn a_job_that_stays_locked_is_asked_for_at_longer_and_longer_intervals() {
    simulate(START, async |rig| {
        rig.node(node_with([quick("held", secs(3_600))])).await;
        rig.advance(secs(3_590)).await;
        rig.store().set_locked("held", true);
        let calls = rig.store().calls();

        rig.advance(secs(70)).await;

        let calls = rig.store().calls() - calls;
        // A minute of heartbeats and renewals is among them.
        assert!((30..250).contains(&calls), "{calls} calls");
        rig.store().set_locked("held", false);
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("held"), 1);
    });
}

#[test]
fn a_trigger_waits_half_a_second_for_a_locked_key() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([quick("held", secs(3_600))])).await;
        rig.advance(secs(5)).await;
        let supervisor = rig.supervisor(node);

        rig.store().set_locked("held", true);
        let trigger = supervisor.send(TriggerJob::new("held"));
        let store = rig.store().clone();
        let freed = async {
            tokio::time::sleep(ms(200)).await;
            store.set_locked("held", false);
        };
        let (started, ()) = async { tokio::join!(trigger, freed) }.await;
        started.expect("it answers").expect("it started");

        rig.store().set_locked("held", true);
        let began = rig.now();
        let refused = rig.send(node, TriggerJob::new("held")).await;
        assert!(matches!(refused, Err(TriggerError::Unavailable { .. })), "{refused:?}");
        let waited = (rig.now() - began).to_std().expect("time goes on");
        assert!((ms(400)..ms(700)).contains(&waited), "{waited:?}");
        rig.store().set_locked("held", false);
        rig.advance(secs(1)).await;
        assert_eq!(rig.started("held"), 1, "nothing was taken by the one that was refused");
    });
}

#[test]
fn the_end_of_a_run_is_recorded_once_its_key_is_free() {
    simulate(START, async |rig| {
        let long = Job::new("held", every(secs(3_600))).run(async |_| tokio::time::sleep(secs(1)).await);
        rig.node(node_with([long, quick("free", secs(60))])).await;
        rig.advance(ms(3_600_500)).await;
        rig.store().set_locked("held", true);

        rig.advance(secs(10)).await;
        assert_eq!(rig.store().held(), 1, "the key is held until its end is recorded");
        rig.store().set_locked("held", false);
        rig.advance(secs(1)).await;

        assert_eq!(rig.store().held(), 0);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 61);
    });
}

#[test]
fn a_job_that_is_locked_at_its_enrolment_keeps_no_other_waiting() {
    simulate(START, async |rig| {
        rig.store().set_locked("held", true);
        let node = rig.node(node_with([quick("held", secs(1)), quick("free", secs(1))])).await;
        rig.advance(ms(3_500)).await;
        assert_eq!((rig.started("held"), rig.started("free")), (0, 3));

        rig.store().set_locked("held", false);
        rig.advance(secs(2)).await;

        assert!(rig.started("held") >= 1, "it is enrolled");
        let jobs = rig.send(node, callsheet::JobDetails("held".to_owned())).await.expect("it is there");
        assert_ne!(jobs.state, JobState::Standby);
    });
}
