//! Who may run what, on PostgreSQL: the port, one call a method.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    JobName, LockKey, RunId, Term,
    port::{
        Advanced, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance, Declaration, Divergence,
        Enrolled, Enrolment, Forgotten, Inquiry, KnownHistory, LeaderView, LockError, Locker, Notification,
        Obstacle, OtherZoneData, Pause, PendingRetryOfJob, Proof, Proved, RoundAnswers, Session, Verdict,
    },
};
use chrono::TimeDelta;
use foldhash::HashMap;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join3, pending},
};

use super::{
    Shared,
    batch::{first_round, in_rounds, is_one_round, names_of, names_of_end},
    claims::{Way, same_for},
    session::OpenSession,
    sessions,
    statement::{answer::read, declare, enrol, pending_retries},
};

pub(super) struct PostgresLocker {
    pub(super) shared: Arc<Shared>,
}

impl PostgresLocker {
    fn session(&self) -> Result<Arc<OpenSession>, LockError> {
        let none = || LockError::SessionLost { reason: "there is no session with the server".to_owned() };
        self.shared.session().ok_or_else(none)
    }
}

impl Locker for PostgresLocker {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        self.shared.open().boxed()
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        async move {
            let mut loss = match self.shared.session() {
                Some(open) if open.id() == session => open.loss(),
                // Another one was opened since, or it was closed.
                _ => return "it was closed".to_owned(),
            };
            let lost = loss.wait_for(Option::is_some).await;
            // An error: the session was dropped.
            let ended = lost.ok().and_then(|ended| ended.clone());
            ended.map_or_else(|| "it was dropped".to_owned(), |ended| ended.reason)
        }
        .boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        self.shared.session().is_some_and(|open| open.id() == session && open.lost_reason().is_none())
    }

    fn discard(&self, session: Session, reason: &str) {
        self.shared
            .session()
            .iter()
            .filter(|open| open.id() == session)
            .for_each(|open| open.discard(reason));
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        self.shared.session().map_or_else(Vec::new, |session| session.obstacles.all())
    }

    fn snapshot_age(&self) -> Duration {
        self.shared.session().map_or(Duration::ZERO, |session| session.snapshot_age.read())
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.shared.clocks.ahead()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.shared.clocks.round_trip()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.shared.close().await;
        }
        .boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                jobs,
                Enrolled::Locked,
                |job| [Some(&job.job)],
                |round| async move { session.enrol(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        async move {
            let session = self.session()?;
            let asked = declare::Asked::of(session.asker(), asked);
            let rows = session.ask(&session.statements.conflicts, &asked.list()).await?;
            read(&rows, declare::conflict)
        }
        .boxed()
    }

    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        async move { sessions::other_zone_data(&self.session()?).await }.boxed()
    }

    fn retract<'a>(&'a self, keys: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        async move { self.session()?.retract(keys).await }.boxed()
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        async move {
            let session = self.session()?;
            let asked = enrol::Inquiries::of(session.asker(), jobs);
            let rows = session.ask(&session.statements.inquire, &asked.list()).await?;
            read(&rows, enrol::standing)
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        async move {
            let session = self.session()?;
            let asked = enrol::Withdrawn::of(session.asker(), term, jobs);
            session.ask(&session.statements.withdraw, &asked.list()).await?;
            Ok(())
        }
        .boxed()
    }

    fn compare<'a>(&'a self, known: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        async move { self.session()?.compare(known).await }.boxed()
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        async move { self.session()?.prove(proof).await }.boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        async move {
            let session = self.session()?;
            if is_one_round(requests, names_of) {
                return session.claim(&requests.iter().collect::<Vec<_>>()).await;
            }
            let mut answers: Vec<Option<Verdict>> = requests.iter().map(|_| None).collect();
            let mut waiting: Vec<usize> = (0..requests.len()).collect();
            while !waiting.is_empty() {
                let (round, later) = first_round(waiting, |at| names_of(&requests[*at]));
                let asked: Vec<_> = round.iter().map(|at| &requests[*at]).collect();
                let verdicts = match session.claim(&asked).await {
                    Ok(verdicts) => verdicts,
                    // What earlier rounds granted is committed.
                    Err(LockError::NotDone { reason }) if answers.iter().any(Option::is_some) => {
                        for at in round.into_iter().chain(later) {
                            answers[at] = Some(Verdict::Unavailable { reason: reason.clone() });
                        }
                        break;
                    }
                    Err(error) => return Err(error),
                };
                let of_keys: HashMap<_, _> = asked
                    .iter()
                    .zip(&verdicts)
                    .map(|(asked, verdict)| (&asked.key, (*asked, verdict)))
                    .collect();
                let known = |later: &ClaimRequest| {
                    of_keys.get(&later.key).and_then(|(asked, verdict)| same_for(later, asked, verdict))
                };
                // Not one by one: each round trip of very many claims of one key would add to the deadline of
                // all.
                waiting = Vec::new();
                for at in later {
                    answers[at] = known(&requests[at]);
                    if answers[at].is_none() {
                        waiting.push(at);
                    }
                }
                round.into_iter().zip(verdicts).for_each(|(at, verdict)| answers[at] = Some(verdict));
            }
            // Each was asked once, or known.
            answers.into_iter().collect::<Option<_>>().ok_or(LockError::Timeout)
        }
        .boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                ends,
                Completed::Locked,
                names_of_end,
                |round| async move { session.complete(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                ends,
                Completed::Locked,
                |end| [Some(&end.key)],
                |round| async move { session.release(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                advances,
                Advanced::Locked,
                |asked| [Some(&asked.job)],
                |round| async move { session.advance(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn round<'a>(
        &'a self,
        ends: &'a [Completion],
        claims: &'a [ClaimRequest],
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, RoundAnswers> {
        async move {
            let session = match self.session() {
                Ok(session) => session,
                Err(error) => return RoundAnswers::failed(&error),
            };
            let kinds = [!ends.is_empty(), !claims.is_empty(), !advances.is_empty()];
            // Each would be a transaction of its own.
            let several_statements = kinds.into_iter().filter(|asked| *asked).count() > 1
                || Way::differ(claims)
                || session.ends_differ(ends);
            let once = several_statements
                && is_one_round(ends, names_of_end)
                && is_one_round(claims, names_of)
                && is_one_round(advances, |asked| [Some(asked.job.as_str())]);
            if once {
                let (ends, claims, advances): (Vec<_>, Vec<_>, Vec<_>) =
                    (ends.iter().collect(), claims.iter().collect(), advances.iter().collect());
                if let Some(answers) = session.round_at_once(&ends, &claims, &advances).await {
                    return answers;
                }
            }
            // One by one: what is refused is refused alone.
            let (ended, claimed, advanced) =
                join3(self.complete(ends), self.claim(claims), self.advance(advances)).await;
            RoundAnswers { ended, claimed, advanced }
        }
        .boxed()
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        async move { self.session()?.pause(jobs, pause).await }.boxed()
    }

    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        async move {
            match self.shared.session().filter(|open| open.id() == session) {
                // Not the session itself: it ends when it is let go.
                Some(open) => open.notifications(),
                None => return pending().await,
            }
            .next()
            .await
        }
        .boxed()
    }

    fn keep_names<'a>(
        &'a self,
        jobs: &'a [JobName],
        fresh: Duration,
    ) -> BoxFuture<'a, Result<(), LockError>> {
        async move { self.session()?.keep_names(jobs, fresh).await }.boxed()
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        async move { self.session()?.forget(term, after).await }.boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        async move { self.session()?.close_lost(limit).await }.boxed()
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        async move {
            let session = self.session()?;
            let asked = pending_retries::Page::of(session.asker(), after, limit);
            let rows = session.ask(&session.statements.pending_retries, &asked.list()).await?;
            let found = read(&rows, pending_retries::pending)?;
            Ok(found.into_iter().flatten().collect())
        }
        .boxed()
    }
}
