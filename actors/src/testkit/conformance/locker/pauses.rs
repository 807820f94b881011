//! Pauses, and the notifications of them.

use super::*;

/// The longest wait for a notification.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(10);

impl Suite {
    pub(super) async fn pause(&self, job: &str, pause: Option<&Pause>) -> bool {
        let changed = self.locker.pause(&[name(job)], pause).await.expect("an answer");
        changed == [true]
    }

    pub(super) async fn a_paused_job_runs_by_hand_alone(&self) {
        let pause = Pause::until_resumed().note("a note").by(By::new("alice").ok());
        for (job, lock_key) in [("paused", "paused"), ("paused-with-a-key", "a-key-of-a-paused-job")] {
            let cursor = self.due_job(job).await;
            assert!(self.pause(job, Some(&pause)).await);
            assert!(!self.pause(job, Some(&pause)).await, "paused alike already");

            for authority in [Authority::Term(self.term), Authority::Any] {
                let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(authority, job, cursor) };
                let verdict = self.claim(&tick).await;
                assert!(
                    matches!(&verdict, Verdict::Paused(known) if known.is_same_as(&pause)),
                    "{verdict:?}"
                );
            }
            let manual = self.manual(job, lock_key);
            let token = self.granted(&manual).await;
            self.complete(&manual, token).await;
            let bob = Pause { by: By::new("bob").ok(), ..pause.clone() };
            assert!(!self.pause(job, Some(&bob)).await, "whoever asks once more changes nothing");
            assert_eq!(self.advance_by(Authority::Term(self.term), job, cursor).await, Advanced::Done);
            assert_eq!(self.stored(job).await.pause, Some(pause.clone()));
            self.enrol(job, "another schedule").await;
            assert_eq!(self.stored(job).await.pause, Some(pause.clone()), "a changed schedule stays paused");

            assert!(self.pause(job, None).await);
            assert!(!self.pause(job, None).await, "resumed already");
            assert_eq!(self.stored(job).await.pause, None);
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

    pub(super) async fn a_pause_ends_by_itself(&self) {
        let cursor = self.due_job("paused-for-a-while").await;
        let until = |until| Pause { until: Some(until), note: None, by: None };
        let over = until(cursor - TimeDelta::seconds(1));
        assert!(!self.pause("paused-for-a-while", Some(&over)).await, "it is over before it begins");
        let short = until(just_after(cursor).instant() + TimeDelta::milliseconds(500));
        assert!(self.pause("paused-for-a-while", Some(&short)).await);
        let tick = self.tick_by(Authority::Term(self.term), "paused-for-a-while", cursor);
        assert_eq!(self.claim(&tick).await, Verdict::Paused(short));

        tokio::time::sleep(Duration::from_millis(520)).await;

        assert_eq!(self.stored("paused-for-a-while").await.pause, None);
        assert!(!self.pause("paused-for-a-while", None).await, "it has ended already");
        let token = self.granted(&tick).await;
        self.complete(&tick, token).await;
        let long = until(just_after(cursor).instant() + TimeDelta::hours(1));
        assert!(self.pause("paused-for-a-while", Some(&long)).await);
        assert!(self.pause("paused-for-a-while", Some(&over)).await, "what is over resumes");
        assert_eq!(self.stored("paused-for-a-while").await.pause, None);
    }

    pub(super) async fn a_job_is_paused_before_it_is_known(&self) {
        let pause = Pause { until: None, note: None, by: None };
        let jobs = [name("paused-early"), name("resumed-early")];
        assert_eq!(self.locker.pause(&jobs[..1], Some(&pause)).await.expect("an answer"), [true]);
        assert_eq!(self.locker.pause(&jobs, None).await.expect("an answer"), [true, false]);
        assert!(self.pause("paused-early", Some(&pause)).await);

        assert_eq!(self.stored("paused-early").await.pause, Some(pause.clone()));
        self.locker.withdraw(self.term, &jobs[..1]).await.expect("an answer");
        assert_eq!(self.stored("paused-early").await.pause, Some(pause), "it outlives the job");
    }

    /// The next notification of this session that satisfies a condition; others are skipped.
    pub(super) async fn notification(&self, is: impl Fn(&Notification) -> bool) -> Notification {
        let heard = async {
            loop {
                let notification = self.locker.next_notification(self.session).await;
                if is(&notification) {
                    return notification;
                }
            }
        };
        tokio::time::timeout(NOTIFIED_WITHIN, heard).await.expect("it is told")
    }

    /// As [`notification`](Self::notification), of a store that tells anything.
    pub(super) async fn is_told(&self, is: impl Fn(&Notification) -> bool) {
        if self.hears {
            self.notification(is).await;
        }
    }

    pub(super) async fn every_change_of_a_pause_is_told(&self) {
        let is_of = |job: &'static str| move |notification: &Notification| matches!(notification, Notification::PauseChanged { job: of, .. } if of.as_str() == job);
        let until = just_after(self.now + TimeDelta::hours(1)).instant();
        let pause = Pause {
            until: Some(until),
            note: Some("\"why\" and\nwhen".to_owned()),
            by: By::new("alice").ok(),
        };
        self.pause("told", Some(&pause)).await;
        let paused = self.notification(is_of("told")).await;
        self.pause("told", Some(&pause)).await;
        self.pause("told", None).await;
        let resumed = self.notification(is_of("told")).await;

        assert_eq!(paused, Notification::PauseChanged { job: name("told"), pause: Some(pause) });
        assert_eq!(resumed, Notification::PauseChanged { job: name("told"), pause: None });
        let again = tokio::time::timeout(Duration::from_millis(50), self.notification(is_of("told"))).await;
        assert!(again.is_err(), "no change is told once more: {again:?}");
        let former = self.locker.next_notification(Session(self.session.0.wrapping_add(1)));
        assert!(tokio::time::timeout(Duration::from_millis(50), former).await.is_err(), "another session's");
    }

    pub(super) async fn who_takes_a_key_by_force_has_its_holder_told(&self) {
        let held = self.manual("replaced", "a-key-to-replace");
        let token = self.granted(&held).await;
        let busy = Verdict::Busy { holder: Some(held.run), own: true };
        assert_eq!(self.claim(&self.manual("patient", "a-key-to-replace")).await, busy);
        let replace = || ClaimRequest { replace: true, ..self.manual("impatient", "a-key-to-replace") };
        let batch = [self.manual("patient", "a-key-to-replace"), replace(), replace()];

        let verdicts = self.locker.claim(&batch).await.expect("an answer");

        assert_eq!(verdicts, [busy.clone(), busy.clone(), busy]);
        let told = self.notification(|notification| matches!(notification, Notification::Stop { .. })).await;
        assert_eq!(told, Notification::Stop { run: held.run });
        self.complete(&held, token).await;
        let next = replace();
        let batch = [next.clone(), replace()];
        let verdicts = self.locker.claim(&batch).await.expect("an answer");
        let [Verdict::Granted { token, .. }, Verdict::Busy { .. }] = verdicts[..] else {
            panic!("{verdicts:?}")
        };
        let of_next = |notification: &Notification| matches!(notification, Notification::Stop { run } if *run == next.run);
        self.notification(of_next).await;
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
        let pause = Pause { until: None, note: None, by: None };

        let impatient = ClaimRequest { replace: true, ..self.manual("held-elsewhere", "held-elsewhere") };
        assert_eq!(self.claim(&impatient).await, Verdict::Busy { holder: Some(held.run), own: false });
        self.pause("paused-elsewhere", Some(&pause)).await;

        let paused = Notification::PauseChanged { job: name("paused-elsewhere"), pause: Some(pause) };
        let heard = async {
            [
                other.next_notification(session).await,
                other.next_notification(session).await,
                third.next_notification(of_third).await,
            ]
        };
        let heard = tokio::time::timeout(NOTIFIED_WITHIN, heard).await.expect("they are told");
        assert_eq!(
            heard,
            [Notification::Stop { run: held.run }, paused.clone(), paused],
            "each what concerns it"
        );
        assert_eq!(complete_on(&*other, &held, token).await, Completed::RECORDED);
        third.close().await;
        self.pause("paused-elsewhere", None).await;
        let after = tokio::time::timeout(Duration::from_millis(50), third.next_notification(of_third)).await;
        assert!(after.is_err(), "a session that is over hears nothing: {after:?}");
    }
}
