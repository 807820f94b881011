//! Backfills of a shared store.

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::backend::StoreBackend;
use crate::{
    core::{operation::Operation, time::FireTime},
    name::{By, JobName, Term},
    port::{
        BackfillId, BackfillMoved, BackfillProgress, BackfillPut, BackfillStatus, Backfills, LockError,
        StoredBackfill,
    },
};

impl Backfills for StoreBackend {
    fn put<'a>(&'a self, backfill: &'a StoredBackfill) -> BoxFuture<'a, Result<BackfillPut, LockError>> {
        self.with_session(Operation::Backfills, |state, _, _| state.ledger.put_backfill(backfill)).boxed()
    }

    fn rows<'a>(
        &'a self,
        job: Option<&'a JobName>,
        only_running: bool,
    ) -> BoxFuture<'a, Result<Vec<StoredBackfill>, LockError>> {
        self.with_session(Operation::Backfills, move |state, _, now| {
            state.ledger.backfills(job, only_running, now)
        })
        .boxed()
    }

    fn list<'a>(&'a self, job: Option<&'a JobName>) -> BoxFuture<'a, Result<Vec<BackfillStatus>, LockError>> {
        self.with_session(Operation::Backfills, move |state, _, _| state.ledger.backfill_statuses(job))
            .boxed()
    }

    fn decided_to<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<DateTime<Utc>>, LockError>> {
        self.with_session(Operation::Backfills, move |state, _, _| state.ledger.decided_to(job)).boxed()
    }

    fn open_fire_times<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Vec<FireTime>, LockError>> {
        self.with_session(Operation::Backfills, move |state, _, _| state.ledger.open_fire_times(job)).boxed()
    }

    fn advance<'a>(
        &'a self,
        term: Term,
        backfill: BackfillId,
        progress: &'a BackfillProgress,
    ) -> BoxFuture<'a, Result<BackfillMoved, LockError>> {
        self.with_session(Operation::Backfills, move |state, _, now| {
            state.ledger.advance_backfill(term, backfill, progress, now)
        })
        .boxed()
    }

    fn cancel<'a>(
        &'a self,
        backfill: BackfillId,
        _: Option<&'a By>,
    ) -> BoxFuture<'a, Result<Option<BackfillStatus>, LockError>> {
        self.with_session(Operation::Backfills, move |state, _, _| state.ledger.cancel_backfill(backfill))
            .boxed()
    }
}
