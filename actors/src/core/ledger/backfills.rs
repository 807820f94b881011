//! Backfills, and the runs of theirs whose ends must be remembered.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use super::{Ledger, NEVER};
use crate::{
    core::backfill::{
        BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved, BackfillProgress, BackfillPut,
        BackfillState, StoredBackfill,
    },
    name::{JobName, RunId, Term},
    port::Notification,
};

#[derive(Debug, Default)]
pub(super) struct BackfillRows {
    rows: BTreeMap<BackfillId, StoredBackfill>,
    /// Runs that have ended, of fire times that are in flight: the list of the newest ends may have lost them.
    ended: HashSet<RunId>,
}

impl BackfillRows {
    /// A run has ended, or was lost.
    pub(super) fn run_ended(&mut self, run: RunId) {
        let of_row = BackfillId::of_run(run).and_then(|(backfill, _)| self.rows.get(&backfill));
        if of_row.is_some_and(|row| row.has_in_flight(run)) {
            self.ended.insert(run);
        }
    }

    pub(super) fn has_ended(&self, run: RunId) -> bool {
        !self.ended.is_empty() && self.ended.contains(&run)
    }

    fn forget_ends_of(&mut self, backfill: BackfillId) {
        let row = self.rows.get(&backfill);
        self.ended.retain(|run| {
            let is_of_it = BackfillId::of_run(*run).is_some_and(|(of, _)| of == backfill);
            !is_of_it || row.is_some_and(|row| row.has_in_flight(*run))
        });
    }

    fn prune(&mut self) {
        let over = self.rows.iter().filter(|(_, row)| !row.is_running()).map(|(id, _)| *id);
        let old: Vec<_> = over.rev().skip(BACKFILLS_KEPT_MAX).collect();
        old.iter().for_each(|id| drop(self.rows.remove(id)));
    }
}

impl Ledger {
    /// Keeps a new backfill, and tells every session.
    pub fn put_backfill(&mut self, backfill: &StoredBackfill) -> BackfillPut {
        let rows = &mut self.backfills.rows;
        if !rows.contains_key(&backfill.id) {
            if rows.values().filter(|row| row.is_running()).count() >= BACKFILLS_OPEN_MAX {
                return BackfillPut::Full;
            }
            rows.insert(backfill.id, backfill.clone());
            self.backfills.prune();
        }
        self.tell_all(&Notification::BackfillsChanged);
        BackfillPut::Kept
    }

    /// The backfills of one job or of all, the newest first.
    pub fn backfills(&self, job: Option<&JobName>, only_running: bool) -> Vec<StoredBackfill> {
        let is_asked = |row: &&StoredBackfill| {
            job.is_none_or(|job| row.job == *job) && (row.is_running() || !only_running)
        };
        self.backfills.rows.values().rev().filter(is_asked).cloned().collect()
    }

    /// Up to where the ticks of a job are decided, if it is known.
    pub fn decided_to(&self, job: &JobName) -> Option<DateTime<Utc>> {
        self.jobs.get(job).map(|row| row.cursor).filter(|cursor| *cursor > NEVER)
    }

    /// Changes how far a backfill is, as the leader of a term.
    pub fn advance_backfill(
        &mut self,
        term: Term,
        backfill: BackfillId,
        progress: &BackfillProgress,
    ) -> BackfillMoved {
        if !self.is_led(term) {
            return BackfillMoved::Deposed;
        }
        match self.backfills.rows.get_mut(&backfill) {
            Some(row) if row.is_running() && row.progress.revision + 1 == progress.revision => {
                row.progress = progress.clone();
                self.backfills.forget_ends_of(backfill);
                self.backfills.prune();
                BackfillMoved::Done
            }
            other => BackfillMoved::Elsewhere(other.map(|row| Box::new(row.clone()))),
        }
    }

    /// Cancels a backfill, and tells every session.
    pub fn cancel_backfill(&mut self, backfill: BackfillId) -> Option<StoredBackfill> {
        let row = self.backfills.rows.get_mut(&backfill).filter(|row| row.is_running())?;
        row.progress.state = BackfillState::Cancelled;
        row.progress.revision += 1;
        let row = row.clone();
        self.backfills.forget_ends_of(backfill);
        self.backfills.prune();
        self.tell_all(&Notification::BackfillsChanged);
        Some(row)
    }
}
