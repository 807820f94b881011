//! Ticks that do not run.

use serde::{Deserialize, Serialize};

use crate::word::words;

/// Why a tick did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// Its time passed without a run and the misfire policy does not make up for it.
    Misfire,
    /// A run of the same lock key was in progress.
    Overlap,
    /// The job was paused.
    Paused,
    /// The node runs as many bodies as it may.
    Concurrency,
    /// The store refuses the job for its data: [`JobState::Parked`](crate::JobState::Parked). It is counted
    /// by the node that would have fired it, when it is skipped.
    Parked,
    /// Its job was removed by the leader, or got another schedule, while it was due and not decided.
    Removed,
    /// Somebody asked that what was missed is [skipped](crate::SkipMissed).
    Operator,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Misfire,
        Self::Overlap,
        Self::Paused,
        Self::Concurrency,
        Self::Parked,
        Self::Removed,
        Self::Operator,
    ];
}

words!(SkipReason {
    Misfire: "misfire",
    Overlap: "overlap",
    Paused: "paused",
    Concurrency: "concurrency",
    Parked: "parked",
    Removed: "removed",
    Operator: "operator",
});

/// How many ticks were skipped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skips {
    counts: [u32; SkipReason::ALL.len()],
    /// There may have been more: counting stopped at its bound.
    pub at_least: bool,
}

impl Skips {
    /// `count` ticks that were skipped for `reason`.
    pub fn new(reason: SkipReason, count: u64, at_least: bool) -> Self {
        let mut skips = Self { at_least, ..Self::default() };
        skips.add(reason, count);
        skips
    }

    /// Adds `count` ticks that were skipped for `reason`.
    pub fn add(&mut self, reason: SkipReason, count: u64) {
        self.add_to(reason as usize, count);
    }

    /// How many were skipped for `reason`.
    pub fn of(&self, reason: SkipReason) -> u64 {
        self.counts[reason as usize].into()
    }

    /// The same without those that were skipped for `reason`.
    #[must_use]
    pub(crate) fn without(mut self, reason: SkipReason) -> Self {
        self.counts[reason as usize] = 0;
        self
    }

    /// The same, but `count` of those that were skipped for one reason are so for another one.
    #[must_use]
    pub(crate) fn moved(mut self, from: SkipReason, to: SkipReason, count: u64) -> Self {
        let moved = self.counts[from as usize].min(u32::try_from(count).unwrap_or(u32::MAX));
        self.counts[from as usize] -= moved;
        self.add(to, moved.into());
        self
    }

    /// Adds all that `other` counts.
    pub fn extend(&mut self, other: &Self) {
        for (nth, more) in other.counts.into_iter().enumerate() {
            self.add_to(nth, more.into());
        }
        self.at_least |= other.at_least;
    }

    /// How many were skipped in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// A count that is full stays as it is, and is too small.
    fn add_to(&mut self, nth: usize, more: u64) {
        let sum = u64::from(self.counts[nth]).saturating_add(more);
        self.at_least |= sum > u64::from(u32::MAX);
        self.counts[nth] = u32::try_from(sum).unwrap_or(u32::MAX);
    }
}
