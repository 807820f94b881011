//! A cut of a ledger: the rows that a few requests name, loaded from a store of records, and written back.
//!
//! The rules run on it as they run on a ledger that holds everything, so there is one set of them. Who makes a
//! cut sees to it that it holds whatever the requests look at: the rows of the jobs and keys that they name,
//! and of the job whose dead run has one of these keys; which of the sessions in these rows are alive; who
//! leads; and the floor under what was forgotten.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    Ledger, OpenRun,
    row::JobRow,
    stored::{ENDED_MAX, FloorRow, LOST_MAX, NameRow, OpenRow, PolicyRow, millis, token},
};
use crate::{
    core::seldom::Seldom,
    name::{FencingToken, JobName, LockKey, NodeId, RunId, Term},
    port::{Notification, PendingRetry, Session},
};

/// What happens in a cut besides the changes of its rows.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// Who is to be told what; `None`: every session.
    pub(super) told: Vec<(Option<Session>, Notification)>,
    /// The runs that were closed as lost, with their jobs.
    pub(super) lost: Vec<(JobName, RunId)>,
}

impl Ledger {
    /// An empty cut of a store.
    pub(crate) fn cut() -> Self {
        Self { shared: true, cut: Some(Box::default()), ..Self::default() }
    }

    /// Forgets the rows that were loaded, and takes what is true of all names: the newest term, whether it
    /// lasts, and the floor.
    pub(crate) fn begin_cut(&mut self, newest: Term, led: bool, floor: &FloorRow) {
        (self.newest, self.led) = (newest.0, led);
        (self.tokens, self.cursor_bound) = (floor.token, floor.cursor);
        (self.age, self.aged_at) = (floor.age(), floor.aged_at);
        self.live.clear();
        self.nodes.clear();
        self.jobs.clear();
        self.keys.clear();
        self.declared.clear();
        self.open.clear();
        self.closed.clear();
        self.lost.clear();
        self.withdrawn.clear();
        self.seen.clear();
        self.hold = None;
        self.cut = Some(Box::default());
    }

    /// The newest term is that of another session, though it may have the number of one's own: a store that lost
    /// what it had written gives a number twice.
    pub(crate) fn led_by_other(&mut self, by_other: bool) {
        self.led_by_other = by_other;
    }

    /// A session is alive.
    pub(crate) fn load_live(&mut self, session: Session) {
        self.live.entry(session).or_default();
    }

    /// Of whom a session was that is gone.
    pub(crate) fn load_node(&mut self, session: Session, node: NodeId) {
        self.nodes.insert(session, node);
    }

    /// What stands under a name.
    pub(crate) fn load(&mut self, name: &Arc<str>, row: &NameRow) {
        let key = LockKey::stored(name.clone());
        if let Some(job) = &row.job {
            self.jobs.insert(JobName::stored(name.clone()), job.clone());
        }
        self.tokens = self.tokens.max(row.token);
        self.lost.extend(&row.lost);
        self.closed.extend(row.ended.iter().map(|(run, token)| (*run, FencingToken(*token))));
        if let Some(open) = &row.open {
            self.keys.insert(key.clone(), open.run);
            let run = OpenRun {
                session: Session(open.session),
                job: open.job_of(name),
                key: key.clone(),
                token: FencingToken(open.token),
                fire_time: open.tick,
                named: open.named,
                losses: open.losses,
                stops: open.stops,
            };
            self.open.insert(open.run, run);
        }
        if let Some(policy) = &row.policy {
            self.declared.insert(key, policy.into());
        }
    }

    /// Whoever makes the cut has asked for the end of this run before, and was not answered: as it is not open, it was
    /// recorded then, unless it was closed as lost. Other runs of its key may have ended meanwhile, more than are
    /// remembered.
    pub(crate) fn load_ended(&mut self, run: RunId, token: FencingToken) {
        if !self.open.contains_key(&run) && !self.lost.contains(&run) {
            self.closed.push_back((run, token));
        }
    }

    /// The cursor that a job had which the store does not know any more.
    pub(crate) fn load_seen(&mut self, job: &Arc<str>, cursor: DateTime<Utc>) {
        self.seen.insert(JobName::stored(job.clone()), cursor);
    }

    /// No tick is granted yet, if there is a time after which it is to be asked for again.
    pub(crate) fn hold(&mut self, wait: Option<Duration>) {
        self.hold = wait;
    }

    /// A job that the store does not know any more is there again, for its cursor alone, until somebody enrols it.
    pub(crate) fn restore(&mut self, job: &str) {
        let seen = self.seen.get(job).copied().filter(|_| !self.jobs.contains_key(job));
        let Some(cursor) = seen else { return };
        let mut row = JobRow::new(cursor, None, None);
        (row.withdrawn, row.held) = (true, self.age);
        self.jobs.insert(JobName::stored(job), Box::new(row));
    }

    /// The key of an open run.
    pub(crate) fn key_of(&self, run: RunId) -> Option<&LockKey> {
        self.open.get(&run).map(|open| &open.key)
    }

    /// The pending retries of a job whose row is loaded.
    pub(crate) fn load_retries(&mut self, job: &str, retries: impl Iterator<Item = PendingRetry>) {
        if let Some(row) = self.jobs.get_mut(job) {
            let mut retries = retries.peekable();
            if retries.peek().is_some() {
                row.pending_retries.list_mut().extend(retries);
            }
        }
    }

    /// What stands under a name by now.
    pub(crate) fn row(&self, name: &Arc<str>, before: &NameRow) -> NameRow {
        let open = self.keys.get(&**name).and_then(|run| Some((run, self.open.get(run)?)));
        let open = open.map(|(run, open)| OpenRow {
            run: *run,
            session: open.session.0,
            token: token(open.token),
            job: (open.job.as_str() != &**name).then(|| open.job.clone()),
            tick: open.fire_time,
            named: open.named,
            losses: open.losses,
            stops: open.stops,
        });
        let mut job = self.jobs.get(&**name).cloned();
        if let Some(job) = &mut job {
            // They are stored elsewhere.
            job.pending_retries = Seldom::default();
        }
        let mut row = NameRow {
            job,
            lost: before.lost.clone(),
            token: open.as_ref().map_or(before.token, |open| open.token.max(before.token)),
            ended: before.ended.clone(),
            policy: self.declared.get(&**name).map(PolicyRow::from),
            used: before.used,
            open,
        };
        let lost = |run: &RunId| self.happened().iter().any(|(_, lost)| lost == run);
        if let Some(former) = before.open.as_ref().filter(|former| !self.open.contains_key(&former.run))
            && !lost(&former.run)
        {
            push(&mut row.ended, (former.run, former.token), ENDED_MAX);
        }
        for (_, run) in self.happened().iter().filter(|(job, _)| job.as_str() == &**name) {
            push(&mut row.lost, *run, LOST_MAX);
        }
        if row.open != before.open || row.policy != before.policy {
            row.used = millis(self.age);
        }
        row
    }

    fn happened(&self) -> &[(JobName, RunId)] {
        self.cut.as_ref().map_or(&[], |cut| &cut.lost)
    }

    /// The pending retries of a job by now.
    pub(crate) fn retries_of(&self, job: &str) -> &[PendingRetry] {
        self.jobs.get(job).map_or(&[], |row| &row.pending_retries)
    }

    /// Who is to be told what, since this was last asked; `None`: every session.
    pub(crate) fn take_told_of_cut(&mut self) -> Vec<(Option<Session>, Notification)> {
        self.cut.as_mut().map(|cut| std::mem::take(&mut cut.told)).unwrap_or_default()
    }

    /// Whether nothing of a key is worth keeping that was not used for so long, so that its name goes with its
    /// job, or had none.
    pub(crate) fn is_idle(&self, name: &str, row: &NameRow, after: Duration) -> bool {
        let used = Duration::from_millis(row.used);
        !self.jobs.contains_key(name)
            && !self.keys.contains_key(name)
            && !self.is_declared(&LockKey::stored(name))
            && self.age >= after
            && used < self.age.saturating_sub(after)
    }

    /// The floor by now, once these rows are forgotten.
    pub(crate) fn floor_without<'a>(
        &self,
        before: &FloorRow,
        rows: impl Iterator<Item = &'a NameRow>,
    ) -> FloorRow {
        let (cursor, age) = (self.cursor_bound.max(before.cursor), millis(self.age));
        let mut floor = FloorRow { token: before.token, cursor, age, aged_at: self.aged_at };
        for row in rows {
            floor.token = floor.token.max(row.token);
            floor.cursor = floor.cursor.max(row.job.as_ref().map(|job| job.cursor));
        }
        floor
    }
}

/// Adds to a list of the newest, and drops the oldest beyond the bound.
fn push<T>(list: &mut Vec<T>, item: T, most: usize) {
    list.push(item);
    let dropped = list.len().saturating_sub(most);
    list.drain(..dropped);
}
