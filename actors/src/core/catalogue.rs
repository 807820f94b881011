//! The catalogue: jobs that are stored as data, for all nodes of a scope.
//!
//! A store keeps one *row* for each job: its definition as JSON, which the store does not read, and which change it is.
//! Each change raises the *version* of the catalogue by one, and that is the version of its job from then on: it is
//! never used again. A deleted job leaves a row without a definition behind for a time, so that whoever reads the
//! changes after a version hears of it.

mod held;
mod one_shots;
mod query;
mod reconciliation;
mod table;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub(crate) use self::{
    one_shots::{AskDue, OneShots},
    reconciliation::{Act, Ask, Blocked, Read, Reconciliation, Standing},
};
pub use self::{
    one_shots::{
        ONE_SHOTS_HELD_BYTES_MAX, ONE_SHOTS_HELD_MAX, ONE_SHOTS_HELD_WITHIN, ONE_SHOTS_LINGERING_BYTES_MAX,
        ONE_SHOTS_LINGERING_MAX,
    },
    query::{CataloguePage, CatalogueQuery, DuePage, DueQuery, Facets},
    table::CatalogueTable,
};
use crate::name::{By, JobName};

/// The most bytes of the definition of a stored job, as JSON: 128 KiB.
pub const DEFINITION_BYTES_MAX: usize = 131_072;
/// The most stored jobs of a scope, one-shots among them.
pub const STORED_JOBS_MAX: usize = 2_000_000;
/// The most rows of one page of a catalogue.
pub const CATALOGUE_PAGE_MAX: usize = 1_024;
/// So many deleted jobs are remembered, the newest: whoever has not asked since lists all of them anew.
pub const DELETED_KEPT_MAX: usize = 10_000;

/// A stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogueRow {
    /// Its name. Whoever edits the store by hand may write anything here.
    pub job: Arc<str>,
    /// The version of the catalogue that its last change made, from 1: no other change of any job has it.
    pub version: u64,
    /// Its definition as JSON, which the store does not read; `None`: it was deleted.
    pub definition: Option<Arc<str>>,
    /// When it was changed, by the store's clock.
    pub changed_at: DateTime<Utc>,
    /// Who changed it, if it was said.
    pub changed_by: Option<By>,
    /// The change that made it so: see [`CatalogueChange::change`].
    pub change: Uuid,
    /// When it is due, if it is a one-shot: see [`CatalogueChange::due_at`].
    pub due_at: Option<DateTime<Utc>>,
}

impl CatalogueRow {
    /// A row as a store keeps it.
    pub fn new(job: impl Into<Arc<str>>, version: u64, changed_at: DateTime<Utc>) -> Self {
        let (job, change) = (job.into(), Uuid::nil());
        Self { job, version, definition: None, changed_at, changed_by: None, change, due_at: None }
    }
}

/// What must be so for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// There is no job of this name.
    Absent,
    /// The job has this version.
    Version(u64),
}

impl Expected {
    /// Whether it is so.
    pub fn admits(self, standing: Option<&CatalogueRow>) -> bool {
        let standing = standing.filter(|row| row.definition.is_some());
        match self {
            Self::Any => true,
            Self::Absent => standing.is_none(),
            Self::Version(version) => standing.is_some_and(|row| row.version == version),
        }
    }
}

/// A change of one stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogueChange {
    /// Its own id, the same however often it is asked for: one that was made already is answered as
    /// [`Done`](Changed::Done), and not made again.
    pub change: Uuid,
    /// The job.
    pub job: JobName,
    /// Its definition as JSON, at most [`DEFINITION_BYTES_MAX`] bytes; `None` deletes it.
    pub definition: Option<Arc<str>>,
    /// What must be so.
    pub expected: Expected,
    /// Who changes it, if it is said.
    pub by: Option<By>,
    /// The only instant at which it is due, in whole milliseconds, if it is a *one-shot*: a job that fires once and is
    /// then deleted. The node that stores it knows that; the store keeps it beside the definition, and finds the
    /// one-shots by it. `None` for all other jobs, and for a deletion.
    pub due_at: Option<DateTime<Utc>>,
}

impl CatalogueChange {
    /// Puts a definition in the place of whatever there is.
    pub fn put(change: Uuid, job: JobName, definition: impl Into<Arc<str>>) -> Self {
        let definition = Some(definition.into());
        Self { change, job, definition, expected: Expected::Any, by: None, due_at: None }
    }

    /// Deletes a job.
    pub fn delete(change: Uuid, job: JobName) -> Self {
        Self { change, job, definition: None, expected: Expected::Any, by: None, due_at: None }
    }

    /// Only if this is so.
    #[must_use]
    pub fn expecting(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }

    /// Says who changes it.
    #[must_use]
    pub fn by(self, by: Option<By>) -> Self {
        Self { by, ..self }
    }

    /// Says when it is due, if it is a one-shot.
    #[must_use]
    pub fn due_at(self, due_at: Option<DateTime<Utc>>) -> Self {
        Self { due_at, ..self }
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed {
    /// It is made: this is the row.
    Done(CatalogueRow),
    /// It is not made, since what was expected is not so: this is the row, `None` if there is no such job. So is a
    /// deletion of what is not there.
    Elsewhere(Option<CatalogueRow>),
    /// It is not made: there are [`STORED_JOBS_MAX`] jobs.
    Full,
}

/// The changes after a version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogueChanges {
    /// The newest change of each job that was changed, in the order of their versions; as many as are asked
    /// for, or all.
    Rows(Vec<CatalogueRow>),
    /// Not all of them are remembered, or no change has this version yet, since the store was set back: list all jobs
    /// anew.
    Forgotten,
}
