//! Who fires a job: the leader, any node, or the nodes that have what the leader does not have. Definitions
//! in code are each node's own. That no tick runs twice, and that each is accounted for, is checked after
//! every story: see `Rig::verify`.

use std::{collections::BTreeSet, time::Duration};

use callsheet::{
    Added, EventKind, Fires, Job, Misfire, RemoveJobs, Scheduled, TriggerJob, UpdateJob,
    schedule::every,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

#[path = "../common/mod.rs"]
mod common;
mod renames;
use common::{hours, mins, node_with, obedient, secs, started_on, starts};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn job(name: &str, period: u64) -> Job {
    Job::new(name, every(secs(period))).run(async |_| {})
}

#[test]
fn whoever_adds_a_job_is_told_who_fires_it() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([job("both", 10)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let scheduled = |added: Result<Added, _>| added.expect("it is right").scheduled;

        assert_eq!(scheduled(rig.add(leader, job("late", 10)).await), Scheduled::Here);
        assert_eq!(scheduled(rig.add(follower, job("both", 10)).await), Scheduled::ByLeader);
        assert_eq!(scheduled(rig.add(follower, job("alone", 10)).await), Scheduled::WithoutLeader);
        let local = job("local", 10).fires(Fires::Local);
        assert_eq!(scheduled(rig.add(follower, local).await), Scheduled::Here);

        rig.advance(secs(20)).await;
        assert_eq!(rig.started("both"), 2, "once per tick");
        assert_eq!(rig.started("alone"), 2, "the follower claims it, as it said");
        assert_eq!(rig.started("local"), 2);

        rig.kill(leader);
        rig.advance(secs(20)).await;
        assert_eq!(rig.started("alone"), 4, "and goes on when it leads");
    });
}

#[test]
fn adding_a_job_on_a_follower_asks_the_store_once() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([job("both", 10)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([])).await;
        // Between two ticks, and between two questions of its own.
        rig.advance(secs(3)).await;
        let asked = rig.store().calls();

        let added = rig.add(follower, job("both", 10)).await.expect("it is right");

        assert_eq!((added.scheduled, rig.leader()), (Scheduled::ByLeader, Some(leader)));
        assert_eq!(rig.store().calls() - asked, 1, "who fires it");
    });
}

#[test]
fn a_store_without_an_answer_leaves_the_job_added_and_who_fires_open() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        rig.node(node_with([job("both", 10)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;

        rig.cut_off(follower);
        let added = rig.add(follower, job("both", 10)).await.expect("it is right");

        assert!(matches!(added.scheduled, Scheduled::Unknown { .. }), "{added:?}");
        rig.reconnect(follower);
        rig.advance(secs(20)).await;
        assert_eq!(rig.started("both"), 2, "once per tick");
    });
}

#[test]
fn a_trigger_runs_on_the_follower_that_received_it() {
    simulate(START, async |rig| {
        rig.node(node_with([job("both", 3600)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job("both", 3600)])).await;
        rig.advance(secs(1)).await;

        let run = rig.send(follower, TriggerJob::new("both")).await.expect("it starts").run();
        rig.advance(secs(1)).await;

        let started_here =
            |kind: &EventKind| matches!(kind, EventKind::RunStarted { run: started, .. } if *started == run);
        assert_eq!(rig.count(started_here), 1);
        assert_eq!(rig.started("both"), 1);
    });
}

/// The fire times of the ticks that started, in their order.
fn fire_times(rig: &Rig) -> Vec<DateTime<Utc>> {
    let started = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { fire_time, .. } => Some(fire_time?.instant()),
        _ => None,
    });
    started.collect()
}

/// Each tick from the first to the last one that started, once and in its order.
fn assert_no_gap(rig: &Rig, period: u64) {
    let fire_times = fire_times(rig);
    let period = TimeDelta::seconds(period as i64);
    for pair in fire_times.windows(2) {
        assert_eq!(pair[1] - pair[0], period, "{fire_times:?}");
    }
}

fn any(period: u64) -> Job {
    Job::new("any", every(secs(period))).fires(Fires::AnyNode).run_with(Duration::from_millis(10), obedient)
}

const DUE: &str = "callsheet_ticks_due_total";
const ELSEWHERE: &str = "callsheet_ticks_elsewhere_total";
const TICKS: &str = "callsheet_ticks_total";

/// The claim decides, and those that come second say so. No key is left behind that
/// would have to expire (behaviour 93).
#[test]
fn any_node_runs_each_tick_once_whatever_the_clocks_say() {
    simulate(START, async |rig| {
        for skew in [0, 1_700, -900] {
            let node = rig.node(node_with([any(1)])).await;
            rig.set_skew(node, TimeDelta::milliseconds(skew));
        }
        rig.advance(Duration::from_millis(60_500)).await;

        assert_eq!((rig.started("any"), rig.counter(DUE, "name=any")), (60, 60));
        assert_eq!(rig.counter(ELSEWHERE, "name=any"), 120, "each tick on each of the two other nodes");
        assert_no_gap(rig, 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn any_node_goes_on_when_one_is_killed_in_the_middle_of_a_run() {
    simulate(START, async |rig| {
        let long = || Job::new("any", every(secs(10))).fires(Fires::AnyNode).run_with(secs(5), obedient);
        for _ in 0..3 {
            rig.node(node_with([long()])).await;
        }
        rig.advance(secs(31)).await;
        let last = rig
            .events()
            .into_iter()
            .rev()
            .find(|recorded| matches!(recorded.event.kind, EventKind::RunStarted { .. }));
        let runner = last.expect("three ticks started").node;
        let nth: usize = runner[1..].parse().expect("n1, n2, n3");

        rig.kill(nth - 1);
        rig.advance(secs(65)).await;

        assert_eq!(rig.started("any"), 9, "no tick waited for an election");
        assert_no_gap(rig, 10);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=lost"), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn any_node_makes_up_for_an_outage_of_the_store_once() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        for _ in 0..3 {
            rig.node(node_with([any(10)])).await;
        }
        rig.advance(secs(15)).await;

        (0..3).for_each(|node| rig.cut_off(node));
        rig.advance(secs(60)).await;
        assert_eq!(rig.started("any"), 1);
        (0..3).for_each(|node| rig.reconnect(node));
        rig.advance(secs(20)).await;

        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=misfire"), 5, "20 to 60");
        let seconds: Vec<_> = fire_times(rig).iter().map(|at| at.format("%T").to_string()).collect();
        assert_eq!(seconds, ["00:00:10", "00:01:10", "00:01:20", "00:01:30"], "one catches up");
    });
}

/// The leader is the old version, the two others are the new one, with a job more.
#[test]
fn a_rolling_deploy_fires_the_new_job_once_per_tick() {
    simulate(START, async |rig| {
        let old = rig.node(node_with([job("old", 10)])).await;
        rig.advance(secs(1)).await;
        for _ in 0..2 {
            rig.node(node_with([job("old", 10), job("new", 10)])).await;
        }
        rig.advance(secs(34)).await;
        assert_eq!((rig.leader(), rig.started("old"), rig.started("new")), (Some(old), 3, 3));
        assert_eq!(started_on(rig, "n1"), 3, "the new one runs on the new nodes only");
        assert!(rig.counter(ELSEWHERE, "name=new") > 0);

        rig.shutdown(old, secs(5)).await;
        let third = rig.node(node_with([job("old", 10), job("new", 10)])).await;
        rig.advance(secs(60)).await;

        assert_ne!(rig.leader(), Some(old));
        assert_ne!(rig.leader(), Some(third));
        assert_eq!((rig.started("old"), rig.started("new")), (9, 9), "no tick was lost, none ran twice");
        assert_eq!((rig.counter(DUE, "name=old"), rig.counter(DUE, "name=new")), (9, 9));
    });
}

#[test]
fn a_job_that_the_leader_gets_later_is_the_leader_s() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        for _ in 0..2 {
            let node = rig.node(node_with([])).await;
            rig.advance(secs(1)).await;
            let added = rig.add(node, job("late", 10)).await.expect("it is right");
            assert_eq!(added.scheduled, Scheduled::WithoutLeader);
        }
        rig.advance(secs(25)).await;
        assert_eq!((rig.started("late"), started_on(rig, "n1")), (2, 0));

        let added = rig.add(leader, job("late", 10)).await.expect("it is right");
        assert_eq!(added.scheduled, Scheduled::Here);
        rig.advance(secs(30)).await;
        assert_eq!((rig.started("late"), started_on(rig, "n1")), (5, 3));
        let elsewhere = rig.counter(ELSEWHERE, "");
        rig.advance(secs(30)).await;
        assert_eq!(rig.counter(ELSEWHERE, ""), elsewhere, "the others do not try any more");

        rig.kill(leader);
        rig.advance(secs(30)).await;
        assert_no_gap(rig, 10);
        assert_eq!(rig.counter(DUE, "name=late"), 11);
    });
}

#[test]
fn a_job_of_a_follower_goes_on_if_the_next_leader_does_not_hold_it() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([job("alone", 10)])).await;
        rig.advance(secs(43)).await;
        assert_eq!(rig.started("alone"), 4);

        rig.kill(first);
        rig.advance(secs(60)).await;

        assert_eq!((rig.leader(), started_on(rig, "n3")), (Some(second), 10));
        assert_no_gap(rig, 10);
    });
}

/// It is found out within half a minute, and what was missed meanwhile is decided by the misfire policy.
#[test]
fn holders_fire_a_job_that_the_next_leader_does_not_hold() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([job("held", 10)])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([job("held", 10)])).await;
        rig.advance(secs(43)).await;

        rig.kill(first);
        rig.advance(secs(60)).await;

        assert_eq!(rig.leader(), Some(second));
        assert_eq!(rig.counter(DUE, "name=held"), 10, "each tick is accounted for");
        let skipped = rig.counter("callsheet_ticks_total", "outcome=misfire");
        assert!((1..=3).contains(&skipped), "{skipped}");
        assert_eq!(rig.started("held") as u64, 10 - skipped);
    });
}

/// Definitions in code are each node's own. It is found out within half a minute; the ticks in between are
/// decided by the misfire policy, and none is lost silently.
#[test]
fn a_job_that_is_removed_on_the_leader_goes_on_where_it_is_held() {
    let within = mins(5);
    for (misfire, runs) in [
        (Misfire::All { max: 10, within }, &["n2 00:00:20", "n2 00:00:30"][..]),
        (Misfire::Latest { within }, &["n2 00:00:30"]),
        (Misfire::Skip, &[]),
    ] {
        simulate(START, async |rig| {
            let leader = rig.node(node_with([job("held", 10).misfire(misfire)])).await;
            rig.advance(secs(1)).await;
            rig.node(node_with([job("held", 10).misfire(misfire)])).await;
            rig.advance(secs(14)).await;
            assert_eq!(starts(rig, "held"), ["n1 00:00:10"]);

            rig.send(leader, RemoveJobs::new("held")).await.expect("it is there");
            rig.advance(mins(1)).await;

            let expected =
                [&["n1 00:00:10"], runs, &["n2 00:00:40", "n2 00:00:50", "n2 00:01:00", "n2 00:01:10"]];
            assert_eq!(starts(rig, "held"), expected.concat(), "{misfire:?}");
            assert_eq!(rig.counter(DUE, "name=held"), 7, "each tick is accounted for");
            let skipped = rig.counter(TICKS, "outcome=misfire");
            assert_eq!(skipped, 2 - runs.len() as u64, "{misfire:?}");
        });
    }
}

#[test]
fn a_changed_policy_forgets_no_tick_of_a_job_that_the_leader_let_go() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([job("held", 10)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job("held", 10)])).await;
        rig.advance(secs(14)).await;
        rig.send(leader, RemoveJobs::new("held")).await.expect("it is there");
        rig.advance(secs(10)).await;

        rig.update(follower, job("held", 10).timeout(secs(3))).await.expect("it is there");
        rig.advance(secs(1)).await;
        assert_eq!(starts(rig, "held"), ["n1 00:00:10", "n2 00:00:20"]);

        rig.update(follower, job("held", 25)).await.expect("it is there");
        rig.advance(secs(30)).await;
        let last = starts(rig, "held").pop();
        assert_eq!(
            last.as_deref(),
            Some("n2 00:00:50"),
            "the ticks of another schedule count from the change on"
        );
        assert_eq!(rig.counter(DUE, "name=held"), 3);
    });
}

#[test]
fn a_job_that_is_removed_and_added_again_owes_ticks_from_then_on() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("back", 10)])).await;
        rig.advance(secs(15)).await;
        rig.send(node, RemoveJobs::new("back")).await.expect("it is there");
        rig.advance(secs(60)).await;

        rig.add(node, job("back", 10)).await.expect("the name is free");
        rig.advance(secs(10)).await;

        assert_eq!(starts(rig, "back"), ["n1 00:00:10", "n1 00:01:20"]);
        assert_eq!(rig.counter(DUE, "name=back"), 2);
    });
}

#[test]
fn a_job_that_is_added_while_the_store_is_away_owes_ticks_from_then_on() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let node = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        rig.cut_off(node);
        rig.advance(secs(14)).await;
        // It finds out in vain who fires it.
        rig.add(node, job("new", 10)).await.expect("it is right");
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LeadershipGained { .. })), 1);
        rig.advance(secs(27)).await;
        assert_eq!(rig.started("new"), 0);

        rig.reconnect(node);
        rig.advance(secs(20)).await;

        assert_eq!(starts(rig, "new"), ["n1 00:00:40", "n1 00:00:50", "n1 00:01:00"]);
        assert_eq!(rig.counter(DUE, "name=new"), 5);
        assert_eq!(rig.counter(TICKS, "outcome=misfire"), 2, "at 20 s and 30 s");
    });
}

/// Its holders meet the mark of the leader only where they claim a tick, and the leader may be gone again by
/// then.
#[test]
fn a_job_that_the_leader_holds_between_two_ticks_goes_on_where_it_is_held() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([job("held", 10)])).await;
        rig.advance(secs(24)).await;
        rig.add(leader, job("held", 10)).await.expect("it is right");
        rig.advance(secs(1)).await;
        rig.send(leader, RemoveJobs::new("held")).await.expect("it is there");
        rig.advance(secs(30)).await;

        assert_eq!(
            starts(rig, "held"),
            ["n2 00:00:10", "n2 00:00:20", "n2 00:00:30", "n2 00:00:40", "n2 00:00:50"]
        );
    });
}

#[test]
fn an_updated_job_that_the_leader_does_not_hold_goes_on_at_once() {
    simulate(START, async |rig| {
        rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job("alone", 10)])).await;
        rig.advance(secs(24)).await;
        assert_eq!(rig.started("alone"), 2);

        let changed = job("alone", 10).timeout(secs(3));
        let updated = rig.send(follower, UpdateJob::new(changed)).await.expect("it is there");
        assert_eq!(updated.scheduled, Scheduled::WithoutLeader);
        rig.advance(secs(5)).await;
        assert_eq!(rig.started("alone"), 3, "in time");
        rig.advance(secs(10)).await;

        assert_eq!(rig.started("alone"), 4);
        assert_no_gap(rig, 10);
    });
}

/// Of three nodes one runs, and the others do not even ask.
#[test]
fn of_three_nodes_the_leader_runs_and_the_followers_cost_nothing() {
    simulate(START, async |rig| {
        for _ in 0..3 {
            rig.node(node_with([job("led", 10)])).await;
            rig.advance(secs(1)).await;
        }
        rig.advance(secs(60)).await;

        assert_eq!((rig.started("led"), started_on(rig, "n1")), (6, 6));
        assert_eq!(rig.counter(ELSEWHERE, ""), 0);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LockContended { .. })), 0);
    });
}

/// Mistake of a peer: intervals count from the start of each process, so that no two nodes agree on a tick.
#[test]
fn nodes_that_start_at_odd_times_agree_on_every_tick() {
    simulate(START, async |rig| {
        for odd in [1_300, 3_700, 8_900] {
            rig.advance(Duration::from_millis(odd)).await;
            let local = Job::new("local", every(secs(60))).fires(Fires::Local).run(async |_| {});
            rig.node(node_with([local, any(60)])).await;
        }
        rig.advance(secs(600)).await;

        let ticks = |name: &str| -> BTreeSet<_> {
            starts(rig, name).iter().map(|start| start[3..].to_owned()).collect()
        };
        let expected: BTreeSet<_> = (1..=10).map(|minute| format!("00:{minute:02}:00")).collect();
        assert_eq!((ticks("local"), ticks("any")), (expected.clone(), expected));
        assert_eq!((rig.started("local"), rig.started("any")), (30, 10));
    });
}

/// A job that is to be coordinated by nobody runs on every node.
#[test]
fn a_local_job_runs_on_each_of_three_nodes_and_asks_nobody() {
    simulate(START, async |rig| {
        for _ in 0..3 {
            rig.node(node_with([Job::new("local", every(hours(1))).fires(Fires::Local).run(async |_| {})]))
                .await;
        }
        rig.advance(hours(1) + secs(1)).await;

        assert_eq!(["n1", "n2", "n3"].map(|node| started_on(rig, node)), [1, 1, 1]);
        let claimed = rig.store().records().len();
        assert_eq!(claimed, 0, "no cursor, no claim");
    });
}

#[test]
fn a_job_that_is_removed_on_a_follower_goes_on_on_the_leader() {
    simulate(START, async |rig| {
        let job = || Job::new("tick", every(secs(1))).run(async |_| {});
        let leader = rig.node(node_with([job()])).await;
        let follower = rig.node(node_with([job()])).await;
        rig.advance(ms(5_500)).await;
        assert_eq!((rig.leader(), rig.started("tick")), (Some(leader), 5));

        rig.send(follower, RemoveJobs::new("tick")).await.expect("it is there");
        let calls = rig.store().calls();
        rig.advance(secs(10)).await;

        let calls = rig.store().calls() - calls;
        assert_eq!((rig.started("tick"), calls < 100), (15, true), "{calls} calls in 10 s");
    });
}
