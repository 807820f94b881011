//! The history on PostgreSQL: tables beside those by which nodes decide, written and asked over connections of
//! their own.
//!
//! * `pool`: the connections. `asked`: statements over one of them. `statement`: every statement, with those of `old`.
//!   `columns`: records as arrays, a column each; `rows`: rows as records. `prune`: what is deleted.

mod asked;
mod columns;
mod old;
mod pool;
mod prune;
mod rows;
mod statement;

use std::fmt;

use callsheet_actors::{
    JobName, Outcome,
    port::{
        AskGaps, Batch, DecisionPage, Decisions, Gaps, History, HistoryError, JobHistory, JobRecord,
        LastEnds, OperationPage, Operations, PageStart, RecordsOf, Retention, RunHistory, RunPage,
    },
};
use chrono::{DateTime, Days, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio_postgres::{Error, Row, types::Type};

/// What the catalogue has of the history.
pub(super) use self::{asked::Asked, columns::Parameter, pool::HistoryPool};
use self::{
    asked::{Tables, failed},
    columns::{DecisionColumns, OperationColumns, PauseColumns, RunColumns},
    pool::NAME,
    prune::{Turns, prune},
    rows::{decision, job_record, last_ends, operation, page, run},
    statement::Statements,
};
use super::settings::Settings;

/// The history of one scope.
pub(super) struct PostgresHistory {
    tables: Tables,
    /// Each kind of record is deleted in its turn.
    turns: Turns,
}

impl PostgresHistory {
    pub(super) fn of(settings: &Settings, pool: Result<HistoryPool, String>) -> Self {
        let (scope, statements) = (settings.scope.clone(), Statements::of(&settings.schema));
        Self { tables: Tables { scope, pool, statements }, turns: Turns::default() }
    }

    async fn write_batch(&self, batch: &Batch) -> Result<(), HistoryError> {
        let Tables { scope, statements: s, .. } = &self.tables;
        let asked = Asked(Some(self.tables.client().await?));
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        asked.simple(begin).await.map_err(|error| failed(&error))?;
        let written = async {
            if !batch.runs.is_empty() {
                let runs = RunColumns::of(&batch.runs);
                asked.query(&s.write_runs, &runs.parameters(scope)).await?;
            }
            if !batch.decisions.is_empty() {
                let decisions = DecisionColumns::of(&batch.decisions);
                asked.query(&s.write_decisions, &decisions.parameters(scope)).await?;
            }
            if !batch.operations.is_empty() {
                let operations = OperationColumns::of(&batch.operations);
                asked.query(&s.write_operations, &operations.parameters(scope)).await?;
            }
            for round in PauseColumns::rounds(&batch.pauses) {
                asked.query(&s.write_pauses, &round.parameters(scope)).await?;
            }
            asked.simple("COMMIT").await
        };
        match written.await {
            Ok(()) => {
                asked.done();
                Ok(())
            }
            // The connection is dropped, and what it had begun with it.
            Err(error) => Err(failed(&error)),
        }
    }
}

/// What a page of decisions or operations is asked with.
struct TimedPage<'a> {
    scope: &'a str,
    job: Option<&'a str>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    at: Option<DateTime<Utc>>,
    nth: Option<i64>,
    limit: i64,
}

impl<'a> TimedPage<'a> {
    fn of(
        scope: &'a str,
        job: Option<&'a JobName>,
        (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
        before: Option<PageStart>,
        limit: usize,
    ) -> Self {
        let (at, nth) = (before.map(|start| start.at), before.map(|start| start.nth));
        Self { scope, job: job.map(JobName::as_str), from, to, at, nth, limit: one_more(limit) }
    }

    fn parameters(&self) -> [Parameter<'_>; 7] {
        [
            (&self.scope, Type::TEXT),
            (&self.job, Type::TEXT),
            (&self.from, Type::TIMESTAMPTZ),
            (&self.to, Type::TIMESTAMPTZ),
            (&self.at, Type::TIMESTAMPTZ),
            (&self.nth, Type::INT8),
            (&self.limit, Type::INT8),
        ]
    }
}

/// One more than a page has, to see whether there is a next one.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}

fn read<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, HistoryError> {
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failed(&error))
}

impl History for PostgresHistory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        self.write_batch(batch).boxed()
    }

    fn runs<'a>(&'a self, asked: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        async move {
            let (job, outcome) =
                (asked.job.as_ref().map(JobName::as_str), asked.outcome.map(Outcome::as_str));
            let first_at = |instant| callsheet_actors::RunId::first_at(instant).as_uuid();
            // No run of a tick is asked for before its time, by clocks that agree within a day.
            let of_ticks = asked.fire_from.map(|from| from.checked_sub_days(Days::new(1)).unwrap_or(from));
            let (from, to) = (asked.from.max(of_ticks).map(first_at), asked.to.map(first_at));
            let before = asked.before.map(|run| run.as_uuid());
            let limit = one_more(asked.page_limit());
            let parameters: [Parameter<'_>; 9] = [
                (&self.tables.scope, Type::TEXT),
                (&job, Type::TEXT),
                (&outcome, Type::TEXT),
                (&from, Type::UUID),
                (&to, Type::UUID),
                (&before, Type::UUID),
                (&limit, Type::INT8),
                (&asked.fire_from, Type::TIMESTAMPTZ),
                (&asked.fire_to, Type::TIMESTAMPTZ),
            ];
            let rows = self.tables.ask(&self.tables.statements.runs, &parameters).await?;
            Ok(RunPage::of(read(&rows, run)?, asked.page_limit()))
        }
        .boxed()
    }

    fn job<'a>(
        &'a self,
        JobHistory(job): &'a JobHistory,
    ) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        async move {
            let name = job.as_str();
            let parameters: [Parameter<'_>; 2] = [(&self.tables.scope, Type::TEXT), (&name, Type::TEXT)];
            let rows = self.tables.ask(&self.tables.statements.job, &parameters).await?;
            Ok(read(&rows, |row| job_record(row, job))?.pop())
        }
        .boxed()
    }

    fn last_ends<'a>(&'a self, jobs: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        async move {
            let names: Vec<_> = jobs.iter().map(JobName::as_str).collect();
            let parameters: [Parameter<'_>; 2] =
                [(&self.tables.scope, Type::TEXT), (&names, Type::TEXT_ARRAY)];
            let rows = self.tables.ask(&self.tables.statements.last_ends, &parameters).await?;
            read(&rows, last_ends)
        }
        .boxed()
    }

    fn decisions<'a>(&'a self, asked: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        async move {
            let text = match asked.job {
                Some(_) => &self.tables.statements.decisions_of_job,
                None => &self.tables.statements.decisions,
            };
            let (span, limit) = ((asked.from, asked.to), asked.page_limit());
            let asked_for = TimedPage::of(&self.tables.scope, asked.job.as_ref(), span, asked.before, limit);
            let rows = self.tables.ask(text, &asked_for.parameters()).await?;
            let mut answer = DecisionPage::default();
            (answer.decisions, answer.unread, answer.next) =
                page(&rows, limit, decision).map_err(|error| failed(&error))?;
            Ok(answer)
        }
        .boxed()
    }

    fn operations<'a>(&'a self, asked: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        async move {
            let text = match asked.job {
                Some(_) => &self.tables.statements.operations_of_job,
                None => &self.tables.statements.operations,
            };
            let (span, limit) = ((asked.from, asked.to), asked.page_limit());
            let asked_for = TimedPage::of(&self.tables.scope, asked.job.as_ref(), span, asked.before, limit);
            let rows = self.tables.ask(text, &asked_for.parameters()).await?;
            let mut answer = OperationPage::default();
            (answer.operations, answer.unread, answer.next) =
                page(&rows, limit, operation).map_err(|error| failed(&error))?;
            Ok(answer)
        }
        .boxed()
    }

    fn gaps<'a>(&'a self, asked: &'a AskGaps) -> BoxFuture<'a, Result<Gaps, HistoryError>> {
        async move {
            let AskGaps { of, job, from, to } = asked;
            let job = job.as_ref().map_or("", JobName::as_str);
            let parameters: [Parameter<'_>; 4] = [
                (&self.tables.scope, Type::TEXT),
                (&job, Type::TEXT),
                (from, Type::TIMESTAMPTZ),
                (to, Type::TIMESTAMPTZ),
            ];
            let rows = self.tables.ask(&self.tables.statements.gaps, &parameters).await?;
            let mut gaps = read(&rows, rows::gaps)?.pop().unwrap_or_else(Gaps::none);
            // Of nothing else there is too much.
            gaps.complete_from = gaps.complete_from.filter(|_| *of == RecordsOf::Runs);
            Ok(gaps)
        }
        .boxed()
    }

    fn prune<'a>(
        &'a self,
        now: DateTime<Utc>,
        retention: &'a Retention,
    ) -> BoxFuture<'a, Result<bool, HistoryError>> {
        prune(&self.tables, &self.turns, now, retention).boxed()
    }
}

impl fmt::Debug for PostgresHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresHistory").field(&self.tables.scope).finish()
    }
}
