//! Backfills, and the runs of theirs whose ends must be remembered.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use super::{Ledger, NEVER};
use crate::{
    core::{
        backfill::{
            BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved, BackfillProgress, BackfillPut,
            BackfillState, BackfillStatus, StoredBackfill,
        },
        outcome::Outcome,
        time::FireTime,
    },
    name::{JobName, RunId, Term},
    port::{ClaimRequest, Notification, Session, Verdict},
};

/// A backfill, and what became of its claims.
#[derive(Debug)]
struct BackfillRow {
    stored: StoredBackfill,
    /// How those ended that were granted and are in flight, if they have.
    ended: BTreeMap<u32, Outcome>,
    /// When one was granted last.
    last_start: Option<DateTime<Utc>>,
}

impl BackfillRow {
    /// Forgets the runs of those that are not in flight any more.
    fn forget(&mut self) {
        let StoredBackfill { granted, progress, .. } = &mut self.stored;
        granted.retain(|nth| progress.in_flight.contains(nth));
        self.ended.retain(|nth, _| progress.in_flight.contains(nth));
    }

    fn read(&self, now: DateTime<Utc>) -> StoredBackfill {
        // A clock that was set back says of no start in the future.
        let since = |last: DateTime<Utc>| (now - last).to_std().unwrap_or(Duration::ZERO);
        StoredBackfill { since_start: self.last_start.map(since), ..self.stored.clone() }
    }
}

#[derive(Debug, Default)]
pub(super) struct BackfillRows {
    rows: BTreeMap<BackfillId, BackfillRow>,
}

impl BackfillRows {
    /// The backfill of which this is a run in flight, and of which fire time.
    fn row_of(&mut self, run: RunId) -> Option<(&mut BackfillRow, u32)> {
        if self.rows.is_empty() {
            return None;
        }
        let (backfill, nth) = BackfillId::of_run(run)?;
        let row = self.rows.get_mut(&backfill).filter(|row| row.stored.has_in_flight(run))?;
        Some((row, nth))
    }

    /// A run was granted: for the first time `at` an instant, or once more after it was lost.
    pub(super) fn run_granted(&mut self, run: RunId, at: Option<DateTime<Utc>>) {
        if let Some((row, nth)) = self.row_of(run) {
            if !row.stored.granted.contains(&nth) {
                row.stored.granted.push(nth);
            }
            row.ended.remove(&nth);
            row.last_start = at.or(row.last_start);
        }
    }

    /// A run has ended, or was lost.
    pub(super) fn run_ended(&mut self, run: RunId, outcome: Outcome) {
        if let Some((row, nth)) = self.row_of(run) {
            row.ended.insert(nth, outcome);
        }
    }

    fn prune(&mut self) {
        let over = self.rows.iter().filter(|(_, row)| !row.stored.is_running()).map(|(id, _)| *id);
        let old: Vec<_> = over.rev().skip(BACKFILLS_KEPT_MAX).collect();
        old.iter().for_each(|id| drop(self.rows.remove(id)));
    }
}

impl Ledger {
    /// The verdict on the claim of a run of a backfill, unless it may be granted; `None` as well for any other run.
    pub(super) fn known_of_backfill(&mut self, session: Session, request: &ClaimRequest) -> Option<Verdict> {
        let ClaimRequest { job, key, run, tick: None, recheck: false, resume_lost: false, .. } = request
        else {
            return None;
        };
        BackfillId::of_run(*run)?;
        if let Some(open) = self.open.get(run) {
            let is_same = open.session == session && open.key == *key;
            return Some(match is_same {
                true => Verdict::Granted { token: open.token, lost: None },
                false => Verdict::RanBefore { outcome: None },
            });
        }
        let Some((row, nth)) = self.backfills.row_of(*run) else { return Some(Verdict::NotGranted) };
        if !row.stored.granted.contains(&nth) {
            return None;
        }
        let outcome = row.ended.get(&nth).copied();
        let is_retried = self.jobs.get(job).is_some_and(|row| row.is_to_retry(*run));
        Some(Verdict::RanBefore { outcome: outcome.filter(|_| !is_retried) })
    }

    /// Keeps a new backfill, and tells every session.
    pub fn put_backfill(&mut self, backfill: &StoredBackfill) -> BackfillPut {
        let rows = &mut self.backfills.rows;
        if !rows.contains_key(&backfill.id) {
            let running = || rows.values().map(|row| &row.stored).filter(|row| row.is_running());
            if running().count() >= BACKFILLS_OPEN_MAX {
                return BackfillPut::Full;
            }
            let is_wanted = |at: FireTime| backfill.fire_times.binary_search(&at).is_ok();
            let mut beside = rows.values().filter(|row| row.stored.job == backfill.job && !backfill.again);
            if beside.any(|row| row.stored.taken_fire_times().any(is_wanted)) {
                return BackfillPut::Overlaps;
            }
            let stored = StoredBackfill { granted: Vec::new(), since_start: None, ..backfill.clone() };
            rows.insert(backfill.id, BackfillRow { stored, ended: BTreeMap::new(), last_start: None });
            self.backfills.prune();
        }
        self.tell_all(&Notification::BackfillsChanged);
        BackfillPut::Kept
    }

    fn backfills_of(&self, job: Option<&JobName>) -> impl Iterator<Item = &BackfillRow> {
        self.backfills.rows.values().rev().filter(move |row| job.is_none_or(|job| row.stored.job == *job))
    }

    /// The backfills of one job or of all, the newest first, with all of their fire times.
    pub fn backfills(
        &self,
        job: Option<&JobName>,
        only_running: bool,
        now: DateTime<Utc>,
    ) -> Vec<StoredBackfill> {
        let is_asked = |row: &&BackfillRow| row.stored.is_running() || !only_running;
        self.backfills_of(job).filter(is_asked).map(|row| row.read(now)).collect()
    }

    /// How far the backfills are of one job or of all, the newest first.
    pub fn backfill_statuses(&self, job: Option<&JobName>) -> Vec<BackfillStatus> {
        self.backfills_of(job).map(|row| BackfillStatus::from(&row.stored)).collect()
    }

    /// Up to where the ticks of a job are decided, if it is known.
    pub fn decided_to(&self, job: &JobName) -> Option<DateTime<Utc>> {
        self.jobs.get(job).map(|row| row.cursor).filter(|cursor| *cursor > NEVER)
    }

    /// The fire times of the ticks of a job whose runs have not ended, or are to be retried.
    pub fn open_fire_times(&self, job: &JobName) -> Vec<FireTime> {
        let open = self.open.values().filter(|open| open.job == *job).filter_map(|open| open.fire_time);
        let retries = self.jobs.get(job).into_iter().flat_map(|row| row.pending_retries.iter());
        open.chain(retries.filter_map(|retry| retry.fire_time)).collect()
    }

    /// Changes how far a backfill is, as the leader of a term.
    pub fn advance_backfill(
        &mut self,
        term: Term,
        backfill: BackfillId,
        progress: &BackfillProgress,
        now: DateTime<Utc>,
    ) -> BackfillMoved {
        if !self.is_led(term) {
            return BackfillMoved::Deposed;
        }
        match self.backfills.rows.get_mut(&backfill) {
            Some(row) if row.stored.is_running() && row.stored.progress.revision + 1 == progress.revision => {
                row.stored.progress = progress.clone();
                row.forget();
                self.backfills.prune();
                BackfillMoved::Done
            }
            other => BackfillMoved::Elsewhere(other.map(|row| Box::new(row.read(now)))),
        }
    }

    /// Cancels a backfill, and tells every session.
    pub fn cancel_backfill(&mut self, backfill: BackfillId) -> Option<BackfillStatus> {
        let row = self.backfills.rows.get_mut(&backfill).filter(|row| row.stored.is_running())?;
        row.stored.progress.state = BackfillState::Cancelled;
        row.stored.progress.revision += 1;
        row.forget();
        let status = BackfillStatus::from(&row.stored);
        self.backfills.prune();
        self.tell_all(&Notification::BackfillsChanged);
        Some(status)
    }
}
