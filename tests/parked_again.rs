//! A parked job is tried again by itself, about once a minute, and goes on once the store takes what it
//! refused. Those that stay bad stand in nobody's way meanwhile.

use std::time::Duration;

use callsheet::{
    EventKind, Health, Job, JobState, Problem, RemoveJobs, SkipReason, TriggerError,
    schedule::every,
    testkit::{
        BadData::{Advance, Claim, End, Enrolment},
        Rig, simulate,
    },
};

mod common;
use common::{details, hours, mins, node_with, secs, trigger};

const START: &str = "2026-01-05T00:00:00Z";
const ERRORS: &str = "callsheet_coordination_errors_total";
/// A job that is parked is tried again within this time.
const TRIED_WITHIN: Duration = Duration::from_secs(61);

fn job(name: &str, seconds: u64) -> Job {
    Job::new(name, every(secs(seconds))).run(async |_| {})
}

/// Which jobs were parked, and which no longer, in the order of the events.
fn parked(rig: &Rig) -> Vec<String> {
    let said = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::JobParked { job, .. } => Some(format!("{job} is parked")),
        EventKind::JobUnparked { job } => Some(format!("{job} goes on")),
        _ => None,
    });
    said.collect()
}

/// Ticks that were skipped as parked.
fn skipped(rig: &Rig, job: &str) -> u64 {
    let skipped = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::TickSkipped { job: name, reason: SkipReason::Parked, count, .. }
            if name.as_str() == job =>
        {
            Some(count)
        }
        _ => None,
    });
    skipped.sum()
}

async fn is_healthy(rig: &mut Rig, node: usize) -> bool {
    let health = rig.send(node, Health).await;
    let parked = health.problems.iter().any(|problem| matches!(problem, Problem::Parked { .. }));
    assert!(health.healthy || parked, "nothing else is wrong: {health:?}");
    health.healthy
}

#[test]
fn a_parked_job_goes_on_within_a_minute_after_the_store_takes_it() {
    for bad in [Enrolment, Claim, End] {
        simulate(START, async |rig| {
            rig.store().set_bad("bad", &[bad]);
            let node = rig.node(node_with([job("bad", 10), job("good", 10), job("better", 10)])).await;
            rig.advance(mins(5)).await;
            assert_eq!(parked(rig), ["bad is parked"], "{bad:?}: it is said once");
            assert!(!is_healthy(rig, node).await);
            let before = rig.started("bad");

            rig.store().set_bad("bad", &[]);
            rig.advance(TRIED_WITHIN).await;
            // What was refused later than its enrolment is seen at its next tick.
            rig.advance(secs(13)).await;

            assert_eq!(parked(rig), ["bad is parked", "bad goes on"], "{bad:?}");
            assert_eq!(details(rig, node, "bad").await.state, JobState::Scheduled);
            assert!(is_healthy(rig, node).await);
            let after = rig.started("bad");
            rig.advance(mins(1)).await;
            assert_eq!(rig.started("bad"), after + 6, "{bad:?}: it had run {before} times");
            assert_eq!(rig.counter("callsheet_ticks_due_total", "name=bad"), 43, "{bad:?}: each tick once");
        });
    }
}

#[test]
fn a_job_that_stays_bad_is_tried_once_a_minute_and_delays_nobody() {
    for bad in [Enrolment, Claim] {
        simulate(START, async |rig| {
            let overlaps = Job::new("bad", every(secs(1))).run(async |_| tokio::time::sleep(secs(5)).await);
            rig.node(node_with([overlaps, job("good", 1), job("better", 1)])).await;
            rig.advance(secs(10)).await;
            rig.store().set_bad("bad", &[bad]);
            if bad == Enrolment {
                rig.end_session(0);
            }
            rig.advance(mins(2)).await;
            let (good, calls) = (rig.started("good"), rig.store().calls());
            let late = rig.count(is_late);

            rig.advance(mins(10)).await;

            assert_eq!(parked(rig), ["bad is parked"], "{bad:?}");
            assert_eq!(rig.started("good"), good + 600);
            assert_eq!(rig.count(is_late), late, "{bad:?}: nobody waits for a bad one");
            let calls = rig.store().calls() - calls;
            assert!(calls < 600 * 2 + 200, "{bad:?}: {calls}");
            assert!(skipped(rig, "bad") > 500, "{bad:?}: {}", skipped(rig, "bad"));
        });
    }
}

fn is_late(kind: &EventKind) -> bool {
    matches!(kind, EventKind::RunStarted { job, lateness, .. } if job.as_str() != "bad" && *lateness > secs(1))
}

#[test]
fn three_hundred_that_stay_bad_cost_ten_calls_a_second_and_come_back() {
    simulate(START, async |rig| {
        let names: Vec<_> = (0..300).map(|nth| format!("bad {nth:04}")).collect();
        names.iter().for_each(|name| rig.store().set_bad(name, &[Enrolment]));
        let bad = names.iter().map(|name| job(name, 3_600));
        let good = (0..100).map(|nth| job(&format!("good {nth:04}"), 10));
        rig.node(node_with(bad.chain(good))).await;
        // Each of them has to stand alone first.
        rig.advance(mins(10)).await;
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobParked { .. })), 300);
        let (good, late) = (rig.started("good 0000"), rig.count(is_late));
        let errors = rig.counter(ERRORS, "operation=enrol");

        rig.advance(mins(10)).await;

        let errors = rig.counter(ERRORS, "operation=enrol") - errors;
        assert!((300..=6_000).contains(&errors), "{errors} in ten minutes");
        assert_eq!(rig.started("good 0000"), good + 60);
        assert_eq!(rig.count(is_late), late);

        names.iter().for_each(|name| rig.store().set_bad(name, &[]));
        rig.advance(mins(3)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobUnparked { .. })), 300);
    });
}

#[test]
fn a_job_whose_skips_were_refused_goes_on_once_its_cursor_moves() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Advance]);
        let long = Job::new("bad", every(secs(10))).run(async |_| tokio::time::sleep(secs(15)).await);
        let node = rig.node(node_with([long, job("good", 10)])).await;
        rig.advance(secs(55)).await;
        assert_eq!(parked(rig), ["bad is parked"]);

        rig.store().set_bad("bad", &[]);
        rig.advance(TRIED_WITHIN).await;
        rig.advance(secs(13)).await;

        assert_eq!(parked(rig), ["bad is parked", "bad goes on"]);
        assert!(is_healthy(rig, node).await);
    });
}

#[test]
fn a_trigger_shows_that_the_store_takes_a_job_again() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("bad", 3_600), job("good", 10)])).await;
        rig.advance(secs(5)).await;
        rig.store().set_bad("bad", &[Claim]);
        for _ in 0..2 {
            assert!(trigger(rig, node, "bad").await.is_err());
            rig.advance(secs(10)).await;
        }
        assert_eq!(parked(rig), ["bad is parked"]);
        let refused = trigger(rig, node, "bad").await;
        assert!(matches!(refused, Err(TriggerError::Parked { .. })), "{refused:?}");
        rig.advance(TRIED_WITHIN).await;
        assert_eq!(details(rig, node, "bad").await.state, JobState::Parked, "its enrolment shows nothing");
        rig.store().set_bad("bad", &[]);

        trigger(rig, node, "bad").await.expect("it starts");

        rig.advance(secs(1)).await;
        assert_eq!(parked(rig), ["bad is parked", "bad goes on"]);
    });
}

#[test]
fn a_node_that_leads_no_more_forgets_what_it_parked() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let jobs = || node_with([job("bad", 10), job("good", 10)]);
        rig.store().set_bad("bad", &[Enrolment]);
        let first = rig.node(jobs()).await;
        rig.advance(secs(5)).await;
        rig.node(jobs()).await;
        rig.advance(secs(5)).await;
        assert_eq!(parked(rig), ["bad is parked"]);

        rig.freeze(first);
        rig.advance(secs(30)).await;
        rig.thaw(first);
        rig.advance(TRIED_WITHIN + secs(10)).await;

        assert_eq!(rig.leader(), Some(1));
        assert_eq!(parked(rig), ["bad is parked", "bad is parked", "bad goes on"]);
        assert_eq!(details(rig, first, "bad").await.state, JobState::Standby);
        rig.store().set_bad("bad", &[]);
        rig.advance(TRIED_WITHIN + secs(10)).await;
        for node in [first, 1] {
            assert!(is_healthy(rig, node).await);
        }
    });
}

#[test]
fn a_removed_job_is_tried_no_more() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Enrolment]);
        let node = rig.node(node_with([job("bad", 10), job("good", 3_600)])).await;
        rig.advance(secs(10)).await;
        assert_eq!(parked(rig), ["bad is parked"]);

        rig.send(node, RemoveJobs::new("bad")).await.expect("it is there");
        rig.advance(secs(5)).await;
        let errors = rig.counter(ERRORS, "operation=enrol");
        rig.advance(hours(1)).await;

        assert_eq!(rig.counter(ERRORS, "operation=enrol"), errors);
        assert_eq!(parked(rig), ["bad is parked"]);
    });
}
