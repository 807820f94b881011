//! Which backend of a node each job and each lock key is on.
//!
//! A node has an engine for each of its backends. Names are unique over all of them, and a lock key excludes runs
//! within one backend only, so that its jobs must be on one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::{
    core::text::{TEXT_MAX, bounded},
    definition::{Definition, Job},
    error::{AddError, Fault, Faults},
    name::{JobName, LockKey},
};

/// The most named backends of a node.
pub const NAMED_BACKENDS_MAX: usize = 8;
/// The longest name of a backend, in bytes.
pub const BACKEND_NAME_MAX: usize = 100;

/// How long an addition waits for a job on another backend to let go of its key. One without a run in progress does
/// so as soon as its actor hears of its removal.
pub(crate) const KEY_LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// How many generations of job actors an engine may have before the numbers of the next engine begin.
const GENERATIONS: u64 = 1 << 48;

/// The names of all engines of a node, as one of them sees them.
#[derive(Clone)]
pub(crate) struct JobNames {
    taken: Arc<Shared>,
    /// The names of the node's named backends.
    backends: Arc<[Arc<str>]>,
    /// The number of this engine: 0 is that of the default backend.
    engine: usize,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Taken>,
    /// A key was let go of.
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    jobs: HashMap<JobName, usize>,
    keys: HashMap<LockKey, Holders>,
}

/// Who keeps a key on the backend of one engine.
struct Holders {
    engine: usize,
    /// So many jobs have it.
    jobs: usize,
    /// So many actors have it, or had it when a run began that is in progress: also those of removed jobs.
    actors: usize,
}

impl Taken {
    fn holders(&mut self, key: &LockKey, engine: usize) -> &mut Holders {
        self.keys.entry(key.clone()).or_insert(Holders { engine, jobs: 0, actors: 0 })
    }

    /// Answers whether the key is free.
    fn let_go(&mut self, key: &LockKey, fewer: impl FnOnce(&mut Holders)) -> bool {
        let Some(holders) = self.keys.get_mut(key) else { return false };
        fewer(holders);
        let is_free = holders.jobs == 0 && holders.actors == 0;
        if is_free {
            self.keys.remove(key);
        }
        is_free
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self, key: &LockKey, fewer: impl FnOnce(&mut Holders)) {
        let is_free = self.lock().let_go(key, fewer);
        if is_free {
            self.freed.notify_waiters();
        }
    }
}

/// The key of a job's actor, or of its runs in progress, is that of its backend until this is dropped.
pub(crate) struct KeyInUse {
    key: LockKey,
    names: Arc<Shared>,
}

impl Drop for KeyInUse {
    fn drop(&mut self) {
        self.names.let_go(&self.key, |holders| holders.actors -= 1);
    }
}

impl JobNames {
    /// As the engine of the default backend sees them, beside those of these names.
    pub(crate) fn new(backends: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { taken: Arc::default(), backends: backends.into_iter().collect(), engine: 0 }
    }

    /// The same, as another engine sees them.
    pub(crate) fn of_engine(&self, engine: usize) -> Self {
        Self { engine, ..self.clone() }
    }

    /// The names of the node's named backends.
    pub(crate) fn backends(&self) -> &Arc<[Arc<str>]> {
        &self.backends
    }

    /// The name of this engine's backend; `None` of the default one.
    pub(crate) fn backend(&self) -> Option<&Arc<str>> {
        self.backends.get(self.engine.checked_sub(1)?)
    }

    /// The number of the engine whose backend has this name.
    pub(crate) fn engine_named(&self, backend: Option<&str>) -> Option<usize> {
        let Some(backend) = backend else { return Some(0) };
        self.backends.iter().position(|name| **name == *backend).map(|nth| nth + 1)
    }

    /// The number of the engine that has a job.
    pub(crate) fn engine_of(&self, job: &str) -> Option<usize> {
        self.taken().jobs.get(job).copied()
    }

    /// Where the numbers of this engine's job actors begin: no two of a node are equal.
    pub(crate) fn first_generation(&self) -> u64 {
        self.engine as u64 * GENERATIONS
    }

    /// What is wrong with the backends that jobs name, if they are given to this engine.
    pub(crate) fn misplaced(&self, jobs: &[Job]) -> Vec<Fault> {
        let others = jobs.iter().filter(|job| job.backend() != self.backend().map(|name| &**name));
        others.map(|job| self.is_elsewhere(job)).collect()
    }

    /// What is wrong with a job that is not this engine's.
    fn is_elsewhere(&self, job: &Job) -> Fault {
        if self.engine_named(job.backend()).is_none() {
            return unknown(job, &self.backends);
        }
        let rule = format!("this actor has the jobs on {}", said(self.backend()));
        let cure = "send it by the handle, which finds the backend";
        Fault::new(subject(job), said(job.backend()), rule, cure)
    }

    /// What is wrong with a definition that takes the place of one on another backend.
    pub(crate) fn moved(&self, job: &Job, from: usize) -> Fault {
        let from = self.of_engine(from);
        let rule =
            format!("the job is on {}, and stays on the backend that it was added to", said(from.backend()));
        let cure = "remove it and add it again; its cursor and its history do not come along, so its ticks count from then on";
        Fault::new(subject(job), said(job.backend()), rule, cure)
    }

    /// Takes the names and keys of definitions for this engine: all of them, or none.
    pub(crate) fn take(&self, definitions: &[Definition]) -> Result<(), AddError> {
        let mut taken = self.taken();
        let exist =
            |one: &&Definition| taken.jobs.get(&one.name).is_some_and(|engine| *engine != self.engine);
        let exist: Vec<_> = definitions.iter().filter(exist).map(|one| self.exists(one, &taken)).collect();
        Faults::check(exist).map_err(AddError::Exists)?;
        let split = definitions.iter().filter_map(|one| self.splits_key(one, &taken)).collect();
        Faults::check(split).map_err(AddError::Invalid)?;
        for one in definitions {
            taken.jobs.insert(one.name.clone(), self.engine);
            taken.holders(&one.key, self.engine).jobs += 1;
        }
        Ok(())
    }

    /// A definition takes the place of another one of this engine, if its key is on no other backend.
    pub(crate) fn change(&self, former: &Definition, new: &Definition) -> Result<(), Faults> {
        let mut taken = self.taken();
        if former.key != new.key {
            Faults::check(self.splits_key(new, &taken).into_iter().collect())?;
            taken.holders(&new.key, self.engine).jobs += 1;
            drop(taken);
            self.taken.let_go(&former.key, |holders| holders.jobs -= 1);
        }
        Ok(())
    }

    /// A job is gone. Its key stays with its runs in progress.
    pub(crate) fn release(&self, definition: &Definition) {
        self.taken().jobs.remove(&definition.name);
        self.taken.let_go(&definition.key, |holders| holders.jobs -= 1);
    }

    /// An actor uses a key from now on, which a job of this engine has.
    pub(crate) fn in_use(&self, key: &LockKey) -> Arc<KeyInUse> {
        self.taken().holders(key, self.engine).actors += 1;
        Arc::new(KeyInUse { key: key.clone(), names: self.taken.clone() })
    }

    /// Whether a key of these is that of no job any more, but still of actors on another backend.
    pub(crate) fn are_leaving(&self, definitions: &[Definition]) -> bool {
        let taken = self.taken();
        let is_leaving =
            |holders: &Holders| holders.engine != self.engine && holders.jobs == 0 && holders.actors > 0;
        definitions.iter().any(|one| taken.keys.get(&one.key).is_some_and(is_leaving))
    }

    /// Waits a moment for such keys. Dropping the future does no harm.
    pub(crate) async fn left(self, definitions: Vec<Definition>) -> Vec<Definition> {
        let left = async {
            loop {
                let mut freed = std::pin::pin!(self.taken.freed.notified());
                freed.as_mut().enable();
                if !self.are_leaving(&definitions) {
                    return;
                }
                freed.await;
            }
        };
        let _ = timeout(KEY_LEAVES_WITHIN, left).await;
        definitions
    }

    fn exists(&self, definition: &Definition, taken: &Taken) -> Fault {
        let engine = taken.jobs.get(&definition.name).copied().unwrap_or_default();
        let rule = format!("a job of this name exists on {}", said(self.of_engine(engine).backend()));
        Fault::new(
            "job name",
            definition.name.as_str(),
            rule,
            "choose another name, or remove that job first",
        )
    }

    /// A key excludes within one backend: it cannot be that of jobs on several.
    fn splits_key(&self, definition: &Definition, taken: &Taken) -> Option<Fault> {
        let holders = taken.keys.get(&definition.key).filter(|holders| holders.engine != self.engine)?;
        let other = self.of_engine(holders.engine);
        let other = said(other.backend());
        let (rule, cure) = match holders.jobs {
            0 => (
                format!(
                    "runs of this key are in progress on {other}, and a key excludes within one backend only"
                ),
                "wait until they have ended, or choose another key",
            ),
            _ => (
                format!("jobs on {other} have this key, and a key excludes within one backend only"),
                "put all jobs of the key on one backend, or choose another key",
            ),
        };
        let subject = format!("job {:?}: lock key", definition.name.as_str());
        Some(Fault::new(subject, definition.key.as_str(), rule, cure))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }
}

/// What is wrong with jobs that name a backend which the node does not have.
pub(crate) fn on_unknown(jobs: &[Job], backends: &[Arc<str>]) -> Vec<Fault> {
    let is_unknown =
        |job: &&Job| job.backend().is_some_and(|name| !backends.iter().any(|known| **known == *name));
    jobs.iter().filter(is_unknown).map(|job| unknown(job, backends)).collect()
}

fn unknown(job: &Job, backends: &[Arc<str>]) -> Fault {
    let rule = match backends {
        [] => "this node has no named backend".to_owned(),
        names => format!("it is the name of a backend of this node: {}", names.join(", ")),
    };
    let cure = "choose one of its backends, or start it with `backend_named` and this name";
    Fault::new(subject(job), said(job.backend()), rule, cure)
}

fn subject(job: &Job) -> String {
    format!("job {:?}: backend", job.name().chars().take(40).collect::<String>())
}

/// How a backend is called; `None` is the default one.
fn said(backend: Option<impl AsRef<str>>) -> String {
    backend.map_or_else(|| "the default backend".to_owned(), |name| bounded(name.as_ref(), TEXT_MAX))
}
