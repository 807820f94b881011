//! What a schedule means before a job has it. Whoever may read may send any text: each preview is bounded in the length
//! of the text, in fire times, in time, and in how many are computed at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::web::{self, Json, Query};
use callsheet_actors::Faults;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        access::{Caller, Reads},
        problem::Problem,
    },
    given,
};
use crate::schedule::{Definition, PreviewLine, cron};

/// The longest schedule, in bytes.
const SCHEDULE_BYTES_MAX: usize = 8 * 1024;
/// How many fire times are shown unless said otherwise.
const COUNT_DEFAULT: usize = 10;
/// The most fire times that are shown.
const COUNT_MAX: usize = 100;
/// How many fire times are asked for before the clock is looked at.
const STEP: usize = 5;
/// For how long fire times are computed.
const TIME_MAX: Duration = Duration::from_millis(500);
/// For how long a preview waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(2);

/// Which schedule.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedPreview {
    /// A cron expression, or a schedule as JSON.
    #[param(max_length = 4096)]
    schedule: String,
    /// The zone in which the times are shown; a cron expression without one fires in it.
    zone: Option<String>,
    #[param(minimum = 1, maximum = 100)]
    count: Option<usize>,
    /// From when on; now, if it is left out.
    after: Option<DateTime<Utc>>,
}

/// What a schedule means.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sketch {
    /// The schedule in words.
    pub(crate) describe: String,
    pub(crate) lines: Vec<LineView>,
    /// What is right, but probably not meant.
    pub(crate) warnings: Vec<String>,
    /// The schedule as data.
    #[schema(value_type = Value)]
    pub(crate) definition: Value,
    /// Not all fire times were computed: it took too long.
    pub(crate) cut: bool,
}

/// A fire time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineView {
    pub(crate) at: DateTime<Utc>,
    /// On the clocks of the zone.
    local: String,
    offset: String,
    /// What the clocks did to it.
    notes: Vec<String>,
}

impl From<&PreviewLine> for LineView {
    fn from(line: &PreviewLine) -> Self {
        Self {
            at: line.fire_time.to_utc(),
            local: line.fire_time.to_rfc3339_opts(SecondsFormat::AutoSi, false),
            offset: line.fire_time.offset().to_string(),
            notes: line.notes.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads a schedule: JSON if it looks so, otherwise a cron expression.
fn read(text: &str, zone: Option<&str>) -> Result<Definition, Problem> {
    if text.len() > SCHEDULE_BYTES_MAX {
        return Err(Problem::invalid(format!("a schedule has at most {SCHEDULE_BYTES_MAX} bytes here")));
    }
    let is_json = text.trim_start().starts_with(['{', '"']);
    if is_json {
        return serde_json::from_str(text).map_err(|error| Problem::invalid(format!("schedule: {error}")));
    }
    let has_zone = ["TZ=", "CRON_TZ="].iter().any(|prefix| text.trim_start().starts_with(prefix));
    Ok(match zone.filter(|_| !has_zone) {
        Some(zone) => cron(text).timezone(zone).into(),
        None => cron(text).into(),
    })
}

fn draw(
    definition: &Definition,
    zone: Option<&str>,
    after: DateTime<Utc>,
    count: usize,
) -> Result<Sketch, Faults> {
    let started = Instant::now();
    let describe = definition.describe()?;
    let warnings = definition.lint(after)?.iter().map(ToString::to_string).collect();
    let (mut lines, mut from, mut cut) = (Vec::new(), after, false);
    while lines.len() < count {
        if started.elapsed() > TIME_MAX {
            cut = true;
            break;
        }
        let step = STEP.min(count - lines.len());
        let preview = match zone {
            Some(zone) => definition.preview_in(zone, from, step)?,
            None => definition.preview(from, step)?,
        };
        lines.extend(preview.lines().iter().map(LineView::from));
        match preview.lines().last().filter(|_| preview.lines().len() == step) {
            Some(last) => from = last.fire_time.to_utc(),
            None => break,
        }
    }
    let definition = serde_json::to_value(definition).unwrap_or_default();
    Ok(Sketch { describe, lines, warnings, definition, cut })
}

/// What a schedule means, computed where it delays nobody, one of a few at a time.
pub(crate) async fn sketch(
    turns: &Arc<Semaphore>,
    definition: Definition,
    zone: Option<String>,
    after: DateTime<Utc>,
    count: usize,
) -> Result<Sketch, Problem> {
    let turn = timeout(TURN_MAX, turns.clone().acquire_owned()).await;
    let turn = turn.map_err(|_| Problem::too_many("other previews are computed"))?;
    let drawn = web::block(move || {
        // It is held until this ends, also if nobody waits for it any more.
        let _turn = turn;
        draw(&definition, zone.as_deref(), after, count)
    })
    .await;
    let drawn = drawn.map_err(|_| Problem::internal("a preview came to no end"))?;
    drawn.map_err(|faults| Problem::faults(&faults))
}

/// What a schedule means: in words, with its next fire times and what the clocks do to them.
#[utoipa::path(get, path = "/api/preview", params(AskedPreview),
    responses((status = 200, body = Sketch)))]
pub(crate) async fn preview(caller: Caller<Reads, Query<AskedPreview>>) -> Result<Json<Sketch>, Problem> {
    let AskedPreview { schedule, zone, count, after } = &*caller.input;
    let count = given::within("count", *count, COUNT_DEFAULT, (1, COUNT_MAX))?;
    let zone = zone.clone().filter(|zone| !zone.is_empty());
    let definition = read(schedule, zone.as_deref())?;
    let after = after.unwrap_or_else(Utc::now);
    Ok(Json(sketch(&caller.shared.previews, definition, zone, after, count).await?))
}
