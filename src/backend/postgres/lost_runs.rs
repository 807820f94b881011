//! The search for runs of dead sessions, page by page.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    CALL_DEADLINE,
    port::{ClosedRuns, LockError, LostRun},
};
use tokio::time::Instant;
use tokio_postgres::{Error, error::SqlState};

use super::{
    failure,
    session::{LONG_STATEMENT_MAX, OpenSession, StatementError},
    statement::{
        answer::read,
        lost_runs::{Closed, Names as Asked, NextDead, Session, closed, next_dead},
    },
};

/// The bounds of how many names are looked at by one statement. The number is halved for a server that is too
/// slow, and doubled again.
const PAGE_MAX: i64 = 2_048;
const PAGE_MIN: i64 = 32;
/// How long one call begins statements, whatever the lease: what is left is searched by the next call. The
/// last statement ends well before the call is given up, which would cost the session.
const SEARCH_MAX: Duration =
    CALL_DEADLINE.saturating_sub(LONG_STATEMENT_MAX).saturating_sub(Duration::from_millis(500));
/// How many dead sessions one call passes over because the store refused something of theirs.
const REFUSALS_MAX: usize = 8;
/// How far a session has searched.
#[derive(Debug)]
pub(super) struct Search {
    /// Where the next statement goes on.
    place: Place,
    page: i64,
}

impl Default for Search {
    fn default() -> Self {
        Self { place: BEGINNING, page: PAGE_MAX }
    }
}

const BEGINNING: Place = Place::After(i64::MIN);

#[derive(Debug)]
enum Place {
    /// The next dead session after a beacon is to be found.
    After(i64),
    /// Among the names of a dead session.
    Among(Names),
    /// No run of the session of a beacon is open any more.
    Done(i64),
}

/// A place among the names of a dead session.
#[derive(Debug)]
struct Names {
    beacon: i64,
    /// The names up to this one were looked at.
    after: String,
    /// A run before that place is still open: somebody else has locked it, or the store refuses to close it.
    left_over: bool,
    /// The store refuses to close the run of the next name.
    refused: bool,
}

impl Names {
    fn of(beacon: i64) -> Self {
        Self { beacon, after: String::new(), left_over: false, refused: false }
    }
}

/// What came of one statement.
enum Step {
    Onward,
    /// All dead sessions were searched.
    Whole,
    /// The rest of one dead session is left to the next search.
    PassedOver(LockError),
}

/// What one statement found.
struct Page {
    lost: Vec<LostRun>,
    last: Option<String>,
    /// The dead session had no more names.
    complete: bool,
    left_over: bool,
}

impl Search {
    /// The server refuses to close a page.
    fn on_refused(&mut self, error: Error) -> Result<Step, LockError> {
        let Place::Among(at) = &mut self.place else { return Err(failure::not_done(&error)) };
        let bad_data = failure::is_bad_data(&error) && !at.refused;
        if bad_data && self.page > 1 {
            self.page /= 2;
            return Ok(Step::Onward);
        }
        if bad_data {
            // It stays open until the search that comes after the store was mended, or a claim of its key.
            let (reason, after) = (failure::explain(&error), &at.after);
            tracing::warn!(
                target: "callsheet", after,
                "the server refuses to close the lost run of the next name, for its data: {reason}"
            );
            at.refused = true;
            return Ok(Step::Onward);
        }
        if error.code() == Some(&SqlState::QUERY_CANCELED) && self.page > PAGE_MIN {
            self.page = (self.page / 2).max(PAGE_MIN);
            return Err(failure::not_done(&error));
        }
        let beacon = at.beacon;
        self.after_all(beacon, Err(StatementError::Undone(error)))
    }

    /// Goes on after a dead session, whatever became of it: the others do not wait for what the server
    /// refuses.
    fn after_all(&mut self, beacon: i64, done: Result<(), StatementError>) -> Result<Step, LockError> {
        self.place = Place::After(beacon);
        match done {
            Ok(()) => Ok(Step::Onward),
            Err(StatementError::Undone(error)) => Ok(Step::PassedOver(failure::not_done(&error))),
            Err(StatementError::Lock(error)) => Err(error),
        }
    }
}

impl OpenSession {
    pub(super) async fn close_lost(self: &Arc<Self>, limit: usize) -> Result<ClosedRuns, LockError> {
        let until = Instant::now() + SEARCH_MAX.min(self.settings.trust() / 2);
        let mut search = self.search.lock().await;
        let mut closed = ClosedRuns::default();
        let (mut failed, mut refusals) = (None, 0);
        loop {
            let full = matches!(search.place, Place::Among(_)) && closed.lost.len() >= limit;
            if full || refusals >= REFUSALS_MAX || Instant::now() >= until {
                closed.more = true;
                break;
            }
            match self.search_on(&mut search, limit, &mut closed.lost).await {
                Ok(Step::Onward) => {}
                Ok(Step::Whole) => break,
                Ok(Step::PassedOver(error)) => {
                    failed = Some(error);
                    refusals += 1;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        match failed {
            Some(error) if closed.lost.is_empty() => Err(error),
            // What was closed is committed and has to be told; the next call meets the fault again.
            Some(_) => Ok(ClosedRuns { more: true, ..closed }),
            None => Ok(closed),
        }
    }

    /// One statement of a search. After an error the next one is asked the same again, perhaps of fewer
    /// names.
    async fn search_on(
        self: &Arc<Self>,
        search: &mut Search,
        limit: usize,
        lost: &mut Vec<LostRun>,
    ) -> Result<Step, LockError> {
        let at = match &mut search.place {
            Place::After(beacon) => {
                let next = self.next_dead(*beacon).await?;
                search.place = next.map_or(BEGINNING, |beacon| Place::Among(Names::of(beacon)));
                return Ok(if next.is_some() { Step::Onward } else { Step::Whole });
            }
            &mut Place::Done(beacon) => {
                let forgotten = self.forget_session(beacon).await;
                return search.after_all(beacon, forgotten);
            }
            Place::Among(at) => at,
        };
        let asked = if at.refused {
            self.close_page(at, 1, 0).await
        } else {
            self.close_page(at, search.page, limit - lost.len()).await
        };
        let page = match asked {
            Ok(page) => page,
            Err(StatementError::Undone(error)) => return search.on_refused(error),
            Err(StatementError::Lock(error)) => return Err(error),
        };
        search.page = (search.page * 2).min(PAGE_MAX);
        // One statement changes a row once: another one closes what is left.
        let again = page.left_over && !page.lost.is_empty();
        lost.extend(page.lost);
        if again {
            return Ok(Step::Onward);
        }
        at.left_over |= page.left_over || at.refused;
        at.refused = false;
        at.after = page.last.unwrap_or_else(|| std::mem::take(&mut at.after));
        if page.complete {
            search.place = if at.left_over { Place::After(at.beacon) } else { Place::Done(at.beacon) };
        }
        Ok(Step::Onward)
    }

    async fn close_page(
        self: &Arc<Self>,
        at: &Names,
        looked_at: i64,
        limit: usize,
    ) -> Result<Page, StatementError> {
        let asked = Asked::of(self.asker(), at.beacon, &at.after, looked_at, limit);
        let rows = self.ask_in_time(&self.statements.close_lost, &asked.list()).await?;
        let mut page = Page { lost: Vec::new(), last: None, complete: false, left_over: false };
        for row in read(&rows, closed)? {
            match row {
                Closed::Run(lost) => page.lost.extend(lost),
                Closed::Summary { last, complete, left_over } => {
                    page = Page { lost: page.lost, last, complete, left_over };
                }
            }
        }
        Ok(page)
    }

    /// The next dead session after one.
    async fn next_dead(self: &Arc<Self>, after: i64) -> Result<Option<i64>, LockError> {
        let asked = NextDead::of(self.asker(), after);
        // It reads the rows of sessions that live, up to the first dead one: as many as there are nodes.
        let rows = self.ask(&self.statements.next_dead, &asked.list()).await?;
        Ok(read(&rows, next_dead)?.into_iter().next())
    }

    /// No run of a dead session is open any more.
    async fn forget_session(self: &Arc<Self>, beacon: i64) -> Result<(), StatementError> {
        self.ask_in_time(&self.statements.forget_session, &Session::of(self.asker(), beacon).list())
            .await
            .map(drop)
    }
}
