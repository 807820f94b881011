//! Where backfills are kept, on PostgreSQL: the port, one call a method.

use std::sync::Arc;

use callsheet_actors::{
    By, FireTime, JobName, Term,
    port::{
        BackfillId, BackfillMoved, BackfillProgress, BackfillPut, BackfillStatus, Backfills, LockError,
        StoredBackfill,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Shared,
    session::OpenSession,
    statement::{
        answer::read,
        backfill::{self, ADVANCE, Advance, Asked, Backfill, CANCEL, Cancelled, LIST, Listed, PUT, ROWS},
        ticks::{self, CURSOR, Cursor, OPEN},
    },
};

/// How often a new backfill is offered while others are, one of which is kept each time.
const TURNS_MAX: usize = 100;

pub(super) struct PostgresBackfills {
    pub(super) shared: Arc<Shared>,
}

impl PostgresBackfills {
    fn session(&self) -> Result<Arc<OpenSession>, LockError> {
        let none = || LockError::SessionLost { reason: "there is no session with the server".to_owned() };
        self.shared.session().ok_or_else(none)
    }

    async fn stored(session: &Arc<OpenSession>, asked: &Asked<'_>) -> Result<Vec<StoredBackfill>, LockError> {
        let rows = session.ask(ROWS, &asked.list()).await?;
        Ok(read(&rows, backfill::stored)?.into_iter().flatten().collect())
    }
}

impl Backfills for PostgresBackfills {
    fn put<'a>(&'a self, asked: &'a StoredBackfill) -> BoxFuture<'a, Result<BackfillPut, LockError>> {
        async move {
            let session = self.session()?;
            for _ in 0..TURNS_MAX {
                let rows = session.ask(PUT, &Backfill::of(session.asker(), asked).list()).await?;
                if let Some(put) = read(&rows, backfill::put)?.into_iter().flatten().next() {
                    return Ok(put);
                }
            }
            let reason = "backfills of the scope are asked for all the time, by others".to_owned();
            Err(LockError::NotDone { reason })
        }
        .boxed()
    }

    fn rows<'a>(
        &'a self,
        job: Option<&'a JobName>,
        only_running: bool,
    ) -> BoxFuture<'a, Result<Vec<StoredBackfill>, LockError>> {
        async move {
            let session = self.session()?;
            Self::stored(&session, &Asked::of(session.asker(), job, only_running)).await
        }
        .boxed()
    }

    fn list<'a>(&'a self, job: Option<&'a JobName>) -> BoxFuture<'a, Result<Vec<BackfillStatus>, LockError>> {
        async move {
            let session = self.session()?;
            let rows = session.ask(LIST, &Listed::of(session.asker(), job).list()).await?;
            Ok(read(&rows, backfill::status)?.into_iter().flatten().collect())
        }
        .boxed()
    }

    fn decided_to<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<DateTime<Utc>>, LockError>> {
        async move {
            let session = self.session()?;
            let rows = session.ask(CURSOR, &Cursor::of(session.asker(), job).list()).await?;
            Ok(read(&rows, ticks::cursor)?.into_iter().flatten().next())
        }
        .boxed()
    }

    fn open_fire_times<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Vec<FireTime>, LockError>> {
        async move {
            let session = self.session()?;
            let rows = session.ask(OPEN, &Cursor::of(session.asker(), job).list()).await?;
            read(&rows, ticks::open_fire_time)
        }
        .boxed()
    }

    fn advance<'a>(
        &'a self,
        term: Term,
        backfill: BackfillId,
        progress: &'a BackfillProgress,
    ) -> BoxFuture<'a, Result<BackfillMoved, LockError>> {
        async move {
            let session = self.session()?;
            let asked = Advance::of(session.asker(), term, backfill, progress);
            let rows = session.ask(ADVANCE, &asked.list()).await?;
            match read(&rows, backfill::moved)?.first() {
                Some((_, true)) => return Ok(BackfillMoved::Done),
                Some((false, false)) => return Ok(BackfillMoved::Deposed),
                Some((true, false)) | None => {}
            }
            let now = Self::stored(&session, &Asked::one(session.asker(), backfill)).await?;
            Ok(BackfillMoved::Elsewhere(now.into_iter().next().map(Box::new)))
        }
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        backfill: BackfillId,
        by: Option<&'a By>,
    ) -> BoxFuture<'a, Result<Option<BackfillStatus>, LockError>> {
        async move {
            let session = self.session()?;
            let asked = Cancelled::of(session.asker(), backfill, by);
            let rows = session.ask(CANCEL, &asked.list()).await?;
            Ok(read(&rows, backfill::status)?.into_iter().flatten().next())
        }
        .boxed()
    }
}
