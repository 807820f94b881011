//! Terms, as the system that elects grants them.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use super::Shared;
use crate::{
    name::{NodeId, Term},
    port::{Campaign, ElectError, Elector, Observation, Renewal},
};

pub(super) struct ComposedElector {
    pub(super) shared: Arc<Shared>,
}

impl Elector for ComposedElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move {
            if self.shared.state().open.is_none() {
                return Err(ElectError::Unavailable { reason: "there is no session".to_owned() });
            }
            let answer = self.shared.elector.campaign(patience).await?;
            Ok(match answer {
                Campaign::Won(grant) => {
                    self.shared.state().has_leader = true;
                    Campaign::Won(grant)
                }
                Campaign::Lost { leader, retry_in } => {
                    self.shared.state().has_leader = leader.is_some();
                    Campaign::Lost { leader: leader.map(|leader| self.shared.known_as(leader)), retry_in }
                }
            })
        }
        .boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let Observation { leader, candidate } = self.shared.elector.observe(stands).await?;
            self.shared.state().has_leader = leader.is_some();
            Ok(Observation { leader: leader.map(|leader| self.shared.known_as(leader)), candidate })
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        self.shared.elector.renew(term)
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        self.shared.elector.resign(term)
    }
}

impl Shared {
    /// A node of the election, as everybody else knows it, if that is another id.
    fn known_as(&self, leader: NodeId) -> NodeId {
        self.ids.filter(|(elected, _)| *elected == leader).map_or(leader, |(_, known)| known)
    }
}
