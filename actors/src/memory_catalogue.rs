//! A catalogue in the memory of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use tokio::sync::watch;

use crate::{
    name::JobName,
    port::{
        Catalogue, CatalogueChange, CatalogueChanges, CatalogueError, CataloguePage, CatalogueQuery,
        CatalogueRow, CatalogueTable, Changed, Clock, DuePage, DueQuery,
    },
};

/// A catalogue in the memory of this process: it ends with it. Clones share it.
#[derive(Clone)]
pub struct MemoryCatalogue {
    table: Arc<Mutex<CatalogueTable>>,
    version: Arc<watch::Sender<u64>>,
    clock: Arc<dyn Clock>,
}

impl MemoryCatalogue {
    /// An empty one, whose time is that of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { table: Arc::default(), version: Arc::new(watch::Sender::new(0)), clock }
    }

    /// Writes a row whatever it says, as whoever edits a store by hand does.
    pub fn write(&self, row: CatalogueRow) {
        self.with(|table| table.write(row));
    }

    fn lock(&self) -> MutexGuard<'_, CatalogueTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&mut CatalogueTable) -> T) -> T {
        let mut table = self.lock();
        let done = work(&mut table);
        self.version.send_replace(table.version());
        done
    }
}

impl std::fmt::Debug for MemoryCatalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryCatalogue").field("version", &self.lock().version()).finish_non_exhaustive()
    }
}

impl Catalogue for MemoryCatalogue {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn change<'a>(&'a self, change: &'a CatalogueChange) -> BoxFuture<'a, Result<Changed, CatalogueError>> {
        let now = self.clock.now();
        ready(Ok(self.with(|table| table.change(change, now)))).boxed()
    }

    fn get<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<CatalogueRow>, CatalogueError>> {
        ready(Ok(self.lock().get(job.as_str()).cloned())).boxed()
    }

    fn list<'a>(&'a self, query: &'a CatalogueQuery) -> BoxFuture<'a, Result<CataloguePage, CatalogueError>> {
        ready(Ok(self.lock().list(query))).boxed()
    }

    fn due<'a>(&'a self, query: &'a DueQuery) -> BoxFuture<'a, Result<DuePage, CatalogueError>> {
        ready(Ok(self.lock().due(query))).boxed()
    }

    fn changes(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<CatalogueChanges, CatalogueError>> {
        ready(Ok(self.lock().changes(after, limit))).boxed()
    }

    fn changed(&self, after: u64) -> BoxFuture<'_, ()> {
        let mut version = self.version.subscribe();
        async move {
            // The sender lives as long as this.
            let _ = version.wait_for(|version| *version != after).await;
        }
        .boxed()
    }
}
