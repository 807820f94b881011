//! The search for runs of dead sessions, page by page.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    CALL_DEADLINE, DEBTS_MAX, LOSSES_MAX,
    port::{ClosedRuns, LockError, LostRun},
};
use tokio::time::Instant;
use tokio_postgres::{error::SqlState, types::ToSql};

use super::{
    failure,
    locker::{lost_run, read},
    session::{OpenSession, Refusal},
};

/// The bounds of how many names are looked at by one statement. The number is halved for a server that is too slow, and doubled again.
const PAGE_MAX: i64 = 2_048;
const PAGE_MIN: i64 = 32;
/// How long one call searches, whatever the lease: what is left is searched by the next call.
const SEARCH_MAX: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(2_500));
/// [`LOSSES_MAX`] and [`DEBTS_MAX`], as the statements take them.
pub(super) const LOSSES_BOUND: i32 = LOSSES_MAX.cast_signed();
pub(super) const DEBTS_BOUND: i64 = DEBTS_MAX as i64;

/// How far a session has searched.
#[derive(Debug)]
pub(super) struct Search {
    /// Where the next call goes on; `None`: it begins.
    place: Option<Place>,
    page: i64,
}

impl Default for Search {
    fn default() -> Self {
        Self { place: None, page: PAGE_MAX }
    }
}

/// A place among the names of a dead session.
#[derive(Debug)]
struct Place {
    beacon: i64,
    /// The names up to this one were looked at.
    after: String,
    /// A run before that place is still open: somebody else has locked it.
    left_over: bool,
}

/// What one statement found.
struct Page {
    lost: Vec<LostRun>,
    last: Option<String>,
    /// The dead session had no more names.
    complete: bool,
    left_over: bool,
}

impl OpenSession {
    pub(super) async fn close_lost(self: &Arc<Self>, limit: usize) -> Result<ClosedRuns, LockError> {
        let until = Instant::now() + SEARCH_MAX.min(self.settings.trust() / 2);
        let mut search = self.search.lock().await;
        let mut closed = ClosedRuns::default();
        let mut place = match search.place.take() {
            None => self.next_dead(i64::MIN).await?,
            place => place,
        };
        while let Some(mut at) = place {
            if closed.lost.len() >= limit || Instant::now() >= until {
                search.place = Some(at);
                closed.more = true;
                break;
            }
            let page = match self.close_page(&at, search.page, limit - closed.lost.len()).await {
                Ok(page) => page,
                Err(Refusal::Statement(error)) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                    search.page = (search.page / 2).max(PAGE_MIN);
                    search.place = Some(at);
                    closed.more = true;
                    // What was closed has to be told.
                    let refused = Refusal::Statement(error).into_lock_error();
                    return if closed.lost.is_empty() { Err(refused) } else { Ok(closed) };
                }
                Err(Refusal::Statement(error)) if failure::is_bad_data(&error) && search.page > 1 => {
                    search.page /= 2;
                    place = Some(at);
                    continue;
                }
                // It stands alone. It stays open until the search that comes after the store was mended, or a claim of its key.
                Err(Refusal::Statement(error)) if failure::is_bad_data(&error) => {
                    let (reason, after) = (failure::explain(&error), &at.after);
                    tracing::warn!(
                        target: "callsheet", after,
                        "the server refuses to close the lost run of the next name, for its data: {reason}"
                    );
                    let passed = self.close_page(&at, 1, 0).await.map_err(Refusal::into_lock_error)?;
                    Page { left_over: true, ..passed }
                }
                Err(refusal) => return Err(refusal.into_lock_error()),
            };
            search.page = (search.page * 2).min(PAGE_MAX);
            // One statement changes a row once: another one closes what is left.
            let again = page.left_over && !page.lost.is_empty();
            closed.lost.extend(page.lost);
            if again {
                place = Some(at);
                continue;
            }
            at.left_over |= page.left_over;
            at.after = page.last.unwrap_or(at.after);
            place = if page.complete {
                if !at.left_over {
                    self.forget_session(at.beacon).await?;
                }
                self.next_dead(at.beacon).await?
            } else {
                Some(at)
            };
        }
        Ok(closed)
    }

    async fn close_page(self: &Arc<Self>, at: &Place, looked_at: i64, limit: usize) -> Result<Page, Refusal> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &self.settings.scope,
            &at.beacon,
            &looked_at,
            &self.channel,
            &LOSSES_BOUND,
            &DEBTS_BOUND,
            &limit,
            &at.after,
        ];
        let rows = self.ask_in_time(&self.statements.close_lost, &parameters).await?;
        let mut page = Page { lost: Vec::new(), last: None, complete: false, left_over: false };
        let summary = |row: &tokio_postgres::Row| {
            let complete: Option<bool> = row.try_get("complete")?;
            let left_over: Option<bool> = row.try_get("left_over")?;
            Ok(complete.zip(left_over).map(|said| (row.try_get("last"), said)))
        };
        for found in read(&rows, summary).map_err(Refusal::Lock)?.into_iter().flatten() {
            let (last, (complete, left_over)) = found;
            page.last = last.map_err(Refusal::Statement)?;
            (page.complete, page.left_over) = (complete, left_over);
        }
        page.lost = read(&rows, lost_run).map_err(Refusal::Lock)?.into_iter().flatten().collect();
        Ok(page)
    }

    /// The first place of the next dead session after one.
    async fn next_dead(self: &Arc<Self>, after: i64) -> Result<Option<Place>, LockError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.settings.scope, &self.beacon, &after];
        let rows = self.ask_in_time(&self.statements.next_dead, &parameters).await;
        let rows = rows.map_err(Refusal::into_lock_error)?;
        let place = |beacon| Place { beacon, after: String::new(), left_over: false };
        Ok(read(&rows, |row| row.try_get("beacon"))?.into_iter().next().map(place))
    }

    /// No run of a dead session is open any more.
    async fn forget_session(self: &Arc<Self>, beacon: i64) -> Result<(), LockError> {
        let forgotten =
            self.ask_in_time(&self.statements.forget_session, &[&self.settings.scope, &beacon]).await;
        forgotten.map(drop).map_err(Refusal::into_lock_error)
    }
}
