//! Who holds which lock key.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix_web::web::Json;
use callsheet_actors::{HISTORY_PAGE_MAX, RunHistory};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{
    Shared,
    access::{Caller, Reads},
    cluster::{self, InProgress, UnconfirmedView},
    problem::Problem,
    view::RunView,
};
use crate::error::Error;

/// For how long what the history says is good enough.
const AGE_MAX: Duration = Duration::from_secs(5);
/// The most keys in one answer.
const LOCKS_MAX: usize = 1_000;

/// The keys that are held.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LocksAnswer {
    locks: Vec<LockView>,
    /// Otherwise there may be more.
    complete: bool,
    /// Only those of this node are known, and of others what the history tells of the last 1,000 runs.
    here_only: bool,
    /// The nodes that have not answered.
    unconfirmed: Vec<UnconfirmedView>,
}

/// A key that is held.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LockView {
    /// `null`: this node does not know it.
    key: Option<String>,
    job: String,
    run: String,
    node: String,
    /// Its fencing token, if it is recorded.
    token: Option<String>,
    since: Option<DateTime<Utc>>,
    /// How many ticks and triggers of the job wait on this node.
    waiting: usize,
    /// Its node has not written for long.
    is_stale: bool,
}

/// The runs that the history does not know to have ended, of its last page, and whether that has all.
pub(crate) struct Open {
    runs: Vec<RunView>,
    is_all: bool,
}

async fn open(shared: &Shared) -> Result<Arc<Open>, Error> {
    let read = async || {
        let page = shared.jobs.runs(RunHistory::new().limit(HISTORY_PAGE_MAX)).await?;
        let is_open =
            |run: &callsheet_actors::RunRecord| run.outcome.is_none() && run.unknown_outcome.is_none();
        let runs = page.runs.into_iter().filter(is_open).map(RunView::from).collect();
        Ok(Arc::new(Open { runs, is_all: page.next.is_none() }))
    };
    shared.open.get((), AGE_MAX, read).await
}

/// The lock keys that are held: by runs in progress, as their nodes tell them; of a node that does not answer, as the
/// history does.
#[utoipa::path(get, path = "/api/locks",
    responses((status = 200, body = LocksAnswer)))]
pub(crate) async fn locks(caller: Caller<Reads>) -> Result<Json<LocksAnswer>, Problem> {
    let (shared, snapshot) = (&caller.shared, caller.shared.board.snapshot().await?);
    let active = cluster::in_progress(shared).await?;
    let waiting =
        |run: &str| snapshot.active.iter().find(|active| active.run == run).map_or(0, |run| run.waiting);
    let mut locks: BTreeMap<String, LockView> = BTreeMap::new();
    for (node, run) in active.runs.iter().take(LOCKS_MAX) {
        let id = run.status.run.to_string();
        let lock = LockView {
            key: snapshot.rows.get(run.job.as_str()).map(|row| row.lock_key.clone()),
            job: run.job.to_string(),
            run: id.clone(),
            node: node.to_string(),
            token: None,
            since: Some(run.status.started_at),
            waiting: waiting(&id),
            is_stale: false,
        };
        locks.insert(id, lock);
    }
    let mut complete = active.is_all && active.runs.len() <= LOCKS_MAX;
    let unconfirmed = active.reach.unconfirmed();
    // Where none is kept, the runs in progress are shown all the same.
    match open(shared).await {
        Err(_) => complete &= !active.reach.here_only && unconfirmed.is_empty(),
        Ok(open) => {
            complete &= open.is_all || (!active.reach.here_only && unconfirmed.is_empty());
            let this = snapshot.health.node.to_string();
            open.runs.iter().for_each(|run| add(&mut locks, run, &active, &unconfirmed, &this));
        }
    }
    let mut locks: Vec<_> = locks.into_values().collect();
    locks.sort_by(|one, other| (&one.key, &one.run).cmp(&(&other.key, &other.run)));
    Ok(Json(LocksAnswer { locks, complete, here_only: active.reach.here_only, unconfirmed }))
}

/// What the history adds: the token and the key; or the run itself, if its node does not say whether it has ended.
fn add(
    locks: &mut BTreeMap<String, LockView>,
    run: &RunView,
    active: &InProgress,
    unconfirmed: &[UnconfirmedView],
    this: &str,
) {
    let is_full = locks.len() >= LOCKS_MAX;
    if let Some(lock) = locks.get_mut(&run.run) {
        lock.token.clone_from(&run.token);
        lock.key.clone_from(&run.key);
        return;
    }
    let is_silent = active.reach.here_only || unconfirmed.iter().any(|node| node.node == run.node);
    if run.node != this && (run.is_stale || is_silent) && !is_full {
        let lock = LockView {
            key: run.key.clone(),
            job: run.job.clone(),
            run: run.run.clone(),
            node: run.node.clone(),
            token: run.token.clone(),
            since: run.started_at,
            waiting: 0,
            is_stale: run.is_stale,
        };
        locks.insert(run.run.clone(), lock);
    }
}
