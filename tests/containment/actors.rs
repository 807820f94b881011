//! Actors that die.

use super::*;

#[test]
fn a_job_actor_that_dies_is_replaced_with_its_cursor_and_its_run_kept() {
    simulate(START, async |rig| {
        // It panics when it is asked for the tick after the third second: while the run of that tick goes on.
        let third = (rig.now() + secs(3)).to_utc();
        let schedule = PanickingSchedule::new(Period::seconds(1), third, 1);
        let bad =
            Job::new("bad", schedule).run(async |_| tokio::time::sleep(Duration::from_millis(200)).await);
        rig.node(node_with([bystander(), bad])).await;

        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 1);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRestarted { restarts: 1, .. })), 1);
        assert_eq!(
            (rig.started("bad"), rig.started("bystander")),
            (10, 10),
            "no tick is lost, none is doubled"
        );
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 20);
        assert_eq!(rig.store().held(), 0, "the key of the run that outlived its actor is free");
    });
}

#[test]
fn a_local_job_keeps_its_cursor_when_its_actor_dies() {
    simulate(START, async |rig| {
        let third = rig.now() + secs(3);
        let schedule = PanickingSchedule::new(Period::seconds(1), third, 2);
        rig.node(node_with([Job::new("bad", schedule).fires(Fires::Local).run(async |_| {})])).await;

        rig.advance(Duration::from_millis(10_500)).await;

        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 2);
        assert_eq!(rig.started("bad"), 10);
    });
}

#[test]
fn a_leader_whose_election_actor_dies_says_so_and_another_node_leads() {
    simulate(START, async |rig| {
        rig.set_lease(secs(30));
        let first = rig.node(node_with([bystander()])).await;
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(first));

        rig.kill_election(first);
        rig.advance(secs(15)).await;

        let died =
            |kind: &EventKind| matches!(kind, EventKind::LeadershipLost { why: StepDownReason::Died, .. });
        assert_eq!(rig.count(died), 1);
        assert_eq!(rig.gauge("callsheet_leader", ""), 0.0);
        let health = rig.send(first, Health).await;
        assert_eq!((health.live, health.role, health.term), (false, Role::Follower, None));

        let second = rig.node(node_with([bystander()])).await;
        rig.advance(secs(30)).await;
        assert_eq!(rig.leader(), Some(second));
        assert!(started_on(rig, "n2") > 0);
    });
}

#[test]
fn a_manual_claim_without_an_answer_is_rechecked_by_the_next_actor() {
    simulate(START, async |rig| {
        let tenth = rig.now() + secs(10);
        let schedule = PanickingSchedule::new(Period::seconds(10), tenth, 1);
        let node = rig.node(node_with([Job::new("bad", schedule).run(async |_| {})])).await;
        // Triggered just before the tick whose follower the schedule panics at.
        rig.advance(ms(9_990)).await;
        let id = rig.id(node);
        rig.store().script(id, [CallFault::ReplyLost]);
        rig.send(node, TriggerJob::new("bad")).await.expect_err("its reply is lost");
        rig.advance(secs(60)).await;

        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 1);
        assert_eq!(rig.store().held(), 0, "{}", rig.transcript());
        assert!(rig.started("bad") >= 4, "{}", rig.transcript());
    });
}

#[derive(Debug)]
struct RemovesAndPanics {
    period: Period,
    after: DateTime<Utc>,
    done: AtomicBool,
    supervisor: Arc<OnceLock<Addr<SupervisorActor>>>,
}

impl std::fmt::Display for RemovesAndPanics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("removes its job and panics")
    }
}

impl Schedule for RemovesAndPanics {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after >= self.after && !self.done.swap(true, Ordering::Relaxed) {
            self.supervisor.get().expect("set").do_send(RemoveJobs::new("bad"));
            panic!("on purpose");
        }
        self.period.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period.previous_before(before)
    }
}

#[test]
fn a_job_that_is_removed_while_its_actor_dies_leaves_nothing_behind() {
    simulate(START, async |rig| {
        let supervisor = Arc::new(OnceLock::new());
        let schedule = Arc::new(RemovesAndPanics {
            period: Period::seconds(1),
            after: rig.now() + secs(3),
            done: AtomicBool::new(false),
            supervisor: supervisor.clone(),
        });
        let kept = Arc::downgrade(&schedule);
        let schedule: Arc<dyn Schedule> = schedule;
        let node = rig.node(node_with([])).await;
        supervisor.set(rig.supervisor(node)).expect("once");
        let supervisor = rig.supervisor(node);
        supervisor
            .send(AddJob::new(Job::new("bad", schedule).fires(Fires::Local).run(async |_| {})))
            .await
            .expect("an answer")
            .expect("it is right");

        rig.advance(secs(60)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRemoved { .. })), 1);
        assert_eq!(kept.strong_count(), 0, "an actor of a removed job lives on for ever");
    });
}

/// The control of the test above: it passes.
#[test]
fn a_job_that_is_removed_leaves_nothing_behind() {
    simulate(START, async |rig| {
        let schedule: Arc<dyn Schedule> = Arc::new(Period::seconds(1));
        let kept = Arc::downgrade(&schedule);
        let node = rig.node(node_with([])).await;
        let supervisor = rig.supervisor(node);
        let job = Job::new("good", schedule).fires(Fires::Local).run(async |_| {});
        supervisor.send(AddJob::new(job)).await.expect("an answer").expect("it is right");
        rig.advance(secs(10)).await;
        rig.send(node, RemoveJobs::new("good")).await.expect("it is there");

        rig.advance(secs(10)).await;

        assert_eq!(kept.strong_count(), 0);
    });
}
