//! Terms, as the elector that is wrapped grants them.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{
    leading::{Before, Lead, Leading, Resigning, starts_to, trusted_until},
    shared::{OpenSession, Shared, State},
};
use crate::{
    core::{due_ticks::DecidedTo, duration::DurationText},
    name::Term,
    port::{Campaign, ElectError, Elector, Grant, Handover, Observation, Renewal, Session},
};

/// What leaders left is not taken over if it is so much later than this node's clock: one of the clocks is wrong, and
/// until then nothing would run. As far as clocks may be off by default where they are measured.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);
/// A node that keeps a term until its runs have ended does not stand again before, and looks so often.
const RESIGNING_LOOK: Duration = Duration::from_secs(1);

pub(super) struct ElectedElector {
    pub(super) shared: Arc<Shared>,
}

impl Elector for ElectedElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        self.shared.campaign(patience).boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let observed = self.shared.elector.observe(stands).await?;
            self.shared.state().has_leader = observed.leader.is_some();
            Ok(observed)
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        async move {
            let leads = self.shared.state().lead.leads(term).is_some();
            if leads { self.shared.renew(term).await } else { Ok(Renewal::Deposed) }
        }
        .boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        self.shared.resign(term).boxed()
    }
}

/// It leads now.
struct TakenOver {
    undecided_from: Option<DateTime<Utc>>,
}

impl Shared {
    async fn campaign(&self, patience: Duration) -> Result<Campaign, ElectError> {
        let (session, won) = {
            let state = self.state();
            let Some(OpenSession { session, .. }) = state.session else { return Err(no_session()) };
            if let Lead::Resigning(_) = state.lead {
                return Ok(Campaign::Lost { leader: self.election.node(), retry_in: RESIGNING_LOOK });
            }
            (session, state.won)
        };
        if self.state().lead.is_leading() {
            // What was granted under it may still go on.
            self.lose(session, "the lead was not extended in time");
            return Err(no_session());
        }
        if let Some(term) = won {
            self.give_back(term).await?;
        }
        let began = Instant::now();
        let answer = self.elector.campaign(patience).await?;
        self.state().has_leader = match &answer {
            Campaign::Won(_) => true,
            Campaign::Lost { leader, .. } => leader.is_some(),
        };
        if let Campaign::Lost { leader: Some(_), .. } = &answer {
            // Whoever leads says it.
            self.state().refusal = None;
        }
        let Campaign::Won(grant) = &answer else { return Ok(answer) };
        self.state().won = Some(grant.term);
        match self.take_over(session, grant, began + grant.waited).await {
            Ok(Some(TakenOver { undecided_from })) => {
                Ok(Campaign::Won(Grant { undecided_from, ..grant.clone() }))
            }
            Ok(None) => {
                self.give_back(grant.term).await?;
                Ok(Campaign::Lost { leader: None, retry_in: Duration::ZERO })
            }
            // It is given back before the next campaign, or lapses.
            Err(error) => Err(error),
        }
    }

    /// Reads what the leader before left, leaves the first word of this one, and leads. `None`: it does not.
    async fn take_over(
        &self,
        session: Session,
        Grant { term, lease, .. }: &Grant,
        started: Instant,
    ) -> Result<Option<TakenOver>, ElectError> {
        let (term, lease) = (*term, *lease);
        let former = match self.handovers() {
            Some(handovers) => handovers.newest().await?,
            None => None,
        };
        let now = self.now();
        let reach = self.reach(lease);
        self.check_clock(former.as_ref(), now, reach)?;
        let before = self.before(former.as_ref(), now);
        let undecided_from = self.undecided_from(former.as_ref());
        let known = former.as_ref().map_or_else(nothing_decided, |former| DecidedTo {
            instant: former.decided_to,
            behind: former.behind.clone(),
            is_early: false,
        });
        let said = former.as_ref().map(|former| former.said).unwrap_or_default();
        let starts_to = starts_to(now, reach);
        let trusted_until = trusted_until(started, lease);
        let leading = Leading {
            term,
            lease,
            trusted_until,
            starts_to,
            reach,
            before: before.clone(),
            known,
            granted: None,
            all_enrolled: false,
        };
        if let Some(handovers) = self.handovers() {
            let DecidedTo { instant, behind, .. } = leading.known.clone();
            let former_to = former.as_ref().and_then(|former| former.starts_to);
            let starts_to = former_to.max(Some(starts_to));
            let handover = Handover { term, decided_to: instant, behind, starts_to, said };
            match handovers.leave(term, &handover).await? {
                Renewal::Renewed => {}
                Renewal::Deposed => return Ok(None),
            }
        }
        let mut state = self.state();
        if !state.session.is_some_and(|open| open.session == session) {
            return Ok(None);
        }
        state.ledger.begin_term(term);
        state.lead = Lead::Leads(leading);
        (state.won, state.led, state.before, state.said) = (None, Some(term), before, said);
        drop(state);
        self.changed.notify_waiters();
        Ok(Some(TakenOver { undecided_from }))
    }

    /// What another leader left, as far as this node does not know better. What this node decided in its own terms it
    /// knows; what was left to it before, it may not have decided in them.
    fn before(&self, former: Option<&Handover>, now: DateTime<Utc>) -> Option<Arc<Before>> {
        if self.handovers().is_none() {
            return Some(Arc::new(Before::unknown(now)));
        }
        let former = former?;
        let state = self.state();
        if state.led == Some(former.term) {
            return state.before.clone();
        }
        Some(Arc::new(Before::of(former)))
    }

    /// Since when nobody decided ticks, if this node began later: it has no cursor from then.
    fn undecided_from(&self, former: Option<&Handover>) -> Option<DateTime<Utc>> {
        let former = former?;
        let began_at = {
            let state = self.state();
            let is_own = state.led == Some(former.term);
            state.began_at.filter(|began_at| !is_own && former.decided_to < *began_at)?
        };
        tracing::warn!(
            target: "callsheet", scope = %self.election.scope(), from = %former.decided_to, to = %began_at,
            "what became of ticks between these instants is not known: no leader has said so, and this node was \
             not there"
        );
        Some(former.decided_to)
    }

    /// Nothing runs before what is decided. So a leader whose clock was ahead would silence all that follow.
    /// What can be wrong with a handover is told in [`obstacles`](crate::port::Locker::obstacles) as well.
    pub(super) fn check_clock(
        &self,
        left: Option<&Handover>,
        now: DateTime<Utc>,
        reach: Option<Duration>,
    ) -> Result<(), ElectError> {
        let reach = reach.and_then(|reach| TimeDelta::from_std(reach).ok()).unwrap_or_else(TimeDelta::zero);
        let starts_to = left.and_then(|left| left.starts_to?.checked_sub_signed(reach));
        let latest = starts_to.max(left.map(|left| left.decided_to));
        let mut state = self.state();
        let Some(latest) = latest.filter(|latest| *latest - now > AHEAD_MAX) else {
            state.refusal = None;
            return Ok(());
        };
        let ahead = DurationText(AHEAD_MAX.to_std().unwrap_or_default());
        let reason = format!(
            "a leader says that ticks are decided up to {latest}, which is later than this node's clock by more than \
             {ahead}: one of the clocks is or was wrong, and nothing is due before"
        );
        let since = state.refusal.take().map_or_else(Instant::now, |(_, since)| since);
        state.refusal = Some((reason.clone(), since));
        Err(ElectError::Unavailable { reason })
    }

    /// A term that is of no use.
    async fn give_back(&self, term: Term) -> Result<(), ElectError> {
        self.elector.resign(term).await?;
        self.state().won.take_if(|won| *won == term);
        Ok(())
    }

    /// Starts nothing more, and gives the term up once the runs of this node have ended.
    pub(super) async fn resign(&self, term: Term) -> Result<(), ElectError> {
        let now = self.now();
        {
            let mut state = self.state();
            let State { lead, ticks, said, .. } = &mut *state;
            let Some(leading) = lead.leads_mut(term) else { return Ok(()) };
            let handover = leading.last_handover(now, ticks, *said);
            let (lease, trusted_until) = (leading.lease, leading.trusted_until);
            state.ledger.end_term(term);
            state.ticks.clear();
            state.lead = Lead::Resigning(Resigning { term, lease, trusted_until, handover });
            if state.has_runs() {
                drop(state);
                self.changed.notify_waiters();
                return Ok(());
            }
        }
        self.release().await
    }

    /// Gives up the term that is kept for runs which have ended.
    pub(super) async fn release(&self) -> Result<(), ElectError> {
        let term = match &self.state().lead {
            Lead::Resigning(resigning) => resigning.term,
            Lead::Leads(_) | Lead::No => return Ok(()),
        };
        let left = match self.handovers() {
            Some(_) => self.renew(term).await.map(drop),
            None => Ok(()),
        };
        let resigned = self.elector.resign(term).await;
        let mut state = self.state();
        if let Lead::Resigning(resigning) = &state.lead
            && resigning.term == term
        {
            state.lead = Lead::No;
        }
        drop(state);
        self.changed.notify_waiters();
        left.and(resigned)
    }
}

/// Nobody has said anything yet.
fn nothing_decided() -> DecidedTo {
    DecidedTo { instant: DateTime::UNIX_EPOCH, behind: Vec::new(), is_early: false }
}

fn no_session() -> ElectError {
    ElectError::Unavailable { reason: "there is no session".to_owned() }
}
