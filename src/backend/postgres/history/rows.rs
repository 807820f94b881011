//! Rows of the history as records. A decision or an operation that another program wrote, or a newer version, and
//! that this one cannot read, is left out and counted; a run keeps the word for how it ended.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    By, FencingToken, FireTime, JobName, LockKey, NodeId, RunId, Term,
    port::{
        BackfillId, DecisionRecord, EndedRun, FailedRun, Gaps, Holder, JobOperation, JobRecord, LastEnds,
        OperationRecord, PageStart, RunOrigin, RunRecord,
    },
};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

pub(super) fn run(row: &Row) -> Result<RunRecord, Error> {
    let job = name(row, "job")?;
    let mut record = RunRecord::new(job, row.try_get::<_, Uuid>("run")?.into(), node(row, "node")?);
    if let Ok(key) = LockKey::new(row.try_get::<_, &str>("key")?) {
        record.key = key;
    }
    record.slot = row.try_get::<_, i32>("slot")?.unsigned_abs();
    record.origin = match row.try_get("origin")? {
        "tick" => RunOrigin::Tick,
        "trigger" => RunOrigin::Trigger { by: by(row)?, own_arguments: record.run.has_own_arguments() },
        "backfill" => match BackfillId::of_run(record.run) {
            Some((backfill, _)) => RunOrigin::Backfill { backfill, by: by(row)? },
            None => RunOrigin::Unknown,
        },
        _ => RunOrigin::Unknown,
    };
    record.term = row.try_get::<_, Option<i64>>("term")?.map(|term| Term(term.unsigned_abs()));
    record.token = row.try_get::<_, Option<i64>>("token")?.map(|token| FencingToken(token.unsigned_abs()));
    record.fire_time = fire_time(row, "fire_time")?;
    record.started_at = row.try_get("started_at")?;
    record.ended_at = row.try_get("ended_at")?;
    record.lateness = micros(row.try_get("lateness")?);
    record.took = row.try_get::<_, Option<i64>>("took")?.map(micros);
    let outcome: Option<&str> = row.try_get("outcome")?;
    record.outcome = word(outcome);
    record.unknown_outcome = outcome.filter(|_| record.outcome.is_none()).map(Into::into);
    record.is_stale = row.try_get("is_stale")?;
    record.cancelled = word(row.try_get("cancelled")?);
    record.error = text(row, "error")?;
    record.attempt = row.try_get::<_, i32>("attempt")?.unsigned_abs();
    record.attempts = json(row.try_get("attempts")?).unwrap_or_default();
    record.report = text(row, "report")?;
    record.measures = json(row.try_get("measures")?).unwrap_or_default();
    record.progress = row.try_get("progress")?;
    record.next_fire_time = fire_time(row, "next_fire_time")?;
    Ok(record)
}

pub(super) fn job_record(row: &Row, job: &JobName) -> Result<JobRecord, Error> {
    let mut record = JobRecord::new(job.clone());
    let run = |column: &str| Ok::<_, Error>(row.try_get::<_, Option<Uuid>>(column)?.map(RunId::from));
    let instant = |column: &str| row.try_get::<_, Option<DateTime<Utc>>>(column);
    let count = |column: &str| Ok::<_, Error>(row.try_get::<_, i64>(column)?.unsigned_abs());
    if let (Some(run), Some(at)) = (run("last_run")?, instant("last_at")?) {
        record.last_run = Some(EndedRun { run, at, outcome: word(row.try_get("last_outcome")?) });
    }
    record.last_success = instant("success_at")?;
    if let (Some(run), Some(at)) = (run("failed_run")?, instant("failed_at")?) {
        record.last_failure = Some(FailedRun { run, at, error: text(row, "failed_error")? });
    }
    record.consecutive_failures = count("consecutive_failures")?;
    record.runs = count("runs")?;
    record.failures = count("failures")?;
    let (took, timed) = (row.try_get::<_, f64>("took_all")?, count("timed")?);
    let of_micros = |micros: f64| Duration::from_micros(micros.round() as u64);
    record.mean = (timed > 0).then(|| of_micros(took / timed as f64));
    record.p95 = row.try_get::<_, Option<f64>>("p95_now")?.map(of_micros);
    record.pause = json(row.try_get("pause")?);
    record.next_fire_time = fire_time(row, "next_fire_time")?;
    record.pruned_to = instant("pruned_to")?;
    if let Some(run) = run("open_run")? {
        record.holder = Some(Holder { run, node: node(row, "open_node")? });
    }
    Ok(record)
}

pub(super) fn last_ends(row: &Row) -> Result<LastEnds, Error> {
    let mut ends = LastEnds::new(name(row, "job")?);
    (ends.last_run, ends.last_success) = (row.try_get("last_at")?, row.try_get("success_at")?);
    ends.consecutive_failures = row.try_get::<_, i64>("consecutive_failures")?.unsigned_abs();
    Ok(ends)
}

pub(super) fn gaps(row: &Row) -> Result<Gaps, Error> {
    Ok(Gaps::new(row.try_get("pruned_to")?, row.try_get::<_, i64>("dropped")?.unsigned_abs()))
}

pub(super) fn decision(row: &Row) -> Result<Option<DecisionRecord>, Error> {
    let Some(decision) = json(row.try_get("decision")?) else { return Ok(None) };
    let job = JobName::new(row.try_get::<_, &str>("job")?).ok();
    let mut record = DecisionRecord::new(job, row.try_get("at")?, node(row, "node")?, decision);
    record.first = fire_time(row, "first")?;
    record.fire_time = fire_time(row, "fire_time")?;
    record.term = row.try_get::<_, Option<i64>>("term")?.map(|term| Term(term.unsigned_abs()));
    Ok(Some(record))
}

pub(super) fn operation(row: &Row) -> Result<Option<OperationRecord>, Error> {
    let word: &str = row.try_get("operation")?;
    let known = JobOperation::ALL.into_iter().find(|operation| operation.as_str() == word);
    let Some(operation) = known else { return Ok(None) };
    let mut record =
        OperationRecord::new(name(row, "job")?, operation, row.try_get("at")?, node(row, "node")?);
    record.number = row.try_get::<_, i64>("number")?.unsigned_abs();
    record.by = by(row)?;
    record.note = text(row, "note")?;
    record.detail = text(row, "detail")?;
    Ok(Some(record))
}

/// The records of a page of rows with their times, how many more rows cannot be read, and where it ends.
pub(super) fn page<T>(
    rows: &[Row],
    limit: usize,
    read: impl Fn(&Row) -> Result<Option<T>, Error>,
) -> Result<(Vec<T>, usize, Option<PageStart>), Error> {
    let of_page = &rows[..rows.len().min(limit)];
    let last = of_page.last().filter(|_| rows.len() > limit);
    let start = |row: &Row| Ok(PageStart { at: row.try_get("at")?, nth: row.try_get("nth")?, backend: 0 });
    let next = last.map(start).transpose()?;
    let records: Vec<T> = of_page.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>()?;
    let unread = of_page.len() - records.len();
    Ok((records, unread, next))
}

/// A name that is none was written by somebody else; it is shown as such.
fn name(row: &Row, column: &str) -> Result<JobName, Error> {
    let name: &str = row.try_get(column)?;
    Ok(JobName::new(name).unwrap_or_else(|_| JobName::new("?").expect("invariant: it is a good name")))
}

fn node(row: &Row, column: &str) -> Result<NodeId, Error> {
    Ok(NodeId::numbered(row.try_get::<_, Uuid>(column)?.as_u128()))
}

fn by(row: &Row) -> Result<Option<By>, Error> {
    Ok(row.try_get::<_, Option<&str>>("asked_by")?.and_then(|by| By::new(by).ok()))
}

fn fire_time(row: &Row, column: &str) -> Result<Option<FireTime>, Error> {
    Ok(row.try_get::<_, Option<DateTime<Utc>>>(column)?.map(FireTime::new))
}

fn text(row: &Row, column: &str) -> Result<Option<Arc<str>>, Error> {
    Ok(row.try_get::<_, Option<&str>>(column)?.map(Into::into))
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

fn json<T: DeserializeOwned>(text: Option<&str>) -> Option<T> {
    serde_json::from_str(text?).ok()
}

/// A value of one word.
fn word<T: DeserializeOwned>(word: Option<&str>) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word?.to_owned())).ok()
}
