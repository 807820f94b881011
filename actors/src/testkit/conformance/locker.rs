//! What every locker does.

mod authority;
mod claims;
mod cursors;
mod enrolments;
mod failures;
mod forgetting;
mod identities;
mod keys;
mod lost_runs;
mod pauses;
mod renames;
mod sessions;
mod undeclared;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uuid::Uuid;

use super::Cluster;
use crate::{
    core::{
        policy::{LOSSES_MAX, Overlap},
        storable::storable,
        time::FireTime,
    },
    event::Outcome,
    name::{By, FencingToken, JobName, LockKey, NodeId, RunId, RunIds, Term},
    port::{
        Advanced, Authority, Backend, Campaign, Capabilities, Capability, ClaimRequest, Completed,
        Completion, CursorAdvance, Declaration, Elector, Enrolled, Enrolment, Inquiry, LeaderView, Locker,
        LostRun, Notification, Pause, PendingRetry, PendingRetryOfJob, Proof, Renewal, ScheduleIdentity,
        Session, SkipReason, Skips, StoredState, TickClaim, Verdict,
    },
};

/// How long a campaign waits for the present leader.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks a locker: cursors that only move forward, one run per tick and per key, tokens that grow, terms and
/// times that are checked, and what becomes of the keys of a dead session. Of what not every backend can do, it checks
/// what the backend [declares](crate::port::Backend::capabilities), and that it cannot do the rest; but for fencing and
/// the time of the store, whose lack shows only when clocks go wrong.
///
/// # Panics
///
/// If a check fails.
pub async fn locker(cluster: &mut impl Cluster) {
    let (mut suite, able) = Suite::begin(cluster).await;
    let (several, elector) = (cluster.nodes_max() > 1, suite.elector.clone());

    suite.a_new_job_starts_at_its_creation_and_keeps_its_cursor().await;
    suite.a_changed_schedule_owes_ticks_from_the_change_on().await;
    suite.a_withdrawn_job_owes_nothing_and_its_cursor_never_goes_back().await;
    suite.a_new_or_changed_job_owes_ticks_since_its_node_holds_it().await;
    suite.the_tick_that_a_job_owes_is_open_however_late_it_is_enrolled().await;
    suite.who_holds_a_job_all_the_time_goes_on_where_the_leader_left_it().await;
    suite.everybody_is_told_what_the_leader_schedules().await;
    suite.a_claim_takes_its_tick_once().await;
    suite.a_claim_from_the_wrong_cursor_is_told_the_right_one().await;
    suite.a_tick_that_is_not_due_must_wait().await;
    suite.an_old_term_decides_nothing().await;
    suite.what_passes_on_the_way_takes_no_tick_from_a_new_job().await;
    suite.the_same_run_is_granted_again().await;
    suite.a_recheck_takes_nothing().await;
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
    if able.has(Capability::Renames) {
        suite.renames().await;
        suite.keep_leading().await;
    }
    suite.once_a_term_is_over_its_mark_stops_nobody(&*elector).await;
    suite.without_a_leader_nothing_is_scheduled(&*elector).await;
    let shares = |capability| several && able.has(Capability::ClusterOverlap) && able.has(capability);
    if shares(Capability::ClusterOverlap) {
        suite.what_a_leader_proves_is_told_to_others(cluster).await;
    }
    if shares(Capability::PendingRetries) {
        suite.lost_runs(cluster).await;
    }
    if shares(Capability::Renames) {
        suite.renames_among(cluster, able.has(Capability::PendingRetries)).await;
        suite.keep_leading().await;
    }
    suite.forgetting(several).await;
    suite.closing_a_session_frees_what_it_holds().await;
    if shares(Capability::ClusterOverlap) {
        suite.policies_of_keys(cluster).await;
        suite.a_live_owner_is_not_robbed(cluster).await;
        suite.a_dead_owner_is_robbed_once_and_its_completion_refused(cluster).await;
        suite.open_runs_of_the_dead_are_closed_once(cluster).await;
    }
    if shares(Capability::Notifications) {
        suite.other_nodes_hear_of_pauses_and_of_who_wants_their_keys(cluster).await;
    }
    if several {
        suite.what_is_not_declared_is_not_so(able, cluster).await;
    }
    suite.a_cursor_outlives_the_processes_or_does_not(able, cluster).await;
}

/// Checks that a backend cannot do what it does not [declare](crate::port::Backend::capabilities), and that it can give
/// a tick to one node of several if it declares that: for one whose claims are kept in the memory of each node, of
/// which [`locker()`] asks too much.
///
/// # Panics
///
/// If a check fails.
pub async fn limits(cluster: &mut impl Cluster) {
    let (suite, able) = Suite::begin(cluster).await;
    if able.has(Capability::ClusterTicks) {
        suite.a_tick_that_one_node_has_is_taken_for_all(cluster).await;
    } else {
        suite.without_a_term_no_tick_is_claimed().await;
    }
    suite.what_is_not_declared_is_not_so(able, cluster).await;
    if able.has(Capability::ClusterTicks) {
        suite.a_cursor_outlives_the_processes_or_does_not(able, cluster).await;
    }
}

struct Suite {
    locker: Arc<dyn Locker>,
    elector: Arc<dyn Elector>,
    /// A node that dies again and again.
    victim: Option<Arc<dyn Backend>>,
    /// Of its last run.
    victim_token: Option<FencingToken>,
    /// The one that was opened first.
    session: Session,
    term: Term,
    ids: RunIds,
    now: DateTime<Utc>,
    /// The store tells what happens.
    hears: bool,
}

impl Suite {
    /// The first node of an empty store, which leads, and what it can do.
    async fn begin(cluster: &mut impl Cluster) -> (Self, Capabilities) {
        let now = cluster.now();
        let backend = cluster.node().await;
        let (locker, elector, able) = (backend.locker(), backend.elector(), backend.capabilities());
        let session = locker.open().await.expect("a session opens");
        let Campaign::Won(grant) = elector.campaign(PATIENCE).await.expect("an answer") else {
            panic!("the first node of an empty store leads");
        };
        let suite = Self {
            locker,
            elector,
            victim: None,
            victim_token: None,
            session,
            term: grant.term,
            ids: RunIds::of(NodeId::random()),
            now,
            hears: able.has(Capability::Notifications),
        };
        (suite, able)
    }

    /// A suite takes longer than a lease.
    async fn keep_leading(&mut self) {
        if let Ok(Renewal::Renewed) = self.elector.renew(self.term).await {
            return;
        }
        let Campaign::Won(grant) = self.elector.campaign(PATIENCE).await.expect("an answer") else {
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

    /// A move of a cursor over one tick.
    async fn skip(&self, job: &str, expected: DateTime<Utc>) -> Advanced {
        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let (job, to, authority) = (name(job), just_after(expected), Authority::Term(self.term));
        let asked = CursorAdvance { id: Uuid::new_v4(), job, expected, to, skips, authority };
        let advanced = self.locker.advance(&[asked]).await.expect("an answer");
        advanced.into_iter().next().expect("one answer per move")
    }

    /// Those that need one node and a leader.
    async fn policies(&mut self) {
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
        if self.hears {
            self.every_change_of_a_pause_is_told().await;
            self.keep_leading().await;
            self.who_takes_a_key_by_force_has_its_holder_told().await;
            self.keep_leading().await;
        }
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

    async fn stored(&self, job: &str) -> StoredState {
        match self.enrol_by(job, "a schedule", Authority::Term(self.term)).await {
            Enrolled::Done { stored, .. } => *stored,
            other => panic!("enrolling {job} was answered with {other:?}"),
        }
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
