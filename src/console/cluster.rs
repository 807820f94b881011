//! What is asked of all nodes: where the backend lets nodes ask each other, otherwise of this one, and that is said.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use callsheet_actors::{
    ActiveRun, ActiveRuns, ClusterError, NodeId, RunId, Selector, Unconfirmed, WhyUnconfirmed,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shared, problem::Problem};
use crate::{error::Error, handle::Callsheet};

/// Within which time nodes are to answer, after one has not answered within the default time.
const WITHIN_AGAIN: Duration = Duration::from_millis(500);
/// Within which time nodes are to answer what is only shown.
const WITHIN_SHOWN: Duration = Duration::from_secs(2);
/// For how long the runs in progress are good enough.
const ACTIVE_AGE_MAX: Duration = Duration::from_secs(1);

/// A node that has not answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub(crate) struct UnconfirmedView {
    pub(crate) node: String,
    name: Option<String>,
    /// In words.
    pub(crate) why: String,
}

impl From<&Unconfirmed> for UnconfirmedView {
    fn from(unconfirmed: &Unconfirmed) -> Self {
        let why = match &unconfirmed.why {
            WhyUnconfirmed::NoAnswer => "it has not answered in time".to_owned(),
            WhyUnconfirmed::SessionOver => "its session with the store is over".to_owned(),
            WhyUnconfirmed::Unable(why) => why.to_string(),
            // What a later version of the engine adds.
            _ => "it has not confirmed".to_owned(),
        };
        Self { node: unconfirmed.node.to_string(), name: named(&unconfirmed.name), why }
    }
}

/// A name, if there is one.
pub(crate) fn named(name: &str) -> Option<String> {
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

/// Whom a question has reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    /// Only this node was asked: its backend does not let nodes ask each other.
    pub(crate) here_only: bool,
    /// The nodes that have not answered.
    unconfirmed: BTreeSet<UnconfirmedView>,
}

impl Reach {
    fn add(&mut self, unconfirmed: &[Unconfirmed]) {
        self.unconfirmed.extend(unconfirmed.iter().map(UnconfirmedView::from));
    }

    pub(crate) fn unconfirmed(&self) -> Vec<UnconfirmedView> {
        self.unconfirmed.iter().cloned().collect()
    }

    /// Nobody else is waited for as long as for the first one.
    fn within(&self, first: Duration) -> Duration {
        if self.unconfirmed.is_empty() { first } else { WITHIN_AGAIN }
    }
}

/// A run that was asked to stop.
pub(crate) struct Stopped {
    pub(crate) job: String,
    pub(crate) run: RunId,
    pub(crate) node: NodeId,
}

fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Cluster(ClusterError::Unsupported { .. }))
}

/// Asks the runs of a job to stop.
pub(crate) async fn cancel_runs(
    jobs: &Callsheet,
    job: &str,
    reach: &mut Reach,
) -> Result<Vec<Stopped>, Error> {
    let within = reach.within(callsheet_actors::CLUSTER_WITHIN_DEFAULT);
    match jobs.cluster().within(within).cancel_runs(job).await {
        Ok(cancelled) => {
            reach.add(&cancelled.unconfirmed);
            let stopped = cancelled.runs.into_iter();
            Ok(stopped
                .map(|run| Stopped { job: run.job.to_string(), run: run.run, node: run.node })
                .collect())
        }
        Err(error) if is_unsupported(&error) => {
            reach.here_only = true;
            let node = jobs.health().await?.node;
            let stopped = jobs.cancel_runs(Selector::from(job)).await?.into_iter();
            Ok(stopped.map(|(job, run)| Stopped { job: job.to_string(), run, node }).collect())
        }
        Err(error) => Err(error),
    }
}

/// Asks one run to stop.
pub(crate) async fn cancel_run(jobs: &Callsheet, run: RunId, reach: &mut Reach) -> Result<Stopped, Problem> {
    match jobs.cluster().cancel_run(run).await {
        Ok(cancelled) => {
            reach.add(&cancelled.unconfirmed);
            let stopped = cancelled.runs.into_iter().next();
            let stopped =
                stopped.map(|run| Stopped { job: run.job.to_string(), run: run.run, node: run.node });
            stopped.ok_or_else(|| {
                let silent: Vec<_> = reach.unconfirmed.iter().map(|one| one.node.as_str()).collect();
                let detail = format!(
                    "no node that has answered has run {run}, and these have not answered: {}",
                    silent.join(", ")
                );
                Problem::unavailable(detail, "ask again, or look whether these nodes still run")
            })
        }
        Err(error) if is_unsupported(&error) => {
            reach.here_only = true;
            let node = jobs.health().await?.node;
            Ok(Stopped { job: jobs.cancel_run(run).await?.to_string(), run, node })
        }
        Err(error) => Err(error.into()),
    }
}

/// The runs in progress, and where.
pub(crate) struct InProgress {
    /// The newest first.
    pub(crate) runs: Vec<(NodeId, ActiveRun)>,
    /// There are none beside these, on the nodes that have answered.
    pub(crate) is_all: bool,
    pub(crate) reach: Reach,
}

/// The runs in progress on all nodes, as they were a moment ago.
pub(crate) async fn in_progress(shared: &Shared) -> Result<Arc<InProgress>, Error> {
    let changes = shared.board.changes();
    let look = async || look_at_runs(&shared.jobs).await.map(Arc::new);
    shared.active.get(changes, ACTIVE_AGE_MAX, look).await
}

async fn look_at_runs(jobs: &Callsheet) -> Result<InProgress, Error> {
    let mut reach = Reach::default();
    let (mut runs, count) = match jobs.cluster().within(WITHIN_SHOWN).active_runs().await {
        Ok(active) => {
            reach.add(&active.unconfirmed);
            (active.runs.into_iter().map(|run| (run.node, run.run)).collect::<Vec<_>>(), active.count)
        }
        Err(Error::Stopped) => return Err(Error::Stopped),
        // The store does not answer, or nodes cannot ask each other: this one is asked in any case.
        Err(_) => {
            reach.here_only = true;
            let (node, here) = (jobs.health().await?.node, jobs.ask(ActiveRuns::default()).await?);
            (here.runs.into_iter().map(|run| (node, run)).collect(), here.count)
        }
    };
    runs.sort_unstable_by_key(|(_, run)| std::cmp::Reverse(run.status.run));
    Ok(InProgress { is_all: runs.len() == count, runs, reach })
}
