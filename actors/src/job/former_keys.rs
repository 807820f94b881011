//! The lock keys of runs that began under another definition of their job.

use crate::{
    core::seldom::Seldom,
    name::{LockKey, RunId},
};

/// The lock keys of the runs in progress, and of those that are being asked for, that began so under another
/// definition.
#[derive(Debug, Default)]
pub(super) struct FormerKeys(Seldom<(RunId, LockKey)>);

impl FormerKeys {
    /// The key of a run: what it was asked for under it keeps until it ends.
    pub(super) fn key_of<'a>(&'a self, run: RunId, current: &'a LockKey) -> &'a LockKey {
        let former = self.0.iter().find(|(former, _)| *former == run);
        former.map_or(current, |(_, key)| key)
    }

    /// These runs hold the `former` key, or will.
    pub(super) fn keep(&mut self, former: &LockKey, current: &LockKey, open: impl Iterator<Item = RunId>) {
        if former == current {
            return;
        }
        for run in open {
            if self.0.iter().all(|(known, _)| *known != run) {
                self.0.list_mut().push((run, former.clone()));
            }
        }
    }

    /// Whatever is not open any more needs its key no more.
    pub(super) fn forget_all_but<I: Iterator<Item = RunId>>(&mut self, open: impl Fn() -> I) {
        if !self.0.is_empty() {
            self.0.list_mut().retain(|(former, _)| open().any(|run| run == *former));
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

        keys.keep(&key("a"), &key("a"), [first].into_iter());
        assert_eq!(keys.key_of(first, &key("a")), &key("a"));
        keys.keep(&key("a"), &key("b"), [first].into_iter());
        keys.keep(&key("b"), &key("c"), [first, second].into_iter());

        let found = [first, second, third].map(|run| keys.key_of(run, &key("c")).clone());
        assert_eq!(found, [key("a"), key("b"), key("c")]);

        keys.forget_all_but(|| [second].into_iter());

        let found = [first, second].map(|run| keys.key_of(run, &key("c")).clone());
        assert_eq!(found, [key("c"), key("b")]);
    }
}
