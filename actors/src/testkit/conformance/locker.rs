//! What every locker does.

mod forgetting;
mod identities;
mod keys;
mod policies;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Cluster;
use crate::{
    core::{
        policy::{LOSSES_MAX, Overlap},
        storable::storable,
        time::FireTime,
    },
    event::Outcome,
    name::{FencingToken, JobName, LockKey, NodeId, RunId, RunIds, Term},
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, CursorMove, Debt, Declaration,
        Elector, Enrolled, Enrolment, Inquiry, Kept, Locker, LostRun, Moved, News, OwedRun, Pause, Renewal,
        ScheduleIdentity, Session, SkipReason, Skips, Standing, TickClaim, Verdict,
    },
};

/// Checks a locker: cursors that only move forward, one run per tick and per key, tokens that grow, terms and times that
/// are checked, and what becomes of the keys of a dead session.
///
/// # Panics
///
/// If a check fails.
pub async fn locker(cluster: &mut impl Cluster) {
    let now = cluster.now();
    let backend = cluster.node().await;
    let locker = backend.locker();
    let session = locker.open().await.expect("a session opens");
    let Campaign::Won(grant) = backend.elector().campaign().await.expect("an answer") else {
        panic!("the first node of an empty store leads");
    };
    let elector = backend.elector();
    let mut suite = Suite {
        locker,
        elector,
        victim: None,
        session,
        term: grant.term,
        ids: RunIds::of(NodeId::random()),
        now,
    };

    suite.a_new_job_starts_at_its_creation_and_keeps_its_cursor().await;
    suite.a_changed_schedule_owes_ticks_from_the_change_on().await;
    suite.a_withdrawn_job_owes_nothing_and_its_cursor_never_goes_back().await;
    suite.a_new_or_changed_job_owes_ticks_since_its_node_holds_it().await;
    suite.who_holds_a_job_all_the_time_goes_on_where_the_leader_left_it().await;
    suite.everybody_is_told_what_the_leader_schedules().await;
    suite.a_claim_takes_its_tick_once().await;
    suite.a_claim_from_the_wrong_cursor_is_told_the_right_one().await;
    suite.a_tick_that_is_not_due_must_wait().await;
    suite.an_old_term_decides_nothing().await;
    suite.what_passes_on_the_way_takes_no_tick_from_a_new_job().await;
    suite.the_same_run_is_granted_again().await;
    suite.settling_takes_nothing().await;
    suite.a_held_key_is_busy_until_the_completion().await;
    suite.a_manual_run_needs_no_term_and_moves_no_cursor().await;
    suite.in_a_batch_one_job_and_one_key_are_granted_once().await;
    suite.a_bad_request_fails_alone().await;
    suite.a_key_freed_in_a_round_can_be_claimed_in_it().await;
    suite.a_completion_needs_the_token_and_may_be_repeated().await;
    suite.a_job_that_is_not_enrolled_is_unknown().await;
    suite.a_token_is_not_below_the_time().await;
    suite.a_released_end_frees_its_key_and_can_be_told_again().await;
    suite.a_text_may_hold_any_character().await;
    suite.skips_move_the_cursor_by_compare_and_set().await;
    suite.a_skip_cannot_reopen_a_tick().await;
    suite.a_tick_that_is_not_due_cannot_be_skipped().await;
    suite.identities().await;
    suite.policies().await;
    suite.once_a_term_is_over_its_mark_stops_nobody(&*backend.elector()).await;
    suite.without_a_leader_nothing_is_scheduled(&*backend.elector()).await;
    if cluster.nodes_max() > 1 {
        suite.lost_runs(cluster).await;
    }
    suite.forgetting(cluster.nodes_max() > 1).await;
    suite.closing_a_session_frees_what_it_holds().await;
    if cluster.nodes_max() > 1 {
        suite.policies_of_keys(cluster).await;
        suite.other_nodes_hear_of_pauses_and_of_who_wants_their_keys(cluster).await;
        suite.a_live_owner_is_not_robbed(cluster).await;
        suite.a_dead_owner_is_robbed_once_and_its_completion_refused(cluster).await;
        suite.open_runs_of_the_dead_are_closed_once(cluster).await;
    }
}

struct Suite {
    locker: Arc<dyn Locker>,
    elector: Arc<dyn Elector>,
    /// A node that dies again and again.
    victim: Option<Arc<dyn Backend>>,
    /// The one that was opened first.
    session: Session,
    term: Term,
    ids: RunIds,
    now: DateTime<Utc>,
}

impl Suite {
    /// A suite takes longer than a lease.
    async fn keep_leading(&mut self) {
        if let Ok(Renewal::Renewed) = self.elector.renew(self.term).await {
            return;
        }
        let Campaign::Won(grant) = self.elector.campaign().await.expect("an answer") else {
            panic!("nobody else leads");
        };
        self.term = grant.term;
    }

    fn run(&self) -> RunId {
        self.ids.next(self.now)
    }

    async fn enrol(&self, job: &str, schedule: &str) -> DateTime<Utc> {
        let enrolment =
            Enrolment::new(name(job), ScheduleIdentity::of_text(schedule), Authority::Term(self.term));
        match &self.locker.enrol(&[enrolment]).await.expect("an answer")[..] {
            [Enrolled::Done { cursor, .. }] => *cursor,
            other => panic!("enrolling {job} was answered with {other:?}"),
        }
    }

    /// A new job, some of whose ticks are due: those between its creation and the end of a short wait.
    async fn due_job(&self, job: &str) -> DateTime<Utc> {
        let cursor = self.enrol(job, "a schedule").await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        cursor
    }

    fn tick(&self, job: &str, expected: DateTime<Utc>, fire_time: FireTime) -> ClaimRequest {
        let skips = Skips::default();
        let tick = TickClaim { fire_time, expected, skips, authority: Authority::Term(self.term) };
        ClaimRequest { tick: Some(tick), ..ClaimRequest::new(name(job), key(job), self.run()) }
    }

    fn manual(&self, job: &str, lock_key: &str) -> ClaimRequest {
        ClaimRequest::new(name(job), key(lock_key), self.run())
    }

    async fn claim(&self, request: &ClaimRequest) -> Verdict {
        claim_on(&*self.locker, request).await
    }

    async fn granted(&self, request: &ClaimRequest) -> FencingToken {
        match self.claim(request).await {
            Verdict::Granted { token, .. } => token,
            other => panic!("{request:?} was answered with {other:?}"),
        }
    }

    async fn complete(&self, request: &ClaimRequest, token: FencingToken) -> Completed {
        complete_on(&*self.locker, request, token).await
    }

    async fn a_job_that_is_not_enrolled_is_unknown(&self) {
        for authority in [Authority::Term(self.term), Authority::Any, Authority::Unled] {
            let mut tick = self.tick("unknown", self.now, just_after(self.now));
            tick.tick = tick.tick.map(|tick| TickClaim { authority, ..tick });
            assert_eq!(self.claim(&tick).await, Verdict::Unknown, "{authority:?}");
        }
        assert_eq!(self.skip("unknown", self.now).await, Moved::Unknown);
    }

    /// A move of a cursor over one tick.
    async fn skip(&self, job: &str, expected: DateTime<Utc>) -> Moved {
        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let (job, to, authority) = (name(job), just_after(expected), Authority::Term(self.term));
        let asked = CursorMove { id: Uuid::new_v4(), job, expected, to, skips, authority };
        let moved = self.locker.advance(&[asked]).await.expect("an answer");
        moved.into_iter().next().expect("one answer per move")
    }

    async fn a_new_job_starts_at_its_creation_and_keeps_its_cursor(&self) {
        let cursor = self.enrol("new", "a").await;
        let off = (cursor - self.now).abs();
        assert!(off < TimeDelta::seconds(60), "a new job's cursor is its creation, not {off} away from it");
        assert_eq!(self.enrol("new", "a").await, cursor, "enrolling again changes nothing");
    }

    async fn a_changed_schedule_owes_ticks_from_the_change_on(&self) {
        let before = self.enrol("changed", "a").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let after = self.enrol("changed", "b").await;
        assert!(after > before, "a changed schedule resets the cursor to the change");
    }

    async fn a_withdrawn_job_owes_nothing_and_its_cursor_never_goes_back(&self) {
        let before = self.due_job("withdrawn").await;
        let request = self.tick("withdrawn", before, just_after(before));
        self.locker.withdraw(self.term, &[name("withdrawn")]).await.expect("an answer");
        let verdict = self.claim(&request).await;
        assert_eq!(verdict, Verdict::Unknown, "a withdrawn job's tick is not granted");
        assert_eq!(self.skip("withdrawn", before).await, Moved::Unknown, "nor is its cursor moved");
        let after = self.enrol("withdrawn", "a schedule").await;
        assert!(after > before, "a job that was withdrawn and comes back owes ticks only from then on");
    }

    async fn enrol_held_for(&self, job: &str, schedule: &str, held_for: Duration) -> DateTime<Utc> {
        let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text(schedule), Authority::Any);
        let enrolment = Enrolment { held_for, ..enrolment };
        match &self.locker.enrol(&[enrolment]).await.expect("an answer")[..] {
            [Enrolled::Done { cursor, .. }] => *cursor,
            other => panic!("enrolling {job} was answered with {other:?}"),
        }
    }

    async fn a_new_or_changed_job_owes_ticks_since_its_node_holds_it(&self) {
        let (long, short) = (Duration::from_secs(3600), Duration::from_millis(10));
        let before = self.enrol("held-before", "a").await;
        let held = self.enrol_held_for("held", "a", long).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let changed = self.enrol_held_for("held", "b", short).await;
        let after = self.enrol("held-after", "a").await;

        assert!(held >= before - long && held <= after - long, "a new job, held for an hour: {held}");
        assert!(changed > before, "a changed one, held for 10 of the 30 ms since then: {changed}");
        assert!(changed <= after - short, "{changed}");
        assert_eq!(self.enrol_held_for("held", "b", long).await, changed, "nothing is new");
        assert_eq!(self.enrol_held_for("held", "c", long).await, changed, "the cursor never goes back");

        self.pause("held-and-paused", Some(&Pause { until: None, note: None })).await;
        let paused = self.enrol_held_for("held-and-paused", "a", long).await;
        assert!(paused <= self.enrol("held-after-all", "a").await - long, "a pause enrols nothing: {paused}");

        let ever =
            [("held-for-ever", Duration::MAX), ("held-beside", Duration::ZERO)].map(|(job, held_for)| {
                Enrolment {
                    held_for,
                    ..Enrolment::new(name(job), ScheduleIdentity::of_text("a"), Authority::Any)
                }
            });
        let enrolled = self.locker.enrol(&ever).await.expect("an answer");
        assert!(matches!(enrolled[..], [Enrolled::Done { .. }, Enrolled::Done { .. }]), "{enrolled:?}");
    }

    async fn who_holds_a_job_all_the_time_goes_on_where_the_leader_left_it(&self) {
        let before = self.due_job("left-to-others").await;
        let request = self.tick("left-to-others", before, just_after(before));
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        self.locker.withdraw(self.term, &[name("left-to-others")]).await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(5)).await;

        let hour = Duration::from_secs(3600);
        let after = self.enrol_held_for("left-to-others", "a schedule", hour).await;

        assert_eq!(after, just_after(before).instant(), "its ticks since then are owed, and none before");
    }

    async fn everybody_is_told_what_the_leader_schedules(&self) {
        self.enrol("led", "a").await;
        self.enrol("left", "a").await;
        self.locker.withdraw(self.term, &[name("left")]).await.expect("an answer");
        let held = [("led", "a"), ("led", "b"), ("left", "a"), ("unknown", "a")];
        let held = held
            .map(|(job, schedule)| Inquiry { job: name(job), schedule: ScheduleIdentity::of_text(schedule) });

        let standings = self.locker.inquire(&held).await.expect("an answer");

        let not_held = Standing::NotHeld;
        assert_eq!(standings, [Standing::Scheduled, Standing::OtherSchedule, not_held, not_held]);
    }

    async fn without_a_leader_nothing_is_scheduled(&mut self, elector: &dyn Elector) {
        let cursor = self.enrol("leaderless", "a").await;
        let held = [Inquiry { job: name("leaderless"), schedule: ScheduleIdentity::of_text("a") }];
        elector.resign(self.term).await.expect("an answer");

        let standings = self.locker.inquire(&held).await.expect("an answer");

        assert_eq!(standings, [Standing::NoLeader]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.locker.withdraw(self.term, &[name("leaderless")]).await.expect("an answer");
        let kept = self.enrol_held_for("leaderless", "a", Duration::ZERO).await;
        assert_eq!(kept, cursor, "whose term is over withdraws nothing");
        let Campaign::Won(grant) = elector.campaign().await.expect("an answer") else {
            panic!("nobody leads");
        };
        self.term = grant.term;
        let standings = self.locker.inquire(&held).await.expect("an answer");
        assert_eq!(standings, [Standing::NotHeld], "what a former leader held is not the present one's");
    }

    async fn a_claim_takes_its_tick_once(&self) {
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

    async fn a_claim_from_the_wrong_cursor_is_told_the_right_one(&self) {
        let cursor = self.due_job("wrong-cursor").await;
        let stale = cursor - TimeDelta::seconds(10);
        let verdict = self.claim(&self.tick("wrong-cursor", stale, just_after(cursor))).await;
        assert_eq!(verdict, Verdict::Moved { cursor });
    }

    async fn a_tick_that_is_not_due_must_wait(&self) {
        let cursor = self.enrol("early", "a schedule").await;
        let fire_time = FireTime::new(cursor + TimeDelta::hours(1));
        let verdict = self.claim(&self.tick("early", cursor, fire_time)).await;
        let Verdict::NotYet { wait } = verdict else { panic!("an early tick was answered with {verdict:?}") };
        assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "wait {wait:?}");
    }

    async fn an_old_term_decides_nothing(&self) {
        let cursor = self.due_job("deposed").await;
        let mut request = self.tick("deposed", cursor, just_after(cursor));
        let old = Term(self.term.0 - 1);
        if let Some(tick) = &mut request.tick {
            tick.authority = Authority::Term(old);
        }
        assert_eq!(self.claim(&request).await, Verdict::Deposed { term: self.term });

        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let to = just_after(cursor);
        let asked = CursorMove {
            id: Uuid::new_v4(),
            job: name("deposed"),
            expected: cursor,
            to,
            skips,
            authority: Authority::Term(old),
        };
        let moved = self.locker.advance(&[asked]).await.expect("an answer");
        assert_eq!(moved, [Moved::Deposed { term: self.term }]);

        let enrolment =
            Enrolment::new(name("deposed"), ScheduleIdentity::of_text("other"), Authority::Term(old));
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        assert_eq!(enrolled, [Enrolled::Deposed { term: self.term }]);
        self.locker.withdraw(old, &[name("deposed")]).await.expect("an answer");
        assert_eq!(self.enrol("deposed", "a schedule").await, cursor, "nothing changed");
    }

    async fn the_same_run_is_granted_again(&self) {
        let cursor = self.due_job("again").await;
        let request = self.tick("again", cursor, just_after(cursor));
        let token = self.granted(&request).await;
        assert_eq!(
            self.granted(&request).await,
            token,
            "after a lost reply the node learns that it has the run"
        );
        let settled = ClaimRequest { settle: true, ..request.clone() };
        assert_eq!(self.granted(&settled).await, token, "so it does when it only settles");
        self.complete(&request, token).await;
    }

    async fn settling_takes_nothing(&self) {
        let cursor = self.due_job("settled").await;
        let request = self.tick("settled", cursor, just_after(cursor));
        let settled = ClaimRequest { settle: true, ..request.clone() };
        assert_eq!(self.claim(&settled).await, Verdict::NotGranted);
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        assert_eq!(self.claim(&settled).await, Verdict::GrantedBefore, "its run has ended");
    }

    async fn a_held_key_is_busy_until_the_completion(&self) {
        let first = self.manual("holder", "shared-key");
        let token = self.granted(&first).await;
        let second = self.manual("waiter", "shared-key");

        let holder = Some(first.run);
        assert_eq!(
            self.claim(&second).await,
            Verdict::Busy { holder },
            "the key is held by another job's run"
        );
        assert_eq!(self.complete(&first, token).await, Completed::RECORDED);
        let next = self.granted(&second).await;
        assert!(next > token, "tokens grow: {next} after {token}");
        self.complete(&second, next).await;
    }

    async fn a_manual_run_needs_no_term_and_moves_no_cursor(&self) {
        let cursor = self.enrol("manual", "a schedule").await;
        let request = self.manual("manual", "manual");
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        assert_eq!(self.enrol("manual", "a schedule").await, cursor);
    }

    async fn in_a_batch_one_job_and_one_key_are_granted_once(&self) {
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

    async fn a_bad_request_fails_alone(&self) {
        let [one, two] = [self.due_job("good-1").await, self.due_job("good-2").await];
        let bad = self.tick("never-enrolled", self.now, just_after(self.now));
        let batch =
            [self.tick("good-1", one, just_after(one)), bad, self.tick("good-2", two, just_after(two))];
        let verdicts = self.locker.claim(&batch).await.expect("an answer");
        let granted: Vec<_> =
            verdicts.iter().map(|verdict| matches!(verdict, Verdict::Granted { .. })).collect();
        assert_eq!(granted, [true, false, true], "{verdicts:?}");
    }

    async fn a_key_freed_in_a_round_can_be_claimed_in_it(&self) {
        let [former, next] = [self.manual("round", "round"), self.manual("round", "round")];
        let token = self.granted(&former).await;
        let skipped = self.due_job("skipped-in-a-round").await;
        let end = completion(&former, token);
        let to = just_after(skipped);
        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let job = name("skipped-in-a-round");
        let asked = CursorMove {
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
        assert_eq!(answers.moved.expect("an answer"), [Moved::Done]);
        let nothing = self.locker.round(&[], &[], &[]).await;
        assert!(matches!((nothing.ended, nothing.claimed, nothing.moved), (Ok(e), Ok(c), Ok(m))
            if e.is_empty() && c.is_empty() && m.is_empty()));
        self.complete(&next, token).await;
    }

    async fn a_completion_needs_the_token_and_may_be_repeated(&self) {
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

    async fn what_passes_on_the_way_takes_no_tick_from_a_new_job(&self) {
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
            "it owes ticks from when it was asked, not {off} later"
        );
        let cursor = enrol("asked_long_before", now - TimeDelta::seconds(60)).await;
        assert!(cursor >= now - TimeDelta::milliseconds(5_001), "of five seconds at most");
        let cursor = enrol("asked_after", now + TimeDelta::seconds(60)).await;
        assert!(cursor >= now, "a clock that is ahead takes nothing");
    }

    async fn a_released_end_frees_its_key_and_can_be_told_again(&mut self) {
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

    async fn a_text_may_hold_any_character(&mut self) {
        // NUL, a control character, the replacement character, a quote, a line end, and what needs four bytes.
        let odd = "a\0b \u{1} \u{fffd} ' \" \\ \n \u{1f916}";
        let first = self.enrol("odd", odd).await;
        assert_eq!(self.enrol("odd", odd).await, first, "the same text is the same schedule");
        let inquiry = Inquiry { job: name("odd"), schedule: ScheduleIdentity::of_text(odd) };
        let standing = self.locker.inquire(&[inquiry]).await.expect("an answer");
        assert_eq!(standing, [Standing::Scheduled]);

        let pause = Pause { until: None, note: Some(odd.to_owned()) };
        let paused = self.locker.pause(&[name("odd")], Some(&pause)).await.expect("an answer");
        assert_eq!(paused, [true]);
        let enrolment =
            Enrolment::new(name("odd"), ScheduleIdentity::of_text(odd), Authority::Term(self.term));
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { kept, .. }] = &enrolled[..] else { panic!("{enrolled:?}") };
        let note = kept.pause.as_ref().and_then(|pause| pause.note.as_deref()).expect("it is paused");
        assert_eq!(storable(note), storable(odd), "NUL may have been replaced, and nothing else");
    }

    async fn skips_move_the_cursor_by_compare_and_set(&self) {
        let cursor = self.due_job("skips").await;
        let to = just_after(cursor);
        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let asked = CursorMove {
            id: Uuid::new_v4(),
            job: name("skips"),
            expected: cursor,
            to,
            skips,
            authority: Authority::Term(self.term),
        };
        let moved = self.locker.advance(std::slice::from_ref(&asked)).await.expect("an answer");
        assert_eq!(moved, [Moved::Done]);
        let moved = self.locker.advance(std::slice::from_ref(&asked)).await.expect("an answer");
        assert_eq!(moved, [Moved::Done], "it is the same move, whose answer was lost");
        let authority = Authority::Term(Term(self.term.0 - 1));
        let late = CursorMove { authority, ..asked.clone() };
        let moved = self.locker.advance(&[late]).await.expect("an answer");
        assert_eq!(moved, [Moved::Done], "by whatever right it is asked again");
        let other = CursorMove { id: Uuid::new_v4(), ..asked };
        let moved = self.locker.advance(&[other]).await.expect("an answer");
        assert_eq!(moved, [Moved::Elsewhere { cursor: to.instant() }]);
    }

    /// So one that was granted by a store that was made anew since is smaller.
    async fn a_token_is_not_below_the_time(&self) {
        let request = self.manual("token", "token");
        let token = self.granted(&request).await;
        // A minute, as clocks may be apart.
        let least = (self.now - TimeDelta::minutes(1)).timestamp_micros();
        assert!(token.0 >= u64::try_from(least).unwrap_or_default(), "{token} is at least {least}");
        self.complete(&request, token).await;
    }

    async fn a_tick_that_is_not_due_cannot_be_skipped(&self) {
        let cursor = self.due_job("not-due").await;
        let job = name("not-due");
        let to = FireTime::new(cursor + TimeDelta::hours(1));
        let skips = Skips::new(SkipReason::Misfire, 1, false);
        let authority = Authority::Term(self.term);
        let asked = CursorMove { id: Uuid::new_v4(), job, expected: cursor, to, skips, authority };

        let moved = self.locker.advance(&[asked]).await.expect("an answer");

        assert_eq!(moved, [Moved::Elsewhere { cursor }], "the node's clock is wrong");
    }

    async fn a_skip_cannot_reopen_a_tick(&self) {
        let cursor = self.due_job("no-way-back").await;
        let fire_time = just_after(cursor);
        let request = self.tick("no-way-back", cursor, fire_time);
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        let skips = Skips::new(SkipReason::Misfire, 1, false);
        let asked = CursorMove {
            id: Uuid::new_v4(),
            job: name("no-way-back"),
            expected: cursor,
            to: fire_time,
            skips,
            authority: Authority::Term(self.term),
        };
        let moved = self.locker.advance(&[asked]).await.expect("an answer");
        assert_eq!(moved, [Moved::Elsewhere { cursor: fire_time.instant() }]);
    }

    /// The last one that needs the suite's term.
    async fn closing_a_session_frees_what_it_holds(&self) {
        let held = self.manual("closed", "closed");
        self.granted(&held).await;
        self.locker.close().await;
        self.locker.open().await.expect("a session opens again");

        let next = self.manual("closed", "closed");
        let Verdict::Granted { token, .. } = self.claim(&next).await else { panic!("the key is free") };
        self.complete(&next, token).await;
        let settled = ClaimRequest { settle: true, ..held };
        assert_eq!(
            self.claim(&settled).await,
            Verdict::GrantedBefore,
            "what a former session held is not this one's"
        );
    }

    async fn a_live_owner_is_not_robbed(&self, cluster: &mut impl Cluster) {
        let request = self.manual("owner", "not-robbed");
        let token = self.granted(&request).await;
        let (_, thief) = another(cluster).await;
        let verdict = claim_on(&*thief, &self.manual("thief", "not-robbed")).await;
        assert_eq!(verdict, Verdict::Busy { holder: Some(request.run) });
        let lost = thief.close_lost(100).await.expect("an answer").lost;
        assert!(!lost.iter().any(|lost| lost.run == request.run), "a live owner's run is not closed as lost");
        assert_eq!(self.complete(&request, token).await, Completed::RECORDED);
    }

    async fn a_dead_owner_is_robbed_once_and_its_completion_refused(&self, cluster: &mut impl Cluster) {
        let (backend, owner) = another(cluster).await;
        let request = self.manual("robbed", "robbed");
        let Verdict::Granted { token, .. } = claim_on(&*owner, &request).await else {
            panic!("a free key is granted")
        };
        cluster.kill(&backend).await;

        let thief = self.manual("robber", "robbed");
        let verdict = self.claim(&thief).await;
        let Verdict::Granted { token: stolen, lost: Some(lost) } = verdict else {
            panic!("not robbed: {verdict:?}")
        };
        assert!(stolen > token, "the thief's token is greater: {stolen} after {token}");
        assert_eq!((lost.run, &lost.job), (request.run, &name("robbed")), "the dead run is closed as lost");
        owner.open().await.expect("a session opens again");
        assert_eq!(
            complete_on(&*owner, &request, token).await,
            Completed::Stale,
            "a dead owner completes nothing"
        );
        assert_eq!(self.complete(&thief, stolen).await, Completed::RECORDED);
    }

    async fn open_runs_of_the_dead_are_closed_once(&self, cluster: &mut impl Cluster) {
        let (backend, owner) = another(cluster).await;
        let session = owner.open().await.expect("a session opens");
        let requests = [self.manual("orphan-1", "orphan-1"), self.manual("orphan-2", "orphan-2")];
        owner.claim(&requests).await.expect("an answer");
        cluster.kill(&backend).await;
        assert_ne!(owner.lost(session).await, "", "the reason is told");

        let mut closed = Vec::new();
        for _ in 0..3 {
            closed.extend(
                self.locker.close_lost(1).await.expect("an answer").lost.into_iter().map(|lost| lost.run),
            );
        }
        closed.sort();
        let mut expected = requests.map(|request| request.run);
        expected.sort();
        assert_eq!(closed, expected, "each run is closed once, at most as many at a time as asked for");
        let freed = self.manual("orphan-1", "orphan-1");
        let token = self.granted(&freed).await;
        self.complete(&freed, token).await;
    }
}

async fn another(cluster: &mut impl Cluster) -> (Arc<dyn Backend>, Arc<dyn Locker>) {
    let backend = cluster.node().await;
    let locker = backend.locker();
    locker.open().await.expect("a session opens");
    (backend, locker)
}

async fn claim_on(locker: &dyn Locker, request: &ClaimRequest) -> Verdict {
    let mut verdicts = locker.claim(std::slice::from_ref(request)).await.expect("an answer");
    verdicts.pop().expect("one verdict per request")
}

async fn complete_on(locker: &dyn Locker, request: &ClaimRequest, token: FencingToken) -> Completed {
    let mut answers = locker.complete(&[completion(request, token)]).await.expect("an answer");
    answers.pop().expect("one answer per completion")
}

fn completion(request: &ClaimRequest, token: FencingToken) -> Completion {
    let ClaimRequest { job, key, run, .. } = request.clone();
    Completion::new(job, key, run, token, Outcome::Succeeded)
}

fn name(name: &str) -> JobName {
    JobName::new(name).expect("the suite's names are valid")
}

fn key(key: &str) -> LockKey {
    LockKey::new(key).expect("the suite's keys are valid")
}

/// The first whole millisecond after an instant.
fn just_after(instant: DateTime<Utc>) -> FireTime {
    FireTime::new(instant + TimeDelta::milliseconds(1))
}
