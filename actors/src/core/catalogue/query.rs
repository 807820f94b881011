//! Which stored jobs are listed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{CATALOGUE_PAGE_MAX, CatalogueRow};

/// Which stored jobs are listed, in the order of the bytes of their names. The default is the first page of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogueQuery {
    /// Only names that start with this.
    pub prefix: Option<String>,
    /// Only jobs with this tag.
    pub tag: Option<String>,
    /// Only jobs that run this task.
    pub task: Option<String>,
    /// Only jobs that are enabled, or that are not.
    pub enabled: Option<bool>,
    /// Only [one-shots](super::CatalogueChange::due_at), or only jobs that are none.
    pub one_shots: Option<bool>,
    /// Only names after this one.
    pub after: Option<Arc<str>>,
    /// How many at most, up to [`CATALOGUE_PAGE_MAX`]; 0 is that.
    pub limit: usize,
}

impl CatalogueQuery {
    /// How many rows a page has at most.
    pub fn rows_max(&self) -> usize {
        if self.limit == 0 { CATALOGUE_PAGE_MAX } else { self.limit.min(CATALOGUE_PAGE_MAX) }
    }

    /// Whether a row is one of them, but for `after`.
    pub fn admits(&self, row: &CatalogueRow) -> bool {
        let Some(definition) = &row.definition else { return false };
        let has_prefix = self.prefix.as_deref().is_none_or(|prefix| row.job.starts_with(prefix));
        let is_of_kind = self.one_shots.is_none_or(|one_shots| one_shots == row.due_at.is_some());
        let asks_for_facets = self.tag.is_some() || self.task.is_some() || self.enabled.is_some();
        has_prefix && is_of_kind && (!asks_for_facets || Facets::of(definition).are_asked_for(self))
    }
}

/// One page of stored jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CataloguePage {
    /// The jobs, none of which is deleted.
    pub rows: Vec<CatalogueRow>,
    /// After which name the next page starts; `None` if this is the last.
    pub next: Option<Arc<str>>,
    /// The version of the catalogue, or an earlier one: the changes after it, and this page, say how it stands.
    pub version: u64,
}

impl CataloguePage {
    /// The first rows of these, which are in order, of a catalogue of this version.
    pub fn of(mut rows: Vec<CatalogueRow>, rows_max: usize, version: u64) -> Self {
        let has_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let next = rows.last().filter(|_| has_more).map(|row| row.job.clone());
        Self { rows, next, version }
    }
}

/// Which [one-shots](super::CatalogueChange::due_at) are answered, in the order of when they are due; those of one
/// instant in the order of the bytes of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DueQuery {
    /// Only those after this one: when it is due, and its name.
    pub after: Option<(DateTime<Utc>, Arc<str>)>,
    /// Only those that are due before this instant.
    pub before: DateTime<Utc>,
    /// How many at most, from 1 to [`CATALOGUE_PAGE_MAX`].
    pub limit: usize,
}

impl DueQuery {
    /// The first page of those that are due before an instant.
    pub fn before(before: DateTime<Utc>) -> Self {
        Self { after: None, before, limit: CATALOGUE_PAGE_MAX }
    }
}

/// One page of one-shots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DuePage {
    /// They, none of which is deleted.
    pub rows: Vec<CatalogueRow>,
    /// There may be more of them. A page has at least one then.
    pub has_more: bool,
}

impl DuePage {
    /// A page of these rows, which are in order.
    pub fn of(rows: Vec<CatalogueRow>, has_more: bool) -> Self {
        Self { rows, has_more }
    }
}

/// By what of its definition a stored job is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Facets {
    /// The name of its task.
    #[serde(deserialize_with = "name_of_task")]
    pub task: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// It is to run.
    pub enabled: bool,
}

impl Default for Facets {
    fn default() -> Self {
        Self { task: String::new(), tags: Vec::new(), enabled: true }
    }
}

impl Facets {
    /// Those of a definition. One that cannot be read has no task and no tag.
    pub fn of(definition: &str) -> Self {
        serde_json::from_str(definition).unwrap_or_default()
    }

    fn are_asked_for(&self, query: &CatalogueQuery) -> bool {
        let CatalogueQuery { tag, task, enabled, .. } = query;
        tag.as_ref().is_none_or(|tag| self.tags.contains(tag))
            && task.as_ref().is_none_or(|task| self.task == *task)
            && enabled.is_none_or(|enabled| self.enabled == enabled)
    }
}

fn name_of_task<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    Named::deserialize(deserializer).map(|task| task.name)
}
