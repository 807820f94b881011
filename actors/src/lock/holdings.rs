//! The claims that the store granted to this node and whose ends it has not recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use metrics::Gauge;

use crate::{
    definition::Definition,
    event::Outcome,
    job::{Conclusion, JobHandle},
    name::{FencingToken, LockKey, RunId},
    port::Completion,
};

/// A claim that was granted and whose end is not recorded.
pub(super) struct Held {
    pub(super) job: Arc<JobHandle>,
    pub(super) key: LockKey,
    pub(super) token: FencingToken,
    /// How often its end was found locked.
    pub(super) tries: u32,
    /// Its body is over; whether the job's next tick counts from there.
    pub(super) ended: Option<Box<(Conclusion, bool)>>,
}

impl Held {
    pub(super) fn new(job: Arc<JobHandle>, key: LockKey, token: FencingToken) -> Self {
        Self { job, key, token, tries: 0, ended: None }
    }

    pub(super) fn completion(&self, run: RunId, outcome: Outcome, from_completion: bool) -> Completion {
        let Definition { name, policies, .. } = &*self.job.definition;
        let end = Completion::new(name.clone(), self.key.clone(), run, self.token, outcome);
        Completion { pause_after: policies.pause_after, from_completion, ..end }
    }
}

/// All of them, whichever way they were asked: the lock actor, and the jobs that are answered at once, share
/// them.
///
/// Nothing is dropped while they are locked: what is dropped may be the last of its job, and ask.
pub(crate) struct Holdings {
    /// `None` once nothing is granted any more.
    held: Mutex<Option<HashMap<RunId, Held>>>,
    shown: Gauge,
}

impl Holdings {
    /// Nothing yet; how many they are is shown by this gauge.
    pub(crate) fn new(shown: Gauge) -> Self {
        Self { held: Mutex::new(Some(HashMap::default())), shown }
    }

    /// Takes one in, unless this is closed.
    pub(super) fn hold(&self, run: RunId, held: Held) {
        let mut open = self.lock();
        let former = open.as_mut().and_then(|open| {
            let former = open.insert(run, held);
            self.show(open.len());
            former
        });
        drop(open);
        drop(former);
    }

    /// Asks for a run, and takes it in if it is granted, before anybody else looks for it. `None` if this is
    /// closed, or there is no answer.
    pub(super) fn ask<T>(&self, run: RunId, ask: impl FnOnce() -> Option<(T, Option<Held>)>) -> Option<T> {
        let mut open = self.lock();
        let all = open.as_mut()?;
        let (answer, granted) = ask()?;
        let former = granted.and_then(|held| {
            let former = all.insert(run, held);
            self.show(all.len());
            former
        });
        drop(open);
        drop(former);
        Some(answer)
    }

    /// Has the end of one recorded, if it is there, and lets it go, before anybody else looks for it. It stays
    /// if there is no answer.
    pub(super) fn end<T>(&self, run: RunId, record: impl FnOnce(&Held) -> Option<T>) -> Option<T> {
        let mut open = self.lock();
        let all = open.as_mut()?;
        let answer = record(all.get(&run)?)?;
        let held = all.remove(&run);
        self.show(all.len());
        drop(open);
        drop(held);
        Some(answer)
    }

    /// Looks at one, if it is there.
    pub(super) fn with<T>(&self, run: RunId, look: impl FnOnce(&mut Held) -> T) -> Option<T> {
        self.lock().as_mut()?.get_mut(&run).map(look)
    }

    /// Whose run it is.
    pub(super) fn holder(&self, run: RunId) -> Option<Arc<JobHandle>> {
        self.with(run, |held| held.job.clone())
    }

    /// The jobs of all of them, one for each.
    pub(super) fn holders(&self) -> Vec<Arc<JobHandle>> {
        let open = self.lock();
        open.iter().flat_map(HashMap::values).map(|held| held.job.clone()).collect()
    }

    /// Lets one go.
    pub(super) fn release(&self, run: RunId) -> Option<Held> {
        let mut open = self.lock();
        let all = open.as_mut()?;
        let held = all.remove(&run);
        self.show(all.len());
        held
    }

    /// Lets all go.
    pub(super) fn take_all(&self) -> HashMap<RunId, Held> {
        self.show(0);
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Lets all go, and takes no more in.
    pub(super) fn close(&self) {
        self.show(0);
        let held = self.lock().take();
        drop(held);
    }

    fn show(&self, count: usize) {
        self.shown.set(count as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<RunId, Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
