//! Runs, and the rows of their jobs.

use super::*;

impl Check<'_> {
    pub(super) async fn a_record_is_answered_as_it_was_written(&self) {
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

    pub(super) async fn runs_are_answered_page_by_page_the_newest_first(&self) {
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

    pub(super) async fn runs_are_selected_by_job_outcome_and_time(&self) {
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

    pub(super) async fn runs_are_selected_by_fire_time(&self) {
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

    pub(super) async fn there_is_one_record_of_a_run(&self) {
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

    pub(super) async fn a_loss_keeps_what_was_known_of_its_run(&self) {
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

    pub(super) async fn a_loss_that_is_written_late_does_not_hide_the_retry(&self) {
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

    pub(super) async fn the_row_of_a_job_counts_each_run_once(&self) {
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

    pub(super) async fn the_last_ends_of_many_jobs_are_those_of_their_rows(&self) {
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
}
