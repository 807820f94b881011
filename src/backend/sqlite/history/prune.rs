//! Deleting what need not be kept any more: each kind of record in its turn, page by page, for some time. What is
//! freed in the file is used again; the file does not shrink.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use callsheet_actors::{
    Outcome, RunId,
    port::{HistoryError, Retention},
};
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, params};

use super::{
    super::thread::FileThread,
    books::{HistoryBooks, micros},
    write::stale_before,
};

/// The most rows that one statement deletes: records that come meanwhile wait for it.
const PRUNE_MAX: usize = 1_000;
/// The most jobs that are looked at together for too many runs.
const PRUNE_JOBS: usize = 100;
/// A job is looked at when it has this part of the runs that it may have more than before.
const PRUNE_PART: u64 = 10;
/// How long it goes on if there is more.
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

/// Deletes some of what is old at `now`, or too much. Answers whether there may be more. `turn`: how many times
/// something was pruned.
pub(super) async fn prune(
    thread: &FileThread<HistoryBooks>,
    turn: &AtomicUsize,
    now: DateTime<Utc>,
    retention: &Retention,
) -> Result<bool, HistoryError> {
    let (kinds, began, retention) = (kinds(), Instant::now(), *retention);
    // So many kinds in a row had nothing more.
    let mut done = 0;
    while done < kinds.len() {
        // The next time it is the turn of the next one, also if this one fails.
        let kind = kinds[turn.fetch_add(1, Ordering::Relaxed) % kinds.len()];
        let more = thread.ask(move |connection, _| prune_kind(connection, kind, now, &retention)).await?;
        done = if more { 0 } else { done + 1 };
        if began.elapsed() >= PRUNE_FOR {
            return Ok(done < kinds.len());
        }
    }
    Ok(false)
}

/// Answers whether there may be more of the kind.
fn prune_kind(
    connection: &Connection,
    kind: Kind,
    now: DateTime<Utc>,
    retention: &Retention,
) -> rusqlite::Result<bool> {
    let since = |age: Duration| {
        let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(age).unwrap_or(DateTime::UNIX_EPOCH).max(DateTime::UNIX_EPOCH)
    };
    let first = |since| *RunId::first_at(since).as_uuid().as_bytes();
    let deleted = match kind {
        Kind::Ended(outcome) => {
            let age = match outcome {
                Outcome::Succeeded | Outcome::Cancelled => retention.runs_for,
                _ => retention.failures_for,
            };
            // It is as old as its end. It was asked for before, so that all that are old are among the first ids of
            // the index; of those only the runs that took long are young.
            let mut delete = connection.prepare_cached(
                "DELETE FROM runs WHERE run IN (
                     SELECT run FROM runs WHERE outcome = ?1 AND run < ?2 AND coalesce(ended_at < ?3, true)
                     ORDER BY run LIMIT ?4)",
            )?;
            let since = since(age);
            delete.execute(params![outcome.as_str(), first(since), micros(since), PRUNE_MAX as i64])?
        }
        Kind::Stale => {
            let mut delete = connection.prepare_cached(
                "DELETE FROM runs WHERE run IN (
                     SELECT run FROM runs WHERE outcome IS NULL AND run < ?1 AND written_at < ?2 ORDER BY run LIMIT ?3)",
            )?;
            let since = since(retention.failures_for);
            let before = micros(since).min(stale_before(Utc::now()));
            delete.execute(params![first(since), before, PRUNE_MAX as i64])?
        }
        Kind::Decisions => delete_before(connection, "decisions", since(retention.decisions_for))?,
        Kind::Operations => delete_before(connection, "operations", since(retention.operations_for))?,
        Kind::TooMany => return prune_by_count(connection, retention.runs_per_job),
    };
    Ok(deleted >= PRUNE_MAX)
}

fn delete_before(connection: &Connection, table: &str, before: DateTime<Utc>) -> rusqlite::Result<usize> {
    let text = format!(
        "DELETE FROM {table} WHERE nth IN (SELECT nth FROM {table} WHERE at < ?1 ORDER BY at LIMIT ?2)"
    );
    connection.prepare_cached(&text)?.execute(params![micros(before), PRUNE_MAX as i64])
}

/// Deletes what some jobs have beyond so many runs of each outcome, those with the most new runs first.
fn prune_by_count(connection: &Connection, most: u64) -> rusqlite::Result<bool> {
    let least = i64::try_from((most / PRUNE_PART).max(1)).unwrap_or(i64::MAX);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut read = connection.prepare_cached(
        "SELECT job FROM jobs WHERE unpruned > 0 AND unpruned >= ?1 ORDER BY unpruned DESC LIMIT ?2",
    )?;
    let jobs = read.query_map([least, PRUNE_JOBS as i64], |row| row.get(0))?;
    let jobs: Vec<String> = jobs.collect::<Result<_, _>>()?;
    let mut left = PRUNE_MAX;
    for job in &jobs {
        for outcome in Outcome::ALL {
            left -= delete_beyond(connection, job, outcome, most, left)?;
            if left == 0 {
                return Ok(true);
            }
        }
        connection.prepare_cached("UPDATE jobs SET unpruned = 0 WHERE job = ?1")?.execute([job])?;
    }
    Ok(jobs.len() >= PRUNE_JOBS)
}

/// Deletes the oldest runs of a job beyond so many of an outcome, `left` at most.
fn delete_beyond(
    connection: &Connection,
    job: &str,
    outcome: Outcome,
    most: i64,
    left: usize,
) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM runs WHERE run IN (
             SELECT run FROM runs WHERE job = ?1 AND outcome = ?2
               AND run <= (SELECT run FROM runs WHERE job = ?1 AND outcome = ?2 ORDER BY run DESC LIMIT 1 OFFSET ?3)
             ORDER BY run LIMIT ?4) RETURNING ended_at",
    )?;
    let left = i64::try_from(left).unwrap_or(i64::MAX);
    let deleted = delete.query_map(params![job, outcome.as_str(), most, left], |row| row.get(0))?;
    let deleted: Vec<Option<i64>> = deleted.collect::<Result<_, _>>()?;
    if let Some(to) = deleted.iter().flatten().max() {
        // The row without a name is about all jobs.
        let text = "INSERT INTO jobs (job, record, unpruned, pruned_to) VALUES (?1, '{}', 0, ?2)
             ON CONFLICT (job) DO UPDATE SET pruned_to = max(coalesce(pruned_to, ?2), ?2)";
        for job in [job, ""] {
            connection.prepare_cached(text)?.execute(params![job, to])?;
        }
    }
    Ok(deleted.len())
}
