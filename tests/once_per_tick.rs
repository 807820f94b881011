//! Once per tick, on the rig: whoever dies, freezes, is cut off or has a wrong clock, each tick runs at most
//! once, and every tick is accounted for. `simulate` checks the latter after every story, see `Rig::verify`.

use std::time::Duration;

use callsheet::{
    EventKind, Fires, Job, Outcome,
    schedule::{every, weekly},
    testkit::{CallFault, Rig, simulate},
};
use chrono::{TimeDelta, Weekday};

mod common;
use common::{hours, node_with, secs, started_on};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A job that fires every second and takes 10 ms.
fn ticker() -> Job {
    Job::new("tick", every(secs(1))).run(async |_| tokio::time::sleep(Duration::from_millis(10)).await)
}

/// Three nodes that hold the ticker; the first one leads.
async fn three_nodes(rig: &mut Rig) {
    rig.set_lease(secs(5));
    for _ in 0..3 {
        rig.node(node_with([ticker()])).await;
    }
    rig.advance(Duration::from_millis(100)).await;
    assert_eq!(rig.leader(), Some(0));
}

#[test]
fn a_virtual_week_of_an_hourly_job() {
    simulate(START, async |rig| {
        rig.node(node_with([Job::new("hourly", every(hours(1))).run(async |_| {})])).await;

        rig.advance(hours(7 * 24) + secs(1)).await;

        assert_eq!(rig.started("hourly"), 7 * 24);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=hourly"), 7 * 24);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 7 * 24);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 7 * 24);
        assert_eq!(rig.store().held(), 0);
    });
}

/// Mistake of a peer: when a job is due next is known to the leader's memory only, and each deploy forgets
/// it.
#[test]
fn a_weekly_job_runs_every_week_though_its_node_is_replaced_every_day() {
    simulate(START, async |rig| {
        let node =
            || node_with([Job::new("weekly", weekly().on([Weekday::Wed]).at("12:00")).run(async |_| {})]);
        // Nothing here dies, so that it may be long, and a day be cheap.
        rig.set_lease(hours(1));
        let mut nth = rig.node(node()).await;

        for _ in 0..14 {
            rig.advance(hours(24)).await;
            rig.shutdown(nth, secs(10)).await;
            nth = rig.node(node()).await;
        }

        assert_eq!(rig.started("weekly"), 2);
        let due = rig.counter("callsheet_ticks_total", "outcome=started");
        assert_eq!((due, rig.counter("callsheet_ticks_due_total", "")), (2, 2), "none was missed");
    });
}

#[test]
fn the_story_of_a_leader_that_dies() {
    simulate(START, async |rig| {
        for _ in 0..3 {
            rig.node(node_with([Job::new("tick", every(secs(2))).run(async |_| {})])).await;
        }
        rig.advance(Duration::from_millis(4_500)).await;

        rig.kill(0);
        rig.advance(secs(4)).await;

        common::assert_transcript(rig, include_str!("transcripts/leader_dies.txt"));
    });
}

#[test]
fn a_run_whose_node_died_is_lost_and_said_so_by_the_successor() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(secs(10))).run(async |run| run.cancelled().await);
        rig.node(node_with([long()])).await;
        rig.node(node_with([long()])).await;
        rig.advance(secs(12)).await;
        assert_eq!((rig.started("long"), rig.store().held()), (1, 1));

        rig.kill(0);
        rig.advance(secs(1)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunLost { .. })), 1);
        assert_eq!(rig.store().held(), 0);
        let lost = rig.counter("callsheet_runs_total", &format!("outcome={}", Outcome::Lost));
        assert_eq!(lost, 1);
        rig.advance(secs(10)).await;
        assert_eq!(started_on(rig, "n2"), 1, "the next tick runs on the successor");
    });
}

#[test]
fn a_leader_that_resigns_hands_over_without_a_gap() {
    simulate(START, async |rig| {
        three_nodes(rig).await;
        rig.advance(secs(10)).await;

        let report = rig.shutdown(0, secs(5)).await;
        rig.advance(secs(10)).await;

        assert_eq!((report.cancelled, report.aborted), (0, 0));
        assert_eq!(rig.started("tick"), 20, "no tick is lost, none is doubled");
        let gained = rig.count(|kind| matches!(kind, EventKind::LeadershipGained { .. }));
        assert_eq!(gained, 2);
    });
}

#[test]
fn a_frozen_leader_is_succeeded_and_finds_its_trust_over_when_it_wakes_up() {
    simulate(START, async |rig| {
        three_nodes(rig).await;
        rig.advance(secs(10)).await;

        rig.freeze(0);
        rig.advance(secs(20)).await;
        let while_frozen = rig.started("tick");
        assert!(rig.leader().is_some_and(|leader| leader != 0));
        rig.thaw(0);
        rig.advance(secs(10)).await;

        assert!(
            while_frozen >= 10 + 20 - 6,
            "no more than the lease was without a leader: {while_frozen} of 30"
        );
        assert_eq!(started_on(rig, "n1"), 10, "the frozen node starts nothing after it wakes up");
        let lost = rig.count(|kind| matches!(kind, EventKind::LeadershipLost { .. }));
        assert_eq!(lost, 1);
    });
}

#[test]
fn a_leader_that_is_cut_off_stops_before_its_successor_starts() {
    simulate(START, async |rig| {
        three_nodes(rig).await;
        rig.advance(secs(10)).await;

        rig.cut_off(0);
        rig.advance(secs(20)).await;
        rig.reconnect(0);
        rig.advance(secs(10)).await;

        let transcript = rig.transcript();
        let stepped_down = transcript.find("n1 LeadershipLost").expect("the old leader steps down");
        let succeeded = transcript.rfind("LeadershipGained").expect("another one takes over");
        assert!(stepped_down < succeeded, "{transcript}");
        assert!(started_on(rig, "n1") <= 10);
        assert!(rig.started("tick") >= 40 - 6);
    });
}

#[test]
fn clocks_that_are_wrong_double_nothing_and_fire_nothing_early() {
    simulate(START, async |rig| {
        three_nodes(rig).await;
        rig.set_skew(0, TimeDelta::seconds(30));
        rig.set_skew(1, TimeDelta::seconds(-30));
        rig.advance(secs(10)).await;
        rig.shutdown(0, secs(1)).await;
        rig.advance(secs(40)).await;
        rig.shutdown(1, secs(1)).await;
        rig.advance(secs(10)).await;

        // A clock that is ahead makes its node ask too early, and be told to wait: it fires on time. One that
        // is behind fires late, and what it is late for by more than `misfire_after` are misfires.
        let fired_early = rig.store().records().into_iter().filter(|record| {
            matches!(record, callsheet::testkit::Record::Advanced { run: Some(_), to, .. } if to.instant() > rig.now())
        });
        assert_eq!(fired_early.count(), 0);
        assert!(rig.started("tick") >= 20);
    });
}

#[test]
fn a_reply_that_is_lost_after_the_commit_starts_the_run_once() {
    simulate(START, async |rig| {
        rig.node(node_with([ticker()])).await;
        rig.advance(Duration::from_millis(5_500)).await;
        let id = rig.id(0);

        rig.store().script(id, [CallFault::ReplyLost, CallFault::RequestLost]);
        rig.advance(secs(10)).await;

        assert_eq!(rig.started("tick"), 15);
        assert_eq!(rig.counter("callsheet_coordination_errors_total", "operation=claim"), 2);
    });
}

#[test]
fn a_store_that_stalls_costs_lateness_not_ticks() {
    simulate(START, async |rig| {
        rig.node(node_with([ticker()])).await;
        rig.advance(Duration::from_millis(5_500)).await;
        let id = rig.id(0);

        rig.store().script(id, [CallFault::Stall(secs(3))]);
        rig.advance(secs(20)).await;

        let due = rig.counter("callsheet_ticks_due_total", "name=tick");
        let started = rig.counter("callsheet_ticks_total", "outcome=started");
        let misfired = rig.counter("callsheet_ticks_total", "outcome=misfire");
        let overlapped = rig.counter("callsheet_ticks_total", "outcome=overlap");
        assert_eq!(due, 25);
        assert_eq!(started + misfired + overlapped, 25);
        assert!(started >= 21, "only ticks of the stall are skipped: {started} started");
    });
}

#[test]
fn a_follower_fires_nothing_and_asks_nothing() {
    simulate(START, async |rig| {
        three_nodes(rig).await;
        rig.advance(secs(60)).await;
        assert_eq!((started_on(rig, "n2"), started_on(rig, "n3")), (0, 0));

        rig.kill(0);
        rig.kill(1);
        rig.advance(secs(10)).await;
        let alone = rig.store().calls();
        rig.advance(secs(60)).await;

        assert_eq!(rig.leader(), Some(2));
        let calls = rig.store().calls() - alone;
        assert!(
            calls < 60 * 4,
            "two calls a run, one renewal and one heartbeat per third of a lease: {calls}"
        );
    });
}

#[test]
fn a_job_that_is_local_runs_on_every_node() {
    simulate(START, async |rig| {
        let local = || Job::new("local", every(secs(1))).fires(Fires::Local).run(async |_| {});
        rig.node(node_with([local()])).await;
        rig.node(node_with([local()])).await;

        rig.advance(Duration::from_millis(5_500)).await;

        assert_eq!(rig.started("local"), 10);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=local"), 10);
        assert!(rig.store().records().is_empty(), "it claims nothing");
    });
}

#[test]
fn jobs_that_share_a_lock_key_do_not_overlap_on_any_node() {
    simulate(START, async |rig| {
        let job = |name: &str| {
            Job::new(name, every(secs(10)))
                .lock_key("shared")
                .run(async |_| tokio::time::sleep(secs(5)).await)
        };
        rig.node(node_with([job("a"), job("b")])).await;

        rig.advance(secs(62)).await;

        let runs = rig.started("a") + rig.started("b");
        assert_eq!(runs, 6, "one of the two at a time");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=overlap"), 6);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LockContended { .. })), 6);
    });
}

#[test]
fn a_manual_run_of_a_dead_follower_is_closed_while_the_leader_goes_on() {
    simulate(START, async |rig| {
        let job = || Job::new("long", every(secs(36_000))).run(async |run| run.cancelled().await);
        rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        rig.send(follower, callsheet::TriggerJob::new("long")).await.expect("it starts");

        rig.kill(follower);
        rig.advance(secs(120)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunLost { .. })), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn a_job_that_saw_the_trust_run_out_fires_again_after_a_late_renewal() {
    simulate(START, async |rig| {
        rig.set_lease(secs(6));
        // Lease 6 s, margin 1.2 s: renewals and beats at 2 s, trust until 4.8 s.
        let node = rig.node(node_with([Job::new("tick", every(secs(3))).run(async |_| {})])).await;
        rig.advance(ms(1_900)).await;
        let id = rig.id(node);
        // The beat is answered, the renewal's answer is under way when the process is stopped.
        rig.store().script(id, [CallFault::Stall(ms(0)), CallFault::Stall(ms(1_500))]);
        rig.advance(ms(600)).await;

        rig.freeze(node);
        rig.advance(ms(2_600)).await;
        rig.thaw(node);
        rig.advance(secs(30)).await;

        let gained = rig.count(|kind| matches!(kind, EventKind::LeadershipGained { .. }));
        let lost = rig.count(|kind| matches!(kind, EventKind::LeadershipLost { .. }));
        assert!(
            rig.started("tick") >= 9,
            "{} runs, {gained} gained, {lost} lost\n{}",
            rig.started("tick"),
            rig.transcript()
        );
    });
}

#[test]
fn an_answer_about_a_former_term_does_not_depose_the_new_one() {
    simulate(START, async |rig| {
        rig.set_lease(secs(6));
        let node = rig.node(node_with([])).await;
        rig.advance(ms(1_900)).await;
        let id = rig.id(node);
        // The renewal of term 1 at 2 s reaches the store at 6.5 s: after the trust (4.8 s) and the lease (6
        // s).
        rig.store().script(id, [CallFault::Stall(ms(0)), CallFault::Stall(ms(4_500))]);
        rig.advance(secs(30)).await;

        let lost: Vec<_> = rig
            .events()
            .into_iter()
            .filter_map(|recorded| match recorded.event.kind {
                EventKind::LeadershipLost { term, why } => Some((term.0, why)),
                _ => None,
            })
            .collect();
        assert_eq!(lost.len(), 1, "{lost:?}\n{}", rig.transcript());
    });
}
