//! Runs with arguments of their own: their ids say so.
//!
//! The store keeps a run's id, and not the arguments that a trigger gave to it. So whoever finds that such a run was
//! lost knows that it cannot go on, rather than that it goes on with the arguments of its job.

use uuid::Uuid;

use crate::name::RunId;

/// A bit behind the variant of the UUID that ids made for anything else leave at zero.
const MARK: u128 = 1 << 60;

impl RunId {
    /// Whether it is of a run that was triggered with [arguments of its own](crate::TriggerJob::arguments).
    pub fn has_own_arguments(&self) -> bool {
        self.as_uuid().as_u128() & MARK != 0
    }

    /// The id of a run that has arguments of its own.
    #[must_use]
    pub(crate) fn with_own_arguments(self) -> Self {
        Self::from(Uuid::from_u128(self.as_uuid().as_u128() | MARK))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        core::backfill::BackfillId,
        name::{NodeId, RunIds},
    };

    #[test]
    fn only_the_mark_says_that_a_run_has_arguments_of_its_own() {
        let ids = RunIds::of(NodeId::numbered(u128::MAX));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();

        // The bits of the count come close to the mark.
        for run in (0..70_000).map(|_| ids.next(now)) {
            assert!(!run.has_own_arguments(), "{run}");
            assert!(!BackfillId::new(run).run(7).has_own_arguments(), "{run}");
            let marked = run.with_own_arguments();
            assert!(marked.has_own_arguments() && marked != run, "{run}");
            assert_eq!((marked.made_at(), BackfillId::of_run(marked)), (run.made_at(), None));
            assert_eq!(marked.as_uuid().get_version_num(), 7, "{marked}");
        }
    }
}
