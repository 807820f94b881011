//! Leaders that die, and whoever goes on.

use std::collections::BTreeMap;

use callsheet::{Health, HealthReport, OnLost, Operation, RemoveJobs, Resign, RunId};

use super::{log::Log, *};

/// How often a first attempt of each run of a backfill started.
fn first_starts(rig: &Rig) -> BTreeMap<RunId, usize> {
    let mut starts = BTreeMap::new();
    for recorded in rig.events() {
        if let EventKind::RunStarted { run, attempt: 1, .. } = recorded.event.kind
            && BackfillId::of_run(run).is_some()
        {
            *starts.entry(run).or_default() += 1;
        }
    }
    starts
}

/// A store with a latency of a millisecond: a run of 3 ms, its claim, its end, and the changes of the row take about
/// ten. The leader is killed after each of them.
#[test]
fn whenever_the_leader_is_killed_the_next_one_goes_on_and_each_fire_time_starts_once() {
    let mut lost = 0;
    for killed_after in 0..60 {
        simulate(START, async |rig| {
            rig.set_lease(secs(5));
            let seen = Seen::default();
            for _ in 0..3 {
                rig.node(node_with([seen.job(Duration::from_millis(3))])).await;
            }
            rig.advance(secs(1)).await;
            let leader = rig.leader().expect("somebody leads");
            let asked_of = (leader + 1) % 3;
            let kept = backfill(rig, asked_of, four_hours()).await;

            rig.advance(Duration::from_millis(killed_after)).await;
            rig.kill(leader);
            rig.advance(mins(2)).await;

            let finished = status(rig, asked_of, kept.id).await;
            assert_eq!(finished.state, BackfillState::Finished, "killed after {killed_after} ms");
            let starts = first_starts(rig);
            let runs: Vec<_> = (0..4).map(|nth| kept.id.run(nth)).collect();
            // One that was claimed right before its leader died may have been lost before its body started.
            let unstarted: Vec<_> = runs.iter().filter(|run| !starts.contains_key(run)).collect();
            let is_lost = |wanted: RunId| {
                rig.count(|kind| matches!(kind, EventKind::RunLost { run, .. } if *run == wanted)) > 0
            };
            assert!(
                unstarted.iter().all(|run| is_lost(**run)),
                "killed after {killed_after} ms: {unstarted:?}"
            );
            assert!(starts.values().all(|count| *count == 1), "killed after {killed_after} ms: {starts:?}");
            let lost_here = rig.count(|kind| matches!(kind, EventKind::RunLost { .. }));
            assert_eq!(finished.failed as usize, lost_here, "killed after {killed_after} ms");
            lost += lost_here;
        });
    }
    assert!(lost > 5, "it is killed during runs as well: {lost}");
}

/// As with kills: the leader is shut down after each millisecond, also between a claim and its answer.
#[test]
fn whenever_the_leader_is_shut_down_each_fire_time_runs_once() {
    for shut_down_after in 0..60 {
        simulate(START, async |rig| {
            let seen = Seen::default();
            for _ in 0..2 {
                rig.node(node_with([seen.job(Duration::from_millis(3))])).await;
            }
            rig.advance(secs(1)).await;
            let leader = rig.leader().expect("somebody leads");
            let kept = backfill(rig, 1 - leader, four_hours()).await;

            rig.advance(Duration::from_millis(shut_down_after)).await;
            rig.shutdown(leader, mins(1)).await;
            rig.advance(mins(2)).await;

            let finished = status(rig, 1 - leader, kept.id).await;
            assert_eq!((finished.state, finished.failed), (BackfillState::Finished, 0));
            let mut ran = seen.backfilled();
            ran.sort();
            assert_eq!(ran, ["00:00", "01:00", "02:00", "03:00"], "shut down after {shut_down_after} ms");
        });
    }
}

#[test]
fn a_node_that_leads_no_more_is_not_unhealthy_for_what_only_leaders_ask() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        for _ in 0..2 {
            rig.node(node_with([Seen::default().job(secs(1))])).await;
        }
        rig.advance(secs(1)).await;
        let leader = rig.leader().expect("somebody leads");
        rig.store().refuse([Operation::Backfills], "no");
        rig.advance(mins(3)).await;
        let told = rig.send(leader, Health).await;
        assert!(format!("{told:?}").contains("Backfills"), "while it leads: {told:?}");

        rig.cut_off(leader);
        rig.advance(mins(1)).await;
        rig.reconnect(leader);
        rig.advance(secs(20)).await;

        assert_ne!(rig.leader(), Some(leader));
        let told = rig.send(leader, Health).await;
        assert!(!format!("{told:?}").contains("Backfills"), "{told:?}");
    });
}

/// What a leader is refused that resigns, and may lead again later.
#[test]
fn a_leader_that_resigned_says_again_what_fails_when_it_leads_again() {
    const REASON: &str = "no rights of one that resigns";
    let log = Log::keep();
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        for _ in 0..2 {
            rig.node(node_with([Seen::default().job(secs(1))])).await;
        }
        rig.advance(secs(1)).await;
        let leader = rig.leader().expect("somebody leads");
        rig.store().refuse([Operation::Backfills], REASON);
        // It looks each minute.
        rig.advance(secs(70)).await;
        let is_told = |told: &HealthReport| format!("{told:?}").contains(REASON);
        assert!(is_told(&rig.send(leader, Health).await), "while it leads");
        let said = || log.text().lines().filter(|line| line.contains(REASON)).map(str::to_owned).collect();
        let while_it_led: Vec<String> = said();

        // Nobody is refused from now on; but this node does not ask any more, and hears of no success.
        rig.store().refuse_nothing();
        assert!(rig.send(leader, Resign).await, "it led");
        rig.advance(secs(1)).await;
        assert_ne!(rig.leader(), Some(leader));
        assert!(!is_told(&rig.send(leader, Health).await), "it asks for nothing of the kind any more");

        // A reason is said once a minute.
        rig.advance(secs(70)).await;
        assert!(rig.send(1 - leader, Resign).await, "it led");
        rig.store().refuse([Operation::Backfills], REASON);
        rig.advance(secs(10)).await;
        assert_eq!(rig.leader(), Some(leader));
        let said: Vec<String> = said();
        let [again] = &said[while_it_led.len()..] else { panic!("once: {said:#?}") };
        assert!(again.contains("the store: "), "it did not fail all the time: {again}");
    });
}

#[test]
fn a_leader_that_is_cut_off_and_its_successor_start_each_fire_time_once() {
    for cut_off_after in (0..60).step_by(3) {
        simulate(START, async |rig| {
            rig.set_lease(secs(5));
            let seen = Seen::default();
            for _ in 0..2 {
                rig.node(node_with([seen.job(Duration::from_millis(3))])).await;
            }
            rig.advance(secs(1)).await;
            let leader = rig.leader().expect("somebody leads");
            let kept = backfill(rig, leader, four_hours()).await;

            rig.advance(Duration::from_millis(cut_off_after)).await;
            rig.cut_off(leader);
            rig.advance(secs(30)).await;
            rig.reconnect(leader);
            rig.advance(mins(1)).await;

            assert_eq!(status(rig, leader, kept.id).await.state, BackfillState::Finished);
            let starts = first_starts(rig);
            assert!(starts.values().all(|count| *count == 1), "cut off after {cut_off_after} ms: {starts:?}");
        });
    }
}

#[test]
fn nobody_asks_again_for_a_run_whose_end_was_pushed_out_of_the_stores_memory() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        // The body of the backfill ends; then very many others do, before the row of the backfill says so.
        let many = Job::new("many", every(Duration::from_millis(1))).run(async |_| {});
        let seen = Seen::default();
        let job = || seen.job(Duration::from_millis(3));
        for _ in 0..2 {
            rig.node(node_with([job()])).await;
        }
        rig.add(0, many).await.expect("it is right");
        rig.advance(secs(1)).await;
        let leader = rig.leader().expect("somebody leads");
        // No change of the row gets through from now on: the claim and the end do.
        let kept = backfill(rig, leader, four_hours()).await;
        rig.advance(Duration::from_millis(3)).await;
        rig.store().refuse([callsheet::Operation::Backfills], "the disk is full");
        rig.advance(secs(8)).await;
        let before = first_starts(rig).len();
        let ends = rig.count(|kind| matches!(kind, EventKind::RunSucceeded { .. }));
        rig.kill(leader);
        rig.store().refuse_nothing();
        rig.advance(mins(2)).await;

        assert!(before >= 1, "one ran while the store refused");
        assert!(ends > 4_096 + before, "more ended than a store remembers: {ends}");
        let other = 1 - leader;
        assert_eq!(status(rig, other, kept.id).await.state, BackfillState::Finished);
        assert!(first_starts(rig).values().all(|count| *count == 1));
        assert_eq!(first_starts(rig).len(), 4);
    });
}

#[test]
fn a_lost_run_of_a_backfill_is_retried_if_its_job_says_so() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let seen = Seen::default();
        for _ in 0..2 {
            rig.node(node_with([seen.job(mins(1)).on_lost(OnLost::Retry)])).await;
        }
        rig.advance(secs(1)).await;
        let leader = rig.leader().expect("somebody leads");
        let kept = backfill(rig, 1 - leader, four_hours()).await;
        rig.advance(secs(30)).await;

        rig.kill(leader);
        rig.advance(mins(10)).await;

        assert_eq!(status(rig, 1 - leader, kept.id).await.state, BackfillState::Finished);
        let second = rig.count(
            |kind| matches!(kind, EventKind::RunStarted { run, attempt: 2, .. } if *run == kept.id.run(0)),
        );
        assert_eq!(second, 1);
        // Its body is told the same once more.
        assert_eq!(seen.backfilled(), ["00:00", "00:00", "01:00", "02:00", "03:00"]);
        assert_eq!(status(rig, 1 - leader, kept.id).await.failed, 0, "it succeeded in the end");
        assert_eq!(first_starts(rig).len(), 4);
        assert!(first_starts(rig).values().all(|count| *count == 1));
    });
}

/// The most runs of a job that were in progress at a time.
fn most_at_a_time(rig: &Rig) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for recorded in rig.events() {
        match recorded.event.kind {
            EventKind::RunStarted { .. } => open += 1,
            EventKind::RunSucceeded { .. } | EventKind::RunFailed { .. } => open -= 1,
            _ => {}
        }
        most = most.max(open);
    }
    most
}

async fn fail(run: Run, seen: Seen) -> Result<(), &'static str> {
    see(run, seen).await;
    Err("no paper")
}

#[test]
fn the_next_leader_waits_for_a_run_that_goes_on_elsewhere_under_a_former_lock_key() {
    simulate(START, async |rig| {
        let seen = Seen { takes: mins(10), ..Seen::default() };
        let job = || Job::new("job", every(hours(1))).run_with(seen.clone(), fail);
        rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let kept = backfill(rig, 0, four_hours()).await;
        rig.advance(secs(30)).await;
        assert_eq!(seen.backfilled(), ["00:00"]);

        // Another version of the application takes over, whose job has another lock key.
        rig.node(node_with([job().lock_key("another")])).await;
        rig.shutdown(0, hours(1)).await;
        rig.advance(mins(45)).await;

        assert_eq!(most_at_a_time(rig), 1);
        let finished = status(rig, 1, kept.id).await;
        assert_eq!((finished.state, finished.failed), (BackfillState::Finished, 4), "also the one elsewhere");
        assert_eq!(seen.backfilled(), ["00:00", "01:00", "02:00", "03:00"]);
    });
}

#[test]
fn a_long_spacing_does_not_begin_anew_with_the_next_leader() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let seen = Seen::default();
        for _ in 0..2 {
            rig.node(node_with([seen.job(secs(1))])).await;
        }
        rig.advance(secs(1)).await;
        let leader = rig.leader().expect("somebody leads");
        let kept = backfill(rig, leader, four_hours().spacing(mins(50))).await;
        rig.advance(mins(30)).await;
        assert_eq!(seen.backfilled(), ["00:00"]);

        rig.kill(leader);
        rig.advance(mins(19)).await;
        assert_eq!(seen.backfilled(), ["00:00"], "not before the time");
        rig.advance(mins(2)).await;

        assert_eq!(seen.backfilled(), ["00:00", "01:00"], "50 minutes after the one before");
        assert_eq!(status(rig, 1 - leader, kept.id).await.done, 2);
    });
}

/// A store with a latency of a millisecond, as above: the job is removed after each of them, and added anew.
#[test]
fn whenever_the_job_is_removed_and_added_anew_each_fire_time_runs_once() {
    for removed_after in 0..40 {
        simulate(START, async |rig| {
            let seen = Seen::default();
            let job = || seen.job(Duration::from_millis(3));
            for _ in 0..2 {
                rig.node(node_with([job()])).await;
            }
            rig.advance(secs(1)).await;
            let leader = rig.leader().expect("somebody leads");
            let kept = backfill(rig, leader, four_hours()).await;

            rig.advance(Duration::from_millis(removed_after)).await;
            rig.send(leader, RemoveJobs::new("job")).await.expect("it is there");
            rig.advance(secs(5)).await;
            rig.add(leader, job()).await.expect("it is right");
            rig.advance(mins(1)).await;

            let finished = status(rig, leader, kept.id).await;
            assert_eq!(
                (finished.state, finished.failed),
                (BackfillState::Finished, 0),
                "removed after {removed_after} ms"
            );
            let mut ran = seen.backfilled();
            ran.sort();
            assert_eq!(ran, ["00:00", "01:00", "02:00", "03:00"], "removed after {removed_after} ms");
        });
    }
}

#[test]
fn a_backfill_goes_on_on_the_next_leader_after_a_shutdown() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        for _ in 0..2 {
            rig.node(node_with([seen.job(mins(1))])).await;
        }
        rig.advance(secs(1)).await;
        let leader = rig.leader().expect("somebody leads");
        let kept = backfill(rig, leader, four_hours()).await;
        rig.advance(secs(30)).await;

        rig.shutdown(leader, hours(1)).await;
        rig.advance(mins(10)).await;

        assert_eq!(status(rig, 1 - leader, kept.id).await.state, BackfillState::Finished);
        assert_eq!(seen.backfilled(), ["00:00", "01:00", "02:00", "03:00"]);
    });
}
