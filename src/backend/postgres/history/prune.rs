//! Deleting what need not be kept any more: each kind of record in its turn, page by page, for some time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use callsheet_actors::{
    Outcome, RunId,
    port::{HistoryError, Retention},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Error, types::Type};

use super::{
    asked::{Asked, Tables, failed},
    columns::Parameter,
};

/// The most rows that one statement deletes.
const PRUNE_MAX: i64 = 5_000;
/// The most jobs that are looked at together for too many runs.
const PRUNE_JOBS: i64 = 100;
/// A job is looked at when it has this part of the runs that it may have more than before, or less: as many
/// digits count.
const PRUNE_PART: u64 = 10;
/// How long it goes on if there is more. It is within the deadline of a call with one statement that takes long.
const PRUNE_FOR: Duration = Duration::from_secs(1);

/// What is deleted.
#[derive(Clone, Copy)]
enum Kind {
    /// Runs with this outcome that are old.
    Ended(Outcome),
    /// Runs whose end nobody wrote.
    Stale,
    Decisions,
    Operations,
    /// Runs of jobs that have too many.
    TooMany,
}

/// Each kind of record.
fn kinds() -> Vec<Kind> {
    let ended = Outcome::ALL.into_iter().map(Kind::Ended);
    ended.chain([Kind::Stale, Kind::Decisions, Kind::Operations, Kind::TooMany]).collect()
}

/// Deletes some of what is old at `now`, or too much. Answers whether there may be more. `turn`: how many times something was
/// pruned.
pub(super) async fn prune(
    tables: &Tables,
    turn: &AtomicUsize,
    now: DateTime<Utc>,
    retention: &Retention,
) -> Result<bool, HistoryError> {
    let (kinds, began) = (kinds(), Instant::now());
    // So many kinds in a row had nothing more.
    let mut done = 0;
    while done < kinds.len() {
        // The next time it is the turn of the next one, also if this one fails.
        let kind = kinds[turn.fetch_add(1, Ordering::Relaxed) % kinds.len()];
        let more = prune_kind(tables, kind, now, retention).await?;
        done = if more { 0 } else { done + 1 };
        if began.elapsed() >= PRUNE_FOR {
            return Ok(done < kinds.len());
        }
    }
    Ok(false)
}

async fn prune_kind(
    tables: &Tables,
    kind: Kind,
    now: DateTime<Utc>,
    retention: &Retention,
) -> Result<bool, HistoryError> {
    let since = |age: Duration| {
        let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(age).unwrap_or(DateTime::UNIX_EPOCH).max(DateTime::UNIX_EPOCH)
    };
    let (scope, s) = (&tables.scope, &tables.statements);
    let first = |age| RunId::first_at(since(age)).as_uuid();
    match kind {
        Kind::Ended(outcome) => {
            let age = match outcome {
                Outcome::Succeeded | Outcome::Cancelled => retention.runs_for,
                _ => retention.failures_for,
            };
            let (outcome, first, before) = (outcome.as_str(), first(age), since(age));
            let parameters: [Parameter<'_>; 5] = [
                (scope, Type::TEXT),
                (&outcome, Type::TEXT),
                (&first, Type::UUID),
                (&PRUNE_MAX, Type::INT8),
                (&before, Type::TIMESTAMPTZ),
            ];
            delete(tables, &s.prune_runs, &parameters).await
        }
        Kind::Stale => {
            let first = first(retention.failures_for);
            let parameters: [Parameter<'_>; 3] =
                [(scope, Type::TEXT), (&first, Type::UUID), (&PRUNE_MAX, Type::INT8)];
            delete(tables, &s.prune_stale, &parameters).await
        }
        Kind::Decisions => delete_before(tables, &s.prune_decisions, since(retention.decisions_for)).await,
        Kind::Operations => delete_before(tables, &s.prune_operations, since(retention.operations_for)).await,
        Kind::TooMany => prune_by_count(tables, retention).await,
    }
}

async fn delete_before(tables: &Tables, text: &str, before: DateTime<Utc>) -> Result<bool, HistoryError> {
    let parameters: [Parameter<'_>; 3] =
        [(&tables.scope, Type::TEXT), (&before, Type::TIMESTAMPTZ), (&PRUNE_MAX, Type::INT8)];
    delete(tables, text, &parameters).await
}

/// Answers whether there may be more to delete.
async fn delete(tables: &Tables, text: &str, parameters: &[Parameter<'_>]) -> Result<bool, HistoryError> {
    let asked = Asked(Some(tables.client().await?));
    let deleted = asked.execute(text, parameters).await.map_err(|error| failed(&error))?;
    asked.done();
    Ok(deleted >= PRUNE_MAX.unsigned_abs())
}

/// Deletes what some jobs have beyond so many runs of each outcome, those with the most new runs first.
async fn prune_by_count(tables: &Tables, retention: &Retention) -> Result<bool, HistoryError> {
    let s = &tables.statements;
    let most = i64::try_from(retention.runs_per_job).unwrap_or(i64::MAX);
    let digits = (retention.runs_per_job / PRUNE_PART).max(1).ilog10() + 1;
    let digits = i32::try_from(digits).unwrap_or(i32::MAX);
    let parameters: [Parameter<'_>; 3] =
        [(&tables.scope, Type::TEXT), (&digits, Type::INT4), (&PRUNE_JOBS, Type::INT8)];
    let jobs = tables.ask(&s.jobs_to_prune, &parameters).await?;
    let began = Instant::now();
    let is_all = jobs.len() < usize::try_from(PRUNE_JOBS).unwrap_or(usize::MAX);
    for row in jobs {
        let job: String = row.try_get("job").map_err(|error: Error| failed(&error))?;
        let parameters: [Parameter<'_>; 4] =
            [(&tables.scope, Type::TEXT), (&job, Type::TEXT), (&most, Type::INT8), (&PRUNE_MAX, Type::INT8)];
        let deleted = tables.ask(&s.prune_job, &parameters).await?;
        let deleted = deleted.first().map(|row| row.try_get::<_, i64>("deleted")).transpose();
        let is_full = deleted.map_err(|error| failed(&error))?.is_some_and(|deleted| deleted >= PRUNE_MAX);
        if is_full || began.elapsed() >= PRUNE_FOR {
            return Ok(true);
        }
    }
    Ok(!is_all)
}
