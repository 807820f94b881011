//! What becomes of ticks when the lead changes.

use callsheet::{
    Answer, CancelReason, EventKind, Explain, Job, Misfire, PauseJobs, Resign, SkipReason,
    backend::OnUnproven,
    schedule::every,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    LEASE, START, Ticks,
    common::{hours, mins, node_with, obedient},
    leaders, secs, skips, tick,
};

/// Three nodes with the job that has a tick each second, and the first of which leads.
async fn three(rig: &mut Rig, on_unproven: OnUnproven, jobs: impl Fn() -> Vec<Job>) -> [usize; 3] {
    rig.set_lease(LEASE);
    rig.elect_only(on_unproven);
    let first = rig.node(node_with(jobs())).await;
    rig.advance(std::time::Duration::from_millis(200)).await;
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
        assert!(answer.to_string().contains("the leader before may have started it"), "{answer}");
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
            rig.advance(std::time::Duration::from_millis(100)).await;
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
        let [first, ..] = three(rig, OnUnproven::Skip, || vec![tick()]).await;
        rig.advance(secs(60)).await;

        rig.set_skew(first, TimeDelta::hours(1));
        rig.advance(std::time::Duration::from_millis(100)).await;
        rig.kill(first);
        rig.advance(secs(60)).await;

        let ticks = Ticks::of(rig, "tick", 1);
        assert!(ticks.started.keys().all(|second| *second <= 121), "{ticks:?}");
        assert_eq!(ticks.missing(1, 120), [0; 0]);
    });
}
