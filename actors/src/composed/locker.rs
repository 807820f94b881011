//! Claims, as the system that keeps them grants them: whoever leads claims as any node would.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, pending, ready, select},
};

use super::Shared;
use crate::{
    name::{JobName, LockKey, RunId, Term},
    port::{
        Advanced, Authority, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance, Declaration,
        Divergence, Enrolled, Enrolment, Inquiry, KnownHistory, LeaderView, LockError, Locker, Notification,
        Obstacle, OtherZoneData, Pause, PendingRetryOfJob, Proof, Proved, RoundAnswers, Session, TickClaim,
        Verdict,
    },
};

pub(super) struct ComposedLocker {
    pub(super) shared: Arc<Shared>,
}

impl ComposedLocker {
    fn claims(&self) -> &dyn Locker {
        &*self.shared.locker
    }
}

impl Locker for ComposedLocker {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        async move {
            self.shared.state().open = None;
            self.shared.election.reach().await?;
            let inner = match &self.shared.opener {
                Some(opener) => Some(opener.open().await?),
                None => None,
            };
            let session = self.claims().open().await?;
            self.shared.state().open = Some((session, inner));
            Ok(session)
        }
        .boxed()
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        async move {
            let inner = self.shared.state().open.filter(|(open, _)| *open == session);
            let elector_lost = match (&self.shared.opener, inner.and_then(|(_, inner)| inner)) {
                (Some(opener), Some(inner)) => opener.lost(inner),
                (None, _) | (_, None) => pending().boxed(),
            };
            match select(self.claims().lost(session), elector_lost).await {
                Either::Left((reason, _)) => reason,
                Either::Right((reason, _)) => {
                    self.claims().discard(session, &reason);
                    reason
                }
            }
        }
        .boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        self.claims().trusts(session)
    }

    fn discard(&self, session: Session, reason: &str) {
        self.claims().discard(session, reason);
    }

    fn next_look(&self, period: Duration) -> BoxFuture<'_, ()> {
        self.claims().next_look(period)
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.claims().clock_ahead()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.claims().round_trip()
    }

    fn snapshot_age(&self) -> Duration {
        self.claims().snapshot_age()
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        self.claims().obstacles().into_iter().chain(self.shared.election.obstacles()).collect()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.shared.state().open = None;
            self.claims().close().await;
            if let Some(opener) = &self.shared.opener {
                opener.close().await;
            }
        }
        .boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        async move {
            // What it declares so ends with the session, or when the engine lets go of the jobs: it knows which others
            // of the node have the key.
            let of_any = |job: &Enrolment| Enrolment { authority: of_any(job.authority), ..job.clone() };
            let jobs: Vec<_> = jobs.iter().map(of_any).collect();
            self.claims().enrol(&jobs).await
        }
        .boxed()
    }

    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        self.claims().conflicts(asked)
    }

    fn retract<'a>(&'a self, keys: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        self.claims().retract(keys)
    }

    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        self.claims().other_zone_data()
    }

    fn compare<'a>(&'a self, known: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        self.claims().compare(known)
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        // What the leader has, only itself knows.
        let view = if self.shared.state().has_leader { LeaderView::Scheduled } else { LeaderView::NoLeader };
        ready(Ok(vec![view; jobs.len()])).boxed()
    }

    fn withdraw<'a>(&'a self, _: Term, _: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        // The cursor stays as a lower bound, as that of a job that any node fires.
        ready(Ok(())).boxed()
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        self.claims().pause(jobs, pause)
    }

    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        self.claims().next_notification(session)
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        async move {
            self.claims().prove(Proof { term: None, ..proof }).await?;
            Ok(Proved::new(proof.overdue_since, None))
        }
        .boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        async move { self.claims().claim(&claims_of_any(requests)).await }.boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.claims().complete(ends)
    }

    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.claims().release(ends)
    }

    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        async move { self.claims().advance(&advances_of_any(advances)).await }.boxed()
    }

    fn round<'a>(
        &'a self,
        ends: &'a [Completion],
        claims: &'a [ClaimRequest],
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, RoundAnswers> {
        async move { self.claims().round(ends, &claims_of_any(claims), &advances_of_any(advances)).await }
            .boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.claims().close_lost(limit)
    }

    fn keep_names<'a>(
        &'a self,
        jobs: &'a [JobName],
        fresh: Duration,
    ) -> BoxFuture<'a, Result<(), LockError>> {
        self.claims().keep_names(jobs, fresh)
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        self.claims().pending_retries(after, limit)
    }
}

/// The system of claims does not know the term.
fn of_any(authority: Authority) -> Authority {
    match authority {
        Authority::Term(_) => Authority::Any,
        Authority::Any | Authority::Leaderless => authority,
    }
}

fn claims_of_any(requests: &[ClaimRequest]) -> Vec<ClaimRequest> {
    let of_any = |request: &ClaimRequest| ClaimRequest {
        tick: request.tick.map(|tick| TickClaim { authority: of_any(tick.authority), ..tick }),
        ..request.clone()
    };
    requests.iter().map(of_any).collect()
}

fn advances_of_any(advances: &[CursorAdvance]) -> Vec<CursorAdvance> {
    let of_any =
        |asked: &CursorAdvance| CursorAdvance { authority: of_any(asked.authority), ..asked.clone() };
    advances.iter().map(of_any).collect()
}
