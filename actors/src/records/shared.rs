//! What the elector and the locker of a node share.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::{sync::Notify, time::Instant};

use super::{
    cache::Cache,
    format::{LeaderRow, decode},
    manifests::OwnManifest,
    notices::Notices,
    servers::Settled,
    session::Own,
    sweep::Sweep,
};
use crate::{
    core::ledger::Ledger,
    name::{NodeId, Term},
    port::{
        Clock, Lease, LockError, RecordKind, RecordName, RecordSession, RecordSnapshot, Records,
        RecordsError, Session, StoredRecord, SystemClock, Version,
    },
};

/// The margin is this part of the lease.
const MARGIN_PART: u32 = 5;

pub(super) struct Shared {
    pub(super) records: Arc<dyn Records>,
    pub(super) scope: Arc<str>,
    pub(super) node: NodeId,
    pub(super) lease: Duration,
    pub(super) zone_data: OnceLock<Arc<str>>,
    pub(super) node_name: OnceLock<Arc<str>>,
    pub(super) clock: StoreClock,
    /// The session that is open.
    pub(super) own: Mutex<Option<Own>>,
    /// Those before it that are lost, and may be alive all the same, with those of their terms.
    pub(super) former: Mutex<Vec<RecordSession>>,
    /// Who leads, as this node knows.
    pub(super) leader: Mutex<Option<Leader>>,
    pub(super) leader_changed: Notify,
    /// The server of the store that knows what this node knows.
    pub(super) settled: Mutex<Option<Settled>>,
    pub(super) notices: Notices,
    /// What this node said of itself.
    pub(super) manifest: tokio::sync::Mutex<Option<OwnManifest>>,
    /// How far the searches of all names have come.
    pub(super) sweep: tokio::sync::Mutex<Sweep>,
    /// One round after the other.
    pub(super) core: Arc<tokio::sync::Mutex<Core>>,
}

/// What only the round that is under way uses.
pub(super) struct Core {
    pub(super) cache: Cache,
    /// Where the rules run.
    pub(super) ledger: Ledger,
}

/// Who leads, as a node knows. Each commit that rests on it is guarded by it.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    pub(super) version: Version,
    /// `None`: nobody ever led.
    pub(super) row: Option<LeaderRow>,
    /// The term is not known to be over.
    pub(super) alive: bool,
}

impl Leader {
    pub(super) fn term(&self) -> Term {
        Term(self.row.as_ref().map_or(0, |row| row.term))
    }

    /// The session that lives as long as the term, unless that is over.
    pub(super) fn lives(&self) -> Option<RecordSession> {
        self.row.as_ref().filter(|_| self.alive).map(|row| RecordSession(row.lives))
    }
}

impl Shared {
    pub(super) fn new(records: Arc<dyn Records>, scope: Arc<str>, lease: Duration) -> Self {
        Self {
            records,
            scope,
            node: NodeId::random(),
            lease,
            zone_data: OnceLock::new(),
            node_name: OnceLock::new(),
            clock: StoreClock::default(),
            own: Mutex::new(None),
            former: Mutex::default(),
            leader: Mutex::new(None),
            leader_changed: Notify::new(),
            settled: Mutex::default(),
            notices: Notices::default(),
            manifest: tokio::sync::Mutex::default(),
            sweep: tokio::sync::Mutex::default(),
            core: Arc::new(tokio::sync::Mutex::new(Core { cache: Cache::default(), ledger: Ledger::cut() })),
        }
    }

    pub(super) fn terms(&self) -> Lease {
        Lease { duration: self.lease, margin: self.lease / MARGIN_PART }
    }

    pub(super) fn zones(&self) -> Arc<str> {
        self.zone_data.get().cloned().unwrap_or_default()
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        lock(&self.leader).clone()
    }

    pub(super) fn set_leader(&self, leader: Option<Leader>) {
        *lock(&self.leader) = leader;
    }

    /// A session is gone: perhaps that of the newest term.
    pub(super) fn term_may_be_over(&self, gone: RecordSession) {
        let mut leader = lock(&self.leader);
        if let Some(leader) = leader.as_mut().filter(|leader| leader.lives() == Some(gone)) {
            leader.alive = false;
        }
        drop(leader);
        self.leader_changed.notify_waiters();
    }

    /// Reads, and takes the store's time.
    pub(super) async fn read(
        &self,
        names: &[RecordName],
        sessions: &[RecordSession],
    ) -> Result<RecordSnapshot, RecordsError> {
        let snapshot = self.records.read(names, sessions).await?;
        self.clock.heard(snapshot.time);
        Ok(snapshot)
    }

    /// Which of these sessions are alive.
    pub(super) async fn alive(&self, sessions: &[u64]) -> Result<HashSet<u64>, RecordsError> {
        let mut alive = HashSet::new();
        for part in sessions.chunks(self.records.limits().reads.max(1)) {
            let asked: Vec<_> = part.iter().map(|session| RecordSession(*session)).collect();
            let snapshot = self.read(&[], &asked).await?;
            alive.extend(
                part.iter().zip(snapshot.alive).filter(|(_, alive)| *alive).map(|(session, _)| *session),
            );
        }
        Ok(alive)
    }

    /// Asks the store who leads.
    pub(super) async fn ask_leader(&self) -> Result<Leader, RecordsError> {
        let name = RecordName::only(RecordKind::Leader);
        // The former leader's session is asked about at once: it is mostly the same one.
        let known = self.leader().and_then(|leader| leader.lives());
        let known: Vec<_> = known.into_iter().collect();
        let snapshot = self.read(std::slice::from_ref(&name), &known).await?;
        let stored = snapshot.records.into_iter().next().unwrap_or(StoredRecord::ABSENT);
        let row = leader_row(&stored)?;
        let lives = row.as_ref().map(|row| RecordSession(row.lives));
        let alive = match lives {
            None => false,
            Some(lives) if known.first() == Some(&lives) => snapshot.alive.first() == Some(&true),
            Some(lives) => self.read(&[], &[lives]).await?.alive.first() == Some(&true),
        };
        let leader = Leader { version: stored.version, row, alive };
        self.set_leader(Some(leader.clone()));
        Ok(leader)
    }

    /// The session that is open.
    pub(super) fn session(&self) -> Result<RecordSession, LockError> {
        let own = lock(&self.own).as_ref().map(|own| own.session);
        own.ok_or_else(|| LockError::SessionLost { reason: "no session is open".to_owned() })
    }

    /// The session of a term that was won in the session that is open.
    pub(super) fn own_term(&self, Term(term): Term) -> Option<RecordSession> {
        let own = lock(&self.own);
        own.as_ref()?.term.filter(|(own, _)| *own == term).map(|(_, lives)| lives)
    }

    /// A session that has to be ended unless it is of use: whatever happens now, it is not forgotten.
    pub(super) fn owe_end(&self, session: RecordSession) {
        lock(&self.former).push(session);
    }

    /// It is of use, unless somebody has ended it.
    pub(super) fn keep_session(&self, session: RecordSession) -> bool {
        lock(&self.former).extract_if(.., |former| *former == session).count() > 0
    }

    /// The session that is open is over.
    pub(super) fn lose(&self, session: RecordSession, reason: &str) {
        let lost = lock(&self.own).take_if(|own| own.session == session);
        if let Some(lost) = lost {
            self.put_away(lost, reason);
        }
    }

    /// Nothing is done in this session any more; what is on its way to the store may be, until it is ended.
    pub(super) fn put_away(&self, own: Own, reason: &str) {
        let lives = own.term.map(|(_, lives)| lives);
        lock(&self.former).extend([Some(own.session), lives].into_iter().flatten());
        own.lose(reason);
    }
}

/// The session of the locker's port.
pub(super) fn session_of(RecordSession(session): RecordSession) -> Session {
    Session(session)
}

pub(super) fn leader_row(stored: &StoredRecord) -> Result<Option<LeaderRow>, RecordsError> {
    stored.version.is_present().then(|| decode(&stored.bytes)).transpose()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the store, as the locker says it.
pub(super) fn lock_error(error: RecordsError) -> LockError {
    match error {
        RecordsError::Timeout => LockError::Timeout,
        // The session is not over by that: it ends with its lease, and the next one is refused with this reason.
        RecordsError::Unavailable { reason }
        | RecordsError::Refused { reason }
        | RecordsError::NotDone { reason } => LockError::NotDone { reason },
        RecordsError::OverLimit { .. } => LockError::NotDone { reason: error.to_string() },
    }
}

/// The store's time, as its last answer told it and the monotonic clock goes on; or that of the node, if the store
/// has none. It is never ahead of the store's by more than the two clocks drift apart within one answer.
#[derive(Default)]
pub(super) struct StoreClock {
    heard: Mutex<Option<(DateTime<Utc>, Instant)>>,
    node: OnceLock<Arc<dyn Clock>>,
}

impl StoreClock {
    pub(super) fn set_node(&self, clock: Arc<dyn Clock>) {
        // Told once.
        let _ = self.node.set(clock);
    }

    pub(super) fn heard(&self, time: Option<DateTime<Utc>>) {
        if let Some(time) = time {
            *lock(&self.heard) = Some((time, Instant::now()));
        }
    }

    /// In microseconds, as stores keep it.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let heard = *lock(&self.heard);
        let now = match heard {
            Some((time, at)) => time + TimeDelta::from_std(at.elapsed()).unwrap_or_default(),
            None => self.node_now(),
        };
        now.trunc_subsecs(6)
    }

    /// How much the node's clock is ahead.
    pub(super) fn ahead(&self) -> TimeDelta {
        self.node_now() - self.now()
    }

    fn node_now(&self) -> DateTime<Utc> {
        self.node.get_or_init(|| Arc::new(SystemClock::default())).now()
    }
}
