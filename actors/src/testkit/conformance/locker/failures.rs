//! Failures in a row, and jobs that go on from the end of a run.

use super::*;

impl Suite {
    /// Runs a job once, by hand.
    pub(super) async fn run_by_hand(
        &self,
        job: &str,
        lock_key: &str,
        outcome: Outcome,
        pause_after: Option<u32>,
    ) -> Completion {
        let request = self.manual(job, lock_key);
        let token = self.granted(&request).await;
        Completion { outcome, pause_after, ..completion(&request, token) }
    }

    pub(super) async fn ended(&self, end: &Completion) -> Completed {
        let mut answers = self.locker.complete(std::slice::from_ref(end)).await.expect("an answer");
        answers.pop().expect("one answer per completion")
    }

    pub(super) async fn failures_in_a_row_are_counted(&self) {
        for (job, lock_key) in [("failing", "failing"), ("failing-with-a-key", "a-key-of-a-failing-job")] {
            self.enrol(job, "a schedule").await;
            let cases = [
                (Outcome::Failed, 1),
                (Outcome::Panicked, 2),
                (Outcome::Cancelled, 2),
                (Outcome::TimedOut, 3),
                (Outcome::Succeeded, 0),
                (Outcome::Cancelled, 0),
                (Outcome::Failed, 1),
            ];
            for (outcome, failures) in cases {
                let end = self.run_by_hand(job, lock_key, outcome, None).await;
                assert_eq!(self.ended(&end).await, Completed::RECORDED);
                assert_eq!(self.ended(&end).await, Completed::RECORDED, "recorded before");
                assert_eq!(self.stored(job).await.failures, failures, "{job} after {outcome:?}");
            }
            self.locker.withdraw(self.term, &[name(job)]).await.expect("an answer");
            assert_eq!(self.stored(job).await.failures, 0, "it begins anew");
        }
        let unknown = self.run_by_hand("failing-unknown", "a-key-of-its-own", Outcome::Failed, Some(1)).await;
        assert_eq!(self.ended(&unknown).await, Completed::RECORDED, "a job that was never enrolled");
        let unknown = self.run_by_hand("failing-unknown", "failing-unknown", Outcome::Failed, Some(1)).await;
        assert_eq!(self.ended(&unknown).await, Completed::RECORDED);
        assert_eq!(self.stored("failing-unknown").await, StoredState::default());
    }

    pub(super) async fn too_many_failures_in_a_row_pause_the_job(&self) {
        for (job, lock_key) in [("broken", "broken"), ("broken-with-a-key", "a-key-of-a-broken-job")] {
            let cursor = self.due_job(job).await;
            let fail = async || self.run_by_hand(job, lock_key, Outcome::Failed, Some(2)).await;
            let a_while = Some(just_after(cursor).instant() + TimeDelta::hours(1));
            self.pause(job, Some(&Pause { until: a_while, note: None, by: None })).await;
            assert_eq!(self.ended(&fail().await).await, Completed::RECORDED);
            let last = fail().await;

            let answer = self.ended(&last).await;

            let note = Some("runs that failed in a row: 2".to_owned());
            let pause = Pause { until: None, note, by: None };
            assert_eq!(answer, Completed::Recorded { cursor: None, pause: Some(pause.clone()) });
            assert_eq!(self.ended(&last).await, answer, "recorded before");
            let told = Notification::PauseChanged { job: name(job), pause: Some(pause.clone()) };
            self.is_told(|notification| *notification == told).await;
            let stored = StoredState { pause: Some(pause.clone()), failures: 2, ..StoredState::default() };
            assert_eq!(self.stored(job).await, stored);
            let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(Authority::Any, job, cursor) };
            assert_eq!(self.claim(&tick).await, Verdict::Paused(pause));
            assert_eq!(self.ended(&fail().await).await, Completed::RECORDED, "it is paused already");

            self.pause(job, None).await;
            assert_eq!(self.stored(job).await, StoredState::default(), "resumed, it begins anew");
            assert_eq!(self.ended(&fail().await).await, Completed::RECORDED);
        }
    }

    pub(super) async fn a_job_may_go_on_from_the_end_of_its_run(&self) {
        for (job, lock_key) in [("from-end", "from-end"), ("from-end-with-a-key", "a-key-from-end")] {
            let cursor = self.due_job(job).await;
            let by_term = Authority::Term(self.term);
            let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(by_term, job, cursor) };
            let token = self.granted(&tick).await;
            let end = Completion { from_completion: true, ..completion(&tick, token) };

            let answer = self.ended(&end).await;

            let Completed::Recorded { cursor: Some(anchor), pause: None } = answer else {
                panic!("{answer:?}")
            };
            assert!(
                anchor >= cursor + TimeDelta::milliseconds(30),
                "{anchor} is the end: it was claimed later"
            );
            assert_eq!(FireTime::new(anchor).instant(), anchor, "whole milliseconds");
            assert_eq!(self.enrol(job, "a schedule").await, anchor);
            let skipped = ClaimRequest {
                key: key(lock_key),
                ..self.tick_by(by_term, job, just_after(cursor).instant())
            };
            assert_eq!(self.claim(&skipped).await, Verdict::Elsewhere { cursor: anchor });
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(self.ended(&end).await, answer, "recorded before");

            let manual = self.manual(job, lock_key);
            let token = self.granted(&manual).await;
            let end = Completion { from_completion: true, ..completion(&manual, token) };
            let answer = self.ended(&end).await;
            let Completed::Recorded { cursor: Some(later), pause: None } = answer else {
                panic!("{answer:?}")
            };
            assert!(later > anchor, "a manual run counts as well");
            assert_eq!(self.enrol(job, "a schedule").await, later);
        }
        let unknown = self.run_by_hand("from-end-unknown", "a-key-from-end", Outcome::Failed, None).await;
        let unknown = Completion { from_completion: true, ..unknown };
        assert_eq!(self.ended(&unknown).await, Completed::RECORDED, "it has no cursor");
    }
}
