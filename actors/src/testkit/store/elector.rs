//! Terms of a shared store.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::futures::Notified,
    time::{Instant, timeout, timeout_at},
};

use super::{
    StoreBackend,
    state::{Leader, OwnSession},
};
use crate::{
    CALL_DEADLINE,
    core::operation::Operation,
    deadline,
    name::{NodeId, Term},
    port::{Campaign, ElectError, Elector, Grant, Handover, Handovers, Observation, Renewal},
};

impl Elector for StoreBackend {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move {
            let began = Instant::now();
            let until = deadline::after(began, patience);
            loop {
                let changed = self.store.changed.notified();
                let asked_at = Instant::now();
                match self.ask_for_term().await? {
                    Ok((term, former_zone_data)) => {
                        let (lease, waited) = (Some(self.store.lease), asked_at - began);
                        return Ok(Campaign::Won(Grant {
                            term,
                            lease,
                            waited,
                            former_zone_data,
                            undecided_from: None,
                        }));
                    }
                    Err(leader) if Instant::now() >= until => return Ok(lost(leader)),
                    Err(_) => {
                        if let Some(leader) = self.wait_for_change(until, changed).await {
                            return Ok(lost(leader));
                        }
                    }
                }
            }
        }
        .boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let node = self.node;
            let observed = self.elect(Operation::Observe, move |state, own, now| {
                own?;
                state.sessions.entry(node).and_modify(|own| own.stands = stands);
                let is_candidate = |(other, session): (&NodeId, &OwnSession)| {
                    *other != node && session.stands && session.expires_at > now
                };
                let candidate = state.sessions.iter().any(is_candidate);
                let leader = state.leader.filter(|leader| leader.expires_at > now).map(|leader| leader.node);
                Some(Observation { leader, candidate })
            });
            observed.await?.ok_or_else(no_session)
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        self.extend(term, None).boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        async move {
            let resigned = self.elect(Operation::Resign, move |state, _, now| {
                state.changed_at = now;
                state.leader.take_if(|leader| leader.term == term);
                state.ledger.end_term(term);
            });
            resigned.await?;
            self.store.changed.notify_waiters();
            Ok(())
        }
        .boxed()
    }

    fn handovers(&self) -> Option<&dyn Handovers> {
        Some(self)
    }
}

impl Handovers for StoreBackend {
    fn newest(&self) -> BoxFuture<'_, Result<Option<Handover>, ElectError>> {
        self.elect(Operation::Observe, |state, _, _| state.handover.clone()).boxed()
    }

    fn leave<'a>(&'a self, term: Term, handover: &'a Handover) -> BoxFuture<'a, Result<Renewal, ElectError>> {
        self.extend(term, Some(handover)).boxed()
    }
}

impl StoreBackend {
    async fn extend(&self, term: Term, handover: Option<&Handover>) -> Result<Renewal, ElectError> {
        let (node, lease) = (self.node, self.store.lease);
        let renewed = self.elect(Operation::Renew, move |state, _, now| match &mut state.leader {
            Some(leader) if leader.node == node && leader.term == term => {
                leader.expires_at = now + lease.duration;
                state.handover = handover.cloned().or(state.handover.take());
                Renewal::Renewed
            }
            Some(_) | None => Renewal::Deposed,
        });
        renewed.await
    }

    /// Answers the term, with the time zone data of the former leader, or who leads.
    async fn ask_for_term(&self) -> Result<Result<(Term, Option<Arc<str>>), NodeId>, ElectError> {
        let (node, lease) = (self.node, self.store.lease);
        self.panic_if_given_up(Operation::Campaign).await;
        let asked = self.ask_elector(Operation::Campaign, move |state, own, now| {
            let own = own?;
            if let Some(leader) = state.leader {
                return Some(Err(leader.node));
            }
            let term = state.ledger.grant_term();
            let expires_at = now + lease.duration;
            state.changed_at = now;
            state.leader = Some(Leader { node, session: own.session, term, expires_at });
            Some(Ok((term, state.led_by_zone_data.replace(own.zone_data))))
        });
        // As long as any call may take: what is cut off, or stalls, waits for longer.
        let answer = timeout(CALL_DEADLINE, asked).await;
        let no_answer = || ElectError::Unavailable { reason: "no answer within the deadline".to_owned() };
        answer.map_err(|_| no_answer())??.ok_or_else(no_session)
    }

    /// Waits until it is worthwhile to ask for the term again. Answers who leads, if nothing has changed by
    /// `until`.
    ///
    /// As a server that lets a statement wait: it costs no call, however long it takes.
    async fn wait_for_change(&self, until: Instant, changed: Notified<'_>) -> Option<NodeId> {
        let mut changed = pin!(changed);
        loop {
            let now = Instant::now();
            let leads_until = {
                let state = self.store.lock();
                let leads_until = state.leads_until().filter(|leads_until| *leads_until > now)?;
                if !state.answers(self.node, Operation::Campaign) {
                    return None;
                }
                if now >= until {
                    return state.leader.map(|leader| leader.node);
                }
                leads_until
            };
            // Whichever comes first: something changes, the leader's lease ends, the patience is over.
            if timeout_at(until.min(leads_until), changed.as_mut()).await.is_ok() {
                changed.set(self.store.changed.notified());
            }
        }
    }
}

fn lost(leader: NodeId) -> Campaign {
    Campaign::Lost { leader: Some(leader), retry_in: Duration::ZERO }
}

fn no_session() -> ElectError {
    ElectError::Unavailable { reason: "there is no session".to_owned() }
}
