//! The lock keys of runs that began under another definition of their job.

use std::sync::Arc;

use crate::{
    core::seldom::Seldom,
    job_names::KeyInUse,
    name::{LockKey, RunId},
};

/// The lock keys of the runs in progress, and of those that are being asked for, that began so under another
/// definition.
#[derive(Default)]
pub(super) struct FormerKeys(Seldom<FormerKey>);

struct FormerKey {
    run: RunId,
    key: LockKey,
    /// No job on another backend of the node may have it meanwhile.
    _in_use: Option<Arc<KeyInUse>>,
}

impl FormerKeys {
    /// The key of a run: what it was asked for under it keeps until it ends.
    pub(super) fn key_of<'a>(&'a self, run: RunId, current: &'a LockKey) -> &'a LockKey {
        let former = self.0.iter().find(|former| former.run == run);
        former.map_or(current, |former| &former.key)
    }

    /// These runs hold the `former` key, or will.
    pub(super) fn keep(
        &mut self,
        former: &LockKey,
        in_use: Option<&Arc<KeyInUse>>,
        current: &LockKey,
        open: impl Iterator<Item = RunId>,
    ) {
        if former == current {
            return;
        }
        for run in open {
            if self.0.iter().all(|known| known.run != run) {
                let (key, _in_use) = (former.clone(), in_use.cloned());
                self.0.list_mut().push(FormerKey { run, key, _in_use });
            }
        }
    }

    /// Whatever is not open any more needs its key no more.
    pub(super) fn forget_all_but<I: Iterator<Item = RunId>>(&mut self, open: impl Fn() -> I) {
        if !self.0.is_empty() {
            self.0.list_mut().retain(|former| open().any(|run| run == former.run));
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::name::{NodeId, RunIds};

    fn key(key: &str) -> LockKey {
        LockKey::new(key).unwrap()
    }

    #[test]
    fn a_run_keeps_its_first_key_until_it_ends() {
        let ids = RunIds::of(NodeId::numbered(1));
        let [first, second, third] = [(); 3].map(|()| ids.next(Utc::now()));
        let mut keys = FormerKeys::default();

        keys.keep(&key("a"), None, &key("a"), [first].into_iter());
        assert_eq!(keys.key_of(first, &key("a")), &key("a"));
        keys.keep(&key("a"), None, &key("b"), [first].into_iter());
        keys.keep(&key("b"), None, &key("c"), [first, second].into_iter());

        let found = [first, second, third].map(|run| keys.key_of(run, &key("c")).clone());
        assert_eq!(found, [key("a"), key("b"), key("c")]);

        keys.forget_all_but(|| [second].into_iter());

        let found = [first, second].map(|run| keys.key_of(run, &key("c")).clone());
        assert_eq!(found, [key("c"), key("b")]);
    }
}
