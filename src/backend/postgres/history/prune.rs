//! Deleting what need not be kept any more: each kind of record in its turn, page by page, for some time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use callsheet_actors::{
    Outcome, RunId,
    port::{HistoryError, Retention},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Error, Row, types::Type};
use uuid::Uuid;

use super::{
    asked::{Asked, Tables, failed},
    columns::Parameter,
    old::ENDS_DECIDED_BY,
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
/// How long a kind of which something could not be deleted is left alone.
const AGAIN_AFTER: Duration = Duration::from_secs(50);

/// What is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs with this outcome that are old.
    Ended(Outcome),
    /// Runs whose end nobody wrote.
    Stale,
    Decisions,
    Operations,
    /// Runs of jobs that have too many.
    TooMany,
    /// Ends by which nodes decide no more.
    Ends,
}

/// What is old, and how many are too many.
struct Bounds {
    runs: Young,
    failures: Young,
    decisions: DateTime<Utc>,
    operations: DateTime<Utc>,
    per_job: i64,
    /// How many digits the number of new runs of a job has that is looked at for too many.
    digits: i32,
    /// The first id of runs that nodes may still decide by.
    ends: Uuid,
}

/// Which runs are young.
struct Young {
    /// Those that were asked for since: this is the first id of that time.
    first: Uuid,
    /// And those that ended, or were said to be in progress, since.
    since: DateTime<Utc>,
}

impl Young {
    fn since(since: DateTime<Utc>) -> Self {
        Self { first: RunId::first_at(since).as_uuid(), since }
    }
}

impl Bounds {
    fn of(now: DateTime<Utc>, retention: &Retention) -> Self {
        let since = |age: Duration| {
            let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
            now.checked_sub_signed(age).unwrap_or(DateTime::UNIX_EPOCH).max(DateTime::UNIX_EPOCH)
        };
        let digits = (retention.runs_per_job / PRUNE_PART).max(1).ilog10() + 1;
        Self {
            runs: Young::since(since(retention.runs_for)),
            failures: Young::since(since(retention.failures_for)),
            decisions: since(retention.decisions_for),
            operations: since(retention.operations_for),
            per_job: i64::try_from(retention.runs_per_job).unwrap_or(i64::MAX),
            digits: i32::try_from(digits).unwrap_or(i32::MAX),
            ends: RunId::first_at(since(ENDS_DECIDED_BY)).as_uuid(),
        }
    }

    /// Which runs with an outcome are young.
    fn of_outcome(&self, outcome: Outcome) -> &Young {
        match outcome {
            Outcome::Succeeded | Outcome::Cancelled => &self.runs,
            _ => &self.failures,
        }
    }
}

/// Whose turn it is, and which kinds could not be deleted when it was last tried.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Turn>);

#[derive(Debug, Default)]
struct Turn {
    /// How many times something was pruned.
    count: usize,
    /// Each kind once, and when it failed last.
    failing: Vec<(Kind, Instant)>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of so many has its turn. The next time it is the next one.
    fn next(&self, of: usize) -> usize {
        let mut turn = self.lock();
        turn.count = turn.count.wrapping_add(1);
        turn.count % of
    }

    /// Whether a kind is tried: it has not failed lately.
    fn is_tried(&self, kind: Kind, now: Instant) -> bool {
        let fails_lately = |(failing, at): &(Kind, Instant)| *failing == kind && now - *at < AGAIN_AFTER;
        !self.lock().failing.iter().any(fails_lately)
    }

    /// Takes in how a try ended; a failure is logged if the one before was none. Answers whether there may be more that
    /// can be deleted.
    fn ended(&self, kind: Kind, now: Instant, more: Result<bool, HistoryError>) -> bool {
        let mut turn = self.lock();
        let known = turn.failing.iter().position(|(failing, _)| *failing == kind);
        match (more, known) {
            (Ok(more), None) => more,
            (Ok(more), Some(at)) => {
                turn.failing.remove(at);
                more
            }
            (Err(_), Some(at)) => {
                turn.failing[at].1 = now;
                false
            }
            (Err(error), None) => {
                turn.failing.push((kind, now));
                tracing::warn!(
                    target: "callsheet", ?kind,
                    "old rows of the history stay; those of other kinds are deleted, and it is tried again each minute: {error}"
                );
                false
            }
        }
    }
}

/// Deletes some of what is old at `now`, or too much. Answers whether there may be more that can be deleted: a kind of
/// which something cannot be is left alone for a while, and keeps no other one. Where there is nothing to delete, it is
/// two questions.
pub(super) async fn prune(
    tables: &Tables,
    turns: &Turns,
    now: DateTime<Utc>,
    retention: &Retention,
) -> Result<bool, HistoryError> {
    let (bounds, began) = (Bounds::of(now, retention), Instant::now());
    let mut kinds = kinds_to_prune(tables, &bounds).await?;
    if turns.is_tried(Kind::Ends, began) {
        let ends = match has_old_ends(tables, &bounds).await {
            Ok(ends) => ends,
            failed @ Err(_) => turns.ended(Kind::Ends, began, failed),
        };
        kinds.extend(ends.then_some(Kind::Ends));
    }
    kinds.retain(|kind| turns.is_tried(*kind, began));
    while !kinds.is_empty() {
        let nth = turns.next(kinds.len());
        let more = prune_kind(tables, kinds[nth], &bounds).await;
        if !turns.ended(kinds[nth], Instant::now(), more) {
            kinds.remove(nth);
        }
        if began.elapsed() >= PRUNE_FOR {
            break;
        }
    }
    Ok(!kinds.is_empty())
}

async fn has_old_ends(tables: &Tables, bounds: &Bounds) -> Result<bool, HistoryError> {
    let found = tables.ask(&tables.statements.ends_to_prune, &[(&bounds.ends, Type::UUID)]).await?;
    Ok(!found.is_empty())
}

/// The kinds, besides the ends, of which there is something to delete.
async fn kinds_to_prune(tables: &Tables, bounds: &Bounds) -> Result<Vec<Kind>, HistoryError> {
    let Bounds { runs, failures, .. } = bounds;
    let parameters: [Parameter<'_>; 8] = [
        (&tables.scope, Type::TEXT),
        (&runs.first, Type::UUID),
        (&failures.first, Type::UUID),
        (&bounds.decisions, Type::TIMESTAMPTZ),
        (&bounds.operations, Type::TIMESTAMPTZ),
        (&bounds.digits, Type::INT4),
        (&runs.since, Type::TIMESTAMPTZ),
        (&failures.since, Type::TIMESTAMPTZ),
    ];
    let rows = tables.ask(&tables.statements.to_prune, &parameters).await?;
    let kind = |row: &Row| {
        Ok(match row.try_get("kind")? {
            "stale" => Some(Kind::Stale),
            "decisions" => Some(Kind::Decisions),
            "operations" => Some(Kind::Operations),
            "too many" => Some(Kind::TooMany),
            outcome => Outcome::ALL.into_iter().find(|known| known.as_str() == outcome).map(Kind::Ended),
        })
    };
    let kinds = rows.iter().map(kind).collect::<Result<Vec<_>, Error>>().map_err(|error| failed(&error))?;
    Ok(kinds.into_iter().flatten().collect())
}

async fn prune_kind(tables: &Tables, kind: Kind, bounds: &Bounds) -> Result<bool, HistoryError> {
    let (scope, s) = (&tables.scope, &tables.statements);
    match kind {
        Kind::Ended(outcome) => {
            let (young, outcome) = (bounds.of_outcome(outcome), outcome.as_str());
            let parameters: [Parameter<'_>; 5] = [
                (scope, Type::TEXT),
                (&outcome, Type::TEXT),
                (&young.first, Type::UUID),
                (&PRUNE_MAX, Type::INT8),
                (&young.since, Type::TIMESTAMPTZ),
            ];
            delete(tables, &s.prune_runs, &parameters).await
        }
        Kind::Stale => {
            let Young { first, since } = &bounds.failures;
            let parameters: [Parameter<'_>; 4] = [
                (scope, Type::TEXT),
                (first, Type::UUID),
                (&PRUNE_MAX, Type::INT8),
                (since, Type::TIMESTAMPTZ),
            ];
            delete(tables, &s.prune_stale, &parameters).await
        }
        Kind::Decisions => delete_before(tables, &s.prune_decisions, bounds.decisions).await,
        Kind::Operations => delete_before(tables, &s.prune_operations, bounds.operations).await,
        Kind::TooMany => prune_by_count(tables, bounds).await,
        Kind::Ends => {
            let parameters: [Parameter<'_>; 2] = [(&bounds.ends, Type::UUID), (&PRUNE_MAX, Type::INT8)];
            delete(tables, &s.prune_ends, &parameters).await
        }
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
async fn prune_by_count(tables: &Tables, bounds: &Bounds) -> Result<bool, HistoryError> {
    let s = &tables.statements;
    let parameters: [Parameter<'_>; 3] =
        [(&tables.scope, Type::TEXT), (&bounds.digits, Type::INT4), (&PRUNE_JOBS, Type::INT8)];
    let jobs = tables.ask(&s.jobs_to_prune, &parameters).await?;
    let began = Instant::now();
    let is_all = jobs.len() < usize::try_from(PRUNE_JOBS).unwrap_or(usize::MAX);
    for row in jobs {
        let job: String = row.try_get("job").map_err(|error: Error| failed(&error))?;
        let parameters: [Parameter<'_>; 4] = [
            (&tables.scope, Type::TEXT),
            (&job, Type::TEXT),
            (&bounds.per_job, Type::INT8),
            (&PRUNE_MAX, Type::INT8),
        ];
        let deleted = tables.ask(&s.prune_job, &parameters).await?;
        let deleted = deleted.first().map(|row| row.try_get::<_, i64>("deleted")).transpose();
        let is_full = deleted.map_err(|error| failed(&error))?.is_some_and(|deleted| deleted >= PRUNE_MAX);
        if is_full || began.elapsed() >= PRUNE_FOR {
            return Ok(true);
        }
    }
    Ok(!is_all)
}
