//! Which runs are in progress in the cluster.

use super::{
    super::{
        asking::Caller,
        wire::{Ask, Reply},
    },
    Call,
};
use crate::{
    error::ClusterError,
    message::{ActiveRuns, RunOnNode, RunsInCluster},
    note::Attribution,
};

impl Call for ActiveRuns {
    async fn call(self, caller: Caller) -> Result<RunsInCluster, ClusterError> {
        let ask = Ask::Runs { limit: self.page_limit() };
        let mut answers = caller.all(&ask, &Attribution::default()).await?;
        let (mut runs, mut count) = (Vec::new(), 0);
        for (from, reply) in std::mem::take(&mut answers.replies) {
            match reply {
                Reply::Runs(here) => {
                    count += here.count;
                    if here.unanswered > 0 {
                        let rest =
                            format!("{} of its jobs have not said whether they have runs", here.unanswered);
                        answers.unable(from.clone(), rest);
                    }
                    let on_node = |run| RunOnNode { node: from.node, name: from.name.clone(), run };
                    runs.extend(here.runs.into_iter().map(on_node));
                }
                odd => answers.odd(from, &odd),
            }
        }
        runs.sort_by_key(|run: &RunOnNode| (run.run.status.started_at, run.run.status.run));
        Ok(RunsInCluster { runs, count, unconfirmed: answers.unconfirmed })
    }
}
