//! Where backfills are kept, on PostgreSQL: the port, one call a method.

use std::sync::Arc;

use callsheet_actors::{
    By, JobName, Term,
    port::{BackfillId, BackfillMoved, BackfillProgress, BackfillPut, Backfills, LockError, StoredBackfill},
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Shared,
    session::OpenSession,
    statement::{
        answer::read,
        backfill::{self, ADVANCE, Advance, Asked, Backfill, CANCEL, CURSOR, Cancelled, Cursor, LIST, PUT},
    },
};

pub(super) struct PostgresBackfills {
    pub(super) shared: Arc<Shared>,
}

impl PostgresBackfills {
    fn session(&self) -> Result<Arc<OpenSession>, LockError> {
        let none = || LockError::SessionLost { reason: "there is no session with the server".to_owned() };
        self.shared.session().ok_or_else(none)
    }

    async fn listed(session: &Arc<OpenSession>, asked: &Asked<'_>) -> Result<Vec<StoredBackfill>, LockError> {
        let rows = session.ask(LIST, &asked.list()).await?;
        Ok(read(&rows, backfill::stored)?.into_iter().flatten().collect())
    }
}

impl Backfills for PostgresBackfills {
    fn put<'a>(&'a self, asked: &'a StoredBackfill) -> BoxFuture<'a, Result<BackfillPut, LockError>> {
        async move {
            let session = self.session()?;
            let rows = session.ask(PUT, &Backfill::of(session.asker(), asked).list()).await?;
            let kept = read(&rows, backfill::kept)?.first() == Some(&true);
            Ok(if kept { BackfillPut::Kept } else { BackfillPut::Full })
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        job: Option<&'a JobName>,
        only_running: bool,
    ) -> BoxFuture<'a, Result<Vec<StoredBackfill>, LockError>> {
        async move {
            let session = self.session()?;
            Self::listed(&session, &Asked::of(session.asker(), job, only_running)).await
        }
        .boxed()
    }

    fn decided_to<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<DateTime<Utc>>, LockError>> {
        async move {
            let session = self.session()?;
            let rows = session.ask(CURSOR, &Cursor::of(session.asker(), job).list()).await?;
            Ok(read(&rows, backfill::cursor)?.into_iter().flatten().next())
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
            let now = Self::listed(&session, &Asked::one(session.asker(), backfill)).await?;
            Ok(BackfillMoved::Elsewhere(now.into_iter().next().map(Box::new)))
        }
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        backfill: BackfillId,
        by: Option<&'a By>,
    ) -> BoxFuture<'a, Result<Option<StoredBackfill>, LockError>> {
        async move {
            let session = self.session()?;
            let asked = Cancelled::of(session.asker(), backfill, by);
            let rows = session.ask(CANCEL, &asked.list()).await?;
            Ok(read(&rows, backfill::stored)?.into_iter().flatten().next())
        }
        .boxed()
    }
}
