//! The catalogue on PostgreSQL: jobs as data, for all nodes of a scope, over the connections of the history. The
//! session hears that something changed.

mod statement;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use callsheet_actors::{
    By, CALL_DEADLINE, DurationText, JobName,
    port::{
        CATALOGUE_ASKED_EVERY, Catalogue, CatalogueChange, CatalogueChanges, CatalogueError, CataloguePage,
        CatalogueQuery, CatalogueRow, Changed, DELETED_KEPT_MAX, DuePage, DueQuery, Expected, Facets,
        HistoryError, STORED_JOBS_MAX,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join4},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Error, Row, types::Type};

use self::statement::{BEGIN, Statements};
use super::{
    Shared,
    failure::{explain, is_bad_data},
    history::{Asked, HistoryPool, Parameter},
    notification_reader::NotificationReader,
    text::Text,
};

/// So often the store is asked though the session has heard of no change: a trigger may have been switched off.
const ASKED_UNHEARD_EVERY: Duration = Duration::from_secs(30);
/// Before all one-shots: the year 1.
const EARLIEST: DateTime<Utc> = match DateTime::from_timestamp(-62_135_596_800, 0) {
    Some(instant) => instant,
    None => DateTime::UNIX_EPOCH,
};
/// So many deleted jobs are forgotten at once, at most and at least.
const FORGOTTEN_AT_ONCE: u64 = 1_000;

/// The catalogue of one scope.
pub(super) struct PostgresCatalogue {
    scope: String,
    pool: Result<HistoryPool, String>,
    statements: Statements,
    /// Not the owner: a session ends with its elector and its locker.
    shared: Weak<Shared>,
    /// The session that heard of changes when they were read last.
    heard_by: Mutex<Option<i64>>,
}

impl PostgresCatalogue {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        let settings = &shared.settings;
        Self {
            scope: settings.scope.clone(),
            pool: shared.history_pool(),
            statements: Statements::of(&settings.schema),
            shared: Arc::downgrade(shared),
            heard_by: Mutex::default(),
        }
    }

    async fn connection(&self) -> Result<Asked, CatalogueError> {
        match &self.pool {
            Ok(pool) => match pool.get().await {
                Ok(client) => Ok(Asked(Some(client))),
                Err(HistoryError::Unavailable { reason, .. } | HistoryError::BadData { reason, .. }) => {
                    Err(unavailable(reason))
                }
                Err(error) => Err(unavailable(error.to_string())),
            },
            Err(reason) => Err(unavailable(reason)),
        }
    }

    async fn ask(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, CatalogueError> {
        in_time(async {
            let asked = self.connection().await?;
            let rows = asked.query(text, parameters).await.map_err(|error| failed(&error))?;
            asked.done();
            Ok(rows)
        })
        .await
    }

    /// Asks a statement in a transaction that has the version locked. In one round trip.
    async fn ask_locked(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, CatalogueError> {
        in_time(async {
            let asked = self.connection().await?;
            let scope: [Parameter<'_>; 1] = [(&self.scope, Type::TEXT)];
            let (begun, locked, rows, committed) = join4(
                asked.simple(BEGIN),
                asked.query(&self.statements.lock, &scope),
                asked.query(text, parameters),
                asked.simple("COMMIT"),
            )
            .await;
            let rows = begun.and(locked).and(rows).map_err(|error| failed(&error))?;
            // That it was committed, if it was, is not known.
            committed.map_err(|error| unavailable(explain(&error)))?;
            asked.done();
            Ok(rows)
        })
        .await
    }

    async fn make(&self, asked: &CatalogueChange) -> Result<Changed, CatalogueError> {
        let job = asked.job.as_str();
        let definition = asked.definition.as_deref().map(Text::of);
        let Facets { task, tags, enabled, .. } =
            asked.definition.as_deref().map(Facets::of).unwrap_or_default();
        let (task, tags) = (Text::of(&task), tags.iter().map(|tag| Text::of(tag)).collect::<Vec<_>>());
        let (absent, version) = match asked.expected {
            Expected::Any => (false, None),
            Expected::Absent => (true, None),
            // A version that is too large for the server is none that it gave.
            Expected::Version(version) => (false, Some(i64::try_from(version).unwrap_or(-1))),
        };
        let by = asked.by.as_ref().map(By::as_str);
        let due_at = asked.due_at.filter(|_| asked.definition.is_some());
        let jobs_max = i64::try_from(STORED_JOBS_MAX).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 12] = [
            (&self.scope, Type::TEXT),
            (&job, Type::TEXT),
            (&asked.change, Type::UUID),
            (&definition, Type::TEXT),
            (&absent, Type::BOOL),
            (&version, Type::INT8),
            (&by, Type::TEXT),
            (&task, Type::TEXT),
            (&tags, Type::TEXT_ARRAY),
            (&enabled, Type::BOOL),
            (&jobs_max, Type::INT8),
            (&due_at, Type::TIMESTAMPTZ),
        ];
        let rows = self.ask_locked(&self.statements.change, &parameters).await?;
        let Some(row) = rows.first() else {
            return Err(unavailable("the job was changed by hand at the same time"));
        };
        let (changed, deleted) = read(row, changed)?;
        if asked.definition.is_none() {
            self.forget(deleted).await;
        }
        Ok(changed)
    }

    /// Forgets deleted jobs, if there are more than are remembered.
    async fn forget(&self, deleted: u64) {
        let kept = u64::try_from(DELETED_KEPT_MAX).unwrap_or(u64::MAX);
        if deleted < kept.saturating_add(FORGOTTEN_AT_ONCE) {
            return;
        }
        let more = i64::try_from((deleted - kept).min(FORGOTTEN_AT_ONCE)).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 2] = [(&self.scope, Type::TEXT), (&more, Type::INT8)];
        if let Err(error) = self.ask_locked(&self.statements.forget, &parameters).await {
            // The next deletion tries again.
            tracing::warn!(target: "callsheet", "deleted jobs were not forgotten: {error}");
        }
    }

    async fn page(&self, query: &CatalogueQuery) -> Result<CataloguePage, CatalogueError> {
        let pattern = query.prefix.as_deref().map(pattern);
        let (pattern, after) = (pattern.as_deref().map(Text::of), query.after.as_deref().map(Text::of));
        let (tag, task) = (query.tag.as_deref().map(Text::of), query.task.as_deref().map(Text::of));
        let rows_max = query.rows_max();
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX - 1) + 1;
        let parameters: [Parameter<'_>; 7] = [
            (&self.scope, Type::TEXT),
            (&after, Type::TEXT),
            (&pattern, Type::TEXT),
            (&tag, Type::TEXT),
            (&task, Type::TEXT),
            (&query.enabled, Type::BOOL),
            (&limit, Type::INT8),
        ];
        let statement = match query.one_shots {
            None => &self.statements.list,
            Some(false) => &self.statements.list_others,
            Some(true) => &self.statements.list_one_shots,
        };
        let rows = self.ask(statement, &parameters).await?;
        let Some(first) = rows.first() else { return Err(unavailable("the server answered no row")) };
        let (version, found) = read(first, |row| Ok((number(row, "newest")?, found(row)?)))?;
        let mut read = jobs(&rows)?;
        read.sort_unstable_by(|one, other| one.job.cmp(&other.job));
        let read_max = read.len().min(rows_max);
        let mut page = CataloguePage::of(read, rows_max, version);
        if found > read_max {
            page.next = page.rows.last().map(|row| row.job.clone());
        }
        Ok(page)
    }

    async fn page_of_due(&self, query: &DueQuery) -> Result<DuePage, CatalogueError> {
        let (after, name) = query.after.clone().unwrap_or((EARLIEST, "".into()));
        let name = Text::of(&name);
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 5] = [
            (&self.scope, Type::TEXT),
            (&query.before, Type::TIMESTAMPTZ),
            (&after, Type::TIMESTAMPTZ),
            (&name, Type::TEXT),
            (&limit, Type::INT8),
        ];
        let rows = self.ask(&self.statements.due, &parameters).await?;
        let found = rows.first().map_or(Ok(0), |first| read(first, found))?;
        let mut read = jobs(&rows)?;
        read.sort_unstable_by(|one, other| (one.due_at, &one.job).cmp(&(other.due_at, &other.job)));
        let has_more = found > read.len() || found >= query.limit;
        Ok(DuePage::of(read, has_more))
    }

    async fn changes_after(&self, after: u64, limit: usize) -> Result<CatalogueChanges, CatalogueError> {
        let heard_by = self.reader().map(|reader| reader.beacon());
        let [asked_after, limit] = [after, u64::try_from(limit).unwrap_or(u64::MAX)]
            .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let parameters: [Parameter<'_>; 3] =
            [(&self.scope, Type::TEXT), (&asked_after, Type::INT8), (&limit, Type::INT8)];
        let rows = self.ask(&self.statements.changes, &parameters).await?;
        let Some(first) = rows.first() else { return Err(unavailable("the server answered no row")) };
        *self.heard_by() = heard_by;
        if after < read(first, |row| number(row, "forgotten"))? {
            return Ok(CatalogueChanges::Forgotten);
        }
        let mut read = jobs(&rows)?;
        read.sort_unstable_by_key(|row| row.version);
        Ok(CatalogueChanges::Rows(read))
    }

    /// Who hears the notifications, while there is a session.
    fn reader(&self) -> Option<Arc<NotificationReader>> {
        let session = self.shared.upgrade()?.session()?;
        session.lost_reason().is_none().then(|| session.notifications())
    }

    /// Who hears the notifications, once there is a session. Only the session looks for a server that is away: it is
    /// patient, and so one node crowds no server.
    async fn next_reader(&self) -> Arc<NotificationReader> {
        loop {
            match self.reader() {
                Some(reader) => return reader,
                None => sleep(CATALOGUE_ASKED_EVERY).await,
            }
        }
    }

    fn heard_by(&self) -> MutexGuard<'_, Option<i64>> {
        self.heard_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, CatalogueError>>) -> Result<T, CatalogueError> {
    let late = |_| Err(unavailable(format!("it did not answer within {}", DurationText(CALL_DEADLINE))));
    timeout(CALL_DEADLINE, asked).await.unwrap_or_else(late)
}

fn unavailable(reason: impl Into<String>) -> CatalogueError {
    CatalogueError::Unavailable { reason: reason.into() }
}

fn failed(error: &Error) -> CatalogueError {
    let reason = explain(error);
    if is_bad_data(error) { CatalogueError::BadData { reason } } else { unavailable(reason) }
}

/// Names that begin with a text, as a pattern.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + "%"
}

fn read<T>(row: &Row, read: impl Fn(&Row) -> Result<T, Error>) -> Result<T, CatalogueError> {
    read(row).map_err(|error| failed(&error))
}

/// What became of a change, and how many deleted jobs were remembered before.
fn changed(row: &Row) -> Result<(Changed, u64), Error> {
    let standing = job(row)?;
    let changed = match (row.try_get::<_, &str>("decision")?, standing) {
        ("made", Some(row)) => Changed::Done(row),
        ("full", _) => Changed::Full,
        (_, standing) => Changed::Elsewhere(standing.filter(|row| row.definition.is_some())),
    };
    Ok((changed, number(row, "deleted")?))
}

fn jobs(rows: &[Row]) -> Result<Vec<CatalogueRow>, CatalogueError> {
    rows.iter().filter_map(|row| read(row, job).transpose()).collect()
}

fn job(row: &Row) -> Result<Option<CatalogueRow>, Error> {
    let Some(name) = row.try_get::<_, Option<&str>>("job")? else { return Ok(None) };
    let mut read = CatalogueRow::new(name, number(row, "version")?, row.try_get("changed_at")?);
    read.definition = row.try_get::<_, Option<&str>>("definition")?.map(Into::into);
    let by: Option<&str> = row.try_get("changed_by")?;
    // Whoever edits it by hand may write anything there.
    read.changed_by = by.and_then(|by| By::new(by).ok());
    read.change = row.try_get("change")?;
    read.due_at = row.try_get("due_at")?;
    Ok(Some(read))
}

fn number(row: &Row, column: &str) -> Result<u64, Error> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

/// How many rows a page would have had.
fn found(row: &Row) -> Result<usize, Error> {
    let found: Option<i64> = row.try_get("found")?;
    Ok(found.and_then(|found| usize::try_from(found).ok()).unwrap_or_default())
}

impl Catalogue for PostgresCatalogue {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn change<'a>(&'a self, change: &'a CatalogueChange) -> BoxFuture<'a, Result<Changed, CatalogueError>> {
        self.make(change).boxed()
    }

    fn get<'a>(&'a self, name: &'a JobName) -> BoxFuture<'a, Result<Option<CatalogueRow>, CatalogueError>> {
        async move {
            let name = name.as_str();
            let parameters: [Parameter<'_>; 2] = [(&self.scope, Type::TEXT), (&name, Type::TEXT)];
            let rows = self.ask(&self.statements.get, &parameters).await?;
            Ok(jobs(&rows)?.pop())
        }
        .boxed()
    }

    fn list<'a>(&'a self, query: &'a CatalogueQuery) -> BoxFuture<'a, Result<CataloguePage, CatalogueError>> {
        self.page(query).boxed()
    }

    fn due<'a>(&'a self, query: &'a DueQuery) -> BoxFuture<'a, Result<DuePage, CatalogueError>> {
        self.page_of_due(query).boxed()
    }

    fn changes(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<CatalogueChanges, CatalogueError>> {
        self.changes_after(after, limit).boxed()
    }

    fn changed(&self, _: u64) -> BoxFuture<'_, ()> {
        async move {
            let (heard_by, until) = (*self.heard_by(), Instant::now() + ASKED_UNHEARD_EVERY);
            while Instant::now() < until {
                let reader = self.next_reader().await;
                // Another session does not know what was to be heard before it. The store is not asked about that.
                if heard_by != Some(reader.beacon()) {
                    return;
                }
                if timeout(CATALOGUE_ASKED_EVERY, reader.catalogue_changed()).await.is_ok() {
                    return;
                }
            }
        }
        .boxed()
    }

    fn available(&self) -> BoxFuture<'_, ()> {
        async move {
            sleep(CATALOGUE_ASKED_EVERY).await;
            // It has a session that asks by itself whether the server is there.
            drop(self.next_reader().await);
        }
        .boxed()
    }
}

impl fmt::Debug for PostgresCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresCatalogue").field(&self.scope).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_as_it_stands() {
        assert_eq!(pattern(r"50%_off\é"), r"50\%\_off\\é%");
    }
}
