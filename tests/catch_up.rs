//! After a downtime the missed ticks of many jobs are made up for at a pace, the soonest deadline first, and an
//! operator can have them skipped.

use std::time::Duration;

use callsheet::{
    Builder, By, Callsheet, Decision, Decisions, EventKind, Explain, Fires, Health, Job, JobOperation,
    Misfire, Note, OnLost, Operation, Operations, PauseJobs, ResumeJobs, Selector, SkipMissed,
    SkipMissedError, SkipReason, When,
    chrono::{DateTime, TimeDelta, Utc},
    schedule::{daily, every},
    testkit::{Rig, simulate},
};

mod common;
use common::{hours, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

fn name(nth: usize) -> String {
    format!("job-{nth:03}")
}

/// So many jobs that are due once an hour.
fn hourly(count: usize) -> Vec<Job> {
    (0..count).map(|nth| Job::new(name(nth), every(hours(1))).run(async |_| {})).collect()
}

fn paced(jobs: impl IntoIterator<Item = Job>, per_second: u32) -> Builder {
    node_with(jobs).catch_up_per_second(per_second)
}

/// A node that has the jobs starts, and is killed before their first tick; so long passes.
async fn down_for(rig: &mut Rig, time: Duration, jobs: Vec<Job>) {
    rig.node(node_with(jobs)).await;
    rig.advance(Duration::from_millis(10)).await;
    rig.kill(0);
    rig.advance(time).await;
}

/// When the runs started, and of which jobs.
fn started(rig: &Rig) -> Vec<(DateTime<Utc>, String)> {
    let started = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { job, .. } => Some((recorded.event.at, job.to_string())),
        _ => None,
    });
    started.collect()
}

fn skips(rig: &Rig, reason: SkipReason) -> usize {
    rig.count(|kind| matches!(kind, EventKind::TickSkipped { reason: other, .. } if *other == reason))
}

#[test]
fn no_second_after_a_downtime_has_more_catch_ups_than_the_pace() {
    for (fires, per_second) in [(Fires::Leader, 20), (Fires::AnyNode, 20), (Fires::Local, 7)] {
        simulate(START, async |rig| {
            let jobs = || hourly(100).into_iter().map(move |job| job.fires(fires)).collect::<Vec<_>>();
            if fires == Fires::Local {
                // Nobody keeps the cursor of a local job: the machine sleeps.
                rig.node(paced(jobs(), per_second)).await;
                rig.advance(secs(1)).await;
                rig.suspend(TimeDelta::minutes(70));
            } else {
                down_for(rig, mins(70), jobs()).await;
                rig.node(paced(jobs(), per_second)).await;
            }

            rig.advance(secs(20)).await;

            let at: Vec<_> = started(rig).into_iter().map(|(at, _)| at).collect();
            assert_eq!(at.len(), 100, "{fires:?}: each job makes up for its tick");
            for (nth, from) in at.iter().enumerate() {
                let within = at[nth..].iter().take_while(|at| **at < *from + TimeDelta::seconds(1)).count();
                assert!(within <= per_second as usize + 1, "{fires:?}: {within} from {from}");
            }
            let took = at[99] - at[0];
            assert!(took < TimeDelta::seconds(100 / i64::from(per_second) + 2), "{fires:?}: {took}");
        });
    }
}

#[test]
fn the_pace_of_the_leader_is_that_of_the_cluster_and_without_one_each_node_has_its_own() {
    const NODES: usize = 3;
    for (fires, most) in [(Fires::Leader, 21), (Fires::AnyNode, NODES * 21)] {
        simulate(START, async |rig| {
            let jobs = || hourly(150).into_iter().map(move |job| job.fires(fires)).collect::<Vec<_>>();
            down_for(rig, mins(70), jobs()).await;
            for _ in 0..NODES {
                rig.node(paced(jobs(), 20)).await;
            }

            rig.advance(secs(20)).await;

            let at: Vec<_> = started(rig).into_iter().map(|(at, _)| at).collect();
            assert_eq!(at.len(), 150, "{fires:?}: once each");
            for (nth, from) in at.iter().enumerate() {
                let within = at[nth..].iter().take_while(|at| **at < *from + TimeDelta::seconds(1)).count();
                assert!(within <= most, "{fires:?}: {within} from {from}");
            }
        });
    }
}

#[test]
fn with_the_default_pace_a_few_jobs_start_at_once_and_without_a_bound_all_do() {
    for (builder, count) in [
        (Callsheet::builder as fn() -> Builder, 11),
        (|| Callsheet::builder().catch_up_per_second(None), 200),
    ] {
        simulate(START, async |rig| {
            down_for(rig, mins(70), hourly(count)).await;
            rig.node(builder().jobs(hourly(count))).await;

            rig.advance(secs(1)).await;

            let at: Vec<_> = started(rig).into_iter().map(|(at, _)| at).collect();
            assert_eq!(at.len(), count);
            assert!(at.iter().all(|one| *one == at[0]), "{at:?}");
        });
    }
}

#[test]
fn the_tick_whose_window_ends_soonest_is_made_up_for_first() {
    simulate(START, async |rig| {
        // Due at 00:01, and one that is due later.
        let windows = [("c", 30), ("a", 10), ("d", 40), ("b", 20)];
        let jobs = || {
            let job = |(name, within): (&str, u64)| {
                let misfire = Misfire::Latest { within: mins(within) };
                Job::new(name, daily().at("00:01")).misfire(misfire).run(async |_| {})
            };
            windows.map(job).to_vec()
        };
        down_for(rig, mins(5), jobs()).await;
        rig.node(paced(jobs(), 1)).await;

        rig.advance(secs(10)).await;

        let order: Vec<_> = started(rig).into_iter().map(|(_, job)| job).collect();
        let rest = &order[1..];
        assert_eq!(order.len(), 4);
        assert!(rest.is_sorted(), "after the first, which asked when nobody waited: {order:?}");
    });
}

#[test]
fn ticks_on_time_wait_for_no_catch_up() {
    for permits in [None, Some(2)] {
        simulate(START, async |rig| {
            let brief = async |_| tokio::time::sleep(Duration::from_millis(100)).await;
            let jobs = || {
                let missed = (0..50).map(|nth| Job::new(name(nth), every(hours(1))).run(brief));
                let on_time = Job::new("on-time", every(secs(5))).misfire(Misfire::Skip).run(async |_| {});
                missed.chain([on_time]).collect::<Vec<_>>()
            };
            down_for(rig, mins(70), jobs()).await;
            let node = paced(jobs(), 20);
            let node = permits.into_iter().fold(node, Builder::max_concurrent_runs);
            rig.node(node).await;

            rig.advance(secs(20)).await;

            let late = started(rig).into_iter().filter(|(_, job)| job == "on-time");
            let late: Vec<_> = late.map(|(at, _)| at.timestamp_millis().rem_euclid(5_000)).collect();
            assert_eq!(late.len(), 5);
            // The first is found when the node starts. A run in progress is not stopped: with permits one of them
            // ends first.
            let most = permits.map_or(1, |_| 100);
            assert!(late[1..].iter().all(|late| *late <= most), "{permits:?}: {late:?}");
        });
    }
}

#[test]
fn a_catch_up_whose_window_ends_while_it_waits_is_skipped_with_its_reason() {
    simulate(START, async |rig| {
        let jobs = || -> Vec<Job> {
            let misfire = Misfire::Latest { within: mins(10) + secs(20) };
            hourly(100).into_iter().map(|job| job.misfire(misfire)).collect()
        };
        down_for(rig, mins(70), jobs()).await;
        rig.node(paced(jobs(), 2)).await;

        rig.advance(mins(1)).await;

        let runs = started(rig).len();
        assert!((38..=42).contains(&runs), "two a second for 20 seconds: {runs}");
        assert_eq!(skips(rig, SkipReason::Misfire), 100 - runs);
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 100);
        let health = rig.send(1, Health).await;
        assert_eq!((health.catching_up, &health.problems[..]), (None, &[][..]));
    });
}

#[test]
fn health_says_how_many_wait_for_their_turn_and_until_when_and_no_alarm_goes_off() {
    simulate(START, async |rig| {
        let jobs = || -> Vec<Job> {
            let starts_soon = |job: Job| job.expect_start_within(mins(11));
            hourly(100).into_iter().map(starts_soon).collect()
        };
        rig.node(paced(jobs(), 1)).await;
        rig.advance(secs(1)).await;
        // The machine sleeps until ten minutes after the ticks: a minute later all of them are to have started.
        rig.suspend(TimeDelta::minutes(70));
        rig.advance(secs(20)).await;

        let health = rig.send(0, Health).await;

        let waiting = health.catching_up.expect("they wait");
        // One may have had its turn at this very instant.
        assert!((99..=100).contains(&(waiting.jobs + started(rig).len())), "{waiting:?}");
        let wait = waiting.until - rig.now();
        let expected = TimeDelta::seconds(waiting.jobs as i64);
        assert!((expected - wait).abs() <= TimeDelta::seconds(1), "{wait} for {}", waiting.jobs);
        assert_eq!((health.healthy, &health.problems[..]), (true, &[][..]));
        rig.advance(secs(100)).await;
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobOverdue { .. })), 0, "{}", rig.transcript());
        assert_eq!(started(rig).len(), 100);
    });
}

/// Which nodes said of how many jobs that a start is overdue.
fn overdue(rig: &Rig, node: &str) -> usize {
    let events = rig.events();
    let is_it = |kind: &EventKind| matches!(kind, EventKind::JobOverdue { .. });
    events.iter().filter(|recorded| recorded.node == node && is_it(&recorded.event.kind)).count()
}

/// The names of what is wrong with a node.
async fn problems(rig: &mut Rig, node: usize) -> Vec<&'static str> {
    rig.send(node, Health).await.problems.iter().map(callsheet::Problem::name).collect()
}

#[test]
fn a_tick_that_is_overtaken_beyond_its_bound_is_overdue_though_others_keep_coming() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let jobs = || -> Vec<Job> {
            let wide = Misfire::Latest { within: hours(9) };
            let wide = hourly(60).into_iter().map(|job| job.misfire(wide).expect_start_within(mins(11)));
            let held = |nth| Job::new(format!("held-{nth:03}"), every(hours(1))).tag("held");
            let held = (0..200).map(|nth| held(nth).misfire(Misfire::Latest { within: hours(1) }));
            wide.chain(held.map(|job| job.run(async |_| {}))).collect()
        };
        let nodes = [rig.node(paced(jobs(), 1)).await, rig.node(paced(jobs(), 1)).await];
        rig.advance(secs(1)).await;
        rig.send(0, PauseJobs::new(Selector::Tag("held".into()))).await.expect("they are there");
        rig.advance(secs(1)).await;
        rig.suspend(TimeDelta::minutes(70));
        // Half of them had their turns when 200 come whose windows end sooner.
        rig.advance(secs(35)).await;
        let leader = rig.leader().expect("one leads");
        let follower = 1 - leader;
        let on = format!("n{}", leader + 1);
        let before = started(rig).len();
        assert!((20..=40).contains(&before), "{before}");
        rig.send(leader, ResumeJobs::new(Selector::Tag("held".into()))).await.expect("they are there");
        rig.advance(secs(20)).await;
        assert_eq!(overdue(rig, &on), 0, "all of the first were to start within about a minute");
        for node in nodes {
            assert_eq!(problems(rig, node).await, [""; 0], "{node}");
        }

        rig.advance(secs(25)).await;

        let left = 60 - started(rig).iter().filter(|(_, job)| job.starts_with("job")).count();
        assert!(left + 3 >= 60 - before, "{left} of {before}: the others come first");
        assert_eq!(overdue(rig, &on), left, "{}", rig.transcript());
        let health = rig.send(leader, Health).await;
        let late = health.problems.iter().find_map(|problem| match problem {
            callsheet::Problem::TicksUndecided { jobs, since } => Some((jobs.count, *since)),
            _ => None,
        });
        let hour: DateTime<Utc> = "2026-01-05T01:00:00Z".parse().expect("it is a time");
        assert_eq!(late, Some((left, hour)), "{:?}", health.problems);
        assert!(problems(rig, follower).await.contains(&"ticks_undecided_on_leader"));

        rig.advance(mins(5)).await;
        for node in nodes {
            assert_eq!(problems(rig, node).await, [""; 0], "{node}");
        }
    });
}

#[test]
fn a_follower_knows_of_missed_ticks_that_waited_for_their_turns_when_the_leader_died() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let jobs = || -> Vec<Job> {
            let daily = |nth| Job::new(name(nth), daily().at("00:10")).expect_start_within(mins(5));
            (0..60).map(|nth| daily(nth).run(async |_| {})).collect()
        };
        rig.node(paced(jobs(), 1)).await;
        let follower = rig.node(paced(jobs(), 1).may_lead(async || false)).await;
        rig.advance(mins(9)).await;
        rig.kill(0);
        rig.advance(mins(2)).await;
        let leader = rig.node(paced(jobs(), 1)).await;
        rig.advance(secs(20)).await;
        assert_eq!(problems(rig, follower).await, [""; 0], "the leader makes up for them at its pace");
        rig.kill(leader);
        let ran = started(rig).len();
        assert!((10..=25).contains(&ran), "{ran}");

        rig.advance(mins(3) + secs(30)).await;
        assert_eq!(overdue(rig, "n2"), 0, "it is 00:14:50");
        rig.advance(secs(30)).await;

        assert_eq!(overdue(rig, "n2"), 60 - ran, "{}", rig.transcript());
    });
}

#[test]
fn while_the_leader_makes_up_for_missed_ticks_nothing_is_wrong() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        down_for(rig, mins(70), hourly(100)).await;
        let nodes = [rig.node(paced(hourly(100), 1)).await, rig.node(paced(hourly(100), 1)).await];

        for _ in 0..9 {
            rig.advance(secs(10)).await;
            for node in nodes {
                assert_eq!(problems(rig, node).await, [""; 0], "{node} at {}", rig.now());
            }
        }
        assert!(started(rig).len() < 95, "it makes up for them all the time");
    });
}

#[test]
fn a_gauge_says_how_many_jobs_wait_for_their_turns_and_another_one_counts_their_ticks() {
    simulate(START, async |rig| {
        down_for(rig, mins(70), hourly(100)).await;
        rig.node(paced(hourly(100), 1)).await;

        for seconds in [5, 30, 50] {
            rig.advance(secs(seconds)).await;
            let waiting = rig.gauge("callsheet_catching_up_jobs", "");
            assert_eq!(waiting, (100 - started(rig).len()) as f64, "at {}", rig.now());
        }
        assert!(rig.gauge("callsheet_oldest_undecided_tick_seconds", "") > 600.0);
        rig.advance(secs(30)).await;
        assert_eq!(rig.gauge("callsheet_catching_up_jobs", ""), 0.0);
    });
}

#[test]
fn a_gauge_says_for_how_long_a_tick_is_asked_for_in_vain() {
    let refuse = |rig: &Rig| rig.store().refuse([Operation::Claim], "it has no right to");
    let lock = |rig: &Rig| rig.store().set_locked("job-000", true);
    for fault in [refuse as fn(&Rig), lock] {
        simulate(START, async |rig| {
            rig.node(node_with(hourly(1))).await;
            rig.advance(mins(1)).await;

            fault(rig);
            rig.advance(mins(62)).await;

            let oldest = rig.gauge("callsheet_oldest_undecided_tick_seconds", "");
            assert!((165.0..=180.0).contains(&oldest), "{oldest}");
        });
    }
}

#[test]
fn what_many_pauses_held_starts_at_the_pace_when_they_end_together() {
    simulate(START, async |rig| {
        rig.node(paced(hourly(30), 10)).await;
        rig.send(0, PauseJobs::new(Selector::All)).await.expect("they are there");
        rig.advance(mins(61)).await;
        assert_eq!(started(rig).len(), 0);

        rig.send(0, ResumeJobs::new(Selector::All)).await.expect("they are there");
        rig.advance(secs(1)).await;

        let soon = started(rig).len();
        assert!((10..=12).contains(&soon), "{soon}");
        rig.advance(secs(3)).await;
        assert_eq!(started(rig).len(), 30);
    });
}

#[test]
fn an_operator_has_skipped_what_was_missed_and_it_is_told_who_and_why() {
    simulate(START, async |rig| {
        let long = |job: Job| job.tag("mail").misfire(Misfire::Latest { within: hours(9) });
        let jobs = || -> Vec<Job> { hourly(50).into_iter().map(long).collect() };
        down_for(rig, mins(310), jobs()).await;
        rig.node(paced(jobs(), 1)).await;
        rig.advance(secs(3)).await;
        let ran = started(rig).len();

        let alice = By::new("alice").expect("a name");
        let asked = SkipMissed::new(Selector::Tag("mail".into()))
            .by(alice.clone())
            .note(Note::new("the mails are stale").expect("a note"));
        let skipped = rig.send(1, asked.clone()).await.expect("this node leads");

        assert_eq!(skipped.len(), 50);
        let of = |count: u64| skipped.iter().filter(|one| one.count == count && !one.at_least).count();
        assert_eq!((of(0), of(5)), (ran, 50 - ran), "{skipped:?}");
        assert_eq!(skips(rig, SkipReason::Operator), 50 - ran);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=operator"), 5 * (50 - ran) as u64);
        assert_eq!(rig.send(1, Health).await.catching_up, None);
        let again = rig.send(1, asked).await.expect("this node leads");
        assert!(again.iter().all(|one| one.count == 0), "{again:?}");

        // It is on record: the decision, the operation, and the explanation.
        rig.advance(secs(2)).await;
        let last = &skipped.iter().find(|one| one.count == 5).expect("one at least").job;
        let decisions =
            rig.send(1, Decisions::new().job(last.clone())).await.expect("a history is kept").decisions;
        let of_job: Vec<_> = decisions.iter().filter(|one| one.job.is_some()).collect();
        let [decision] = &of_job[..] else { panic!("one decision: {decisions:?}") };
        let Decision::Skipped { reason, count, text, by, .. } = &decision.decision else {
            panic!("it is a skip: {decision:?}")
        };
        assert_eq!(
            (*reason, *count, text.as_deref()),
            (SkipReason::Operator, 5, Some("the mails are stale"))
        );
        assert_eq!(by.as_ref(), Some(&alice));
        let operations =
            rig.send(1, Operations::new().job(last.clone())).await.expect("a history is kept").operations;
        let operation = operations.iter().find(|one| one.operation == JobOperation::SkippedMissed);
        let operation = operation.expect("it is recorded");
        assert_eq!(
            (operation.by.as_ref(), operation.note.as_deref()),
            (Some(&alice), Some("the mails are stale"))
        );
        let at: DateTime<Utc> = "2026-01-05T03:00:00Z".parse().expect("it is a time");
        let told = rig.send(1, Explain::new(last.as_str(), When::At(at))).await.expect("it is there");
        let told = told.explanations[0].answer.to_string();
        assert_eq!(told, "skipped: what was missed was skipped by alice: the mails are stale");

        // What comes due afterwards is as ever.
        rig.advance(mins(60)).await;
        assert_eq!(started(rig).len(), ran + 50);
    });
}

#[test]
fn a_follower_skips_nothing_and_says_which_node_leads() {
    simulate(START, async |rig| {
        let jobs = || {
            let job = |name: &str, fires| Job::new(name, every(hours(1))).fires(fires).run(async |_| {});
            [job("any", Fires::AnyNode), job("leaders", Fires::Leader), job("local", Fires::Local)]
        };
        rig.node(node_with(jobs())).await;
        rig.advance(secs(1)).await;
        rig.node(node_with(jobs())).await;
        rig.advance(secs(10)).await;
        rig.send(0, PauseJobs::new(Selector::All)).await.expect("they are there");
        rig.send(1, PauseJobs::new("local")).await.expect("it is there");
        rig.advance(mins(61)).await;

        let refused = rig.send(1, SkipMissed::new(Selector::All)).await.expect_err("it follows");

        let leader = rig.id(0);
        let text = format!("this node does not decide the ticks of leaders; node {leader} leads: ask there");
        assert_eq!(refused.to_string(), text);
        let SkipMissedError::NotDecidedHere { jobs, leader: told } = refused else { panic!("{refused}") };
        assert_eq!((jobs.count, told), (1, Some(leader)));
        assert_eq!(skips(rig, SkipReason::Operator), 0, "all or none");

        // What it decides it skips: of a job that any node fires for all nodes, of a local one for itself.
        for (job, of_both) in [("any", true), ("local", false)] {
            let skipped = rig.send(1, SkipMissed::new(job)).await.expect("it decides");
            assert_eq!((skipped.len(), skipped[0].count), (1, 1), "{job}");
            let there = rig.send(0, SkipMissed::new(job)).await.expect("it decides");
            assert_eq!(there[0].count, u64::from(!of_both), "{job}");
        }
        assert_eq!(rig.send(0, SkipMissed::new("leaders")).await.expect("it leads")[0].count, 1);
        rig.send(0, ResumeJobs::new(Selector::All)).await.expect("they are there");
        rig.advance(mins(5)).await;
        assert_eq!(started(rig).len(), 0, "nothing is left to make up for: {}", rig.transcript());
    });
}

#[test]
fn a_lost_run_that_is_to_be_retried_is_not_skipped_with_what_was_missed() {
    simulate(START, async |rig| {
        let jobs = || {
            let job = Job::new("job", every(hours(1)))
                .on_lost(OnLost::Retry)
                .misfire(Misfire::Latest { within: hours(9) });
            [job.run(async |_| tokio::time::sleep(secs(60)).await)]
        };
        rig.node(node_with(jobs())).await;
        rig.advance(mins(60) + secs(10)).await;
        rig.kill(0);
        rig.advance(mins(130)).await;
        rig.node(paced(jobs(), 1)).await;
        rig.advance(Duration::from_millis(100)).await;

        rig.send(1, SkipMissed::new("job")).await.expect("it leads");
        rig.advance(mins(5)).await;

        assert_eq!(starts(rig, "job"), ["n1 01:00:00", "n2 01:00:00 attempt 2"]);
    });
}

#[test]
fn a_name_that_is_unknown_is_refused() {
    simulate(START, async |rig| {
        rig.node(node_with(hourly(1))).await;

        let refused = rig.send(0, SkipMissed::new("other")).await.expect_err("there is none");
        assert!(matches!(refused, SkipMissedError::Select(_)), "{refused}");
    });
}
