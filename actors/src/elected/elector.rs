//! Terms, as the elector that is wrapped grants them.

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{
    leading::{Before, Lead, Leading, Resigning, starts_to, trusted_until},
    shared::{OpenSession, Shared},
};
use crate::{
    core::due_ticks::DecidedTo,
    name::Term,
    port::{Campaign, ElectError, Elector, Grant, Handover, Observation, Renewal, Session},
};

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
        let Campaign::Won(grant) = &answer else { return Ok(answer) };
        self.state().won = Some(grant.term);
        match self.take_over(session, grant, began + grant.waited).await {
            Ok(true) => Ok(answer),
            Ok(false) => {
                self.give_back(grant.term).await?;
                Ok(Campaign::Lost { leader: None, retry_in: Duration::ZERO })
            }
            // It is given back before the next campaign, or lapses.
            Err(error) => Err(error),
        }
    }

    /// Reads what the leader before left, leaves the first word of this one, and leads. Answers whether it does.
    async fn take_over(
        &self,
        session: Session,
        Grant { term, lease, .. }: &Grant,
        started: Instant,
    ) -> Result<bool, ElectError> {
        let (term, lease) = (*term, *lease);
        let former = match self.handovers() {
            Some(handovers) => handovers.newest().await?,
            None => None,
        };
        let now = self.now();
        let is_own = former.as_ref().is_some_and(|former| self.state().led == Some(former.term));
        let before = match (&former, self.handovers()) {
            (_, None) => Some(Before::unknown(now)),
            // It knows what it decided.
            (Some(_), Some(_)) if is_own => None,
            (former, Some(_)) => former.as_ref().map(Before::of),
        };
        let known = former.as_ref().map_or_else(nothing_decided, |former| DecidedTo {
            instant: former.decided_to,
            behind: former.behind.clone(),
            is_early: false,
        });
        let said = former.as_ref().map(|former| former.said).unwrap_or_default();
        let starts_to = starts_to(now, lease);
        let trusted_until = trusted_until(started, lease);
        let leading = Leading { term, lease, trusted_until, starts_to, before, known, all_enrolled: false };
        if let Some(handovers) = self.handovers() {
            let DecidedTo { instant, behind, .. } = leading.known.clone();
            let former_to = former.as_ref().and_then(|former| former.starts_to);
            let starts_to = former_to.max(Some(starts_to));
            let handover = Handover { term, decided_to: instant, behind, starts_to, said };
            match handovers.leave(term, &handover).await? {
                Renewal::Renewed => {}
                Renewal::Deposed => return Ok(false),
            }
        }
        let mut state = self.state();
        if !state.session.is_some_and(|open| open.session == session) {
            return Ok(false);
        }
        state.ledger.begin_term(term);
        state.lead = Lead::Leads(leading);
        (state.won, state.led, state.said) = (None, Some(term), said);
        drop(state);
        self.changed.notify_waiters();
        Ok(true)
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
            let Some(leading) = state.lead.leads(term) else { return Ok(()) };
            let handover = leading.last_handover(now, &state.ticks, state.said);
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
