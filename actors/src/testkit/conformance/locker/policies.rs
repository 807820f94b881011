//! What every locker does for the policies of a job.

use super::*;

/// A net under every wait for news.
const NEWS_WITHIN: Duration = Duration::from_secs(10);

impl Suite {
    /// Those that need one node and a leader.
    pub(super) async fn policies(&mut self) {
        self.keep_leading().await;
        self.any_node_decides_by_the_cursor_without_a_term().await;
        self.keep_leading().await;
        self.an_enrolment_without_a_term_keeps_the_leaders_mark().await;
        self.keep_leading().await;
        self.while_the_leader_schedules_a_job_nobody_else_decides_its_ticks().await;
        self.keep_leading().await;
        self.a_batch_mixes_authorities().await;
        self.keep_leading().await;
        self.as_many_ticks_run_as_may().await;
        self.keep_leading().await;
        self.a_paused_job_runs_by_hand_alone().await;
        self.keep_leading().await;
        self.a_pause_ends_by_itself().await;
        self.keep_leading().await;
        self.a_job_is_paused_before_it_is_known().await;
        self.keep_leading().await;
        self.every_change_of_a_pause_is_told().await;
        self.keep_leading().await;
        self.who_takes_a_key_by_force_has_its_holder_told().await;
        self.keep_leading().await;
        self.failures_in_a_row_are_counted().await;
        self.keep_leading().await;
        self.too_many_failures_in_a_row_pause_the_job().await;
        self.keep_leading().await;
        self.a_job_may_go_on_from_the_end_of_its_run().await;
    }

    async fn enrol_by(&self, job: &str, schedule: &str, authority: Authority) -> Enrolled {
        self.enrol_as(Enrolment::new(name(job), ScheduleIdentity::of_text(schedule), authority)).await
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
        let asked = CursorMove { id: Uuid::new_v4(), job: name(job), expected, to, skips, authority };
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
        let held = ["marked", "unmarked"]
            .map(|job| Inquiry { job: name(job), schedule: ScheduleIdentity::of_text("a") });

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
            .map(|(job, authority)| {
                Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), authority)
            })
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
            let held = self.enrol_held_for(job, "another schedule", Duration::from_secs(3600)).await;
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
            let anew = ClaimRequest { key: self::key(lock_key), limit: Some(1), ..tick };
            let token = self.granted(&anew).await;
            self.complete(&anew, token).await;
        }
    }

    pub(super) async fn pause(&self, job: &str, pause: Option<&Pause>) -> bool {
        let changed = self.locker.pause(&[name(job)], pause).await.expect("an answer");
        changed == [true]
    }

    async fn kept(&self, job: &str) -> Kept {
        match self.enrol_by(job, "a schedule", Authority::Term(self.term)).await {
            Enrolled::Done { kept, .. } => *kept,
            other => panic!("enrolling {job} was answered with {other:?}"),
        }
    }

    async fn a_paused_job_runs_by_hand_alone(&self) {
        let pause = Pause { until: None, note: Some("a note".to_owned()) };
        for (job, lock_key) in [("paused", "paused"), ("paused-with-a-key", "a-key-of-a-paused-job")] {
            let cursor = self.due_job(job).await;
            assert!(self.pause(job, Some(&pause)).await);
            assert!(!self.pause(job, Some(&pause)).await, "paused alike already");

            for authority in [Authority::Term(self.term), Authority::Any] {
                let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(authority, job, cursor) };
                assert_eq!(self.claim(&tick).await, Verdict::Paused(pause.clone()));
            }
            let manual = self.manual(job, lock_key);
            let token = self.granted(&manual).await;
            self.complete(&manual, token).await;
            assert_eq!(self.advance_by(Authority::Term(self.term), job, cursor).await, Moved::Done);
            assert_eq!(self.kept(job).await.pause, Some(pause.clone()));
            self.enrol(job, "another schedule").await;
            assert_eq!(self.kept(job).await.pause, Some(pause.clone()), "a changed schedule stays paused");

            assert!(self.pause(job, None).await);
            assert!(!self.pause(job, None).await, "resumed already");
            assert_eq!(self.kept(job).await.pause, None);
            let cursor = self.due_job(job).await;
            let tick = self.tick_by(Authority::Term(self.term), job, cursor);
            let tick = ClaimRequest { key: key(lock_key), ..tick };
            let token = self.granted(&tick).await;
            self.complete(&tick, token).await;
        }
        let unpaused = self.due_job("not-paused").await;
        self.pause("a-key-that-is-a-job", Some(&pause)).await;
        let tick = self.tick_by(Authority::Any, "not-paused", unpaused);
        let tick = ClaimRequest { key: key("a-key-that-is-a-job"), ..tick };
        let token = self.granted(&tick).await;
        self.complete(&tick, token).await;
    }

    async fn a_pause_ends_by_itself(&self) {
        let cursor = self.due_job("paused-for-a-while").await;
        let until = |until| Pause { until: Some(until), note: None };
        let over = until(cursor - TimeDelta::seconds(1));
        assert!(!self.pause("paused-for-a-while", Some(&over)).await, "it is over before it begins");
        let short = until(just_after(cursor).instant() + TimeDelta::milliseconds(500));
        assert!(self.pause("paused-for-a-while", Some(&short)).await);
        let tick = self.tick_by(Authority::Term(self.term), "paused-for-a-while", cursor);
        assert_eq!(self.claim(&tick).await, Verdict::Paused(short));

        tokio::time::sleep(Duration::from_millis(520)).await;

        assert_eq!(self.kept("paused-for-a-while").await.pause, None);
        assert!(!self.pause("paused-for-a-while", None).await, "it has ended already");
        let token = self.granted(&tick).await;
        self.complete(&tick, token).await;
        let long = until(just_after(cursor).instant() + TimeDelta::hours(1));
        assert!(self.pause("paused-for-a-while", Some(&long)).await);
        assert!(self.pause("paused-for-a-while", Some(&over)).await, "what is over resumes");
        assert_eq!(self.kept("paused-for-a-while").await.pause, None);
    }

    async fn a_job_is_paused_before_it_is_known(&self) {
        let pause = Pause { until: None, note: None };
        let jobs = [name("paused-early"), name("resumed-early")];
        assert_eq!(self.locker.pause(&jobs[..1], Some(&pause)).await.expect("an answer"), [true]);
        assert_eq!(self.locker.pause(&jobs, None).await.expect("an answer"), [true, false]);
        assert!(self.pause("paused-early", Some(&pause)).await);

        assert_eq!(self.kept("paused-early").await.pause, Some(pause.clone()));
        self.locker.withdraw(self.term, &jobs[..1]).await.expect("an answer");
        assert_eq!(self.kept("paused-early").await.pause, Some(pause), "it outlives the job");
    }

    /// The news of this session that satisfy a condition; others are let pass.
    async fn news(&self, is: impl Fn(&News) -> bool) -> News {
        let heard = async {
            loop {
                let news = self.locker.news(self.session).await;
                if is(&news) {
                    return news;
                }
            }
        };
        tokio::time::timeout(NEWS_WITHIN, heard).await.expect("it is told")
    }

    async fn every_change_of_a_pause_is_told(&self) {
        let is_of = |job: &'static str| move |news: &News| matches!(news, News::Pause { job: of, .. } if of.as_str() == job);
        let until = just_after(self.now + TimeDelta::hours(1)).instant();
        let pause = Pause { until: Some(until), note: Some("\"why\" and\nwhen".to_owned()) };
        self.pause("told", Some(&pause)).await;
        let paused = self.news(is_of("told")).await;
        self.pause("told", Some(&pause)).await;
        self.pause("told", None).await;
        let resumed = self.news(is_of("told")).await;

        assert_eq!(paused, News::Pause { job: name("told"), pause: Some(pause) });
        assert_eq!(resumed, News::Pause { job: name("told"), pause: None });
        let again = tokio::time::timeout(Duration::from_millis(50), self.news(is_of("told"))).await;
        assert!(again.is_err(), "no change is told once more: {again:?}");
        let former = self.locker.news(Session(self.session.0.wrapping_add(1)));
        assert!(tokio::time::timeout(Duration::from_millis(50), former).await.is_err(), "another session's");
    }

    async fn who_takes_a_key_by_force_has_its_holder_told(&self) {
        let held = self.manual("replaced", "a-key-to-replace");
        let token = self.granted(&held).await;
        let busy = Verdict::Busy { holder: Some(held.run) };
        assert_eq!(self.claim(&self.manual("patient", "a-key-to-replace")).await, busy);
        let replace = || ClaimRequest { replace: true, ..self.manual("impatient", "a-key-to-replace") };
        let batch = [self.manual("patient", "a-key-to-replace"), replace(), replace()];

        let verdicts = self.locker.claim(&batch).await.expect("an answer");

        assert_eq!(verdicts, [busy.clone(), busy.clone(), busy]);
        let told = self.news(|news| matches!(news, News::Stop { .. })).await;
        assert_eq!(told, News::Stop { run: held.run });
        self.complete(&held, token).await;
        let next = replace();
        let batch = [next.clone(), replace()];
        let verdicts = self.locker.claim(&batch).await.expect("an answer");
        let [Verdict::Granted { token, .. }, Verdict::Busy { .. }] = verdicts[..] else {
            panic!("{verdicts:?}")
        };
        let of_next = |news: &News| matches!(news, News::Stop { run } if *run == next.run);
        self.news(of_next).await;
        self.complete(&next, token).await;
    }

    pub(super) async fn other_nodes_hear_of_pauses_and_of_who_wants_their_keys(
        &self,
        cluster: &mut impl Cluster,
    ) {
        let (_, other) = another(cluster).await;
        let (_, third) = another(cluster).await;
        let [session, of_third] =
            [other.open().await, third.open().await].map(|session| session.expect("a session opens"));
        let held = self.manual("held-elsewhere", "held-elsewhere");
        let Verdict::Granted { token, .. } = claim_on(&*other, &held).await else { panic!("not granted") };
        let pause = Pause { until: None, note: None };

        let impatient = ClaimRequest { replace: true, ..self.manual("held-elsewhere", "held-elsewhere") };
        assert_eq!(self.claim(&impatient).await, Verdict::Busy { holder: Some(held.run) });
        self.pause("paused-elsewhere", Some(&pause)).await;

        let paused = News::Pause { job: name("paused-elsewhere"), pause: Some(pause) };
        let heard =
            async { [other.news(session).await, other.news(session).await, third.news(of_third).await] };
        let heard = tokio::time::timeout(NEWS_WITHIN, heard).await.expect("they are told");
        assert_eq!(heard, [News::Stop { run: held.run }, paused.clone(), paused], "each what concerns it");
        assert_eq!(complete_on(&*other, &held, token).await, Completed::RECORDED);
        third.close().await;
        self.pause("paused-elsewhere", None).await;
        let after = tokio::time::timeout(Duration::from_millis(50), third.news(of_third)).await;
        assert!(after.is_err(), "a session that is over hears nothing: {after:?}");
    }

    /// Runs a job once, by hand.
    async fn run_by_hand(
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

    async fn ended(&self, end: &Completion) -> Completed {
        let mut answers = self.locker.complete(std::slice::from_ref(end)).await.expect("an answer");
        answers.pop().expect("one answer per completion")
    }

    async fn failures_in_a_row_are_counted(&self) {
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
                assert_eq!(self.kept(job).await.failures, failures, "{job} after {outcome:?}");
            }
            self.locker.withdraw(self.term, &[name(job)]).await.expect("an answer");
            assert_eq!(self.kept(job).await.failures, 0, "it begins anew");
        }
        let unknown = self.run_by_hand("failing-unknown", "a-key-of-its-own", Outcome::Failed, Some(1)).await;
        assert_eq!(self.ended(&unknown).await, Completed::RECORDED, "a job that was never enrolled");
        let unknown = self.run_by_hand("failing-unknown", "failing-unknown", Outcome::Failed, Some(1)).await;
        assert_eq!(self.ended(&unknown).await, Completed::RECORDED);
        assert_eq!(self.kept("failing-unknown").await, Kept::default());
    }

    async fn too_many_failures_in_a_row_pause_the_job(&self) {
        for (job, lock_key) in [("broken", "broken"), ("broken-with-a-key", "a-key-of-a-broken-job")] {
            let cursor = self.due_job(job).await;
            let fail = async || self.run_by_hand(job, lock_key, Outcome::Failed, Some(2)).await;
            let a_while = Some(just_after(cursor).instant() + TimeDelta::hours(1));
            self.pause(job, Some(&Pause { until: a_while, note: None })).await;
            assert_eq!(self.ended(&fail().await).await, Completed::RECORDED);
            let last = fail().await;

            let answer = self.ended(&last).await;

            let note = Some("runs that failed in a row: 2".to_owned());
            let pause = Pause { until: None, note };
            assert_eq!(answer, Completed::Recorded { cursor: None, pause: Some(pause.clone()) });
            assert_eq!(self.ended(&last).await, answer, "recorded before");
            let told = News::Pause { job: name(job), pause: Some(pause.clone()) };
            self.news(|news| *news == told).await;
            let kept = Kept { pause: Some(pause.clone()), failures: 2, owed: Vec::new() };
            assert_eq!(self.kept(job).await, kept);
            let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(Authority::Any, job, cursor) };
            assert_eq!(self.claim(&tick).await, Verdict::Paused(pause));
            assert_eq!(self.ended(&fail().await).await, Completed::RECORDED, "it is paused already");

            self.pause(job, None).await;
            assert_eq!(self.kept(job).await, Kept::default(), "resumed, it begins anew");
            assert_eq!(self.ended(&fail().await).await, Completed::RECORDED);
        }
    }

    async fn a_job_may_go_on_from_the_end_of_its_run(&self) {
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
            assert_eq!(self.claim(&skipped).await, Verdict::Moved { cursor: anchor });
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

    /// Runs of dead nodes.
    pub(super) async fn lost_runs(&mut self, cluster: &mut impl Cluster) {
        self.keep_leading().await;
        self.a_lost_run_is_owed_taken_up_once_and_counted(cluster).await;
        self.keep_leading().await;
        self.a_lost_run_is_owed_however_it_is_closed(cluster).await;
        self.keep_leading().await;
        self.only_the_run_that_is_owed_settles_it(cluster).await;
        self.keep_leading().await;
        self.a_run_that_was_closed_is_granted_again_only_as_a_debt(cluster).await;
        self.keep_leading().await;
        self.a_job_owes_each_run_that_was_lost(cluster).await;
        self.keep_leading().await;
        self.a_run_that_was_lost_too_often_is_owed_no_more(cluster).await;
        self.keep_leading().await;
        self.a_job_that_is_withdrawn_or_records_its_lost_runs_owes_none(cluster).await;
        self.keep_leading().await;
        self.a_lost_run_moves_the_cursor_of_a_job_that_goes_on_from_its_end(cluster).await;
        self.keep_leading().await;
        self.runs_of_one_job_that_are_lost_together_are_all_closed(cluster).await;
    }

    fn retried(&self, job: &str) -> Enrolment {
        Enrolment {
            retry_lost: true,
            ..Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any)
        }
    }

    async fn kept_as(&self, enrolment: &Enrolment) -> Kept {
        match self.enrol_as(enrolment.clone()).await {
            Enrolled::Done { kept, .. } => *kept,
            other => panic!("{enrolment:?} was answered with {other:?}"),
        }
    }

    /// A run of a tick that another node was granted before it died.
    async fn dies_with(
        &mut self,
        cluster: &mut impl Cluster,
        enrolment: &Enrolment,
        lock_key: &str,
    ) -> ClaimRequest {
        let Enrolled::Done { cursor, .. } = self.enrol_as(enrolment.clone()).await else {
            panic!("not enrolled")
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let tick = self.tick_by(Authority::Any, enrolment.job.as_str(), cursor);
        let tick = ClaimRequest { key: key(lock_key), ..tick };
        self.another_dies_with(cluster, &tick).await;
        tick
    }

    async fn another_dies_with(&mut self, cluster: &mut impl Cluster, request: &ClaimRequest) {
        let backend = match &self.victim {
            Some(victim) => victim.clone(),
            None => cluster.node().await,
        };
        let owner = backend.locker();
        owner.open().await.expect("a session opens");
        let verdict = claim_on(&*owner, request).await;
        assert!(matches!(verdict, Verdict::Granted { .. }), "{request:?} was answered with {verdict:?}");
        cluster.kill(&backend).await;
        self.victim = Some(backend);
    }

    async fn closed(&self) -> Vec<LostRun> {
        self.locker.close_lost(100).await.expect("an answer").lost
    }

    fn retake(&self, lost: &ClaimRequest) -> ClaimRequest {
        ClaimRequest { tick: None, retake: true, ..lost.clone() }
    }

    async fn a_lost_run_is_owed_taken_up_once_and_counted(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("owing", "owing"), ("owing-with-a-key", "a-key-of-an-owing-job")] {
            let enrolment = self.retried(job);
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            let (run, fire_time) = (lost.run, lost.tick.map(|tick| tick.fire_time));
            let early = self.claim(&self.retake(&lost)).await;
            assert_eq!(early, Verdict::NotGranted, "nobody has closed it yet");

            let owed = OwedRun { run, fire_time, losses: 1 };
            let closed = LostRun { job: name(job), run, fire_time, owed: Some(owed) };
            assert_eq!(self.closed().await, [closed]);
            assert_eq!(self.kept_as(&enrolment).await.owed, [owed]);
            self.news(|news| *news == News::Owed(Debt { job: name(job), owed })).await;

            let another_run = ClaimRequest { run: self.run(), ..self.retake(&lost) };
            assert_eq!(self.claim(&another_run).await, Verdict::NotGranted);
            let another_job = ClaimRequest { job: name("owes-nothing"), ..self.retake(&lost) };
            assert_eq!(self.claim(&another_job).await, Verdict::NotGranted);
            let holder = self.manual(job, lock_key);
            let (backend, other) = another(cluster).await;
            let Verdict::Granted { .. } = claim_on(&*other, &holder).await else { panic!("not granted") };
            let busy = self.claim(&self.retake(&lost)).await;
            assert_eq!(busy, Verdict::Busy { holder: Some(holder.run) });
            cluster.kill(&backend).await;
            let verdict = self.claim(&self.retake(&lost)).await;
            let Verdict::Granted { token, lost: Some(robbed) } = verdict else { panic!("{verdict:?}") };
            assert_eq!(robbed.run, holder.run);
            self.complete(&lost, token).await;
            let token = self.granted(&self.retake(&holder)).await;
            self.complete(&holder, token).await;

            let second = self.dies_with(cluster, &enrolment, lock_key).await;
            let (run, fire_time) = (second.run, second.tick.map(|tick| tick.fire_time));
            self.closed().await;
            self.another_dies_with(cluster, &self.retake(&second)).await;
            let taken = self.kept_as(&enrolment).await;
            assert_eq!(taken.owed, [], "it was taken up, and nobody has closed it since");
            let owed = Some(OwedRun { run, fire_time, losses: 2 });
            assert_eq!(self.closed().await, [LostRun { job: name(job), run, fire_time, owed }]);
            let request = self.retake(&second);
            let token = self.granted(&request).await;
            assert_eq!(self.granted(&request).await, token, "asked again");
            assert_eq!(self.granted(&ClaimRequest { settle: true, ..request.clone() }).await, token);
            let (_, third) = another(cluster).await;
            assert_eq!(claim_on(&*third, &request).await, Verdict::NotGranted, "one node takes it up");
            assert_eq!(self.complete(&request, token).await, Completed::RECORDED);
            assert_eq!(self.claim(&request).await, Verdict::NotGranted, "it has ended");
            assert_eq!(self.kept_as(&enrolment).await.owed, []);
            let third = self.dies_with(cluster, &enrolment, lock_key).await;
            let closed = self.closed().await;
            let losses: Vec<_> = closed.iter().map(|lost| lost.owed.map(|owed| owed.losses)).collect();
            assert_eq!(losses, [Some(1)], "another run counts anew");
            let token = self.granted(&self.retake(&third)).await;
            self.complete(&third, token).await;
        }
    }

    async fn a_lost_run_is_owed_however_it_is_closed(&mut self, cluster: &mut impl Cluster) {
        let jobs = [
            ("robbed-own", "robbed-own"),
            ("robbed-key", "a-key-robbed"),
            ("robbed-job", "robbed-other-job"),
        ];
        self.enrol("robbed-other-job", "a schedule").await;
        for (job, lock_key) in jobs {
            let enrolment = self.retried(job);
            // By hand, by a job that shares the key, by a tick of such a job, by the job's own next tick.
            for thief in 0..4 {
                let lost = self.dies_with(cluster, &enrolment, lock_key).await;
                let by_any = |job: &str, cursor| self.tick_by(Authority::Any, job, cursor);
                let request = match thief {
                    0 => self.manual(job, lock_key),
                    1 => self.manual("robber-by-hand", lock_key),
                    2 => {
                        let cursor = self.due_by("robber", Authority::Any).await;
                        by_any("robber", cursor)
                    }
                    _ => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        by_any(job, lost.tick.expect("a tick").fire_time.instant())
                    }
                };
                let request = ClaimRequest { key: key(lock_key), ..request };

                let verdict = self.claim(&request).await;

                let (run, fire_time) = (lost.run, lost.tick.map(|tick| tick.fire_time));
                let owed = OwedRun { run, fire_time, losses: 1 };
                let expected = LostRun { job: name(job), run, fire_time, owed: Some(owed) };
                let Verdict::Granted { token, lost: Some(robbed) } = verdict else { panic!("{verdict:?}") };
                assert_eq!(*robbed, expected, "thief {thief}");
                let debt = News::Owed(Debt { job: name(job), owed });
                self.news(|news| *news == debt).await;
                self.complete(&request, token).await;
                assert_eq!(self.kept_as(&enrolment).await.owed, [owed], "thief {thief}");
                let token = self.granted(&self.retake(&lost)).await;
                self.complete(&lost, token).await;
            }
        }
    }

    async fn only_the_run_that_is_owed_settles_it(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("settled-own", "settled-own"), ("settled-by-key", "a-key-that-settles")] {
            let enrolment = self.retried(job);
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            self.closed().await;
            let owed = OwedRun { run: lost.run, fire_time: lost.tick.map(|tick| tick.fire_time), losses: 1 };

            for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled] {
                let end = self.run_by_hand(job, lock_key, outcome, None).await;
                self.ended(&end).await;
                let end = self.run_by_hand(job, "a-key-of-another-slot", outcome, Some(100)).await;
                self.ended(&end).await;
            }
            let Enrolled::Done { cursor, kept } = self.enrol_as(enrolment.clone()).await else {
                panic!("not enrolled")
            };
            assert_eq!(kept.owed, [owed], "other runs of the job do not settle it");
            let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(Authority::Any, job, cursor) };
            let token = self.granted(&tick).await;
            self.complete(&tick, token).await;
            let changed =
                Enrolment { schedule: ScheduleIdentity::of_text("another schedule"), ..enrolment.clone() };
            assert_eq!(self.kept_as(&changed).await.owed, [owed], "nor does a changed schedule");

            let token = self.granted(&self.retake(&lost)).await;
            assert_eq!(self.kept_as(&enrolment).await.owed, [], "it is settled when it is taken up");
            assert_eq!(self.complete(&lost, token).await, Completed::RECORDED);
            assert_eq!(self.claim(&self.retake(&lost)).await, Verdict::NotGranted);
        }
    }

    async fn a_run_that_was_closed_is_granted_again_only_as_a_debt(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("asked-again", "asked-again"), ("asked-again-by-key", "a-key-asked-again")] {
            self.kept_as(&self.retried(job)).await;
            let lost = self.manual(job, lock_key);
            self.another_dies_with(cluster, &lost).await;
            // Its own slot, another one, and with a holder that is to stop.
            let slot = ClaimRequest { key: key(&format!("{lock_key}-slot")), ..lost.clone() };
            let by_force = ClaimRequest { replace: true, ..lost.clone() };
            let plain = [lost.clone(), slot, by_force];
            assert_eq!(self.claim(&lost).await, Verdict::GrantedBefore, "nobody has closed it yet");
            assert_eq!(self.closed().await.len(), 1);
            for request in &plain {
                assert_eq!(self.claim(request).await, Verdict::GrantedBefore, "it is owed: {request:?}");
            }

            let (_, other) = another(cluster).await;
            let Verdict::Granted { token, .. } = claim_on(&*other, &self.retake(&lost)).await else {
                panic!("it is owed")
            };
            for request in &plain {
                assert_eq!(self.claim(request).await, Verdict::GrantedBefore, "it goes on: {request:?}");
            }
            assert_eq!(complete_on(&*other, &lost, token).await, Completed::RECORDED);
            for request in &plain {
                assert_eq!(self.claim(request).await, Verdict::GrantedBefore, "it has ended: {request:?}");
            }
        }
    }

    async fn a_job_owes_each_run_that_was_lost(&mut self, cluster: &mut impl Cluster) {
        let enrolment = self.retried("owing-each");
        let mut lost = Vec::new();
        for _ in 0..3 {
            lost.push(self.dies_with(cluster, &enrolment, "owing-each").await);
            self.closed().await;
        }
        let owed: Vec<_> = lost
            .iter()
            .map(|lost| OwedRun { run: lost.run, fire_time: lost.tick.map(|tick| tick.fire_time), losses: 1 })
            .collect();
        assert_eq!(self.kept_as(&enrolment).await.owed, owed, "in the order of the runs");
        let of_job = |debts: Vec<Debt>| -> Vec<OwedRun> {
            let debts = debts.into_iter().filter(|debt| debt.job.as_str() == "owing-each");
            debts.map(|debt| debt.owed).collect()
        };
        let debts = self.locker.debts(None, 100).await.expect("an answer");
        assert!(debts.is_sorted_by_key(|debt| debt.owed.run), "{debts:?}");
        assert_eq!(of_job(debts), owed);
        let next = self.locker.debts(Some(owed[0].run), 1).await.expect("an answer");
        assert_eq!(of_job(next), owed[1..2], "a page of those after a run");
        assert_eq!(self.locker.debts(Some(owed[2].run), 100).await.expect("an answer"), []);

        for at in [1, 0, 2] {
            let retake = ClaimRequest { key: key(&format!("a-slot-{at}")), ..self.retake(&lost[at]) };
            let token = self.granted(&retake).await;
            self.complete(&retake, token).await;
        }

        assert_eq!(self.kept_as(&enrolment).await.owed, []);
    }

    async fn a_run_that_was_lost_too_often_is_owed_no_more(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("killing", "killing"), ("killing-by-key", "a-key-of-a-killer")] {
            let enrolment = self.retried(job);
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            for losses in 1..LOSSES_MAX {
                let closed = self.closed().await;
                let [LostRun { owed: Some(owed), .. }] = closed[..] else { panic!("{closed:?}") };
                assert_eq!((owed.run, owed.losses), (lost.run, losses));
                self.another_dies_with(cluster, &self.retake(&lost)).await;
            }

            assert_eq!(self.closed().await[0].owed, None);
            assert_eq!(self.kept_as(&enrolment).await.owed, []);
            assert_eq!(self.claim(&self.retake(&lost)).await, Verdict::NotGranted);
        }
    }

    async fn a_job_that_is_withdrawn_or_records_its_lost_runs_owes_none(
        &mut self,
        cluster: &mut impl Cluster,
    ) {
        let recorded = Enrolment { retry_lost: false, ..self.retried("recorded") };
        let lost = self.dies_with(cluster, &recorded, "recorded").await;
        assert_eq!(self.closed().await[0].owed, None);
        assert_eq!(self.claim(&self.retake(&lost)).await, Verdict::NotGranted);

        let retried = self.retried("no-longer-retried");
        let lost = self.dies_with(cluster, &retried, "no-longer-retried").await;
        self.closed().await;
        let recorded = Enrolment { retry_lost: false, ..retried.clone() };
        assert_eq!(self.kept_as(&recorded).await.owed, []);
        assert_eq!(self.claim(&self.retake(&lost)).await, Verdict::NotGranted);
        assert_eq!(self.kept_as(&retried).await.owed, [], "it is forgiven");

        let withdrawn = self.retried("withdrawn-owing");
        let lost = self.dies_with(cluster, &withdrawn, "withdrawn-owing").await;
        self.closed().await;
        self.locker.withdraw(self.term, &[name("withdrawn-owing")]).await.expect("an answer");
        assert_eq!(self.claim(&self.retake(&lost)).await, Verdict::NotGranted);
        assert_eq!(self.kept_as(&withdrawn).await.owed, []);

        let lost = self.dies_with(cluster, &withdrawn, "withdrawn-owing").await;
        self.locker.withdraw(self.term, &[name("withdrawn-owing")]).await.expect("an answer");
        assert_eq!(self.closed().await[0].owed, None, "withdrawn before it was closed");
        assert_eq!(self.claim(&self.retake(&lost)).await, Verdict::NotGranted);
    }

    async fn a_lost_run_moves_the_cursor_of_a_job_that_goes_on_from_its_end(
        &mut self,
        cluster: &mut impl Cluster,
    ) {
        let jobs = [("lost-from-end", "lost-from-end"), ("lost-from-end-by-key", "a-key-lost-from-end")];
        for (job, lock_key) in jobs {
            let enrolment =
                Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any);
            let enrolment = Enrolment { from_completion: true, ..enrolment };
            for by_thief in [false, true] {
                let lost = self.dies_with(cluster, &enrolment, lock_key).await;
                let fire_time = lost.tick.expect("a tick").fire_time.instant();
                tokio::time::sleep(Duration::from_millis(20)).await;
                if by_thief {
                    let thief = self.manual("thief-from-end", lock_key);
                    let token = self.granted(&thief).await;
                    self.complete(&thief, token).await;
                } else {
                    assert_eq!(self.closed().await.len(), 1);
                }

                let enrolled = self.enrol_as(enrolment.clone()).await;
                let Enrolled::Done { cursor, .. } = enrolled else { panic!("{enrolled:?}") };
                assert!(cursor >= fire_time + TimeDelta::milliseconds(20), "{cursor} after {fire_time}");
                assert_eq!(FireTime::new(cursor).instant(), cursor, "whole milliseconds");
            }
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let next = self.tick_by(Authority::Any, job, lost.tick.expect("a tick").fire_time.instant());
            let next = ClaimRequest { key: key(lock_key), ..next };
            let token = self.granted(&next).await;
            let Enrolled::Done { cursor, .. } = self.enrol_as(enrolment.clone()).await else {
                panic!("enrolled")
            };
            assert_eq!(cursor, next.tick.expect("a tick").fire_time.instant(), "its own next tick decides");
            self.complete(&next, token).await;
        }
    }

    async fn runs_of_one_job_that_are_lost_together_are_all_closed(&self, cluster: &mut impl Cluster) {
        let enrolment = self.retried("lost-together");
        self.enrol_as(enrolment.clone()).await;
        let (backend, owner) = another(cluster).await;
        let keys = ["lost-together", "a-key-lost-together", "another-key-lost-together"];
        let mut expected = Vec::new();
        let mut granted = Vec::new();
        for lock_key in keys {
            let manual = self.manual("lost-together", lock_key);
            let verdict = claim_on(&*owner, &manual).await;
            let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
            expected.push(manual.run);
            granted.push((manual, token));
        }
        cluster.kill(&backend).await;

        let mut closed = self.closed().await;

        closed.sort_by_key(|lost| lost.run);
        assert_eq!(closed.iter().map(|lost| lost.run).collect::<Vec<_>>(), expected);
        assert!(closed.iter().all(|lost| lost.owed.is_some_and(|owed| owed.losses == 1)), "{closed:?}");
        let owed: Vec<_> = self.kept_as(&enrolment).await.owed.iter().map(|owed| owed.run).collect();
        assert_eq!(owed, expected, "each of them is owed");
        for (nth, (run, former)) in granted.iter().enumerate() {
            let slot = format!("a-key-never-claimed-{nth}");
            let again = ClaimRequest { key: key(&slot), ..self.retake(run) };
            let token = self.granted(&again).await;
            assert!(token > *former, "{token:?} after {former:?}, under another key");
            self.complete(&again, token).await;
        }
    }

    /// Needs no leader, and leaves none.
    pub(super) async fn once_a_term_is_over_its_mark_stops_nobody(&mut self, elector: &dyn Elector) {
        self.keep_leading().await;
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
