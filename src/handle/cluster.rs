//! What is asked of all nodes of a cluster.

use std::time::Duration;

use callsheet_actors::{
    ActiveRuns, CLUSTER_WITHIN_DEFAULT, CancelRun, CancelRuns, CancelledRuns, ChangedJobs, DeleteJob,
    DetailsInCluster, FireTime, InCluster, JobDetails, ListJobs, NodeList, Nodes, PageInCluster, Pause,
    PutJob, ResumeJobs, RunId, RunsInCluster, Selector, StoredInCluster, TriggerJob, TriggeredOn,
    port::Expected,
};
use serde::Serialize;

use super::Callsheet;
use crate::{config::StoredJob, error::Error};

/// All nodes of the cluster, asked from one of them: [`Callsheet::cluster`]. Cheap to clone.
///
/// Each answer says which nodes have not confirmed it within the [deadline](Self::within), and why: see [`InCluster`].
/// What is asked of a backend whose nodes cannot ask each other is refused by its name
/// ([`ClusterError::Unsupported`](crate::ClusterError::Unsupported)), and never answered by one node as if by all. The
/// [guide](crate::guide::control) says which backends can.
///
/// # Errors
///
/// Of all methods: [`Error::Cluster`], [`Error::Stopped`].
///
/// # Cancel safety
///
/// Of all methods: what changes something may or may not do so if its future is dropped; questions are safe.
#[derive(Clone)]
pub struct Cluster {
    node: Callsheet,
    within: Duration,
}

impl Callsheet {
    /// Returns a handle by which all nodes of the cluster are asked, from this one. It says [who asks](Self::by), and
    /// [why](Self::note), as this handle does.
    ///
    /// ```
    /// use callsheet::{prelude::*, schedule::every};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = Job::new("long", every(std::time::Duration::from_hours(1))).run(async |run| run.cancelled().await);
    /// let jobs = Callsheet::builder().job(job).start().await?;
    /// let run = jobs.trigger("long").await?.run();
    ///
    /// let cancelled = jobs.by("alice")?.cluster().cancel_run(run).await?;
    ///
    /// assert_eq!(cancelled.runs[0].job.as_str(), "long");
    /// assert!(cancelled.unconfirmed.is_empty(), "all nodes have answered");
    /// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster(&self) -> Cluster {
        Cluster { node: self.clone(), within: CLUSTER_WITHIN_DEFAULT }
    }
}

impl Cluster {
    /// Sets within which time the nodes are to answer, [`CLUSTER_WITHIN_MIN`](crate::CLUSTER_WITHIN_MIN) (100 ms) to
    /// [`CLUSTER_WITHIN_MAX`](crate::CLUSTER_WITHIN_MAX) (60 s). Default: [`CLUSTER_WITHIN_DEFAULT`] (5 s). An answer
    /// comes as soon as all have answered.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { within: deadline, ..self }
    }

    fn all<M>(&self, asked: M) -> InCluster<M> {
        InCluster::new(asked).within(self.within)
    }

    /// Answers which nodes there are, who leads, and what each has.
    pub async fn nodes(&self) -> Result<NodeList, Error> {
        Ok(self.node.ask(self.all(Nodes)).await??)
    }

    /// Answers which runs are in progress, on all nodes.
    pub async fn active_runs(&self) -> Result<RunsInCluster, Error> {
        Ok(self.node.ask(self.all(ActiveRuns::default())).await??)
    }

    /// Asks one run to stop, whichever node has it: see [`CancelRun`].
    pub async fn cancel_run(&self, run: RunId) -> Result<CancelledRuns, Error> {
        let asked = CancelRun::new(run).by(self.node.by.clone()).note(self.node.note.clone());
        Ok(self.node.ask(self.all(asked)).await??)
    }

    /// Asks the runs of the selected jobs to stop, on all nodes: see [`CancelRuns`].
    pub async fn cancel_runs(&self, jobs: impl Into<Selector>) -> Result<CancelledRuns, Error> {
        let asked = CancelRuns::new(jobs).by(self.node.by.clone()).note(self.node.note.clone());
        Ok(self.node.ask(self.all(asked)).await??)
    }

    /// Pauses the selected jobs, whichever nodes have them, and answers once each node has heard of it: see
    /// [`PauseJobs`](crate::PauseJobs).
    pub async fn pause(&self, jobs: impl Into<Selector>) -> Result<ChangedJobs, Error> {
        self.pause_with(jobs, Pause::until_resumed()).await
    }

    /// As [`pause`](Self::pause), until when and why the pause says.
    pub async fn pause_with(&self, jobs: impl Into<Selector>, pause: Pause) -> Result<ChangedJobs, Error> {
        Ok(self.node.ask(self.all(self.node.pausing(jobs).with(pause))).await??)
    }

    /// Resumes the selected jobs, whichever nodes have them: see [`ResumeJobs`].
    pub async fn resume(&self, jobs: impl Into<Selector>) -> Result<ChangedJobs, Error> {
        let asked = ResumeJobs::new(jobs).by(self.node.by.clone()).note(self.node.note.clone());
        Ok(self.node.ask(self.all(asked)).await??)
    }

    /// Starts a run now: on this node if it has the job, otherwise on the leader, otherwise on another node that has
    /// it. See [`TriggerJob`].
    pub async fn trigger(&self, job: impl Into<String>) -> Result<TriggeredOn, Error> {
        self.trigger_by(TriggerJob::new(job)).await
    }

    /// As [`trigger`](Self::trigger), with a run that names a fire time which has passed: see
    /// [`TriggerJob::fire_time`].
    pub async fn trigger_for(
        &self,
        job: impl Into<String>,
        fire_time: impl Into<FireTime>,
    ) -> Result<TriggeredOn, Error> {
        self.trigger_by(TriggerJob::new(job).fire_time(fire_time)).await
    }

    /// As [`trigger`](Self::trigger), with arguments of its own for the task of the job: see
    /// [`TriggerJob::arguments`].
    pub async fn trigger_with(
        &self,
        job: impl Into<String>,
        arguments: &impl Serialize,
    ) -> Result<TriggeredOn, Error> {
        self.trigger_by(TriggerJob::new(job).arguments(arguments)).await
    }

    async fn trigger_by(&self, asked: TriggerJob) -> Result<TriggeredOn, Error> {
        let asked = asked.by(self.node.by.clone()).note(self.node.note.clone());
        Ok(self.node.ask(self.all(asked)).await??)
    }

    /// Answers one job, and which nodes have it.
    pub async fn details(&self, job: impl Into<String>) -> Result<DetailsInCluster, Error> {
        Ok(self.node.ask(self.all(JobDetails(job.into()))).await??)
    }

    /// Answers one page of the jobs of all nodes, each once.
    pub async fn list(&self, list: ListJobs) -> Result<PageInCluster, Error> {
        Ok(self.node.ask(self.all(list)).await??)
    }

    /// Stores a job as data, and answers once each node knows it: see [`PutJob`].
    pub async fn put(
        &self,
        job: impl Into<String>,
        definition: &StoredJob,
    ) -> Result<StoredInCluster, Error> {
        self.put_if(job, definition, Expected::Any).await
    }

    /// As [`put`](Self::put), only if this is so: of two who change the version that both have read, one is told.
    pub async fn put_if(
        &self,
        job: impl Into<String>,
        definition: &StoredJob,
        expected: Expected,
    ) -> Result<StoredInCluster, Error> {
        let asked = PutJob::new(job, definition).expecting(expected);
        let asked = asked.by(self.node.by.clone()).note(self.node.note.clone());
        Ok(self.node.ask(self.all(asked)).await??)
    }

    /// Deletes a stored job, and answers once each node knows it: see [`DeleteJob`].
    pub async fn delete(&self, job: impl Into<String>) -> Result<StoredInCluster, Error> {
        let asked = DeleteJob::new(job).by(self.node.by.clone()).note(self.node.note.clone());
        Ok(self.node.ask(self.all(asked)).await??)
    }
}
