//! Backfills.

use actix_web::web::Json;
use callsheet_actors::{Backfill, BackfillId, FireTime};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    super::{
        access::{Caller, Operates},
        problem::Problem,
        read::given,
    },
    selection::digest,
    told,
};

/// How many fire times a dry run answers.
const NAMED_MAX: usize = 100;

/// What to run again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedBackfill {
    job: String,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// Also what had a run.
    #[serde(default)]
    again: bool,
    /// Default: 1.
    #[schema(minimum = 1, maximum = 100)]
    max_concurrent: Option<u32>,
    /// From the start of one run to that of the next, at least. Default: `0s`.
    spacing: Option<String>,
    /// Default: 1,000.
    #[schema(minimum = 1, maximum = 1000)]
    max_ticks: Option<usize>,
    /// Which fire times, as a dry run has answered.
    digest: Option<String>,
    /// Only answers how many runs it would be.
    #[serde(default)]
    dry_run: bool,
    /// Why.
    #[schema(max_length = 1000)]
    note: Option<String>,
}

/// What a backfill is, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BackfillAnswer {
    DryRun {
        /// Always `true`.
        dry_run: bool,
        /// How many runs.
        count: usize,
        /// The first 100 of their fire times.
        fire_times: Vec<DateTime<Utc>>,
        /// How many fire times had a run, and are left out.
        left_out: usize,
        /// Says which they are, all of them: to be sent back.
        digest: String,
    },
    Started {
        /// Always `false`.
        dry_run: bool,
        #[schema(value_type = Object)]
        backfill: Value,
    },
}

/// Runs a job for each fire time of a past range, once.
#[utoipa::path(post, path = "/api/actions/backfill", request_body = AskedBackfill,
    responses((status = 200, body = BackfillAnswer)))]
pub(crate) async fn backfill(
    caller: Caller<Operates, Json<AskedBackfill>>,
) -> Result<Json<BackfillAnswer>, Problem> {
    let jobs = told(&caller, caller.input.note.as_deref())?;
    let asked = caller.input.into_inner();
    let mut backfill = Backfill::new(asked.job, asked.from, asked.to).again(asked.again);
    backfill = asked.max_concurrent.into_iter().fold(backfill, Backfill::max_concurrent);
    backfill = asked.max_ticks.into_iter().fold(backfill, Backfill::max_ticks);
    if let Some(spacing) = asked.spacing {
        backfill = backfill.spacing(given::duration("spacing", &spacing)?);
    }
    let preview = jobs.preview_backfill(backfill.clone()).await?;
    let (count, left_out) = (preview.count, preview.left_out.len());
    let fire_times: Vec<_> = preview.fire_times.into_iter().map(FireTime::instant).collect();
    let digest = digest(&fire_times);
    if asked.dry_run {
        let fire_times = fire_times.into_iter().take(NAMED_MAX).collect();
        return Ok(Json(BackfillAnswer::DryRun { dry_run: true, count, fire_times, left_out, digest }));
    }
    match asked.digest {
        Some(asked) if asked == digest => {}
        Some(_) => return Err(Problem::others("fire times", count, digest)),
        None => return Err(Problem::no_digest("fire times", count, digest)),
    }
    let started = jobs.backfill(backfill).await?;
    caller.shared.board.changed();
    let backfill = serde_json::to_value(started).unwrap_or_default();
    Ok(Json(BackfillAnswer::Started { dry_run: false, backfill }))
}

/// Which backfill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedCancelBackfill {
    /// Its id.
    backfill: String,
    /// Why.
    note: Option<String>,
}

/// How a backfill was left.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CancelledBackfill {
    #[schema(value_type = Object)]
    backfill: Value,
}

/// Cancels a backfill: what is in progress goes on, and no further fire time is taken up.
#[utoipa::path(post, path = "/api/actions/cancel-backfill", request_body = AskedCancelBackfill,
    responses((status = 200, body = CancelledBackfill)))]
pub(crate) async fn cancel_backfill(
    caller: Caller<Operates, Json<AskedCancelBackfill>>,
) -> Result<Json<CancelledBackfill>, Problem> {
    let jobs = told(&caller, caller.input.note.as_deref())?;
    let id: BackfillId = given::word("backfill", &caller.input.backfill)?;
    let left = jobs.cancel_backfill(id).await?;
    caller.shared.board.changed();
    Ok(Json(CancelledBackfill { backfill: serde_json::to_value(left).unwrap_or_default() }))
}
