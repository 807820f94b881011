//! Claims of ticks and of manual runs, and their completions.

use super::*;

impl Suite {
    pub(super) async fn a_claim_takes_its_tick_once(&self) {
        let cursor = self.due_job("once").await;
        let fire_time = just_after(cursor);
        let first = self.tick("once", cursor, fire_time);
        let token = self.granted(&first).await;
        assert_eq!(self.complete(&first, token).await, Completed::RECORDED);

        let again = self.claim(&self.tick("once", cursor, fire_time)).await;
        let answer = Verdict::AlreadyRun { run: first.run, cursor: fire_time.instant() };
        assert_eq!(again, answer, "a tick has one run, whatever became of it");
        assert_eq!(
            self.enrol("once", "a schedule").await,
            fire_time.instant(),
            "the cursor moved to the tick"
        );
    }

    pub(super) async fn a_claim_from_the_wrong_cursor_is_told_the_right_one(&self) {
        let cursor = self.due_job("wrong-cursor").await;
        let stale = cursor - TimeDelta::seconds(10);
        let verdict = self.claim(&self.tick("wrong-cursor", stale, just_after(cursor))).await;
        assert_eq!(verdict, Verdict::Elsewhere { cursor });
    }

    pub(super) async fn a_tick_that_is_not_due_must_wait(&self) {
        let cursor = self.enrol("early", "a schedule").await;
        let fire_time = FireTime::new(cursor + TimeDelta::hours(1));
        let verdict = self.claim(&self.tick("early", cursor, fire_time)).await;
        let Verdict::NotYet { wait } = verdict else { panic!("an early tick was answered with {verdict:?}") };
        assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "wait {wait:?}");
    }

    pub(super) async fn an_old_term_decides_nothing(&self) {
        let cursor = self.due_job("deposed").await;
        let mut request = self.tick("deposed", cursor, just_after(cursor));
        let old = Term(self.term.0 - 1);
        if let Some(tick) = &mut request.tick {
            tick.authority = Authority::Term(old);
        }
        assert_eq!(self.claim(&request).await, Verdict::Deposed { term: self.term });

        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let to = just_after(cursor);
        let asked = CursorAdvance {
            id: Uuid::new_v4(),
            job: name("deposed"),
            expected: cursor,
            to,
            skips,
            authority: Authority::Term(old),
        };
        let advanced = self.locker.advance(&[asked]).await.expect("an answer");
        assert_eq!(advanced, [Advanced::Deposed { term: self.term }]);

        let enrolment =
            Enrolment::new(name("deposed"), ScheduleIdentity::of_text("other"), Authority::Term(old));
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        assert_eq!(enrolled, [Enrolled::Deposed { term: self.term }]);
        self.locker.withdraw(old, &[name("deposed")]).await.expect("an answer");
        assert_eq!(self.enrol("deposed", "a schedule").await, cursor, "nothing changed");
    }

    pub(super) async fn the_same_run_is_granted_again(&self) {
        let cursor = self.due_job("again").await;
        let request = self.tick("again", cursor, just_after(cursor));
        let token = self.granted(&request).await;
        assert_eq!(
            self.granted(&request).await,
            token,
            "after a lost reply the node learns that it has the run"
        );
        let recheck = ClaimRequest { recheck: true, ..request.clone() };
        assert_eq!(self.granted(&recheck).await, token, "so it does when it is only rechecked");
        self.complete(&request, token).await;
    }

    pub(super) async fn a_recheck_takes_nothing(&self) {
        let cursor = self.due_job("rechecked").await;
        let request = self.tick("rechecked", cursor, just_after(cursor));
        let recheck = ClaimRequest { recheck: true, ..request.clone() };
        assert_eq!(self.claim(&recheck).await, Verdict::NotGranted);
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        assert_eq!(self.claim(&recheck).await, Verdict::GrantedBefore, "its run has ended");
    }

    pub(super) async fn a_held_key_is_busy_until_the_completion(&self) {
        let first = self.manual("holder", "shared-key");
        let token = self.granted(&first).await;
        let second = self.manual("waiter", "shared-key");

        let holder = Some(first.run);
        assert_eq!(
            self.claim(&second).await,
            Verdict::Busy { holder, own: true },
            "the key is held by another job's run"
        );
        assert_eq!(self.complete(&first, token).await, Completed::RECORDED);
        let next = self.granted(&second).await;
        assert!(next > token, "tokens grow: {next} after {token}");
        self.complete(&second, next).await;
    }

    pub(super) async fn a_manual_run_needs_no_term_and_moves_no_cursor(&self) {
        let cursor = self.enrol("manual", "a schedule").await;
        let request = self.manual("manual", "manual");
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        assert_eq!(self.enrol("manual", "a schedule").await, cursor);
    }

    pub(super) async fn in_a_batch_one_job_and_one_key_are_granted_once(&self) {
        let cursor = self.due_job("twice").await;
        let fire_time = just_after(cursor);
        let later = just_after(fire_time.instant());
        let batch = [
            self.tick("twice", cursor, fire_time),
            self.tick("twice", cursor, later),
            self.manual("left", "one-key"),
            self.manual("right", "one-key"),
        ];
        let verdicts = self.locker.claim(&batch).await.expect("an answer");
        let granted: Vec<_> =
            verdicts.iter().map(|verdict| matches!(verdict, Verdict::Granted { .. })).collect();
        assert_eq!(granted, [true, false, true, false], "{verdicts:?}");
        for (request, verdict) in batch.iter().zip(verdicts) {
            if let Verdict::Granted { token, .. } = verdict {
                self.complete(request, token).await;
            }
        }
    }

    pub(super) async fn a_bad_request_fails_alone(&self) {
        let [one, two] = [self.due_job("good-1").await, self.due_job("good-2").await];
        let bad = self.tick("never-enrolled", self.now, just_after(self.now));
        let batch =
            [self.tick("good-1", one, just_after(one)), bad, self.tick("good-2", two, just_after(two))];
        let verdicts = self.locker.claim(&batch).await.expect("an answer");
        let granted: Vec<_> =
            verdicts.iter().map(|verdict| matches!(verdict, Verdict::Granted { .. })).collect();
        assert_eq!(granted, [true, false, true], "{verdicts:?}");
    }

    pub(super) async fn a_key_freed_in_a_round_can_be_claimed_in_it(&self) {
        let [former, next] = [self.manual("round", "round"), self.manual("round", "round")];
        let token = self.granted(&former).await;
        let skipped = self.due_job("skipped-in-a-round").await;
        let end = completion(&former, token);
        let to = just_after(skipped);
        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let job = name("skipped-in-a-round");
        let asked = CursorAdvance {
            id: Uuid::new_v4(),
            job,
            expected: skipped,
            to,
            skips,
            authority: Authority::Term(self.term),
        };

        let answers = self.locker.round(&[end], std::slice::from_ref(&next), &[asked]).await;

        assert_eq!(answers.ended.expect("an answer"), [Completed::RECORDED]);
        let verdicts = answers.claimed.expect("an answer");
        let [Verdict::Granted { token, .. }] = verdicts[..] else { panic!("not granted: {verdicts:?}") };
        assert_eq!(answers.advanced.expect("an answer"), [Advanced::Done]);
        let nothing = self.locker.round(&[], &[], &[]).await;
        assert!(matches!((nothing.ended, nothing.claimed, nothing.advanced), (Ok(e), Ok(c), Ok(m))
            if e.is_empty() && c.is_empty() && m.is_empty()));
        self.complete(&next, token).await;
    }

    pub(super) async fn a_completion_needs_the_token_and_may_be_repeated(&self) {
        let request = self.manual("completed", "completed");
        let token = self.granted(&request).await;
        let wrong = FencingToken(token.0 + 1);
        assert_eq!(self.complete(&request, wrong).await, Completed::Stale, "the token is checked");
        let busy = self.claim(&self.manual("completed", "completed")).await;
        assert!(matches!(busy, Verdict::Busy { .. }), "a refused completion frees nothing: {busy:?}");
        assert_eq!(self.complete(&request, token).await, Completed::RECORDED);
        let repeated = self.complete(&request, token).await;
        assert!(
            matches!(repeated, Completed::Recorded { .. }),
            "an end that was recorded already is recorded"
        );
        let next = self.manual("completed", "completed");
        let token_of_next = self.granted(&next).await;
        let repeated = self.complete(&request, token).await;
        assert!(
            matches!(repeated, Completed::Recorded { .. }),
            "also after the next run began: {repeated:?}"
        );
        let busy = self.claim(&self.manual("completed", "completed")).await;
        assert!(matches!(busy, Verdict::Busy { .. }), "the next run keeps its key: {busy:?}");
        self.complete(&next, token_of_next).await;
    }

    pub(super) async fn a_released_end_frees_its_key_and_can_be_told_again(&mut self) {
        let claim = self.manual("release", "release");
        let token = self.granted(&claim).await;
        let (job, key) = (name("release"), key("release"));
        let end = |token| Completion::new(job.clone(), key.clone(), claim.run, token, Outcome::Succeeded);
        let release = async |token| self.locker.release(&[end(token)]).await.expect("an answer");

        let stale = release(FencingToken(token.0 + 1)).await;
        assert_eq!(stale, [Completed::Stale], "an end with another token");
        assert_eq!(release(token).await, [Completed::RECORDED]);

        assert_eq!(release(token).await, [Completed::RECORDED], "it was freed before");
        self.granted(&self.manual("release", "release")).await;
        assert_eq!(release(token).await, [Completed::RECORDED], "and claimed since");
        let busy = self.claim(&self.manual("release", "release")).await;
        assert!(matches!(busy, Verdict::Busy { .. }), "the next run keeps its key: {busy:?}");
    }

    /// So one that was granted by a store that was created again since is smaller.
    pub(super) async fn a_token_is_not_below_the_time(&self) {
        let request = self.manual("token", "token");
        let token = self.granted(&request).await;
        // A minute, as clocks may be apart.
        let least = (self.now - TimeDelta::minutes(1)).timestamp_micros();
        assert!(token.0 >= u64::try_from(least).unwrap_or_default(), "{token} is at least {least}");
        self.complete(&request, token).await;
    }

    pub(super) async fn as_many_ticks_run_as_may(&self) {
        let own = |job: &'static str| (job, job);
        for (job, lock_key) in [own("limited"), ("limited-with-a-key", "a-key-with-a-limit")] {
            let mut cursor = self.due_job(job).await;
            let mut next = |key: &str| {
                let tick = self.tick_by(Authority::Term(self.term), job, cursor);
                cursor = just_after(cursor).instant();
                ClaimRequest { key: self::key(key), limit: Some(2), ..tick }
            };
            let first = next(lock_key);
            let token = self.granted(&first).await;
            assert_eq!(self.granted(&first).await, token, "asked again, it counts once");
            let manual = self.manual(job, "another-key-with-a-limit");
            let of_manual = self.granted(&ClaimRequest { limit: Some(0), ..manual.clone() }).await;
            self.complete(&manual, of_manual).await;
            let second = next(lock_key);
            let busy = self.claim(&second).await;
            assert!(
                matches!(busy, Verdict::Busy { .. }),
                "a claim that was refused does not count: {busy:?}"
            );
            self.complete(&first, token).await;
            let token = self.granted(&second).await;
            self.complete(&second, token).await;
            let third = next(lock_key);
            assert_eq!(self.claim(&third).await, Verdict::Exhausted, "{job}");
            let more = ClaimRequest { limit: Some(3), ..third };
            let token = self.granted(&more).await;
            self.complete(&more, token).await;

            let changed = self.enrol(job, "another schedule").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            let tick = self.tick_by(Authority::Term(self.term), job, changed);
            let same = ClaimRequest { key: self::key(lock_key), limit: Some(3), ..tick };
            assert_eq!(self.claim(&same).await, Verdict::Exhausted, "a changed schedule keeps the count");
            self.locker.withdraw(self.term, &[name(job)]).await.expect("an answer");
            let held = self.enrol_known_for(job, "another schedule", Duration::from_secs(3600)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            let tick = self.tick_by(Authority::Any, job, held);
            let of_copy = ClaimRequest { key: self::key(lock_key), limit: Some(3), ..tick };
            assert_eq!(
                self.claim(&of_copy).await,
                Verdict::Exhausted,
                "who held it before goes on with the count"
            );
            self.locker.withdraw(self.term, &[name(job)]).await.expect("an answer");
            let again = self.due_job(job).await;
            let tick = self.tick_by(Authority::Term(self.term), job, again);
            let again = ClaimRequest { key: self::key(lock_key), limit: Some(1), ..tick };
            let token = self.granted(&again).await;
            self.complete(&again, token).await;
        }
    }
}
