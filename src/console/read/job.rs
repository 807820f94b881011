//! One job, and what became of it at an instant.

use actix_web::web::{Json, Query};
use callsheet_actors::{JobStatus, When};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        access::{Caller, Reads},
        problem::Problem,
        view::{HistoryView, JobAnswer, JobView, policies},
    },
    given,
};
use crate::handle::Callsheet;

/// How many of the next fire times of a job are shown.
const NEXT: usize = 5;

/// Which job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Its name.
    job: String,
}

/// One job: its definition, its policies in words, what it does, and what became of it so far.
#[utoipa::path(get, path = "/api/job", params(Which),
    responses((status = 200, body = JobAnswer)))]
pub(crate) async fn job(caller: Caller<Reads, Query<Which>>) -> Result<Json<JobAnswer>, Problem> {
    let jobs = &caller.shared.jobs;
    let name = given::job(&caller.input.job)?;
    let status = jobs.details(name.as_str()).await?;
    let definition = definition(jobs, &status).await;
    let overdue = caller.shared.board.snapshot().await?;
    let overdue = overdue.rows.get(name.as_str()).is_some_and(|row| row.overdue);
    // None is kept, or it does not answer: the job is shown all the same.
    let history = jobs.history(&name).await.ok().flatten();
    let next = jobs.next_fire_times(name.as_str(), NEXT).await.unwrap_or_default();
    let editable = match (&definition, status.state) {
        (_, callsheet_actors::JobState::Removed) => "no",
        (Some(_), _) => "stored",
        (None, _) => "schedule",
    };
    Ok(Json(JobAnswer {
        policies: policies(&status.policies),
        job: JobView::of(&status, overdue, definition),
        history: history.map(HistoryView::from),
        next_fire_times: next,
        editable,
    }))
}

/// The definition of a stored job.
async fn definition(jobs: &Callsheet, status: &JobStatus) -> Option<Value> {
    status.stored?;
    Some(jobs.stored(status.name.as_str()).await.ok()?.definition)
}

/// What became of a job when: `at` an instant, or `from` one `to` another.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedWhen {
    /// The name of the job.
    job: String,
    at: Option<DateTime<Utc>>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

/// What became of some instants.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainAnswer {
    job: String,
    /// At most 100, in their order.
    explanations: Vec<ExplanationView>,
    /// From when on there are more.
    next: Option<DateTime<Utc>>,
}

/// What became of an instant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplanationView {
    at: DateTime<Utc>,
    /// In one word: `not_fire_time`, `ran`, `running`, `skipped`, `vetoed`, `lost`, `exhausted`, `not_decided`,
    /// `not_known`.
    answer: String,
    /// In words.
    text: String,
    /// What says so.
    evidence: Vec<String>,
    /// The run that is meant, if there is one.
    run: Option<String>,
    /// The same as data; what is in it depends on the answer.
    #[schema(value_type = Object)]
    data: Value,
}

/// Explains what became of a job: whether it ran, where and how late, or why it did not.
#[utoipa::path(get, path = "/api/explain", params(AskedWhen),
    responses((status = 200, body = ExplainAnswer)))]
pub(crate) async fn explain(caller: Caller<Reads, Query<AskedWhen>>) -> Result<Json<ExplainAnswer>, Problem> {
    let AskedWhen { job, at, from, to } = caller.input.into_inner();
    let when = match (at, from, to) {
        (Some(at), None, None) => When::At(at),
        (None, Some(from), Some(to)) => When::Between { from, to },
        _ => return Err(Problem::invalid("ask `at` an instant, or `from` one `to` another")),
    };
    let name = given::job(&job)?;
    let explained = caller.shared.jobs.explain(name.as_str(), when).await?;
    let explanations = explained.explanations.iter().map(|explanation| {
        let data = serde_json::to_value(&explanation.answer).unwrap_or_default();
        let text_of = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
        ExplanationView {
            at: explanation.at,
            answer: text_of("answer").unwrap_or_default(),
            text: explanation.answer.to_string(),
            evidence: explanation.evidence.iter().map(ToString::to_string).collect(),
            run: text_of("run"),
            data,
        }
    });
    Ok(Json(ExplainAnswer {
        job: explained.job.to_string(),
        explanations: explanations.collect(),
        next: explained.next,
    }))
}
