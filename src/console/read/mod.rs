//! What the console shows: nothing here changes anything.

mod activity;
mod calendar;
pub(crate) mod given;
mod history;
mod in_progress;
mod job;
mod list;
mod locks;
mod nodes;
mod preview;

use actix_web::web::{Json, Query};
use callsheet_actors::BackfillError;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::{
    activity::{Activities, activity},
    calendar::{Calendars, calendar},
    history::{decisions, operations, run, runs},
    job::{explain, job},
    list::{Filter, jobs},
    locks::{Open, locks},
    nodes::nodes,
    preview::{Sketch, preview, sketch},
};
use super::{
    BULK_MAX,
    access::{Caller, Reads, Right},
    problem::Problem,
    view::Overview,
};
use crate::error::Error;

/// The documented functions, for the description.
pub(crate) mod paths {
    pub(crate) use super::{
        __path_backfills, __path_me, __path_overview, __path_tasks,
        activity::__path_activity,
        calendar::__path_calendar,
        history::{__path_decisions, __path_operations, __path_run, __path_runs},
        job::{__path_explain, __path_job},
        list::__path_jobs,
        locks::__path_locks,
        nodes::__path_nodes,
        preview::__path_preview,
    };
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    user: Option<String>,
    /// `read`, `operate` or `edit`.
    #[schema(value_type = String)]
    right: &'static str,
    may: May,
    node: String,
    version: String,
    bulk_max: usize,
    now: DateTime<Utc>,
}

/// What somebody may do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct May {
    operate: bool,
    edit: bool,
}

/// Who asks, and what he may do.
#[utoipa::path(get, path = "/api/me", responses((status = 200, body = Me)))]
pub(crate) async fn me(caller: Caller<Reads>) -> Result<Json<Me>, Problem> {
    let health = caller.shared.jobs.health().await?;
    Ok(Json(Me {
        user: caller.user.clone(),
        right: caller.right.as_str(),
        may: May { operate: caller.right >= Right::Operate, edit: caller.right >= Right::Edit },
        node: health.node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        bulk_max: BULK_MAX,
        now: Utc::now(),
    }))
}

/// How the node is, how many jobs are in which state, and what needs attention.
#[utoipa::path(get, path = "/api/overview",
    responses((status = 200, body = Overview)))]
pub(crate) async fn overview(caller: Caller<Reads>) -> Result<Json<Overview>, Problem> {
    let snapshot = caller.shared.board.snapshot().await?;
    Ok(Json(Overview::of(&snapshot.health, snapshot.rows.values(), snapshot.as_of)))
}

/// Of which job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfJob {
    /// Its name; all jobs, if it is left out.
    job: Option<String>,
}

/// Backfills.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackfillsAnswer {
    /// The newest first.
    #[schema(value_type = Vec<Object>)]
    backfills: Vec<Value>,
}

/// The backfills that are running, and the last ones that are over.
#[utoipa::path(get, path = "/api/backfills", params(OfJob),
    responses((status = 200, body = BackfillsAnswer)))]
pub(crate) async fn backfills(caller: Caller<Reads, Query<OfJob>>) -> Result<Json<BackfillsAnswer>, Problem> {
    let job = caller.input.job.as_deref().map(given::job).transpose()?;
    let backfills = match caller.shared.jobs.backfills(job.as_ref()).await {
        Ok(backfills) => backfills,
        // There is none, and the page of each job asks.
        Err(Error::Backfill(BackfillError::NotKept { .. })) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let backfills = backfills.iter().filter_map(|backfill| serde_json::to_value(backfill).ok()).collect();
    Ok(Json(BackfillsAnswer { backfills }))
}

/// Tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TasksAnswer {
    tasks: Vec<TaskView>,
}

/// A task that the node has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskView {
    name: String,
    /// The JSON Schema of its arguments.
    #[schema(value_type = Value)]
    schema: Value,
}

/// The tasks that this node has.
#[utoipa::path(get, path = "/api/tasks",
    responses((status = 200, body = TasksAnswer)))]
pub(crate) async fn tasks(caller: Caller<Reads>) -> Result<Json<TasksAnswer>, Problem> {
    let tasks = caller.shared.jobs.tasks().await?;
    let tasks = tasks.into_iter().map(|task| TaskView { name: task.name, schema: task.schema }).collect();
    Ok(Json(TasksAnswer { tasks }))
}
