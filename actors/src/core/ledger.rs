//! The rules of claims, as a value in memory: cursors, keys, tokens and open runs.
//!
//! The embedded backend is this behind a mutex; the shared store of the test kit adds sessions that die,
//! terms that change hands, and faults. A store of records is loaded into it part by part: see `cut`. An adapter to
//! a database enforces the same rules in its statements.

mod backfills;
mod claims;
mod cut;
mod ends;
mod enrolments;
mod record;
mod renames;
mod row;
mod stored;

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, Utc};
// A claim and its end look a dozen times into a map. The hash of the standard library would be a tenth of
// their cost.
use foldhash::HashMap;

#[allow(unreachable_pub, reason = "the test kit shows it, which is a feature")]
pub use self::record::Record;
#[cfg(any(test, feature = "testkit"))]
pub(crate) use self::row::ROW_BYTES;
pub(crate) use self::stored::{FloorRow, NameRow, RetryRow};
use self::{
    backfills::BackfillRows,
    cut::Happened,
    enrolments::Declared,
    renames::Renames,
    row::{JobRow, is_same, lasts},
};
use crate::{
    core::time::FireTime,
    name::{FencingToken, JobName, LockKey, NodeId, RunId, Term},
    port::{Authority, Notification, Pause, Session},
};

/// The most notifications that wait for a session; beyond it the oldest are dropped, and the session is told
/// so.
#[allow(unreachable_pub, reason = "the test kit shows it, which is a feature")]
pub const NOTIFICATIONS_MAX: usize = 1_024;

/// The cursor of a job that was never enrolled.
const NEVER: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;

/// Why an authority decides nothing.
enum Barred {
    /// The term is not the newest one, or is over.
    Deposed(Term),
    /// The leader schedules the job.
    HasLeader,
}

#[derive(Debug)]
struct OpenRun {
    session: Session,
    job: JobName,
    key: LockKey,
    token: FencingToken,
    fire_time: Option<FireTime>,
    /// The fire time that it names, without a tick.
    named: Option<FireTime>,
    /// How often it was lost before.
    losses: u32,
    /// It was told to stop; only a cut keeps it.
    stops: bool,
}

/// Cursors, keys, tokens and open runs.
#[derive(Debug, Default)]
pub struct Ledger {
    newest: u64,
    /// The newest term has not ended.
    led: bool,
    /// In a cut: whoever asks does not hold it.
    led_by_other: bool,
    /// The sessions that live, and what they are to be told.
    live: HashMap<Session, VecDeque<Notification>>,
    /// Somebody is to be told something new.
    told: bool,
    sessions: u64,
    /// Whose sessions they are, dead ones too, as far as it was said.
    nodes: HashMap<Session, NodeId>,
    /// In boxes: a map has room for twice as many as there are, and that of a row is large.
    jobs: HashMap<JobName, Box<JobRow>>,
    withdrawn: VecDeque<JobName>,
    /// Held keys only: one counter of tokens for all keys grows for each of them.
    keys: HashMap<LockKey, RunId>,
    /// Several nodes share it: policies of keys are declared. One node alone contradicts nobody.
    shared: bool,
    declared: HashMap<LockKey, Declared>,
    renames: Renames,
    tokens: u64,
    /// For how long somebody has led, and up to when that was counted.
    age: Duration,
    aged_at: Option<DateTime<Utc>>,
    /// The newest cursor that was forgotten.
    cursor_bound: Option<DateTime<Utc>>,
    /// In a cut: cursors of jobs that the store does not know any more.
    seen: HashMap<JobName, DateTime<Utc>>,
    /// In a cut: no tick is granted yet, and is to be asked for again after this time.
    hold: Option<Duration>,
    open: HashMap<RunId, OpenRun>,
    /// The newest ends, by run and token.
    closed: VecDeque<(RunId, FencingToken)>,
    /// The runs that were lost last.
    lost: VecDeque<RunId>,
    backfills: BackfillRows,
    records: Option<Vec<Record>>,
    /// What happened, if it holds a part of a store only.
    cut: Option<Box<Happened>>,
}

impl Ledger {
    /// An empty ledger of several nodes that keeps a record of every change. Unbounded: for tests.
    pub fn audited() -> Self {
        Self { records: Some(Vec::new()), shared: true, ..Self::default() }
    }

    /// Every change so far, if the ledger is audited.
    pub fn records(&self) -> &[Record] {
        self.records.as_deref().unwrap_or_default()
    }

    /// Opens a session.
    pub fn open_session(&mut self) -> Session {
        self.sessions += 1;
        let session = Session(self.sessions);
        self.live.insert(session, VecDeque::new());
        session
    }

    /// Opens a session of a node, which its lost runs name.
    pub fn open_session_of(&mut self, node: NodeId) -> Session {
        let session = self.open_session();
        self.nodes.insert(session, node);
        session
    }

    /// Ends a session: what it holds can be taken over.
    pub fn end_session(&mut self, session: Session) {
        self.live.remove(&session);
    }

    /// Whether a session is alive.
    pub fn is_live(&self, session: Session) -> bool {
        self.live.contains_key(&session)
    }

    /// Grants a term greater than every one before; claims of older ones are refused from now on.
    pub fn grant_term(&mut self) -> Term {
        self.newest += 1;
        self.led = true;
        Term(self.newest)
    }

    /// Begins a term that was granted elsewhere; claims of others are refused from now on.
    pub(crate) fn begin_term(&mut self, Term(term): Term) {
        (self.newest, self.led) = (term, true);
    }

    /// Ends a term, if it is the newest.
    pub fn end_term(&mut self, term: Term) {
        self.led &= term.0 != self.newest;
    }

    /// Whether claims of this term are granted.
    pub fn is_led(&self, term: Term) -> bool {
        self.led && term.0 == self.newest
    }

    fn check_authority(&self, job: &JobName, authority: Authority) -> Result<(), Barred> {
        match authority {
            Authority::Term(term) if self.is_led(term) && !self.led_by_other => Ok(()),
            Authority::Term(_) => Err(Barred::Deposed(Term(self.newest))),
            Authority::Any => Ok(()),
            Authority::Leaderless if self.led && self.of_newest_term(job).is_some() => Err(Barred::HasLeader),
            Authority::Leaderless => Ok(()),
        }
    }

    /// The row of a job that the newest term schedules.
    fn of_newest_term(&self, job: &JobName) -> Option<&JobRow> {
        self.jobs
            .get(job)
            .map(|row| &**row)
            .filter(|row| row.term == Some(Term(self.newest)) && !row.withdrawn)
    }

    /// Pauses a job, or resumes it, and tells every session: whether that changed anything.
    pub fn pause(&mut self, now: DateTime<Utc>, job: &JobName, pause: Option<&Pause>) -> bool {
        let pause = pause.filter(|pause| lasts(pause, now));
        match self.jobs.get_mut(job) {
            Some(row) if is_same(row.pause(now), pause) => return false,
            Some(row) => {
                row.pause = pause.cloned().map(Box::new);
                if pause.is_none() {
                    row.failures = 0;
                }
            }
            None if pause.is_none() => return false,
            None => {
                // Until it is enrolled; its cursor bounds nothing.
                let mut row = JobRow::new(NEVER, None, None);
                row.withdrawn = true;
                row.pause = pause.cloned().map(Box::new);
                self.jobs.insert(job.clone(), Box::new(row));
                self.keep_withdrawn(job);
            }
        }
        self.tell_all(&Notification::PauseChanged { job: job.clone(), pause: pause.cloned() });
        true
    }

    fn tell_all(&mut self, notification: &Notification) {
        if let Some(cut) = &mut self.cut {
            cut.told.push((None, notification.clone()));
            return;
        }
        self.told = true;
        self.live.values_mut().for_each(|told| tell(told, notification.clone()));
    }

    /// How many notifications wait for a session.
    pub fn waiting_notifications(&self, session: Session) -> usize {
        self.live.get(&session).map_or(0, VecDeque::len)
    }

    /// The next notification of a session.
    pub fn take_notification(&mut self, session: Session) -> Option<Notification> {
        self.live.get_mut(&session)?.pop_front()
    }

    /// Whether any session may have been notified since this was last asked.
    pub fn take_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    /// Whether a session has an open run.
    pub(crate) fn has_open_run(&self, session: Session) -> bool {
        self.open.values().any(|run| run.session == session)
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.keys.len()
    }

    /// The cursor of a job, or `now` for one that is not known.
    pub fn cursor_of(&self, job: &JobName, now: DateTime<Utc>) -> DateTime<Utc> {
        self.decided_to(job).unwrap_or(now)
    }

    fn record(&mut self, record: impl FnOnce() -> Record) {
        if let Some(records) = &mut self.records {
            records.push(record());
        }
    }
}

fn tell(told: &mut VecDeque<Notification>, notification: Notification) {
    told.push_back(notification);
    if told.len() > NOTIFICATIONS_MAX {
        told.pop_front();
        told[0] = Notification::Lagged;
    }
}
