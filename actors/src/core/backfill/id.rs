//! Identities of backfills and of their runs.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::RunId;

/// One backfill: a UUID of version 8, made by the node that was asked for it. It grows with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackfillId(Uuid);

/// Where the version of a UUID stands.
const VERSION: u128 = 0xf << 76;
/// The version of ids whose layout is the application's own.
const OWN_LAYOUT: u128 = 8 << 76;
/// The twelve bits behind the version: 0 in the id of the backfill, from 1 in those of its runs.
const NTH_AT: u32 = 64;
const NTH: u128 = 0xfff << NTH_AT;

impl BackfillId {
    /// Of an id that no run has yet.
    pub(crate) fn new(spare: RunId) -> Self {
        Self(Uuid::from_u128(spare.as_uuid().as_u128() & !(VERSION | NTH) | OWN_LAYOUT))
    }

    /// The backfill of which this is a run, and of which of its fire times, from 0. `None` for any other run.
    pub fn of_run(run: RunId) -> Option<(Self, u32)> {
        let run = run.as_uuid().as_u128();
        let nth = u32::try_from((run & NTH) >> NTH_AT).ok()?.checked_sub(1)?;
        (run & VERSION == OWN_LAYOUT).then(|| (Self(Uuid::from_u128(run & !NTH)), nth))
    }

    /// The run of one of its fire times, from 0: the same whoever asks for it, and however often. A claim of
    /// it can be granted once.
    pub fn run(&self, nth: u32) -> RunId {
        let nth = (u128::from(nth) + 1) << NTH_AT & NTH;
        RunId::from(Uuid::from_u128(self.0.as_u128() | nth))
    }

    /// The id as a UUID.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for BackfillId {
    /// The backfill that a store knows by this UUID.
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for BackfillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        core::backfill::BACKFILL_TICKS_MAX,
        name::{NodeId, RunIds},
    };

    fn ids() -> Vec<RunId> {
        let ids = RunIds::of(NodeId::numbered(7));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        (0..100).map(|_| ids.next(now)).collect()
    }

    #[test]
    fn a_run_says_of_which_backfill_and_fire_time_it_is() {
        for backfill in ids().into_iter().map(BackfillId::new) {
            for nth in [0, 1, 999] {
                assert_eq!(BackfillId::of_run(backfill.run(nth)), Some((backfill, nth)));
            }
        }
        assert!(ids().into_iter().all(|run| BackfillId::of_run(run).is_none()), "others are of none");
    }

    #[test]
    fn no_two_runs_of_backfills_are_alike() {
        let nths = 0..u32::try_from(BACKFILL_TICKS_MAX).unwrap();
        let backfills = ids().into_iter().map(BackfillId::new);
        let runs: BTreeSet<_> = backfills.flat_map(|one| nths.clone().map(move |nth| one.run(nth))).collect();

        assert_eq!(runs.len(), 100 * BACKFILL_TICKS_MAX);
    }

    #[test]
    fn runs_of_a_backfill_are_as_old_as_it() {
        let spare = ids()[0];
        assert_eq!(BackfillId::new(spare).run(5).made_at(), spare.made_at());
        assert_eq!(BackfillId::new(spare).run(5).as_uuid().get_version_num(), 8);
    }
}
