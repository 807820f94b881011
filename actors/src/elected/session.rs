//! Sessions: that of the elector, if it needs one, and what the leader was granted in its memory.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::future::{Either, pending, select};
use tokio::time::{Instant, sleep_until};

use super::{
    leading::{Lead, Resigning},
    shared::{OpenSession, Shared},
};
use crate::port::{LockError, Session};

/// A term that is kept for its runs is extended so often in its lease.
const RENEWALS: u32 = 4;
/// One without a lease is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What whoever watches a session does next.
enum Next {
    /// It is over.
    Lost(String),
    /// The runs have ended for which the term was kept.
    Release,
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
            let until = match self.next(session, &mut renew_at) {
                Next::Lost(reason) => return reason,
                Next::Release => {
                    // What fails lapses.
                    let _ = self.release().await;
                    continue;
                }
                Next::Wait(until) => until,
            };
            let slept = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            match select(&mut inner_lost, select(changed, pin!(slept))).await {
                Either::Left((reason, _)) => self.lose(session, &reason),
                Either::Right((Either::Left(_), _)) => {}
                Either::Right((Either::Right(_), _)) => self.on_time(session, &mut renew_at).await,
            }
        }
    }

    fn next(&self, session: Session, renew_at: &mut Option<Instant>) -> Next {
        let state = self.state();
        if state.session.is_none_or(|open| open.session != session) {
            return Next::Lost(state.lost.clone());
        }
        match &state.lead {
            Lead::No => Next::Wait(None),
            Lead::Leads(leading) => Next::Wait(leading.trusted_until),
            Lead::Resigning(_) if !state.has_runs() => Next::Release,
            Lead::Resigning(Resigning { lease, trusted_until, .. }) => {
                let pause = lease.map_or(LOOK_EVERY, |lease| lease.duration / RENEWALS);
                let renew_at = *renew_at.get_or_insert_with(|| Instant::now() + pause);
                Next::Wait(Some(trusted_until.map_or(renew_at, |until| until.min(renew_at))))
            }
        }
    }

    /// The trust is over, or the term is to be extended.
    async fn on_time(&self, session: Session, renew_at: &mut Option<Instant>) {
        let (trusted_until, resigning) = {
            let state = self.state();
            let resigning = match &state.lead {
                Lead::Resigning(resigning) => Some(resigning.term),
                Lead::Leads(_) | Lead::No => None,
            };
            (state.lead.trusted_until(), resigning)
        };
        if trusted_until.is_some_and(|until| until <= Instant::now()) {
            return self.lose(session, "the lead was not extended in time");
        }
        if let Some(term) = resigning {
            *renew_at = None;
            // Again after a pause, for as long as there is trust.
            let _ = self.renew(term).await;
        }
    }

    pub(super) fn trusts(&self, session: Session) -> bool {
        let (open, trusted_until) = {
            let state = self.state();
            (state.session, state.lead.trusted_until())
        };
        let Some(OpenSession { inner, .. }) = open.filter(|open| open.session == session) else {
            return false;
        };
        let inner_trusts = match (&self.opener, inner) {
            (Some(opener), Some(inner)) => opener.trusts(inner),
            (None, _) | (_, None) => true,
        };
        inner_trusts && trusted_until.is_none_or(|until| Instant::now() < until)
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
