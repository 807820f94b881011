//! Enrolments, withdrawals, and what the leader schedules.

use super::*;

impl Suite {
    pub(super) async fn a_job_that_is_not_enrolled_is_unknown(&self) {
        for authority in [Authority::Term(self.term), Authority::Any, Authority::Leaderless] {
            let mut tick = self.tick("unknown", self.now, just_after(self.now));
            tick.tick = tick.tick.map(|tick| TickClaim { authority, ..tick });
            assert_eq!(self.claim(&tick).await, Verdict::Unknown, "{authority:?}");
        }
        assert_eq!(self.skip("unknown", self.now).await, Advanced::Unknown);
    }

    pub(super) async fn a_new_job_starts_at_its_creation_and_keeps_its_cursor(&self) {
        let cursor = self.enrol("new", "a").await;
        let off = (cursor - self.now).abs();
        assert!(off < TimeDelta::seconds(60), "a new job's cursor is its creation, not {off} away from it");
        assert_eq!(self.enrol("new", "a").await, cursor, "enrolling again changes nothing");
    }

    pub(super) async fn what_passes_on_the_way_takes_no_tick_from_a_new_job(&self) {
        let now = self.enrol("asked_now", "a").await;
        let enrol = async |job: &str, asked_at| {
            let identity = ScheduleIdentity::of_text("a");
            let enrolment = Enrolment::new(name(job), identity, Authority::Term(self.term));
            let enrolment = Enrolment { asked_at: Some(asked_at), ..enrolment };
            match self.locker.enrol(&[enrolment]).await.expect("an answer")[..] {
                [Enrolled::Done { cursor, .. }] => cursor,
                ref other => panic!("enrolling {job} was answered with {other:?}"),
            }
        };

        let asked_at = now - TimeDelta::seconds(2);
        let off = enrol("asked_before", asked_at).await - asked_at;
        assert!(
            off.abs() <= TimeDelta::milliseconds(1),
            "its ticks count from when it was asked, not {off} later"
        );
        let cursor = enrol("asked_long_before", now - TimeDelta::seconds(60)).await;
        assert!(cursor >= now - TimeDelta::milliseconds(5_001), "of five seconds at most");
        let cursor = enrol("asked_after", now + TimeDelta::seconds(60)).await;
        assert!(cursor >= now, "a clock that is ahead takes nothing");
    }

    pub(super) async fn a_changed_schedule_owes_ticks_from_the_change_on(&self) {
        let before = self.enrol("changed", "a").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let after = self.enrol("changed", "b").await;
        assert!(after > before, "a changed schedule resets the cursor to the change");
    }

    pub(super) async fn a_withdrawn_job_owes_nothing_and_its_cursor_never_goes_back(&self) {
        let before = self.due_job("withdrawn").await;
        let request = self.tick("withdrawn", before, just_after(before));
        self.locker.withdraw(self.term, &[name("withdrawn")]).await.expect("an answer");
        let verdict = self.claim(&request).await;
        assert_eq!(verdict, Verdict::Unknown, "a withdrawn job's tick is not granted");
        assert_eq!(self.skip("withdrawn", before).await, Advanced::Unknown, "nor is its cursor moved");
        let after = self.enrol("withdrawn", "a schedule").await;
        assert!(after > before, "a job that was withdrawn and comes back has ticks only from then on");
    }

    pub(super) async fn enrol_known_for(
        &self,
        job: &str,
        schedule: &str,
        known_for: Duration,
    ) -> DateTime<Utc> {
        let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text(schedule), Authority::Any);
        let enrolment = Enrolment { known_for, ..enrolment };
        match &self.locker.enrol(&[enrolment]).await.expect("an answer")[..] {
            [Enrolled::Done { cursor, .. }] => *cursor,
            other => panic!("enrolling {job} was answered with {other:?}"),
        }
    }

    pub(super) async fn a_new_or_changed_job_owes_ticks_since_its_node_holds_it(&self) {
        let (long, short) = (Duration::from_secs(3600), Duration::from_millis(10));
        let before = self.enrol("held-before", "a").await;
        let held = self.enrol_known_for("held", "a", long).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let changed = self.enrol_known_for("held", "b", short).await;
        let after = self.enrol("held-after", "a").await;

        assert!(held >= before - long && held <= after - long, "a new job, held for an hour: {held}");
        assert!(changed > before, "a changed one, held for 10 of the 30 ms since then: {changed}");
        assert!(changed <= after - short, "{changed}");
        assert_eq!(self.enrol_known_for("held", "b", long).await, changed, "nothing is new");
        assert_eq!(self.enrol_known_for("held", "c", long).await, changed, "the cursor never goes back");

        self.pause("held-and-paused", Some(&Pause { until: None, note: None, by: None })).await;
        let paused = self.enrol_known_for("held-and-paused", "a", long).await;
        assert!(paused <= self.enrol("held-after-all", "a").await - long, "a pause enrols nothing: {paused}");

        let ever =
            [("held-for-ever", Duration::MAX), ("held-beside", Duration::ZERO)].map(|(job, known_for)| {
                Enrolment {
                    known_for,
                    ..Enrolment::new(name(job), ScheduleIdentity::of_text("a"), Authority::Any)
                }
            });
        let enrolled = self.locker.enrol(&ever).await.expect("an answer");
        assert!(matches!(enrolled[..], [Enrolled::Done { .. }, Enrolled::Done { .. }]), "{enrolled:?}");
    }

    pub(super) async fn the_tick_that_a_job_owes_is_open_however_late_it_is_enrolled(&self) {
        let cursor = async |job: &str, schedule: &str, owes| {
            let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text(schedule), Authority::Any);
            match &self.locker.enrol(&[Enrolment { owes, ..enrolment }]).await.expect("an answer")[..] {
                [Enrolled::Done { cursor, .. }] => *cursor,
                other => panic!("enrolling {job} was answered with {other:?}"),
            }
        };
        let now = self.enrol("owes-nothing", "a").await.trunc_subsecs(3);
        let (owed, before) = (now - TimeDelta::days(3), TimeDelta::milliseconds(1));

        assert_eq!(cursor("owes", "a", Some(owed)).await, owed - before, "a new job");
        assert_eq!(cursor("owes", "a", Some(now)).await, owed - before, "nothing is new");
        assert_eq!(cursor("owes", "b", Some(now)).await, now - before, "a changed one");
        assert_eq!(cursor("owes", "c", Some(owed)).await, now - before, "the cursor never goes back");
        let far = cursor("owes-later", "a", Some(now + TimeDelta::days(3))).await;
        assert!(far < now + TimeDelta::minutes(5), "what is owed later takes nothing before it: {far}");
    }

    pub(super) async fn who_holds_a_job_all_the_time_goes_on_where_the_leader_left_it(&self) {
        let before = self.due_job("left-to-others").await;
        let request = self.tick("left-to-others", before, just_after(before));
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        self.locker.withdraw(self.term, &[name("left-to-others")]).await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(5)).await;

        let hour = Duration::from_secs(3600);
        let after = self.enrol_known_for("left-to-others", "a schedule", hour).await;

        assert_eq!(after, just_after(before).instant(), "its ticks count from then on");
    }

    pub(super) async fn everybody_is_told_what_the_leader_schedules(&self) {
        self.enrol("led", "a").await;
        self.enrol("left", "a").await;
        self.locker.withdraw(self.term, &[name("left")]).await.expect("an answer");
        let held = [("led", "a"), ("led", "b"), ("left", "a"), ("unknown", "a")];
        let held = held
            .map(|(job, schedule)| Inquiry { job: name(job), schedule: ScheduleIdentity::of_text(schedule) });

        let standings = self.locker.inquire(&held).await.expect("an answer");

        let not_held = LeaderView::NotScheduled;
        assert_eq!(standings, [LeaderView::Scheduled, LeaderView::OtherSchedule, not_held, not_held]);
    }

    pub(super) async fn without_a_leader_nothing_is_scheduled(&mut self, elector: &dyn Elector) {
        let cursor = self.enrol("leaderless", "a").await;
        let held = [Inquiry { job: name("leaderless"), schedule: ScheduleIdentity::of_text("a") }];
        elector.resign(self.term).await.expect("an answer");

        let standings = self.locker.inquire(&held).await.expect("an answer");

        assert_eq!(standings, [LeaderView::NoLeader]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.locker.withdraw(self.term, &[name("leaderless")]).await.expect("an answer");
        let stored = self.enrol_known_for("leaderless", "a", Duration::ZERO).await;
        assert_eq!(stored, cursor, "whose term is over withdraws nothing");
        let Campaign::Won(grant) = elector.campaign(PATIENCE).await.expect("an answer") else {
            panic!("nobody leads");
        };
        self.term = grant.term;
        let standings = self.locker.inquire(&held).await.expect("an answer");
        assert_eq!(
            standings,
            [LeaderView::NotScheduled],
            "what a former leader held is not the present one's"
        );
    }

    pub(super) async fn a_text_may_hold_any_character(&mut self) {
        // NUL, a control character, the replacement character, a quote, a line end, and what needs four
        // bytes.
        let odd = "a\0b \u{1} \u{fffd} ' \" \\ \n \u{1f916}";
        let first = self.enrol("odd", odd).await;
        assert_eq!(self.enrol("odd", odd).await, first, "the same text is the same schedule");
        let inquiry = Inquiry { job: name("odd"), schedule: ScheduleIdentity::of_text(odd) };
        let standing = self.locker.inquire(&[inquiry]).await.expect("an answer");
        assert_eq!(standing, [LeaderView::Scheduled]);

        let pause = Pause { until: None, note: Some(odd.to_owned()), by: None };
        let paused = self.locker.pause(&[name("odd")], Some(&pause)).await.expect("an answer");
        assert_eq!(paused, [true]);
        let enrolment =
            Enrolment::new(name("odd"), ScheduleIdentity::of_text(odd), Authority::Term(self.term));
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { stored, .. }] = &enrolled[..] else { panic!("{enrolled:?}") };
        let note = stored.pause.as_ref().and_then(|pause| pause.note.as_deref()).expect("it is paused");
        assert_eq!(storable(note), storable(odd), "NUL may have been replaced, and nothing else");
    }
}
