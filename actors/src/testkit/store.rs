//! One store for all nodes of a rig, in memory, with faults.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta};
use tokio::{sync::Notify, time::Instant};

pub use self::{
    backend::StoreBackend,
    faults::{BadData, CallFault},
};
use self::{control::Hints, state::State};
use crate::{
    core::{
        ledger::{Ledger, Record},
        operation::Operation,
    },
    history::MemoryHistory,
    memory_catalogue::MemoryCatalogue,
    name::NodeId,
    port::{ControlTable, Divergence, KnownHistory, Lease, MemoryBounds, Proof},
    testkit::{VirtualClock, clock::check_move},
};

mod backend;
mod backfills;
mod catalogue;
mod control;
mod elector;
mod faults;
mod locker;
mod state;

/// The scope of all nodes.
pub(super) const SCOPE: &str = "shared";
/// The lease of terms and sessions unless set otherwise: long, so that a virtual month has few renewals and
/// heartbeats.
const LEASE_DEFAULT: Duration = Duration::from_hours(1);
/// The shortest and the longest lease.
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_hours(24);
/// The margin of a lease is this part of it.
const MARGIN_PART: u32 = 5;
/// How long one call to the store takes.
const LATENCY: Duration = Duration::from_millis(1);

/// One store for all nodes of a rig: terms, cursors, keys and tokens by the rules of the [`Ledger`], sessions
/// with a lease that die when they are killed or not heard of, and faults on request.
#[derive(Clone)]
pub struct SharedStore {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
    lease: Lease,
    /// Somebody gave up, or lost, leadership or a session.
    changed: Arc<Notify>,
    /// There may be something new to ask for.
    changes: Arc<Notify>,
    /// There may be a notification for some node.
    told: Arc<Notify>,
    history: Arc<MemoryHistory>,
    catalogue: MemoryCatalogue,
    hints: Hints,
}

impl SharedStore {
    /// An empty store whose time is the time of `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        let state = State {
            ledger: Ledger::audited(),
            sessions: HashMap::new(),
            leader: None,
            led_by_zone_data: None,
            partitioned: HashSet::new(),
            faults: HashMap::new(),
            locked: HashSet::new(),
            bad: HashSet::new(),
            silent: false,
            delayed: None,
            refused: HashMap::new(),
            panics_when_given_up: HashSet::new(),
            said: Proof::default(),
            handover: None,
            decided: (0, DateTime::UNIX_EPOCH),
            forgets: None,
            hides_clock: false,
            calls: 0,
            changed_at: Instant::now(),
            latency: LATENCY,
            control: ControlTable::default(),
        };
        Self {
            catalogue: MemoryCatalogue::new(Arc::new(clock.clone())),
            state: Arc::new(Mutex::new(state)),
            clock,
            lease: lease(LEASE_DEFAULT),
            changed: Arc::default(),
            changes: Arc::default(),
            told: Arc::default(),
            hints: Hints::default(),
            history: Arc::new(MemoryHistory::new(MemoryBounds::default())),
        }
    }

    /// The same store with another lease (an hour by default) for terms and sessions from now on, 1 s to a
    /// day; a fifth of it is the margin. Nodes with another one do not start.
    #[must_use]
    pub fn with_lease(self, duration: Duration) -> Self {
        Self { lease: lease(duration), ..self }
    }

    /// Another store, with this one's time and lease.
    pub(super) fn anew(&self) -> Self {
        Self { lease: self.lease, ..Self::new(self.clock.another()) }
    }

    /// The store as `node`, whose clock is `clock`, sees it.
    pub fn backend(&self, node: NodeId, clock: VirtualClock) -> StoreBackend {
        StoreBackend { store: self.clone(), node, clock, zone_data: Arc::default(), trusted: Arc::default() }
    }

    /// How long each call takes from now on, at least; 1 ms by default.
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn set_latency(&self, latency: Duration) {
        check_move(latency);
        self.lock().latency = latency;
    }

    /// Ends the session of a node, as a server does whose client died or was thrown out.
    pub fn end_session(&self, node: NodeId) {
        let mut state = self.change();
        if let Some(own) = state.sessions.remove(&node) {
            state.ledger.end_session(own.session);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Cuts a node off, or connects it again. What it asks meanwhile gets no answer.
    pub fn set_partitioned(&self, node: NodeId, cut_off: bool) {
        let mut state = self.change();
        if cut_off {
            state.partitioned.insert(node);
        } else {
            state.partitioned.remove(&node);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Locks the job and the key of a name, as an application's own transaction can, or frees them.
    pub fn set_locked(&self, name: &str, locked: bool) {
        let mut state = self.change();
        if locked {
            state.locked.insert(name.to_owned());
        } else {
            state.locked.remove(name);
        }
    }

    /// Refuses, for its data, what concerns the job or key of a name, and every batch with it. With an empty
    /// list nothing of it is refused any more.
    pub fn set_bad(&self, name: &str, bad: &[BadData]) {
        let mut state = self.change();
        state.bad.retain(|(of, _)| of != name);
        state.bad.extend(bad.iter().map(|what| (name.to_owned(), *what)));
    }

    /// Loses all notifications from now on, or none any more.
    pub fn set_silent(&self, silent: bool) {
        self.change().silent = silent;
    }

    /// Delays all notifications from now on, or none any more: a node hears of them with the next answer that
    /// it gets, and of those that its question caused with a later one. A store whose notifications come on
    /// the connection of the answers may do so.
    pub fn set_delayed(&self, delayed: bool) {
        self.change().delayed = delayed.then(HashMap::new);
        self.told.notify_waiters();
    }

    /// Refuses operations of all nodes from now on, for a reason; nothing of them is done.
    /// [`Operation::Prove`] is one of them. [`Operation::Notification`], which cannot fail, panics over
    /// notifications and loses them.
    pub fn refuse(&self, operations: impl IntoIterator<Item = Operation>, reason: &str) {
        let refused = operations.into_iter().map(|operation| (operation, reason.to_owned()));
        self.change().refused.extend(refused);
        self.changed.notify_waiters();
    }

    /// Refuses nothing any more.
    pub fn refuse_nothing(&self) {
        self.change().refused.clear();
    }

    /// From now on it is another store, which does not know what `forgets` answers.
    pub fn set_forgets(&self, forgets: impl Fn(&KnownHistory) -> Divergence + Send + 'static) {
        self.lock().forgets = Some(Box::new(forgets));
    }

    /// Answers no campaign, renewal or resignation of these operations from now on, and panics when one is
    /// given up. With an empty list it answers again.
    pub fn panic_when_given_up(&self, operations: impl IntoIterator<Item = Operation>) {
        self.change().panics_when_given_up = operations.into_iter().collect();
        self.changed.notify_waiters();
    }

    /// The next calls of a node go wrong like this, one fault each. Not those by which nodes ask each other.
    pub fn script(&self, node: NodeId, faults: impl IntoIterator<Item = CallFault>) {
        self.change().faults.entry(node).or_default().extend(faults);
    }

    /// Makes the store's clock read this much more (or less) than the true time, from now on.
    pub fn set_skew(&self, skew: TimeDelta) {
        self.clock.set_skew(skew);
    }

    /// Hides the store's clock from now on, as a system does that only elects: nodes take their own for it.
    pub fn hide_clock(&self) {
        self.change().hides_clock = true;
    }

    /// Its catalogue: what is written there, nodes hear of as of what somebody edits by hand.
    pub fn catalogue(&self) -> &MemoryCatalogue {
        &self.catalogue
    }

    /// Every change so far.
    pub fn records(&self) -> Vec<Record> {
        self.lock().ledger.records().to_vec()
    }

    /// How many calls reached the store.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.lock().ledger.held()
    }

    /// The node that holds the newest term, unless it is over.
    pub fn leader(&self) -> Option<NodeId> {
        self.at(Instant::now()).leader.map(|leader| leader.node)
    }

    /// For what is changed from outside: every node is to look again.
    fn change(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.changed_at = Instant::now();
        self.changes.notify_waiters();
        state
    }

    /// Without the sessions and terms that are over at `now`.
    fn at(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let changed_at = state.changed_at;
        state.expire(now);
        if state.changed_at > changed_at {
            self.changes.notify_waiters();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lease(duration: Duration) -> Lease {
    Lease { duration, margin: duration / MARGIN_PART }
}
