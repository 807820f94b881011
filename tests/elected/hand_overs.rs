//! What becomes of ticks when the lead changes.

use std::time::Duration;

use callsheet::{
    Answer, CancelReason, EventKind, Explain, Health, HealthReport, Job, Misfire, PauseJobs, Problem, Resign,
    SkipReason, TriggerError,
    backend::OnUnproven,
    schedule::every,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    LEASE, START, Ticks,
    common::{hours, mins, node_with, obedient, trigger},
    leaders, secs, skips, tick,
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three nodes with the job that has a tick each second, and the first of which leads.
async fn three(rig: &mut Rig, on_unproven: OnUnproven, jobs: impl Fn() -> Vec<Job>) -> [usize; 3] {
    rig.set_lease(LEASE);
    rig.elect_only(on_unproven);
    let first = rig.node(node_with(jobs())).await;
    rig.advance(millis(200)).await;
    let others = [rig.node(node_with(jobs())).await, rig.node(node_with(jobs())).await];
    assert_eq!(rig.leader(), Some(first));
    [first, others[0], others[1]]
}

#[test]
fn a_leader_that_shuts_down_leaves_nothing_unproven_and_misses_nothing() {
    simulate(START, async |rig| {
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.advance(secs(60)).await;

        rig.shutdown(first, secs(5)).await;
        rig.advance(secs(30)).await;

        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!((ticks.started.len(), ticks.skipped.len()), (90, 0), "{ticks:?}");
        assert_eq!(leaders(rig), 2);
    });
}

#[test]
fn what_a_dead_leader_may_have_started_is_skipped_as_unproven_and_told() {
    simulate(START, async |rig| {
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.advance(secs(60)).await;

        rig.kill(first);
        rig.advance(secs(30)).await;

        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!(ticks.missing(1, 90), [0; 0], "{ticks:?}");
        let unproven = ticks.unproven();
        assert!(unproven.first().is_some_and(|first| (50..=61).contains(first)), "{unproven:?}");
        assert!(
            unproven.last().is_some_and(|last| (61..=70).contains(last)),
            "up to what it was trusted for"
        );
        assert!(unproven.windows(2).all(|two| two[1] == two[0] + 1), "{unproven:?}");
        assert_eq!(ticks.skipped.len(), unproven.len(), "all later ones ran: {ticks:?}");
        let counted = rig.counter("callsheet_ticks_total", "name=tick,outcome=unproven");
        assert_eq!(counted, unproven.len() as u64);

        let leader = rig.leader().expect("somebody leads");
        let at = START.parse::<DateTime<Utc>>().expect("an instant") + TimeDelta::seconds(62);
        let mut told = rig.send(leader, Explain::new("tick", at)).await.expect("it is explained");
        let answer = told.explanations.remove(0).answer;
        assert!(matches!(answer, Answer::Skipped { reason: SkipReason::Unproven, .. }), "{answer}");
        assert!(
            answer.to_string().contains("another node may have started it: the lead changed"),
            "{answer}"
        );
    });
}

#[test]
fn what_is_unproven_runs_if_it_is_to_and_some_of_it_twice() {
    simulate(START, async |rig| {
        let misfire = Misfire::All { max: 20, within: mins(1) };
        let [first, ..] = three(rig, OnUnproven::Run, || vec![tick().misfire(misfire)]).await;
        rig.advance(secs(63)).await;

        rig.kill(first);
        rig.advance(secs(30)).await;

        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!((ticks.started.len(), skips(rig, SkipReason::Unproven)), (93, 0), "{ticks:?}");
        let twice = ticks.started.values().filter(|count| **count == 2).count();
        assert!((1..=10).contains(&twice), "what was not known to be decided: {ticks:?}");
    });
}

#[test]
fn the_runs_of_a_leader_that_is_cut_off_are_cancelled_before_another_node_leads() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(mins(1))).run(async |run| obedient(run, hours(1)).await);
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick(), long()]).await;
        rig.advance(secs(62)).await;
        assert_eq!(rig.started("long"), 1);

        rig.cut_off(first);
        let lost =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::LockLost, .. });
        while rig.count(lost) == 0 {
            assert_eq!(leaders(rig), 1, "nobody leads while its run goes on");
            rig.advance(millis(100)).await;
        }
        assert_eq!(rig.counter("callsheet_locks_lost_total", ""), 1);
        rig.advance(secs(30)).await;
        assert_eq!(leaders(rig), 2);

        rig.reconnect(first);
        rig.advance(secs(30)).await;
        assert_eq!(Ticks::of(rig, "tick", 1).missing(1, 122), [0; 0]);
    });
}

#[test]
fn a_leader_that_was_frozen_starts_nothing_when_it_goes_on() {
    simulate(START, async |rig| {
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.advance(secs(60)).await;

        rig.freeze(first);
        rig.advance(secs(60)).await;
        assert_eq!(leaders(rig), 2);
        rig.thaw(first);
        rig.advance(secs(30)).await;

        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!(ticks.missing(1, 150), [0; 0], "{ticks:?}");
        // What was due after all that it may have started waited for the next leader.
        assert!(ticks.unproven().iter().all(|second| (50..=70).contains(second)), "{ticks:?}");
    });
}

#[test]
fn a_leader_that_resigns_keeps_the_lead_until_its_run_has_ended() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(mins(1))).run(async |run| obedient(run, secs(30)).await);
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick(), long()]).await;
        rig.advance(secs(65)).await;
        assert_eq!(rig.started("long"), 1);

        assert!(rig.send(first, Resign).await, "it led");
        rig.advance(secs(20)).await;
        assert_eq!((leaders(rig), rig.leader()), (1, Some(first)), "its run goes on");
        let before = rig.started("tick");
        rig.advance(secs(1)).await;
        assert_eq!(rig.started("tick"), before, "it starts nothing");

        rig.advance(secs(10)).await;
        assert!(leaders(rig) == 2 && rig.leader() != Some(first), "the run has ended");
        let ended =
            |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { job, .. } if job.as_str() == "long");
        assert_eq!(rig.count(ended), 1, "nobody cancelled it");
        rig.advance(secs(10)).await;
        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!((ticks.missing(1, 105), ticks.unproven()), (vec![], vec![]), "{ticks:?}");
    });
}

#[test]
fn a_job_that_waits_makes_no_tick_of_others_unproven() {
    simulate(START, async |rig| {
        let held = || Job::new("held", every(hours(1))).run(async |_| {});
        let minutely = || Job::new("minutely", every(mins(1))).run(async |_| {});
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![held(), minutely()]).await;
        rig.send(first, PauseJobs::new("held")).await.expect("it leads");
        rig.advance(hours(1) + mins(20) + secs(30)).await;
        assert_eq!(rig.started("held"), 0, "its tick is held");

        rig.kill(first);
        rig.advance(mins(5)).await;

        assert_eq!(Ticks::of(rig, "minutely", 60).unproven(), [0; 0], "none was due since the last renewal");
        assert_eq!(Ticks::of(rig, "held", 3_600).unproven(), [3_600], "it was never known to be decided");
        assert_eq!(rig.started("minutely"), 85);
    });
}

#[test]
fn more_jobs_that_wait_than_can_be_named_make_more_unproven_and_nothing_double() {
    simulate(START, async |rig| {
        let jobs = || {
            let held =
                (0..80).map(|nth| Job::new(format!("held-{nth:02}"), every(hours(1))).run(async |_| {}));
            let minutely = Job::new("minutely", every(mins(1))).run(async |_| {});
            held.chain([minutely]).collect()
        };
        let [first, ..] = three(rig, OnUnproven::Skip, jobs).await;
        for nth in 0..80 {
            rig.send(first, PauseJobs::new(format!("held-{nth:02}"))).await.expect("it leads");
        }
        rig.advance(hours(1) + mins(5) + secs(30)).await;

        rig.kill(first);
        rig.advance(mins(5)).await;

        let minutely = Ticks::of(rig, "minutely", 60);
        assert_eq!(minutely.unproven(), (60..=65).map(|minute| minute * 60).collect::<Vec<_>>());
        assert_eq!(minutely.missing(60, 70 * 60), [0; 0]);
    });
}

#[test]
fn clocks_that_differ_by_minutes_double_nothing() {
    for (of_first, of_others) in [(120, 0), (0, 120), (-120, 30)] {
        simulate(START, async |rig| {
            rig.store().hide_clock();
            let [first, second, third] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
            rig.set_skew(first, TimeDelta::seconds(of_first));
            rig.set_skew(second, TimeDelta::seconds(of_others));
            rig.set_skew(third, TimeDelta::seconds(of_others));
            rig.advance(secs(300)).await;
            rig.kill(first);
            rig.advance(secs(300)).await;

            let ticks = Ticks::of(rig, "tick", 1);
            let last = 600 + of_others.min(0);
            assert_eq!(ticks.missing(1, last), [0; 0], "{of_first} {of_others}");
        });
    }
}

/// Otherwise it could start, before it dies, what nobody knows of.
#[test]
fn a_leader_whose_clock_jumps_ahead_starts_nothing_beyond_what_it_stored() {
    simulate(START, async |rig| {
        rig.store().hide_clock();
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.advance(secs(60)).await;

        rig.set_skew(first, TimeDelta::hours(1));
        rig.advance(millis(100)).await;
        rig.kill(first);
        rig.advance(secs(60)).await;

        let ticks = Ticks::of(rig, "tick", 1);
        assert!(ticks.started.keys().all(|second| *second <= 121), "{ticks:?}");
        assert_eq!(ticks.missing(1, 120), [0; 0]);
    });
}

/// What it skips as unproven is not written yet when it loses the lead.
#[test]
fn a_node_that_wins_twice_in_a_row_remembers_what_the_dead_leader_left() {
    simulate(START, async |rig| {
        let minutely = || {
            let misfire = Misfire::Latest { within: hours(1) };
            vec![Job::new("minutely", every(mins(1))).misfire(misfire).run(async |_| {})]
        };
        let [first, _, third] = three(rig, OnUnproven::Skip, minutely).await;
        // Nobody else is to win.
        rig.kill(third);
        rig.advance(secs(59) + millis(900)).await;
        rig.kill(first);
        let next = loop {
            if let Some(leader) = rig.leader().filter(|leader| *leader != first) {
                break leader;
            }
            rig.advance(millis(10)).await;
        };
        rig.advance(millis(50)).await;
        assert_eq!((rig.started("minutely"), leaders(rig)), (1, 2));

        for _ in 0..3 {
            rig.end_session(next);
            rig.advance(millis(300)).await;
        }
        rig.advance(mins(2)).await;

        let ticks = Ticks::of(rig, "minutely", 60);
        assert_eq!((ticks.unproven(), ticks.missing(60, 180)), (vec![60], vec![]), "{ticks:?}");
    });
}

/// By its clock the second leader has not come to what the first one started.
#[test]
fn a_leader_that_resigns_leaves_what_a_leader_before_may_have_started() {
    simulate(START, async |rig| {
        rig.store().hide_clock();
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.set_skew(first, TimeDelta::seconds(120));
        rig.advance(secs(300)).await;
        rig.kill(first);
        rig.advance(secs(30)).await;
        let second = rig.leader().expect("somebody leads");

        assert!(rig.send(second, Resign).await, "it led");
        rig.advance(secs(200)).await;

        assert!(leaders(rig) == 3 && rig.leader() != Some(second));
        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!(ticks.missing(1, 529), [0; 0], "{ticks:?}");
        assert!(ticks.unproven().iter().all(|second| (400..=431).contains(second)), "{ticks:?}");
    });
}

#[test]
fn a_leader_whose_clock_is_wrong_steps_down_where_the_store_has_one() {
    simulate(START, async |rig| {
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.advance(secs(60)).await;

        rig.set_skew(first, TimeDelta::days(1));
        rig.advance(secs(60)).await;

        assert!(leaders(rig) == 2 && rig.leader() != Some(first));
        let ticks = Ticks::of(rig, "tick", 1);
        assert_eq!(ticks.missing(1, 119), [0; 0], "{ticks:?}");
        assert!(ticks.started.keys().all(|second| *second <= 120), "it decides by the clock of the store");
    });
}

#[test]
fn what_a_leader_left_whose_clock_was_a_day_ahead_is_not_taken_over_in_silence() {
    simulate(START, async |rig| {
        rig.store().hide_clock();
        let minutely = || vec![Job::new("minutely", every(mins(1))).run(async |_| {})];
        let [first, second, _] = three(rig, OnUnproven::Skip, minutely).await;
        rig.set_skew(first, TimeDelta::days(1));
        rig.advance(secs(60)).await;
        let obstructed = |health: &HealthReport| {
            let is = |problem: &&Problem| matches!(problem, Problem::Obstructed { .. });
            health.problems.iter().find(is).map(ToString::to_string)
        };
        rig.set_skew(first, TimeDelta::zero());
        rig.advance(secs(10)).await;
        let of_leader = rig.send(first, Health).await;
        assert!(obstructed(&of_leader).is_some(), "it leads, and nothing is due for a day: {of_leader:?}");

        rig.kill(first);
        rig.advance(mins(2)).await;

        assert_eq!(leaders(rig), 1, "nobody takes it over");
        let health = rig.send(second, Health).await;
        let told = obstructed(&health).expect("it is told");
        assert!(told.contains("ticks are decided up to 2026-01-06 00:0"), "{told}");
        assert!(told.contains("synchronise the clocks"), "{told}");
        rig.advance(hours(24)).await;
        assert_eq!(leaders(rig), 2, "that instant has passed");
        assert_eq!(obstructed(&rig.send(second, Health).await), None);
    });
}

#[test]
fn the_runs_of_a_leader_that_is_cut_off_while_it_resigns_are_cancelled_before_another_node_leads() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(mins(1))).run(async |run| obedient(run, hours(1)).await);
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick(), long()]).await;
        rig.advance(secs(62)).await;
        assert!(rig.send(first, Resign).await, "it led");
        rig.advance(secs(5)).await;

        rig.cut_off(first);
        let lost =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::LockLost, .. });
        while rig.count(lost) == 0 {
            assert_eq!(leaders(rig), 1, "nobody leads while its run goes on");
            rig.advance(millis(100)).await;
        }
        rig.advance(secs(30)).await;
        assert_eq!(leaders(rig), 2);
    });
}

#[test]
fn only_the_leader_grants_triggers_and_not_while_it_resigns() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(mins(1))).run(async |run| obedient(run, secs(20)).await);
        let idle = || Job::new("idle", every(hours(24))).run(async |_| {});
        let [first, second, _] = three(rig, OnUnproven::Skip, || vec![long(), idle()]).await;
        rig.advance(secs(62)).await;
        trigger(rig, first, "idle").await.expect("it leads");
        let busy = trigger(rig, first, "long").await;
        assert!(matches!(busy, Err(TriggerError::Overlap { .. })), "{busy:?}");

        for job in ["long", "idle"] {
            let refused = trigger(rig, second, job).await.expect_err("it does not lead").to_string();
            assert!(refused.contains("ask the leader"), "{refused}");
        }
        assert!(rig.send(first, Resign).await, "it led");
        let refused = trigger(rig, first, "idle").await.expect_err("it resigns").to_string();
        assert!(refused.contains("ask the leader"), "{refused}");
        assert_eq!((rig.started("idle"), rig.started("long")), (1, 1));
    });
}
