//! Pages of what the history keeps.

use actix_web::web::{Json, Query};
use callsheet_actors::{
    Decisions, HISTORY_PAGE_MAX, Operations, Outcome, RunHistory, RunId, RunRecord, port::PageStart,
    uuid::Uuid,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        access::{Caller, Reads},
        cache::turn,
        cluster::{self, UnconfirmedView},
        problem::Problem,
        view::{DecisionView, OperationView, RunView},
    },
    given,
    in_progress::in_progress,
};

/// How many records a page has that does not say how many.
const PAGE_DEFAULT: usize = 50;
/// The most records of a page.
const PAGE_MAX: usize = 500;
/// How many pages of the history are read for one page that is filtered.
const LOOKED_AT_MAX: usize = 4;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedRuns {
    pub(super) job: Option<String>,
    /// `succeeded`, `failed`, `panicked`, `timed_out`, `cancelled`, `lost`, or `in_progress`.
    outcome: Option<String>,
    /// The id of a node.
    pub(super) node: Option<String>,
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) to: Option<DateTime<Utc>>,
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    pub(super) after: Option<String>,
}

/// A page of runs.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct RunsAnswer {
    /// The newest first.
    pub(super) runs: Vec<RunView>,
    pub(super) next: Option<String>,
    /// From when on nothing of the page's time is missing, unless it is `null`: then nothing is.
    pub(super) complete_from: Option<DateTime<Utc>>,
    /// How many records of its time were dropped.
    pub(super) dropped: u64,
    /// Of runs in progress only those of this node are known: its backend does not let nodes ask each other.
    pub(super) here_only: bool,
    /// The nodes that have not answered which runs are in progress.
    pub(super) unconfirmed: Vec<UnconfirmedView>,
}

/// One page of the runs that the history keeps; those in progress are asked of their nodes.
#[utoipa::path(get, path = "/api/runs", params(AskedRuns),
    responses((status = 200, body = RunsAnswer)))]
pub(crate) async fn runs(caller: Caller<Reads, Query<AskedRuns>>) -> Result<Json<RunsAnswer>, Problem> {
    let limit = given::within("limit", caller.input.limit, PAGE_DEFAULT, (1, PAGE_MAX))?;
    if caller.input.outcome.as_deref() == Some("in_progress") {
        return Ok(Json(in_progress(&caller.shared, &caller.input, limit).await?));
    }
    let AskedRuns { job, outcome, node, from, to, limit: _, after } = caller.input.into_inner();
    let mut asked = RunHistory::new().before(given::cursor::<RunId>(after.as_deref())?);
    // The history cannot be asked for it: it is looked for in some of its pages, and not by many at once.
    let node = text(node);
    let _turn = match &node {
        Some(_) => Some(turn(&caller.shared.heavy).await?),
        None => None,
    };
    let admits = |run: &RunRecord| node.as_ref().is_none_or(|node| run.node.to_string() == *node);
    if let Some(outcome) = text(outcome) {
        asked = asked.outcome(given::word::<Outcome>("outcome", &outcome)?);
    }
    if let Some(job) = text(job) {
        asked = asked.job(given::job(&job)?);
    }
    asked = from.into_iter().fold(asked, RunHistory::from);
    asked = to.into_iter().fold(asked, RunHistory::to);
    asked = asked.limit(if node.is_none() { limit } else { HISTORY_PAGE_MAX });

    let mut answer = RunsAnswer::default();
    for _ in 0..LOOKED_AT_MAX {
        let page = caller.shared.jobs.runs(asked.clone()).await?;
        answer.complete_from = answer.complete_from.max(page.gaps.complete_from);
        answer.dropped += page.gaps.dropped;
        let mut next = page.next;
        for run in page.runs {
            if admits(&run) {
                let id = run.run;
                answer.runs.push(run.into());
                if answer.runs.len() == limit {
                    // There may be none behind it: then the next page is empty.
                    next = if node.is_none() { next } else { Some(id) };
                    break;
                }
            }
        }
        answer.next = next.and_then(|next| serde_json::to_string(&next).ok());
        if next.is_none() || answer.runs.len() == limit {
            break;
        }
        asked = asked.before(next);
    }
    Ok(Json(answer))
}

fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Which run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichRun {
    /// Its id.
    run: String,
}

/// One run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunAnswer {
    run: RunView,
    /// It is in progress on this node.
    here: bool,
    /// It is in progress, and can be asked to stop from here, whichever node has it.
    can_cancel: bool,
}

/// One run that the history keeps.
#[utoipa::path(get, path = "/api/run", params(WhichRun),
    responses((status = 200, body = RunAnswer)))]
pub(crate) async fn run(caller: Caller<Reads, Query<WhichRun>>) -> Result<Json<RunAnswer>, Problem> {
    let id = given::run(&caller.input.run)?;
    // The newest one that is not newer.
    let behind = id.as_uuid().as_u128().checked_add(1).map(|behind| RunId::from(Uuid::from_u128(behind)));
    let active = cluster::in_progress(&caller.shared).await?;
    let of_node = active.runs.iter().find(|(_, active)| active.status.run == id);
    let page = caller.shared.jobs.runs(RunHistory::new().before(behind).limit(1)).await;
    let kept = match page {
        Ok(page) => page.runs.into_iter().next().filter(|run| run.run == id),
        // None is kept, or it does not answer: what is in progress is shown all the same.
        Err(error) if of_node.is_none() => return Err(error.into()),
        Err(_) => None,
    };
    let run = match (kept, of_node) {
        (Some(run), _) => RunView::from(run),
        (None, Some((node, run))) => RunView::in_progress(*node, run, None),
        (None, None) => {
            let cure = "list the runs to see their ids";
            return Err(Problem::not_found(format!("the history knows no run {id}"), cure));
        }
    };
    let snapshot = caller.shared.board.snapshot().await?;
    let here = snapshot.active.iter().any(|active| active.run == run.run);
    let can_cancel = here || of_node.is_some();
    Ok(Json(RunAnswer { run, here, can_cancel }))
}

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedRecords {
    job: Option<String>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

macro_rules! asked {
    ($query:ident, $given:expr) => {{
        let AskedRecords { job, from, to, limit, after } = $given;
        let mut asked = $query::new().before(given::cursor::<PageStart>(after.as_deref())?);
        asked = asked.limit(given::within("limit", limit, PAGE_DEFAULT, (1, PAGE_MAX))?);
        if let Some(job) = text(job) {
            asked = asked.job(given::job(&job)?);
        }
        asked = from.into_iter().fold(asked, $query::from);
        to.into_iter().fold(asked, $query::to)
    }};
}

/// A page of decisions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecisionsAnswer {
    /// The newest first.
    decisions: Vec<DecisionView>,
    next: Option<String>,
    /// How many records of the page are of a newer version, and left out.
    unread: usize,
    complete_from: Option<DateTime<Utc>>,
    dropped: u64,
}

fn next_of(next: Option<PageStart>) -> Option<String> {
    next.and_then(|next| serde_json::to_string(&next).ok())
}

/// One page of the decisions that started nothing: skipped ticks, vetoes, triggers that were refused, lost runs.
#[utoipa::path(get, path = "/api/decisions", params(AskedRecords),
    responses((status = 200, body = DecisionsAnswer)))]
pub(crate) async fn decisions(
    caller: Caller<Reads, Query<AskedRecords>>,
) -> Result<Json<DecisionsAnswer>, Problem> {
    let asked = asked!(Decisions, caller.input.into_inner());
    let page = caller.shared.jobs.decisions(asked).await?;
    Ok(Json(DecisionsAnswer {
        decisions: page.decisions.iter().map(DecisionView::from).collect(),
        next: next_of(page.next),
        unread: page.unread,
        complete_from: page.gaps.complete_from,
        dropped: page.gaps.dropped,
    }))
}

/// A page of operations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperationsAnswer {
    /// The newest first.
    operations: Vec<OperationView>,
    next: Option<String>,
    /// How many records of the page are of a newer version, and left out.
    unread: usize,
    complete_from: Option<DateTime<Utc>>,
    dropped: u64,
}

/// One page of what was done to jobs, and by whom.
#[utoipa::path(get, path = "/api/operations", params(AskedRecords),
    responses((status = 200, body = OperationsAnswer)))]
pub(crate) async fn operations(
    caller: Caller<Reads, Query<AskedRecords>>,
) -> Result<Json<OperationsAnswer>, Problem> {
    let asked = asked!(Operations, caller.input.into_inner());
    let page = caller.shared.jobs.operations(asked).await?;
    Ok(Json(OperationsAnswer {
        operations: page.operations.iter().map(OperationView::from).collect(),
        next: next_of(page.next),
        unread: page.unread,
        complete_from: page.gaps.complete_from,
        dropped: page.gaps.dropped,
    }))
}
