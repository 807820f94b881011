//! Where jobs are kept as data, beside the stores of the [backends](crate::backend).

mod form;
mod state;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use callsheet_actors::{
    CALL_DEADLINE, DurationText, Fault, JobName,
    port::{
        CATALOGUE_ASKED_EVERY, Catalogue, CatalogueChange, CatalogueChanges, CatalogueError, CataloguePage,
        CatalogueQuery, CatalogueRow, CatalogueTable, Changed, DuePage, DueQuery,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

pub use self::state::FILE_BYTES_MAX;
use self::{form::Form, state::State};

/// Jobs as data in a file, TOML or JSON by its extension: for applications without a database, and for people who edit
/// files. Give it to [`Builder::catalogue`](crate::Builder::catalogue).
///
/// The file has an entry for each job, by its name, with the keys of a [`StoredJob`](crate::StoredJob):
///
/// ```toml
/// [report]
/// schedule = "0 9 * * 1-5"
/// task = { name = "send_report", arguments = { to = "alice" } }
/// ```
///
/// * **Edited by hand.** It is looked at each second, and what is new in it is taken over. A file that cannot be read
///   as
///   a whole changes nothing: the node runs what it knows, and its health says why. An entry that cannot be read parks
///   its job alone. Comments, and the order of entries, stay in TOML when the node changes it.
/// * **Changed by the node.** [`put`](crate::Callsheet::put) and [`delete`](crate::Callsheet::delete) write a file
///   beside
///   it, which takes its place once it is on the disk. A file that is missing when the node starts has no jobs, and the
///   first one that is stored makes it; one that goes away later changes nothing. TOML has no `null`: a definition with
///   one is refused.
/// * **Several processes** on one machine may share it: a file with the name `.jobs.toml.lock` beside it keeps one
///   change at a time, and each takes over what the others write. On a file system of a network that knows no such
///   locks
///   only one process may change it.
/// * **Versions** are of one process: they begin with its time, so that a version that was read from another one, or
///   before a restart, is told to be outdated and never mistaken.
/// * **Bounds.** [`FILE_BYTES_MAX`]. Each change writes the whole file: for many jobs, use a database.
///
/// ```
/// use callsheet::{catalogue::FileCatalogue, prelude::*};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = Callsheet::builder().catalogue(FileCatalogue::at("jobs.toml")).start().await?;
/// # jobs.shutdown(std::time::Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileCatalogue {
    path: PathBuf,
    form: Result<Form, Fault>,
    /// Has a turn for each call: what waits for the disk holds it.
    state: Arc<tokio::sync::Mutex<State>>,
    version: Arc<watch::Sender<u64>>,
}

impl FileCatalogue {
    /// The file at this path, which ends in `.toml` or `.json`. Nothing is opened yet; another extension is told at
    /// [`start`](crate::Builder::start). Clones share what is known of it.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let form = Form::of(&path);
        let state = State::new(path.clone(), form.clone().unwrap_or(Form::Json));
        Self { path, form, state: Arc::new(tokio::sync::Mutex::new(state)), version: Arc::default() }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with the file, on a thread that may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        self.form.as_ref().map_err(|fault| CatalogueError::BadData { reason: fault.to_string() })?;
        let done = async {
            let mut state = self.state.clone().lock_owned().await;
            let worked = spawn_blocking(move || {
                let done = work(&mut state);
                (done, state.table().version())
            });
            let Ok((done, version)) = worked.await else {
                return Err(CatalogueError::Unavailable { reason: "it panicked; see the log".to_owned() });
            };
            self.version.send_if_modified(|known| std::mem::replace(known, version) != version);
            done
        };
        let late = |_| {
            let reason = format!("it did not answer within {}", DurationText(CALL_DEADLINE));
            Err(CatalogueError::Unavailable { reason })
        };
        timeout(CALL_DEADLINE, done).await.unwrap_or_else(late)
    }

    /// Asks what is known of the file, as it is now.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&CatalogueTable) -> T + Send + 'static,
    ) -> Result<T, CatalogueError> {
        self.with(|state| {
            state.refresh()?;
            Ok(question(state.table()))
        })
        .await
    }
}

impl fmt::Debug for FileCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileCatalogue").field(&self.path).finish()
    }
}

impl Catalogue for FileCatalogue {
    fn name(&self) -> &'static str {
        "file"
    }

    fn faults(&self) -> Vec<Fault> {
        self.form.clone().err().into_iter().collect()
    }

    fn change<'a>(&'a self, change: &'a CatalogueChange) -> BoxFuture<'a, Result<Changed, CatalogueError>> {
        let change = change.clone();
        self.with(move |state| state.change(&change)).boxed()
    }

    fn get<'a>(&'a self, job: &'a JobName) -> BoxFuture<'a, Result<Option<CatalogueRow>, CatalogueError>> {
        let job = job.clone();
        self.ask(move |table| table.get(job.as_str()).cloned()).boxed()
    }

    fn list<'a>(&'a self, query: &'a CatalogueQuery) -> BoxFuture<'a, Result<CataloguePage, CatalogueError>> {
        let query = query.clone();
        self.ask(move |table| table.list(&query)).boxed()
    }

    fn due<'a>(&'a self, query: &'a DueQuery) -> BoxFuture<'a, Result<DuePage, CatalogueError>> {
        let query = query.clone();
        self.ask(move |table| table.due(&query)).boxed()
    }

    fn changes(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<CatalogueChanges, CatalogueError>> {
        self.ask(move |table| table.changes(after, limit)).boxed()
    }

    fn changed(&self, after: u64) -> BoxFuture<'_, ()> {
        let mut version = self.version.subscribe();
        async move {
            let here = version.wait_for(|version| *version != after);
            // Late: it is looked at all the same.
            let _ = timeout(CATALOGUE_ASKED_EVERY, here).await;
        }
        .boxed()
    }
}
