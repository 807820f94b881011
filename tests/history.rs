//! What happened is kept, and answered: runs, decisions that started nothing, operations, and a row for each job.

use std::{sync::Arc, time::Duration};

use callsheet::{
    AttemptRecord, CancelReason, Decision, DecisionRecord, Decisions, Error, Gaps, HistoryError,
    HistoryOptions, Job, JobHistory, JobName, JobOperation, MemoryBounds, Misfire, OnLost, Operations,
    Outcome, PauseJobs, ResumeJobs, Retry, RunHistory, RunOrigin, RunRecord, SkipReason, TriggerJob,
    WhenFull,
    port::{Batch, History},
    prelude::{Callsheet, every},
    testkit::{Rig, simulate},
};
use callsheet_actors::adapter::MemoryHistory;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

mod common;
use common::{hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn name(name: &str) -> JobName {
    JobName::new(name).expect("a good name")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

async fn runs(rig: &mut Rig, job: &str) -> Vec<RunRecord> {
    let page = rig.send(0, RunHistory::new().job(name(job)).limit(1_000)).await;
    page.expect("an answer").runs
}

/// Those about the job itself.
async fn decisions(rig: &mut Rig, job: &str) -> Vec<DecisionRecord> {
    rig.send(0, Decisions::new().job(name(job)).limit(1_000))
        .await
        .expect("an answer")
        .decisions
        .into_iter()
        .filter(|one| one.job.is_some())
        .collect()
}

#[test]
fn each_run_is_recorded_with_what_became_of_it() {
    simulate(START, async |rig| {
        let job = Job::new("mail", every(hours(1))).timeout(mins(1)).run(async |run| {
            tokio::time::sleep(secs(3)).await;
            match run.fire_time() {
                Some(tick) if tick == at("2026-01-05T02:00:00Z") => Err("no paper"),
                Some(tick) if tick == at("2026-01-05T03:00:00Z") => {
                    run.cancelled().await;
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        rig.node(node_with([job])).await;
        rig.advance(hours(3) + mins(30)).await;
        rig.send(0, TriggerJob::new("mail")).await.expect("it starts");
        rig.advance(secs(1)).await;

        let seen = runs(rig, "mail").await;

        let outcomes: Vec<_> = seen.iter().map(|run| run.outcome).collect();
        let (failed, succeeded) = (Some(Outcome::Failed), Some(Outcome::Succeeded));
        assert_eq!(outcomes, [None, Some(Outcome::TimedOut), failed, succeeded]);
        let [open, timed_out, failed, first] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(
            (&open.origin, open.ended_at, open.took),
            (&RunOrigin::Trigger { by: None, own_arguments: false }, None, None)
        );
        assert_eq!(timed_out.cancelled, Some(CancelReason::TimedOut));
        assert_eq!(failed.error.as_deref(), Some("no paper"));
        assert_eq!((&first.origin, first.attempt), (&RunOrigin::Tick, 1));
        assert_eq!(first.fire_time.map(Into::into), Some(at("2026-01-05T01:00:00Z")));
        assert!(first.lateness < secs(1) && first.took == Some(secs(3)), "{first:?}");
        assert_eq!(first.next_fire_time.map(Into::into), Some(at("2026-01-05T02:00:00Z")));
        let times = first.started_at.zip(first.ended_at).expect("it ran");
        assert!((times.1 - times.0).to_std().expect("it ended later") >= secs(3), "{times:?}");
        assert_eq!((first.node, first.key.as_str()), (rig.id(0), "mail"));
        assert!(first.term.is_some() && first.token < failed.token, "{first:?}");
    });
}

#[test]
fn the_attempts_of_a_run_are_part_of_its_record() {
    simulate(START, async |rig| {
        let retry = Retry::attempts(3).initial(secs(10)).jitter(0.0);
        let job = Job::new("tried", every(hours(1))).retry(retry).run(async |run| match run.attempt() {
            1 => Err("no paper"),
            2 => Err("no ink"),
            _ => Ok(()),
        });
        rig.node(node_with([job])).await;
        rig.advance(hours(1) + mins(5)).await;

        let seen = runs(rig, "tried").await;

        let [run] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((run.attempt, run.outcome), (3, Some(Outcome::Succeeded)));
        let attempts: Vec<_> = run
            .attempts
            .iter()
            .map(|AttemptRecord { attempt, error, .. }| (*attempt, error.as_deref()))
            .collect();
        assert_eq!(attempts, [(1, Some("no paper")), (2, Some("no ink"))]);
    });
}

#[test]
fn a_paused_job_that_fires_ten_times_a_second_has_one_decision_a_minute() {
    simulate(START, async |rig| {
        let job = Job::new("often", every("100ms")).misfire(Misfire::Skip).run(async |_| {});
        rig.node(node_with([job])).await;
        rig.send(0, PauseJobs::new("often").note("the disk is full")).await.expect("it is paused");
        rig.advance(mins(10)).await;

        let seen = decisions(rig, "often").await;

        assert!((9..=12).contains(&seen.len()), "{}: {seen:?}", seen.len());
        let count = |one: &DecisionRecord| match &one.decision {
            Decision::Skipped { reason: SkipReason::Paused, count, text, .. } => {
                assert_eq!(text.as_deref(), Some("the disk is full"));
                *count
            }
            other => panic!("{other:?}"),
        };
        let counted: u64 = seen.iter().map(count).sum();
        // They are counted once the cursor has moved over them, within a second.
        let committed = rig.counter("callsheet_ticks_total", "outcome=paused");
        assert!((committed..=committed + 10).contains(&counted), "each tick once: {counted}, {committed}");
        assert!(seen.iter().all(|one| one.first <= one.fire_time), "{seen:?}");

        let record = rig.send(0, JobHistory(name("often"))).await.expect("an answer").expect("it is known");
        assert_eq!(record.pause.and_then(|pause| pause.note).as_deref(), Some("the disk is full"));
        rig.send(0, ResumeJobs::new("often")).await.expect("it is resumed");
        let record = rig.send(0, JobHistory(name("often"))).await.expect("an answer").expect("it is known");
        assert_eq!(record.pause, None);
        let operations =
            rig.send(0, Operations::new().job(name("often"))).await.expect("an answer").operations;
        let done: Vec<_> = operations.iter().map(|one| one.operation).collect();
        assert!(
            done.ends_with(&[JobOperation::Resumed, JobOperation::Paused][..]) || done.len() > 2,
            "{done:?}"
        );
    });
}

#[test]
fn a_tick_that_overlapped_names_the_run_with_which_it_did() {
    simulate(START, async |rig| {
        let job = Job::new("long", every(mins(1))).run(async |_| tokio::time::sleep(secs(90)).await);
        rig.node(node_with([job])).await;
        rig.advance(mins(2) + secs(10)).await;

        let (seen, runs) = (decisions(rig, "long").await, runs(rig, "long").await);

        let [DecisionRecord { decision: Decision::Skipped { reason, count, run, .. }, fire_time, .. }] =
            &seen[..]
        else {
            panic!("{seen:?}")
        };
        assert_eq!((*reason, *count, *run), (SkipReason::Overlap, 1, Some(runs[0].run)));
        assert_eq!(fire_time.map(Into::into), Some(at("2026-01-05T00:02:00Z")));
    });
}

#[test]
fn vetoes_and_refused_triggers_are_decisions_with_their_texts() {
    simulate(START, async |rig| {
        let vetoed = Job::new("vetoed", every(hours(1))).before(async |_| Err("a holiday")).run(async |_| {});
        let busy = Job::new("busy", every(hours(1))).run(async |_| tokio::time::sleep(mins(70)).await);
        rig.node(node_with([vetoed, busy])).await;
        rig.advance(hours(1) + mins(1)).await;
        for _ in 0..3 {
            rig.send(0, TriggerJob::new("busy")).await.expect_err("it runs");
        }

        let seen = decisions(rig, "vetoed").await;
        let [DecisionRecord { decision: Decision::Vetoed { run, count: 1, text }, .. }] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(&**text, "a holiday");
        let record = &runs(rig, "vetoed").await[0];
        assert_eq!((record.run, record.cancelled), (*run, Some(CancelReason::Vetoed)));
        assert_eq!((record.error.as_deref(), record.started_at), (Some("a holiday"), None));
        let seen = decisions(rig, "busy").await;
        let [DecisionRecord { decision: Decision::TriggerRefused { count: 3, text, .. }, .. }] = &seen[..]
        else {
            panic!("{seen:?}")
        };
        assert!(text.contains("its lock key is held"), "{text}");
    });
}

#[test]
fn a_lost_run_and_the_time_without_a_leader_are_decisions() {
    simulate(START, async |rig| {
        rig.set_lease(secs(10));
        let job = || {
            let body = async |_| tokio::time::sleep(mins(10)).await;
            Job::new("job", every(hours(1))).on_lost(OnLost::Retry).run(body)
        };
        rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([job()])).await;
        rig.advance(hours(1) + mins(1)).await;
        rig.kill(0);
        rig.advance(mins(20)).await;

        let asked = Decisions::new().job(name("job"));
        let seen = rig.send(second, asked).await.expect("an answer").decisions;

        let lost = seen.iter().find_map(|one| match one.decision {
            Decision::RunLost { run, is_retried } => Some((run, is_retried)),
            _ => None,
        });
        let (run, is_retried) = lost.unwrap_or_else(|| panic!("{seen:?}"));
        assert!(is_retried);
        let gap = seen.iter().find_map(|one| match one.decision {
            Decision::LeaderGap { from, to } if one.node == rig.id(second) => Some((from, to)),
            _ => None,
        });
        let (from, to) = gap.unwrap_or_else(|| panic!("{seen:?}"));
        let killed_at = at("2026-01-05T01:01:01Z");
        assert!(from <= killed_at + chrono::TimeDelta::seconds(1) && to > killed_at, "{from} {to}");
        assert!((to - from).to_std().expect("in order") < secs(25), "{from} {to}");
        let page = rig.send(second, RunHistory::new().job(name("job"))).await.expect("an answer");
        let record = page.runs.iter().find(|one| one.run == run).expect("it is there");
        assert_eq!((record.outcome, record.attempt), (Some(Outcome::Succeeded), 2), "it went on");
        let record =
            rig.send(second, JobHistory(name("job"))).await.expect("an answer").expect("it is known");
        assert_eq!((record.runs, record.failures, record.consecutive_failures), (2, 1, 0));
    });
}

#[tokio::test]
async fn an_engine_that_keeps_no_history_says_so_by_name() {
    let jobs = Callsheet::builder().history(HistoryOptions::off()).start().await.expect("it starts");

    let error = jobs.runs(RunHistory::new()).await.expect_err("there is none");

    assert!(matches!(error, Error::History(HistoryError::NotKept { backend: "local", .. })), "{error:?}");
    assert!(error.to_string().contains("local backend keeps no history"), "{error}");
    jobs.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn the_history_in_memory_holds_the_newest_runs_and_the_row_outlives_them() {
    let mut history = HistoryOptions::default();
    history.memory.runs = 100;
    let (ended, mut heard) = watch::channel(0);
    let job = Job::new("often", every("1ms")).run(move |_| {
        ended.send_modify(|count| *count += 1);
        async {}
    });
    let builder = Callsheet::builder().job(job).history(history).max_concurrent_runs(1);
    let jobs = builder.when_full(WhenFull::Wait).start().await.expect("it starts");
    heard.wait_for(|count| *count >= 400).await.expect("it runs");
    jobs.pause("often").await.expect("it is paused");

    let page = jobs.runs(RunHistory::new().limit(1_000)).await.expect("an answer");
    let record = jobs.history(&name("often")).await.expect("an answer").expect("it is known");

    assert!((37..=100).contains(&page.runs.len()), "{}", page.runs.len());
    assert!(page.runs.is_sorted_by_key(|run| std::cmp::Reverse(run.run)));
    assert!(record.runs >= 399, "{record:?}");
    assert!(record.mean.is_some() && record.p95.is_some(), "{record:?}");
    jobs.shutdown(Duration::ZERO).await;
}

#[test]
fn a_page_says_what_of_its_time_is_missing() {
    simulate(START, async |rig| {
        let mut bounds = MemoryBounds::default();
        bounds.runs = 3;
        let store = Arc::new(MemoryHistory::new(bounds));
        let mut history = HistoryOptions::default();
        history.store = Some(store.clone());
        let job = Job::new("mail", every(hours(1))).run(async |_| {});
        let node = rig.node(node_with([job]).history(history)).await;
        rig.advance(hours(6) + mins(1)).await;
        let (from, to) = (at("2026-01-05T05:10:00Z"), at("2026-01-05T05:11:00Z"));
        let mut batch = Batch::default();
        let dropped = Decision::RecordsDropped { count: 7, from, to };
        batch.decisions.push(DecisionRecord::new(None, to, rig.id(node), dropped));
        store.write(&batch).await.expect("it is written");

        let asked = || RunHistory::new().job(name("mail"));
        let first = rig.send(node, asked().limit(1)).await.expect("an answer");
        assert_eq!((first.runs.len(), first.gaps), (1, Gaps::none()), "of the last hour all is there");
        let rest = rig.send(node, asked().before(first.next)).await.expect("an answer");

        assert_eq!((rest.runs.len(), rest.next, rest.gaps.dropped), (2, None, 7));
        let complete_from = rest.gaps.complete_from.expect("three are gone");
        assert!(complete_from > at("2026-01-05T03:00:00Z") && complete_from < at("2026-01-05T04:00:00Z"));
    });
}

#[test]
fn wrong_options_are_refused_with_value_rule_and_cure() {
    let mut history = HistoryOptions::default();
    history.memory.runs = 0;
    history.retention.runs_for = Duration::from_secs(1);
    history.retention.failures_for = Duration::from_hours(1);
    history.queue = 63;

    let faults = Callsheet::builder().history(history).check().expect_err("they are wrong").to_string();

    for text in [
        r#"history: memory.runs "0": it is at least 1; raise it, or leave it out; 10,000 is the default"#,
        r#"history: retention.runs_for "1s": it is at least 1m and at most"#,
        r#"history: queue "63": it is at least 64"#,
    ] {
        assert!(faults.contains(text), "{text} in {faults}");
    }
}

#[test]
fn what_is_answered_is_data() {
    simulate(START, async |rig| {
        let job = Job::new("mail", every(hours(1))).run(async |_| Err::<(), _>("no paper"));
        rig.node(node_with([job])).await;
        rig.advance(hours(2) + mins(1)).await;
        let page = rig.send(0, RunHistory::new()).await.expect("an answer");
        let json = serde_json::to_value(&page).expect("it is data");
        let run = &json["runs"][0];
        assert_eq!(
            (&run["job"], &run["outcome"], &run["error"]),
            (&"mail".into(), &"failed".into(), &"no paper".into())
        );
        assert_eq!(run["origin"]["kind"], "tick");
        let again: callsheet::RunPage = serde_json::from_value(json).expect("it was written");
        assert_eq!(again, page);
        let asked: RunHistory =
            serde_json::from_str(r#"{"job": "mail", "outcome": "failed"}"#).expect("it is right");
        assert_eq!(asked, RunHistory::new().job(name("mail")).outcome(Outcome::Failed));
    });
}
