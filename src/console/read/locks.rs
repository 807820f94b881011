//! Who holds which lock key.

use std::collections::BTreeMap;

use actix_web::web::Json;
use callsheet_actors::{HISTORY_PAGE_MAX, RunHistory};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{
    access::{Caller, Reads},
    problem::Problem,
    view::RunView,
};

/// The most keys in one answer.
const LOCKS_MAX: usize = 1_000;

/// The keys that are held.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LocksAnswer {
    locks: Vec<LockView>,
    /// Otherwise there may be more: of other nodes only runs among the last 1,000 are looked at.
    complete: bool,
}

/// A key that is held.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LockView {
    key: String,
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

/// The lock keys that are held: by runs in progress of this node, and of others as far as the history tells.
#[utoipa::path(get, path = "/api/locks",
    responses((status = 200, body = LocksAnswer)))]
pub(crate) async fn locks(caller: Caller<Reads>) -> Result<Json<LocksAnswer>, Problem> {
    let snapshot = caller.shared.board.snapshot().await?;
    let this = snapshot.health.node.to_string();
    let mut locks: BTreeMap<String, LockView> = BTreeMap::new();
    for active in snapshot.active.iter().take(LOCKS_MAX) {
        let lock = LockView {
            key: active.key.clone(),
            job: active.job.clone(),
            run: active.run.clone(),
            node: this.clone(),
            token: None,
            since: Some(active.since),
            waiting: active.waiting,
            is_stale: false,
        };
        locks.insert(active.run.clone(), lock);
    }
    let mut complete = snapshot.active.len() <= LOCKS_MAX;
    // Where none is kept, this node's runs are shown all the same.
    match caller.shared.jobs.runs(RunHistory::new().limit(HISTORY_PAGE_MAX)).await {
        Err(_) => complete = false,
        Ok(page) => {
            complete &= page.next.is_none();
            let open =
                page.runs.into_iter().filter(|run| run.outcome.is_none() && run.unknown_outcome.is_none());
            for run in open.map(RunView::from) {
                let is_full = locks.len() >= LOCKS_MAX;
                match locks.get_mut(&run.run) {
                    Some(lock) => lock.token = run.token,
                    // This node knows that it has ended.
                    None if run.node == this || is_full => {}
                    None => {
                        let (waiting, since) = (0, run.started_at);
                        let RunView { key, job, node, token, is_stale, .. } = run;
                        let lock = LockView {
                            key,
                            job,
                            run: run.run.clone(),
                            node,
                            token,
                            since,
                            waiting,
                            is_stale,
                        };
                        locks.insert(run.run, lock);
                    }
                }
            }
        }
    }
    let mut locks: Vec<_> = locks.into_values().collect();
    locks.sort_by(|one, other| (&one.key, &one.run).cmp(&(&other.key, &other.run)));
    Ok(Json(LocksAnswer { locks, complete }))
}
