//! Whatever a store refuses is noticed: in the health, in the metrics, and in the log, which it does not
//! flood.

use std::time::Duration;

use callsheet::{
    Callsheet, EventKind, Fires, Health, HealthReport, Job, JobName, JobState, Operation, PauseJobs, Problem,
    ResumeJobs, Scheduled,
    schedule::{cron, every},
    testkit::{BadData, Rig, simulate},
};

mod common;
#[path = "common/log.rs"]
mod log;
use common::{details, node_with, secs, trigger};
use log::Log;

const START: &str = "2026-01-05T00:00:00Z";
const LEASE: u64 = 5;

const ALL: [Operation; 5] =
    [Operation::Campaign, Operation::Renew, Operation::Prove, Operation::Claim, Operation::Enrol];

fn nightly() -> Job {
    Job::new("nightly", cron("0 3 * * *")).run(async |_| {})
}

fn failing(health: &HealthReport) -> Vec<Operation> {
    let operation = |problem: &Problem| match problem {
        Problem::Failing { operation, .. } => Some(*operation),
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
fn a_network_too_slow_for_the_lease_is_said_once_until_it_is_good() {
    Log::keep();
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let nodes = [rig.node(node_with([nightly()])).await, rig.node(node_with([nightly()])).await];
        rig.advance(secs(60)).await;

        // Four of them do not fit, though renewals come in time.
        rig.store().set_latency(Duration::from_millis(1_700));
        rig.advance(secs(30)).await;
        for node in nodes {
            let health = rig.send(node, Health).await;
            let problem = health.problems.iter().find(|it| matches!(it, Problem::LeaseTooShort { .. }));
            let text = problem.map(ToString::to_string).unwrap_or_default();
            assert!(text.contains("takes 1s700ms, and the lease is shorter than the 6s800ms"), "{health:?}");
        }
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LeaseTooShort { .. })), nodes.len());
        assert_eq!(rig.gauge("callsheet_store_round_trip_seconds", ""), 1.7);

        rig.store().set_latency(secs(1));
        rig.advance(secs(30)).await;
        for node in nodes {
            let health = rig.send(node, Health).await;
            assert!(
                !health.problems.iter().any(|it| matches!(it, Problem::LeaseTooShort { .. })),
                "{health:?}"
            );
        }
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LeaseLongEnough { .. })), nodes.len());
    });
}

#[test]
fn nothing_is_said_of_the_lease_while_there_is_no_session() {
    Log::keep();
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let node = rig.node(node_with([nightly()])).await;
        rig.advance(secs(60)).await;
        let said = |rig: &Rig| rig.count(|kind| matches!(kind, EventKind::LeaseTooShort { .. }));

        rig.store().set_latency(Duration::from_millis(1_700));
        rig.advance(secs(30)).await;
        assert_eq!(said(rig), 1);
        rig.cut_off(node);
        for _ in 0..10 {
            rig.advance(secs(LEASE)).await;
            let health = rig.send(node, Health).await;
            let is_short = |it: &Problem| matches!(it, Problem::LeaseTooShort { .. });
            assert!(!without_session(&health) || !health.problems.iter().any(is_short), "{health:?}");
        }

        assert!(without_session(&rig.send(node, Health).await));
        assert_eq!(said(rig), 1);
        rig.reconnect(node);
        rig.advance(secs(30)).await;
        assert_eq!(said(rig), 2, "the next session measures anew");
    });
}

fn without_session(health: &HealthReport) -> bool {
    health.problems.iter().any(|problem| matches!(problem, Problem::NoSession { .. }))
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
            let [Problem::Failing { operation: Operation::Prove, reason, cure, .. }] = &health.problems[..]
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
fn a_node_that_is_cut_off_is_live_but_not_ready() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let node = rig.node(node_with([nightly()])).await;
        rig.advance(secs(10)).await;

        rig.cut_off(node);
        rig.advance(secs(60)).await;

        let health = rig.send(node, Health).await;
        assert_eq!((health.live, health.ready, health.healthy), (true, false, false), "{health:?}");
        let away = health.problems.iter().find(|problem| matches!(problem, Problem::NoSession { .. }));
        let since = away.and_then(Problem::since).unwrap_or_else(|| panic!("{health:?}"));
        let for_how_long = rig.now() - since;
        assert!((50..60).contains(&for_how_long.num_seconds()), "{for_how_long}");
        rig.reconnect(node);
        rig.advance(secs(30)).await;
        assert!(rig.send(node, Health).await.healthy);
    });
}

#[test]
fn a_follower_without_a_session_shows_its_jobs_without_a_wait() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        rig.node(node_with([nightly()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([nightly()])).await;
        rig.advance(secs(10)).await;
        rig.cut_off(follower);
        rig.advance(secs(30)).await;
        let before = tokio::time::Instant::now();

        let shown = details(rig, follower, "nightly").await;

        let Some(Scheduled::Unknown { reason }) = &shown.scheduled else { panic!("{shown:?}") };
        assert!(reason.contains("there is no session with the store"), "{reason}");
        assert_eq!(before.elapsed(), Duration::ZERO);
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
fn a_question_that_failed_is_asked_again_with_the_next_session() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        rig.node(node_with([nightly()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([nightly()])).await;
        rig.advance(secs(10)).await;
        rig.store().refuse([Operation::Inquire], "no right to inquire");
        rig.advance(secs(30)).await;
        let health = rig.send(follower, Health).await;
        let inquires = |problem: &Problem| problem.operation() == Some(Operation::Inquire);
        assert!(health.problems.iter().any(inquires), "{health:?}");

        rig.store().refuse_nothing();
        rig.end_session(follower);
        rig.advance(secs(5)).await;

        let health = rig.send(follower, Health).await;
        assert!(health.healthy, "{health:?}");
    });
}

#[test]
fn jobs_whose_due_ticks_are_not_decided_are_named() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let jobs = ["ledger", "mail"].map(|name| Job::new(name, every(secs(10))).run(async |_| {}));
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(25)).await;

        let idle = rig.node(node_with([])).await;
        let every_second = Job::new("tidy", every(secs(1))).fires(Fires::AnyNode).run(async |_| {});
        let busy = rig.node(node_with([every_second])).await;
        rig.advance(secs(10)).await;
        rig.store().set_locked("ledger", true);
        rig.advance(secs(30)).await;

        assert!(rig.started("tidy") > 30, "it claims all the time");
        for follower in [idle, busy] {
            let health = rig.send(follower, Health).await;
            assert!(matches!(health.problems[..], [Problem::OverdueOnLeader { .. }]), "{health:?}");
        }

        let health = rig.send(node, Health).await;
        let overdue = health.problems.iter().find_map(|problem| match problem {
            Problem::Overdue { jobs, .. } => Some(jobs.first.iter().map(JobName::as_str).collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(overdue.as_deref(), Some(&["ledger"][..]), "{health:?}");
        rig.store().set_locked("ledger", false);
        rig.advance(Duration::from_secs(30)).await;
        for node in [node, idle, busy] {
            let health = rig.send(node, Health).await;
            assert!(health.healthy, "{health:?}");
        }
    });
}

/// How long a node may say that it is healthy while nothing runs: two leases and the time of a call, 5 s.
const HEALTHY_MAX: u64 = 2 * LEASE + 5;

/// Lets each leader lead for four fifths of a lease, and answers which nodes were healthy at some look after the
/// bound, counted from the last run.
async fn change_leaders(rig: &mut Rig, nodes: &[usize]) -> Vec<usize> {
    let mut healthy = Vec::new();
    let (mut ran_at, mut runs) = (rig.now(), rig.started("ledger"));
    for _ in 0..10 {
        for _ in 1..LEASE {
            rig.advance(secs(1)).await;
            let started = rig.started("ledger");
            if std::mem::replace(&mut runs, started) < started {
                ran_at = rig.now();
            }
        }
        let leader = rig.leader().expect("there is always one");
        rig.end_session(leader);
        for node in nodes.iter().filter(|node| **node != leader) {
            if (rig.now() - ran_at).num_seconds().unsigned_abs() > HEALTHY_MAX
                && rig.send(*node, Health).await.healthy
            {
                healthy.push(*node);
            }
        }
    }
    healthy
}

#[test]
fn leaders_that_come_and_go_hide_no_tick_that_is_not_decided() {
    type Break = fn(&Rig);
    let breaks: [Break; 3] = [
        |rig| rig.store().set_locked("ledger", true),
        |rig| rig.store().refuse([Operation::Claim], "no right to claim"),
        |rig| rig.store().refuse([Operation::Enrol], "no right to enrol"),
    ];
    for break_it in breaks {
        simulate(START, async |rig| {
            rig.set_lease(secs(LEASE));
            let ledger = || Job::new("ledger", every(secs(1))).run(async |_| {});
            let mut nodes = Vec::new();
            for _ in 0..3 {
                nodes.push(rig.node(node_with([ledger()])).await);
            }
            rig.advance(secs(30)).await;

            break_it(rig);
            let healthy = change_leaders(rig, &nodes).await;

            assert_eq!(healthy, [0; 0]);
            let follower =
                nodes.iter().copied().find(|node| Some(*node) != rig.leader()).expect("one of three");
            let health = rig.send(follower, Health).await;
            assert!(
                health.problems.iter().any(|it| matches!(
                    it,
                    Problem::Undecided { .. } | Problem::OverdueOnLeader { .. } | Problem::NoSession { .. }
                )),
                "{health:?}"
            );
            rig.store().set_locked("ledger", false);
            rig.store().refuse_nothing();
            rig.advance(secs(2 * LEASE)).await;
            for node in nodes {
                let health = rig.send(node, Health).await;
                assert!(health.healthy, "{health:?}");
            }
        });
    }
}

#[test]
fn a_leader_that_is_killed_makes_nobody_unhealthy() {
    for busy in [true, false] {
        simulate(START, async |rig| {
            rig.set_lease(secs(LEASE));
            let jobs = || {
                let often = busy.then(|| Job::new("ledger", every(secs(1))).run(async |_| {}));
                [nightly()].into_iter().chain(often)
            };
            let mut nodes = Vec::new();
            for _ in 0..3 {
                nodes.push(rig.node(node_with(jobs())).await);
            }
            rig.advance(secs(60)).await;

            let leader = rig.leader().expect("one leads");
            rig.kill(leader);
            nodes.retain(|node| *node != leader);

            for _ in 0..40 {
                rig.advance(Duration::from_millis(500)).await;
                for node in &nodes {
                    let health = rig.send(*node, Health).await;
                    assert!(health.healthy, "{health:?}");
                }
            }
        });
    }
}

#[test]
fn a_leader_that_is_frozen_makes_nobody_undecided() {
    for lease in [1, LEASE, 15] {
        simulate(START, async |rig| {
            rig.set_lease(secs(lease));
            let jobs = || [nightly(), Job::new("ledger", every(secs(1))).run(async |_| {})];
            for _ in 0..3 {
                rig.node(node_with(jobs())).await;
            }
            rig.advance(secs(4 * lease)).await;

            // Whenever it said last that all is decided.
            for nth in 1..=10 {
                let leader = rig.leader().expect("one leads");
                rig.freeze(leader);
                for _ in 0..30 {
                    rig.advance(secs(lease) / 10).await;
                    for node in (0..3).filter(|node| *node != leader) {
                        let health = rig.send(node, Health).await;
                        assert!(!is_undecided(&health), "{lease} s: {health:?}");
                    }
                }
                rig.thaw(leader);
                rig.advance(secs(4 * lease) + secs(lease) * nth / 10).await;
            }
        });
    }
}

fn is_undecided(health: &HealthReport) -> bool {
    health.problems.iter().any(|problem| matches!(problem, Problem::Undecided { .. }))
}

#[test]
fn a_store_that_is_back_after_an_outage_makes_nobody_undecided() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(rig.node(node_with([nightly()])).await);
        }
        rig.advance(secs(60)).await;
        rig.store().refuse([Operation::Open], "the server is away");
        nodes.iter().for_each(|node| rig.end_session(*node));
        rig.advance(secs(600)).await;

        rig.store().refuse_nothing();

        for _ in 0..100 {
            rig.advance(Duration::from_millis(100)).await;
            for node in &nodes {
                let health = rig.send(*node, Health).await;
                assert!(!is_undecided(&health), "{health:?}");
            }
        }
        let health = rig.send(nodes[0], Health).await;
        assert!(health.healthy, "{health:?}");
    });
}

#[test]
fn a_leader_whose_only_job_is_suspected_does_not_say_that_all_is_decided() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let ledger = || Job::new("ledger", every(secs(1))).run(async |_| {});
        for _ in 0..2 {
            rig.node(node_with([ledger()])).await;
        }
        // It enrols nothing, and knows only what it hears.
        rig.node(Callsheet::builder().may_lead(async || false)).await;
        rig.advance(secs(30)).await;
        let former = rig.leader().expect("one leads");

        rig.store().set_bad("ledger", &[BadData::Enrolment]);
        rig.end_session(former);
        rig.advance(secs(60)).await;

        for node in 0..3 {
            let health = rig.send(node, Health).await;
            assert!(!health.healthy, "{health:?}");
        }
        rig.store().set_bad("ledger", &[]);
        rig.advance(secs(30)).await;
        for node in 0..3 {
            let health = rig.send(node, Health).await;
            assert!(health.healthy, "{health:?}");
        }
    });
}

#[test]
fn a_node_whose_adapter_panicked_over_a_notification_gets_the_next() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let tidy = || Job::new("tidy", every(secs(1))).run(async |_| {});
        let leader = rig.node(node_with([nightly(), tidy()])).await;
        let other = rig.node(node_with([nightly(), tidy()])).await;
        let pause = |job: &str| PauseJobs::new(job);
        rig.send(other, pause("tidy")).await.expect("an answer");
        rig.advance(secs(10)).await;
        let started = rig.started("tidy");

        rig.store().refuse([Operation::Notification], "no notification");
        rig.send(other, ResumeJobs("tidy".into())).await.expect("an answer");
        rig.advance(secs(LEASE)).await;

        assert!(errors(rig, Operation::Notification) > 0);
        assert!(rig.started("tidy") > started, "it missed something, and looks");
        rig.store().refuse_nothing();
        rig.send(other, pause("nightly")).await.expect("an answer");
        rig.advance(secs(1)).await;
        assert_eq!(details(rig, leader, "nightly").await.state, JobState::Paused);
        let health = rig.send(leader, Health).await;
        assert!(health.healthy, "{health:?}");
    });
}

#[test]
fn what_ends_with_a_session_or_a_term_does_not_fail_any_more() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let leader = rig.node(node_with([nightly()])).await;
        let follower = rig.node(node_with([nightly()])).await;
        rig.advance(secs(10)).await;
        rig.store().refuse([Operation::Complete, Operation::CloseLost], "no right");
        trigger(rig, leader, "nightly").await.expect("nothing runs");
        rig.advance(secs(60)).await;
        assert_eq!(failing(&rig.send(leader, Health).await), [Operation::Complete, Operation::CloseLost]);

        rig.cut_off(leader);
        rig.advance(secs(4 * LEASE)).await;
        rig.store().refuse_nothing();
        rig.reconnect(leader);
        rig.advance(secs(2 * LEASE + 1)).await;

        assert_eq!(rig.leader(), Some(follower));
        for node in [leader, follower] {
            let health = rig.send(node, Health).await;
            assert!(health.healthy, "{health:?}");
        }
    });
}

#[test]
fn sessions_reopen_within_a_second_after_an_outage_and_not_all_at_once() {
    Log::keep();
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let mut nodes = Vec::new();
        for _ in 0..5 {
            nodes.push(rig.node(node_with([nightly()])).await);
        }
        rig.advance(secs(10)).await;

        rig.store().refuse([Operation::Open], "the server of one-outage is away");
        nodes.iter().for_each(|node| rig.end_session(*node));
        rig.advance(secs(600)).await;
        let said = warnings("the server of one-outage is away");
        assert!(said <= 11 * nodes.len(), "{said} lines");

        rig.store().refuse_nothing();
        let mut ready = Vec::new();
        for _ in 0..10 {
            rig.advance(Duration::from_millis(100)).await;
            let mut count = 0;
            for node in &nodes {
                count += usize::from(rig.send(*node, Health).await.ready);
            }
            ready.push(count);
        }

        assert_eq!(ready.last(), Some(&5), "{ready:?}");
        let steps = ready.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(steps >= 2, "{ready:?}");
    });
}
