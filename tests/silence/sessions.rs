//! The session with the store: a network too slow for the lease, an outage, and what ends with it.

use super::*;

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
        rig.send(other, ResumeJobs::new("tidy")).await.expect("an answer");
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
