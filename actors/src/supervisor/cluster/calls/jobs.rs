//! Which jobs the nodes of the cluster have.

use std::collections::BTreeMap;

use super::{
    super::{
        asking::{Answers, Caller},
        wire::{Ask, Reply},
    },
    Call,
};
use crate::{
    error::{ClusterError, given_name},
    job::JobStatus,
    message::{DetailsInCluster, HeldBy, JobDetails, JobInCluster, ListJobs, PageInCluster},
    name::{JobName, NodeId},
    note::Attribution,
    port::AskedNode,
};

/// What the nodes that have a job say of it; the node that asks is the first of them.
fn one_of(said: Vec<(AskedNode, JobStatus)>, leader: Option<NodeId>) -> Option<JobInCluster> {
    let by_leader = said.iter().position(|(from, _)| Some(from.node) == leader);
    let held_by = |(from, status): &(AskedNode, JobStatus)| HeldBy {
        node: from.node,
        name: from.name.clone(),
        state: status.state,
        active_runs: status.active_runs.iter().chain(&status.former_runs).cloned().collect(),
    };
    let on = said.iter().map(held_by).collect();
    let (from, job) = said.into_iter().nth(by_leader.unwrap_or_default())?;
    Some(JobInCluster { job, said_by: from.node, on })
}

impl Call for JobDetails {
    async fn call(self, caller: Caller) -> Result<DetailsInCluster, ClusterError> {
        let Self(name) = self;
        let mut answers = caller.all(&Ask::Details { job: name.clone() }, &Attribution::default()).await?;
        let mut said = Vec::new();
        for (from, reply) in std::mem::take(&mut answers.replies) {
            match reply {
                Reply::Details(status) => said.push((from, *status)),
                Reply::Unknown => {}
                odd => answers.odd(from, &odd),
            }
        }
        let Answers { unconfirmed, .. } = answers;
        match one_of(said, caller.leader) {
            Some(job) => Ok(DetailsInCluster { job, unconfirmed }),
            None if unconfirmed.is_empty() => Err(ClusterError::UnknownJob { name: given_name(&name) }),
            None => Err(ClusterError::not_all(&unconfirmed)),
        }
    }
}

impl Call for ListJobs {
    /// Each node says nothing of the names behind the end of its page.
    async fn call(self, caller: Caller) -> Result<PageInCluster, ClusterError> {
        let limit = self.page_limit();
        let Self { prefix, tag, state, after, limit: _ } = self;
        let ask = Ask::List { prefix, tag, state, after, limit };
        let mut answers = caller.all(&ask, &Attribution::default()).await?;
        let mut end: Option<String> = None;
        let mut said: BTreeMap<JobName, Vec<(AskedNode, JobStatus)>> = BTreeMap::new();
        for (from, reply) in std::mem::take(&mut answers.replies) {
            match reply {
                Reply::Page(page) => {
                    end = end.into_iter().chain(page.next).min();
                    for status in page.jobs {
                        said.entry(status.name.clone()).or_default().push((from.clone(), status));
                    }
                }
                odd => answers.odd(from, &odd),
            }
        }
        said.retain(|name, _| end.as_deref().is_none_or(|end| name.as_str() <= end));
        let is_cut = said.len() > limit;
        let jobs: Vec<_> =
            said.into_values().take(limit).filter_map(|said| one_of(said, caller.leader)).collect();
        let last = jobs.last().map(|job| job.job.name.as_str().to_owned()).filter(|_| is_cut);
        Ok(PageInCluster { jobs, next: last.or(end), unconfirmed: answers.unconfirmed })
    }
}
