//! Sessions: that of the elector, if it needs one, and what the leader was granted in its memory.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, pending, select},
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    leading::{Lead, Resigning},
    shared::{NOT_EXTENDED, OpenSession, Shared},
};
use crate::{
    CALL_DEADLINE,
    name::Term,
    port::{LockError, Session},
};

/// A term that is kept for its runs is extended so often in its lease.
const RENEWALS: u32 = 4;
/// One without a lease is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What whoever watches a session does next.
enum Next {
    /// It is over.
    Lost(String),
    /// Nobody trusts the lead any more.
    Distrusted,
    /// The runs have ended for which the term was kept.
    Release,
    /// The term that is kept for runs is to be extended.
    Renew(Term),
    /// It waits until something changes, or this instant.
    Wait(Option<Instant>),
}

impl Shared {
    pub(super) async fn open(&self) -> Result<Session, LockError> {
        {
            let mut state = self.state();
            "another session was opened".clone_into(&mut state.lost);
            state.end_session();
        }
        self.changed.notify_waiters();
        let now = self.now();
        self.state().began_at.get_or_insert(now);
        self.election.reach().await?;
        let inner = match &self.opener {
            Some(opener) => Some(opener.open().await?),
            None => None,
        };
        let mut state = self.state();
        let session = state.ledger.open_session();
        state.session = Some(OpenSession { session, inner });
        Ok(session)
    }

    /// Resolves when a session is lost. Until then it extends a term that is kept for runs, and gives it up when they
    /// have ended.
    pub(super) async fn watch(&self, session: Session) -> String {
        let open = self.state().session.filter(|open| open.session == session);
        let mut inner_lost: Pin<Box<dyn Future<Output = String> + Send + '_>> =
            match (&self.opener, open.and_then(|open| open.inner)) {
                (Some(opener), Some(inner)) => Box::pin(opener.lost(inner)),
                (None, _) | (_, None) => Box::pin(pending()),
            };
        let mut renew_at = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look: what comes in between wakes it.
            changed.as_mut().enable();
            let waits: BoxFuture<'_, ()> = match self.next(session, &mut renew_at) {
                Next::Lost(reason) => return reason,
                Next::Distrusted => {
                    self.lose(session, NOT_EXTENDED);
                    continue;
                }
                // What fails lapses, or is asked again after a pause, for as long as there is trust.
                Next::Release => self.while_trusted(session, self.release().map(drop)).boxed(),
                Next::Renew(term) => {
                    renew_at = None;
                    self.while_trusted(session, self.renew(term).map(drop)).boxed()
                }
                Next::Wait(until) => async move {
                    match until {
                        Some(until) => {
                            let _ = select(changed, pin!(sleep_until(until))).await;
                        }
                        None => changed.await,
                    }
                }
                .boxed(),
            };
            if let Either::Left((reason, _)) = select(&mut inner_lost, waits).await {
                self.lose(session, &reason);
            }
        }
    }

    /// Waits for a call, but neither longer than a call may take, nor than the lead is trusted, nor than the session
    /// lives.
    async fn while_trusted(&self, session: Session, call: impl Future<Output = ()> + Send) {
        let over = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                let (open, trusted_until) = {
                    let state = self.state();
                    (state.session, state.lead.trusted_until())
                };
                if open.is_none_or(|open| open.session != session)
                    || trusted_until.is_some_and(|until| until <= Instant::now())
                {
                    return;
                }
                match trusted_until {
                    Some(until) => {
                        let _ = select(changed, pin!(sleep_until(until))).await;
                    }
                    None => changed.await,
                }
            }
        };
        // What comes of it is looked at anew.
        let _ = select(pin!(timeout(CALL_DEADLINE, call)), pin!(over)).await;
    }

    fn next(&self, session: Session, renew_at: &mut Option<Instant>) -> Next {
        let now = Instant::now();
        let state = self.state();
        if state.session.is_none_or(|open| open.session != session) {
            return Next::Lost(state.lost.clone());
        }
        if state.lead.is_distrusted() {
            return Next::Distrusted;
        }
        match &state.lead {
            Lead::No => Next::Wait(None),
            Lead::Leads(leading) => Next::Wait(leading.trusted_until),
            Lead::Resigning(_) if !state.has_runs() => Next::Release,
            Lead::Resigning(Resigning { term, lease, trusted_until, .. }) => {
                let pause = lease.map_or(LOOK_EVERY, |lease| lease.duration / RENEWALS);
                let renew_at = *renew_at.get_or_insert_with(|| now + pause);
                if renew_at <= now {
                    return Next::Renew(*term);
                }
                Next::Wait(Some(trusted_until.map_or(renew_at, |until| until.min(renew_at))))
            }
        }
    }

    pub(super) fn trusts(&self, session: Session) -> bool {
        let (open, is_distrusted) = {
            let state = self.state();
            (state.session, state.lead.is_distrusted())
        };
        let Some(OpenSession { inner, .. }) = open.filter(|open| open.session == session) else {
            return false;
        };
        let inner_trusts = match (&self.opener, inner) {
            (Some(opener), Some(inner)) => opener.trusts(inner),
            (None, _) | (_, None) => true,
        };
        inner_trusts && !is_distrusted
    }

    /// Gives the lead up, if nothing goes on any more, and ends the session.
    pub(super) async fn close(&self) {
        let led = match &self.state().lead {
            Lead::Leads(leading) => Some(leading.term),
            Lead::Resigning(_) | Lead::No => None,
        };
        if let Some(term) = led {
            // It lapses otherwise.
            let _ = self.resign(term).await;
        }
        if !self.state().has_runs() {
            let _ = self.release().await;
        }
        {
            let mut state = self.state();
            "it was closed".clone_into(&mut state.lost);
            state.end_session();
        }
        self.changed.notify_waiters();
        if let Some(opener) = &self.opener {
            opener.close().await;
        }
    }
}
