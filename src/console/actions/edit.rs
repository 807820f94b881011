//! Changes of a definition: what a patch does not name stays as it is.

use actix_web::web::Json;
use callsheet_actors::{JobStatus, OverrideSchedule, StoredJobError, port::Expected};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{
        access::{Caller, Edits},
        problem::Problem,
        read::{Sketch, sketch},
    },
    told,
};
use crate::{config::StoredJob, error::Error, handle::Callsheet, schedule::Definition};

/// How many of the next fire times are shown, before and after.
const NEXT: usize = 5;
/// How deep a patch may go.
const DEPTH_MAX: usize = 32;

/// What to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskedEdit {
    job: String,
    /// A JSON merge patch of the definition (RFC 7396). Of a job whose body is code only `schedule` can be changed;
    /// `null` clears what has overridden the schedule of the code.
    #[schema(value_type = Object)]
    patch: Map<String, Value>,
    /// The version that was read: needed for a stored job.
    version: Option<String>,
    /// The schedule in words that was read, of a job whose body is code.
    schedule_was: Option<String>,
    /// Only answers what it would be.
    #[serde(default)]
    dry_run: bool,
    /// Why.
    #[schema(max_length = 1000)]
    note: Option<String>,
}

/// What was changed, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EditAnswer {
    dry_run: bool,
    job: String,
    /// `cluster`: on all nodes, for as long as the store keeps it; `node`: on this node, until it starts again.
    #[schema(value_type = String)]
    scope: Scope,
    before: ScheduleView,
    after: ScheduleView,
    /// What is right, but probably not meant.
    warnings: Vec<String>,
    /// The new definition, of a stored job.
    #[schema(value_type = Option<Object>)]
    definition: Option<Value>,
    /// The version that stands, of a stored job.
    version: Option<String>,
}

/// Where a change holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    Cluster,
    Node,
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleView {
    /// In words.
    schedule: String,
    /// The next five fire times; none, of a schedule of code that an override has the place of.
    next: Vec<DateTime<Utc>>,
}

/// Changes a member of an object as the patch says: RFC 7396.
fn merge(target: &mut Value, patch: &Map<String, Value>, depth: usize) -> Result<(), Problem> {
    if depth == 0 {
        return Err(Problem::invalid(format!("a patch is at most {DEPTH_MAX} objects deep")));
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return Ok(()) };
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.remove(name)),
            Value::Object(inner) => merge(members.entry(name).or_insert(Value::Null), inner, depth - 1)?,
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    Ok(())
}

fn read_schedule(schedule: &Value) -> Result<Definition, Problem> {
    let read = serde_json::from_value(schedule.clone());
    read.map_err(|error| Problem::invalid(format!("schedule: {error}")))
}

fn after(sketch: &Sketch) -> ScheduleView {
    let next = sketch.lines.iter().map(|line| line.at).collect();
    ScheduleView { schedule: sketch.describe.clone(), next }
}

/// Changes the definition of a job, or only its schedule.
#[utoipa::path(post, path = "/api/actions/edit", request_body = AskedEdit,
    responses((status = 200, body = EditAnswer)))]
pub(crate) async fn edit(caller: Caller<Edits, Json<AskedEdit>>) -> Result<Json<EditAnswer>, Problem> {
    let jobs = told(&caller, caller.input.note.as_deref())?;
    let status = jobs.details(caller.input.job.as_str()).await?;
    let next = jobs.next_fire_times(status.name.as_str(), NEXT).await.unwrap_or_default();
    let before = ScheduleView { schedule: status.schedule.to_string(), next };
    let answer = match status.stored {
        Some(_) => edit_stored(&caller, &jobs, &status, before).await?,
        None => edit_code(&caller, &jobs, &status, before).await?,
    };
    if !answer.dry_run {
        caller.shared.board.changed();
    }
    Ok(Json(answer))
}

async fn edit_stored(
    caller: &Caller<Edits, Json<AskedEdit>>,
    jobs: &Callsheet,
    status: &JobStatus,
    before: ScheduleView,
) -> Result<EditAnswer, Problem> {
    let AskedEdit { patch, version, dry_run, .. } = &*caller.input;
    let standing = jobs.stored(status.name.as_str()).await?;
    let version = version.as_deref().and_then(|version| version.parse::<u64>().ok());
    let version = version.ok_or_else(|| Problem::invalid("`version` is the one that was read, as text"))?;
    if version != standing.version {
        return Err(Problem::changed(format!("version {} stands, not {version}", standing.version)));
    }
    let mut definition = standing.definition;
    // A schedule is a value of its own: half of an old one and half of a new one is none.
    let (schedule, mut rest) = (patch.get("schedule").cloned(), patch.clone());
    rest.remove("schedule");
    merge(&mut definition, &rest, DEPTH_MAX)?;
    if let (Some(schedule), Value::Object(members)) = (schedule, &mut definition) {
        members.insert("schedule".to_owned(), schedule);
    }
    let read = serde_json::from_value::<StoredJob>(definition.clone());
    let read = read.map_err(|error| Problem::invalid(format!("the definition: {error}")))?;
    let sketch = sketch(&caller.shared.edits, read.schedule.clone(), None, Utc::now(), NEXT).await?;
    let version = match dry_run {
        true => standing.version,
        false => jobs.put_if(status.name.as_str(), &read, Expected::Version(version)).await?.version,
    };
    Ok(EditAnswer {
        dry_run: *dry_run,
        job: status.name.to_string(),
        scope: Scope::Cluster,
        before,
        after: after(&sketch),
        warnings: sketch.warnings,
        definition: Some(definition),
        version: Some(version.to_string()),
    })
}

async fn edit_code(
    caller: &Caller<Edits, Json<AskedEdit>>,
    jobs: &Callsheet,
    status: &JobStatus,
    before: ScheduleView,
) -> Result<EditAnswer, Problem> {
    let AskedEdit { patch, schedule_was, dry_run, .. } = &*caller.input;
    let schedule = patch.get("schedule").filter(|_| patch.len() == 1);
    let schedule = schedule.ok_or_else(|| {
        let cure = "patch `schedule` alone, or change the code";
        Problem::invalid("the body of this job is code: only its schedule can be changed here").cure(cure)
    })?;
    if schedule_was.as_deref().is_some_and(|was| was != &*status.schedule) {
        return Err(Problem::changed(format!("its schedule is {:?} by now", status.schedule)));
    }
    let (scope, after, warnings) = match schedule {
        Value::Null => clear(jobs, status, *dry_run).await?,
        schedule => replace(caller, jobs, status, schedule).await?,
    };
    let (dry_run, job) = (*dry_run, status.name.to_string());
    Ok(EditAnswer { dry_run, job, scope, before, after, warnings, definition: None, version: None })
}

/// Puts a schedule in the place of that of the code: on all nodes, if the store can keep it.
async fn replace(
    caller: &Caller<Edits, Json<AskedEdit>>,
    jobs: &Callsheet,
    status: &JobStatus,
    schedule: &Value,
) -> Result<(Scope, ScheduleView, Vec<String>), Problem> {
    let (name, definition) = (status.name.as_str(), read_schedule(schedule)?);
    let sketch = sketch(&caller.shared.edits, definition.clone(), None, Utc::now(), NEXT).await?;
    let scope = match jobs.stored(name).await {
        Err(Error::Stored(StoredJobError::NotKept { .. })) => Scope::Node,
        Ok(_) | Err(_) => Scope::Cluster,
    };
    match scope {
        _ if caller.input.dry_run => {}
        Scope::Node => jobs.reschedule(name, definition).await.map(drop)?,
        Scope::Cluster => {
            let standing = status.overridden.as_ref();
            let expected = standing.map_or(Expected::Absent, |standing| Expected::Version(standing.version));
            let asked = OverrideSchedule::new(name, &definition).expecting(expected);
            let asked = asked.by(jobs.by.clone()).note(jobs.note.clone());
            jobs.ask(asked).await?.map_err(Error::from)?;
        }
    }
    Ok((scope, after(&sketch), sketch.warnings))
}

/// Gives a job the schedule of its code again.
async fn clear(
    jobs: &Callsheet,
    status: &JobStatus,
    dry_run: bool,
) -> Result<(Scope, ScheduleView, Vec<String>), Problem> {
    let standing = status.overridden.as_ref();
    let standing =
        standing.ok_or_else(|| Problem::invalid("nobody has overridden the schedule of this job"))?;
    let mut after = ScheduleView { schedule: standing.code.to_string(), next: Vec::new() };
    if !dry_run {
        jobs.clear_override(status.name.as_str()).await?;
        after.next = jobs.next_fire_times(status.name.as_str(), NEXT).await.unwrap_or_default();
    }
    Ok((Scope::Cluster, after, Vec::new()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_leaves_what_it_does_not_name() {
        let mut definition = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]});
        let patch = json!({"b": {"c": null, "f": 4}, "e": [2]});

        merge(&mut definition, patch.as_object().expect("an object"), DEPTH_MAX).expect("it is flat");

        assert_eq!(definition, json!({"a": 1, "b": {"d": 3, "f": 4}, "e": [2]}));
    }

    #[test]
    fn a_patch_that_is_too_deep_is_refused() {
        let patch = (0..40).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(merge(&mut json!({}), patch.as_object().expect("an object"), DEPTH_MAX).is_err());
    }
}
