//! What each message means for a cluster: who is asked, and what the answers are together.

mod cancel;
mod jobs;
mod pause;
mod runs;
mod stored;
mod trigger;

use actix::prelude::*;

use super::{super::SupervisorActor, asking::Caller};
use crate::{
    error::ClusterError,
    message::{ClusterCall, InCluster},
};

/// A message that can be asked of a whole cluster, and how.
pub(super) trait Call: ClusterCall {
    /// Asks the nodes, as `caller`.
    fn call(self, caller: Caller) -> impl Future<Output = Result<Self::Together, ClusterError>> + 'static;
}

impl<M: Call> Handler<InCluster<M>> for SupervisorActor {
    type Result = ResponseFuture<Result<M::Together, ClusterError>>;

    fn handle(&mut self, InCluster { asked, within }: InCluster<M>, ctx: &mut Self::Context) -> Self::Result {
        let caller = self.caller(within, ctx.address());
        Box::pin(async move { asked.call(caller?).await })
    }
}
