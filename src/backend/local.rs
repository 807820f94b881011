//! The embedded backend: one process, in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use callsheet_actors::{
    JobName, Term,
    core::ledger::Ledger,
    port::{
        Backend, Campaign, ClaimRequest, Clock, Completed, Completion, CursorMove, ElectError, Elector,
        Enrolled, Enrolment, Grant, LockError, Locker, LostRun, Moved, Renewal, Session, Verdict,
    },
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, pending, ready},
};

/// The embedded backend: always leader, locks in memory, no server. The default of the builder.
///
/// It obeys the same rules as a shared store, and passes the same conformance suites; its promises end with the process:
/// cursors and open runs are forgotten, so ticks that pass while the process is down are not made up for.
#[derive(Debug, Clone)]
pub struct Local {
    ledger: Arc<Mutex<Ledger>>,
    clock: Arc<dyn Clock>,
    session: Session,
}

impl Local {
    /// An empty store whose time is the time of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut ledger = Ledger::default();
        let session = ledger.open_session();
        Self { ledger: Arc::new(Mutex::new(ledger)), clock, session }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(self.clone())
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(self.clone())
    }

    fn single_node(&self) -> bool {
        true
    }
}

impl Elector for Local {
    fn campaign(&self) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        ready(Ok(Campaign::Won(Grant { term: self.ledger().grant_term(), lease: None }))).boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        ready(Ok(if self.ledger().is_led(term) { Renewal::Renewed } else { Renewal::Deposed })).boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        self.ledger().end_term(term);
        ready(Ok(())).boxed()
    }
}

impl Locker for Local {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        ready(Ok(self.session)).boxed()
    }

    fn lost(&self, _: Session) -> BoxFuture<'_, ()> {
        pending().boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        let now = self.clock.now();
        let mut ledger = self.ledger();
        let enrolled = jobs.iter().map(|job| ledger.enrol(now, job)).collect();
        ready(Ok(enrolled)).boxed()
    }

    fn withdraw<'a>(&'a self, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        let mut ledger = self.ledger();
        jobs.iter().for_each(|job| ledger.withdraw(job));
        ready(Ok(())).boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        let now = self.clock.now();
        let mut ledger = self.ledger();
        let verdicts = requests.iter().map(|request| ledger.claim(now, self.session, request)).collect();
        ready(Ok(verdicts)).boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        let mut ledger = self.ledger();
        let completed = ends.iter().map(|end| ledger.complete(self.session, end)).collect();
        ready(Ok(completed)).boxed()
    }

    fn advance<'a>(&'a self, moves: &'a [CursorMove]) -> BoxFuture<'a, Result<Vec<Moved>, LockError>> {
        let now = self.clock.now();
        let mut ledger = self.ledger();
        let moved = moves.iter().map(|asked| ledger.advance(self.session, asked, now)).collect();
        ready(Ok(moved)).boxed()
    }

    fn close_lost(&self, _: usize) -> BoxFuture<'_, Result<Vec<LostRun>, LockError>> {
        // A session that cannot be lost leaves nothing behind.
        ready(Ok(Vec::new())).boxed()
    }
}
