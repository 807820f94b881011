//! Which jobs have a tag.
//!
//! An index, and nothing else: it decides nothing and does nothing.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use crate::{
    definition::Definition,
    name::{JobName, Tag},
};

/// The jobs that have tags. Finding those of one costs nothing for all the others.
#[derive(Default)]
pub(super) struct Tags(HashMap<Tag, BTreeSet<JobName>>);

impl Tags {
    pub(super) fn add(&mut self, definition: &Definition) {
        for tag in definition.tags().iter() {
            self.0.entry(tag.clone()).or_default().insert(definition.name.clone());
        }
    }

    pub(super) fn remove(&mut self, definition: &Definition) {
        for tag in definition.tags().iter() {
            if let Some(jobs) = self.0.get_mut(tag) {
                jobs.remove(&definition.name);
                if jobs.is_empty() {
                    self.0.remove(tag);
                }
            }
        }
    }

    /// The jobs with this tag, in the order of their names, from `start` on.
    pub(super) fn jobs(&self, tag: &str, start: Bound<&str>) -> impl Iterator<Item = &JobName> {
        self.0.get(tag).into_iter().flat_map(move |jobs| jobs.range::<str, _>((start, Bound::Unbounded)))
    }
}
