//! The rules of a catalogue, in memory: a store of one process wraps it, and others compare themselves with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    CatalogueChange, CatalogueChanges, CataloguePage, CatalogueQuery, CatalogueRow, Changed,
    DELETED_KEPT_MAX, DuePage, DueQuery, STORED_JOBS_MAX,
};

/// The rows of a catalogue.
#[derive(Debug, Clone, Default)]
pub struct CatalogueTable {
    rows: BTreeMap<Arc<str>, CatalogueRow>,
    by_version: BTreeMap<u64, Arc<str>>,
    /// The one-shots, by when they are due.
    by_due: BTreeSet<(DateTime<Utc>, Arc<str>)>,
    /// The versions of those that are deleted and remembered.
    deleted: BTreeSet<u64>,
    version: u64,
    /// Changes up to this version may be forgotten.
    forgotten: u64,
}

impl CatalogueTable {
    /// An empty one, whose first change has the version after this one. Whoever knows an earlier one lists all jobs
    /// anew.
    pub fn starting_after(version: u64) -> Self {
        Self { version, forgotten: version, ..Self::default() }
    }

    /// The version of the newest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Changes a job at `now`, the store's time.
    pub fn change(&mut self, asked: &CatalogueChange, now: DateTime<Utc>) -> Changed {
        let standing = self.rows.get(asked.job.as_str());
        if let Some(row) = standing.filter(|row| row.change == asked.change) {
            return Changed::Done(row.clone());
        }
        let is_there = standing.is_some_and(|row| row.definition.is_some());
        if !asked.expected.admits(standing) || (asked.definition.is_none() && !is_there) {
            return Changed::Elsewhere(standing.filter(|_| is_there).cloned());
        }
        if !is_there && self.rows.len() - self.deleted.len() >= STORED_JOBS_MAX {
            return Changed::Full;
        }
        let row = CatalogueRow {
            definition: asked.definition.clone(),
            changed_by: asked.by.clone(),
            change: asked.change,
            due_at: asked.due_at.filter(|_| asked.definition.is_some()),
            ..CatalogueRow::new(asked.job.as_str(), self.version + 1, now)
        };
        self.write(row.clone());
        Changed::Done(row)
    }

    /// Writes a row whatever it says, as whoever edits a store by hand does. Its version is the next one.
    pub fn write(&mut self, mut row: CatalogueRow) {
        self.version += 1;
        row.version = self.version;
        if row.definition.is_none() {
            self.deleted.insert(row.version);
        }
        self.by_version.insert(row.version, row.job.clone());
        let due = row.due_at.map(|due_at| (due_at, row.job.clone()));
        if let Some(former) = self.rows.insert(row.job.clone(), row) {
            self.by_version.remove(&former.version);
            self.deleted.remove(&former.version);
            former.due_at.map(|due_at| self.by_due.remove(&(due_at, former.job)));
        }
        self.by_due.extend(due);
        while self.deleted.len() > DELETED_KEPT_MAX {
            let Some(oldest) = self.deleted.pop_first() else { return };
            self.forgotten = oldest;
            let job = self.by_version.remove(&oldest);
            job.map(|job| self.rows.remove(&job));
        }
    }

    /// The row of a job that is not deleted.
    pub fn get(&self, job: &str) -> Option<&CatalogueRow> {
        self.rows.get(job).filter(|row| row.definition.is_some())
    }

    /// One page of the jobs that are not deleted.
    pub fn list(&self, query: &CatalogueQuery) -> CataloguePage {
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let from = match query.after.as_deref() {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let rows = self.rows.range::<str, _>((from, Bound::Unbounded)).map(|(_, row)| row);
        let rows = rows.take_while(|row| row.job.starts_with(prefix)).filter(|row| query.admits(row));
        let rows_max = query.rows_max();
        CataloguePage::of(rows.take(rows_max + 1).cloned().collect(), rows_max, self.version)
    }

    /// The one-shots that are due before an instant, the next first.
    pub fn due(&self, query: &DueQuery) -> DuePage {
        let from = query.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.by_due.range((from, Bound::Unbounded));
        let mut due = due.take_while(|(due_at, _)| *due_at < query.before);
        let page =
            due.by_ref().take(query.limit).filter_map(|(_, job)| self.rows.get(job)).cloned().collect();
        DuePage::of(page, due.next().is_some())
    }

    /// The changes after a version, at most so many.
    pub fn changes(&self, after: u64, limit: usize) -> CatalogueChanges {
        if after < self.forgotten || after > self.version {
            return CatalogueChanges::Forgotten;
        }
        let jobs = self.by_version.range((Bound::Excluded(after), Bound::Unbounded)).take(limit);
        CatalogueChanges::Rows(jobs.filter_map(|(_, job)| self.rows.get(job)).cloned().collect())
    }
}
