//! The runs in progress, as their nodes tell them.

use callsheet_actors::{ActiveRun, NodeId, RunId};

use super::{
    super::{Shared, cluster, problem::Problem, view::RunView},
    given,
    history::{AskedRuns, RunsAnswer},
};

/// One page of the runs in progress on all nodes, where the backend lets nodes ask each other; otherwise on this one.
pub(super) async fn in_progress(
    shared: &Shared,
    asked: &AskedRuns,
    limit: usize,
) -> Result<RunsAnswer, Problem> {
    let before = given::cursor::<RunId>(asked.after.as_deref())?;
    let job = asked.job.as_deref().filter(|job| !job.is_empty()).map(given::job).transpose()?;
    let node = asked.node.as_ref().filter(|node| !node.is_empty());
    let active = cluster::in_progress(shared).await?;
    let snapshot = shared.board.snapshot().await?;
    let admits = |(of, run): &&(NodeId, ActiveRun)| {
        let (id, made_at) = (run.status.run, run.status.run.made_at());
        before.is_none_or(|before| id < before)
            && job.as_ref().is_none_or(|job| run.job == *job)
            && node.is_none_or(|node| of.to_string() == *node)
            && asked.from.is_none_or(|from| made_at >= from)
            && asked.to.is_none_or(|to| made_at < to)
    };
    let mut found = active.runs.iter().filter(admits);
    let shown: Vec<_> = found.by_ref().take(limit).collect();
    let next = shown.last().filter(|_| found.next().is_some());
    let next = next.and_then(|(_, run)| serde_json::to_string(&run.status.run).ok());
    let view = |(node, run): &(NodeId, ActiveRun)| {
        let key = snapshot.rows.get(run.job.as_str()).map(|row| row.lock_key.clone());
        RunView::in_progress(*node, run, key)
    };
    Ok(RunsAnswer {
        runs: shown.into_iter().map(view).collect(),
        next,
        here_only: active.reach.here_only,
        unconfirmed: active.reach.unconfirmed(),
        ..RunsAnswer::default()
    })
}
