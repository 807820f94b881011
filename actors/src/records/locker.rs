//! The locker over records.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    request::{Answer, Request},
    rounds::ask,
    shared::{Shared, lock, lock_error},
};
use crate::{
    name::{JobName, LockKey, RunId, Term},
    port::{
        Advanced, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance, Declaration, Divergence,
        Enrolled, Enrolment, Forgotten, Inquiry, KnownHistory, LeaderView, LockError, Locker, Notification,
        OtherZoneData, Pause, PendingRetryOfJob, Proof, Proved, RoundAnswers, Session, Verdict,
    },
};

pub(super) struct RecordsLocker {
    pub(super) shared: Arc<Shared>,
}

impl RecordsLocker {
    /// Asks for all of these, and takes the answers of one kind.
    async fn all<T>(
        &self,
        requests: impl Iterator<Item = Request>,
        answer: impl Fn(Answer) -> Result<T, LockError>,
    ) -> Result<Vec<T>, LockError> {
        ask(&self.shared, requests.collect()).await?.into_iter().map(answer).collect()
    }
}

impl Locker for RecordsLocker {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        self.shared.open().boxed()
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        self.shared.lost(session).boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        self.shared.trusts(session)
    }

    fn discard(&self, session: Session, reason: &str) {
        let own = lock(&self.shared.own).as_ref().map(|own| own.session).filter(|own| own.0 == session.0);
        if let Some(own) = own {
            self.shared.lose(own, reason);
        }
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.shared.clock.ahead()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.shared.close().boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        self.all(jobs.iter().cloned().map(Request::Enrol), enrolled).boxed()
    }

    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        async move {
            let names = asked.iter().flat_map(|asked| [asked.job.to_stored(), asked.key.to_stored()]);
            let (ledger, session) = self.shared.view(names.collect()).await?;
            let conflict = |asked| ledger.conflict(session, asked).map(|declared| declared.to_string());
            Ok(asked.iter().map(conflict).collect())
        }
        .boxed()
    }

    fn retract<'a>(&'a self, keys: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        self.all(keys.iter().cloned().map(Request::Retract), done).map(|all| all.map(drop)).boxed()
    }

    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        async move { self.shared.other_zone_data().await.map_err(lock_error) }.boxed()
    }

    fn compare<'a>(&'a self, known: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        self.shared.compare(known).boxed()
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        async move {
            let names = jobs.iter().map(|asked| asked.job.to_stored()).collect();
            let (ledger, _) = self.shared.view(names).await?;
            Ok(jobs.iter().map(|job| ledger.standing(job)).collect())
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        let withdraw = jobs.iter().cloned().map(move |job| Request::Withdraw(term, job));
        // What others have changed all the time stays enrolled, which does no harm.
        self.all(withdraw, |_| Ok(())).map(|all| all.map(drop)).boxed()
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        self.all(jobs.iter().map(move |job| Request::Pause(job.clone(), pause.cloned())), changed).boxed()
    }

    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        self.shared.next_notification(session).boxed()
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        self.shared.prove(proof).boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        self.all(requests.iter().cloned().map(Request::Claim), claimed).boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.all(ends.iter().cloned().map(Request::End), ended).boxed()
    }

    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        // Of the end itself nothing is kept.
        let plain =
            |end: &Completion| Completion { pause_after: None, from_completion: false, ..end.clone() };
        self.all(ends.iter().map(move |end| Request::End(plain(end))), ended).boxed()
    }

    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        self.all(advances.iter().cloned().map(Request::Advance), advanced).boxed()
    }

    fn round<'a>(
        &'a self,
        ends: &'a [Completion],
        claims: &'a [ClaimRequest],
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, RoundAnswers> {
        async move {
            let ended_first = ends.iter().cloned().map(Request::End);
            let then_claimed = claims.iter().cloned().map(Request::Claim);
            let then_advanced = advances.iter().cloned().map(Request::Advance);
            let all = ended_first.chain(then_claimed).chain(then_advanced).collect();
            match ask(&self.shared, all).await {
                Ok(mut of_ends) => {
                    let of_advances = of_ends.split_off(ends.len() + claims.len());
                    let of_claims = of_ends.split_off(ends.len());
                    RoundAnswers {
                        ended: of_ends.into_iter().map(ended).collect(),
                        claimed: of_claims.into_iter().map(claimed).collect(),
                        advanced: of_advances.into_iter().map(advanced).collect(),
                    }
                }
                Err(error) => RoundAnswers::failed(&error),
            }
        }
        .boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.shared.close_lost(limit).boxed()
    }

    fn keep_names<'a>(
        &'a self,
        jobs: &'a [JobName],
        fresh: Duration,
    ) -> BoxFuture<'a, Result<(), LockError>> {
        // What others have changed all the time is left for the next time.
        let keep = jobs.iter().cloned().map(move |job| Request::Keep(job, fresh));
        self.all(keep, |_| Ok(())).map(|all| all.map(drop)).boxed()
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        self.shared.forget(term, after).boxed()
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        async move { self.shared.pending_retries(after, limit).await.map_err(lock_error) }.boxed()
    }
}

fn ended(answer: Answer) -> Result<Completed, LockError> {
    match answer {
        Answer::Ended(completed) => Ok(completed),
        Answer::Contended => Ok(Completed::Locked),
        other => Err(mismatch(&other)),
    }
}

fn claimed(answer: Answer) -> Result<Verdict, LockError> {
    match answer {
        Answer::Claimed(verdict) => Ok(verdict),
        Answer::Contended => Ok(Verdict::Locked { holder: None }),
        other => Err(mismatch(&other)),
    }
}

fn advanced(answer: Answer) -> Result<Advanced, LockError> {
    match answer {
        Answer::Advanced(advanced) => Ok(advanced),
        Answer::Contended => Ok(Advanced::Locked),
        other => Err(mismatch(&other)),
    }
}

fn enrolled(answer: Answer) -> Result<Enrolled, LockError> {
    match answer {
        Answer::Enrolled(enrolled) => Ok(enrolled),
        Answer::Contended => Ok(Enrolled::Locked),
        other => Err(mismatch(&other)),
    }
}

fn changed(answer: Answer) -> Result<bool, LockError> {
    match answer {
        Answer::Changed(changed) => Ok(changed),
        Answer::Contended => Err(LockError::Timeout),
        other => Err(mismatch(&other)),
    }
}

fn done(answer: Answer) -> Result<(), LockError> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Contended => Err(LockError::Timeout),
        other => Err(mismatch(&other)),
    }
}

/// Each request has answers of its kind.
fn mismatch(answer: &Answer) -> LockError {
    debug_assert!(false, "an answer of another kind: {answer:?}");
    LockError::NotDone { reason: "an answer of another kind; it is a defect of this library".to_owned() }
}
