//! What every locker does for the policies of a job.

use super::*;

impl Suite {
    /// Those that need one node and a leader.
    pub(super) async fn policies(&self) {
        self.any_node_decides_by_the_cursor_without_a_term().await;
        self.an_enrolment_without_a_term_keeps_the_leaders_mark().await;
        self.while_the_leader_schedules_a_job_nobody_else_decides_its_ticks().await;
        self.a_batch_mixes_authorities().await;
        self.as_many_ticks_run_as_may().await;
    }

    async fn enrol_by(&self, job: &str, schedule: &str, authority: Authority) -> Enrolled {
        self.enrol_as(Enrolment::new(name(job), schedule.to_owned(), authority)).await
    }

    async fn enrol_as(&self, enrolment: Enrolment) -> Enrolled {
        let mut enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        enrolled.pop().expect("one answer per enrolment")
    }

    /// A new job that this authority enrolled, some of whose ticks are due.
    async fn due_by(&self, job: &str, authority: Authority) -> DateTime<Utc> {
        let enrolled = self.enrol_by(job, "a schedule", authority).await;
        let Enrolled::Done { cursor, .. } = enrolled else { panic!("{job} was answered with {enrolled:?}") };
        tokio::time::sleep(Duration::from_millis(30)).await;
        cursor
    }

    fn tick_by(&self, authority: Authority, job: &str, expected: DateTime<Utc>) -> ClaimRequest {
        let mut request = self.tick(job, expected, just_after(expected));
        request.tick = request.tick.map(|tick| TickClaim { authority, ..tick });
        request
    }

    async fn advance_by(&self, authority: Authority, job: &str, expected: DateTime<Utc>) -> Moved {
        let (to, skips) = (just_after(expected), Skips::new(SkipReason::Overlap, 1, false));
        let asked = CursorMove { job: name(job), expected, to, skips, authority };
        let mut moved = self.locker.advance(&[asked]).await.expect("an answer");
        moved.pop().expect("one answer per move")
    }

    async fn any_node_decides_by_the_cursor_without_a_term(&self) {
        let cursor = self.due_by("any", Authority::Any).await;
        let first = self.tick_by(Authority::Any, "any", cursor);
        let token = self.granted(&first).await;
        self.complete(&first, token).await;

        let claimed = just_after(cursor).instant();
        let next = just_after(claimed).instant();
        let second = self.claim(&self.tick_by(Authority::Any, "any", cursor)).await;
        assert_eq!(second, Verdict::AlreadyRun { run: first.run, cursor: claimed });
        let moved = self.advance_by(Authority::Any, "any", cursor).await;
        assert_eq!(moved, Moved::Elsewhere { cursor: claimed }, "the cursor decides about moves too");
        assert_eq!(self.advance_by(Authority::Any, "any", claimed).await, Moved::Done);
        let late = self.claim(&self.tick_by(Authority::Any, "any", claimed)).await;
        assert_eq!(late, Verdict::Moved { cursor: next }, "that tick was skipped");
        let mut early = self.tick_by(Authority::Any, "any", next);
        early.tick = early.tick.map(|tick| {
            let fire_time = FireTime::new(next + TimeDelta::hours(1));
            TickClaim { fire_time, ..tick }
        });
        assert!(matches!(self.claim(&early).await, Verdict::NotYet { .. }));

        let same = self.enrol_by("any", "a schedule", Authority::Any).await;
        assert!(matches!(same, Enrolled::Done { cursor, .. } if cursor == next), "{same:?}");
        let changed = self.enrol_by("any", "another schedule", Authority::Any).await;
        assert!(matches!(changed, Enrolled::Done { cursor, .. } if cursor > next), "{changed:?}");
    }

    async fn an_enrolment_without_a_term_keeps_the_leaders_mark(&self) {
        self.enrol("marked", "a").await;
        self.enrol_by("marked", "a", Authority::Any).await;
        self.enrol_by("unmarked", "a", Authority::Any).await;
        let held = ["marked", "unmarked"].map(|job| Inquiry { job: name(job), schedule: "a".to_owned() });

        let standings = self.locker.inquire(&held).await.expect("an answer");

        assert_eq!(standings, [Standing::Scheduled, Standing::NotHeld]);
    }

    async fn while_the_leader_schedules_a_job_nobody_else_decides_its_ticks(&self) {
        let unled = Authority::Unled;
        let cursor = self.due_by("unled", unled).await;
        let run = self.tick_by(unled, "unled", cursor);
        let token = self.granted(&run).await;
        self.complete(&run, token).await;
        let cursor = just_after(cursor).instant();
        assert_eq!(self.advance_by(unled, "unled", cursor).await, Moved::Done, "the leader does not hold it");

        let cursor = self.enrol("unled", "a schedule").await;
        assert_eq!(self.claim(&self.tick_by(unled, "unled", cursor)).await, Verdict::Led);
        assert_eq!(self.advance_by(unled, "unled", cursor).await, Moved::Led);
        assert_eq!(self.enrol_by("unled", "another schedule", unled).await, Enrolled::Led);
        assert_eq!(self.enrol("unled", "a schedule").await, cursor, "nothing changed");

        self.locker.withdraw(self.term, &[name("unled")]).await.expect("an answer");
        let cursor = self.due_by("unled", unled).await;
        let run = self.tick_by(unled, "unled", cursor);
        let token = self.granted(&run).await;
        self.complete(&run, token).await;
    }

    async fn a_batch_mixes_authorities(&self) {
        let [led, any] = [self.due_job("mixed-led").await, self.due_by("mixed-any", Authority::Any).await];
        let old = Authority::Term(Term(self.term.0 - 1));
        let batch = [
            self.tick_by(old, "mixed-led", led),
            self.tick_by(Authority::Any, "mixed-any", any),
            self.manual("mixed", "mixed"),
        ];

        let verdicts = self.locker.claim(&batch).await.expect("an answer");

        let [
            Verdict::Deposed { term },
            Verdict::Granted { token: one, .. },
            Verdict::Granted { token: two, .. },
        ] = verdicts[..]
        else {
            panic!("{verdicts:?}")
        };
        assert_eq!(term, self.term);
        self.complete(&batch[1], one).await;
        self.complete(&batch[2], two).await;
        let authorities = [old, Authority::Any, Authority::Unled, Authority::Unled];
        let jobs = ["mixed-new", "mixed-any", "mixed-led", "mixed-newer"];
        self.enrol("mixed-led", "a schedule").await;
        let jobs: Vec<_> = jobs
            .into_iter()
            .zip(authorities)
            .map(|(job, authority)| Enrolment::new(name(job), "a schedule".to_owned(), authority))
            .collect();
        let enrolled = self.locker.enrol(&jobs).await.expect("an answer");
        let [Enrolled::Deposed { .. }, Enrolled::Done { .. }, Enrolled::Led, Enrolled::Done { .. }] =
            enrolled[..]
        else {
            panic!("{enrolled:?}")
        };
    }

    async fn as_many_ticks_run_as_may(&self) {
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
            let again = self.due_job(job).await;
            let tick = self.tick_by(Authority::Term(self.term), job, again);
            let anew = ClaimRequest { key: self::key(lock_key), limit: Some(1), ..tick };
            let token = self.granted(&anew).await;
            self.complete(&anew, token).await;
        }
    }

    /// Needs no leader, and leaves none.
    pub(super) async fn once_a_term_is_over_its_mark_stops_nobody(&mut self, elector: &dyn Elector) {
        let cursor = self.due_job("was-led").await;
        elector.resign(self.term).await.expect("an answer");

        assert_eq!(self.advance_by(Authority::Unled, "was-led", cursor).await, Moved::Done);
        let cursor = self.due_by("was-led", Authority::Unled).await;
        let run = self.tick_by(Authority::Unled, "was-led", cursor);
        let token = self.granted(&run).await;
        self.complete(&run, token).await;
        let Campaign::Won(grant) = elector.campaign().await.expect("an answer") else {
            panic!("nobody leads");
        };
        self.term = grant.term;
        let cursor = just_after(cursor).instant();
        let moved = self.advance_by(Authority::Unled, "was-led", cursor).await;
        assert_eq!(moved, Moved::Done, "the mark is that of a former term");
    }
}
