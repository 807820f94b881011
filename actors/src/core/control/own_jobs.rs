//! What a node says of the jobs that it has by its code.

use std::sync::Arc;

use super::JobSet;

/// Decides when the jobs of a node's code are counted, and when the other nodes are to be told.
#[derive(Debug, Default)]
pub(crate) struct OwnJobs {
    now: Stamp,
    /// What was counted, after so many changes.
    counted: Option<(u64, JobSet)>,
    /// What was said in this session.
    said: Option<Arc<str>>,
}

/// A session of the node, and how often its jobs had changed then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    session: u64,
    changes: u64,
}

impl OwnJobs {
    /// A session was opened, in which nothing was said yet.
    pub(crate) fn session_opened(&mut self) {
        self.now.session += 1;
        self.said = None;
    }

    /// A job of the node's code was added, changed or removed.
    pub(crate) fn changed(&mut self) {
        self.now.changes += 1;
    }

    /// What a count that begins now is of.
    pub(crate) fn stamp(&self) -> Stamp {
        self.now
    }

    /// The jobs, if they were counted and have not changed since.
    pub(crate) fn known(&self) -> Option<JobSet> {
        self.counted.filter(|(changes, _)| *changes == self.now.changes).map(|(_, set)| set)
    }

    /// The jobs were counted, page by page, without a change meanwhile.
    pub(crate) fn counted(&mut self, set: JobSet) {
        self.counted = Some((self.now.changes, set));
    }

    /// Whether the other nodes do not know this text yet.
    pub(crate) fn is_news(&self, text: &str) -> bool {
        self.said.as_deref() != Some(text)
    }

    /// The other nodes were told. Answers whether that was in this session: what was said in a former one is gone.
    pub(crate) fn said(&mut self, of: Stamp, text: Arc<str>) -> bool {
        let is_now = of.session == self.now.session;
        if is_now {
            self.said = Some(text);
        }
        is_now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_in_a_former_session_is_said_again() {
        let mut own = OwnJobs::default();
        own.session_opened();
        let stamp = own.stamp();
        assert!(own.is_news("a"));

        assert!(own.said(stamp, "a".into()));
        assert!(!own.is_news("a") && own.is_news("b"));
        own.session_opened();
        assert!(own.is_news("a"));
        assert!(!own.said(stamp, "a".into()), "the answer comes late");
        assert!(own.is_news("a"));
    }

    #[test]
    fn jobs_are_counted_anew_after_each_change() {
        let mut own = OwnJobs::default();
        let mut set = JobSet::default();
        set.add("a", "1");
        assert_eq!(own.known(), None);

        let stamp = own.stamp();
        own.counted(set);
        assert_eq!((own.known(), own.stamp()), (Some(set), stamp));
        own.session_opened();
        assert_eq!(own.known(), Some(set), "they are the same in another session");
        own.changed();
        assert_eq!(own.known(), None);
        assert_ne!(own.stamp(), stamp, "a count that has begun is of no use");
    }
}
