//! Sessions, claims and cursors of a shared store.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    LATENCY,
    backend::{Reply, StoreBackend},
    faults::BadData,
    state::OwnSession,
};
use crate::{
    core::operation::Operation,
    name::{JobName, LockKey, NodeId, RunId, Term},
    port::{
        Advanced, ClaimRequest, Clock, ClosedRuns, Completed, Completion, CursorAdvance, Decided,
        Declaration, Divergence, Enrolled, Enrolment, Forgotten, Inquiry, KnownHistory, LeaderView,
        LockError, Locker, Notification, OTHER_ZONE_DATA_MAX, OtherZoneData, Pause, PendingRetryOfJob, Proof,
        Proved, Session, Verdict,
    },
};

/// What changed so shortly before a question was asked may have changed after it was answered.
const JUST_NOW: Duration = Duration::from_secs(1);

impl Locker for StoreBackend {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        async move {
            let node = self.node;
            let lease = self.store.lease;
            let zone_data = self.zone_data();
            let opened = self.call(Operation::Open, move |state, now, since| {
                if let Some(reason) = state.refused.get(&Operation::Open) {
                    return Err(LockError::Unavailable { reason: reason.clone() });
                }
                // The former one, if the server still has it, ends with its connection.
                if let Some(own) = state.sessions.remove(&node) {
                    state.ledger.end_session(own.session);
                }
                state.changed_at = now;
                let session = state.ledger.open_session_of(node);
                let expires_at = now + lease.duration;
                state
                    .sessions
                    .insert(node, OwnSession { session, expires_at, zone_data, since, stands: true });
                Ok((session, now))
            });
            match opened.await {
                // It may have waited for long before it was sent.
                Reply::Answer(opened) => opened.map(|(session, opened_at)| {
                    self.trust(session, opened_at);
                    session
                }),
                Reply::Lost => Err(LockError::Timeout),
            }
        }
        .boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        let trusted = *self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.is_some_and(|(trusted, until)| trusted == session && Instant::now() < until)
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        async move {
            let lease = self.store.lease;
            let mut heard_at = Instant::now();
            loop {
                let changed = self.store.changed.notified();
                let next_beat = heard_at + lease.duration / 3;
                // A server that throws the client out is noticed at once, unless the network is cut.
                let _ = timeout_at(next_beat, changed).await;
                let sent_at = Instant::now();
                let node = self.node;
                let beat =
                    self.call(Operation::Session, move |state, now, _| match state.sessions.get_mut(&node) {
                        Some(own) if own.session == session => {
                            own.expires_at = now + lease.duration;
                            true
                        }
                        Some(_) | None => false,
                    });
                // Trusted from the start of the last beat that was answered, for less than the server's
                // lease.
                match timeout_at(heard_at + lease.duration - lease.margin, beat).await {
                    Ok(Reply::Answer(true)) => {
                        heard_at = sent_at;
                        self.trust(session, sent_at);
                    }
                    Ok(Reply::Answer(false)) => {
                        self.distrust(session);
                        return "the store ended it".to_owned();
                    }
                    Err(_) => {
                        self.distrust(session);
                        return "the store did not answer a heartbeat in time".to_owned();
                    }
                    Ok(Reply::Lost) => {}
                }
            }
        }
        .boxed()
    }

    fn next_look(&self, period: Duration) -> BoxFuture<'_, ()> {
        async move {
            let asked_at = Instant::now();
            loop {
                let notified = self.store.changes.notified();
                if self.store.lock().changed_at + JUST_NOW >= asked_at {
                    break;
                }
                notified.await;
            }
            // When it would have looked, had it looked once a period.
            let periods = asked_at.elapsed().as_nanos() / period.as_nanos().max(1) + 1;
            sleep_until(asked_at + period * u32::try_from(periods).unwrap_or(u32::MAX)).await;
        }
        .boxed()
    }

    /// As the next call will take.
    fn round_trip(&self) -> Option<Duration> {
        Some(self.store.lock().latency)
    }

    fn clock_ahead(&self) -> TimeDelta {
        if self.store.lock().hides_clock {
            return TimeDelta::zero();
        }
        self.clock.now() - self.store.clock.now()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            sleep(LATENCY).await;
            self.connected().await;
            self.store.end_session(self.node);
        }
        .boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        let enrolled = self.with_good_data(
            Operation::Enrol,
            BadData::Enrolment,
            jobs,
            |job| job.job.as_str(),
            |state, session, now| {
                let enrol = |job: &Enrolment| match state.is_locked(job.job.as_str())
                    || state.is_locked(job.key.as_str())
                {
                    true => Enrolled::Locked,
                    false => state.ledger.enrol(now, session, job),
                };
                jobs.iter().map(enrol).collect()
            },
        );
        enrolled.boxed()
    }

    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        let conflicts = self.with_good_data(
            Operation::Conflicts,
            BadData::Other,
            asked,
            |asked| asked.job.as_str(),
            |state, session, _| {
                let conflict =
                    |asked| state.ledger.conflict(session, asked).map(|declared| declared.to_string());
                asked.iter().map(conflict).collect()
            },
        );
        conflicts.boxed()
    }

    fn retract<'a>(&'a self, keys: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        let retracted = self.with_good_data(
            Operation::Retract,
            BadData::Other,
            keys,
            LockKey::as_str,
            |state, session, _| {
                keys.iter().for_each(|key| state.ledger.retract(session, key));
            },
        );
        retracted.boxed()
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        let asked = self.with_good_data(
            Operation::Inquire,
            BadData::Other,
            jobs,
            |job| job.job.as_str(),
            |state, _, _| jobs.iter().map(|job| state.ledger.standing(job)).collect(),
        );
        asked.boxed()
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        let withdrawn = self.with_good_data(
            Operation::Withdraw,
            BadData::Other,
            jobs,
            JobName::as_str,
            move |state, _, _| {
                jobs.iter().for_each(|job| state.ledger.withdraw(term, job));
            },
        );
        withdrawn.boxed()
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        let proved = self.with_session(Operation::Prove, move |state, _, now| {
            let leads = state.leader.map(|leader| leader.term);
            if proof.term.is_some() {
                state.said = proof;
            }
            if proof.all_decided && proof.term.is_some() && proof.term == leads {
                state.decided = (state.decided.0 + 1, now);
            }
            let said = Some(state.said).filter(|said| said.term == leads).unwrap_or_default();
            let (mark, said_at) = state.decided;
            let decided = Decided { mark, ago: (now - said_at).to_std().unwrap_or_default() };
            Proved::new(said.overdue_since, Some(decided)).catching_up_until(said.catching_up_until)
        });
        proved.boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        let claimed = self.with_good_data(
            Operation::Claim,
            BadData::Claim,
            requests,
            |asked| asked.job.as_str(),
            |state, session, now| {
                let claim = |request: &ClaimRequest| {
                    let locked = state.is_locked(request.key.as_str())
                        || ((request.tick.is_some() || request.resume_lost)
                            && state.is_locked(request.job.as_str()));
                    match locked && !request.recheck {
                        true => Verdict::Locked { holder: None },
                        false => state.ledger.claim(now, session, request),
                    }
                };
                requests.iter().map(claim).collect()
            },
        );
        claimed.boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        let completed = self.with_good_data(
            Operation::Complete,
            BadData::End,
            ends,
            |end| end.job.as_str(),
            |state, session, now| {
                let complete = |end: &Completion| match state.is_locked(end.key.as_str())
                    || state.is_locked(end.job.as_str())
                {
                    true => Completed::Locked,
                    false => state.ledger.complete(|| now, session, end),
                };
                ends.iter().map(complete).collect()
            },
        );
        completed.boxed()
    }

    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.with_session(Operation::Complete, |state, session, now| {
            // Of the end itself nothing is kept.
            let plain =
                |end: &Completion| Completion { pause_after: None, from_completion: false, ..end.clone() };
            let release = |end: &Completion| match state.is_locked(end.key.as_str()) {
                true => Completed::Locked,
                false => state.ledger.complete(|| now, session, &plain(end)),
            };
            ends.iter().map(release).collect()
        })
        .boxed()
    }

    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        let advanced = self.with_good_data(
            Operation::Advance,
            BadData::Advance,
            advances,
            |asked| asked.job.as_str(),
            |state, session, now| {
                let advance = |asked: &CursorAdvance| match state.is_locked(asked.job.as_str()) {
                    true => Advanced::Locked,
                    false => state.ledger.advance(session, asked, now),
                };
                advances.iter().map(advance).collect()
            },
        );
        advanced.boxed()
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        let paused = self.with_good_data(
            Operation::Pause,
            BadData::Pause,
            jobs,
            JobName::as_str,
            move |state, _, now| {
                // Somebody else has it locked all the time.
                if jobs.iter().any(|job| state.is_locked(job.as_str())) {
                    return Err(LockError::Timeout);
                }
                Ok(jobs.iter().map(|job| state.ledger.pause(now, job, pause)).collect())
            },
        );
        paused.map(|paused| paused.and_then(|paused| paused)).boxed()
    }

    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        async move {
            loop {
                // Before the look: what comes in between wakes it.
                let told = self.store.told.notified();
                self.connected().await;
                let (notification, silent, refused) = {
                    let mut state = self.store.lock();
                    let refused = state.refused.get(&Operation::Notification).cloned();
                    (state.take_notification(self.node, session), state.silent, refused)
                };
                if let (Some(_), Some(reason)) = (&notification, refused) {
                    resume_unwind(Box::new(reason));
                }
                match notification {
                    Some(_) if silent => {}
                    Some(notification) => return notification,
                    None => told.await,
                }
            }
        }
        .boxed()
    }

    /// Without latency and faults, which are for the calls that decide something.
    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        async move {
            self.connected().await;
            let own = self.zone_data();
            let state = self.store.at(Instant::now());
            let sessions: BTreeMap<_, _> = state.sessions.iter().collect();
            let mut others: BTreeMap<Arc<str>, NodeId> = BTreeMap::new();
            for (node, session) in sessions {
                if !session.zone_data.is_empty() && session.zone_data != own {
                    others.entry(session.zone_data.clone()).or_insert(*node);
                }
            }
            let others = others.into_iter().take(OTHER_ZONE_DATA_MAX);
            Ok(others.map(|(version, node)| OtherZoneData { version, node }).collect())
        }
        .boxed()
    }

    /// A call like any other only if it is another store.
    fn compare<'a>(&'a self, known: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        async move {
            if self.store.lock().forgets.is_none() {
                return Ok(Divergence::default());
            }
            let asked = self.with_session(Operation::Compare, |state, _, _| {
                state.forgets.as_ref().map(|forgets| forgets(known)).unwrap_or_default()
            });
            asked.await
        }
        .boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.with_session(Operation::CloseLost, move |state, _, now| state.ledger.close_lost(now, limit))
            .boxed()
    }

    fn keep_names<'a>(&'a self, jobs: &'a [JobName], _: Duration) -> BoxFuture<'a, Result<(), LockError>> {
        self.with_session(Operation::KeepNames, move |state, _, _| {
            jobs.iter().for_each(|job| state.ledger.keep_name(job))
        })
        .boxed()
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        self.with_session(Operation::Forget, move |state, _, now| state.ledger.forget(now, term, after))
            .boxed()
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        self.with_session(Operation::PendingRetries, move |state, _, _| {
            state.ledger.pending_retries(after, limit)
        })
        .boxed()
    }
}
