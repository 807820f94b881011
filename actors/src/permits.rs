//! The node's bound on runs in progress.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::core::job::PermitAnswer;

/// What happens to a run that finds as many others in progress on its node as may be.
///
/// A claim takes a permit before it goes out. While it has no answer the permit is free for others; a run
/// that is granted after all waits for a permit with its key held, in either mode, as an attempt after a
/// failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for the end of one: first the greater [priority](crate::Policies::priority), then what is on time
    /// before what makes up for a missed tick, then who came first. At most one tick of each job waits (more if its policies say so, but only one of them asks).
    #[default]
    Wait,
    /// A tick is skipped, reason `concurrency`, and a manual trigger is refused.
    Skip,
}

/// The permits of one node, and who waits for one.
pub(crate) struct Permits<W> {
    bounded: Option<Mutex<Bounded<W>>>,
    when_full: WhenFull,
}

struct Bounded<W> {
    free: usize,
    asked: u64,
    /// One entry per job at most: a job asks once and waits for the answer.
    waiting: BTreeMap<Place, W>,
}

/// Who waits first: the greater priority, what does not catch up, who came first.
type Place = (Reverse<i8>, bool, u64);

impl<W> Permits<W> {
    pub(crate) fn new(max: Option<usize>, when_full: WhenFull) -> Self {
        let bounded = |free| Mutex::new(Bounded { free, asked: 0, waiting: BTreeMap::new() });
        Self { bounded: max.map(bounded), when_full }
    }

    /// Jobs must ask.
    pub(crate) fn limited(&self) -> bool {
        self.bounded.is_some()
    }

    /// Takes a permit, or keeps in mind who waits for one.
    pub(crate) fn ask(&self, priority: i8, catches_up: bool, waits: impl FnOnce() -> W) -> PermitAnswer {
        let Some(mut permits) = self.lock() else { return PermitAnswer::Granted };
        if permits.free > 0 {
            permits.free -= 1;
            return PermitAnswer::Granted;
        }
        match self.when_full {
            WhenFull::Skip => PermitAnswer::NotAdmitted,
            WhenFull::Wait => {
                let nth = permits.asked;
                permits.asked += 1;
                permits.waiting.insert((Reverse(priority), catches_up, nth), waits());
                PermitAnswer::Wait
            }
        }
    }

    /// Somebody who waits to make up for a missed tick has something to start that is on time.
    pub(crate) fn hurry(&self, priority: i8, is_it: impl Fn(&W) -> bool) {
        let Some(mut permits) = self.lock() else { return };
        let those = (Reverse(priority), true, 0)..=(Reverse(priority), true, u64::MAX);
        let place = permits.waiting.range(those).find(|(_, waits)| is_it(waits)).map(|(place, _)| *place);
        if let Some(place) = place
            && let Some(waits) = permits.waiting.remove(&place)
        {
            let nth = permits.asked;
            permits.asked += 1;
            permits.waiting.insert((place.0, false, nth), waits);
        }
    }

    /// Gives a permit back. Answers who has it from now on, if anybody waits.
    #[must_use]
    pub(crate) fn release(&self) -> Option<W> {
        let mut permits = self.lock()?;
        let next = permits.waiting.pop_first().map(|(_, next)| next);
        if next.is_none() {
            permits.free += 1;
        }
        next
    }

    /// Somebody who waits is gone.
    pub(crate) fn leave(&self, is_gone: impl Fn(&W) -> bool) {
        let left = self.lock().map(|mut permits| {
            let place = permits.waiting.iter().find(|(_, waits)| is_gone(waits)).map(|(place, _)| *place);
            place.and_then(|place| permits.waiting.remove(&place))
        });
        drop(left);
    }

    /// Nobody waits any more: who waits may hold what holds the permits.
    pub(crate) fn close(&self) {
        let waiting = self.lock().map(|mut permits| std::mem::take(&mut permits.waiting));
        drop(waiting);
    }

    fn lock(&self) -> Option<MutexGuard<'_, Bounded<W>>> {
        self.bounded.as_ref().map(|permits| permits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_served_by_priority_and_then_in_order() {
        let permits = Permits::new(Some(1), WhenFull::Wait);
        assert_eq!(permits.ask(0, false, || "first"), PermitAnswer::Granted);
        for (priority, who) in [(0, "a"), (5, "b"), (0, "c"), (5, "d")] {
            assert_eq!(permits.ask(priority, false, || who), PermitAnswer::Wait);
        }

        permits.leave(|who| *who == "d");

        let served: Vec<_> = std::iter::from_fn(|| permits.release()).collect();
        assert_eq!(served, ["b", "a", "c"]);
        assert_eq!(permits.ask(0, false, || "e"), PermitAnswer::Granted, "the permit is free again");
    }

    #[test]
    fn what_is_on_time_goes_before_what_catches_up() {
        let permits = Permits::new(Some(1), WhenFull::Wait);
        assert_eq!(permits.ask(0, true, || "first"), PermitAnswer::Granted);
        for (priority, catches_up, who) in
            [(0, true, "a"), (0, true, "b"), (0, false, "c"), (5, true, "d"), (0, true, "e")]
        {
            assert_eq!(permits.ask(priority, catches_up, || who), PermitAnswer::Wait);
        }

        permits.hurry(0, |who| *who == "b");
        permits.hurry(0, |who| *who == "gone");

        let served: Vec<_> = std::iter::from_fn(|| permits.release()).collect();
        assert_eq!(served, ["d", "c", "b", "a", "e"]);
    }

    #[test]
    fn nobody_waits_where_runs_are_skipped() {
        let permits = Permits::new(Some(1), WhenFull::Skip);
        assert_eq!(permits.ask(0, false, || "first"), PermitAnswer::Granted);

        assert_eq!(permits.ask(9, false, || "second"), PermitAnswer::NotAdmitted);

        assert_eq!(permits.release(), None);
        assert_eq!(permits.ask(9, false, || "second"), PermitAnswer::Granted);
    }

    #[test]
    fn without_a_bound_everybody_may() {
        let permits = Permits::<()>::new(None, WhenFull::Skip);

        assert!((0..100).all(|_| permits.ask(0, false, || ()) == PermitAnswer::Granted));
    }
}
