//! The embedded backend: one process, in memory.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{
    By, FireTime, JobName, RunId, Term,
    adapter::{Ledger, MemoryCatalogue, MemoryHistory},
    metrics::SCOPE_LABEL_LOCAL,
    port::{
        Advanced, AtOnce, Backend, BackfillId, BackfillMoved, BackfillProgress, BackfillPut, BackfillStatus,
        Backfills, Campaign, Capabilities, Capability, Catalogue, ClaimRequest, Clock, ClosedRuns, Completed,
        Completion, CursorAdvance, ElectError, Elector, Enrolled, Enrolment, Forgotten, Grant, History,
        Inquiry, LeaderView, LockError, Locker, MemoryBounds, Notification, Observation, Pause,
        PendingRetryOfJob, Renewal, Session, StoredBackfill, Verdict,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, pending, ready},
};
use tokio::sync::Notify;

/// The embedded backend: always leader, locks in memory, no server. The default of the builder.
///
/// It obeys the same rules as a shared store, and passes the same conformance suites; its promises end with
/// the process: cursors and open runs are forgotten, so ticks that pass while the process is down are not
/// made up for.
///
/// The label `scope` of its metrics is `_local`, in every process: each of them has a leader of its own.
#[derive(Debug, Clone)]
pub struct Local {
    state: Arc<Mutex<State>>,
    /// The session that is open, 0 if none is. Only whoever has locked the state changes it.
    open: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    /// There may be a notification.
    told: Arc<Notify>,
    catalogue: MemoryCatalogue,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    session: Option<Session>,
}

impl Local {
    /// Makes an empty store whose time is the time of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let catalogue = MemoryCatalogue::new(clock.clone());
        Self { state: Arc::default(), open: Arc::default(), clock, told: Arc::default(), catalogue }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something on the session that is open, if one is.
    fn on_session<T>(&self, work: impl FnOnce(&mut Ledger, Session) -> T) -> Option<T> {
        let State { ledger, session } = &mut *self.state();
        let answer = work(ledger, (*session)?);
        if ledger.take_told() {
            self.told.notify_waiters();
        }
        Some(answer)
    }

    /// A call on the open session.
    fn call<'a, T: Send + 'a>(
        &self,
        work: impl FnOnce(&mut Ledger, Session, DateTime<Utc>) -> T,
    ) -> BoxFuture<'a, Result<T, LockError>> {
        let lost = || LockError::SessionLost { reason: "it was closed".to_owned() };
        let answer = self.on_session(|ledger, session| work(ledger, session, self.clock.now()));
        ready(answer.ok_or_else(lost)).boxed()
    }

    /// Ends the session that is open, and opens this one if there is one.
    fn change_session(&self, change: impl FnOnce(&mut Ledger) -> Option<Session>) {
        let State { ledger, session } = &mut *self.state();
        if let Some(former) = session.take() {
            ledger.end_session(former);
        }
        *session = change(ledger);
        self.open.store(session.map_or(0, |Session(number)| number), Ordering::Release);
    }
}

impl Backend for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn scope(&self) -> Arc<str> {
        SCOPE_LABEL_LOCAL.into()
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(self.clone())
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(self.clone())
    }

    fn history(&self, in_memory: MemoryBounds) -> Option<Arc<dyn History>> {
        Some(Arc::new(MemoryHistory::new(in_memory)))
    }

    /// In memory: it ends with the process.
    fn catalogue(&self) -> Option<Arc<dyn Catalogue>> {
        Some(Arc::new(self.catalogue.clone()))
    }

    fn backfills(&self) -> Option<Arc<dyn Backfills>> {
        Some(Arc::new(self.clone()))
    }

    fn single_node(&self) -> bool {
        true
    }

    /// All but that anything outlives the process.
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL.without(Capability::DurableCursor)
    }
}

impl Elector for Local {
    fn campaign(&self, _: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        let term = self.state().ledger.grant_term();
        let (waited, former_zone_data, undecided_from) = (Duration::ZERO, None, None);
        ready(Ok(Campaign::Won(Grant { term, lease: None, waited, former_zone_data, undecided_from })))
            .boxed()
    }

    fn observe(&self, _: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        ready(Ok(Observation::default())).boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        let led = self.state().ledger.is_led(term);
        ready(Ok(if led { Renewal::Renewed } else { Renewal::Deposed })).boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        self.state().ledger.end_term(term);
        ready(Ok(())).boxed()
    }
}

impl Locker for Local {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        let mut opened = Session(0);
        self.change_session(|ledger| {
            opened = ledger.open_session();
            Some(opened)
        });
        ready(Ok(opened)).boxed()
    }

    fn lost(&self, _: Session) -> BoxFuture<'_, String> {
        // Nothing but `close` ends it.
        pending().boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        // Asked before each attempt of a run: whoever claims meanwhile is not in the way.
        self.open.load(Ordering::Acquire) == session.0
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.change_session(|_| None);
        ready(()).boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        self.call(|ledger, session, now| jobs.iter().map(|job| ledger.enrol(now, session, job)).collect())
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<LeaderView>, LockError>> {
        self.call(|ledger, _, _| jobs.iter().map(|job| ledger.standing(job)).collect())
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        self.call(|ledger, _, _| jobs.iter().for_each(|job| ledger.withdraw(term, job)))
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        self.call(|ledger, session, now| {
            requests.iter().map(|request| ledger.claim(now, session, request)).collect()
        })
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.call(|ledger, session, now| {
            ends.iter().map(|end| ledger.complete(|| now, session, end)).collect()
        })
    }

    fn advance<'a>(
        &'a self,
        advances: &'a [CursorAdvance],
    ) -> BoxFuture<'a, Result<Vec<Advanced>, LockError>> {
        self.call(|ledger, session, now| {
            advances.iter().map(|asked| ledger.advance(session, asked, now)).collect()
        })
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        Some(self)
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        self.call(|ledger, _, now| jobs.iter().map(|job| ledger.pause(now, job, pause)).collect())
    }

    fn next_notification(&self, session: Session) -> BoxFuture<'_, Notification> {
        async move {
            loop {
                // Before the look: what comes in between wakes it.
                let told = self.told.notified();
                let notification = self.state().ledger.take_notification(session);
                match notification {
                    Some(notification) => return notification,
                    None => told.await,
                }
            }
        }
        .boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.call(|ledger, _, now| ledger.close_lost(now, limit))
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        self.call(|ledger, _, now| ledger.forget(now, term, after))
    }

    fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PendingRetryOfJob>, LockError>> {
        self.call(|ledger, _, _| ledger.pending_retries(after, limit))
    }
}

impl AtOnce for Local {
    fn claim_now(&self, request: &ClaimRequest) -> Option<(Session, Verdict)> {
        self.on_session(|ledger, session| (session, ledger.claim(self.clock.now(), session, request)))
    }

    fn complete_now(&self, end: &Completion) -> Option<Completed> {
        self.on_session(|ledger, session| ledger.complete(|| self.clock.now(), session, end))
    }

    fn advance_now(&self, asked: &CursorAdvance) -> Option<Advanced> {
        self.on_session(|ledger, session| ledger.advance(session, asked, self.clock.now()))
    }
}

impl Backfills for Local {
    fn put<'a>(&'a self, backfill: &'a StoredBackfill) -> BoxFuture<'a, Result<BackfillPut, LockError>> {
        self.call(|ledger, _, _| ledger.put_backfill(backfill))
    }

    fn rows<'a>(
        &'a self,
        job: Option<&'a JobName>,
        only_running: bool,
    ) -> BoxFuture<'a, Result<Vec<StoredBackfill>, LockError>> {
        self.call(|ledger, _, now| ledger.backfills(job, only_running, now))
    }

    fn list<'a>(&'a self, job: Option<&'a JobName>) -> BoxFuture<'a, Result<Vec<BackfillStatus>, LockError>> {
        self.call(|ledger, _, _| ledger.backfill_statuses(job))
    }

    fn decided_to<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<DateTime<Utc>>, LockError>> {
        self.call(|ledger, _, _| ledger.decided_to(job))
    }

    fn open_fire_times<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Vec<FireTime>, LockError>> {
        self.call(|ledger, _, _| ledger.open_fire_times(job))
    }

    fn advance<'a>(
        &'a self,
        term: Term,
        backfill: BackfillId,
        progress: &'a BackfillProgress,
    ) -> BoxFuture<'a, Result<BackfillMoved, LockError>> {
        self.call(|ledger, _, now| ledger.advance_backfill(term, backfill, progress, now))
    }

    fn cancel<'a>(
        &'a self,
        backfill: BackfillId,
        _: Option<&'a By>,
    ) -> BoxFuture<'a, Result<Option<BackfillStatus>, LockError>> {
        self.call(|ledger, _, _| ledger.cancel_backfill(backfill))
    }
}
