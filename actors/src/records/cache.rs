//! What a node knows of a store of records. Whatever is decided by it is compared when it is committed.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashMapExt};

use super::format::PendingRow;
use crate::{
    core::ledger::{FloorRow, NameRow},
    name::{NodeId, RunId},
    port::Version,
};

/// The most names, and as many lists of pending retries, that are cached at least; twice as many at most.
const CACHED_MAX: usize = 65_536;
/// The most ends that wait for an answer and are remembered.
const UNANSWERED_MAX: usize = 4_096;
/// The most sessions that are known to be gone.
const GONE_MAX: usize = 4_096;

/// A row, and the version of the record that it was read from or written to.
#[derive(Debug, Clone)]
pub(super) struct Cached<T> {
    pub(super) version: Version,
    pub(super) row: T,
}

/// What a node knows of a store.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) names: Generations<Arc<str>, Cached<NameRow>>,
    pub(super) pending: Generations<Arc<str>, Cached<PendingRow>>,
    pub(super) floor: Option<Cached<FloorRow>>,
    /// Sessions that are gone, for good.
    pub(super) gone: HashSet<u64>,
    /// Of whom sessions are that are gone and hold something; `None`: it is not known.
    pub(super) nodes: HashMap<u64, Option<NodeId>>,
    /// The names of which it is unknown whether the last commit was made, or yet will be. They are written at the
    /// next one even if nothing changes, so that the former one is not made any more.
    pub(super) doubtful: HashSet<Arc<str>>,
    /// The cursors of jobs whose rows are not cached any more: a store that lost what it had written must not say that
    /// ticks are open which are decided.
    pub(super) seen: Generations<Arc<str>, DateTime<Utc>>,
    /// The runs whose ends were asked for, and not answered.
    pub(super) unanswered: HashSet<RunId>,
}

impl Cache {
    /// A session is gone.
    pub(super) fn set_gone(&mut self, session: u64) {
        // Which ones is found out again.
        if self.gone.len() >= GONE_MAX {
            self.gone.clear();
            self.nodes.clear();
        }
        self.gone.insert(session);
    }

    /// What is known of a name may not be so any more, but for the cursor, which never goes back.
    pub(super) fn evict(&mut self, name: &str) {
        if let Some((name, Cached { row, .. })) = self.names.remove(name)
            && let Some(cursor) = row.cursor()
        {
            self.see(name, cursor);
        }
        self.pending.remove(name);
    }

    /// The cursor of a job was there.
    pub(super) fn see(&mut self, job: Arc<str>, cursor: DateTime<Utc>) {
        let cursor = self.seen.get(&*job).map_or(cursor, |seen| cursor.max(*seen));
        self.seen.insert(job, cursor);
    }

    /// What stands under a name, as it was read; the cursor of the job moves forward to where it was seen, and is
    /// written so.
    pub(super) fn read(&mut self, name: Arc<str>, version: Version, mut row: NameRow) {
        if let Some(seen) = self.seen.get(&*name).copied() {
            if row.move_forward(seen) {
                self.doubtful.insert(name.clone());
            }
            if row.has_job() {
                self.seen.remove(&*name);
            }
        }
        self.names.insert(name, Cached { version, row });
    }

    /// The end of a run was asked for, and not answered.
    pub(super) fn set_unanswered(&mut self, run: RunId) {
        if self.unanswered.len() < UNANSWERED_MAX {
            self.unanswered.insert(run);
        }
    }

    /// The jobs of which only the cursors are known.
    pub(super) fn seen_jobs(&self) -> Vec<Arc<str>> {
        self.seen.iter().map(|(job, _)| job.clone()).collect()
    }

    /// The names of the jobs that are cached.
    pub(super) fn jobs(&self) -> Vec<Arc<str>> {
        self.names.iter().filter(|(_, cached)| cached.row.has_job()).map(|(name, _)| name.clone()).collect()
    }
}

/// A map that forgets what was not used for long, once it is large: it keeps what was used since the last time
/// that it was full, and what was used in the time before.
#[derive(Debug)]
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Clone, V> Generations<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Keeps a value that is about to be used.
    pub(super) fn touch<Q>(&mut self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.young.contains_key(key) {
            return true;
        }
        match self.old.remove_entry(key) {
            Some((key, value)) => {
                self.insert(key, value);
                true
            }
            None => false,
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= CACHED_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let old = self.old.remove_entry(key);
        self.young.remove_entry(key).or(old)
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_used_for_long_is_forgotten() {
        let mut cache = Generations::default();
        for at in 0..3 * CACHED_MAX {
            cache.insert(at, at);
            assert!(cache.touch(&0));
        }

        assert_eq!(cache.get(&0), Some(&0));
        assert_eq!(cache.get(&1), None);
        assert!(cache.young.len() + cache.old.len() <= 2 * CACHED_MAX);
        cache.remove(&0);
        assert!(!cache.touch(&0));
    }
}
