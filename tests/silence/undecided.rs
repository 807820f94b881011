//! Ticks that are due and that nobody decides.

use super::*;

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
            assert!(matches!(health.problems[..], [Problem::TicksUndecidedOnLeader { .. }]), "{health:?}");
        }

        let health = rig.send(node, Health).await;
        let overdue = health.problems.iter().find_map(|problem| match problem {
            Problem::TicksUndecided { jobs, .. } => {
                Some(jobs.first.iter().map(JobName::as_str).collect::<Vec<_>>())
            }
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

/// Lets each leader lead for four fifths of a lease, and answers which nodes were healthy at some look after
/// the bound, counted from the last run.
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
                    Problem::Undecided { .. }
                        | Problem::TicksUndecidedOnLeader { .. }
                        | Problem::NoSession { .. }
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
