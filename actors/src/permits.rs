//! The node's bound on runs in progress.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::core::job::PermitAnswer;

/// What happens to a run that finds as many others in progress on its node as may be.
///
/// A claim takes a permit before it goes out. While it has no answer the permit is free for others; a run
/// that is granted after all waits for a permit with its key held, in either mode, as an attempt after a
/// failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for the end of one: first the greater [priority](crate::Policies::priority), then what is on time
    /// before what makes up for a missed tick, then who came first. At most one tick of each job waits (more if its
    /// policies say so, but only one of them asks).
    #[default]
    Wait,
    /// A tick is skipped, reason `concurrency`, and a manual trigger is refused.
    Skip,
}

/// The permits of one node, and who waits for one. Its engines share them.
pub(crate) struct Permits<W> {
    bounded: Option<Arc<Mutex<Bounded<W>>>>,
    when_full: WhenFull,
}

struct Bounded<W> {
    free: usize,
    asked: u64,
    /// One entry per job at most: a job asks once and waits for the answer.
    waiting: BTreeMap<Place, (u64, W)>,
    places: HashMap<u64, Place>,
}

/// Who waits first: the greater priority, what does not catch up, who came first.
type Place = (Reverse<i8>, bool, u64);

impl<W> Bounded<W> {
    /// After all others of its kind.
    fn wait(&mut self, priority: i8, catches_up: bool, job: u64, waits: W) {
        let place = (Reverse(priority), catches_up, self.asked);
        self.asked += 1;
        self.waiting.insert(place, (job, waits));
        self.places.insert(job, place);
    }

    fn leave(&mut self, job: u64) -> Option<W> {
        let place = self.places.remove(&job)?;
        self.waiting.remove(&place).map(|(_, waits)| waits)
    }
}

impl<W> Clone for Permits<W> {
    fn clone(&self) -> Self {
        Self { bounded: self.bounded.clone(), when_full: self.when_full }
    }
}

impl<W> Permits<W> {
    pub(crate) fn new(max: Option<usize>, when_full: WhenFull) -> Self {
        let bounded =
            |free| Mutex::new(Bounded { free, asked: 0, waiting: BTreeMap::new(), places: HashMap::new() });
        Self { bounded: max.map(|free| Arc::new(bounded(free))), when_full }
    }

    /// Jobs must ask.
    pub(crate) fn limited(&self) -> bool {
        self.bounded.is_some()
    }

    /// Takes a permit, or keeps in mind that a job waits for one; whatever it waited for before is forgotten.
    pub(crate) fn ask(
        &self,
        priority: i8,
        catches_up: bool,
        job: u64,
        waits: impl FnOnce() -> W,
    ) -> PermitAnswer {
        let Some(mut permits) = self.lock() else { return PermitAnswer::Granted };
        if permits.free > 0 {
            permits.free -= 1;
            return PermitAnswer::Granted;
        }
        match self.when_full {
            WhenFull::Skip => PermitAnswer::NotAdmitted,
            WhenFull::Wait => {
                let former = permits.leave(job);
                permits.wait(priority, catches_up, job, waits());
                drop(permits);
                drop(former);
                PermitAnswer::Wait
            }
        }
    }

    /// Somebody who waits to make up for a missed tick has something to start that is on time.
    pub(crate) fn hurry(&self, priority: i8, job: u64) {
        let Some(mut permits) = self.lock() else { return };
        if let Some(waits) = permits.leave(job) {
            permits.wait(priority, false, job, waits);
        }
    }

    /// Gives a permit back. Answers who has it from now on, if anybody waits.
    #[must_use]
    pub(crate) fn release(&self) -> Option<W> {
        let mut permits = self.lock()?;
        let Some((_, (job, next))) = permits.waiting.pop_first() else {
            permits.free += 1;
            return None;
        };
        permits.places.remove(&job);
        Some(next)
    }

    /// Somebody who waits is gone.
    pub(crate) fn leave(&self, job: u64) {
        let left = self.lock().and_then(|mut permits| permits.leave(job));
        drop(left);
    }

    /// None of these wait any more: who waits may hold what holds the permits.
    pub(crate) fn close(&self, mut is_over: impl FnMut(&W) -> bool) {
        let left = self.lock().map(|mut permits| {
            let over: Vec<_> =
                permits.waiting.values().filter(|(_, waits)| is_over(waits)).map(|(job, _)| *job).collect();
            over.into_iter().filter_map(|job| permits.leave(job)).collect::<Vec<_>>()
        });
        drop(left);
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
        assert_eq!(permits.ask(0, false, 0, || "first"), PermitAnswer::Granted);
        for (job, (priority, who)) in (1..).zip([(0, "a"), (5, "b"), (0, "c"), (5, "d")]) {
            assert_eq!(permits.ask(priority, false, job, || who), PermitAnswer::Wait);
        }

        permits.leave(4);
        permits.leave(77);

        let served: Vec<_> = std::iter::from_fn(|| permits.release()).collect();
        assert_eq!(served, ["b", "a", "c"]);
        assert_eq!(permits.ask(0, false, 9, || "e"), PermitAnswer::Granted, "the permit is free again");
    }

    #[test]
    fn what_is_on_time_goes_before_what_catches_up() {
        let permits = Permits::new(Some(1), WhenFull::Wait);
        assert_eq!(permits.ask(0, true, 0, || "first"), PermitAnswer::Granted);
        let asked = [(0, true, "a"), (0, true, "b"), (0, false, "c"), (5, true, "d"), (0, true, "e")];
        for (job, (priority, catches_up, who)) in (1..).zip(asked) {
            assert_eq!(permits.ask(priority, catches_up, job, || who), PermitAnswer::Wait);
        }

        permits.hurry(0, 2);
        permits.hurry(0, 77);

        let served: Vec<_> = std::iter::from_fn(|| permits.release()).collect();
        assert_eq!(served, ["d", "c", "b", "a", "e"]);
    }

    #[test]
    fn who_hurries_is_found_by_its_job_and_has_the_priority_that_it_has_now() {
        let permits = Permits::new(Some(1), WhenFull::Wait);
        assert_eq!(permits.ask(0, false, 0, || "first"), PermitAnswer::Granted);
        for (job, who) in (1..).zip(["a", "b"]) {
            assert_eq!(permits.ask(0, true, job, || who), PermitAnswer::Wait);
        }

        permits.hurry(5, 2);
        assert_eq!(permits.ask(3, false, 3, || "c"), PermitAnswer::Wait);

        let served: Vec<_> = std::iter::from_fn(|| permits.release()).collect();
        assert_eq!(served, ["b", "c", "a"]);
    }

    #[test]
    fn an_engine_that_stops_takes_only_its_own_jobs_out_of_the_queue() {
        let permits = Permits::new(Some(1), WhenFull::Wait);
        let of_other_engine = permits.clone();
        assert_eq!(permits.ask(0, false, 0, || "first"), PermitAnswer::Granted);
        for (job, who) in (1..).zip(["mine", "other", "mine"]) {
            assert_eq!(permits.ask(0, false, job, || who), PermitAnswer::Wait);
        }

        permits.close(|waits| *waits == "mine");

        assert_eq!(of_other_engine.release(), Some("other"));
        assert_eq!(of_other_engine.release(), None);
    }

    #[test]
    fn nobody_waits_where_runs_are_skipped() {
        let permits = Permits::new(Some(1), WhenFull::Skip);
        assert_eq!(permits.ask(0, false, 0, || "first"), PermitAnswer::Granted);

        assert_eq!(permits.ask(9, false, 1, || "second"), PermitAnswer::NotAdmitted);

        assert_eq!(permits.release(), None);
        assert_eq!(permits.ask(9, false, 1, || "second"), PermitAnswer::Granted);
    }

    #[test]
    fn without_a_bound_everybody_may() {
        let permits = Permits::<()>::new(None, WhenFull::Skip);

        assert!((0..100).all(|_| permits.ask(0, false, 0, || ()) == PermitAnswer::Granted));
    }
}
