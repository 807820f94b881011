//! Ticks that are decided without a term, and the mark of the leader.

use super::*;

impl Suite {
    pub(super) async fn what_a_leader_proves_is_told_to_others(&mut self, cluster: &mut impl Cluster) {
        self.keep_leading().await;
        let (_, other) = another(cluster).await;
        let told = async || other.prove(Proof::default()).await.expect("it could claim");
        let before = told().await.decided.map(|decided| decided.mark);
        let second = |nth| DateTime::from_timestamp(self.now.timestamp() + nth, 0);
        let behind = Proof {
            term: Some(self.term),
            overdue_since: second(-60),
            all_decided: false,
            catching_up_until: second(60),
        };
        self.locker.prove(behind).await.expect("it leads");

        let said = told().await;
        assert_eq!((said.overdue_since, said.catching_up_until), (second(-60), second(60)));
        assert_eq!(said.decided.map(|decided| decided.mark), before, "it did not say that all is decided");

        let well = Proof { term: Some(self.term), all_decided: true, ..Proof::default() };
        self.locker.prove(well).await.expect("it leads");
        let said = told().await;
        assert_eq!((said.overdue_since, said.catching_up_until), (None, None), "what it said last counts");
        let mark = said.decided.map(|decided| decided.mark);
        assert!(mark.is_some() && mark != before, "{mark:?} after {before:?}");
        assert_eq!(told().await.decided.map(|decided| decided.mark), mark, "who follows says nothing");
    }

    /// A new job that this authority enrolled, some of whose ticks are due.
    pub(super) async fn due_by(&self, job: &str, authority: Authority) -> DateTime<Utc> {
        let enrolled = self.enrol_by(job, "a schedule", authority).await;
        let Enrolled::Done { cursor, .. } = enrolled else { panic!("{job} was answered with {enrolled:?}") };
        tokio::time::sleep(Duration::from_millis(30)).await;
        cursor
    }

    pub(super) fn tick_by(&self, authority: Authority, job: &str, expected: DateTime<Utc>) -> ClaimRequest {
        let mut request = self.tick(job, expected, just_after(expected));
        request.tick = request.tick.map(|tick| TickClaim { authority, ..tick });
        request
    }

    pub(super) async fn advance_by(
        &self,
        authority: Authority,
        job: &str,
        expected: DateTime<Utc>,
    ) -> Advanced {
        let (to, skips) = (just_after(expected), Skips::new(SkipReason::Overlap, 1, false));
        let asked = CursorAdvance { id: Uuid::new_v4(), job: name(job), expected, to, skips, authority };
        let mut advanced = self.locker.advance(&[asked]).await.expect("an answer");
        advanced.pop().expect("one answer per move")
    }

    pub(super) async fn any_node_decides_by_the_cursor_without_a_term(&self) {
        let cursor = self.due_by("any", Authority::Any).await;
        let first = self.tick_by(Authority::Any, "any", cursor);
        let token = self.granted(&first).await;
        self.complete(&first, token).await;

        let claimed = just_after(cursor).instant();
        let next = just_after(claimed).instant();
        let second = self.claim(&self.tick_by(Authority::Any, "any", cursor)).await;
        assert_eq!(second, Verdict::AlreadyRun { run: first.run, cursor: claimed });
        let advanced = self.advance_by(Authority::Any, "any", cursor).await;
        assert_eq!(advanced, Advanced::Elsewhere { cursor: claimed }, "the cursor decides about moves too");
        assert_eq!(self.advance_by(Authority::Any, "any", claimed).await, Advanced::Done);
        let late = self.claim(&self.tick_by(Authority::Any, "any", claimed)).await;
        assert_eq!(late, Verdict::Elsewhere { cursor: next }, "that tick was skipped");
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

    pub(super) async fn an_enrolment_without_a_term_keeps_the_leaders_mark(&self) {
        self.enrol("marked", "a").await;
        self.enrol_by("marked", "a", Authority::Any).await;
        self.enrol_by("unmarked", "a", Authority::Any).await;
        let held = ["marked", "unmarked"]
            .map(|job| Inquiry { job: name(job), schedule: ScheduleIdentity::of_text("a") });

        let standings = self.locker.inquire(&held).await.expect("an answer");

        assert_eq!(standings, [LeaderView::Scheduled, LeaderView::NotScheduled]);
    }

    pub(super) async fn while_the_leader_schedules_a_job_nobody_else_decides_its_ticks(&self) {
        let leaderless = Authority::Leaderless;
        let cursor = self.due_by("leaderless", leaderless).await;
        let run = self.tick_by(leaderless, "leaderless", cursor);
        let token = self.granted(&run).await;
        self.complete(&run, token).await;
        let cursor = just_after(cursor).instant();
        assert_eq!(
            self.advance_by(leaderless, "leaderless", cursor).await,
            Advanced::Done,
            "the leader does not have it"
        );

        let cursor = self.enrol("leaderless", "a schedule").await;
        assert_eq!(self.claim(&self.tick_by(leaderless, "leaderless", cursor)).await, Verdict::HasLeader);
        assert_eq!(self.advance_by(leaderless, "leaderless", cursor).await, Advanced::HasLeader);
        assert_eq!(self.enrol_by("leaderless", "another schedule", leaderless).await, Enrolled::HasLeader);
        assert_eq!(self.enrol("leaderless", "a schedule").await, cursor, "nothing changed");

        self.locker.withdraw(self.term, &[name("leaderless")]).await.expect("an answer");
        let cursor = self.due_by("leaderless", leaderless).await;
        let run = self.tick_by(leaderless, "leaderless", cursor);
        let token = self.granted(&run).await;
        self.complete(&run, token).await;
    }

    pub(super) async fn a_batch_mixes_authorities(&self) {
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
        let authorities = [old, Authority::Any, Authority::Leaderless, Authority::Leaderless];
        let jobs = ["mixed-new", "mixed-any", "mixed-led", "mixed-newer"];
        self.enrol("mixed-led", "a schedule").await;
        let jobs: Vec<_> = jobs
            .into_iter()
            .zip(authorities)
            .map(|(job, authority)| {
                Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), authority)
            })
            .collect();
        let enrolled = self.locker.enrol(&jobs).await.expect("an answer");
        let [Enrolled::Deposed { .. }, Enrolled::Done { .. }, Enrolled::HasLeader, Enrolled::Done { .. }] =
            enrolled[..]
        else {
            panic!("{enrolled:?}")
        };
    }

    /// Needs no leader, and leaves none.
    pub(super) async fn once_a_term_is_over_its_mark_stops_nobody(&mut self, elector: &dyn Elector) {
        self.keep_leading().await;
        let cursor = self.due_job("was-led").await;
        elector.resign(self.term).await.expect("an answer");

        assert_eq!(self.advance_by(Authority::Leaderless, "was-led", cursor).await, Advanced::Done);
        let cursor = self.due_by("was-led", Authority::Leaderless).await;
        let run = self.tick_by(Authority::Leaderless, "was-led", cursor);
        let token = self.granted(&run).await;
        self.complete(&run, token).await;
        let Campaign::Won(grant) = elector.campaign(PATIENCE).await.expect("an answer") else {
            panic!("nobody leads");
        };
        self.term = grant.term;
        let cursor = just_after(cursor).instant();
        let advanced = self.advance_by(Authority::Leaderless, "was-led", cursor).await;
        assert_eq!(advanced, Advanced::Done, "the mark is that of a former term");
    }
}
