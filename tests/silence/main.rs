//! Whatever a store refuses is noticed: in the health, in the metrics, and in the log, which it does not
//! flood.

use callsheet::{
    Callsheet, EventKind, Fires, Health, HealthReport, Job, JobName, JobState, Operation, PauseJobs, Problem,
    ResumeJobs, Scheduled,
    schedule::{cron, every},
    testkit::{BadData, Rig, simulate},
};
use log::Log;
use std::time::Duration;

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/log.rs"]
mod log;
mod sessions;
mod undecided;

use common::{details, node_with, secs, trigger};

const START: &str = "2026-01-05T00:00:00Z";
const LEASE: u64 = 5;
const ALL: [Operation; 5] =
    [Operation::Campaign, Operation::Renew, Operation::Prove, Operation::Claim, Operation::Enrol];

fn nightly() -> Job {
    Job::new("nightly", cron("0 3 * * *")).run(async |_| {})
}

fn failing(health: &HealthReport) -> Vec<Operation> {
    let operation = |problem: &Problem| match problem {
        Problem::OperationFailing { operation, .. } => Some(*operation),
        _ => None,
    };
    health.problems.iter().filter_map(operation).collect()
}

/// How many warnings give this reason.
fn warnings(reason: &str) -> usize {
    let text = Log::keep().text();
    text.lines().filter(|line| line.contains("WARN") && line.contains(reason)).count()
}

fn errors(rig: &mut Rig, operation: Operation) -> u64 {
    rig.counter("callsheet_coordination_errors_total", &format!("operation={operation}"))
}

#[test]
fn a_node_whose_claims_would_be_refused_is_unhealthy_before_one_is_due() {
    Log::keep();
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let leader = rig.node(node_with([nightly()])).await;
        let follower = rig.node(node_with([nightly()])).await;
        rig.advance(secs(60)).await;
        for node in [leader, follower] {
            let health = rig.send(node, Health).await;
            assert!(health.healthy && health.leader == Some(rig.id(leader)), "{health:?}");
        }

        rig.store().refuse([Operation::Prove], "the disk of one-night is full; free space");
        rig.advance(secs(2 * LEASE + 1)).await;

        for node in [leader, follower] {
            let health = rig.send(node, Health).await;
            assert!(health.live && health.ready && !health.healthy, "{health:?}");
            let [Problem::OperationFailing { operation: Operation::Prove, reason, cure, .. }] =
                &health.problems[..]
            else {
                panic!("{health:?}");
            };
            assert_eq!((&**reason, cure.as_deref()), ("the disk of one-night is full", Some("free space")));
        }
        rig.store().refuse_nothing();
        rig.advance(secs(LEASE + 1)).await;
        for node in [leader, follower] {
            let health = rig.send(node, Health).await;
            assert!(health.healthy, "{health:?}");
        }
        assert_eq!(warnings("the disk of one-night is full"), 2, "one on each node");
    });
}

#[test]
fn what_nodes_cannot_ask_of_each_other_is_a_problem_for_no_longer_than_it_lasts() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let nodes = [rig.node(node_with([nightly()])).await, rig.node(node_with([nightly()])).await];
        rig.advance(secs(30)).await;

        rig.store().refuse([Operation::Control], "it is read-only");
        // They have asked once, after a minute.
        rig.advance(secs(40)).await;
        for node in nodes {
            let health = rig.send(node, Health).await;
            assert_eq!(failing(&health), [Operation::Control], "{health:?}");
        }

        rig.store().refuse_nothing();
        rig.advance(secs(10)).await;
        for node in nodes {
            let health = rig.send(node, Health).await;
            assert!(health.healthy, "{health:?}");
        }
    });
}

#[test]
fn a_store_that_refuses_everything_for_an_hour_is_logged_once_a_minute() {
    Log::keep();
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let jobs = (0..50).map(|nth| Job::new(format!("job-{nth}"), every(secs(1))).run(async |_| {}));
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(10)).await;

        rig.store().refuse(ALL, "no right to any-hour");
        rig.advance(secs(3_600)).await;

        let health = rig.send(node, Health).await;
        assert!(health.live && health.ready && !health.healthy, "{health:?}");
        assert!(failing(&health).contains(&Operation::Campaign), "{health:?}");
        assert!(health.problems.iter().any(|it| matches!(it, Problem::NoLeader { .. })), "{health:?}");
        assert!(errors(rig, Operation::Campaign) >= 3_600 / 5 - 5);
        let said = warnings("no right to any-hour");
        assert!((60..=60 * ALL.len()).contains(&said), "{said} lines");

        rig.store().refuse_nothing();
        rig.advance(secs(30)).await;
        let health = rig.send(node, Health).await;
        assert!(health.healthy, "{health:?}");
    });
}

#[test]
fn each_operation_that_is_refused_is_counted() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let slow = Job::new("slow", every(secs(2)))
            .run(async |_| tokio::time::sleep(Duration::from_millis(1_500)).await);
        let skips = Job::new("paused", every(secs(2))).run(async |_| {});
        let node = rig.node(node_with([slow, skips])).await;
        rig.advance(secs(3)).await;

        rig.store().refuse([Operation::Complete, Operation::Claim], "no");
        rig.advance(secs(20)).await;

        let health = rig.send(node, Health).await;
        let failing = failing(&health);
        assert!(failing.contains(&Operation::Complete) && failing.contains(&Operation::Claim), "{health:?}");
        assert!(errors(rig, Operation::Complete) > 3 && errors(rig, Operation::Claim) > 1);
        rig.store().refuse_nothing();
        rig.advance(secs(20)).await;
        let health = rig.send(node, Health).await;
        assert!(health.healthy, "{health:?}");
    });
}

#[test]
fn who_looks_at_jobs_of_a_store_that_refuses_adds_no_failure() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        rig.node(node_with([nightly()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([nightly()])).await;
        rig.advance(secs(10)).await;
        rig.store().refuse([Operation::Inquire], "no right to inquire");

        for _ in 0..3 {
            let shown = details(rig, follower, "nightly").await;
            let Some(Scheduled::Unknown { reason }) = &shown.scheduled else { panic!("{shown:?}") };
            assert!(reason.contains("no right to inquire"), "{reason}");
        }

        assert_eq!(errors(rig, Operation::Inquire), 0);
        let health = rig.send(follower, Health).await;
        assert!(health.healthy, "{health:?}");
    });
}

#[test]
fn a_node_that_led_is_unhealthy_from_when_it_lost_the_lead() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let node = rig.node(node_with([nightly()])).await;
        rig.advance(secs(10)).await;
        assert!(rig.send(node, Health).await.healthy);

        rig.store().refuse([Operation::Renew, Operation::Campaign], "no");

        let (mut led, mut leaderless) = (0, 0);
        for _ in 0..200 {
            rig.advance(Duration::from_millis(50)).await;
            let health = rig.send(node, Health).await;
            match health.term {
                Some(_) => led += 1,
                None => {
                    leaderless += 1;
                    assert_eq!((health.leader, health.healthy), (None, false), "{health:?}");
                }
            }
        }
        assert!(led > 10 && leaderless > 10, "{led} {leaderless}");
    });
}
