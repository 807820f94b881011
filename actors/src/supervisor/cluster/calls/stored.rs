//! A stored job is changed, and each node knows the change.

use actix::prelude::*;

use super::{
    super::{
        super::SupervisorActor,
        asking::{Answers, Caller},
        wire::{Ask, Reply},
    },
    Call,
};
use crate::{
    error::ClusterError,
    message::{DeleteJob, PutJob, StoredInCluster, StoredStatus},
    note::Attribution,
    port::AskedNode,
    stored_job::StoredJobError,
};

/// The change was made; whether this node does not know of it yet.
async fn known(
    caller: &Caller,
    others: Vec<AskedNode>,
    version: u64,
    job: Option<StoredStatus>,
) -> StoredInCluster {
    let ask = Ask::Catalogue { version };
    let mut answers = caller.confirmed(others, &ask, &Attribution::default()).await;
    for (from, reply) in std::mem::take(&mut answers.replies) {
        match reply {
            Reply::Known => {}
            odd => answers.odd(from, &odd),
        }
    }
    let Answers { unconfirmed, .. } = answers;
    StoredInCluster { version, job, unconfirmed }
}

fn refused(caller: &Caller, error: &StoredJobError) -> ClusterError {
    let (node, name) = (caller.own.node, caller.own.name.clone());
    ClusterError::Refused { node, name, reason: error.to_string(), kind: error.kind() }
}

/// What this node answers itself by the deadline.
async fn own<M>(caller: &Caller, asked: M) -> Result<M::Result, ClusterError>
where
    M: Message<Result: Send> + Send + 'static,
    SupervisorActor: Handler<M>,
{
    let answer = caller.in_time(caller.node.send(asked)).await;
    answer.ok_or_else(|| caller.own_unanswered())?.map_err(|_| ClusterError::ShuttingDown)
}

impl Call for PutJob {
    async fn call(self, caller: Caller) -> Result<StoredInCluster, ClusterError> {
        let others = caller.other_nodes().await?;
        let stored = own(&caller, self).await?.map_err(|error| refused(&caller, &error))?;
        Ok(known(&caller, others, stored.version, Some(stored)).await)
    }
}

impl Call for DeleteJob {
    async fn call(self, caller: Caller) -> Result<StoredInCluster, ClusterError> {
        let others = caller.other_nodes().await?;
        let version = own(&caller, self).await?.map_err(|error| refused(&caller, &error))?;
        Ok(known(&caller, others, version, None).await)
    }
}
