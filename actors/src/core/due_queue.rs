//! Who is to be woken up when, the soonest first: a heap that knows where each member is.
//!
//! A member has one instant at most. To set it anew moves one entry, and allocates nothing. A node has four
//! children, which lie side by side: half the levels of a heap with two, and hardly more to look at.

use std::mem;

const CHILDREN: usize = 4;

/// The place of a member that is not in the heap.
const NOWHERE: u32 = u32::MAX;

/// The members that are to be woken up. They are numbered, from 0 on.
#[derive(Debug, Default)]
pub(crate) struct DueQueue {
    heap: Vec<Due>,
    /// Where in the heap each member is.
    places: Vec<u32>,
}

/// By the instant; those of one instant in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    member: u32,
}

impl DueQueue {
    /// The member that is due first, and when.
    pub(crate) fn first(&self) -> Option<(u32, u64)> {
        self.heap.first().map(|due| (due.member, due.at))
    }

    /// The member is due at an instant from now on, or never.
    pub(crate) fn set(&mut self, member: u32, at: Option<u64>) {
        let number = member as usize;
        if number >= self.places.len() {
            self.places.resize(number + 1, NOWHERE);
        }
        let place = self.places[number];
        match (at, place) {
            (None, NOWHERE) => {}
            (None, place) => self.remove(place as usize),
            (Some(at), NOWHERE) => {
                self.heap.push(Due { at, member });
                self.rise(self.heap.len() - 1);
            }
            (Some(at), place) => {
                let place = place as usize;
                if at < mem::replace(&mut self.heap[place].at, at) {
                    self.rise(place);
                } else {
                    self.sink(place);
                }
            }
        }
    }

    /// Gives back the memory for members from this number on that are not in it.
    pub(crate) fn shrink_to(&mut self, members: usize) {
        while self.places.len() > members && self.places.last() == Some(&NOWHERE) {
            self.places.pop();
        }
        self.places.shrink_to(2 * members);
        self.heap.shrink_to(2 * members);
    }

    fn remove(&mut self, place: usize) {
        let removed = self.heap.swap_remove(place);
        self.places[removed.member as usize] = NOWHERE;
        if let Some(moved) = self.heap.get(place) {
            if *moved < removed {
                self.rise(place);
            } else {
                self.sink(place);
            }
        }
    }

    fn rise(&mut self, mut place: usize) {
        let due = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if self.heap[parent] <= due {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, due);
    }

    fn sink(&mut self, mut place: usize) {
        let due = self.heap[place];
        loop {
            let first = place * CHILDREN + 1;
            let last = self.heap.len().min(first + CHILDREN);
            let children = first.min(last)..last;
            let Some(soonest) = children.min_by_key(|child| self.heap[*child]) else { break };
            if due <= self.heap[soonest] {
                break;
            }
            self.put(place, self.heap[soonest]);
            place = soonest;
        }
        self.put(place, due);
    }

    fn put(&mut self, place: usize, due: Due) {
        self.heap[place] = due;
        self.places[due.member as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A few numbers that look like chance, always the same.
    fn numbers() -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn the_first_is_the_soonest_whatever_was_set_before() {
        let (mut queue, mut expected) = (DueQueue::default(), BTreeSet::new());
        let mut instants = [None; 100];
        let mut number = numbers();

        for _ in 0..20_000 {
            let member = number(100);
            let at = Some(number(1_000)).filter(|at| at % 4 > 0);
            let former = mem::replace(&mut instants[member as usize], at);
            expected.retain(|due| Some(*due) != former.map(|former| (former, member as u32)));
            expected.extend(at.map(|at| (at, member as u32)));

            queue.set(member as u32, at);

            assert_eq!(queue.first(), expected.first().map(|(at, member)| (*member, *at)));
        }
        let mut left = Vec::new();
        while let Some((member, at)) = queue.first() {
            left.push((at, member));
            queue.set(member, None);
        }
        assert!(left.len() > 50 && left.iter().eq(&expected), "{left:?}");
    }

    #[test]
    fn the_memory_of_those_that_are_gone_is_given_back() {
        let mut queue = DueQueue::default();
        (0..1_000).for_each(|member| queue.set(member, Some(u64::from(member))));
        (10..1_000).filter(|member| *member != 500).for_each(|member| queue.set(member, None));

        queue.shrink_to(10);
        assert_eq!((queue.places.len(), queue.heap.len()), (501, 11), "that one is still to be woken up");
        queue.set(500, None);
        queue.shrink_to(10);

        assert!(queue.places.capacity() <= 20 && queue.heap.capacity() <= 20, "{queue:?}");
        queue.set(0, None);
        queue.set(999, Some(0));
        assert_eq!(queue.first(), Some((999, 0)));
    }

    #[test]
    fn who_is_due_at_the_same_instant_comes_in_the_order_of_the_numbers() {
        let mut queue = DueQueue::default();
        [3, 1, 4, 0, 2].into_iter().for_each(|member| queue.set(member, Some(7)));

        let order = [(); 5].map(|()| {
            let first = queue.first().map(|(member, _)| member);
            first.into_iter().for_each(|member| queue.set(member, None));
            first
        });

        assert_eq!(order, [0, 1, 2, 3, 4].map(Some));
        assert_eq!(queue.first(), None);
    }
}
