//! The places of a cast: an actor has one from before it is started until it has stopped.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The places of a cast, numbered from 0 on.
///
/// The lowest that is free is taken first, and those at the end are given up when they are free: a cast of
/// which most actors have stopped needs no more room than the highest of the others.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// All from here on are free.
    end: u32,
    /// Those before it that are free.
    free: BTreeSet<u32>,
}

impl Places {
    /// Takes a place.
    pub(super) fn take(&self) -> u32 {
        let mut taken = self.lock();
        taken.free.pop_first().unwrap_or_else(|| {
            taken.end += 1;
            taken.end - 1
        })
    }

    /// The place is free again.
    pub(super) fn give_back(&self, place: u32) {
        let mut taken = self.lock();
        taken.free.insert(place);
        while taken.free.last().is_some_and(|last| last + 1 == taken.end) {
            taken.free.pop_last();
            taken.end -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_place_is_taken_first() {
        let places = Places::default();
        assert_eq!([(); 5].map(|()| places.take()), [0, 1, 2, 3, 4]);

        [3, 0, 2].into_iter().for_each(|place| places.give_back(place));

        assert_eq!([(); 4].map(|()| places.take()), [0, 2, 3, 5]);
    }

    #[test]
    fn what_was_taken_by_a_crowd_is_given_up() {
        let places = Places::default();
        (0..1_000).map(|_| places.take()).for_each(|_| {});

        (0..1_000).filter(|place| place % 10 != 0).for_each(|place| places.give_back(place));
        {
            let taken = places.lock();
            assert_eq!((taken.end, taken.free.len()), (991, 891), "the last of them is still there");
        }
        (0..1_000).filter(|place| place % 10 == 0).rev().for_each(|place| places.give_back(place));

        let taken = places.lock();
        assert_eq!((taken.end, taken.free.len()), (0, 0));
    }
}
