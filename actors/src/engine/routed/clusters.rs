//! Where calls to whole clusters go: each backend of the node has its own cluster.

use std::time::Duration;

use actix::prelude::*;

use super::{Answer, Routed};
use crate::{
    engine::named::Engines,
    error::ClusterError,
    message::{
        ActiveRuns, CanAsk, CancelRun, CancelRuns, ClusterCall, DeleteJob, InCluster, JobDetails, ListJobs,
        Nodes, PauseJobs, PutJob, ResumeJobs, TriggerJob, together,
    },
};

/// Messages to whole clusters. Each backend of the node has its own.
macro_rules! about_clusters {
    ($($message:ty),* $(,)?) => {
        $(
            impl Routed for InCluster<$message> {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    let is_about_one = self.asked.is_about_one();
                    if !is_about_one
                        && let Err(error) = engines.can_ask(self.within).await?
                    {
                        return Ok(Err(error));
                    }
                    Ok(together(engines.send_to_each(self).await?, is_about_one))
                }
            }
        )*
    };
}

about_clusters!(Nodes, ActiveRuns, CancelRun, CancelRuns, PauseJobs, ResumeJobs, JobDetails, ListJobs);

impl Engines {
    /// Whether each backend lets its nodes ask each other: before one of them does what another one refuses.
    async fn can_ask(&self, within: Duration) -> Result<Result<(), ClusterError>, MailboxError> {
        Ok(self.send_to_each(CanAsk(within)).await?.into_iter().collect())
    }
}

/// Stored jobs are on the default backend.
impl Routed for InCluster<PutJob> {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        engines.send(0, self).await
    }
}

impl Routed for InCluster<DeleteJob> {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        engines.send(0, self).await
    }
}

/// One backend after the other: the job is on one of them, and is to be started once.
impl Routed for InCluster<TriggerJob> {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        if let Some(engine) = engines.names.engine_of(&self.asked.job) {
            return engines.send(engine, self).await;
        }
        let mut answers = Vec::new();
        for engine in 0..engines.all.len() {
            let answer = engines.send(engine, self.clone()).await?;
            match answer {
                // Another one may have it.
                Err(
                    ClusterError::UnknownJob { .. }
                    | ClusterError::Unsupported { .. }
                    | ClusterError::Unavailable { .. }
                    | ClusterError::TooMany { .. },
                ) => answers.push(answer),
                answer => return Ok(answer),
            }
        }
        Ok(together(answers, true))
    }
}
