//! A list, and a queue, that are nearly always empty.

use std::{
    collections::{
        VecDeque,
        vec_deque::{Iter, IterMut},
    },
    ops::{Deref, DerefMut},
};

/// A list that is nearly always empty, and as small as a pointer until it is filled for the first time.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::box_collection, reason = "there are many, and a vector takes three times as much in each")]
pub(crate) struct Seldom<T>(Option<Box<Vec<T>>>);

impl<T> Seldom<T> {
    /// The list, to be filled or emptied.
    pub(crate) fn list_mut(&mut self) -> &mut Vec<T> {
        self.0.get_or_insert_default()
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Seldom<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |list| list)
    }
}

impl<T> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |list| list)
    }
}

/// A queue that is nearly always empty, and as small as a pointer until it is filled for the first time.
#[derive(Debug)]
#[allow(clippy::box_collection, reason = "there are many, and a queue takes four times as much in each")]
pub(crate) struct SeldomQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> SeldomQueue<T> {
    /// The queue, to be filled or emptied.
    pub(crate) fn queue_mut(&mut self) -> &mut VecDeque<T> {
        self.0.get_or_insert_default()
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    /// The first.
    pub(crate) fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    /// The first.
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.front_mut()
    }

    /// Takes the first.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    /// All, in their order.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        self.0.as_ref().map_or_else(Iter::default, |queue| queue.iter())
    }

    /// All, in their order.
    pub(crate) fn iter_mut(&mut self) -> IterMut<'_, T> {
        self.0.as_mut().map_or_else(IterMut::default, |queue| queue.iter_mut())
    }

    /// Keeps those of which `keeps` says so.
    pub(crate) fn retain_mut(&mut self, keeps: impl FnMut(&mut T) -> bool) {
        if let Some(queue) = &mut self.0 {
            queue.retain_mut(keeps);
        }
    }

    /// Takes all.
    pub(crate) fn take(&mut self) -> VecDeque<T> {
        self.0.take().map_or_else(VecDeque::new, |queue| *queue)
    }

    /// Keeps no memory if nothing is in it.
    pub(crate) fn shrink_if_empty(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

impl<T> Default for SeldomQueue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> FromIterator<T> for SeldomQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let all = VecDeque::from_iter(all);
        Self(if all.is_empty() { None } else { Some(Box::new(all)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_once_it_is_filled_and_a_pointer_before() {
        let mut list = Seldom::default();
        assert!(list.is_empty());

        list.list_mut().extend([1, 2]);
        list[1] = 3;

        assert_eq!(*list, [1, 3]);
        assert_eq!(size_of_val(&list), size_of::<usize>());
    }

    #[test]
    fn a_queue_keeps_no_memory_when_it_is_empty() {
        let mut queue = SeldomQueue::default();
        assert_eq!((queue.len(), queue.pop_front(), queue.iter().next()), (0, None, None));
        assert_eq!(size_of_val(&queue), size_of::<usize>());

        queue.queue_mut().extend([1, 2, 3]);
        queue.retain_mut(|one| *one != 2);

        assert_eq!((queue.len(), queue.pop_front()), (2, Some(1)));
        queue.shrink_if_empty();
        assert_eq!(queue.take(), [3]);
        assert!(queue.0.is_none() && SeldomQueue::<u8>::from_iter([]).0.is_none());
    }
}
