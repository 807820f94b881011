//! Claims in the memory of the node that leads.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use tokio::time::Instant;

use super::{
    leading::Lead,
    shared::{Shared, State},
    votes::is_voted,
};
use crate::{
    name::{JobName, RunId, Term},
    port::{
        Advanced, Authority, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance, Decided,
        Enrolled, EnrolledSchedule, Enrolment, Forgotten, Inquiry, LeaderSaid, LeaderView, LockError, Locker,
        Notification, Obstacle, OtherZoneData, Pause, PendingRetryOfJob, Proof, Proved, Renewal, Session,
        Verdict,
    },
};

/// When a tick beyond what the last renewal allows is claimed again: the wall clock was set forward.
const NEXT_RENEWAL: Duration = Duration::from_millis(500);

pub(super) struct ElectedLocker {
    pub(super) shared: Arc<Shared>,
}

impl ElectedLocker {
    /// A call on the session that is open.
    fn call<'a, T: Send + 'a>(
        &self,
        work: impl FnOnce(&mut State, Session, DateTime<Utc>) -> T,
    ) -> BoxFuture<'a, Result<T, LockError>> {
        ready(self.shared.on_session(work)).boxed()
    }
}

impl Locker for ElectedLocker {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        self.shared.open().boxed()
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        self.shared.watch(session).boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        self.shared.trusts(session)
    }

    fn discard(&self, session: Session, reason: &str) {
        self.shared.lose(session, reason);
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.shared.clock_ahead()
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        let refusal = self.shared.state().refusal.clone();
        let obstacle = |(reason, since): (String, Instant)| Obstacle {
            reason,
            cure: AHEAD_CURE.to_owned(),
            held_for: since.elapsed(),
        };
        refusal.map(obstacle).into_iter().chain(self.shared.election.obstacles()).collect()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.shared.opener.as_ref()?.round_trip()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.shared.close().boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        let (on_unproven, votes) = (self.shared.on_unproven, self.shared.votes.is_some());
        self.call(|state, session, now| {
            let enrol = |job: &Enrolment| {
                if is_of_leader(job.authority, votes) && job.authority.term().is_none() {
                    return Enrolled::HasLeader;
                }
                // Who fires the former name on another node is not known here: it is looked at for no job.
                let renamed = job.formerly.is_some().then(|| Enrolment { formerly: None, ..job.clone() });
                let mut enrolled = state.ledger.enrol(now, session, renamed.as_ref().unwrap_or(job));
                let Enrolled::Done { cursor, stored } = &mut enrolled else { return enrolled };
                let Some(leading) = job.authority.term().and_then(|term| state.lead.leads(term)) else {
                    return enrolled;
                };
                if let Some(before) = &leading.before {
                    let raised =
                        before.decided_to(&job.job).and_then(|to| state.ledger.raise_cursor(&job.job, to));
                    *cursor = raised.unwrap_or(*cursor);
                    stored.unproven_to = before.unproven_to(on_unproven);
                }
                if let Some(EnrolledSchedule(schedule)) = &job.ticks {
                    state.ticks.enrol(&job.job, schedule.clone(), *cursor);
                }
                enrolled
            };
            jobs.iter().map(enrol).collect()
        })
    }

    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        match &self.shared.opener {
            Some(opener) => opener.other_zone_data(),
            None => ready(Ok(Vec::new())).boxed(),
        }
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        self.call(|state, _, _| {
            // Another node runs all that it has; what that is, only itself knows.
            let has_leader = state.has_leader || state.lead.is_leading();
            vec![if has_leader { LeaderView::Scheduled } else { LeaderView::NoLeader }; jobs.len()]
        })
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        self.call(|state, _, _| {
            for job in jobs {
                state.ledger.withdraw(term, job);
                state.ticks.remove(job);
            }
        })
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        let paused = self.shared.on_session(|state, _, now| {
            let leads = state.lead.is_leading();
            leads.then(|| jobs.iter().map(|job| state.ledger.pause(now, job, pause)).collect())
        });
        let no_leader = || LockError::NotDone { reason: NOT_PAUSED.to_owned() };
        ready(paused.and_then(|paused| paused.ok_or_else(no_leader))).boxed()
    }

    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        async move {
            loop {
                // Before the look: what comes in between wakes it.
                let told = self.shared.told.notified();
                let notification = self.shared.state().ledger.take_notification(session);
                match notification {
                    Some(notification) => return notification,
                    None => told.await,
                }
            }
        }
        .boxed()
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        self.shared.prove(proof).boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        if let Some(votes) = &self.shared.votes
            && requests.iter().any(is_voted)
        {
            return self.shared.claim_by_votes(&**votes, requests).boxed();
        }
        self.call(|state, session, now| {
            requests.iter().map(|request| state.claim(session, now, request)).collect()
        })
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        let completed = self.call(|state, session, now| {
            let complete = |end: &Completion| {
                let completed = state.ledger.complete(|| now, session, end);
                if end.from_completion {
                    state.follow_cursor(&end.job);
                }
                completed
            };
            ends.iter().map(complete).collect()
        });
        // A term may have been kept for these runs.
        self.shared.changed.notify_waiters();
        completed
    }

    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        let votes = self.shared.votes.is_some();
        self.call(|state, session, now| {
            let advance = |asked: &CursorAdvance| {
                if is_of_leader(asked.authority, votes) && asked.authority.term().is_none() {
                    return Advanced::HasLeader;
                }
                let advanced = state.ledger.advance(session, asked, now);
                if advanced == Advanced::Done {
                    state.follow_cursor(&asked.job);
                }
                advanced
            };
            advances.iter().map(advance).collect()
        })
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.call(|state, _, now| state.ledger.close_lost(now, limit))
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        self.call(|state, _, now| state.ledger.forget(now, term, after))
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        self.call(|state, _, _| state.ledger.pending_retries(after, limit))
    }
}

const NOT_PAUSED: &str = "this node does not lead, and a pause is kept in the memory of the leader; ask the leader, or use \
                          a backend that keeps pauses";

/// What helps where [`Obstacle::reason`] says that a leader was ahead.
const AHEAD_CURE: &str = "synchronise the clocks of all nodes, and wait until that instant; or stop all nodes, and remove what leaders \
                          left from the system that elects: ticks up to then may run twice";

/// Whether only a leader decides by it: a tick that any node fires is asked for, where there are votes.
fn is_of_leader(authority: Authority, votes: bool) -> bool {
    match authority {
        Authority::Any => !votes,
        Authority::Term(_) | Authority::Leaderless => true,
    }
}

impl State {
    pub(super) fn claim(&mut self, session: Session, now: DateTime<Utc>, request: &ClaimRequest) -> Verdict {
        if !request.recheck
            && let Some(refused) = self.refuse_claim(request)
        {
            return refused;
        }
        let verdict = self.ledger.claim(now, session, request);
        if let Some(tick) = &request.tick
            && matches!(verdict, Verdict::Granted { .. })
        {
            if let Some(leading) = tick.authority.term().and_then(|term| self.lead.leads_mut(term)) {
                leading.granted = leading.granted.max(Some(tick.fire_time.instant()));
            }
            if let Some(cursor) = self.ledger.decided_to(&request.job) {
                self.ticks.started(&request.job, cursor);
            }
        }
        verdict
    }

    /// Only who leads claims: of what another node claims the leader knows nothing.
    fn refuse_claim(&self, request: &ClaimRequest) -> Option<Verdict> {
        match (request.tick.as_ref().map(|tick| (tick, tick.authority)), &self.lead) {
            (Some((tick, Authority::Term(term))), Lead::Leads(leading)) if leading.term == term => {
                let is_beyond = tick.fire_time.instant() > leading.starts_to;
                is_beyond.then_some(Verdict::NotYet { wait: NEXT_RENEWAL })
            }
            // The ledger knows the terms.
            (Some((_, Authority::Term(_))), Lead::Leads(_) | Lead::Resigning(_) | Lead::No) => None,
            (Some((_, Authority::Any | Authority::Leaderless)), _) => Some(Verdict::HasLeader),
            (None, Lead::Leads(_)) => None,
            (None, Lead::Resigning(_) | Lead::No) => Some(Verdict::HasLeader),
        }
    }

    /// The cursor of a job moved.
    fn follow_cursor(&mut self, job: &JobName) {
        if let Some(cursor) = self.ledger.decided_to(job) {
            self.ticks.decided(job, cursor);
        }
    }
}

impl Shared {
    /// Proves that the leader can extend its term, and that others can hear what it leaves; answers what leaders said.
    async fn prove(&self, proof: Proof) -> Result<Proved, LockError> {
        let now = self.now();
        let term = self.on_session(|state, _, _| {
            let term = proof.term?;
            let leading = state.lead.leads_mut(term)?;
            leading.all_enrolled = true;
            state.said.overdue_since = proof.overdue_since;
            if proof.all_decided {
                state.said.mark += 1;
                state.said.at = now;
            }
            Some(term)
        })?;
        match (term, self.handovers()) {
            (Some(term), Some(_)) => {
                let renewed = self.renew(term).await;
                match renewed.map_err(|error| LockError::NotDone { reason: error.to_string() })? {
                    Renewal::Renewed => {}
                    Renewal::Deposed => {
                        return Err(LockError::SessionLost { reason: self.state().lost.clone() });
                    }
                }
            }
            (None, Some(handovers)) => {
                let newest = handovers.newest().await;
                let newest = newest.map_err(|error| LockError::NotDone { reason: error.to_string() })?;
                self.state().said = newest.map(|newest| newest.said).unwrap_or_default();
            }
            (Some(_), None) => {}
            (None, None) => return Ok(Proved::new(proof.overdue_since, None)),
        }
        let state = self.state();
        let LeaderSaid { overdue_since, mark, at } = state.said;
        let decided = Decided { mark, ago: (now - at).to_std().unwrap_or_default() };
        Ok(Proved::new(overdue_since.filter(|_| state.has_leader), Some(decided)))
    }
}
