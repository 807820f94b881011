//! Where the rows of open runs are, as far as it is known: their ends need no look into an index.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use uuid::Uuid;

use super::statement::names::Place;

/// The most runs of which it is known. Whatever is not known is looked up by its name.
const PLACES_MAX: usize = 65_536;

/// The rows of the runs that were granted to a session and whose ends were not asked for.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Uuid, Place>>);

impl Places {
    pub(super) fn add(&self, places: Vec<(Uuid, Place)>) {
        let mut known = self.lock();
        if known.len() + places.len() > PLACES_MAX {
            known.clear();
        }
        known.extend(places);
    }

    pub(super) fn knows(&self, run: Uuid) -> bool {
        self.lock().contains_key(&run)
    }

    /// Where the row of a run is. It is told once: if the row is not there any more, it is somewhere else.
    pub(super) fn take(&self, run: Uuid) -> Option<Place> {
        self.lock().remove(&run)
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
