//! The due ticks that wait, and the skipped ticks between them.

use std::{
    collections::{VecDeque, vec_deque::Iter},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Effect, Effects};
use crate::{
    core::{
        contract::MILLISECOND,
        seldom::SeldomQueue,
        time::{FireTime, Now},
    },
    port::{SkipReason, Skips},
};

/// A due tick that may still run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) tick: FireTime,
    /// The skipped ticks between it and the one that waits before it, or the stored cursor.
    pub(super) skips: Skips,
    /// The newest of these.
    pub(super) skipped_to: Option<FireTime>,
    /// Those of them that were missed, and of which it is said only when this tick is decided: the store may
    /// find that none is due.
    pub(super) missed: Option<Missed>,
    /// The greatest lateness at which it may run.
    pub(super) window: Duration,
    /// It was said that somebody else holds its key: once, however often it asks.
    pub(super) contended: bool,
    pub(super) turn: CatchUpTurn,
}

/// How far a tick is that was missed, and that has to wait for its turn so that not all are made up for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatchUpTurn {
    /// It needs none: it was taken in on time.
    NotNeeded,
    /// It is to be asked for once nothing else keeps the tick from running.
    Needed,
    /// The node was asked for it.
    Requested,
    /// It is the tick's turn, or was before.
    Had,
}

impl CatchUpTurn {
    /// The tick has to wait for it.
    pub(super) fn is_to_come(self) -> bool {
        match self {
            Self::Needed | Self::Requested => true,
            Self::NotNeeded | Self::Had => false,
        }
    }
}

impl Waiting {
    /// The one that waited before it is missed.
    pub(super) fn follow_missed(&mut self, before: Waiting) {
        let Waiting { tick, mut skips, missed, .. } = before;
        skips.add(SkipReason::Misfire, 1);
        self.skips.extend(&skips);
        self.skipped_to.get_or_insert(tick);
        let earlier = [missed, self.missed].into_iter().flatten();
        let (count, at_least) = earlier
            .fold((1, false), |(count, at_least), more| (count + more.count, at_least | more.at_least));
        let first = missed.map_or(tick, |missed| missed.first);
        let newest = self.missed.map_or(tick, |missed| missed.newest);
        self.missed = Some(Missed { first, newest, count, at_least });
    }

    pub(super) fn is_too_late(&self, now: Now) -> bool {
        self.tick.lateness(now.wall) > self.window
    }

    /// The first instant at which it is too late.
    pub(super) fn too_late_at(&self) -> Option<DateTime<Utc>> {
        let window = TimeDelta::from_std(self.window).ok()?;
        self.tick.instant().checked_add_signed(window)?.checked_add_signed(MILLISECOND)
    }
}

/// Ticks that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) first: FireTime,
    pub(crate) newest: FireTime,
    pub(crate) count: u64,
    pub(crate) at_least: bool,
}

impl Missed {
    /// One tick.
    pub(super) fn one(tick: FireTime) -> Self {
        Self { first: tick, newest: tick, count: 1, at_least: false }
    }

    /// These and others, which come later.
    pub(crate) fn with(self, later: Self) -> Self {
        let count = self.count.saturating_add(later.count);
        Self { newest: later.newest, count, at_least: self.at_least | later.at_least, ..self }
    }
}

/// Says that ticks were missed.
pub(super) fn announce(missed: Option<Missed>, effects: &mut Effects) {
    if let Some(Missed { first, newest, count, at_least }) = missed {
        effects.push(Effect::Skipped { first, newest, reason: SkipReason::Misfire, count, at_least });
    }
}

/// The due ticks that wait, in their order, and the skipped ticks of which the store does not know yet.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: SeldomQueue<Waiting>,
    /// The ticks that were skipped after the last one that waits, or after the stored cursor if none does.
    skips: Skips,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn iter(&self) -> Iter<'_, Waiting> {
        self.waiting.iter()
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Waiting> {
        self.waiting.front_mut()
    }

    pub(super) fn pop_front(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// It goes on waiting, or waits again.
    pub(super) fn push_front(&mut self, waiting: Waiting) {
        self.waiting.queue_mut().push_front(waiting);
    }

    /// A newer one waits.
    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.waiting.queue_mut().push_back(waiting);
    }

    /// Takes all that wait.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Waiting> {
        self.waiting.take()
    }

    /// Nothing waits, and nothing is skipped.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// An idle job keeps no memory for what waits.
    pub(super) fn shrink_if_empty(&mut self) {
        self.waiting.shrink_if_empty();
    }

    /// Ticks were skipped that come after everything that waits.
    pub(super) fn skip_after_all(&mut self, skips: &Skips) {
        self.skips.extend(skips);
    }

    /// One was skipped that waited before everything that waits now.
    pub(super) fn skip_before_all(&mut self, skipped: Waiting, reason: SkipReason) {
        let mut skips = skipped.skips;
        skips.add(reason, 1);
        match self.waiting.front_mut() {
            Some(following) => {
                following.skips.extend(&skips);
                following.skipped_to.get_or_insert(skipped.tick);
            }
            None => self.skips.extend(&skips),
        }
    }

    /// Takes the skips that come after everything that waits, and the newest of these ticks: the last one
    /// that is `decided`.
    pub(super) fn take_last_skips(&mut self, decided: DateTime<Utc>) -> (Skips, Option<FireTime>) {
        let skips = std::mem::take(&mut self.skips);
        (skips, (skips.total() > 0).then(|| FireTime::new(decided)))
    }

    /// Takes the skips that come first, before anything that waits, and the newest of these ticks.
    pub(super) fn take_first_skips(&mut self, decided: DateTime<Utc>) -> (Skips, Option<FireTime>) {
        match self.waiting.front_mut() {
            Some(first) => (std::mem::take(&mut first.skips), first.skipped_to.take()),
            None => self.take_last_skips(decided),
        }
    }

    /// What was asked for a turn is to be asked again.
    pub(super) fn forget_turns(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.turn == CatchUpTurn::Requested) {
            waiting.turn = CatchUpTurn::Needed;
        }
    }

    /// The pause that held what waits is over: what is late by now waits for its turn.
    pub(super) fn need_turns(&mut self, is_late: impl Fn(FireTime) -> bool) {
        for waiting in self.waiting.iter_mut().filter(|waiting| is_late(waiting.tick)) {
            if waiting.turn == CatchUpTurn::NotNeeded {
                waiting.turn = CatchUpTurn::Needed;
            }
        }
    }

    /// Ticks were skipped after the first one that waits.
    pub(super) fn has_later_skips(&self) -> bool {
        self.waiting.iter().skip(1).any(|waiting| waiting.skipped_to.is_some()) || self.skips.total() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::tests::at;

    fn tick(time: &str) -> FireTime {
        FireTime::new(at(time))
    }

    fn waiting(time: &str) -> Waiting {
        Waiting {
            tick: tick(time),
            skips: Skips::default(),
            skipped_to: None,
            missed: None,
            window: Duration::from_secs(60),
            contended: false,
            turn: CatchUpTurn::NotNeeded,
        }
    }

    fn backlog(ticks: &[&str]) -> Backlog {
        Backlog { waiting: ticks.iter().map(|tick| waiting(tick)).collect(), ..Backlog::default() }
    }

    fn overlaps(count: u64) -> Skips {
        Skips::new(SkipReason::Overlap, count, false)
    }

    #[test]
    fn what_is_skipped_first_belongs_to_the_tick_that_waits_behind_it() {
        for (ticks, first, to) in [
            // Those that wait, and the newest tick of the first skips.
            (&["02:00", "03:00"][..], 1, Some("01:00")),
            // Nothing waits: all skips are one.
            (&[], 3, Some("04:00")),
        ] {
            let mut backlog = backlog(ticks);
            backlog.skip_after_all(&overlaps(2));

            backlog.skip_before_all(waiting("01:00"), SkipReason::Overlap);
            let (skips, newest) = backlog.take_first_skips(at("04:00"));

            assert_eq!((skips, newest), (overlaps(first), to.map(tick)), "{ticks:?}");
            assert_eq!(backlog.has_later_skips(), !ticks.is_empty());
        }
    }

    #[test]
    fn skips_that_were_taken_are_gone() {
        for ticks in [&["02:00"][..], &[]] {
            let mut backlog = backlog(ticks);
            backlog.skip_before_all(waiting("01:00"), SkipReason::Paused);

            backlog.take_first_skips(at("01:00"));

            assert_eq!(backlog.take_first_skips(at("01:00")), (Skips::default(), None), "{ticks:?}");
        }
    }

    #[test]
    fn a_missed_tick_is_told_with_those_that_were_missed_before_it() {
        let missed = |first, newest, count, at_least| {
            Some(Missed { first: tick(first), newest: tick(newest), count, at_least })
        };
        for (earlier, own, together) in [
            (None, None, missed("01:00", "01:00", 1, false)),
            (missed("00:20", "00:30", 4, true), None, missed("00:20", "01:00", 5, true)),
            (None, missed("01:20", "01:30", 2, false), missed("01:00", "01:30", 3, false)),
            (
                missed("00:20", "00:30", 4, true),
                missed("01:20", "01:30", 2, false),
                missed("00:20", "01:30", 7, true),
            ),
        ] {
            let before = Waiting { missed: earlier, skips: overlaps(1), ..waiting("01:00") };
            let mut following = Waiting { missed: own, ..waiting("02:00") };

            following.follow_missed(before);

            assert_eq!((following.missed, following.skipped_to), (together, Some(tick("01:00"))));
            assert_eq!(following.skips.total(), 2);
        }
    }

    #[test]
    fn a_tick_is_too_late_from_the_millisecond_after_its_window_on() {
        let it = waiting("01:00");
        assert_eq!(it.too_late_at(), Some(at("01:01:00.001")));

        let endless = Waiting { window: Duration::MAX, ..it };

        assert_eq!(endless.too_late_at(), None);
    }
}
