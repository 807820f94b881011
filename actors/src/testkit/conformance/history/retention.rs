//! What is deleted, and what is told of it.

use super::*;

impl Check<'_> {
    pub(super) async fn prune(&self, now: DateTime<Utc>, retention: Retention) {
        while self.history.prune(now, &retention).await.expect("an answer") {}
    }

    pub(super) async fn what_is_old_goes_and_failures_stay_longer(&self) {
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

    pub(super) async fn a_run_is_as_old_as_its_end(&self) {
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

    pub(super) async fn so_many_runs_of_an_outcome_stay_of_a_job(&self) {
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

    pub(super) async fn what_was_dropped_is_told_of_its_time(&self) {
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
