//! What the elector and the locker of a node share.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::Notify, time::Instant};

use super::{
    OnUnproven,
    leading::{Before, Lead, Leading, Resigning, trusted_until},
};
use crate::{
    core::{due_ticks::DueTicks, ledger::Ledger},
    name::Term,
    port::{
        Clock, ElectError, Election, Elector, Handovers, LeaderSaid, Lease, LockError, Locker, Renewal,
        Session, SystemClock, TickVotes,
    },
};

/// A term without a lease grants ticks so many leases of its system beyond a renewal: it is renewed with each proof,
/// which comes within one.
const LEASES_WITHOUT: u32 = 2;

/// Why a session ended whose lead is not trusted any more.
pub(super) const NOT_EXTENDED: &str = "the lead was not extended in time";

pub(super) struct Shared {
    pub(super) election: Arc<dyn Election>,
    pub(super) elector: Arc<dyn Elector>,
    /// Whoever opens the session that the elector needs.
    pub(super) opener: Option<Arc<dyn Locker>>,
    /// Where ticks of jobs that any node fires are asked for.
    pub(super) votes: Option<Arc<dyn TickVotes>>,
    pub(super) on_unproven: OnUnproven,
    clock: OnceLock<Arc<dyn Clock>>,
    state: Mutex<State>,
    /// Something changed that whoever watches the session waits for.
    pub(super) changed: Notify,
    /// There may be a notification.
    pub(super) told: Notify,
    /// One renewal after the other.
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    /// The first undecided tick of each job that is enrolled under the term.
    pub(super) ticks: DueTicks,
    pub(super) session: Option<OpenSession>,
    /// Why the last session that was lost is lost.
    pub(super) lost: String,
    pub(super) lead: Lead,
    /// A term that was won, and may not be of use: it is given back before the next campaign.
    pub(super) won: Option<Term>,
    /// The last term in which this node led: what it decided in it, it knows.
    pub(super) led: Option<Term>,
    /// What another leader left before that.
    pub(super) before: Option<Arc<Before>>,
    /// Why this node does not take over what leaders left, and since when.
    pub(super) refusal: Option<(String, Instant)>,
    /// Since when this node has looked at its jobs, by the clock of the system that elects.
    pub(super) began_at: Option<DateTime<Utc>>,
    /// What leaders said last, as far as this node knows.
    pub(super) said: LeaderSaid,
    /// Somebody is known to lead.
    pub(super) has_leader: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct OpenSession {
    pub(super) session: Session,
    /// That of the elector.
    pub(super) inner: Option<Session>,
}

impl Shared {
    pub(super) fn new(election: Arc<dyn Election>, on_unproven: OnUnproven) -> Self {
        Self {
            elector: election.elector(),
            opener: election.session(),
            votes: election.votes(),
            election,
            on_unproven,
            clock: OnceLock::new(),
            state: Mutex::default(),
            changed: Notify::new(),
            told: Notify::new(),
            renewing: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn set_clock(&self, clock: Arc<dyn Clock>) {
        // Told once.
        let _ = self.clock.set(clock);
    }

    /// What the clock of the system that elects reads, if it was measured; that of the node otherwise.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let now = self.clock.get_or_init(|| Arc::new(SystemClock::default())).now();
        now.checked_sub_signed(self.clock_ahead()).unwrap_or(now)
    }

    /// How much the clock of this node is ahead of that of the system that elects.
    pub(super) fn clock_ahead(&self) -> TimeDelta {
        self.opener.as_ref().map_or_else(TimeDelta::zero, |opener| opener.clock_ahead())
    }

    /// How far beyond a renewal ticks are granted; `None`: for ever, as nobody is told.
    pub(super) fn reach(&self, lease: Option<Lease>) -> Option<Duration> {
        match lease {
            Some(Lease { duration, margin }) => Some(duration.saturating_sub(margin)),
            None => self.handovers().map(|_| self.election.lease().saturating_mul(LEASES_WITHOUT)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handovers(&self) -> Option<&dyn Handovers> {
        self.elector.handovers()
    }

    /// Does something on the session that is open. One whose lead is not trusted any more is over, whoever finds that
    /// first: a node that stood still knows of no run that ends then whether another node runs the key meanwhile.
    pub(super) fn on_session<T>(
        &self,
        work: impl FnOnce(&mut State, Session, DateTime<Utc>) -> T,
    ) -> Result<T, LockError> {
        let now = self.now();
        let mut state = self.state();
        if state.session.is_some() && state.lead.is_distrusted() {
            NOT_EXTENDED.clone_into(&mut state.lost);
            state.end_session();
            self.changed.notify_waiters();
        }
        let Some(OpenSession { session, .. }) = state.session else {
            return Err(LockError::SessionLost { reason: state.lost.clone() });
        };
        let answer = work(&mut state, session, now);
        if state.ledger.take_told() {
            self.told.notify_waiters();
        }
        Ok(answer)
    }

    /// The session is over, and with it the lead.
    pub(super) fn lose(&self, session: Session, reason: &str) {
        let mut state = self.state();
        if state.session.is_some_and(|open| open.session == session) {
            reason.clone_into(&mut state.lost);
            state.end_session();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Extends the term in which this node leads, or which it is about to give up, and leaves word to the next leader.
    pub(super) async fn renew(&self, term: Term) -> Result<Renewal, ElectError> {
        let _alone = self.renewing.lock().await;
        let now = self.now();
        let (handover, starts_to, reach, of) = {
            let mut state = self.state();
            let of = state.session.map(|open| open.session);
            let State { lead, ticks, said, .. } = &mut *state;
            match lead {
                Lead::Leads(leading) if leading.term == term => {
                    let (handover, starts_to) = leading.handover(now, ticks, *said);
                    (handover, Some(starts_to), leading.reach, of)
                }
                Lead::Resigning(resigning) if resigning.term == term => {
                    (resigning.handover.clone(), None, None, of)
                }
                Lead::Leads(_) | Lead::Resigning(_) | Lead::No => return Ok(Renewal::Deposed),
            }
        };
        if starts_to.is_some() {
            // It leads on, and says what is wrong.
            let _ = self.check_clock(Some(&handover), now, reach);
        }
        let started = Instant::now();
        let renewed = match self.handovers() {
            Some(handovers) => handovers.leave(term, &handover).await?,
            None => self.elector.renew(term).await?,
        };
        let lost = {
            let mut state = self.state();
            let is_open = state.session.map(|open| open.session) == of;
            // Of a term that is over it says nothing of the one after it.
            match (&mut state.lead, renewed) {
                (Lead::Leads(leading), Renewal::Renewed) if leading.term == term && is_open => {
                    leading.trusted_until = trusted_until(started, leading.lease);
                    leading.starts_to = starts_to.unwrap_or(leading.starts_to);
                    None
                }
                (Lead::Resigning(resigning), Renewal::Renewed) if resigning.term == term && is_open => {
                    resigning.trusted_until = trusted_until(started, resigning.lease);
                    None
                }
                (Lead::Leads(Leading { term: own, .. }), Renewal::Deposed)
                | (Lead::Resigning(Resigning { term: own, .. }), Renewal::Deposed)
                    if *own == term && is_open =>
                {
                    of
                }
                (Lead::Leads(_) | Lead::Resigning(_) | Lead::No, Renewal::Renewed | Renewal::Deposed) => None,
            }
        };
        match lost {
            Some(session) => self.lose(session, "another node leads, or nobody does"),
            None => self.changed.notify_waiters(),
        }
        Ok(renewed)
    }
}

impl State {
    /// Ends the session that is open, with all that it holds, and the lead.
    pub(super) fn end_session(&mut self) -> Option<OpenSession> {
        let open = self.session.take()?;
        self.ledger.end_session(open.session);
        self.end_lead();
        Some(open)
    }

    /// The node does not lead any more.
    pub(super) fn end_lead(&mut self) {
        match std::mem::take(&mut self.lead) {
            Lead::Leads(leading) => self.ledger.end_term(leading.term),
            Lead::Resigning(_) | Lead::No => {}
        }
        self.ticks.clear();
    }

    /// Whether the session that is open has runs that have not ended.
    pub(super) fn has_runs(&self) -> bool {
        self.session.is_some_and(|open| self.ledger.has_open_run(open.session))
    }
}
