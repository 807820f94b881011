//! What every history does.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{reported::Measure, time::FireTime},
    event::Outcome,
    name::{By, FencingToken, JobName, NodeId, RunId, RunIds, Term},
    port::{
        AskGaps, AttemptRecord, BackfillId, Batch, Decision, DecisionRecord, Decisions, EndedRun, History,
        Holder, JobHistory, JobOperation, JobRecord, LastEnds, OperationRecord, Operations, Pause,
        PauseChange, RecordsOf, Retention, RunHistory, RunOrigin, RunRecord, SkipReason,
    },
};

/// Checks a history that is empty: what is written is answered whole, in order, page by page; one record of a
/// run; the row of a job; what pruning keeps.
///
/// # Panics
///
/// If a check fails.
pub async fn history(history: &dyn History) {
    let check = Check { history, node: NodeId::numbered(7), ids: RunIds::of(NodeId::numbered(7)) };
    check.a_record_is_answered_as_it_was_written().await;
    check.runs_are_answered_page_by_page_the_newest_first().await;
    check.runs_are_selected_by_job_outcome_and_time().await;
    check.runs_are_selected_by_fire_time().await;
    check.there_is_one_record_of_a_run().await;
    check.a_loss_keeps_what_was_known_of_its_run().await;
    check.a_loss_that_is_written_late_does_not_hide_the_retry().await;
    check.the_row_of_a_job_counts_each_run_once().await;
    check.the_last_ends_of_many_jobs_are_those_of_their_rows().await;
    check.the_first_pause_is_kept_until_the_job_is_resumed().await;
    check.a_pause_that_is_over_gives_way_to_the_next_one().await;
    check.a_pause_that_is_written_late_does_not_undo_a_later_resumption().await;
    check.a_decision_that_is_counted_on_takes_the_place_of_the_former_one().await;
    check.decisions_about_all_jobs_are_about_each().await;
    check.operations_are_answered_page_by_page().await;
    check.two_operations_of_one_instant_are_two_records().await;
    check.what_is_old_goes_and_failures_stay_longer().await;
    check.a_run_is_as_old_as_its_end().await;
    check.so_many_runs_of_an_outcome_stay_of_a_job().await;
    check.what_was_dropped_is_told_of_its_time().await;
}

struct Check<'a> {
    history: &'a dyn History,
    node: NodeId,
    ids: RunIds,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn job(name: &str) -> JobName {
    JobName::new(name).expect("a good name")
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Check<'_> {
    /// A run that was asked for at an instant, and ended so a second later.
    fn run(&self, name: &str, asked_at: DateTime<Utc>, outcome: Outcome) -> RunRecord {
        RunRecord {
            origin: RunOrigin::Tick,
            fire_time: Some(FireTime::new(asked_at)),
            started_at: Some(asked_at),
            ended_at: Some(asked_at + TimeDelta::seconds(1)),
            took: Some(Duration::from_secs(1)),
            outcome: Some(outcome),
            ..RunRecord::new(job(name), self.ids.next(asked_at), self.node)
        }
    }

    async fn write(&self, batch: Batch) {
        self.history.write(&batch).await.expect("it is written");
    }

    async fn write_runs(&self, runs: impl IntoIterator<Item = RunRecord>) {
        self.write(Batch { runs: runs.into_iter().collect(), ..Batch::default() }).await;
    }

    async fn write_decisions(&self, decisions: impl IntoIterator<Item = DecisionRecord>) {
        self.write(Batch { decisions: decisions.into_iter().collect(), ..Batch::default() }).await;
    }

    async fn runs(&self, asked: RunHistory) -> Vec<RunRecord> {
        let page = self.history.runs(&asked).await.expect("an answer");
        assert_eq!(page.next, None, "all of it is one page");
        page.runs
    }

    async fn job(&self, name: &str) -> JobRecord {
        self.history.job(&JobHistory(job(name))).await.expect("an answer").expect("it is known")
    }

    async fn a_record_is_answered_as_it_was_written(&self) {
        let asked_at = at("2026-03-01T10:00:00Z");
        let tried = AttemptRecord {
            error: Some("no paper".into()),
            ..AttemptRecord::new(1, asked_at + TimeDelta::milliseconds(700), millis(300), Outcome::Failed)
        };
        let run = RunRecord {
            slot: 2,
            term: Some(Term(3)),
            token: Some(FencingToken(41)),
            lateness: millis(12),
            error: Some("no paper \u{1f600} 'quoted'; DROP TABLE runs".into()),
            attempt: 2,
            attempts: vec![tried],
            report: Some("1,204 rows".into()),
            measures: vec![Measure::new("rows", 1_204.0), Measure::new("share", 0.25)],
            progress: Some(0.4),
            next_fire_time: Some(FireTime::new(at("2026-03-01T11:00:00Z"))),
            ..self.run("whole", asked_at, Outcome::Failed)
        };
        let by = By::new("alice").expect("a good name");
        let spare = self.run("whole", asked_at + TimeDelta::seconds(1), Outcome::Succeeded);
        let triggered = RunRecord {
            run: spare.run.with_own_arguments(),
            origin: RunOrigin::Trigger { by: Some(by), own_arguments: true },
            fire_time: None,
            ..spare
        };
        let never = RunRecord {
            started_at: None,
            took: Some(Duration::ZERO),
            cancelled: Some(crate::event::CancelReason::Vetoed),
            ..self.run("whole", asked_at + TimeDelta::seconds(2), Outcome::Cancelled)
        };
        let by = Some(By::new("bob").expect("a good name"));
        let spare = self.run("whole", asked_at + TimeDelta::seconds(3), Outcome::Succeeded);
        let backfill = BackfillId::new(spare.run);
        let backfilled = RunRecord {
            run: backfill.run(4),
            origin: RunOrigin::Backfill { backfill, by },
            fire_time: Some(FireTime::new(at("2026-02-01T03:00:00Z"))),
            ..spare
        };
        self.write_runs([run.clone(), triggered.clone(), never.clone(), backfilled.clone()]).await;

        assert_eq!(self.runs(RunHistory::new().job(job("whole"))).await, [backfilled, never, triggered, run]);
    }

    async fn runs_are_answered_page_by_page_the_newest_first(&self) {
        let from = at("2026-03-02T00:00:00Z");
        let runs = (0..25).map(|nth| self.run("paged", from + TimeDelta::seconds(nth), Outcome::Succeeded));
        let runs: Vec<_> = runs.collect();
        self.write_runs(runs.clone()).await;

        let (mut seen, mut before) = (Vec::new(), None);
        for expected in [10, 10, 5] {
            let asked = RunHistory::new().job(job("paged")).before(before).limit(10);
            let page = self.history.runs(&asked).await.expect("an answer");
            assert_eq!(page.runs.len(), expected, "a page has as many as asked for, the last one the rest");
            before = page.next;
            seen.extend(page.runs.into_iter().map(|run| run.run));
        }
        assert_eq!(before, None, "there is no page after the last");
        let all: Vec<RunId> = runs.iter().rev().map(|run| run.run).collect();
        assert_eq!(seen, all, "each run once, the newest first");
    }

    async fn runs_are_selected_by_job_outcome_and_time(&self) {
        let from = at("2026-03-03T00:00:00Z");
        let second = |nth| from + TimeDelta::seconds(nth);
        let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Failed];
        let runs: Vec<_> =
            (0..).zip(outcomes).map(|(nth, outcome)| self.run("selected", second(nth), outcome)).collect();
        self.write_runs(runs.clone()).await;
        self.write_runs([self.run("other", second(1), Outcome::Failed)]).await;
        let ids = |runs: Vec<RunRecord>| runs.into_iter().map(|run| run.run).collect::<Vec<_>>();
        let of_job = || RunHistory::new().job(job("selected"));

        let failed = ids(self.runs(of_job().outcome(Outcome::Failed)).await);
        assert_eq!(failed, [runs[3].run, runs[1].run], "those of an outcome");
        let between = ids(self.runs(of_job().from(second(1)).to(second(3))).await);
        assert_eq!(between, [runs[2].run, runs[1].run], "from an instant on, up to another one");
        let of_all = RunHistory::new().outcome(Outcome::Failed).from(second(0)).to(second(3));
        assert_eq!(self.runs(of_all).await.len(), 2, "of all jobs");
        assert!(self.runs(RunHistory::new().job(job("nobody"))).await.is_empty(), "of a job without runs");
    }

    async fn runs_are_selected_by_fire_time(&self) {
        let from = at("2026-03-03T12:00:00Z");
        let second = |nth| from + TimeDelta::seconds(nth);
        let mut runs: Vec<_> =
            (0..4).map(|nth| self.run("ticked", second(nth), Outcome::Succeeded)).collect();
        runs.push(RunRecord { fire_time: None, ..self.run("ticked", second(5), Outcome::Succeeded) });
        let late = self.run("ticked", second(9), Outcome::Succeeded);
        runs.push(RunRecord { fire_time: Some(FireTime::new(second(2))), ..late });
        self.write_runs(runs.clone()).await;

        let asked = RunHistory::new().fire_times(job("ticked"), second(1)..second(3));
        let seen: Vec<_> = self.runs(asked).await.into_iter().map(|run| run.run).collect();

        assert_eq!(seen, [runs[5].run, runs[2].run, runs[1].run], "whenever it was asked for");
    }

    async fn there_is_one_record_of_a_run(&self) {
        let ended = self.run("once", at("2026-03-04T00:00:00Z"), Outcome::Succeeded);
        let open = RunRecord { ended_at: None, took: None, outcome: None, ..ended.clone() };
        self.write_runs([open.clone()]).await;

        let seen = self.runs(RunHistory::new().job(job("once"))).await;
        assert_eq!(seen, std::slice::from_ref(&open), "one in progress is answered");
        let holder = self.history.job(&JobHistory(job("once"))).await.expect("an answer");
        if let Some(record) = holder {
            assert_eq!(record.holder, Some(Holder { run: open.run, node: self.node }), "it holds the job");
        }

        self.write_runs([ended.clone()]).await;
        self.write_runs([ended.clone()]).await;
        self.write_runs([open]).await;
        let seen = self.runs(RunHistory::new().job(job("once"))).await;
        assert_eq!(seen, [ended], "its end takes the place, and what comes late changes nothing");
        let record = self.job("once").await;
        assert_eq!((record.holder, record.runs), (None, 1), "nobody holds it, and it is counted once");
    }

    async fn a_loss_keeps_what_was_known_of_its_run(&self) {
        let asked_at = at("2026-03-05T00:00:00Z");
        let ended = self.run("lost", asked_at, Outcome::Succeeded);
        let open = RunRecord { ended_at: None, took: None, outcome: None, ..ended.clone() };
        let elsewhere = NodeId::numbered(8);
        let lost_at = Some(asked_at + TimeDelta::minutes(1));
        let loss = |run| RunRecord {
            outcome: Some(Outcome::Lost),
            ended_at: lost_at,
            ..RunRecord::new(job("lost"), run, elsewhere)
        };
        self.write_runs([open.clone()]).await;
        self.write_runs([loss(open.run)]).await;

        let seen = self.runs(RunHistory::new().job(job("lost"))).await;
        let known = RunRecord { outcome: Some(Outcome::Lost), ended_at: lost_at, ..open.clone() };
        assert_eq!(seen, [known], "its start and its node are kept");

        let goes_on = RunRecord {
            node: elsewhere,
            attempt: 2,
            started_at: Some(asked_at + TimeDelta::minutes(2)),
            ended_at: Some(asked_at + TimeDelta::minutes(3)),
            lateness: Duration::from_mins(2),
            ..ended.clone()
        };
        self.write_runs([goes_on.clone()]).await;
        self.write_runs([loss(open.run)]).await;
        let seen = self.runs(RunHistory::new().job(job("lost"))).await;
        let expected = RunRecord { started_at: ended.started_at, lateness: ended.lateness, ..goes_on };
        assert_eq!(seen, [expected], "it went on, from its first start, and the loss is over");
    }

    async fn a_loss_that_is_written_late_does_not_hide_the_retry(&self) {
        let asked_at = at("2026-03-05T12:00:00Z");
        let minute = |nth| Some(asked_at + TimeDelta::minutes(nth));
        for in_one_batch in [false, true] {
            let ended = self.run("retried", asked_at, Outcome::Succeeded);
            let open = RunRecord { ended_at: None, took: None, outcome: None, ..ended.clone() };
            let elsewhere = NodeId::numbered(8);
            let first = RunRecord { token: Some(FencingToken(41)), ..open.clone() };
            let retry = RunRecord {
                node: elsewhere,
                token: Some(FencingToken(42)),
                attempt: 2,
                started_at: minute(2),
                lateness: Duration::from_mins(2),
                ..open
            };
            let loss = |token, ended_at| RunRecord {
                token: Some(FencingToken(token)),
                outcome: Some(Outcome::Lost),
                ended_at,
                ..RunRecord::new(job("retried"), first.run, elsewhere)
            };
            self.write_runs([first.clone()]).await;
            if in_one_batch {
                self.write_runs([retry.clone(), loss(41, minute(1))]).await;
            } else {
                self.write_runs([retry.clone()]).await;
                self.write_runs([loss(41, minute(1))]).await;
            }

            let expected =
                RunRecord { started_at: first.started_at, lateness: first.lateness, ..retry.clone() };
            let seen = || self.runs(RunHistory::new().job(job("retried")).limit(1_000));
            assert_eq!(seen().await[0], expected, "the retry goes on; in one batch: {in_one_batch}");
            let row = self.history.job(&JobHistory(job("retried"))).await.expect("an answer");
            if let Some(row) = row {
                assert_eq!(row.holder, Some(Holder { run: first.run, node: elsewhere }));
            }

            self.write_runs([loss(42, minute(3))]).await;
            self.write_runs([retry]).await;
            let lost = RunRecord { outcome: Some(Outcome::Lost), ended_at: minute(3), ..expected };
            assert_eq!(seen().await[0], lost, "until it is lost as well");
            self.write_runs([loss(43, minute(5)), loss(42, minute(4))]).await;
            let lost_again = RunRecord { token: Some(FencingToken(43)), ended_at: minute(5), ..lost };
            assert_eq!(seen().await[0], lost_again, "of several losses the last one counts");
        }
    }

    async fn the_row_of_a_job_counts_each_run_once(&self) {
        let unknown = self.history.job(&JobHistory(job("counted"))).await.expect("an answer");
        assert_eq!(unknown, None, "nothing is known of a job that never ran");
        let from = at("2026-03-06T00:00:00Z");
        let second = |nth: i64| from + TimeDelta::seconds(10 * nth);
        let outcomes =
            [Outcome::Failed, Outcome::Succeeded, Outcome::Panicked, Outcome::Cancelled, Outcome::TimedOut];
        let took = [100, 200, 300, 400, 500].map(millis);
        let runs: Vec<_> = (0..)
            .zip(outcomes)
            .zip(took)
            .map(|((nth, outcome), took)| RunRecord {
                took: Some(took),
                error: (outcome != Outcome::Succeeded).then(|| "no paper".into()),
                next_fire_time: Some(FireTime::new(second(nth + 1))),
                ..self.run("counted", second(nth), outcome)
            })
            .collect();
        self.write_runs(runs[..2].to_vec()).await;
        self.write_runs(runs[2..].to_vec()).await;

        let record = self.job("counted").await;
        let end = |nth: usize| runs[nth].ended_at.expect("it ended");
        let last = EndedRun { run: runs[4].run, at: end(4), outcome: Some(Outcome::TimedOut) };
        assert_eq!(record.last_run, Some(last));
        assert_eq!(record.last_success, Some(end(1)));
        let failure = record.last_failure.as_ref().expect("some failed");
        assert_eq!((failure.run, failure.error.as_deref()), (runs[4].run, Some("no paper")));
        assert_eq!((record.runs, record.failures, record.consecutive_failures), (5, 3, 2));
        assert_eq!(record.mean, Some(millis(300)));
        assert!(record.p95.is_some_and(|p95| (millis(375)..=millis(625)).contains(&p95)), "{:?}", record.p95);
        assert_eq!(record.next_fire_time, Some(FireTime::new(second(5))));

        self.write_runs([self.run("counted", second(9), Outcome::Succeeded)]).await;
        assert_eq!(self.job("counted").await.consecutive_failures, 0, "a success ends them");
    }

    async fn the_last_ends_of_many_jobs_are_those_of_their_rows(&self) {
        let from = at("2026-03-08T00:00:00Z");
        let run = |name: &str, seconds, outcome| self.run(name, from + TimeDelta::seconds(seconds), outcome);
        self.write_runs([
            run("first", 0, Outcome::Succeeded),
            run("first", 10, Outcome::Failed),
            run("first", 20, Outcome::Cancelled),
            run("second", 30, Outcome::Failed),
        ])
        .await;
        // It has a row, and no run ended.
        let pause = Pause::until_resumed();
        let paused = PauseChange::new(job("unrun"), from, Some(pause));
        self.write(Batch { pauses: vec![paused], ..Batch::default() }).await;
        let names = ["second", "nobody", "unrun", "first"].map(job);

        let mut seen = self.history.last_ends(&names).await.expect("an answer");

        seen.sort_by(|one, other| one.job.cmp(&other.job));
        let mut rows = Vec::new();
        for name in ["first", "second", "unrun"] {
            rows.push(LastEnds::from(self.job(name).await));
        }
        assert_eq!(seen, rows);
        assert_eq!((seen[0].consecutive_failures, seen[1].consecutive_failures), (1, 1));
        assert_eq!(seen[2], LastEnds::new(job("unrun")));
        assert!(self.history.last_ends(&[]).await.expect("an answer").is_empty());
    }

    async fn pause(&self, changes: impl IntoIterator<Item = (&str, Option<Pause>)>) {
        let change = |(when, pause)| PauseChange::new(job("paused"), at(when), pause);
        self.write(Batch { pauses: changes.into_iter().map(change).collect(), ..Batch::default() }).await;
    }

    /// The note of the pause of a job, if it has one.
    async fn note(&self) -> Option<String> {
        self.job("paused").await.pause.and_then(|pause| pause.note)
    }

    async fn the_first_pause_is_kept_until_the_job_is_resumed(&self) {
        let pause = |note: &str| Some(Pause::until_resumed().note(note));
        let when = "2026-03-06T12:00:00Z";
        self.pause([(when, pause("the disk is full")), (when, pause("again"))]).await;
        assert_eq!(self.note().await.as_deref(), Some("the disk is full"));

        self.pause([(when, None), (when, pause("third"))]).await;
        assert_eq!(self.note().await.as_deref(), Some("third"));

        self.pause([(when, None)]).await;
        assert_eq!(self.job("paused").await.pause, None);
    }

    async fn a_pause_that_is_over_gives_way_to_the_next_one(&self) {
        let until = Pause { until: Some(at("2026-03-06T14:00:00Z")), ..Pause::until_resumed() };
        self.pause([("2026-03-06T13:00:00Z", Some(until.note("alice")))]).await;
        self.pause([("2026-03-06T13:30:00Z", Some(Pause::until_resumed().note("early")))]).await;
        assert_eq!(self.note().await.as_deref(), Some("alice"), "it lasts");

        self.pause([("2026-03-06T14:00:00Z", Some(Pause::until_resumed().note("bob")))]).await;
        assert_eq!(self.note().await.as_deref(), Some("bob"));
    }

    async fn a_pause_that_is_written_late_does_not_undo_a_later_resumption(&self) {
        self.pause([("2026-03-06T15:00:00Z", None)]).await;
        self.pause([("2026-03-06T14:59:59Z", Some(Pause::until_resumed().note("late")))]).await;
        assert_eq!(self.job("paused").await.pause, None);

        self.pause([("2026-03-06T15:00:01Z", Some(Pause::until_resumed().note("later")))]).await;
        self.pause([("2026-03-06T15:00:00.5Z", None)]).await;
        assert_eq!(self.note().await.as_deref(), Some("later"), "nor does a resumption that is late");
    }

    async fn two_operations_of_one_instant_are_two_records(&self) {
        let when = at("2026-03-09T12:00:00Z");
        let of = |number, note: &str| OperationRecord {
            number,
            note: Some(note.into()),
            ..OperationRecord::new(job("twice"), JobOperation::Triggered, when, self.node)
        };
        let both = [of(1, "first"), of(2, "second")];
        self.write(Batch { operations: both.to_vec(), ..Batch::default() }).await;

        let asked = Operations::new().job(job("twice"));
        let seen = self.history.operations(&asked).await.expect("an answer").operations;
        assert_eq!(seen, [both[1].clone(), both[0].clone()], "the newest first");
    }

    fn skipped(&self, name: &str, first: DateTime<Utc>, count: u64) -> DecisionRecord {
        let text: Arc<str> = "the disk is full".into();
        let decision = Decision::Skipped {
            reason: SkipReason::Paused,
            count,
            at_least: false,
            text: Some(text),
            by: By::new("alice").ok(),
            run: None,
        };
        let newest = first + TimeDelta::seconds(i64::try_from(count).expect("few") - 1);
        DecisionRecord {
            first: Some(FireTime::new(first)),
            fire_time: Some(FireTime::new(newest)),
            term: Some(Term(3)),
            ..DecisionRecord::new(Some(job(name)), first, self.node, decision)
        }
    }

    async fn decisions(&self, asked: Decisions) -> Vec<DecisionRecord> {
        let page = self.history.decisions(&asked).await.expect("an answer");
        assert_eq!(page.next, None, "all of it is one page");
        page.decisions
    }

    async fn a_decision_that_is_counted_on_takes_the_place_of_the_former_one(&self) {
        let first = at("2026-03-07T00:00:00Z");
        self.write_decisions([self.skipped("skipped", first, 10)]).await;
        let counted_on = self.skipped("skipped", first, 25);
        self.write_decisions([counted_on.clone()]).await;
        let later = self.skipped("skipped", first + TimeDelta::minutes(1), 5);
        self.write_decisions([later.clone()]).await;
        let run = self.ids.next(first);
        let lost = |run| Decision::RunLost { run, is_retried: true };
        let of_loss = |run| DecisionRecord::new(Some(job("skipped")), first, self.node, lost(run));
        let losses = [of_loss(run), of_loss(self.ids.next(first))];
        self.write_decisions(losses.clone()).await;

        let mut seen = self.decisions(Decisions::new().job(job("skipped"))).await;
        assert_eq!(seen.remove(0), later, "the newest first");
        for expected in [&counted_on, &losses[0], &losses[1]] {
            assert!(seen.contains(expected), "{expected:?} in {seen:?}");
        }
        assert_eq!(seen.len(), 3, "one record of each: {seen:?}");
        let of_first_minute =
            Decisions::new().job(job("skipped")).from(first).to(first + TimeDelta::minutes(1));
        assert_eq!(self.decisions(of_first_minute).await.len(), 3, "from an instant on, up to another one");
        let page = Decisions::new().job(job("skipped")).limit(1);
        let page = self.history.decisions(&page).await.expect("an answer");
        assert_eq!(page.decisions, [later]);
        let rest = Decisions::new().job(job("skipped")).before(page.next);
        assert_eq!(self.decisions(rest).await.len(), 3, "the next page has the others");
    }

    async fn decisions_about_all_jobs_are_about_each(&self) {
        let (from, to) = (at("2026-03-08T00:00:00Z"), at("2026-03-08T00:00:05Z"));
        let gap = DecisionRecord::new(None, to, self.node, Decision::LeaderGap { from, to });
        let run = self.ids.next(to);
        let veto = Decision::Vetoed { run, count: 2, text: "a holiday".into() };
        let veto = DecisionRecord::new(Some(job("vetoed")), to + TimeDelta::seconds(1), self.node, veto);
        let refused = Decision::TriggerRefused { count: 1, by: None, text: "busy".into() };
        let refused =
            DecisionRecord::new(Some(job("vetoed")), to + TimeDelta::seconds(2), self.node, refused);
        self.write_decisions([gap.clone(), veto.clone(), refused.clone()]).await;

        let of_job = Decisions::new().job(job("vetoed")).from(from);
        assert_eq!(self.decisions(of_job.clone()).await, [refused, veto, gap.clone()]);
        let other = Decisions { job: Some(job("whole")), ..of_job };
        assert_eq!(self.decisions(other).await, [gap]);
    }

    async fn operations_are_answered_page_by_page(&self) {
        let from = at("2026-03-09T00:00:00Z");
        let operation = |nth: i64, operation| OperationRecord {
            by: Some(By::new("alice").expect("a good name")),
            note: Some("the disk is full".into()),
            ..OperationRecord::new(job("operated"), operation, from + TimeDelta::seconds(nth), self.node)
        };
        let done: Vec<_> = (0..).zip(JobOperation::ALL).map(|(nth, what)| operation(nth, what)).collect();
        self.write(Batch { operations: done.clone(), ..Batch::default() }).await;

        let first = Operations::new().job(job("operated")).limit(4);
        let page = self.history.operations(&first).await.expect("an answer");
        let rest = Operations::new().job(job("operated")).before(page.next);
        let rest = self.history.operations(&rest).await.expect("an answer");
        let seen: Vec<_> = page.operations.into_iter().chain(rest.operations).collect();
        assert_eq!(seen, done.into_iter().rev().collect::<Vec<_>>());
        assert_eq!(rest.next, None);
    }

    async fn prune(&self, now: DateTime<Utc>, retention: Retention) {
        while self.history.prune(now, &retention).await.expect("an answer") {}
    }

    async fn what_is_old_goes_and_failures_stay_longer(&self) {
        let now = at("2026-06-01T00:00:00Z");
        let days_ago = |days| now - TimeDelta::days(days);
        let old = [
            self.run("old", days_ago(40), Outcome::Succeeded),
            self.run("old", days_ago(40), Outcome::Failed),
            self.run("old", days_ago(20), Outcome::Succeeded),
            self.run("old", days_ago(89), Outcome::Lost),
            self.run("old", days_ago(91), Outcome::Failed),
        ];
        let open = RunRecord {
            ended_at: None,
            took: None,
            outcome: None,
            ..self.run("old", days_ago(200), Outcome::Lost)
        };
        self.write_runs(old.clone()).await;
        self.write_runs([open.clone()]).await;
        self.write_decisions([self.skipped("old", days_ago(31), 1), self.skipped("old", days_ago(29), 1)])
            .await;
        let before = self.job("old").await;

        self.prune(now, Retention::default()).await;

        let kept: Vec<RunId> =
            self.runs(RunHistory::new().job(job("old"))).await.iter().map(|run| run.run).collect();
        let expected = [&old[2], &old[1], &old[3], &open].map(|run| run.run);
        assert_eq!(kept.len(), 4, "{kept:?}");
        assert!(expected.iter().all(|run| kept.contains(run)), "what is young, what failed, what goes on");
        assert_eq!(self.decisions(Decisions::new().job(job("old"))).await.len(), 1);
        assert_eq!(self.job("old").await, before, "the row of the job stays");
    }

    async fn a_run_is_as_old_as_its_end(&self) {
        let now = at("2026-06-01T00:00:00Z");
        let days_ago = |days| now - TimeDelta::days(days);
        let long = |asked_at, ended_at, outcome| RunRecord {
            ended_at: Some(ended_at),
            ..self.run("long", asked_at, outcome)
        };
        let runs = [
            long(days_ago(60), days_ago(29), Outcome::Succeeded),
            long(days_ago(200), days_ago(89), Outcome::Failed),
            // Those that are to go are not the oldest.
            long(days_ago(59), days_ago(31), Outcome::Succeeded),
            long(days_ago(199), days_ago(91), Outcome::Failed),
        ];
        self.write_runs(runs.clone()).await;

        self.prune(now, Retention::default()).await;

        let kept: Vec<RunId> =
            self.runs(RunHistory::new().job(job("long"))).await.iter().map(|run| run.run).collect();
        assert_eq!(kept, [runs[0].run, runs[1].run], "however long ago they were asked for");
    }

    async fn so_many_runs_of_an_outcome_stay_of_a_job(&self) {
        let from = at("2026-06-01T00:00:00Z");
        let run = |nth, outcome| self.run("many", from + TimeDelta::seconds(nth), outcome);
        let failed: Vec<_> = (0..3).map(|nth| run(nth, Outcome::Failed)).collect();
        let succeeded: Vec<_> = (3..23).map(|nth| run(nth, Outcome::Succeeded)).collect();
        self.write_runs(failed.iter().chain(&succeeded).cloned()).await;
        let retention = Retention { runs_per_job: 5, ..Retention::default() };

        self.prune(from, retention).await;

        let of = async |outcome| self.runs(RunHistory::new().job(job("many")).outcome(outcome)).await;
        assert_eq!(of(Outcome::Failed).await.len(), 3, "each outcome by itself");
        let newest: Vec<RunId> = succeeded.iter().rev().take(5).map(|run| run.run).collect();
        let kept: Vec<RunId> = of(Outcome::Succeeded).await.iter().map(|run| run.run).collect();
        assert_eq!(kept, newest, "the newest stay");
        assert_eq!(self.job("many").await.runs, 23, "the row of the job knows of all");
        let ended = succeeded[14].ended_at;
        for of_job in [Some(job("many")), None] {
            let asked = AskGaps { of: RecordsOf::Runs, job: of_job, from: None, to: None };
            let gaps = self.history.gaps(&asked).await.expect("an answer");
            assert_eq!(gaps.complete_from, ended, "{asked:?}: the newest that is gone ended then");
            let operations = AskGaps { of: RecordsOf::Operations, ..asked };
            let gaps = self.history.gaps(&operations).await.expect("an answer");
            assert_eq!(gaps.complete_from, None, "of operations all are there");
        }
    }

    async fn what_was_dropped_is_told_of_its_time(&self) {
        let from = at("2026-07-01T00:00:00Z");
        let minute = |nth| from + TimeDelta::minutes(nth);
        let dropped = |count, from, to| {
            let decision = Decision::RecordsDropped { count, from, to };
            DecisionRecord::new(None, to, self.node, decision)
        };
        let gap = Decision::LeaderGap { from: minute(11), to: minute(12) };
        let records = [
            dropped(3, minute(0), minute(10)),
            DecisionRecord::new(None, minute(12), self.node, gap),
            dropped(40, minute(20), minute(30)),
            dropped(500, minute(40), minute(50)),
        ];
        self.write_decisions(records.clone()).await;

        for (from, to, count) in [
            (None, None, 543),
            (Some(5), None, 543),
            (Some(11), None, 540),
            (Some(25), Some(45), 540),
            (Some(25), Some(35), 40),
            (None, Some(20), 3),
            (Some(51), None, 0),
            (Some(12), Some(19), 0),
        ] {
            let (from, to) = (from.map(minute), to.map(minute));
            for of in [RecordsOf::Runs, RecordsOf::Decisions, RecordsOf::Operations] {
                let asked = AskGaps { of, job: Some(job("whole")), from, to };
                let gaps = self.history.gaps(&asked).await.expect("an answer");
                assert_eq!(gaps.dropped, count, "{asked:?}");
            }
        }
        let of_job = Decisions::new().job(job("whole")).from(from);
        let seen = self.decisions(of_job).await;
        assert_eq!(seen, records.iter().rev().cloned().collect::<Vec<_>>(), "they are about each job");
    }
}
