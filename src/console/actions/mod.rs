//! What the console does to jobs, each with the right that it needs and the name of who asks.

mod backfill;
mod bulk;
mod edit;
mod selection;

use actix_web::web::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use self::{
    backfill::{backfill, cancel_backfill},
    bulk::{cancel, pause, remove, resume, run, skip_missed},
    edit::edit,
};
use super::{
    access::{Caller, Operates},
    cluster::{self, Reach, UnconfirmedView},
    problem::Problem,
    read::given,
};
use crate::handle::Callsheet;

/// The documented functions, for the description.
pub(crate) mod paths {
    pub(crate) use super::{
        __path_cancel_run,
        backfill::{__path_backfill, __path_cancel_backfill},
        bulk::{__path_cancel, __path_pause, __path_remove, __path_resume, __path_run, __path_skip_missed},
        edit::__path_edit,
    };
}

/// The scheduler, told who asks, and why if it is said.
fn told<R, T>(caller: &Caller<R, T>, note: Option<&str>) -> Result<Callsheet, Problem> {
    let jobs = caller.jobs()?;
    Ok(match note.filter(|note| !note.is_empty()) {
        Some(note) => jobs.note(note)?,
        None => jobs,
    })
}

/// Which run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedCancelRun {
    /// Its id.
    run: String,
    /// Why.
    note: Option<String>,
}

/// A run that was asked to stop.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelledRun {
    job: String,
    run: String,
    /// The node that it is on.
    node: String,
    /// Only this node was asked: its backend does not let nodes ask each other.
    here_only: bool,
    /// The nodes that have not answered.
    unconfirmed: Vec<UnconfirmedView>,
}

/// Asks one run to stop, whichever node has it, where the backend lets nodes ask each other; otherwise one of this
/// node.
#[utoipa::path(post, path = "/api/actions/cancel-run", request_body = AskedCancelRun,
    responses((status = 200, body = CancelledRun)))]
pub(crate) async fn cancel_run(
    caller: Caller<Operates, Json<AskedCancelRun>>,
) -> Result<Json<CancelledRun>, Problem> {
    let jobs = told(&caller, caller.input.note.as_deref())?;
    let run = given::run(&caller.input.run)?;
    let mut reach = Reach::default();
    let stopped = cluster::cancel_run(&jobs, run, &mut reach).await?;
    caller.shared.board.changed();
    Ok(Json(CancelledRun {
        job: stopped.job,
        run: stopped.run.to_string(),
        node: stopped.node.to_string(),
        here_only: reach.here_only,
        unconfirmed: reach.unconfirmed(),
    }))
}
