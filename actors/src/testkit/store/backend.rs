//! A shared store as one node sees it: its calls, with their latency and faults.

use std::{
    collections::VecDeque,
    future::pending,
    panic::resume_unwind,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep};

use super::{
    LEASE_MAX, LEASE_MIN, SCOPE, SharedStore,
    catalogue::StoreCatalogue,
    control::StoreControl,
    faults::{BadData, CallFault},
    state::{OwnSession, State},
};
use crate::{
    core::{duration::DurationText, operation::Operation},
    error,
    name::NodeId,
    port::{
        Backend, Backfills, Catalogue, Clock, Control, ElectError, Elector, History, Lease, LockError,
        Locker, MemoryBounds, Session,
    },
    testkit::VirtualClock,
};

/// The store as one node sees it.
#[derive(Clone)]
pub struct StoreBackend {
    pub(super) store: SharedStore,
    pub(super) node: NodeId,
    pub(super) clock: VirtualClock,
    pub(super) zone_data: Arc<OnceLock<Arc<str>>>,
    /// The session of the node, and until when it is trusted.
    pub(super) trusted: Arc<Mutex<Option<(Session, Instant)>>>,
}

/// What one call brought back, before faults.
pub(super) enum Reply<T> {
    Answer(T),
    Lost,
}

impl StoreBackend {
    /// The store answered what was sent at `sent_at` in `session`, or opened it then.
    pub(super) fn trust(&self, session: Session, sent_at: Instant) {
        let Lease { duration, margin, .. } = self.store.lease;
        let until = sent_at + duration - margin;
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some((session, until));
    }

    pub(super) fn distrust(&self, session: Session) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.take_if(|(trusted, _)| *trusted == session);
    }

    /// One call: waits for its latency and faults, then applies `work` to the state.
    pub(super) async fn call<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Instant, DateTime<Utc>) -> T,
    ) -> Reply<T> {
        let latency = self.store.lock().latency;
        sleep(latency).await;
        // Not what nodes ask each other meanwhile.
        let fault = if operation == Operation::Control {
            None
        } else {
            self.store.lock().faults.get_mut(&self.node).and_then(VecDeque::pop_front)
        };
        match fault {
            Some(CallFault::RequestLost) => return Reply::Lost,
            Some(CallFault::Stall(stall)) => sleep(stall).await,
            Some(CallFault::ReplyLost) | None => {}
        }
        self.connected().await;
        let now = Instant::now();
        let mut state = self.store.at(now);
        state.calls += 1;
        let before = state.notifications_of(self.node);
        let (records, changed_at) = (state.ledger.records().len(), state.changed_at);
        let answer = work(&mut state, now, self.store.clock.now());
        if fault.is_some() || state.ledger.records().len() > records {
            state.changed_at = now;
        }
        if state.changed_at > changed_at {
            self.store.changes.notify_waiters();
        }
        let heard =
            state.delayed.as_mut().is_some_and(|heard| heard.insert(self.node, before) != Some(before));
        if state.ledger.take_told() || heard {
            self.store.told.notify_waiters();
        }
        match fault {
            Some(CallFault::ReplyLost) => Reply::Lost,
            Some(CallFault::RequestLost | CallFault::Stall(_)) | None => Reply::Answer(answer),
        }
    }

    /// Waits while the node is cut off.
    pub(super) async fn connected(&self) {
        loop {
            let changed = self.store.changed.notified();
            if !self.store.lock().partitioned.contains(&self.node) {
                return;
            }
            changed.await;
        }
    }

    /// A call on the node's session.
    pub(super) async fn with_session<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Session, DateTime<Utc>) -> T,
    ) -> Result<T, LockError> {
        let node = self.node;
        // The session that is open now, not the one that may be open when the call arrives.
        let session = self.store.lock().sessions.get(&node).map(|own| own.session);
        let reply = self.call(operation, move |state, _, now| {
            let own = state.sessions.get(&node).filter(|own| Some(own.session) == session).cloned();
            // Refused or not: it tells whoever looks on that something goes on.
            if own.is_some() && changes(operation) {
                state.changed_at = Instant::now();
            }
            own.map(|own| match state.refused.get(&operation) {
                Some(reason) => Err(LockError::NotDone { reason: reason.clone() }),
                None => Ok(work(state, own.session, now)),
            })
        });
        match reply.await {
            Reply::Answer(Some(answer)) => answer,
            Reply::Answer(None) => Err(LockError::SessionLost { reason: "the server ended it".to_owned() }),
            Reply::Lost => Err(LockError::Timeout),
        }
    }

    pub(super) fn zone_data(&self) -> Arc<str> {
        self.zone_data.get().cloned().unwrap_or_default()
    }

    /// A call on the node's session, unless it holds something that is refused for its data: then nothing is
    /// done.
    pub(super) async fn with_good_data<I, T>(
        &self,
        operation: Operation,
        what: BadData,
        items: &[I],
        name: impl Fn(&I) -> &str,
        work: impl FnOnce(&mut State, Session, DateTime<Utc>) -> T,
    ) -> Result<T, LockError> {
        let answer = self.with_session(operation, |state, session, now| {
            state.check_data(what, items.iter().map(&name))?;
            Ok(work(state, session, now))
        });
        answer.await?
    }

    pub(super) async fn elect<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Option<OwnSession>, Instant) -> T,
    ) -> Result<T, ElectError> {
        self.panic_if_given_up(operation).await;
        self.ask_elector(operation, work).await
    }

    /// Does not answer, if an operation is to panic when it is given up.
    pub(super) async fn panic_if_given_up(&self, operation: Operation) {
        if self.store.lock().panics_when_given_up.contains(&operation) {
            let _panics = PanicsWhenDropped;
            pending().await
        }
    }

    /// A call for a term.
    pub(super) async fn ask_elector<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Option<OwnSession>, Instant) -> T,
    ) -> Result<T, ElectError> {
        let node = self.node;
        let reply = self.call(operation, move |state, now, _| {
            let own = state.sessions.get(&node).cloned();
            match state.refused.get(&operation) {
                Some(reason) => Err(ElectError::Unavailable { reason: reason.clone() }),
                None => Ok(work(state, own, now)),
            }
        });
        match reply.await {
            Reply::Answer(answer) => answer,
            Reply::Lost => Err(ElectError::Unavailable { reason: "no answer".to_owned() }),
        }
    }
}

/// Whether an operation may change what another one answers. Those that may not are what nodes ask now and
/// then.
fn changes(operation: Operation) -> bool {
    !matches!(
        operation,
        Operation::CloseLost
            | Operation::Conflicts
            | Operation::PendingRetries
            | Operation::Forget
            | Operation::KeepNames
            | Operation::Inquire
            | Operation::Backfills
            | Operation::Prove
            | Operation::Control
    )
}

/// What an adapter does that is wrong when it cleans up.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        resume_unwind(Box::new("the adapter panics over a call that is given up"));
    }
}

impl Backend for StoreBackend {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn scope(&self) -> Arc<str> {
        SCOPE.into()
    }

    fn set_zone_data(&self, version: Arc<str>) {
        // Told once.
        let _ = self.zone_data.set(version);
    }

    fn lease(&self) -> Duration {
        self.store.lease.duration
    }

    fn faults(&self) -> Vec<error::Fault> {
        let lease = self.store.lease.duration;
        if (LEASE_MIN..=LEASE_MAX).contains(&lease) {
            return Vec::new();
        }
        let rule = "a lease is at least 1 s and at most a day";
        vec![error::Fault::new(
            "lease",
            DurationText(lease).to_string(),
            rule,
            "choose another one; an hour is the default",
        )]
    }

    fn history(&self, _: MemoryBounds) -> Option<Arc<dyn History>> {
        Some(self.store.history.clone())
    }

    fn catalogue(&self) -> Option<Arc<dyn Catalogue>> {
        Some(Arc::new(StoreCatalogue(self.clone())))
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        Some(Arc::new(StoreControl(self.clone())))
    }

    fn backfills(&self) -> Option<Arc<dyn Backfills>> {
        Some(Arc::new(self.clone()))
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(self.clone())
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.node)
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(self.clone())
    }
}
