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
    /// A leader before may have started it, or not: it could not say so before its term was over. Or another node may
    /// have: the servers that [voted](crate::port::TickVotes) on it have forgotten how. Only where claims are kept in
    /// the memory of the nodes: see [`Elected`](crate::adapter::Elected).
    Unproven,
    /// No majority of servers gave it to a node within the window of its [misfire policy](crate::Misfire), nor said
    /// which node has it. Only where [any node](crate::Fires::AnyNode) asks for
    /// [votes](crate::port::TickVotes): another node may have run it.
    Contended,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Misfire,
        Self::Overlap,
        Self::Paused,
        Self::Concurrency,
        Self::Parked,
        Self::Removed,
        Self::Operator,
        Self::Unproven,
        Self::Contended,
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
    Unproven: "unproven",
    Contended: "contended",
});

/// How many ticks were skipped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skips {
    /// Of every reason but the last two.
    counts: [u32; COUNTS],
    /// There are as many in the seconds after a change of the lead at most: a job keeps several such values, and
    /// these have no room for another large number.
    unproven: u16,
    /// One at a time.
    contended: u8,
    /// There may have been more: counting stopped at its bound.
    pub at_least: bool,
}

const COUNTS: usize = SkipReason::ALL.len() - 2;
const _: () =
    assert!(SkipReason::Unproven as usize == COUNTS && SkipReason::Contended as usize == COUNTS + 1);

impl Skips {
    /// `count` ticks that were skipped for `reason`.
    pub fn new(reason: SkipReason, count: u64, at_least: bool) -> Self {
        let mut skips = Self { at_least, ..Self::default() };
        skips.add(reason, count);
        skips
    }

    /// Adds `count` ticks that were skipped for `reason`. A count that is full stays as it is, and is too small.
    pub fn add(&mut self, reason: SkipReason, count: u64) {
        match self.counts.get_mut(reason as usize) {
            Some(counted) => {
                let sum = u64::from(*counted).saturating_add(count);
                self.at_least |= sum > u64::from(u32::MAX);
                *counted = u32::try_from(sum).unwrap_or(u32::MAX);
            }
            None if reason == SkipReason::Contended => {
                let sum = u64::from(self.contended).saturating_add(count);
                self.at_least |= sum > u64::from(u8::MAX);
                self.contended = u8::try_from(sum).unwrap_or(u8::MAX);
            }
            None => {
                let sum = u64::from(self.unproven).saturating_add(count);
                self.at_least |= sum > u64::from(u16::MAX);
                self.unproven = u16::try_from(sum).unwrap_or(u16::MAX);
            }
        }
    }

    /// How many were skipped for `reason`.
    pub fn of(&self, reason: SkipReason) -> u64 {
        match self.counts.get(reason as usize) {
            Some(count) => u64::from(*count),
            None if reason == SkipReason::Contended => self.contended.into(),
            None => self.unproven.into(),
        }
    }

    /// The same without those that were skipped for `reason`.
    #[must_use]
    pub(crate) fn without(mut self, reason: SkipReason) -> Self {
        match self.counts.get_mut(reason as usize) {
            Some(count) => *count = 0,
            None if reason == SkipReason::Contended => self.contended = 0,
            None => self.unproven = 0,
        }
        self
    }

    /// The same, but `count` of those that were skipped for one reason are so for another one.
    #[must_use]
    pub(crate) fn moved(self, from: SkipReason, to: SkipReason, count: u64) -> Self {
        let kept = self.of(from);
        let moved = kept.min(count);
        let mut skips = self.without(from);
        skips.add(from, kept - moved);
        skips.add(to, moved);
        skips
    }

    /// Adds all that `other` counts.
    pub fn extend(&mut self, other: &Self) {
        for reason in SkipReason::ALL {
            self.add(reason, other.of(reason));
        }
        self.at_least |= other.at_least;
    }

    /// How many were skipped in all.
    pub fn total(&self) -> u64 {
        SkipReason::ALL.iter().map(|reason| self.of(*reason)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_for_itself_and_a_full_count_says_so() {
        for (nth, reason) in (1..).zip(SkipReason::ALL) {
            let mut skips = Skips::new(reason, nth, false);
            skips.extend(&Skips::new(reason, 1, false));
            assert_eq!((skips.of(reason), skips.total(), skips.at_least), (nth + 1, nth + 1, false));
            let others = SkipReason::ALL.into_iter().filter(|other| *other != reason);
            assert!(others.map(|other| skips.of(other)).all(|count| count == 0), "{reason}");
            assert_eq!(skips.without(reason).total(), 0);

            let to = if reason == SkipReason::Misfire { SkipReason::Paused } else { SkipReason::Misfire };
            let moved = skips.moved(reason, to, 1);
            assert_eq!((moved.of(reason), moved.of(to)), (nth, 1));

            skips.add(reason, u64::MAX);
            assert!(skips.at_least && skips.of(reason) >= u64::from(u8::MAX), "{reason}");
        }
        assert_eq!(size_of::<Skips>(), 32);
    }
}
