//! A stored job is changed, and each node knows the change.

use super::{
    super::{
        asking::{Answers, Caller},
        wire::{Ask, Reply},
    },
    Call,
};
use crate::{
    error::ClusterError,
    message::{DeleteJob, PutJob, StoredInCluster, StoredStatus},
    note::Attribution,
    port::To,
    stored_job::StoredJobError,
};

/// The change was made; whether this node does not know of it yet.
async fn known(
    caller: &Caller,
    version: u64,
    job: Option<StoredStatus>,
) -> Result<StoredInCluster, ClusterError> {
    let ask = Ask::Catalogue { version };
    let mut answers = caller.others(To::Others, &ask, &Attribution::default()).await?;
    for (from, reply) in std::mem::take(&mut answers.replies) {
        match reply {
            Reply::Known => {}
            odd => answers.odd(from, &odd),
        }
    }
    let Answers { unconfirmed, .. } = answers;
    Ok(StoredInCluster { version, job, unconfirmed })
}

fn refused(caller: &Caller, error: &StoredJobError) -> ClusterError {
    let (node, name) = (caller.own.node, caller.own.name.clone());
    ClusterError::Refused { node, name, reason: error.to_string(), kind: error.kind() }
}

fn stopped(_: actix::MailboxError) -> ClusterError {
    ClusterError::ShuttingDown
}

impl Call for PutJob {
    async fn call(self, caller: Caller) -> Result<StoredInCluster, ClusterError> {
        let stored = caller.node.send(self).await.map_err(stopped)?;
        let stored = stored.map_err(|error| refused(&caller, &error))?;
        known(&caller, stored.version, Some(stored)).await
    }
}

impl Call for DeleteJob {
    async fn call(self, caller: Caller) -> Result<StoredInCluster, ClusterError> {
        let deleted = caller.node.send(self).await.map_err(stopped)?;
        let version = deleted.map_err(|error| refused(&caller, &error))?;
        known(&caller, version, None).await
    }
}
