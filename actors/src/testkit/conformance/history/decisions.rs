//! Pauses, decisions that start nothing, and operations.

use super::*;

impl Check<'_> {
    pub(super) async fn pause(&self, changes: impl IntoIterator<Item = (&str, Option<Pause>)>) {
        let change = |(when, pause)| PauseChange::new(job("paused"), at(when), pause);
        self.write(Batch { pauses: changes.into_iter().map(change).collect(), ..Batch::default() }).await;
    }

    /// The note of the pause of a job, if it has one.
    pub(super) async fn note(&self) -> Option<String> {
        self.job("paused").await.pause.and_then(|pause| pause.note)
    }

    pub(super) async fn the_first_pause_is_kept_until_the_job_is_resumed(&self) {
        let pause = |note: &str| Some(Pause::until_resumed().note(note));
        let when = "2026-03-06T12:00:00Z";
        self.pause([(when, pause("the disk is full")), (when, pause("again"))]).await;
        assert_eq!(self.note().await.as_deref(), Some("the disk is full"));

        self.pause([(when, None), (when, pause("third"))]).await;
        assert_eq!(self.note().await.as_deref(), Some("third"));

        self.pause([(when, None)]).await;
        assert_eq!(self.job("paused").await.pause, None);
    }

    pub(super) async fn a_pause_that_is_over_gives_way_to_the_next_one(&self) {
        let until = Pause { until: Some(at("2026-03-06T14:00:00Z")), ..Pause::until_resumed() };
        self.pause([("2026-03-06T13:00:00Z", Some(until.note("alice")))]).await;
        self.pause([("2026-03-06T13:30:00Z", Some(Pause::until_resumed().note("early")))]).await;
        assert_eq!(self.note().await.as_deref(), Some("alice"), "it lasts");

        self.pause([("2026-03-06T14:00:00Z", Some(Pause::until_resumed().note("bob")))]).await;
        assert_eq!(self.note().await.as_deref(), Some("bob"));
    }

    pub(super) async fn a_pause_that_is_written_late_does_not_undo_a_later_resumption(&self) {
        self.pause([("2026-03-06T15:00:00Z", None)]).await;
        self.pause([("2026-03-06T14:59:59Z", Some(Pause::until_resumed().note("late")))]).await;
        assert_eq!(self.job("paused").await.pause, None);

        self.pause([("2026-03-06T15:00:01Z", Some(Pause::until_resumed().note("later")))]).await;
        self.pause([("2026-03-06T15:00:00.5Z", None)]).await;
        assert_eq!(self.note().await.as_deref(), Some("later"), "nor does a resumption that is late");
    }

    pub(super) async fn two_operations_of_one_instant_are_two_records(&self) {
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

    pub(super) fn skipped(&self, name: &str, first: DateTime<Utc>, count: u64) -> DecisionRecord {
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

    pub(super) async fn decisions(&self, asked: Decisions) -> Vec<DecisionRecord> {
        let page = self.history.decisions(&asked).await.expect("an answer");
        assert_eq!(page.next, None, "all of it is one page");
        page.decisions
    }

    pub(super) async fn a_decision_that_is_counted_on_takes_the_place_of_the_former_one(&self) {
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

    pub(super) async fn decisions_about_all_jobs_are_about_each(&self) {
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

    pub(super) async fn operations_are_answered_page_by_page(&self) {
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
}
