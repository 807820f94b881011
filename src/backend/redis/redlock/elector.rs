//! Terms: whoever holds the lease on a majority leads.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    Term,
    port::{Campaign, ElectError, Elector, Handover, Handovers, Observation, Renewal},
};
use futures_util::{FutureExt, future::BoxFuture};

use super::node::Node;

pub(super) struct RedlockElector {
    pub(super) node: Arc<Node>,
}

impl Elector for RedlockElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        self.node.campaign(patience).boxed()
    }

    fn observe(&self, _stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move { Ok(Observation { leader: self.node.leader().await?, candidate: false }) }.boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        self.node.extend(term, None).boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        self.node.resign(term).boxed()
    }

    fn handovers(&self) -> Option<&dyn Handovers> {
        Some(self)
    }
}

impl Handovers for RedlockElector {
    fn newest(&self) -> BoxFuture<'_, Result<Option<Handover>, ElectError>> {
        self.node.newest_handover().boxed()
    }

    fn leave<'a>(&'a self, term: Term, handover: &'a Handover) -> BoxFuture<'a, Result<Renewal, ElectError>> {
        self.node.extend(term, Some(handover)).boxed()
    }
}
