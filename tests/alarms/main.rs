//! A job that does not do in time what is expected of it is overdue on each node that has it: an event, a hook, a
//! metric and the health say so, and that it is over.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    BoxFuture, DecisionPage, Decisions, EventKind, Expectation, Fires, Health, HistoryError, HistoryOptions,
    Job, JobHistory, JobName, JobRecord, OperationPage, Operations, Outcome, OverdueAlarm, Pause, PauseJobs,
    Problem, ResumeJobs, Retention, RunHistory, RunPage, RunRecord, UpdateJob,
    chrono::{DateTime, Utc},
    port::{Batch, History, LastEnds},
    schedule::{at, every},
    testkit::{
        Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use tokio::time::sleep;

mod blocked;
#[path = "../common/mod.rs"]
mod common;
mod stories;

use common::{mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
const LEASE: u64 = 5;

fn instant(text: &str) -> DateTime<Utc> {
    format!("2026-01-05T{text}Z").parse().expect("it is a time")
}

/// What became overdue (`+`) or recovered (`-`): when, on which node, what, and since when.
fn said(rig: &Rig) -> Vec<String> {
    let line = |at: DateTime<Utc>, node: &str, kind: &EventKind| {
        let at = at.format("%T");
        match kind {
            EventKind::JobOverdue { expectation, since, .. } => {
                Some(format!("{at} {node} +{expectation} {}", since.format("%T")))
            }
            EventKind::JobRecovered { expectation, since, .. } => {
                Some(format!("{at} {node} -{expectation} {}", since.format("%T")))
            }
            _ => None,
        }
    };
    rig.events()
        .iter()
        .filter_map(|recorded| line(recorded.event.at, &recorded.node, &recorded.event.kind))
        .collect()
}

/// What the health of a node says is overdue.
async fn overdue(rig: &mut Rig, node: usize) -> Vec<(String, Expectation)> {
    let health = rig.send(node, Health).await;
    let overdue = health.problems.into_iter().find_map(|problem| match problem {
        Problem::Overdue { jobs, .. } => Some(jobs),
        _ => None,
    });
    overdue.unwrap_or_default().into_iter().map(|job| (job.job.to_string(), job.expectation)).collect()
}

/// A history that several nodes share: what they record is written a little later.
#[derive(Debug, Default)]
struct SharedHistory(Mutex<Vec<RunRecord>>);

fn not_kept<T: Send + 'static>() -> BoxFuture<'static, Result<T, HistoryError>> {
    Box::pin(ready(Err(HistoryError::Unavailable {
        history: "shared",
        reason: "it keeps nothing else".into(),
    })))
}

impl History for SharedHistory {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        self.0.lock().expect("nobody panics").extend(batch.runs.iter().cloned());
        Box::pin(ready(Ok(())))
    }

    fn job<'a>(&'a self, job: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        let runs = self.0.lock().expect("nobody panics");
        let succeeded = runs.iter().filter(|run| run.job == job.0 && run.outcome == Some(Outcome::Succeeded));
        let mut record = JobRecord::new(job.0.clone());
        record.last_success = succeeded.filter_map(|run| run.ended_at).max();
        Box::pin(ready(Ok(Some(record))))
    }

    fn runs<'a>(&'a self, asked: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        let runs = self.0.lock().expect("nobody panics");
        let mut runs: Vec<_> = runs.iter().filter(|run| asked.admits(run)).cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.run));
        Box::pin(ready(Ok(RunPage::of(runs, asked.page_limit()))))
    }

    fn last_ends<'a>(&'a self, _: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        not_kept()
    }

    fn decisions<'a>(&'a self, _: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        not_kept()
    }

    fn operations<'a>(&'a self, _: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        not_kept()
    }

    fn prune<'a>(&'a self, _: DateTime<Utc>, _: &'a Retention) -> BoxFuture<'a, Result<bool, HistoryError>> {
        Box::pin(ready(Ok(false)))
    }
}

fn kept_in(history: &Arc<SharedHistory>) -> HistoryOptions {
    let mut options = HistoryOptions::default();
    options.store = Some(history.clone());
    options
}

fn ledger() -> Job {
    Job::new("ledger", every(secs(10))).expect_start_within(secs(20)).run(async |_| {})
}

#[test]
fn a_cluster_without_a_leader_is_noticed_by_the_nodes_that_are_left() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let leader = rig.node(node_with([ledger()])).await;
        let may_lead = Arc::new(AtomicBool::new(false));
        let asked = may_lead.clone();
        let follower = rig
            .node(node_with([ledger()]).may_lead(move || {
                let may_lead = asked.clone();
                async move { may_lead.load(Ordering::Relaxed) }
            }))
            .await;
        rig.advance(secs(65)).await;
        assert_eq!(said(rig), Vec::<String>::new());

        rig.kill(leader);
        rig.advance(secs(60)).await;

        let heard = said(rig);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(heard[0].starts_with("00:01:3") && heard[0].contains(" n2 +start 00:01:"), "{heard:?}");
        assert_eq!(overdue(rig, follower).await, [("ledger".to_owned(), Expectation::Start)]);
        may_lead.store(true, Ordering::Relaxed);
        rig.advance(secs(30)).await;
        assert!(said(rig)[1].contains(" n2 -start "), "{:?}", said(rig));
        assert!(rig.send(follower, Health).await.healthy);
    });
}

#[test]
fn runs_that_all_fail_leave_success_overdue_on_all_nodes_and_the_health_names_the_failing_job() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let fails = Arc::new(AtomicBool::new(false));
        let job = |fails: Arc<AtomicBool>| {
            let body =
                async move |_: callsheet::Run, fails: Arc<AtomicBool>| match fails.load(Ordering::Relaxed) {
                    true => Err("out of paper"),
                    false => Ok(()),
                };
            Job::new("ledger", every(secs(10))).expect_success_within(secs(60)).run_with(fails, body)
        };
        let history = Arc::new(SharedHistory::default());
        let node = || node_with([job(fails.clone())]).history(kept_in(&history));
        let leader = rig.node(node()).await;
        let follower = rig.node(node()).await;
        rig.advance(secs(95)).await;
        assert_eq!(said(rig), Vec::<String>::new());

        fails.store(true, Ordering::Relaxed);
        rig.advance(secs(60)).await;

        let mut heard = said(rig);
        heard.sort();
        assert_eq!(heard, ["00:02:30 n1 +success 00:02:30", "00:02:30 n2 +success 00:02:30"]);
        let health = rig.send(leader, Health).await;
        let failing = health.problems.iter().find_map(|problem| match problem {
            Problem::Failing { jobs, .. } => Some(&jobs[0]),
            _ => None,
        });
        let failing = failing.expect("it fails in a row");
        assert_eq!(
            (failing.job.as_str(), failing.failures, failing.since.format("%T").to_string().as_str()),
            ("ledger", 6, "00:01:40")
        );
        fails.store(false, Ordering::Relaxed);
        rig.advance(secs(20)).await;
        assert_eq!(said(rig).len(), 4, "{:?}", said(rig));
        for node in [leader, follower] {
            let health = rig.send(node, Health).await;
            assert!(health.healthy, "{health:?}");
        }
    });
}

#[test]
fn a_job_whose_timer_is_lost_by_a_bug_is_noticed_where_it_fires_and_others_hear_of_it() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let leader = rig.node(node_with([ledger()])).await;
        let follower = rig.node(node_with([ledger()])).await;
        rig.advance(secs(35)).await;

        rig.set_deaf("ledger", true);
        rig.advance(secs(35)).await;

        assert_eq!(said(rig), ["00:01:00 n1 +start 00:01:00"]);
        assert_eq!(rig.gauge("callsheet_job_overdue", "name=ledger"), 1.0);
        assert_eq!(overdue(rig, leader).await, [("ledger".to_owned(), Expectation::Start)]);
        let health = rig.send(follower, Health).await;
        let told = |problem: &Problem| matches!(problem, Problem::TicksUndecidedOnLeader { .. });
        assert!(health.problems.iter().any(told), "{health:?}");
        // The follower says so itself, once: an event and a metric, beside its health.
        let since = instant("00:00:40");
        let behind =
            |kind: &EventKind| matches!(kind, EventKind::LeaderOverdue { since: told } if *told >= since);
        assert_eq!(rig.count(behind), 1, "{}", rig.transcript());
        assert_eq!(rig.gauge("callsheet_leader_overdue", ""), 1.0);
        rig.set_deaf("ledger", false);
        rig.send(leader, UpdateJob::new(ledger())).await.expect("it is there");
        rig.advance(secs(15)).await;
        assert_eq!(said(rig).len(), 2);
        assert_eq!(rig.gauge("callsheet_job_overdue", "name=ledger"), 0.0);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::LeaderRecovered { .. })), 1);
        assert_eq!(rig.gauge("callsheet_leader_overdue", ""), 0.0);
        assert!(rig.send(follower, Health).await.healthy);
    });
}

#[test]
fn a_job_that_broke_by_its_schedule_is_overdue() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let schedule = PanickingSchedule::new(Period::seconds(10), instant("00:00:30"), u32::MAX);
        let job = Job::new("ledger", schedule).expect_start_within(secs(20)).run(async |_| {});
        rig.node(node_with([job])).await;

        rig.advance(mins(2)).await;

        assert_eq!(said(rig).len(), 1, "{}", rig.transcript());
        assert!(said(rig)[0].starts_with("00:00:50 n1 +start"), "{:?}", said(rig));
    });
}

#[test]
fn a_store_that_is_away_leaves_starts_overdue_until_it_is_back() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let nodes = [rig.node(node_with([ledger()])).await, rig.node(node_with([ledger()])).await];
        rig.advance(secs(35)).await;

        nodes.iter().for_each(|node| rig.cut_off(*node));
        rig.advance(secs(60)).await;

        for node in nodes {
            assert_eq!(overdue(rig, node).await, [("ledger".to_owned(), Expectation::Start)]);
        }
        nodes.iter().for_each(|node| rig.reconnect(*node));
        rig.advance(secs(60)).await;
        for node in nodes {
            assert_eq!(overdue(rig, node).await, []);
        }
        assert_eq!(said(rig).len(), 4, "{:?}", said(rig));
    });
}

#[test]
fn a_run_that_takes_too_long_and_one_that_is_over_too_soon_are_noticed() {
    simulate(START, async |rig| {
        let takes = Arc::new(Mutex::new(secs(5)));
        let body = async |_: callsheet::Run, takes: Arc<Mutex<Duration>>| {
            let time = *takes.lock().expect("nobody panics");
            sleep(time).await;
        };
        let job = Job::new("ledger", every(mins(1))).expect_end_within(secs(10)).expect_at_least(secs(2));
        rig.node(node_with([job.run_with(takes.clone(), body)])).await;
        rig.advance(secs(90)).await;
        assert_eq!(said(rig), Vec::<String>::new());

        for time in [30, 1, 5] {
            *takes.lock().expect("nobody panics") = secs(time);
            rig.advance(mins(1)).await;
        }

        assert_eq!(
            said(rig),
            [
                "00:02:10 n1 +end 00:02:10",
                "00:02:30 n1 -end 00:02:10",
                "00:03:01 n1 +at_least 00:03:01",
                "00:04:05 n1 -at_least 00:03:01",
            ]
        );
    });
}

#[test]
fn a_paused_job_is_late_for_no_start_and_a_pause_without_an_end_does_not_stop_the_clock_of_success() {
    simulate(START, async |rig| {
        let job = |name: &str| {
            Job::new(name, every(secs(10)))
                .expect_start_within(secs(5))
                .expect_success_within(secs(60))
                .run(async |_| {})
        };
        let node = rig.node(node_with([job("forgotten"), job("announced")])).await;
        rig.advance(secs(15)).await;
        rig.send(node, PauseJobs::new("forgotten")).await.expect("it is there");
        let until = instant("00:03:00");
        rig.send(node, PauseJobs::new("announced").with(Pause::until(until))).await.expect("it is there");

        rig.advance(secs(100)).await;

        assert_eq!(said(rig), ["00:01:10 n1 +success 00:01:10"]);
        assert_eq!(overdue(rig, node).await, [("forgotten".to_owned(), Expectation::Success)]);
        rig.send(node, ResumeJobs::new("forgotten")).await.expect("it is there");
        rig.advance(mins(3)).await;
        assert_eq!(said(rig).len(), 2, "{:?}", said(rig));
    });
}

#[test]
fn what_the_history_knows_counts_after_a_restart() {
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let job = || {
            Job::new("ledger", at(instant("00:01:00")).or(at(instant("12:00:00"))))
                .expect_success_within(mins(10))
                .run(async |_| {})
        };
        let first = rig.node(node_with([job()])).await;
        rig.advance(mins(2)).await;
        rig.shutdown(first, secs(1)).await;
        rig.advance(mins(8)).await;

        rig.node(node_with([job()])).await;
        rig.advance(mins(2)).await;

        assert_eq!(said(rig), ["00:11:00 n2 +success 00:11:00"]);
    });
}

#[test]
fn the_default_of_the_engine_counts_for_every_job_and_hooks_are_called() {
    simulate(START, async |rig| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let told = told.clone();
            move |alarm: OverdueAlarm| {
                let told = told.clone();
                async move { told.lock().expect("nobody panics").push((alarm.job.to_string(), alarm.within)) }
            }
        };
        let jobs = [
            Job::new("own", every(secs(10))).expect_start_within(secs(30)).run(async |_| {}),
            Job::new("default", every(secs(10))).run(async |_| {}),
            Job::new("local", every(secs(10))).fires(Fires::Local).run(async |_| {}),
        ];
        rig.node(node_with(jobs).overdue_after(secs(5)).on_overdue(hook)).await;
        rig.advance(secs(15)).await;

        ["own", "default", "local"].iter().for_each(|job| rig.set_deaf(job, true));
        rig.advance(secs(60)).await;

        let mut told = told.lock().expect("nobody panics").clone();
        told.sort();
        let expected = [("default", 5), ("local", 5), ("own", 30)];
        assert_eq!(told, expected.map(|(job, within)| (job.to_owned(), secs(within))));
    });
}
