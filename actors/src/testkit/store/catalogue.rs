//! The catalogue of a shared store, as one node sees it: cut off, it gets no answer.

use std::fmt;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;

use super::backend::StoreBackend;
use crate::{
    name::JobName,
    port::{
        CATALOGUE_ASKED_EVERY, Catalogue, CatalogueChange, CatalogueChanges, CatalogueError, CataloguePage,
        CatalogueQuery, CatalogueRow, Changed, DuePage, DueQuery,
    },
};

/// The catalogue, as a node sees it.
#[derive(Clone)]
pub(super) struct StoreCatalogue(pub(super) StoreBackend);

impl fmt::Debug for StoreCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCatalogue").field("node", &self.0.node).finish_non_exhaustive()
    }
}

impl StoreCatalogue {
    async fn connected(&self) {
        let latency = self.0.store.lock().latency;
        sleep(latency).await;
        self.0.connected().await;
    }
}

impl Catalogue for StoreCatalogue {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn change<'a>(&'a self, change: &'a CatalogueChange) -> BoxFuture<'a, Result<Changed, CatalogueError>> {
        async move {
            self.connected().await;
            self.0.store.catalogue.change(change).await
        }
        .boxed()
    }

    fn get<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<CatalogueRow>, CatalogueError>> {
        async move {
            self.connected().await;
            self.0.store.catalogue.get(job).await
        }
        .boxed()
    }

    fn list<'a>(&'a self, query: &'a CatalogueQuery) -> BoxFuture<'a, Result<CataloguePage, CatalogueError>> {
        async move {
            self.connected().await;
            self.0.store.catalogue.list(query).await
        }
        .boxed()
    }

    fn due<'a>(&'a self, query: &'a DueQuery) -> BoxFuture<'a, Result<DuePage, CatalogueError>> {
        async move {
            self.connected().await;
            self.0.store.catalogue.due(query).await
        }
        .boxed()
    }

    fn changes(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<CatalogueChanges, CatalogueError>> {
        async move {
            self.connected().await;
            self.0.store.catalogue.changes(after, limit).await
        }
        .boxed()
    }

    /// Its hints are lost if a story says so; then it is looked at each second.
    fn changed(&self, after: u64) -> BoxFuture<'_, ()> {
        async move {
            if self.0.store.lock().silent {
                return sleep(CATALOGUE_ASKED_EVERY).await;
            }
            self.0.store.catalogue.changed(after).await;
            self.0.connected().await;
        }
        .boxed()
    }
}
